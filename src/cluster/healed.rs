//! Whether any one member may be restarted now, and which changes of the leader are pending.

use std::collections::BTreeSet;

use super::{CAN_LOSE_ONE, ClusterView, MemberState};
use crate::types::{NodeId, NodeStatus, RaftId, Role};

/// A pending change of the leader that the state of no running member shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PendingChange {
    /// Adds a member that the asked node does not know yet.
    LetIn(NodeId),
    /// Removes the process of a node that is no longer a member.
    Remove(NodeId),
    /// Removes an earlier incarnation of a member from the Raft group.
    Forget(NodeId),
    /// Makes the last change known to every voter.
    MakeKnown,
}

impl ClusterView<'_> {
    /// Whether any one member may be restarted now: no acknowledged write is lost, and writes go on.
    ///
    /// There are three voters or more, and the cluster is whole: the voters are exactly the running
    /// processes, one of each member. Every one of them knows this, follows the leader and votes. Its log
    /// follows the leader's. And it reaches all the others, which it needs when the leader is lost.
    pub fn is_healed(&self) -> bool {
        self.survey.members().len() >= CAN_LOSE_ONE && self.is_whole()
    }

    /// Whether every member takes part, and no change is pending.
    pub(super) fn is_whole(&self) -> bool {
        let Some(leader) = self.leader_view() else {
            return false;
        };
        let members = self.survey.members();
        let conf = &leader.conf;
        let living: BTreeSet<_> = self.members_views().map(|view| view.raft_id).collect();
        let votes = |view: &NodeStatus| view.role.is_some_and(|role| role != Role::Learner);
        leader.members_known
            && conf.learners.is_empty()
            && conf.voters.len() == members.len()
            && conf.voters.iter().copied().collect::<BTreeSet<_>>() == living
            && conf.members.iter().copied().eq(members.ids())
            && self.members_views().all(votes)
            && members
                .ids()
                .all(|id| self.member_state(id) == MemberState::Whole)
            && self.commits() == Some(true)
            && leader.doubled.is_empty()
            && self.all_reach_all()
    }

    /// Whether the leader's appends are committed: its commit index covers what its log held one election
    /// timeout ago. `None` if it does not report this, because it has just been elected.
    pub(super) fn commits(&self) -> Option<bool> {
        let leader = self.leader_view()?;
        let following = leader.following.as_deref()?;
        Some(leader.commit_index >= following.last_index)
    }

    /// Pairs of processes that answer in turn as one member, as the leader reports.
    pub(super) fn doubled(&self) -> impl Iterator<Item = [RaftId; 2]> {
        let doubled = self.leader_view().into_iter().flat_map(|it| &it.doubled);
        doubled.copied()
    }

    /// The leader's pending changes, except for those that the states of the members show.
    pub(super) fn pending_changes(&self) -> Vec<PendingChange> {
        let Some(leader) = self.leader_view() else {
            return Vec::new();
        };
        let members = self.survey.members();
        let conf = &leader.conf;
        let mut pending_changes: Vec<_> = conf
            .members
            .iter()
            .filter(|member| !members.contains(**member))
            .map(|member| PendingChange::LetIn(*member))
            .collect();
        for id in conf.voters.iter().chain(&conf.learners) {
            let node = id.node_id();
            let is_current = self.view(node).is_none_or(|view| view.raft_id == *id);
            let stands = || {
                let member_state = self.member_state(node);
                matches!(
                    member_state,
                    MemberState::Whole | MemberState::Behind | MemberState::CannotRead(_)
                )
            };
            if !conf.members.contains(&node) {
                pending_changes.push(PendingChange::Remove(node));
            } else if !is_current && stands() {
                pending_changes.push(PendingChange::Forget(node));
            }
        }
        if pending_changes.is_empty() && !leader.members_known {
            pending_changes.push(PendingChange::MakeKnown);
        }
        pending_changes
    }
}
