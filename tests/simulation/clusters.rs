//! The clusters of a run, one after the other: each has a log of its own.
//!
//! Most runs have one. Another one begins when an operator recovers one from the state of a survivor, or
//! when all processes have lost everything.

use std::collections::{BTreeMap, BTreeSet};

use seshat::kv::Revisions;
use seshat::node::RaftNode;
use seshat::types::{ClusterId, RaftId};

use crate::invariants::Verdict;
use crate::invariants::equal_logs::{Continuation, Ending, Log};
use crate::model::locks::Notice;

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
        let storage = raft.storage();
        if storage.applied() == 0 {
            return Ok(());
        }
        // The first process that takes part has the state with which the cluster formed.
        let log = self.logs.entry(raft.cluster_id());
        log.or_insert_with(|| Log::formed(storage.state_machine().revisions()))
            .check(raft)
    }

    /// Takes what has ended in `cluster` since the last call.
    pub(crate) fn take_ended(&mut self, cluster: ClusterId) -> Vec<Ending> {
        let log = self.logs.get_mut(&cluster);
        log.map(Log::take_ended).unwrap_or_default()
    }

    /// Takes what has become of claims in `cluster` since the last call.
    pub(crate) fn take_notices(&mut self, cluster: ClusterId) -> Vec<Notice> {
        let log = self.logs.get_mut(&cluster);
        log.map(Log::take_notices).unwrap_or_default()
    }

    /// A cluster that is to be recovered from `survivor` begins with this log.
    pub(crate) fn of_survivor<W>(&self, survivor: &RaftNode<W>) -> Result<Continuation, String> {
        self.log(survivor.cluster_id()).continued_by(survivor)
    }

    /// The cluster `new`, recovered from `old`, runs and has these revisions.
    pub(crate) fn begin_with(
        &mut self,
        (old, new): (ClusterId, ClusterId),
        continuation: Continuation,
        revisions: Revisions,
    ) -> Result<(), String> {
        let log = self.log(old).recovered(continuation, revisions)?;
        self.logs.insert(new, log);
        self.recovered.insert(new);
        Ok(())
    }

    /// Whether the cluster was recovered from a survivor, even one without state.
    pub(crate) fn is_recovered(&self, cluster: ClusterId) -> bool {
        self.recovered.contains(&cluster)
    }
}
