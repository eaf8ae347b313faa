//! What a watch tells its caller.

use bytes::Bytes;

use crate::client::{Entry, Error};
use crate::proto::kv;

/// The next news of a watch.
///
/// A caller that applies them in order to an empty map, and empties it at each [`Reset`](Self::Reset), has the
/// range as it is at the revision of each [`Synced`](Self::Synced), [`Events`](Self::Events) and
/// [`Progress`](Self::Progress). A [`Mirror`](super::Mirror) does so.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// The map is empty: the state follows. The first news of a watch without a [`Position`], and of one that has
    /// to begin again: the node does not have the changes since that position any more, or another cluster has
    /// taken the place of the former one.
    Reset,
    /// A part of the state. Until the next [`Synced`](Self::Synced) the map is incomplete: it shows no moment.
    #[non_exhaustive]
    State {
        /// Keys that are bound.
        entries: Vec<Entry>,
        /// Keys that are not.
        deleted: Vec<Bytes>,
    },
    /// The map is complete. Comes after the state, and each time another node has taken over.
    #[non_exhaustive]
    Synced {
        /// Where the watch stands.
        position: Position,
    },
    /// All changes of one revision, one a key.
    #[non_exhaustive]
    Events {
        /// The revision: higher than every one before.
        revision: u64,
        /// The changes.
        events: Vec<Event>,
    },
    /// Nothing has changed up to this revision. The node has just heard of a leader.
    #[non_exhaustive]
    Progress {
        /// The revision.
        revision: u64,
    },
    /// No node serves the watch at the moment, so the map gets old. The watch goes on by itself. Comes once for
    /// each outage, when the nodes were asked for the timeout of the client.
    Disconnected(Error),
}

/// Where a watch stands: the caller's map equals the range at this revision of this cluster. May be kept, with the
/// map, to [resume](super::Watch::resume) later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The cluster.
    pub cluster_id: u64,
    /// The revision.
    pub revision: u64,
}

/// The change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The key was bound.
    Set(Entry),
    /// The key was removed.
    #[non_exhaustive]
    Removed {
        /// The key.
        key: Bytes,
        /// Revision of the removal.
        revision: u64,
        /// Why.
        cause: Removal,
    },
}

/// Why a key was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Removal {
    /// A client has deleted it.
    Deleted,
    /// Its TTL has passed.
    Expired,
    /// The session that owned it has ended.
    SessionEnded,
    /// For a reason that this version does not know.
    Other,
}

impl Event {
    /// The key that has changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Set(entry) => &entry.key,
            Self::Removed { key, .. } => key,
        }
    }

    /// The bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(entry) => entry.key.len().saturating_add(entry.value.len()),
            Self::Removed { key, .. } => key.len(),
        }
    }
}

impl TryFrom<kv::Event> for Event {
    type Error = &'static str;

    fn try_from(event: kv::Event) -> Result<Self, Self::Error> {
        let cause = event.cause();
        let entry = event.entry.ok_or("an event without a key")?;
        let cause = match cause {
            kv::Cause::Set => return Ok(Self::Set(entry.into())),
            kv::Cause::Deleted => Removal::Deleted,
            kv::Cause::Expired => Removal::Expired,
            kv::Cause::SessionEnded => Removal::SessionEnded,
            kv::Cause::Unspecified => Removal::Other,
        };
        let kv::Entry { key, revision, .. } = entry;
        Ok(Self::Removed {
            key,
            revision,
            cause,
        })
    }
}
