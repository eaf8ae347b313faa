//! The inputs and outputs of the core.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::call::{Call, CallId};
use super::event::Event;
use super::storage::CutEntries;
use crate::error::{NotMe, Refusal};
use crate::kv::{
    ClaimState, Holder, LockChange, LockPage, LockState, Pair, Part, Query, Revisions, Scan,
    SessionInfo, StateMachine, TxnOutcome,
};
use crate::types::{ClusterId, LogIndex, Millis, NodeId, RaftId, Rank, Revision, Term, WallTime};
use crate::watch::{History, WatchId, WatchMessage};
use crate::wire::{InstallSnapshotHeader, PeerMessage, WireError};

/// A write to be proposed.
#[derive(Debug)]
pub struct Proposal<W> {
    /// The encoded command.
    pub command: Bytes,
    /// The context of the log entry: the trace context of the caller. Empty without one.
    pub context: Bytes,
    /// The waiter for its answer.
    pub waiter: W,
}

/// A request with a place among others.
#[derive(Debug)]
pub enum Input<W> {
    /// A write to be proposed.
    Write(Proposal<W>),
    /// A read that sees the effects of the writes before it, and none of those behind it.
    Read {
        /// What is read.
        query: Query,
        /// The waiter for its answer.
        waiter: W,
    },
}

/// How much more the core takes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Number of requests.
    pub requests: usize,
    /// Bytes of their commands.
    pub bytes: usize,
}

impl Room {
    /// Room without a bound.
    pub const UNLIMITED: Self = Self {
        requests: usize::MAX,
        bytes: usize::MAX,
    };
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A key was bound.
    Set {
        /// Revision of the write.
        applied_index: Revision,
    },
    /// A key was removed, if it was there.
    Deleted {
        /// Whether it was bound before.
        existed: bool,
        /// Revision of the removal.
        applied_index: Revision,
    },
    /// A session is open.
    SessionOpened {
        /// Its TTL, if it lives.
        ttl: Option<Millis>,
        /// Revision of the command that opened it.
        applied_index: Revision,
    },
    /// A session is not open any more.
    SessionClosed {
        /// Whether it was open before.
        existed: bool,
        /// Revision of the command that ended it.
        applied_index: Revision,
    },
    /// A living session was renewed.
    Renewed {
        /// Its TTL, which begins again.
        ttl: Millis,
        /// Revision of the step of the clock that renewed it.
        revision: Revision,
    },
    /// A page of the living sessions was read.
    Sessions {
        /// In ascending order of their ids.
        sessions: Vec<SessionInfo>,
        /// Whether there are others behind them.
        more: bool,
        /// Revision up to which the state has all writes.
        revision: Revision,
    },
    /// A claim was made or read.
    Claim {
        /// Its state.
        state: ClaimState,
        /// Revision up to which that state has all writes.
        revision: Revision,
    },
    /// No claim was made: it was not to wait, and another one holds the lock.
    Occupied {
        /// That claim.
        holder: Box<Holder>,
        /// Revision of the command.
        revision: Revision,
    },
    /// A claim has ended.
    Released {
        /// Revision of the command that has ended it, or has found it ended.
        revision: Revision,
    },
    /// A lock was read.
    Lock {
        /// Its state.
        lock: Box<LockState>,
        /// Revision up to which that state has all writes.
        revision: Revision,
    },
    /// A page of the locks was read.
    Locks {
        /// The page.
        page: Box<LockPage>,
        /// Revision up to which the state has all writes.
        revision: Revision,
    },
    /// The desired members are as the command says.
    MembersDecided {
        /// Log index of the decision.
        applied_index: LogIndex,
    },
    /// A key was read.
    Got {
        /// The pair of the key, if there is one, and the revision of the write that has bound it.
        found: Option<(Pair, Revision)>,
        /// Revision up to which the node had applied the writes.
        applied_index: Revision,
    },
    /// Some keys were read at one moment.
    GotEach {
        /// The same as of one key, of each.
        found: Vec<Option<(Pair, Revision)>>,
        /// Revision up to which the node had applied the writes.
        applied_index: Revision,
    },
    /// The first part of a range was read.
    Part {
        /// The part, and what else is to be read.
        part: Box<(Part, Scan)>,
        /// The state, if it was to be kept and there are other parts.
        state: Option<Box<StateMachine>>,
        /// Revision up to which the state has all writes.
        revision: Revision,
    },
    /// A transaction was carried out.
    Txn {
        /// Its outcome.
        outcome: Arc<TxnOutcome>,
        /// Its revision. If it writes nothing: the revision up to which the node had applied the writes.
        revision: Revision,
    },
}

/// The facts of a recovery, for the operator who ordered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The cluster that has halted.
    pub old: ClusterId,
    /// The new cluster. `None` for a dry run.
    pub new: Option<ClusterId>,
    /// The term of the process in the old cluster.
    pub term: Term,
    /// How far its log reaches, and its commit index. All of the log is kept.
    pub kept: Rank,
    /// Number of keys at the commit index.
    pub keys: u64,
    /// The time at which revisions go on, unless they have passed it. `None` if the cluster has no revisions,
    /// and if the clock of the node is not credible.
    pub time: Option<WallTime>,
    /// The revisions of the old cluster.
    pub revisions: Revisions,
    /// The ranks of the other processes that still have state of the old cluster, in descending order.
    pub others: Vec<Rank>,
    /// The nodes that were left out on an operator's statement.
    pub without: BTreeSet<NodeId>,
}

/// The outcome for a waiter: exactly one of these.
pub type Outcome = Result<Answer, Refusal>;

/// A snapshot on its way to a follower. It is sent apart from the messages, because it may be larger than
/// all of them together: the shell encodes it piece by piece, on another thread than the core's.
#[derive(Debug, Clone, PartialEq)]
pub struct OutgoingSnapshot {
    /// Its sender, its receiver, and what it replaces.
    pub header: InstallSnapshotHeader,
    /// The state for the follower: a cheap clone, which shares what does not change.
    pub state_machine: StateMachine,
}

/// The tasks of the shell, in this order: give the answers, log the events, send the messages and the
/// snapshots, make the calls, serve the watches, free what has retired.
///
/// Answers come first because sending first was measured to cost a third of the writes of a single
/// caller. Safety does not depend on the order, because everything here is already "persisted" (in
/// memory, the only storage).
#[derive(Debug)]
#[must_use = "waiters and peers wait for what is in here"]
pub struct Output<W> {
    /// Waiters and their outcomes.
    pub answers: Vec<(W, Outcome)>,
    /// Events for the log lines.
    pub events: Vec<Event>,
    /// Messages to other nodes, in order.
    pub messages: Vec<PeerMessage>,
    /// Snapshots for followers. Each needs exactly one report of how its transfer ended.
    pub snapshots: Vec<OutgoingSnapshot>,
    /// Formation calls to other nodes. Each may get a [`Reply`](super::Reply) under its id, or none: a
    /// call without an answer is made again.
    pub calls: Vec<(CallId, Call)>,
    /// Watches, and the next messages for their clients, or the reason why they have ended. Each bundle of
    /// messages needs one report that it was taken, unless the watch is closed.
    pub watches: Vec<(WatchId, Result<Vec<WatchMessage>, Refusal>)>,
    /// Claims that hold their lock now, or have ended, in the order in which that happened.
    pub locks: Vec<LockChange>,
    /// Unused values that take so long to free that heartbeats would be missed: they are for another thread.
    pub retired: Vec<Retired>,
}

impl<W> Default for Output<W> {
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            events: Vec::new(),
            messages: Vec::new(),
            snapshots: Vec::new(),
            calls: Vec::new(),
            watches: Vec::new(),
            locks: Vec::new(),
            retired: Vec::new(),
        }
    }
}

/// An unused value that takes long to free.
#[derive(Debug)]
pub enum Retired {
    /// A state machine that a snapshot has replaced.
    StateMachine(Box<StateMachine>),
    /// The beginning of the log.
    Log(CutEntries),
    /// The history of the watches.
    History(History),
}

/// Why a message was not accepted. The message is dropped, and the node goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It is for another process or another cluster.
    #[error(transparent)]
    NotMe(#[from] NotMe),
    /// It is not well formed.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// It is well formed but contradicts the state of this node. raft-rs would panic on it.
    #[error("{message} from {from}: {reason}")]
    OutOfPlace {
        /// The message.
        message: &'static str,
        /// The sender.
        from: RaftId,
        /// The contradiction.
        reason: String,
    },
    /// The process is frozen: it leaves its cluster to a recovery.
    #[error(
        "{message} from {from}: this process leaves the cluster to {claimant}, which recovers it"
    )]
    Frozen {
        /// The message.
        message: &'static str,
        /// The sender.
        from: RaftId,
        /// The process that recovers the cluster: another one, or this one.
        claimant: RaftId,
    },
    /// It names a term or an index so far ahead of the state of this node that no cluster gets there.
    #[error("{message} from {from}: {what} {value} is too far ahead of {known}")]
    TooFarAhead {
        /// The message.
        message: &'static str,
        /// The sender.
        from: RaftId,
        /// The name of the field.
        what: &'static str,
        /// The value of the field.
        value: u64,
        /// The value at this node.
        known: u64,
    },
    /// It holds something that this process does not know, because its sender runs a newer version.
    #[error("entry {index} of {from} cannot be read, it comes of a newer version: {reason}")]
    Unreadable {
        /// The sender.
        from: RaftId,
        /// The entry, or the last one that a snapshot replaces.
        index: LogIndex,
        /// The unknown part.
        reason: String,
    },
    /// It answers a question that this node did not ask, or asked another process.
    #[error("{message} from {from}, which is no member")]
    NotMember {
        /// The message.
        message: &'static str,
        /// The sender.
        from: RaftId,
    },
}

/// A broken invariant. The node must stop: it could lose or invent data otherwise.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// raft-rs refused an operation that it must accept.
    #[error("raft: {0}")]
    Raft(#[from] RaftError),
    /// raft-rs emitted a message that the protocol cannot carry.
    #[error("raft emitted a message that the protocol cannot carry: {0}")]
    Emitted(WireError),
    /// A committed entry holds something that this node cannot apply. It should have been refused before
    /// it entered the log.
    #[error("committed entry {index} cannot be applied: {reason}")]
    Apply {
        /// The entry.
        index: LogIndex,
        /// The reason.
        reason: String,
    },
    /// The log does not hold entries that raft-rs relies on.
    #[error("log: {0}")]
    Storage(#[from] StorageError),
}

/// An error of raft-rs.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RaftError(#[from] pub raft::Error);

impl From<raft::Error> for NodeError {
    fn from(error: raft::Error) -> Self {
        Self::Raft(RaftError(error))
    }
}

/// A change of the log that its rules forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Entries that would leave a gap, or replace entries that a snapshot covers.
    #[error("cannot append at index {index}: the log holds {first_index} to {last_index}")]
    Gap {
        /// Index of the first new entry.
        index: LogIndex,
        /// First index that the log holds.
        first_index: LogIndex,
        /// Last index that the log holds.
        last_index: LogIndex,
    },
    /// Compaction past the applied index.
    #[error("cannot compact to index {index}: only {applied} is applied")]
    CompactUnapplied {
        /// The asked index.
        index: LogIndex,
        /// The applied index.
        applied: LogIndex,
    },
    /// Application out of order.
    #[error("cannot apply index {index} after {applied}")]
    ApplyOutOfOrder {
        /// The asked index.
        index: LogIndex,
        /// The applied index.
        applied: LogIndex,
    },
}
