//! A process of the simulation: a member, and the machine that it runs on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use seshat::kv::StateMachine;
use seshat::node::{Call, CallId, PeerMessage, RaftNode, Replica, Reply};
use seshat::proto::raft::InstallSnapshotRequest;
use seshat::types::{NodeId, NodeStatus, RaftId, Role, Term};
use seshat::wire::{InstallSnapshotHeader, SnapshotAssembly};

use crate::clients::{Request, Waiter};
use crate::operator::InquiryId;

/// Which start of a node this is, counted over the whole run. Unlike a raft id it cannot be kept.
pub(crate) type Incarnation = u64;

/// A snapshot on its way, chunk by chunk.
pub(crate) type TransferId = u64;

/// Something that reaches a process.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Tick,
    Message {
        message: PeerMessage,
        sent_at: u64,
    },
    /// A whole snapshot, put together of its chunks.
    Snapshot {
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
    },
    /// A part of a snapshot.
    Chunk {
        transfer: TransferId,
        chunk: InstallSnapshotRequest,
    },
    SnapshotReport {
        to: RaftId,
        delivered: bool,
    },
    Call {
        from: (NodeId, Incarnation),
        id: CallId,
        call: Call,
    },
    Reply {
        id: CallId,
        reply: Reply,
    },
    /// What came in one turn of the driver.
    Requests {
        requests: Vec<(Waiter, Request)>,
        /// Whether they came as one batch, in which each has its place.
        placed: bool,
    },
    /// The operator asks or wants something.
    Operator(InquiryId),
    /// Another node asks who this one is, for the operator.
    Question {
        from: (NodeId, Incarnation),
        inquiry: InquiryId,
    },
    /// What another node has said of itself.
    Answer {
        inquiry: InquiryId,
        status: NodeStatus,
    },
    /// The process has waited long enough for answers.
    Conclude(InquiryId),
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) transfer: TransferId,
    pub(crate) assembly: SnapshotAssembly,
    pub(crate) received: u64,
    pub(crate) total: u64,
}

/// A process that runs.
pub(crate) struct Process {
    pub(crate) incarnation: Incarnation,
    pub(crate) replica: Replica<Waiter>,
    /// Until when it does nothing: it is frozen, or at work on what it took last.
    pub(crate) busy_until: u64,
    /// What has arrived meanwhile, in order.
    pub(crate) inbox: VecDeque<Input>,
    /// Until when it is slow, and how long it works on each input at most.
    pub(crate) slow: Option<(u64, u64)>,
    /// Until when its clock stands still.
    pub(crate) stalled_until: u64,
    /// Until when no other process can be reached.
    pub(crate) alone_until: u64,
    /// The snapshot that is arriving.
    pub(crate) receiving: Option<Receiving>,
    /// Nodes that have asked it who it is.
    pub(crate) asked_by: BTreeSet<NodeId>,
    /// When it ticked.
    pub(crate) ticks: Vec<u64>,
    /// When others last said that they follow it, and in which term. Kept for those who read by a
    /// lease.
    pub(crate) followed: BTreeMap<RaftId, (Term, u64)>,
}

impl Process {
    pub(crate) fn new(incarnation: Incarnation, replica: Replica<Waiter>) -> Self {
        Self {
            incarnation,
            replica,
            busy_until: 0,
            inbox: VecDeque::new(),
            slow: None,
            stalled_until: 0,
            alone_until: 0,
            receiving: None,
            asked_by: BTreeSet::new(),
            ticks: Vec::new(),
            followed: BTreeMap::new(),
        }
    }

    /// Whether it believes to lead; then its Raft server.
    pub(crate) fn leads(&self) -> Option<&RaftNode<Waiter>> {
        let raft = self.replica.raft();
        raft.filter(|raft| raft.role() == Role::Leader)
    }
}
