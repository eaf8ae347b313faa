//! The state machine: a map of bytes to bytes, and the members that the cluster is meant to have. It
//! changes only by commands in log order.
//!
//! It is deterministic: equal commands in equal order give equal maps and equal answers on every
//! node, whatever its hasher's seed, clock or history. It knows nothing of Raft, of encodings or of
//! time, and nothing in it can fail: whatever could be wrong with a command was refused before the
//! command entered the log.

mod map;
mod state_machine;

pub use map::{Map, Shards, shard_of};
pub use state_machine::{Effect, StateMachine};

use crate::types::{Key, NodeId, NodeInfo, Value};

/// One write, or one decision about the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Binds `key` to `value`.
    Set {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
    },
    /// Removes `key`.
    Delete {
        /// The key.
        key: Key,
    },
    /// Makes a node a member, or changes its addresses.
    AddMember(NodeInfo),
    /// Makes a node a member no longer.
    RemoveMember(NodeId),
}
