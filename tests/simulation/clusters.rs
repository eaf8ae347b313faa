//! The clusters of a run, one after the other: each has a log of its own.
//!
//! Most runs have one. Another one begins when an operator recovers one from the state of a survivor, or
//! when all processes have lost everything.

use std::collections::{BTreeMap, BTreeSet};

use seshat::node::RaftNode;
use seshat::types::{ClusterId, LogIndex, RaftId};

use crate::invariants::Verdict;
use crate::invariants::equal_logs::Log;

/// The agreed logs.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    logs: BTreeMap<ClusterId, Log>,
    nothing: Log,
    /// Those that were recovered from a survivor.
    recovered: BTreeSet<ClusterId>,
}

impl Clusters {
    /// The agreed log of a cluster; an empty one if no process has applied anything of it.
    pub(crate) fn log(&self, cluster: ClusterId) -> &Log {
        self.logs.get(&cluster).unwrap_or(&self.nothing)
    }

    /// All of them.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (ClusterId, &Log)> {
        self.logs.iter().map(|(&cluster, log)| (cluster, log))
    }

    /// The process `raft_id` begins, with nothing applied.
    pub(crate) fn begins(&mut self, raft_id: RaftId) {
        for log in self.logs.values_mut() {
            log.begins(raft_id);
        }
    }

    /// Compares what `raft` has applied with the agreed log of its cluster.
    pub(crate) fn check<W>(&mut self, raft: &RaftNode<W>) -> Verdict {
        self.logs.entry(raft.cluster_id()).or_default().check(raft)
    }

    /// A cluster that is to be recovered from `survivor` begins with this log, up to the index where it
    /// agrees with the old one.
    pub(crate) fn of_survivor<W>(&self, survivor: &RaftNode<W>) -> Result<(Log, LogIndex), String> {
        self.log(survivor.cluster_id()).continued_by(survivor)
    }

    /// The recovered cluster runs.
    pub(crate) fn begin_with(&mut self, cluster: ClusterId, log: Log) {
        self.logs.insert(cluster, log);
        self.recovered.insert(cluster);
    }

    /// Whether the cluster was recovered from a survivor, even one without state.
    pub(crate) fn is_recovered(&self, cluster: ClusterId) -> bool {
        self.recovered.contains(&cluster)
    }
}
