//! The state machine: a map of bytes to bytes, the sessions of clients, and the desired members of the
//! cluster. It changes only by commands in log order.
//!
//! It is deterministic: equal commands in equal order give equal maps and equal answers on every node,
//! whatever its hash seed, clock or history. It knows nothing of Raft, of encodings or of time: it has a clock
//! of its own, which commands move. None of its operations can fail: an invalid command is refused before it
//! enters the log.

mod change;
mod clock;
mod effect;
mod expiry;
mod growth;
mod lifetimes;
mod living;
mod locking;
mod locks;
mod map;
mod pair;
mod query;
mod range;
mod revision;
mod sessions;
mod state_machine;
mod txn;

pub use change::{Cause, Change, Changes};
pub use clock::{Clock, MAX_REMOVALS, MAX_RENEWED, MAX_STEP};
pub use effect::{Effect, Found};
pub use lifetimes::{KEY_TTL, Lifetime, Lifetimes, Limit, SetLifetime, lifetime_memory};
pub use living::{
    LIVING_SESSION_MEMORY, LivingSession, LivingSessions, MAX_LIVING_ANSWER_BYTES,
    MAX_LIVING_SESSIONS, MAX_OWNED_KEYS, SESSION_TTL, SessionInfo,
};
pub use locking::{Acquire, LockChange, LockPage, LockState, MAX_CLAIM_WAIT};
pub use locks::{
    Claim, ClaimId, ClaimState, Ended, Holder, LockName, Locks, MAX_CLAIM_VALUE_BYTES, MAX_CLAIMS,
    MAX_LOCK_NAME_BYTES, MAX_LOCKS, claim_memory,
};
pub use map::{Map, Shards, pair_memory, shard_of};
pub use pair::{MAX_REVISION, Pair};
pub use query::Query;
pub use range::{KeyRange, MAX_PART_BYTES, MAX_PART_KEYS, Part, Scan};
pub use revision::Revisions;
pub use sessions::{
    MAX_OUTSTANDING, MAX_SESSION_ANSWER_BYTES, MAX_SESSION_BYTES, MAX_SESSION_MEMORY, MAX_SESSIONS,
    Session, Sessions, Stamp, Verdict, Written,
};
pub use state_machine::{MAX_RECOVERED_FROM, StateMachine};
pub use txn::{
    Condition, Entry, KeyTest, MAX_REMEMBERED_BYTES, MAX_TXN_ANSWER_BYTES, MAX_TXN_OPERATIONS,
    Operation, OperationResult, Txn, TxnOutcome,
};

use crate::types::{ClientId, Key, Millis, NodeId, NodeInfo, ProtocolLevel, Revision, Value};

/// The protocol level from which on the log holds transactions, keys have revisions, and there is a clock.
const TXN_LEVEL: ProtocolLevel = ProtocolLevel::SECOND;

/// The command in one entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A write.
    Write {
        /// The change of the map.
        write: Write,
        /// Its number in a session. With a number it is applied once, however often it stands in the log.
        stamp: Option<Stamp>,
    },
    /// Opens a session.
    OpenSession(ClientId),
    /// Opens a living session.
    OpenLivingSession {
        /// The session.
        client_id: ClientId,
        /// One of [`SESSION_TTL`].
        ttl: Millis,
    },
    /// Ends a session, and removes the keys that it owns.
    CloseSession(ClientId),
    /// Advances the clock, renews sessions, and removes what is due.
    Clock {
        /// How far: at most [`MAX_STEP`] counts.
        step: Millis,
        /// The sessions, at most [`MAX_RENEWED`].
        renewed: Vec<ClientId>,
    },
    /// Makes a node a member, or changes its addresses.
    AddMember(NodeInfo),
    /// Makes a node a member no longer.
    RemoveMember(NodeId),
    /// Raises the protocol level of the cluster.
    RaiseLevel {
        /// The level: 2 or more.
        level: ProtocolLevel,
        /// The revision of this command, if the cluster has no revisions yet. Otherwise it has no meaning.
        revision: Revision,
    },
}

impl Command {
    /// The session of the command, if it belongs to one.
    pub fn client_id(&self) -> Option<ClientId> {
        match self {
            Self::Write { stamp, .. } => stamp.map(|stamp| stamp.client_id),
            Self::OpenSession(client_id)
            | Self::OpenLivingSession { client_id, .. }
            | Self::CloseSession(client_id) => Some(*client_id),
            Self::Clock { .. }
            | Self::AddMember(_)
            | Self::RemoveMember(_)
            | Self::RaiseLevel { .. } => None,
        }
    }

    /// The protocol level that a process needs to apply the command. The log of a cluster holds no
    /// command above the level of the cluster, except the command that raises this level.
    pub fn level(&self) -> ProtocolLevel {
        match self {
            Self::RaiseLevel { level, .. } => *level,
            Self::Write {
                write: Write::Txn(_) | Write::Acquire(_) | Write::Release(_),
                ..
            }
            | Self::OpenLivingSession { .. }
            | Self::CloseSession(_)
            | Self::Clock { .. } => TXN_LEVEL,
            Self::Write { .. }
            | Self::OpenSession(_)
            | Self::AddMember(_)
            | Self::RemoveMember(_) => ProtocolLevel::FIRST,
        }
    }
}

/// A change of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
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
    /// Carries out a transaction.
    Txn(Box<Txn>),
    /// Claims a lock, under its number in the session. It has to have one.
    Acquire(Box<Acquire>),
    /// Ends the claim to this lock that has its number in the session. It has to have one.
    Release(LockName),
}

/// A write without a session.
impl From<Write> for Command {
    fn from(write: Write) -> Self {
        Self::Write { write, stamp: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_the_level_that_a_process_needs_to_apply_it() {
        let level = ProtocolLevel::new(3);
        let raise = Command::RaiseLevel { level, revision: 7 };
        assert_eq!(raise.level(), level);
        let txn = Txn {
            conditions: Vec::new(),
            success: Vec::new(),
            failure: Vec::new(),
        };
        let txn = Command::from(Write::Txn(Box::new(txn)));
        let client_id = ClientId(7);
        for command in [
            txn,
            Command::OpenLivingSession {
                client_id,
                ttl: 2_000,
            },
            Command::CloseSession(client_id),
            Command::Clock {
                step: 1,
                renewed: Vec::new(),
            },
        ] {
            assert_eq!(command.level(), ProtocolLevel::SECOND);
        }
        let key = Key::from_static(b"k");
        let node = NodeId::new(4).expect("a node id");
        for command in [
            Command::from(Write::Delete { key }),
            Command::OpenSession(ClientId(7)),
            Command::AddMember(NodeInfo::nowhere(node)),
            Command::RemoveMember(node),
        ] {
            assert_eq!(command.level(), ProtocolLevel::FIRST);
        }
    }
}
