//! What only an operator may decide: to form a cluster although initial members are missing, and to
//! make a new cluster of what one process still has.

use std::collections::BTreeSet;

use super::Member;
use crate::error::{Reason, Refusal};
use crate::node::seed::mix;
use crate::node::{Event, RaftNode, Recovery};
use crate::types::{ClusterId, NodeId, Role};

impl<W> Member<W> {
    /// An operator vouches that the initial members `without` are fresh; see
    /// [`Formation::form_without`](crate::node::Formation::form_without).
    ///
    /// # Errors
    ///
    /// Why no cluster can be formed so, here and now.
    pub fn form_without(&mut self, without: BTreeSet<NodeId>) -> Result<(), Refusal> {
        self.formation.form_without(without)?;
        self.follow_formation();
        Ok(())
    }

    /// Makes a new cluster, whose only voter is this process, of the whole log that it has of the
    /// halted cluster `cluster_id`; with `dry_run` it only says what that would be. The members stay
    /// who they are: the new leader takes in their present lives as it does after any loss of
    /// memory.
    ///
    /// That the old cluster is halted for good, this process cannot know. The caller has to have
    /// made sure that no majority of its voters lives.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`] unless this process takes part in `cluster_id`;
    /// [`Reason::FailedPrecondition`] unless it takes part in a cluster at all, as a voter, and
    /// knows no leader. Nothing has changed then.
    pub fn recover(&mut self, cluster_id: ClusterId, dry_run: bool) -> Result<Recovery, Refusal> {
        self.take_what_is_ready()?;
        let keys = self.status().keys;
        let Some(raft) = &mut self.raft else {
            return Err(not_now(
                "this node takes part in no cluster: it has nothing that could be kept".to_owned(),
            ));
        };
        judge(raft, cluster_id)?;
        let facts = Recovery {
            old: cluster_id,
            new: None,
            term: raft.term(),
            commit_index: raft.commit_index(),
            last_index: raft.last_index(),
            keys,
        };
        if dry_run {
            return Ok(facts);
        }
        // No process lives twice and none recovers the same cluster twice, so this id is new.
        let new = ClusterId(mix(&[
            self.options.seed,
            raft.raft_id().get(),
            cluster_id.0,
        ]));
        let recovered = raft.recover(new, &self.options.logger);
        *raft = recovered
            .map_err(|error| not_now(format!("this node cannot apply all of its log: {error}")))?;
        self.output.events.push(Event::Recovered {
            old: cluster_id,
            new,
            commit_index: facts.commit_index,
            last_index: facts.last_index,
        });
        self.formation.recovered(new);
        self.follow_formation();
        Ok(Recovery {
            new: Some(new),
            ..facts
        })
    }

    /// What raft-rs has taken but not handed out yet belongs to the log.
    fn take_what_is_ready(&mut self) -> Result<(), Refusal> {
        match self.output() {
            Ok(output) => {
                self.output = output;
                Ok(())
            }
            Err(error) => {
                let refusal = not_now(format!("this node has failed: {error}"));
                self.broken = Some(error);
                Err(refusal)
            }
        }
    }
}

fn judge<W>(raft: &RaftNode<W>, cluster_id: ClusterId) -> Result<(), Refusal> {
    if raft.cluster_id() != cluster_id {
        return Err(Refusal::not_applied(Reason::InvalidRequest {
            field: "cluster_id",
            rule: format!("this node takes part in cluster {}", raft.cluster_id()),
        }));
    }
    if let Some(leader) = raft.leader() {
        let leader = leader.node_id();
        return Err(not_now(format!(
            "the cluster is not halted: node {leader} leads it"
        )));
    }
    // What a learner has may be any part of the whole.
    if raft.role() == Role::Learner {
        return Err(not_now(
            "this node has not caught up with its cluster: ask a member that votes".to_owned(),
        ));
    }
    Ok(())
}

fn not_now(rule: String) -> Refusal {
    Refusal::not_applied(Reason::FailedPrecondition { rule })
}
