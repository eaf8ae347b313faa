//! A process of the simulation: a replica, and the machine that it runs on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use seshat::kv::StateMachine;
use seshat::node::{Call, CallId, PeerMessage, RaftNode, Replica, Reply};
use seshat::proto::raft::InstallSnapshotRequest;
use seshat::types::{ClientId, NodeId, NodeStatus, RaftId, Role, Term};
use seshat::wire::{InstallSnapshotHeader, SnapshotAssembly};

use crate::clients::{Request, Waiter};
use crate::operator::InquiryId;

/// By how many milliseconds in a second the monotonic clock of a process or a client is fast or slow, at most.
pub(crate) const RATE_ERROR: u64 = 25;

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
    /// Renewals have come, or the replicated clock goes on at once.
    Turn,
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
    /// Renewals that it has not taken: it takes all of them in its next turn.
    pub(crate) keep_alives: Vec<(ClientId, Waiter)>,
    /// How many milliseconds its monotonic clock counts in a second.
    pub(crate) rate: u64,
    /// The ends of keys by its own clock, each with the deadline that the log gives. Kept for local clocks.
    pub(crate) timers: BTreeMap<Bytes, (u64, u64)>,
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
            keep_alives: Vec::new(),
            rate: 1_000 - RATE_ERROR + incarnation * 17 % (2 * RATE_ERROR + 1),
            timers: BTreeMap::new(),
            ticks: Vec::new(),
            followed: BTreeMap::new(),
        }
    }

    /// The time of its monotonic clock.
    pub(crate) fn uptime(&self, now: u64) -> u64 {
        now * self.rate / 1_000
    }

    /// Its Raft server, if it believes that it leads.
    pub(crate) fn leads(&self) -> Option<&RaftNode<Waiter>> {
        let raft = self.replica.raft();
        raft.filter(|raft| raft.role() == Role::Leader)
    }
}
