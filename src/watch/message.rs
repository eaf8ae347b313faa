//! What a client asks for, and what it gets.

use crate::kv::{Cause, Entry, KeyRange};
use crate::types::{ClusterId, Key, Revision};

/// What a client watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSpec {
    /// The keys.
    pub range: KeyRange,
    /// The cluster and the revision of the state that the client has.
    pub after: Option<(ClusterId, Revision)>,
    /// The client gets nothing before the node has applied this revision.
    pub min_revision: Revision,
    /// Whether values are left out.
    pub keys_only: bool,
    /// The client is told that nothing has changed every so many ticks. At least 1.
    pub progress_ticks: Option<u64>,
}

/// A message to a client, see `watch.proto`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// What the client has is void.
    Reset,
    /// A part of the state.
    State {
        /// Keys that are bound.
        entries: Vec<Entry>,
        /// Keys that are not.
        deleted: Vec<Key>,
    },
    /// The client has the state at `revision`.
    Synced {
        /// The cluster.
        cluster_id: ClusterId,
        /// The revision.
        revision: Revision,
    },
    /// The changes of one revision.
    Events {
        /// The revision.
        revision: Revision,
        /// The changes, one a key.
        events: Vec<Event>,
        /// Whether others of the same revision follow.
        more: bool,
    },
    /// Nothing has changed up to `revision`.
    Progress {
        /// The revision.
        revision: Revision,
    },
}

impl WatchMessage {
    /// Bytes of the keys and values.
    pub fn bytes(&self) -> usize {
        let size = |entry: &Entry| entry.key.len().saturating_add(entry.value.len());
        match self {
            Self::State { entries, deleted } => {
                let entries: usize = entries.iter().map(size).sum();
                entries.saturating_add(deleted.iter().map(Key::len).sum())
            }
            Self::Events { events, .. } => events.iter().map(|event| size(&event.entry)).sum(),
            Self::Reset | Self::Synced { .. } | Self::Progress { .. } => 0,
        }
    }
}

/// The change of a key, for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Why it changed.
    pub cause: Cause,
    /// The key from now on. Without a value and a lifetime, and with the revision of the removal, if it was
    /// removed.
    pub entry: Entry,
}
