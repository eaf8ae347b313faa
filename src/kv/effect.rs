//! What a command does, and what a query finds.

use std::sync::Arc;

use super::txn::TxnOutcome;
use super::{ClaimState, Holder, LockPage, LockState, Pair, Part, Scan, SessionInfo, StateMachine};
use crate::types::{ClientId, Millis, Revision};

/// The effect of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A key was bound to a value.
    Set,
    /// A key was removed, if it was there.
    Deleted {
        /// Whether the key was bound before.
        existed: bool,
    },
    /// A transaction was carried out.
    Txn(Arc<TxnOutcome>),
    /// None: the answer to the transaction would have been larger than `limit` bytes.
    AnswerTooLarge {
        /// Of one answer, or of all answers that are remembered for one session.
        limit: usize,
    },
    /// The desired members are as the command says. The last member is never removed.
    MembersDecided,
    /// The cluster speaks the level of the command, or a higher one.
    LevelRaised,
    /// A session is open.
    SessionOpened {
        /// Its TTL, if it lives.
        ttl: Option<Millis>,
    },
    /// A session is not open any more.
    SessionClosed {
        /// Whether it was open before.
        existed: bool,
    },
    /// The clock has been advanced.
    ClockAdvanced,
    /// None: the session of the write does not exist or is over, or its number was forgotten.
    SessionExpired,
    /// None: this owner of a key does not live.
    OwnerExpired(ClientId),
    /// None: a session would own more than [`MAX_OWNED_KEYS`](super::MAX_OWNED_KEYS).
    TooManyOwned,
    /// A claim was made, or repeated: its state now.
    Claimed(ClaimState),
    /// None: this claim holds the lock, and the new one was not to wait.
    Occupied(Box<Holder>),
    /// A claim has ended.
    Released,
    /// None: the session has no TTL, so it cannot have a claim.
    SessionDoesNotLive,
    /// None: there are [`MAX_CLAIMS`](super::MAX_CLAIMS).
    TooManyClaims,
    /// None: there are [`MAX_LIVING_SESSIONS`](super::MAX_LIVING_SESSIONS).
    TooManySessions,
    /// None: the answers of living sessions would count for more than
    /// [`MAX_LIVING_ANSWER_BYTES`](super::MAX_LIVING_ANSWER_BYTES).
    AnswersFull,
}

impl Effect {
    /// Whether a claim has it.
    pub(super) fn is_of_a_claim(&self) -> bool {
        matches!(self, Self::Claimed(_) | Self::Occupied(_) | Self::Released)
    }
}

/// The answer to a [`Query`](super::Query).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The pair of the key, and the revision of the write that has bound it.
    Value(Option<(Pair, Revision)>),
    /// The same of each key.
    Values(Vec<Option<(Pair, Revision)>>),
    /// The outcome of the transaction.
    Txn(TxnOutcome),
    /// The first part of the range, and what else is to be read.
    Part(Box<(Part, Scan)>, Option<Box<StateMachine>>),
    /// A page of the living sessions, and whether there are more.
    Sessions(Vec<SessionInfo>, bool),
    /// The state of a claim.
    Claim(ClaimState),
    /// The state of a lock.
    Lock(Box<LockState>),
    /// A page of the locks.
    Locks(LockPage),
}

impl Found {
    /// The number of reads of clients that it answers.
    pub fn reads(&self) -> usize {
        match self {
            Self::Values(found) => found.len(),
            _ => 1,
        }
    }
}
