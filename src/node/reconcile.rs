//! How the processes that take part come to be those that are meant to.
//!
//! The members of the cluster are nodes, and are part of the replicated state: operators decide who
//! is one. Who takes part in Raft are processes, and each is a Raft server of its own. The leader
//! brings the second in line with the first through ordinary conf changes, one at a time:
//!
//! * a member that has no voter gets one: the leader adds the process that answers there as a
//!   learner, waits until it has caught up, and promotes it;
//! * a member that was started again has forgotten everything and is a new process: the same, and the
//!   lost voter is removed before the new one is promoted. With the lost one dead the quorum is the
//!   same before and after its removal, so this needs no joint configuration;
//! * a process of a node that is no member any more is removed. The leader itself is not: it hands
//!   leadership to a member, and that one removes it.
//!
//! No voter is removed unless most of those that would be left are alive.
//!
//! The plan is made anew each time from the committed members and from who lives, and from nothing
//! else, so any later leader goes on where this one stopped, and it does not matter which of the
//! changes was lost: raft-rs turns a change that is proposed too early into an empty entry without
//! a word.

use std::collections::BTreeMap;

use crate::types::{ClusterId, NodeId, NodeState, NodeStatus, RaftId};

/// Ticks between two rounds of questions of a leader.
const PROBE_TICKS: u64 = 5;
/// Ticks for which what a node said of itself is believed.
const BELIEVED_TICKS: u64 = 20;
/// Ticks between two attempts of a leader that is no member to hand leadership over. Longer than an
/// attempt lasts, because nobody is served meanwhile.
const HAND_OVER_TICKS: u64 = 15;

/// One step towards the processes that are meant to take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new process is to receive the log.
    AddLearner(RaftId),
    /// A new process that has caught up is to vote.
    Promote(RaftId),
    /// A process is to be forgotten.
    Remove(RaftId),
}

/// The processes that take part, and how the leader sees them.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// Raft ids of the voters, and whether each was heard of lately.
    pub(super) voters: BTreeMap<RaftId, bool>,
    /// Raft ids of the learners, and whether each has caught up.
    pub(super) learners: BTreeMap<RaftId, bool>,
}

/// Who lives at the members' addresses, as a leader has lately heard.
#[derive(Debug)]
pub(super) struct Reconciler {
    me: RaftId,
    now: u64,
    probe_at: u64,
    hand_over_at: u64,
    living: BTreeMap<NodeId, (NodeStatus, u64)>,
}

impl Reconciler {
    /// A reconciler of the process `me`.
    pub(super) fn new(me: RaftId) -> Self {
        Self {
            me,
            now: 0,
            probe_at: 0,
            hand_over_at: 0,
            living: BTreeMap::new(),
        }
    }

    /// One tick has passed; whom of the nodes that are `meant` to take part to ask who they are.
    pub(super) fn tick(&mut self, leads: bool, meant: &[NodeId]) -> Vec<NodeId> {
        self.now += 1;
        self.living.retain(|node, _| meant.contains(node));
        if !leads || self.probe_at > self.now {
            return Vec::new();
        }
        self.probe_at = self.now + PROBE_TICKS;
        let others = meant.iter().filter(|&&node| node != self.me.node_id());
        others.copied().collect()
    }

    /// A node has said who it is.
    pub(super) fn heard(&mut self, node: NodeId, status: &NodeStatus) {
        if status.raft_id.node_id() == node {
            self.living.insert(node, (status.clone(), self.now));
        }
    }

    /// Whether a leader that is no member may try to hand leadership over now.
    pub(super) fn may_hand_over(&self) -> bool {
        self.hand_over_at <= self.now
    }

    /// It has begun to.
    pub(super) fn handing_over(&mut self) {
        self.hand_over_at = self.now + HAND_OVER_TICKS;
    }

    /// What the life that answers at `node` has lately said of itself.
    fn living(&self, node: NodeId) -> Option<&NodeStatus> {
        let (status, at) = self.living.get(&node)?;
        (self.now - at <= BELIEVED_TICKS).then_some(status)
    }

    /// The next step, if there is one to take. For a leader that has applied an entry of its own
    /// term and has no change under way. `meant` are the nodes that are meant to take part, this one
    /// among them.
    pub(super) fn plan(
        &self,
        cluster_id: ClusterId,
        meant: &[NodeId],
        members: &Members,
    ) -> Option<Change> {
        let outsider = |id: &RaftId| !meant.contains(&id.node_id());
        let mut outsiders = members.voters.keys().copied().filter(outsider);
        self.forget_learner(meant, members)
            .or_else(|| outsiders.find_map(|voter| self.remove(voter, members)))
            .or_else(|| {
                let mut meant = meant.iter().copied();
                meant.find_map(|node| self.replace(node, cluster_id, members))
            })
    }

    /// A learner does not vote: nothing depends on it.
    fn forget_learner(&self, meant: &[NodeId], members: &Members) -> Option<Change> {
        let superfluous = |id: RaftId| {
            let living = self.living(id.node_id());
            !meant.contains(&id.node_id()) || living.is_some_and(|living| living.raft_id != id)
        };
        let mut learners = members.learners.keys().copied();
        learners.find(|&id| superfluous(id)).map(Change::Remove)
    }

    /// The removal of a voter, unless it is this process, or those that would be left could decide
    /// nothing.
    fn remove(&self, voter: RaftId, members: &Members) -> Option<Change> {
        let left = members.voters.iter().filter(|(id, _)| **id != voter);
        let (all, live) = left.fold((0, 0), |(all, live), (id, active)| {
            (all + 1, live + usize::from(*active || *id == self.me))
        });
        (voter != self.me && live > all / 2).then_some(Change::Remove(voter))
    }

    fn replace(&self, node: NodeId, cluster_id: ClusterId, members: &Members) -> Option<Change> {
        let living = self.living(node)?;
        let id = living.raft_id;
        if members.voters.contains_key(&id) {
            return None;
        }
        match members.learners.get(&id) {
            None => may_join(living, cluster_id).then_some(Change::AddLearner(id)),
            Some(false) => None,
            Some(true) => {
                let mut voters = members.voters.keys();
                match voters.find(|voter| voter.node_id() == node) {
                    Some(&lost) => self.remove(lost, members),
                    None => Some(Change::Promote(id)),
                }
            }
        }
    }
}

/// Whoever belongs to nothing may, and whoever belongs to this cluster although it does not take
/// part: late news of its former life had it removed while it was joining, or its node was no member
/// for a while.
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

    fn nodes(ids: &[u16]) -> Vec<NodeId> {
        let node = |&id| NodeId::new(id).expect("a node id");
        ids.iter().map(node).collect()
    }

    /// The leader is the first life of node 1; it has heard `statuses`.
    fn leader(statuses: &[NodeStatus]) -> Reconciler {
        let mut reconciler = Reconciler::new(life(1, 1));
        for status in statuses {
            reconciler.heard(status.raft_id.node_id(), status);
        }
        reconciler
    }

    /// All voters are active.
    fn members(voters: &[RaftId], learners: &[(RaftId, bool)]) -> Members {
        Members {
            voters: voters.iter().map(|&voter| (voter, true)).collect(),
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
            leader.plan(CLUSTER, &nodes(&[1, 2, 3]), &members(voters, learners))
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
            leader.plan(CLUSTER, &nodes(&[1, 2, 3]), &members),
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
            assert_eq!(
                leader(&[started(two), other]).plan(CLUSTER, &nodes(&[1, 2, 3]), &members),
                None
            );
        }
        assert_eq!(
            leader(&[started(two)]).plan(CLUSTER, &nodes(&[1, 2, 3]), &members),
            None
        );
        // One of ours that late news of its former life had removed may come back.
        let back =
            leader(&[started(two), started(again)]).plan(CLUSTER, &nodes(&[1, 2, 3]), &members);
        assert_eq!(back, Some(Change::AddLearner(again)));
    }

    #[test]
    fn what_was_heard_long_ago_or_of_another_node_is_not_believed() {
        let (one, two, three, again) = (life(1, 1), life(2, 1), life(3, 1), life(3, 2));
        let members = members(&[one, two, three], &[]);
        let mut leader = leader(&[fresh(again)]);
        leader.heard(two.node_id(), &fresh(life(3, 9)));
        assert_eq!(
            leader.plan(CLUSTER, &nodes(&[1, 2, 3]), &members),
            Some(Change::AddLearner(again))
        );
        for _ in 0..=BELIEVED_TICKS {
            leader.tick(true, &nodes(&[1, 2, 3]));
        }
        assert_eq!(leader.plan(CLUSTER, &nodes(&[1, 2, 3]), &members), None);
    }

    #[test]
    fn only_a_leader_asks_and_not_at_every_tick() {
        let mut reconciler = leader(&[]);
        let meant = nodes(&[1, 2, 3]);
        assert!(reconciler.tick(false, &meant).is_empty());
        let asked: usize = (0..2 * PROBE_TICKS)
            .map(|_| reconciler.tick(true, &meant).len())
            .sum();
        assert_eq!(asked, 4, "two others, twice");
    }

    #[test]
    fn a_new_member_gets_a_voter_and_a_former_one_loses_it() {
        let (one, two, three, four) = (life(1, 1), life(2, 1), life(3, 1), life(4, 1));
        let mut leader = leader(&[started(two), started(three), fresh(four)]);
        let asked = leader.tick(true, &nodes(&[1, 2, 3, 4]));
        assert_eq!(asked, nodes(&[2, 3, 4]));
        let plan = |meant: &[u16], voters: &[RaftId], learners: &[(RaftId, bool)]| {
            leader.plan(CLUSTER, &nodes(meant), &members(voters, learners))
        };
        let three_voters = [one, two, three];
        let add = Some(Change::AddLearner(four));
        assert_eq!(plan(&[1, 2, 3, 4], &three_voters, &[]), add);
        let promote = Some(Change::Promote(four));
        assert_eq!(plan(&[1, 2, 3, 4], &three_voters, &[(four, true)]), promote);
        let all = [one, two, three, four];
        assert_eq!(plan(&[1, 2, 3, 4], &all, &[]), None, "well");

        assert_eq!(plan(&[1, 2, 3], &all, &[]), Some(Change::Remove(four)));
        let forget = Some(Change::Remove(four));
        assert_eq!(
            plan(&[1, 2, 3], &three_voters, &[(four, false)]),
            forget,
            "it was on its way in"
        );
        assert_eq!(
            plan(&[1, 2, 3], &three_voters, &[]),
            None,
            "nobody asks it in"
        );
    }

    #[test]
    fn no_voter_is_removed_unless_most_of_the_others_live() {
        let (one, two, three, four) = (life(1, 1), life(2, 1), life(3, 1), life(4, 1));
        let leader = leader(&[]);
        let plan = |voters: &[(RaftId, bool)]| {
            let members = Members {
                voters: voters.iter().copied().collect(),
                learners: BTreeMap::new(),
            };
            leader.plan(CLUSTER, &nodes(&[1, 2, 3]), &members)
        };
        // Of three that are left two live, the leader among them.
        let most = [(one, false), (two, true), (three, false), (four, true)];
        assert_eq!(plan(&most), Some(Change::Remove(four)));
        let dead = [(one, false), (two, true), (three, true), (four, false)];
        assert_eq!(plan(&dead), Some(Change::Remove(four)));
        let few = [(one, false), (two, false), (three, false), (four, true)];
        assert_eq!(plan(&few), None);
    }

    #[test]
    fn a_lost_life_stays_until_most_of_the_others_live() {
        let (one, two, three, again) = (life(1, 1), life(2, 1), life(3, 1), life(3, 2));
        let leader = leader(&[fresh(again)]);
        let mut members = members(&[one, two, three], &[(again, true)]);
        members.voters.insert(two, false);
        assert_eq!(leader.plan(CLUSTER, &nodes(&[1, 2, 3]), &members), None);
    }

    #[test]
    fn a_leader_never_removes_itself() {
        let (one, two, three) = (life(1, 1), life(2, 1), life(3, 1));
        let mut leader = leader(&[started(two), started(three)]);
        let members = members(&[one, two, three], &[]);
        assert_eq!(leader.plan(CLUSTER, &nodes(&[2, 3]), &members), None);
        // It tries to hand over, and not at every tick.
        let attempts = (0..2 * HAND_OVER_TICKS).filter(|_| {
            leader.tick(true, &nodes(&[2, 3]));
            let may = leader.may_hand_over();
            if may {
                leader.handing_over();
            }
            may
        });
        assert_eq!(attempts.count(), 2);
    }

    #[test]
    fn a_process_that_was_removed_and_lives_on_may_come_back() {
        let (one, two, three, four) = (life(1, 1), life(2, 1), life(3, 1), life(4, 1));
        let leader = leader(&[started(four)]);
        let members = members(&[one, two, three], &[]);
        let plan = leader.plan(CLUSTER, &nodes(&[1, 2, 3, 4]), &members);
        assert_eq!(plan, Some(Change::AddLearner(four)));
    }
}
