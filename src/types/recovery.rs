//! The messages of a recovery of a cluster from a lost quorum.

use std::cmp::Ordering;
use std::fmt;

use super::{ClusterId, LogIndex, NodeStatus, RaftId, Term};

/// How much of the cluster's state a process has. A greater rank means more state. No two processes have
/// equal ranks.
///
/// The comparison begins as in Raft (paper, section 5.4.1): the log whose last entry has the higher term
/// is more up to date, and of equal terms the longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Term of the last log entry.
    pub last_term: Term,
    /// Index of the last log entry.
    pub last_index: LogIndex,
    /// Whether the process is a voter, as far as it knows.
    pub votes: bool,
    /// Highest index that it knows to be committed.
    pub commit_index: LogIndex,
    /// The process.
    pub raft_id: RaftId,
}

impl Rank {
    /// The rank of a process with this status.
    pub fn of(status: &NodeStatus) -> Self {
        Self {
            last_term: status.last_term,
            last_index: status.last_index,
            votes: status.conf.voters.contains(&status.raft_id),
            commit_index: status.commit_index,
            raft_id: status.raft_id,
        }
    }

    /// Whether this log is more up to date than that of `other`, less, or equally.
    pub fn cmp_log(&self, other: &Self) -> Ordering {
        (self.last_term, self.last_index).cmp(&(other.last_term, other.last_index))
    }
}

/// The end of the log.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.last_index, self.last_term)
    }
}

/// The claim of a process to recover its cluster alone. A process that yields to the claim takes no part
/// in that cluster any more, unless the attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryClaim {
    /// The cluster that the recovery replaces.
    pub cluster_id: ClusterId,
    /// The number of the attempt of this process, see [`RecoveryAttempt`](super::RecoveryAttempt).
    pub attempt: u64,
    /// The process, and how much state it has.
    pub rank: Rank,
}
