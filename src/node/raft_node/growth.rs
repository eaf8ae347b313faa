//! The memory bound of the state: how much the state may still grow, and which writes are refused for
//! want of memory.
//!
//! Only the leader refuses, before it proposes, so that nodes with other bounds apply the same entries.
//! Entries in the log that are not applied yet count with their possible growth. While a quarter of the
//! bound is free, the growth of a write is only estimated, so that no write needs a look-up in the map.

use std::collections::VecDeque;

use bytes::Bytes;

use super::RaftNode;
use crate::error::Reason;
use crate::kv::{MAX_TXN_OPERATIONS, lifetime_memory, pair_memory};
use crate::types::{LogIndex, NodeId};
use crate::wire;

/// With less than one part in this many of the bound free, the growth of a write is looked up.
const PRECIOUS: usize = 4;

/// The possible growth of the state by entries that are not applied yet.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The last index of a group of entries, and their possible growth together, in bytes.
    parts: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl Growth {
    /// Adds the possible growth `bytes` of the entries up to `last` that do not count yet.
    pub(super) fn push(&mut self, last: LogIndex, bytes: usize) {
        if bytes > 0 {
            self.parts.push_back((last, bytes));
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// Removes the entries up to `applied`: their growth is part of the state now.
    pub(super) fn applied(&mut self, applied: LogIndex) {
        while let Some((_, bytes)) = self.parts.pop_front_if(|(last, _)| *last <= applied) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

impl<W> RaftNode<W> {
    /// Restarts the count when leadership begins or ends. Entries of earlier leaders in the log count as
    /// well.
    pub(super) fn restart_growth(&mut self) {
        self.growth = Growth::default();
        if self.leads_in.is_some() {
            let storage = self.raw.store();
            let entries = storage.unapplied();
            let bytes = entries.map(|entry| most(&entry.data)).sum();
            self.growth.push(storage.last(), bytes);
        }
    }

    /// Sets the memory bound of the state, and the member that has no room for more. A state above the
    /// bound stays as it is.
    pub(in crate::node) fn bound_state(&mut self, bound: (usize, NodeId)) {
        self.state_bound = bound;
    }

    /// The possible growth of the state by `command`, in bytes, if the other commands of the same
    /// proposal add `before`.
    ///
    /// # Errors
    ///
    /// [`Reason::Full`]: the state would grow past its bound.
    pub(super) fn growth_of(&self, command: &Bytes, before: usize) -> Result<usize, Reason> {
        let (max, node_id) = self.state_bound;
        let state = self.raw.store().state_machine();
        let taken = state.memory().saturating_add(self.growth.bytes);
        let free = max.saturating_sub(taken.saturating_add(before));
        let guess = most(command);
        if guess <= free.saturating_sub(max / PRECIOUS) {
            return Ok(guess);
        }
        // Data that is no command stops the node when it is applied.
        let command = wire::decode_command(command.clone());
        let growth = command.map_or(guess, |command| state.growth(&command));
        if growth > free {
            return Err(Reason::Full {
                what: "max_state_bytes",
                limit: u64::try_from(max).unwrap_or(u64::MAX),
                node_id,
            });
        }
        Ok(growth)
    }
}

/// The maximum growth by any command of this length: its keys and its values are shorter than it. Only a
/// transaction, which is of a higher level, has several, and lifetimes.
fn most(command: &Bytes) -> usize {
    let bytes = command.len();
    if wire::is_of_first_level(command) {
        return pair_memory(bytes, 0);
    }
    let each = pair_memory(0, 0).saturating_add(lifetime_memory(0));
    // The map, its order and the lifetimes have a copy of each key.
    let copies = bytes.saturating_mul(3);
    copies.saturating_add(each.saturating_mul(MAX_TXN_OPERATIONS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Command, Lifetime, Operation, SetLifetime, StateMachine, Txn, Write};
    use crate::types::{ClientId, WallTime};

    #[test]
    fn no_command_lets_the_state_grow_by_more_than_is_guessed() {
        let state = StateMachine::default().with_revisions_from(Some(WallTime::FIRST));
        let set = |number: usize, lifetime| Operation::Set {
            key: format!("{number:04}").repeat(number % 50 + 1).into(),
            value: vec![b'v'; number % 3].into(),
            lifetime: SetLifetime::To(lifetime),
        };
        let txn = |lifetime| {
            let sets = (0..MAX_TXN_OPERATIONS).map(|number| set(number, lifetime));
            Command::from(Write::Txn(Box::new(Txn {
                conditions: Vec::new(),
                success: sets.collect(),
                failure: Vec::new(),
            })))
        };
        let commands = [
            Command::from(Write::Set {
                key: vec![b'k'; 4096].into(),
                value: "v".into(),
            }),
            txn(Lifetime::Unlimited),
            txn(Lifetime::Ttl(1_000)),
            txn(Lifetime::Owner(ClientId(7))),
            Command::OpenLivingSession {
                client_id: ClientId(7),
                ttl: 2_000,
            },
        ];
        for command in commands {
            let (growth, guess) = (
                state.growth(&command),
                most(&wire::encode_command(&command)),
            );
            assert!(
                growth > 0 && growth <= guess,
                "{growth} of {guess}: {command:?}"
            );
        }
    }
}
