//! What processes say to one another about a recovery of their cluster.

use std::cmp::Ordering;
use std::fmt;

use super::{ClusterId, LogIndex, NodeStatus, RaftId, Term};

/// How much a process has of its cluster. The greater has more; no two processes are equal.
///
/// First counts what Raft compares (paper, section 5.4.1): of two logs the one whose last entry has the
/// higher term is more up to date, then the longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Term of the last log entry.
    pub last_term: Term,
    /// Index of the last log entry.
    pub last_index: LogIndex,
    /// Whether it votes, as far as it knows.
    pub votes: bool,
    /// Highest index that it knows to be committed.
    pub commit_index: LogIndex,
    /// The process.
    pub raft_id: RaftId,
}

impl Rank {
    /// The rank of a process that says this of itself.
    pub fn of(status: &NodeStatus) -> Self {
        Self {
            last_term: status.last_term,
            last_index: status.last_index,
            votes: status.conf.voters.contains(&status.raft_id),
            commit_index: status.commit_index,
            raft_id: status.raft_id,
        }
    }

    /// Whether the log is more up to date than that of `other`, less, or the same.
    pub fn cmp_log(&self, other: &Self) -> Ordering {
        (self.last_term, self.last_index).cmp(&(other.last_term, other.last_index))
    }
}

/// Where the log ends.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.last_index, self.last_term)
    }
}

/// The wish of a process to recover its cluster alone: whoever yields to it takes no part in that
/// cluster any more, unless the attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryClaim {
    /// The cluster that is given up.
    pub cluster_id: ClusterId,
    /// Which attempt of the process it is, see [`RecoveryAttempt`](super::RecoveryAttempt).
    pub attempt: u64,
    /// The process, and how much it has.
    pub rank: Rank,
}
