//! How a node that forgot everything becomes a member again.
//!
//! A process that was started again is a new Raft server. The leader notices that another life
//! answers at a member's address, and replaces the lost one through ordinary conf changes, one at a
//! time: it adds the new life as a learner, waits until it has caught up, removes the lost voter,
//! and promotes the learner. With the lost voter dead the quorum is the same before and after its
//! removal, so this needs no joint configuration.
//!
//! The plan is made anew each time from the committed members and from who lives, and from nothing
//! else, so any later leader goes on where this one stopped, and it does not matter which of the
//! changes was lost: raft-rs turns a change that is proposed too early into an empty entry without
//! a word.

use std::collections::BTreeMap;

use crate::types::{ClusterId, ClusterMembership, NodeId, NodeState, NodeStatus, RaftId};

/// Ticks between two rounds of questions of a leader.
const PROBE_TICKS: u64 = 5;
/// Ticks for which what a node said of itself is believed.
const BELIEVED_TICKS: u64 = 20;

/// One step towards the members that live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new life is to receive the log.
    AddLearner(RaftId),
    /// A new life that has caught up is to vote.
    Promote(RaftId),
    /// A lost life is to be forgotten.
    Remove(RaftId),
}

/// The committed members, and how the leader sees them.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// Raft ids of the voters.
    pub(super) voters: Vec<RaftId>,
    /// Raft ids of the learners, and whether each has caught up.
    pub(super) learners: BTreeMap<RaftId, bool>,
}

/// Who lives at the members' addresses, as a leader has lately heard.
#[derive(Debug)]
pub(super) struct Reconciler {
    now: u64,
    probe_at: u64,
    living: BTreeMap<NodeId, Option<(NodeStatus, u64)>>,
}

impl Reconciler {
    /// A reconciler of the process `me` among the nodes `members`.
    pub(super) fn new(me: RaftId, members: &ClusterMembership) -> Self {
        let others = members.ids().filter(|&id| id != me.node_id());
        Self {
            now: 0,
            probe_at: 0,
            living: others.map(|id| (id, None)).collect(),
        }
    }

    /// One tick has passed; whom to ask who they are.
    pub(super) fn tick(&mut self, leads: bool) -> Vec<NodeId> {
        self.now += 1;
        if !leads || self.probe_at > self.now {
            return Vec::new();
        }
        self.probe_at = self.now + PROBE_TICKS;
        self.living.keys().copied().collect()
    }

    /// A node has said who it is.
    pub(super) fn heard(&mut self, node: NodeId, status: &NodeStatus) {
        if status.raft_id.node_id() == node
            && let Some(living) = self.living.get_mut(&node)
        {
            *living = Some((status.clone(), self.now));
        }
    }

    /// What the life that answers at `node` has lately said of itself.
    fn living(&self, node: NodeId) -> Option<&NodeStatus> {
        let (status, at) = self.living.get(&node)?.as_ref()?;
        (self.now - at <= BELIEVED_TICKS).then_some(status)
    }

    /// The next step, if there is one to take. For a leader that has applied an entry of its own
    /// term and has no change under way.
    pub(super) fn plan(&self, cluster_id: ClusterId, members: &Members) -> Option<Change> {
        let replace = |&node: &NodeId| self.replace(node, cluster_id, members);
        self.forget_lost_learner(members)
            .or_else(|| self.living.keys().find_map(replace))
    }

    fn forget_lost_learner(&self, members: &Members) -> Option<Change> {
        let lost = |id: RaftId| {
            self.living(id.node_id())
                .is_some_and(|living| living.raft_id != id)
        };
        let learner = members.learners.keys().copied().find(|&id| lost(id))?;
        Some(Change::Remove(learner))
    }

    fn replace(&self, node: NodeId, cluster_id: ClusterId, members: &Members) -> Option<Change> {
        let living = self.living(node)?;
        let id = living.raft_id;
        if members.voters.contains(&id) {
            return None;
        }
        match members.learners.get(&id) {
            None => may_join(living, cluster_id).then_some(Change::AddLearner(id)),
            Some(false) => None,
            Some(true) => {
                let lost = members.voters.iter().find(|voter| voter.node_id() == node);
                Some(lost.map_or(Change::Promote(id), |&lost| Change::Remove(lost)))
            }
        }
    }
}

/// Whoever belongs to nothing may, and whoever belongs to this cluster although it is no member: late
/// news of its former life had it removed while it was joining.
fn may_join(living: &NodeStatus, cluster_id: ClusterId) -> bool {
    match living.state {
        NodeState::Fresh | NodeState::Outside => true,
        NodeState::Bound => false,
        NodeState::Started => living.cluster_id == Some(cluster_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn life(node: u16, incarnation: u64) -> RaftId {
        RaftId::new(NodeId::new(node).expect("a node id"), incarnation)
    }

    fn status(raft_id: RaftId, state: NodeState, cluster_id: Option<ClusterId>) -> NodeStatus {
        NodeStatus {
            state,
            cluster_id,
            ..NodeStatus::fresh(raft_id)
        }
    }

    /// The leader is the first life of node 1; it has heard `statuses`.
    fn leader(statuses: &[NodeStatus]) -> Reconciler {
        let members = [1, 2, 3]
            .map(|id| NodeId::new(id).expect("a node id"))
            .into();
        let mut reconciler = Reconciler::new(life(1, 1), &members);
        for status in statuses {
            reconciler.heard(status.raft_id.node_id(), status);
        }
        reconciler
    }

    fn members(voters: &[RaftId], learners: &[(RaftId, bool)]) -> Members {
        Members {
            voters: voters.to_vec(),
            learners: learners.iter().copied().collect(),
        }
    }

    fn started(raft_id: RaftId) -> NodeStatus {
        status(raft_id, NodeState::Started, Some(CLUSTER))
    }

    fn fresh(raft_id: RaftId) -> NodeStatus {
        status(raft_id, NodeState::Fresh, None)
    }

    #[test]
    fn a_lost_life_is_replaced_step_by_step() {
        let (one, two, three, again) = (life(1, 1), life(2, 1), life(3, 1), life(3, 2));
        let leader = leader(&[started(two), fresh(again)]);
        let plan = |voters: &[RaftId], learners: &[(RaftId, bool)]| {
            leader.plan(CLUSTER, &members(voters, learners))
        };
        let all = [one, two, three];
        assert_eq!(plan(&all, &[]), Some(Change::AddLearner(again)));
        assert_eq!(plan(&all, &[(again, false)]), None, "not caught up yet");
        assert_eq!(plan(&all, &[(again, true)]), Some(Change::Remove(three)));
        assert_eq!(
            plan(&[one, two], &[(again, true)]),
            Some(Change::Promote(again))
        );
        assert_eq!(plan(&[one, two, again], &[]), None, "well");
    }

    #[test]
    fn a_life_that_ended_before_it_was_promoted_is_forgotten_first() {
        let (one, two, three) = (life(1, 1), life(2, 1), life(3, 1));
        let leader = leader(&[started(two), fresh(life(3, 3))]);
        let members = members(&[one, two, three], &[(life(3, 2), true)]);
        assert_eq!(
            leader.plan(CLUSTER, &members),
            Some(Change::Remove(life(3, 2)))
        );
    }

    #[test]
    fn who_belongs_elsewhere_or_is_silent_is_left_alone() {
        let (one, two, three, again) = (life(1, 1), life(2, 1), life(3, 1), life(3, 2));
        let members = members(&[one, two, three], &[]);
        for other in [
            status(again, NodeState::Started, Some(ClusterId(8))),
            status(again, NodeState::Bound, Some(CLUSTER)),
        ] {
            assert_eq!(leader(&[started(two), other]).plan(CLUSTER, &members), None);
        }
        assert_eq!(leader(&[started(two)]).plan(CLUSTER, &members), None);
        // One of ours that late news of its former life had removed may come back.
        let back = leader(&[started(two), started(again)]).plan(CLUSTER, &members);
        assert_eq!(back, Some(Change::AddLearner(again)));
    }

    #[test]
    fn what_was_heard_long_ago_or_of_another_node_is_not_believed() {
        let (one, two, three, again) = (life(1, 1), life(2, 1), life(3, 1), life(3, 2));
        let members = members(&[one, two, three], &[]);
        let mut leader = leader(&[fresh(again)]);
        leader.heard(two.node_id(), &fresh(life(3, 9)));
        assert_eq!(
            leader.plan(CLUSTER, &members),
            Some(Change::AddLearner(again))
        );
        for _ in 0..=BELIEVED_TICKS {
            leader.tick(true);
        }
        assert_eq!(leader.plan(CLUSTER, &members), None);
    }

    #[test]
    fn only_a_leader_asks_and_not_at_every_tick() {
        let mut reconciler = leader(&[]);
        assert!(reconciler.tick(false).is_empty());
        let asked: usize = (0..2 * PROBE_TICKS)
            .map(|_| reconciler.tick(true).len())
            .sum();
        assert_eq!(asked, 4, "two others, twice");
    }
}
