//! The state that no process in the world can know: which processes run, which clusters can serve, the
//! cost of a loss.

use std::collections::{BTreeMap, BTreeSet};

use seshat::node::RaftNode;
use seshat::types::{
    ClusterId, NodeId, NodeStatus, ProtocolLevel, RaftId, SnapshotId, SnapshotProgress,
};

use crate::clients::Waiter;
use crate::invariants::{Verdict, clocks_agree_when_a_cluster_forms, one_serving_cluster};
use crate::operator::is_healed;
use crate::process::Process;
use crate::setting::Scope;
use crate::world::World;

impl Process {
    /// The status of the process, as its shell composes it.
    pub(crate) fn status(&self) -> NodeStatus {
        let receiving = self.receiving.as_ref().map(|it| SnapshotProgress {
            received: it.received,
            total: it.total,
            id: SnapshotId::default(),
        });
        NodeStatus {
            receiving,
            ..self.replica.status()
        }
    }
}

impl World {
    /// The statuses of all processes at this moment.
    pub(crate) fn statuses(&self) -> BTreeMap<NodeId, NodeStatus> {
        let processes = self.processes.iter();
        processes.map(|(&node, it)| (node, it.status())).collect()
    }

    /// The processes that take part in a cluster.
    pub(crate) fn rafts(&self) -> impl Iterator<Item = &RaftNode<Waiter>> {
        self.members().filter_map(|replica| replica.raft())
    }

    /// The processes that take part in `cluster`.
    fn parts(&self, cluster: ClusterId) -> BTreeSet<RaftId> {
        let parts = self.rafts().filter(|raft| raft.cluster_id() == cluster);
        parts.map(|raft| raft.raft_id()).collect()
    }

    /// Whether the leader would report a healed cluster, if it asked all members at this moment.
    pub(crate) fn is_healed(&self) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let views = self.statuses();
        let node = leader.raft_id().node_id();
        let process = &self.processes[&node];
        is_healed(&process.status(), process.replica.members(), &views)
    }

    /// `node` takes part in `cluster` from now on.
    pub(crate) fn started(&mut self, node: NodeId, cluster: ClusterId) -> Verdict {
        if self.setting.scope == Scope::Narrow {
            return Ok(());
        }
        let Some(raft) = self.processes[&node].replica.raft() else {
            return Ok(());
        };
        // No process has applied anything of it yet, and this one begins with something.
        let empty = self.clusters.log(cluster).len() == 0 && !self.clusters.is_recovered(cluster);
        let formed = raft.storage().applied() > 0 && empty;
        let others = self.rafts().filter(|it| it.cluster_id() != cluster);
        let others = others.filter(|it| it.storage().applied() > 0);
        let others = others.filter(|it| self.is_known_to_members_of(cluster, it.raft_id()));
        let others: Vec<_> = others.map(|it| (it.raft_id(), it.cluster_id())).collect();
        if formed {
            // Decisions of a former cluster are forgotten.
            self.operator.forget_removals();
            let level = raft.level();
            if level >= ProtocolLevel::SECOND {
                let voters = raft.voters().into_iter();
                let clocks = voters.map(|voter| (voter, self.wall_time(voter.node_id())));
                clocks_agree_when_a_cluster_forms::check(cluster, &clocks.collect::<Vec<_>>())?;
            }
            one_serving_cluster::formed(raft.raft_id(), cluster, &others)?;
            if !self.clients.acknowledged.is_empty() {
                self.give_up_what_was_told();
            }
        }
        one_serving_cluster::check(&self.able_clusters())
    }

    /// Whether the processes that form the cluster could know of a process: one of them has it in a file
    /// as a member, or it has asked one of them for its identity.
    fn is_known_to_members_of(&self, cluster: ClusterId, holder: RaftId) -> bool {
        let node = holder.node_id();
        let forms = |process: &&Process| process.status().cluster_id == Some(cluster);
        self.processes.values().filter(forms).any(|process| {
            let me = process.replica.raft_id().node_id();
            process.asked_by.contains(&node)
                || self.files.get(me).members.contains(node)
                || self.files.remembered(me).contains(node)
        })
    }

    /// The clusters that can serve: a process knows voters most of which run.
    pub(crate) fn able_clusters(&self) -> BTreeSet<ClusterId> {
        let able = self.rafts().filter(|raft| {
            let voters = raft.voters();
            // A process that is no voter, or hears of no other, may be wrong about the voters.
            voters.contains(&raft.raft_id()) && is_majority(&self.parts(raft.cluster_id()), &voters)
        });
        able.map(|raft| raft.cluster_id()).collect()
    }

    /// Whether the cluster continues, and keeps all acknowledged writes, if these nodes lose their
    /// memory as well: most of the voters run, in the view of every running process, and also after the
    /// pending removals.
    pub(crate) fn bears_the_loss_of(&self, losing: &BTreeSet<NodeId>) -> bool {
        let Some(cluster) = self.able_clusters().into_iter().next() else {
            return false;
        };
        let mut left = self.parts(cluster);
        left.retain(|id| !losing.contains(&id.node_id()));
        let leaving = self.operator.leaving();
        // A removed process may not know of its removal, and counts no more.
        let parts = || self.rafts().filter(|raft| raft.cluster_id() == cluster);
        let newest = parts().max_by_key(|raft| raft.storage().applied());
        let voters = newest.map(|raft| raft.voters()).unwrap_or_default();
        parts()
            .filter(|raft| voters.contains(&raft.raft_id()))
            .all(|raft| {
                let conf = raft.conf();
                let stays = |id: &RaftId| {
                    conf.members.contains(&id.node_id()) && Some(id.node_id()) != leaving
                };
                let voters = raft.voters();
                let staying: Vec<_> = voters.iter().copied().filter(stays).collect();
                // The promotion of a learner may be in some log already.
                let mut promoted = conf.learners.iter().map(|learner| {
                    let voters = voters.iter().chain([learner]);
                    voters.copied().collect::<Vec<_>>()
                });
                is_majority(&left, &voters)
                    && is_majority(&left, &staying)
                    && promoted.all(|voters| is_majority(&left, &voters))
            })
    }
}

fn is_majority(living: &BTreeSet<RaftId>, voters: &[RaftId]) -> bool {
    let live = voters.iter().filter(|voter| living.contains(voter)).count();
    2 * live > voters.len()
}
