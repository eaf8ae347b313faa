//! The state of a range, read part by part while it changes.
//!
//! A walk reads the state that the node has at the moment, and holds no copy of it. A key that changes
//! behind the cursor will be met. A key that changes before it is noted, and is read again. At the end of
//! the range, when nothing is noted that was not read again, the client has the state of that moment.

use std::collections::BTreeSet;

use super::{CHANGE_BYTES, View, WatchMessage, WatchSpec};
use crate::kv::{Entry, MAX_PART_KEYS, Scan};
use crate::types::{Key, Value};

/// A walk through a range.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Whether the client has to forget what it has.
    resets: bool,
    /// What has not been read. `None` at the end of the range.
    rest: Option<Scan>,
    /// Keys that have changed since they were read.
    changed: BTreeSet<Key>,
    /// Bytes that these hold.
    held: usize,
}

impl Walk {
    pub(super) fn from_start(spec: &WatchSpec) -> Self {
        Self {
            resets: true,
            rest: Some(Scan {
                range: spec.range.clone(),
                limit: u64::MAX,
                keys_only: spec.keys_only,
                count_only: false,
                part_bytes: 0,
            }),
            ..Self::default()
        }
    }

    /// A walk at the end of a range, of which these keys have changed.
    pub(super) fn of_changed<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut walk = Self::default();
        for key in keys {
            walk.note(key);
        }
        walk
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether all has been read.
    pub(super) fn is_over(&self) -> bool {
        self.rest.is_none() && self.changed.is_empty()
    }

    /// Notes that `key` has changed.
    pub(super) fn note(&mut self, key: &Key) {
        let is_met = |rest: &Scan| rest.range.contains(key);
        if !self.rest.as_ref().is_some_and(is_met) && self.changed.insert(key.clone()) {
            self.held += key.len() + CHANGE_BYTES;
        }
    }

    /// Reads the next part of the range, and changed keys. These come last, unless there are many. Returns
    /// the bytes that were read.
    pub(super) fn next(
        &mut self,
        spec: &WatchSpec,
        view: &View<'_>,
        part_bytes: usize,
        messages: &mut Vec<WatchMessage>,
    ) -> usize {
        let mut bytes = 0;
        if std::mem::take(&mut self.resets) {
            messages.push(WatchMessage::Reset);
        }
        if let Some(rest) = &mut self.rest {
            rest.part_bytes = part_bytes;
            let part = view.state.scan(rest);
            if !part.more {
                self.rest = None;
            }
            bytes += part.entries.len() * CHANGE_BYTES + part.bytes();
            add_state(part.entries, Vec::new(), messages);
        }
        if self.rest.is_none() || self.held > part_bytes {
            bytes += self.read_changed(spec, view, part_bytes, messages);
        }
        bytes
    }

    fn read_changed(
        &mut self,
        spec: &WatchSpec,
        view: &View<'_>,
        part_bytes: usize,
        messages: &mut Vec<WatchMessage>,
    ) -> usize {
        let (mut entries, mut deleted) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while let Some(key) = self.changed.first().cloned()
            && entries.len() + deleted.len() < MAX_PART_KEYS
        {
            let entry = view.state.entry(&key);
            let entry = entry.map(|entry| Entry {
                value: match spec.keys_only {
                    true => Value::new(),
                    false => entry.value,
                },
                ..entry
            });
            let value = entry.as_ref().map_or(0, |entry| entry.value.len());
            let size = key.len() + CHANGE_BYTES + value;
            if bytes > 0 && bytes + size > part_bytes {
                break;
            }
            bytes += size;
            self.changed.remove(&key);
            self.held -= key.len() + CHANGE_BYTES;
            match entry {
                Some(entry) => entries.push(entry),
                None => deleted.push(key),
            }
        }
        add_state(entries, deleted, messages);
        bytes
    }
}

fn add_state(entries: Vec<Entry>, deleted: Vec<Key>, messages: &mut Vec<WatchMessage>) {
    if !entries.is_empty() || !deleted.is_empty() {
        messages.push(WatchMessage::State { entries, deleted });
    }
}
