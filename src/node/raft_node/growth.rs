//! The bound of the state: by how much it may still grow, and what is refused for want of room.
//!
//! A write is refused before it is proposed, by the leader alone, so that nodes with other bounds apply
//! the same. What stands in the log and is not applied yet counts with what it may add. As long as a
//! quarter of the bound is free that is guessed, so that nobody looks at a map to set a key.

use std::collections::VecDeque;

use bytes::Bytes;

use super::RaftNode;
use crate::error::Reason;
use crate::kv::pair_memory;
use crate::types::LogIndex;
use crate::wire;

/// Below this part of the bound what is free is precious: what a write adds is looked up.
const PRECIOUS: usize = 4;

/// By how much entries that are not applied yet may make the state grow.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The last index of some entries, and what they may add together, in bytes.
    parts: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl Growth {
    /// The entries up to `last` that do not count yet may add `bytes`.
    pub(super) fn push(&mut self, last: LogIndex, bytes: usize) {
        if bytes > 0 {
            self.parts.push_back((last, bytes));
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// What stands up to `applied` has been added, and no longer may be.
    pub(super) fn applied(&mut self, applied: LogIndex) {
        while let Some((_, bytes)) = self.parts.pop_front_if(|(last, _)| *last <= applied) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

impl<W> RaftNode<W> {
    /// A leadership has begun, or ended. What earlier leaders have left in the log counts as well.
    pub(super) fn restart_growth(&mut self) {
        self.growth = Growth::default();
        if self.leads_in.is_some() {
            let storage = self.raw.store();
            let entries = storage.unapplied();
            let bytes = entries.map(|entry| most(&entry.data)).sum();
            self.growth.push(storage.last(), bytes);
        }
    }

    /// The state may take `bytes` from now on. One that takes more already stays as it is.
    pub(in crate::node) fn bound_state(&mut self, bytes: usize) {
        self.options.max_state_bytes = bytes;
    }

    /// By how much `command` may make the state grow, in bytes, if what is about to be proposed with
    /// it adds `before`.
    ///
    /// # Errors
    ///
    /// [`Reason::Full`]: it makes the state grow past its bound.
    pub(super) fn growth_of(&self, command: &Bytes, before: usize) -> Result<usize, Reason> {
        let max = self.options.max_state_bytes;
        let state = self.raw.store().state_machine();
        let taken = state.memory().saturating_add(self.growth.bytes);
        let free = max.saturating_sub(taken.saturating_add(before));
        let guess = most(command);
        if guess <= free.saturating_sub(max / PRECIOUS) {
            return Ok(guess);
        }
        // What is no command stops the node when it is applied.
        let command = wire::decode_command(command.clone());
        let growth = command.map_or(guess, |command| state.growth(&command));
        if growth > free {
            return Err(Reason::Full {
                what: "max_state_bytes",
                limit: u64::try_from(max).unwrap_or(u64::MAX),
            });
        }
        Ok(growth)
    }
}

/// What a command can add at most, whatever it is: its key and its value are shorter than it.
fn most(command: &Bytes) -> usize {
    pair_memory(command.len(), 0)
}
