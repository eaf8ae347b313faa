//! Events for operators.

use bytes::Bytes;

use crate::types::{ClusterId, LogIndex, NodeId, ProtocolLevel, RaftId, Revision, Role, Term};

/// An event that an operator may want to know. There is none per write, except for a traced write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The process accepted an offer: it is prepared.
    Prepared {
        /// The offered cluster.
        cluster_id: ClusterId,
    },
    /// The process takes part in a cluster from now on.
    Started {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// An operator recovered a new cluster from the state of this process.
    Recovered {
        /// The cluster that had halted.
        old: ClusterId,
        /// The new cluster.
        new: ClusterId,
        /// Highest index that the process knew to be committed.
        commit_index: LogIndex,
        /// Index of the last log entry. All entries up to it were kept.
        last_index: LogIndex,
    },
    /// The process leaves the recovery of its cluster to another one, and takes no part in the old
    /// cluster any more.
    Yielded {
        /// The other process.
        to: RaftId,
    },
    /// The process takes part in its cluster again: the recovery that it had yielded to has failed.
    ClaimVoid {
        /// The process that had claimed it.
        from: RaftId,
    },
    /// The process found a cluster running without it, and waits outside.
    Outside {
        /// The cluster.
        cluster_id: ClusterId,
        /// Whether its node is a member: then the leader will add it.
        is_member: bool,
    },
    /// The process was removed from its cluster, and its part in it is over: the shell ends it.
    Removed {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// Two processes answer in turn as one node.
    Doubled {
        /// The processes, in ascending order.
        processes: [RaftId; 2],
        /// The address at which they answer.
        addr: String,
    },
    /// The leader does not raise the protocol level, because the clocks of the members differ by more than
    /// an hour, or its own is not credible.
    ClocksDiffer {
        /// The nodes with other clocks. None if the clock of the leader is not credible.
        nodes: Vec<NodeId>,
    },
    /// A process answers at a member's address that does not speak the protocol level of the cluster. It
    /// is not added.
    TooOld {
        /// The process.
        process: RaftId,
        /// The level that it speaks.
        level: ProtocolLevel,
        /// The level of the cluster.
        needed: ProtocolLevel,
    },
    /// Another process that takes part has a smaller limit than this leader. No entry exceeds the smaller
    /// one.
    TakesLess {
        /// The process.
        process: RaftId,
        /// The setting that differs.
        limit: &'static str,
        /// Its value there, in bytes.
        there: u64,
        /// Its value here.
        here: u64,
    },
    /// The cluster speaks a higher level from now on.
    LevelRaised {
        /// The level.
        level: ProtocolLevel,
        /// Index of the entry that raised it.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// The leader sends an entry that this process cannot read.
    Unreadable {
        /// The leader.
        from: RaftId,
        /// Index of the entry.
        index: LogIndex,
        /// The reason.
        reason: String,
    },
    /// The term changed.
    TermChanged {
        /// The new term.
        term: Term,
    },
    /// The role changed.
    RoleChanged {
        /// The new role.
        role: Role,
        /// The term.
        term: Term,
        /// Index of the last log entry.
        last_index: LogIndex,
    },
    /// The process led, and for some election timeouts no majority of the logs advanced. It steps down,
    /// so that a process whose links carry appends can lead.
    GaveUp {
        /// The term in which it led.
        term: Term,
        /// Highest index that it knows to be committed.
        commit_index: LogIndex,
    },
    /// The process follows another leader, or none.
    LeaderChanged {
        /// The leader.
        leader: Option<RaftId>,
        /// The term.
        term: Term,
    },
    /// The voters or learners changed.
    ConfChanged {
        /// Raft ids of the voters.
        voters: Vec<RaftId>,
        /// Raft ids of the learners.
        learners: Vec<RaftId>,
        /// Index of the entry that changed them.
        index: LogIndex,
    },
    /// A snapshot leaves for a follower.
    SnapshotSent {
        /// The follower.
        to: RaftId,
        /// Last index that the snapshot holds.
        index: LogIndex,
        /// Number of keys that it holds.
        keys: usize,
    },
    /// A snapshot of the leader replaced the state.
    SnapshotInstalled {
        /// Last index that the snapshot holds.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// Number of keys that it holds.
        keys: usize,
    },
    /// An entry was applied that carries the trace context of its proposer.
    TracedApplied {
        /// The context.
        context: Bytes,
        /// Index of the entry.
        index: LogIndex,
        /// Its term.
        term: Term,
        /// Its revision.
        revision: Revision,
    },
    /// The log was cut.
    LogCompacted {
        /// First index that the log still holds.
        first_index: LogIndex,
    },
}
