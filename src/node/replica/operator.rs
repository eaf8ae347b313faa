//! The decisions that only an operator may make: to form a cluster although initial members are missing,
//! and to recover a new cluster from the state of one process.

use std::collections::BTreeSet;

use super::Replica;
use crate::cluster::Answers;
use crate::cluster::recovery::{Obstacle, Order, Remains, Way};
use crate::error::Refusal;
use crate::node::seed::mix;
use crate::node::{Event, NodeError, RaftNode, Recovery};
use crate::types::{ClusterId, NodeId, NodeInfo, NodeStatus, ProtocolLevel};

impl<W> Replica<W> {
    /// Forms a cluster on an operator's statement that the initial members `without` are fresh, see
    /// [`Formation::form_without`](crate::node::Formation::form_without).
    ///
    /// # Errors
    ///
    /// The reason why no cluster can be formed so, here and now.
    pub fn form_without(&mut self, without: BTreeSet<NodeId>) -> Result<(), Refusal> {
        self.formation.form_without(without)?;
        self.follow_formation();
        Ok(())
    }

    /// Ends what [`form_without`](Self::form_without) has begun; see
    /// [`Formation::stop_forming`](crate::node::Formation::stop_forming).
    ///
    /// # Errors
    ///
    /// Why no cluster could be formed so, if that is known by now.
    pub fn stop_forming(
        &mut self,
        without: &BTreeSet<NodeId>,
    ) -> Result<Option<ClusterId>, Refusal> {
        let formed = self.formation.stop_forming(without);
        self.follow_formation();
        formed
    }

    /// How `order` can be carried out here, given the `answers` of all nodes that were asked.
    ///
    /// # Errors
    ///
    /// The obstacle. Nothing has changed then, except that a void claim is dropped.
    pub(super) fn way(&mut self, order: &Order, answers: Answers) -> Result<Way, Refusal> {
        self.take_what_is_ready()?;
        for view in answers.views() {
            self.heard_of_claimant(view);
        }
        let me = self.raft_id().node_id();
        let answers = answers.with(self.status());
        let way = Remains::new(order.cluster_id, &answers).may_recover(me, order);
        let way = way.map_err(refusal)?;
        if let Some(node) = self.claims.held_by_another(order) {
            return Err(Refusal::precondition(format!(
                "this node has left the recovery of the cluster to node {node}: ask that one, or start \
                 it again if it has ended"
            )));
        }
        if self.address().is_none() {
            return Err(Refusal::precondition(
                "this node is no member any more, and its addresses are unknown".to_owned(),
            ));
        }
        let raft = self.raft.as_ref();
        raft.map_or(Ok(()), RaftNode::check_log).map_err(unusable)?;
        Ok(way)
    }

    /// The addresses of this node, from the replicated state, or else from its configuration.
    fn address(&self) -> Option<NodeInfo> {
        let me = self.raft_id().node_id();
        let known = self.directory.nodes().get(me);
        known.or_else(|| self.options.members.get(me)).cloned()
    }

    /// What a recovery by `order` keeps.
    pub(super) fn facts(&self, order: &Order, way: &Way) -> Recovery {
        let NodeStatus {
            term,
            keys,
            cluster_level,
            ..
        } = self.status();
        let has_revisions = cluster_level > ProtocolLevel::FIRST;
        Recovery {
            old: order.cluster_id,
            new: None,
            term,
            kept: way.survivor,
            keys,
            others: way.others.clone(),
            without: order.without.clone(),
            time: self.time.filter(|_| has_revisions),
            revisions: self.raft.as_ref().map_or_else(Default::default, |raft| {
                raft.storage().state_machine().revisions()
            }),
        }
    }

    /// Recovers the new cluster. No other process can do so any more.
    pub(super) fn carry_out(&mut self, order: &Order, way: &Way) -> Result<Recovery, Refusal> {
        let facts = self.facts(order, way);
        let (Some(own), Some(raft)) = (self.address(), &mut self.raft) else {
            return Err(refusal(Obstacle::NoPart));
        };
        let old = order.cluster_id;
        // An incarnation never repeats, and no process recovers the same cluster twice, so this id is new.
        let new = ClusterId(mix(&[self.options.seed, raft.raft_id().get(), old.0]));
        *raft = raft
            .recover(new, own, facts.time, &self.options.logger)
            .map_err(unusable)?;
        self.output.events.push(Event::Recovered {
            old,
            new,
            commit_index: facts.kept.commit_index,
            last_index: facts.kept.last_index,
        });
        self.formation.recovered(new);
        self.follow_formation();
        Ok(Recovery {
            new: Some(new),
            ..facts
        })
    }

    /// Takes over what raft-rs has accepted but not handed out yet: it belongs to the log.
    pub(super) fn take_what_is_ready(&mut self) -> Result<(), Refusal> {
        match self.output() {
            Ok(output) => {
                self.output = output;
                Ok(())
            }
            Err(error) => {
                let refusal = Refusal::precondition(format!("this node has failed: {error}"));
                self.broken = Some(error);
                Err(refusal)
            }
        }
    }
}

fn unusable(error: NodeError) -> Refusal {
    Refusal::precondition(format!("this node cannot apply all of its log: {error}"))
}

fn refusal(obstacle: Obstacle) -> Refusal {
    match obstacle {
        Obstacle::OtherCluster(_) => Refusal::invalid("cluster_id", obstacle.to_string()),
        Obstacle::NotGone(_) | Obstacle::NotInCluster(_) => {
            Refusal::invalid("without", obstacle.to_string())
        }
        _ => Refusal::precondition(obstacle.to_string()),
    }
}
