//! What a node says of itself.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::{ClusterId, LogIndex, NodeId, NodeLimits, ProtocolLevel, RaftId, Reach, Term};

/// What a process does in its Raft group (paper, figure 4; pre-candidates: dissertation, 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives the log but does not vote.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks how a vote would go.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// The role in one word, as logs and `seshat status` show it.
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

/// Where a process stands between its start and its part in a cluster.
///
/// `Fresh → Bound → Started`, or `Fresh → Outside → Started`. A started process leaves its cluster
/// only for one that an operator makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Belongs to nothing yet and looks for the other initial members.
    Fresh,
    /// Has accepted the offer of a new cluster and waits for its start.
    Bound,
    /// Takes part in its cluster.
    Started,
    /// Holds nothing of a cluster that runs, because it was started again or is new, and waits until
    /// the leader lets it in: it neither votes nor serves.
    Outside,
}

impl NodeState {
    /// The state in one word, as logs and `seshat status` show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Bound => "bound",
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

/// What a node says of itself: its identity, where it stands, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// This life of the process.
    pub raft_id: RaftId,
    /// Where it stands between its start and its part in a cluster.
    pub state: NodeState,
    /// The cluster that it is bound to or takes part in; for an outside node, the one it waits for.
    pub cluster_id: Option<ClusterId>,
    /// The clusters from which that was recovered, the last first. Only the process itself knows;
    /// others do not say so.
    pub recovered_from: Arc<[ClusterId]>,
    /// What it does in its Raft group; `None` before it takes part in one.
    pub role: Option<Role>,
    /// Its Raft term; 0 before it takes part in a group.
    pub term: Term,
    /// The leader: itself, or one that it has heard of within the longest election timeout. Whom it
    /// followed before that may be dead.
    pub leader: Option<RaftId>,
    /// Highest index that it knows to be committed.
    pub commit_index: LogIndex,
    /// Highest index that it has applied.
    pub applied_index: LogIndex,
    /// Number of keys in its map.
    pub keys: u64,
    /// What its keys, values and sessions take in memory, in bytes.
    pub state_bytes: u64,
    /// What they may take, in bytes.
    pub max_state_bytes: u64,
    /// When it took part in its cluster first. The core has no clock: the driver fills this in.
    pub joined_at: Option<SystemTime>,
    /// Highest index in its log, committed or not.
    pub last_index: LogIndex,
    /// Term of the last entry in its log; 0 while that is empty.
    pub last_term: Term,
    /// Nodes that are no initial members, and that it waits for all the same before it helps to form a
    /// cluster: they were members of one, and may still take part in it. Only the process itself
    /// knows; others do not say so.
    pub awaits: Vec<NodeId>,
    /// Who takes part in its Raft group and who is meant to, as it has applied them.
    pub conf: Arc<Conf>,
    /// Whether every voter knows the last change of voters and learners to be committed, and none is
    /// under way. Only a leader can tell.
    pub members_known: bool,
    /// The snapshot that it is receiving. The core does not see one before it is whole: the
    /// transport fills this in.
    pub receiving: Option<SnapshotProgress>,
    /// How far the process is with a recovery of its cluster.
    pub recovery: RecoveryAttempt,
    /// How the logs of the others follow its own, if it leads; `None` until the first tick of its
    /// leadership, and for everybody else.
    pub following: Option<Arc<Following>>,
    /// Processes of nodes that have two, which answer in turn, as it has lately heard if it leads.
    pub doubled: Vec<[RaftId; 2]>,
    /// What the process speaks.
    pub level: ProtocolLevel,
    /// What its cluster speaks, as it has applied it; the first before.
    pub cluster_level: ProtocolLevel,
    /// An entry that its leader sends and that it cannot read, as the leader runs a newer version: its
    /// log ends before.
    pub unreadable: Option<LogIndex>,
    /// What it takes at most; versions that do not know do not say so.
    pub limits: Option<NodeLimits>,
    /// Whether it is outside of a cluster that it does not join, as nobody whom its configuration or its
    /// former lives name has said to take part there.
    pub unconfirmed: bool,
    /// A node that has lately offered a cluster of other initial members than it is configured with.
    pub differs_from: Option<NodeId>,
    /// Whom it reaches of the other members; `None` before it takes part, and versions that do not know
    /// do not say so.
    pub reach: Option<Arc<Reach>>,
}

impl NodeStatus {
    /// What a process says that has just begun.
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
        }
    }
}

/// The last attempt of a process to recover its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryAttempt {
    /// Its number: how often the process has begun one. 0 if it never has.
    pub number: u64,
    /// Whether it has not ended yet.
    pub under_way: bool,
}

/// Who takes part in a Raft group, and who is meant to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// Raft ids of the voters.
    pub voters: Vec<RaftId>,
    /// Raft ids of the learners.
    pub learners: Vec<RaftId>,
    /// Node ids of the members that the cluster is meant to have.
    pub members: Vec<NodeId>,
}

/// How far a snapshot has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// What has arrived.
    pub received: u64,
    /// The whole.
    pub total: u64,
    /// Which snapshot it is.
    pub id: SnapshotId,
}

/// Which snapshot a leader sends: what has the same id has the same bytes. All 0 of one that is not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotId {
    /// Raft id of the leader.
    pub leader: u64,
    /// Its term.
    pub term: Term,
    /// The last log index that the snapshot covers.
    pub index: LogIndex,
}

/// How the logs of the others follow the leader's: measured against what that held one election
/// timeout ago, or when it was elected, if that is later. Heartbeats alone do not show it: they arrive
/// where appends do not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Following {
    /// Highest index that the leader's log held then. Its commit index covers it by now, unless no
    /// majority takes what it appends.
    pub last_index: LogIndex,
    /// Highest index that was known to be committed then. Every voter has applied it by now, unless it
    /// does not keep up.
    pub commit_index: LogIndex,
    /// Raft ids of the voters and learners that have acknowledged `last_index`, the leader's own among
    /// them.
    pub acknowledged_by: Vec<RaftId>,
}
