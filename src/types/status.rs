//! The status that a node reports of itself.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::{
    ClusterId, LogIndex, NodeId, NodeLimits, ProtocolLevel, RaftId, Reach, Term, WallTime,
};

/// The role of a process in its Raft group (paper, figure 4; pre-candidates: dissertation, 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives the log but does not vote.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for pre-votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// The role as one word, as log lines and `seshat status` show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of a process between its start and its part in a cluster.
///
/// `Fresh → Bound → Started`, or `Fresh → Outside → Started`. A started process leaves its cluster only
/// for one that an operator recovers from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Belongs to no cluster and looks for the other initial members.
    Fresh,
    /// Prepared: has accepted the offer of a new cluster and waits for its start.
    Prepared,
    /// Takes part in its cluster.
    Started,
    /// Holds nothing of a running cluster, because it was started again or is new. It waits until the
    /// leader adds it, and neither votes nor serves.
    Outside,
}

impl NodeState {
    /// The state as one word, as log lines and `seshat status` show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Prepared => "bound",
            Self::Started => "started",
            Self::Outside => "outside",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The report of a node about itself: its identity, its state, and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// This incarnation of the node.
    pub raft_id: RaftId,
    /// Its state between its start and its part in a cluster.
    pub state: NodeState,
    /// The cluster that it is prepared for or takes part in. For an outside node, the cluster that it
    /// waits for.
    pub cluster_id: Option<ClusterId>,
    /// The clusters from which that one was recovered, the last first. Only the process itself knows
    /// them; in the status of another process this is empty.
    pub recovered_from: Arc<[ClusterId]>,
    /// Its role in its Raft group. `None` before it takes part in one.
    pub role: Option<Role>,
    /// Its Raft term. 0 before it takes part in a group.
    pub term: Term,
    /// The leader: the process itself, or one that it has heard of within the longest election timeout.
    /// An earlier leader may be dead.
    pub leader: Option<RaftId>,
    /// Highest index that it knows to be committed.
    pub commit_index: LogIndex,
    /// Highest index that it has applied.
    pub applied_index: LogIndex,
    /// Number of keys in its map.
    pub keys: u64,
    /// The memory that its keys, values and sessions take, in bytes.
    pub state_bytes: u64,
    /// The memory that they may take, in bytes.
    pub max_state_bytes: u64,
    /// When it first took part in its cluster, if its wall clock was credible. The core has no clock, so the driver
    /// fills this in.
    pub joined_at: Option<SystemTime>,
    /// Highest index in its log, committed or not.
    pub last_index: LogIndex,
    /// Term of the last entry in its log. 0 while the log is empty.
    pub last_term: Term,
    /// Nodes that are no initial members, but that it waits for before it helps to form a cluster: they
    /// were members of an earlier cluster, and may still take part in it. Only the process itself knows
    /// them; in the status of another process this is empty.
    pub awaits: Vec<NodeId>,
    /// The voters, learners and members, as it has applied them.
    pub conf: Arc<Conf>,
    /// Whether every voter knows that the last change of voters and learners is committed, and no change
    /// is under way. Only a leader can tell.
    pub members_known: bool,
    /// The snapshot that it receives at the moment. The core does not see a snapshot before it is
    /// complete, so the transport fills this in.
    pub receiving: Option<SnapshotProgress>,
    /// The state of its recovery attempt, if any.
    pub recovery: RecoveryAttempt,
    /// Which other logs follow its own, if it leads. `None` until the first tick of its leadership, and
    /// for all other processes.
    pub following: Option<Arc<Following>>,
    /// Pairs of processes that run as one node and answer in turn, as a leader has recently heard.
    pub doubled: Vec<[RaftId; 2]>,
    /// The protocol level that the process speaks.
    pub level: ProtocolLevel,
    /// The protocol level of its cluster, as it has applied it. Before that, the first.
    pub cluster_level: ProtocolLevel,
    /// An entry from its leader that it cannot read, because the leader runs a newer version. Its log
    /// ends before that entry.
    pub unreadable: Option<LogIndex>,
    /// Its limits. `None` from versions that do not report them.
    pub limits: Option<NodeLimits>,
    /// Whether it is outside of a cluster that it does not join, because no node that its configuration
    /// or its earlier incarnations name has said that it takes part there.
    pub unconfirmed: bool,
    /// A node that has recently offered a cluster with other initial members than this process has
    /// configured.
    pub differs_from: Option<NodeId>,
    /// Which of the other members it reaches. `None` before it takes part, and from versions that do not
    /// report it.
    pub reach: Option<Arc<Reach>>,
    /// Its wall clock when it answers. `None` from versions that do not tell it, and if the clock is not
    /// credible. The core has no clock, so the transport fills this in.
    pub time: Option<WallTime>,
}

impl NodeStatus {
    /// The status of a process that has just started.
    pub fn fresh(raft_id: RaftId) -> Self {
        Self {
            raft_id,
            state: NodeState::Fresh,
            cluster_id: None,
            recovered_from: Arc::default(),
            role: None,
            term: 0,
            leader: None,
            commit_index: 0,
            applied_index: 0,
            keys: 0,
            state_bytes: 0,
            max_state_bytes: 0,
            joined_at: None,
            last_index: 0,
            last_term: 0,
            awaits: Vec::new(),
            conf: Arc::default(),
            members_known: false,
            receiving: None,
            recovery: RecoveryAttempt::default(),
            following: None,
            doubled: Vec::new(),
            level: ProtocolLevel::FIRST,
            cluster_level: ProtocolLevel::FIRST,
            unreadable: None,
            limits: None,
            unconfirmed: false,
            differs_from: None,
            reach: None,
            time: None,
        }
    }
}

/// The last attempt of a process to recover its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryAttempt {
    /// Its number: how many attempts the process has begun. 0 if none.
    pub number: u64,
    /// Whether it is still under way.
    pub under_way: bool,
}

/// The voters and learners of a Raft group, and the members that it should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// Raft ids of the voters.
    pub voters: Vec<RaftId>,
    /// Raft ids of the learners.
    pub learners: Vec<RaftId>,
    /// Node ids of the desired members of the cluster.
    pub members: Vec<NodeId>,
}

/// The progress of a snapshot, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Bytes that have arrived.
    pub received: u64,
    /// Bytes of the whole snapshot.
    pub total: u64,
    /// The snapshot.
    pub id: SnapshotId,
}

/// The identity of a snapshot of a leader: equal ids mean equal bytes. All fields are 0 if the sender
/// does not state it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotId {
    /// Raft id of the leader.
    pub leader: u64,
    /// Its term.
    pub term: Term,
    /// The last log index that the snapshot covers.
    pub index: LogIndex,
}

/// Which logs follow the leader's log. The measure is the leader's log one election timeout ago, or at
/// its election if that is later. Heartbeats alone do not show this, because they may arrive where
/// appends do not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Following {
    /// Highest index that the leader's log held then. Its commit index covers it by now, unless no
    /// majority acknowledges its appends.
    pub last_index: LogIndex,
    /// Highest index that was known to be committed then. Every voter has applied it by now, unless it
    /// does not keep up.
    pub commit_index: LogIndex,
    /// Raft ids of the voters and learners that have acknowledged `last_index`, including the leader itself.
    pub acknowledged_by: Vec<RaftId>,
}
