//! The changes of a range, from the news of a watch.
//!
//! A watch may have to begin again with the state: the node is new in its cluster, or the command was too slow. The
//! revisions of the known keys tell what is new in it, so each change is told once, and a reset is not a change.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use seshat::client::{Entry, Event, Position, Removal, Update};

/// What a user is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Change(Change),
    /// The changes before are the whole state.
    Synced(Position),
}

/// The change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(Entry),
    Removed {
        key: Bytes,
        revision: u64,
        cause: Removal,
    },
}

impl Change {
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Self::Set(entry) => &entry.key,
            Self::Removed { key, .. } => key,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        match self {
            Self::Set(entry) => entry.revision,
            Self::Removed { revision, .. } => *revision,
        }
    }

    /// What it is, as `seshat txn` takes it.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Removed { .. } => "del",
        }
    }

    /// What it is, and why, in one word for programs.
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Removed { cause, .. } => match cause {
                Removal::Deleted => "delete",
                Removal::Expired => "expire",
                Removal::SessionEnded => "session_end",
                _ => "remove",
            },
        }
    }
}

/// The keys of the range, as they were told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The revision of each key that is bound.
    known: BTreeMap<Box<[u8]>, u64>,
    /// Known keys that are missing, unless the rest of the state has them.
    missing: BTreeSet<Box<[u8]>>,
    /// Whether the state is incomplete.
    in_state: bool,
    /// The user knows the keys as they were at this revision. 0: none.
    since: u64,
}

impl Changes {
    /// Those behind the revision `since`, for a user who knows the keys as they were then.
    pub(super) fn since(since: u64) -> Self {
        Self {
            // Also where no state comes, the user is told that the changes up to now are whole.
            in_state: true,
            since,
            ..Self::default()
        }
    }

    /// What the user is told because of `update`.
    pub(super) fn of(&mut self, update: Update) -> Vec<Told> {
        match update {
            Update::Reset => {
                self.in_state = true;
                self.missing = self.known.keys().cloned().collect();
                Vec::new()
            }
            Update::State {
                entries, deleted, ..
            } => {
                self.in_state = true;
                let known = deleted.iter().map(|key| Box::from(&key[..]));
                let known = known.filter(|key| self.since > 0 || self.known.contains_key(key));
                self.missing.extend(known);
                let new = entries.into_iter().filter_map(|entry| self.bound(entry));
                new.collect()
            }
            Update::Synced { position, .. } => self.synced(position),
            Update::Events { events, .. } => {
                let new = events.into_iter().filter_map(|event| self.event(event));
                new.collect()
            }
            // Progress is no change, and an outage is told otherwise.
            _ => Vec::new(),
        }
    }

    fn synced(&mut self, position: Position) -> Vec<Told> {
        let mut told = Vec::new();
        for key in std::mem::take(&mut self.missing) {
            self.known.remove(&key);
            told.push(Told::Change(Change::Removed {
                key: key.into_vec().into(),
                revision: position.revision,
                cause: Removal::Other,
            }));
        }
        if std::mem::take(&mut self.in_state) {
            told.push(Told::Synced(position));
        }
        told
    }

    fn event(&mut self, event: Event) -> Option<Told> {
        match event {
            Event::Set(entry) => self.bound(entry),
            Event::Removed {
                key,
                revision,
                cause,
                ..
            } => {
                self.known.remove(&key[..]);
                Some(Told::Change(Change::Removed {
                    key,
                    revision,
                    cause,
                }))
            }
            _ => None,
        }
    }

    /// What the user is told of `entry`, unless it is known to be unchanged.
    fn bound(&mut self, entry: Entry) -> Option<Told> {
        self.missing.remove(&entry.key[..]);
        let key = Box::from(&entry.key[..]);
        let former = self.known.insert(key, entry.revision);
        // Without revisions, at protocol level 1, all keys are at 0, and a change cannot be recognized.
        let is_known = former == Some(entry.revision) || entry.revision <= self.since;
        let is_new = !is_known || entry.revision == 0;
        is_new.then_some(Told::Change(Change::Set(entry)))
    }
}
