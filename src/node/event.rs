//! What an operator may want to read about.

use bytes::Bytes;

use crate::types::{ClusterId, LogIndex, ProtocolLevel, RaftId, Role, Term};

/// Something that an operator may want to read about. Never one per write, unless somebody traces
/// that very write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The process accepted an offer.
    Bound {
        /// The offered cluster.
        cluster_id: ClusterId,
    },
    /// The process takes part in a cluster from now on.
    Started {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// An operator made a new cluster of what this process had.
    Recovered {
        /// The cluster that had halted.
        old: ClusterId,
        /// The new cluster.
        new: ClusterId,
        /// Highest index that the process knew to be committed.
        commit_index: LogIndex,
        /// Index of the last log entry. All up to it were kept.
        last_index: LogIndex,
    },
    /// The process leaves the recovery of its cluster to another one, and takes no part in the old
    /// one any more.
    Yielded {
        /// The other process.
        to: RaftId,
    },
    /// The process takes part in its cluster again: the recovery that it had yielded to will not be.
    ClaimVoid {
        /// Who had claimed it.
        from: RaftId,
    },
    /// The process found a cluster running without it, and waits outside.
    Outside {
        /// The cluster.
        cluster_id: ClusterId,
        /// Whether its node is a member: then the leader will let it in.
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
        /// Where they answer.
        addr: String,
    },
    /// A process answers at a member's address that does not speak what the cluster does: it is not
    /// let in.
    TooOld {
        /// The process.
        process: RaftId,
        /// What it speaks.
        level: ProtocolLevel,
        /// What the cluster speaks.
        needed: ProtocolLevel,
    },
    /// Another process that takes part takes less than this one, which leads: nobody puts more than
    /// that into the log.
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
        /// What is wrong with it.
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
    /// The process led, and for some election timeouts no majority of the logs got on: it leads no more,
    /// so that somebody may whose links carry appends.
    GaveUp {
        /// The term in which it led.
        term: Term,
        /// Highest index that it knows to be committed.
        commit_index: LogIndex,
    },
    /// Another leader is followed, or none.
    LeaderChanged {
        /// The leader.
        leader: Option<RaftId>,
        /// The term.
        term: Term,
    },
    /// The processes that take part changed.
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
    /// An entry was applied that carries the trace context of whoever proposed it.
    TracedApplied {
        /// The context.
        context: Bytes,
        /// Index of the entry.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// The log was cut.
    LogCompacted {
        /// First index that the log still holds.
        first_index: LogIndex,
    },
}
