//! The orders of the operator, and their effects.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use seshat::cluster::{Answer, Answers};
use seshat::kv::Command;
use seshat::node::Proposal;
use seshat::types::{ClusterId, NodeId};
use seshat::wire;

use super::LEAVING;
use super::inquiry::Wish;
use super::judgement::{Order, View, Way};
use crate::clients::Acknowledged;
use crate::invariants::equal_logs::Continuation;
use crate::invariants::{
    Verdict, Violation, a_recovery_decides_alike, no_copy_is_given_up, one_serving_cluster,
};
use crate::restarts::File;
use crate::sabotage::Sabotage;
use crate::setting::node_info;
use crate::world::World;

impl World {
    /// Some node that is no member yet is to be added.
    pub(super) fn order_addition(&mut self, view: &View) {
        let nodes = self.setting.node_ids();
        let mut new = nodes.iter().filter(|node| !view.members.contains(node));
        let (Some(&node), Some(leader)) = (new.next(), view.leader) else {
            return;
        };
        // It is started first, configured as the manual says, or as it was long ago.
        if !self.files.has(node) {
            let members = view.members.iter().copied().chain([node]);
            let file = File {
                members: members.map(node_info).collect(),
                bootstrap: false,
            };
            self.files.write(node, file);
        }
        self.switch_on(node);
        let command = Command::AddMember(node_info(node));
        self.ask_node(leader, Wish::Change(command));
    }

    /// A member is to be removed.
    pub(super) fn order_removal(&mut self, view: &View, node: NodeId) {
        if let Some(leader) = view.leader
            && self.operator.leaving.is_none()
        {
            self.ask_node(leader, Wish::Change(Command::RemoveMember(node)));
        }
    }

    /// The node that leads puts a change of members into the log.
    pub(super) fn change_members(&mut self, node: NodeId, command: Command) {
        self.operator.last_change = self.now;
        match command {
            Command::RemoveMember(leaving) => {
                self.operator.leaving = Some((leaving, self.now + LEAVING));
                self.summary.obeyed.removals += 1;
            }
            _ => self.summary.obeyed.additions += 1,
        }
        let waiter = self.clients.decide(node, self.now);
        self.clients.taken(waiter);
        if let Some(process) = self.processes.get_mut(&node) {
            process.replica.propose(vec![Proposal {
                context: Default::default(),
                command: wire::encode_command(&command),
                waiter,
            }]);
        }
    }

    /// Leadership is to be transferred.
    pub(super) fn transfer_leadership(&mut self, node: NodeId) -> Verdict {
        if let Some(process) = self.processes.get_mut(&node) {
            let to = process.replica.transfer_leader(None);
            self.trace.line(
                self.now,
                format_args!("{node} transfers leadership: {to:?}"),
            );
        }
        self.settle(node)
    }

    /// Status recommends a recovery. Two operators may follow it at about the same time.
    pub(super) fn order_recovery(&mut self, way: &Way, view: &View) {
        // The operator is shown the time that revisions would go on at.
        self.set_clock();
        let order = way.order();
        if !order
            .without
            .iter()
            .all(|node| self.takes_for_gone(*node, view))
        {
            return;
        }
        match self.plan.sabotage {
            Some(Sabotage::RecoverEverywhere) => {
                for other in &way.others {
                    self.ask_node(other.raft_id.node_id(), Wish::Recover(order.clone()));
                }
            }
            Some(Sabotage::RecoverLeast) if !way.others.is_empty() => {
                let least = way.others.last().map(|least| least.raft_id.node_id());
                self.ask_node(least.unwrap_or(way.from()), Wish::Recover(order));
                return;
            }
            _ => {}
        }
        self.ask_node(way.from(), Wish::Recover(order.clone()));
        if let Some(other) = way.others.first()
            && self.rng.gen_bool(0.3)
        {
            self.ask_node(other.raft_id.node_id(), Wish::Recover(order));
        }
    }

    /// The process at `node`, which has heard these, claims to make a new cluster of its state. All
    /// nodes that `answered` may have state of the old one.
    pub(super) fn recover(
        &mut self,
        node: NodeId,
        order: Order,
        heard: BTreeMap<NodeId, Answer>,
        answered: BTreeSet<NodeId>,
    ) -> Verdict {
        let Some(process) = self.processes.get_mut(&node) else {
            return Ok(());
        };
        if let Some(raft) = process.replica.raft() {
            let continuation = self.clusters.of_survivor(raft).map_err(broken)?;
            let claim = Claim {
                continuation,
                answered,
            };
            self.operator.claims.insert(raft.raft_id(), claim);
        }
        let claimed = process
            .replica
            .recover(order, heard.into_iter().collect::<Answers>());
        self.trace.line(
            self.now,
            format_args!("{node} claims to recover: {claimed:?}"),
        );
        Ok(())
    }

    /// The process at `node` has made the cluster `new` of its state of `cluster`.
    pub(crate) fn recovered(
        &mut self,
        node: NodeId,
        cluster: ClusterId,
        new: ClusterId,
    ) -> Verdict {
        let survivor = self.processes[&node].replica.raft_id();
        let Some(claim) = self.operator.claims.remove(&survivor) else {
            return Ok(());
        };
        let Claim {
            continuation,
            answered,
        } = claim;
        let common = continuation.common;
        self.summary.obeyed.recoveries += 1;
        let revisions = self.revisions_of(node);
        self.clusters
            .begin_with((cluster, new), continuation, revisions)
            .map_err(broken)?;
        let told = self.clients.transactions.told.iter();
        let told = told.filter(|txn| txn.cluster == cluster && txn.index <= common);
        a_recovery_decides_alike::check(told, &self.clusters.log(new).model)?;
        let old = self.clusters.log(cluster);
        let gone = |write: &&Acknowledged| write.cluster == cluster && write.index > common;
        let gone: Vec<_> = self.clients.acknowledged.iter().filter(gone).collect();
        for holder in self.rafts().filter(|raft| raft.cluster_id() == cluster) {
            let answers = answered.contains(&holder.raft_id().node_id());
            let mut held = gone.iter().filter(|write| old.is_held(holder, write.index));
            if let Some(write) = held.next().filter(|_| answers) {
                no_copy_is_given_up::lost(survivor, write, holder.raft_id())?;
            }
        }
        if self.clients.told_up_to(cluster) > common {
            self.give_up_what_was_told();
        }
        one_serving_cluster::check(&self.able_clusters())
    }
}

fn broken(reason: String) -> Violation {
    Violation::safety("equal_logs", reason)
}

/// The state of a process when it claimed the recovery of its cluster.
#[derive(Debug)]
pub(super) struct Claim {
    /// The log that the new cluster begins with.
    continuation: Continuation,
    /// The nodes that had answered.
    answered: BTreeSet<NodeId>,
}
