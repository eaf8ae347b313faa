//! A process of the simulation: a replica, and the machine that it runs on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use seshat::kv::StateMachine;
use seshat::node::{Call, CallId, PeerMessage, RaftNode, Replica, Reply};
use seshat::proto::raft::InstallSnapshotRequest;
use seshat::types::{NodeId, NodeStatus, RaftId, Role, Term};
use seshat::wire::{InstallSnapshotHeader, SnapshotAssembly};

use crate::clients::{Request, Waiter};
use crate::operator::InquiryId;

/// The number of this start of a node, counted over the whole run. Unlike a raft id it cannot be reused.
pub(crate) type Incarnation = u64;

/// A snapshot on its way, chunk by chunk.
pub(crate) type TransferId = u64;

/// An input of a process.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Tick,
    Message {
        message: PeerMessage,
        sent_at: u64,
    },
    /// A whole snapshot, assembled from its chunks.
    Snapshot {
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
    },
    /// A chunk of a snapshot.
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
    /// The requests of one turn of the driver.
    Requests {
        requests: Vec<(Waiter, Request)>,
        /// Whether they came as one batch, in which each has its position.
        placed: bool,
    },
    /// A question or an order of the operator.
    Operator(InquiryId),
    /// Another node asks for the status, for the operator.
    Question {
        from: (NodeId, Incarnation),
        inquiry: InquiryId,
    },
    /// The status of another node.
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
    /// End of its pause: it is frozen, or works on its last input.
    pub(crate) busy_until: u64,
    /// The inputs that have arrived meanwhile, in order.
    pub(crate) inbox: VecDeque<Input>,
    /// End of its slowness, and the longest work on each input.
    pub(crate) slow: Option<(u64, u64)>,
    /// End of the stop of its clock.
    pub(crate) stalled_until: u64,
    /// End of the time in which it reaches no other process.
    pub(crate) alone_until: u64,
    /// The snapshot that is arriving.
    pub(crate) receiving: Option<Receiving>,
    /// Nodes that have asked for its status.
    pub(crate) asked_by: BTreeSet<NodeId>,
    /// Time of its last tick.
    pub(crate) ticks: Vec<u64>,
    /// When others last confirmed that they follow it, and in which term. Kept for reads under a lease.
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

    /// Its Raft server, if it believes that it leads.
    pub(crate) fn leads(&self) -> Option<&RaftNode<Waiter>> {
        let raft = self.replica.raft();
        raft.filter(|raft| raft.role() == Role::Leader)
    }
}
