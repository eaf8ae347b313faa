//! What goes into the core and what comes out of it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::call::{Call, CallId};
use super::event::Event;
use super::storage::CutEntries;
use crate::error::{NotMe, Refusal};
use crate::kv::StateMachine;
use crate::types::{ClusterId, Key, LogIndex, NodeId, RaftId, Rank, Term, Value};
use crate::wire::{PeerMessage, SnapshotHeader, WireError};

/// A write on its way into the log.
#[derive(Debug)]
pub struct Proposal<W> {
    /// The encoded command.
    pub command: Bytes,
    /// What goes into the log beside it: the trace context of the caller, if there is one. Nothing
    /// for most.
    pub context: Bytes,
    /// Whom to answer.
    pub waiter: W,
}

/// A request that has its place among others.
#[derive(Debug)]
pub enum Input<W> {
    /// A write on its way into the log.
    Write(Proposal<W>),
    /// A read that sees what the writes before it have written, and nothing of those behind it.
    Read {
        /// The key.
        key: Key,
        /// Whom to answer.
        waiter: W,
    },
}

/// How much more the core takes on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Requests.
    pub requests: usize,
    /// Bytes of their commands.
    pub bytes: usize,
}

impl Room {
    /// Room for everything.
    pub const UNLIMITED: Self = Self {
        requests: usize::MAX,
        bytes: usize::MAX,
    };
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A key was bound.
    Set {
        /// Log index of the write.
        applied_index: LogIndex,
    },
    /// A key was removed, if it was there.
    Deleted {
        /// Whether it was bound before.
        existed: bool,
        /// Log index of the removal.
        applied_index: LogIndex,
    },
    /// A session is open.
    SessionOpened {
        /// Log index of the command that opened it.
        applied_index: LogIndex,
    },
    /// The members are what the command wants.
    MembersDecided {
        /// Log index of the decision.
        applied_index: LogIndex,
    },
    /// A key was read.
    Got {
        /// What it is bound to.
        value: Option<Value>,
        /// Log index up to which the node had applied the log.
        applied_index: LogIndex,
    },
}

/// What an operator is told who makes a new cluster of what a process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The cluster that has halted.
    pub old: ClusterId,
    /// The new cluster; `None` if the operator only wanted to know.
    pub new: Option<ClusterId>,
    /// The term of the process in the old cluster.
    pub term: Term,
    /// How far its log reaches, and what it knew to be committed. All of the log is kept.
    pub kept: Rank,
    /// Number of keys at the commit index.
    pub keys: u64,
    /// What others have that still have state of the old cluster, in descending order.
    pub others: Vec<Rank>,
    /// The nodes that were left out because an operator has vouched for them.
    pub without: BTreeSet<NodeId>,
}

/// What a waiter gets: exactly one of these.
pub type Outcome = Result<Answer, Refusal>;

/// A snapshot on its way to a follower. It is sent apart from the messages, because it may be larger
/// than all of them together: the shell encodes it piece by piece, away from the thread of the core.
#[derive(Debug, Clone, PartialEq)]
pub struct OutgoingSnapshot {
    /// Whose it is, for whom, and what it stands for.
    pub header: SnapshotHeader,
    /// What the follower is to hold: a cheap clone, which shares what does not change.
    pub state_machine: StateMachine,
}

/// What the shell has to do, in this order: give the answers, log the events, send the messages and
/// the snapshots, make the calls, free what has retired.
///
/// Answers come first because sending first was measured to cost a third of the writes of a single
/// caller; nothing about safety depends on the order, as everything here is already "persisted"
/// (memory is all there is).
#[derive(Debug)]
#[must_use = "waiters and peers wait for what is in here"]
pub struct Output<W> {
    /// Waiters and what they get.
    pub answers: Vec<(W, Outcome)>,
    /// What happened, for the log.
    pub events: Vec<Event>,
    /// Messages to other nodes, in order.
    pub messages: Vec<PeerMessage>,
    /// Snapshots for followers. Each is owed one report of how its sending ended.
    pub snapshots: Vec<OutgoingSnapshot>,
    /// Formation calls to other nodes. Each is owed a [`Reply`](super::Reply) under its id, or nothing:
    /// a call that is never answered is made again.
    pub calls: Vec<(CallId, Call)>,
    /// What nobody needs any more and takes long enough to free to miss heartbeats: it is for another
    /// thread.
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
            retired: Vec::new(),
        }
    }
}

/// What nobody needs any more, and takes long to free.
#[derive(Debug)]
pub enum Retired {
    /// A state machine that a snapshot has replaced.
    StateMachine(Box<StateMachine>),
    /// The beginning of the log.
    Log(CutEntries),
}

/// Why a message was not taken. The message is dropped; the node goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It is for another process or another cluster.
    #[error(transparent)]
    NotMe(#[from] NotMe),
    /// It is not well formed.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// It is well formed but contradicts what this node holds; raft-rs would panic on it.
    #[error("{message} from {from}: {reason}")]
    OutOfPlace {
        /// The message.
        message: &'static str,
        /// Who sent it.
        from: RaftId,
        /// What it contradicts.
        reason: String,
    },
    /// The process has left its cluster to the recovery of it.
    #[error(
        "{message} from {from}: this process leaves the cluster to {claimant}, which recovers it"
    )]
    Frozen {
        /// The message.
        message: &'static str,
        /// Who sent it.
        from: RaftId,
        /// Who recovers the cluster: another process, or this one.
        claimant: RaftId,
    },
    /// It names a term or an index so far ahead of what this node has heard of that no cluster gets
    /// there.
    #[error("{message} from {from}: {what} {value} is too far ahead of {known}")]
    TooFarAhead {
        /// The message.
        message: &'static str,
        /// Who sent it.
        from: RaftId,
        /// What it names.
        what: &'static str,
        /// How much that is.
        value: u64,
        /// How much this node knows of.
        known: u64,
    },
    /// It holds something that this process does not know, as its sender runs a newer version.
    #[error("entry {index} of {from} cannot be read, it comes of a newer version: {reason}")]
    Unreadable {
        /// Who sent it.
        from: RaftId,
        /// The entry, or the last that a snapshot stands for.
        index: LogIndex,
        /// What is not known.
        reason: String,
    },
    /// It answers something that this node did not ask, or that it asked of somebody else.
    #[error("{message} from {from}, who is no member")]
    NotMember {
        /// The message.
        message: &'static str,
        /// Who sent it.
        from: RaftId,
    },
}

/// A broken invariant. The node must stop: going on could lose or invent data.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// raft-rs refused something that it must not refuse.
    #[error("raft: {0}")]
    Raft(#[from] RaftError),
    /// raft-rs emitted a message that the protocol cannot carry.
    #[error("raft emitted a message that the protocol cannot carry: {0}")]
    Emitted(WireError),
    /// A committed entry holds something that this node cannot apply. It should have been refused
    /// before it entered the log.
    #[error("committed entry {index} cannot be applied: {reason}")]
    Apply {
        /// The entry.
        index: LogIndex,
        /// What is wrong with it.
        reason: String,
    },
    /// The log does not hold what raft-rs relies on.
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
    /// Entries that would leave a gap, or replace what a snapshot stands for.
    #[error("cannot append at index {index}: the log holds {first_index} to {last_index}")]
    Gap {
        /// Index of the first new entry.
        index: LogIndex,
        /// First index that the log holds.
        first_index: LogIndex,
        /// Last index that the log holds.
        last_index: LogIndex,
    },
    /// Compaction past what has been applied.
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
