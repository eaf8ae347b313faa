//! How the leader brings the Raft group in line with the desired members.
//!
//! The members of the cluster are nodes, and are part of the replicated state: operators decide about
//! them. Raft consists of processes, each of which is a Raft server of its own. The leader brings the
//! processes in line with the members through ordinary conf changes, one at a time:
//!
//! * a member without a voter gets one: the leader adds the process that answers at its address as a
//!   learner, waits until it has caught up, and promotes it;
//! * a member that was started again has forgotten everything and is a new process. The leader does the
//!   same, and removes the lost voter before it promotes the new one. Because the lost one is dead, the
//!   quorum is the same before and after its removal, so this needs no joint configuration;
//! * a process whose node is no longer a member is removed. The leader does not remove itself: it
//!   transfers leadership to a member, and that one removes it.
//!
//! No process is replaced while two processes answer in turn as one node: each would count as the next
//! incarnation of the other, for ever.
//!
//! The voters are not changed unless most of the voters after the change are alive: otherwise they could
//! decide nothing, and the change could not be undone. Raft's own traffic does not show this: a message
//! heard within an election timeout may have come from a process that has died since. So whenever such a
//! change is planned, all future voters are asked for their status. Only an answer to that question
//! counts, only from the same process, and not for long.
//!
//! The plan is made anew each time, only from the committed members and from the running processes. So
//! any later leader continues where this one stopped, and it does not matter which of the changes was
//! lost: raft-rs silently turns a change that is proposed too early into an empty entry.

use std::collections::{BTreeMap, BTreeSet};

use super::doubles::Doubles;
use crate::types::{ClusterId, NodeId, NodeState, NodeStatus, ProtocolLevel, RaftId, WallTime};

/// Ticks between two rounds of questions of a leader.
const PROBE_TICKS: u64 = 5;
/// Ticks for which the status of a node is believed.
const BELIEVED_TICKS: u64 = 20;
/// Ticks between two rounds of questions while a change of the voters is planned.
const CENSUS_TICKS: u64 = 2;
/// Ticks for which an answer shows that its process is alive, while a change of the voters is planned. One
/// round of questions and a little more, so that a process that answers each round counts all the time.
const ALIVE_TICKS: u64 = 3;
/// Election timeouts between two attempts of a leader that is no member to transfer leadership. An
/// attempt lasts one election timeout, and no request is served meanwhile.
const HAND_OVER_TIMEOUTS: u64 = 3;

/// One step towards the desired members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Adds a new process as a learner.
    AddLearner(RaftId),
    /// Promotes a new process that has caught up to a voter.
    Promote(RaftId),
    /// Removes a process from the Raft group.
    Remove(RaftId),
}

/// The processes that take part, as the leader sees them.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// Raft ids of the voters, and whether each holds the entries that the others need to go on.
    pub(super) voters: BTreeMap<RaftId, bool>,
    /// Raft ids of the learners, and whether each has caught up.
    pub(super) learners: BTreeMap<RaftId, bool>,
}

/// The processes that run at the members' addresses, as a leader has recently heard.
#[derive(Debug)]
pub(super) struct Reconciler {
    me: RaftId,
    now: u64,
    probe_at: u64,
    transfer_at: u64,
    living: BTreeMap<NodeId, (NodeStatus, u64)>,
    /// Present while a change of the voters is planned.
    census: Option<Census>,
    doubles: Doubles,
    /// Processes that do not speak the level of the cluster and have been reported in an event.
    too_old: BTreeSet<RaftId>,
}

/// The future voters that have answered since a change of the voters was planned.
#[derive(Debug, Default)]
struct Census {
    /// When it began. An answer to an earlier question does not count.
    since: u64,
    /// The nodes to ask, and when.
    of: BTreeSet<NodeId>,
    ask_at: u64,
    /// The cluster in which each process takes part, and when it said so.
    answered: BTreeMap<RaftId, (Option<ClusterId>, u64)>,
}

impl Reconciler {
    /// A reconciler of the process `me`.
    pub(super) fn new(me: RaftId) -> Self {
        Self {
            me,
            now: 0,
            probe_at: 0,
            transfer_at: 0,
            living: BTreeMap::new(),
            census: None,
            doubles: Doubles::default(),
            too_old: BTreeSet::new(),
        }
    }

    /// Counts one tick. Returns those of the desired members `desired` to ask for their status.
    pub(super) fn tick(&mut self, leads: bool, desired: &[NodeId]) -> Vec<NodeId> {
        self.now += 1;
        self.living.retain(|node, _| desired.contains(node));
        self.doubles.retain(desired);
        if !leads {
            self.census = None;
            self.doubles = Doubles::default();
            self.too_old.clear();
        }
        if !leads || self.probe_at > self.now {
            return Vec::new();
        }
        self.probe_at = self.now + PROBE_TICKS;
        let others = desired.iter().filter(|&&node| node != self.me.node_id());
        others.copied().collect()
    }

    /// Records the status of a node, asked `age` ticks ago.
    pub(super) fn heard(&mut self, node: NodeId, status: &NodeStatus, age: u64) {
        if status.raft_id.node_id() != node {
            return;
        }
        let asked_at = self.now.saturating_sub(age);
        self.living.insert(node, (status.clone(), self.now));
        if let Some(census) = &mut self.census {
            // The answer of another incarnation means that this one has ended.
            census.answered.retain(|id, _| id.node_id() != node);
            if asked_at >= census.since {
                let said = (status.cluster_id, self.now);
                census.answered.insert(status.raft_id, said);
            }
        }
    }

    /// Records that the process `id` has answered this leader, or asked it. Returns the two processes of
    /// its node, if this shows for the first time that it has two.
    pub(super) fn doubled(&mut self, id: RaftId) -> Option<[RaftId; 2]> {
        let shown = self.doubles.heard(id, self.now);
        self.doubles.of(id.node_id(), self.now).filter(|_| shown)
    }

    /// Records that the process `id`, which takes no part, has asked this leader. Returns whether it
    /// surely runs.
    pub(super) fn goes_on_asking(&mut self, id: RaftId) -> bool {
        self.doubles.asked(id, self.now)
    }

    /// The processes of nodes that have two, as a leader has heard.
    pub(super) fn doubles(&self) -> Vec<[RaftId; 2]> {
        self.doubles.all(self.now)
    }

    /// Records that a process has answered the leader of a cluster of `level`. Returns whether this shows
    /// for the first time that it is too old to be added.
    pub(super) fn shows_old(&mut self, status: &NodeStatus, level: ProtocolLevel) -> bool {
        self.too_old
            .retain(|id| id.node_id() != status.raft_id.node_id() || *id == status.raft_id);
        status.level < level && self.too_old.insert(status.raft_id)
    }

    /// A member whose process has recently reported a lower level than `level`.
    pub(super) fn speaks_less(&self, level: ProtocolLevel) -> Option<NodeId> {
        let living = self.living.keys().filter_map(|node| self.living(*node));
        let mut older = living.filter(|status| status.level < level);
        older.next().map(|status| status.raft_id.node_id())
    }

    /// The level to which a cluster of `level` can be raised: the lowest that this process, which speaks
    /// `own`, and all others speak. `None` unless there is exactly one voter for each of the desired
    /// members `desired`, and no learner, and each has recently reported its level.
    pub(super) fn raise(
        &self,
        cluster_id: ClusterId,
        (own, level): (ProtocolLevel, ProtocolLevel),
        desired: &[NodeId],
        members: &Members,
    ) -> Option<ProtocolLevel> {
        let voters = || members.voters.keys();
        let whole = members.learners.is_empty()
            && voters().map(|id| id.node_id()).eq(desired.iter().copied());
        let speaks = |id: &RaftId| match *id == self.me {
            true => Some(own),
            false => self
                .living(id.node_id())
                .filter(|it| it.raft_id == *id && it.cluster_id == Some(cluster_id))
                .map(|it| it.level),
        };
        // A missing report counts as lowest.
        let lowest = voters().map(speaks).min().flatten();
        lowest.filter(|lowest| whole && *lowest > level)
    }

    /// The nodes whose clocks differ from `own` by more than an hour, or are not credible. None if `own` is
    /// not credible.
    pub(super) fn differing_clocks(&self, own: Option<WallTime>) -> Vec<NodeId> {
        let Some(own) = own else {
            return Vec::new();
        };
        let living = self.living.keys().filter_map(|node| self.living(*node));
        let differing = living.filter(|it| !it.time.is_some_and(|time| time.agrees_with(own)));
        differing.map(|it| it.raft_id.node_id()).collect()
    }

    /// Notes that messages to `peer` do not arrive: it does not count as alive until it answers again.
    pub(super) fn unreachable(&mut self, peer: RaftId) {
        let node = peer.node_id();
        self.living
            .retain(|other, (status, _)| *other != node || status.raft_id != peer);
        if let Some(census) = &mut self.census {
            census.answered.remove(&peer);
        }
    }

    /// The nodes to ask for their status at once, because a change of the voters is planned.
    pub(super) fn questions(&mut self) -> BTreeSet<NodeId> {
        let now = self.now;
        match &mut self.census {
            Some(census) if census.ask_at <= now => {
                census.ask_at = now + CENSUS_TICKS;
                census.of.clone()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Whether a leader that is no member may try to transfer leadership now.
    pub(super) fn may_transfer(&self) -> bool {
        self.transfer_at <= self.now
    }

    /// Notes that it has begun to. An attempt lasts `election_ticks`.
    pub(super) fn handing_over(&mut self, election_ticks: usize) {
        let timeout = u64::try_from(election_ticks).unwrap_or(u64::MAX);
        let pause = timeout.saturating_mul(HAND_OVER_TIMEOUTS);
        self.transfer_at = self.now.saturating_add(pause);
    }

    /// The recent status of the process at `node`.
    fn living(&self, node: NodeId) -> Option<&NodeStatus> {
        let (status, at) = self.living.get(&node)?;
        (self.now - at <= BELIEVED_TICKS).then_some(status)
    }

    /// The next step, if there is one to take, for a leader that has applied an entry of its own term and
    /// has no change under way. It leads the given cluster of the given level. `desired` are the desired
    /// members, including this node. Afterwards there may be [`questions`](Self::questions) to ask.
    pub(super) fn plan(
        &mut self,
        (cluster_id, level): (ClusterId, ProtocolLevel),
        desired: &[NodeId],
        members: &Members,
    ) -> Option<Change> {
        let wanted = self.wanted((cluster_id, level), desired, members);
        if wanted.iter().any(|change| change.is_of_voters(members)) {
            let of = members.voters.keys().chain(members.learners.keys());
            let of = of.filter(|id| **id != self.me).map(|id| id.node_id());
            let begun = || Census {
                since: self.now,
                ..Census::default()
            };
            self.census.get_or_insert_with(begun).of = of.collect();
        } else {
            self.census = None;
        }
        let change = wanted.into_iter().find(|change| {
            !change.is_of_voters(members) || self.most_live(*change, cluster_id, members)
        })?;
        if change.is_of_voters(members) {
            // The next change needs a new check of the running processes.
            self.census = None;
        }
        Some(change)
    }

    /// The desired steps, the most urgent first.
    fn wanted(
        &self,
        cluster: (ClusterId, ProtocolLevel),
        desired: &[NodeId],
        members: &Members,
    ) -> Vec<Change> {
        let superfluous = |id: &RaftId| {
            let living = self.living(id.node_id());
            !desired.contains(&id.node_id()) || living.is_some_and(|living| living.raft_id != *id)
        };
        let leaves = |id: &RaftId| *id != self.me && !desired.contains(&id.node_id());
        let learners = members.learners.keys().copied().filter(superfluous);
        let voters = members.voters.keys().copied().filter(leaves);
        let removals = learners.chain(voters).map(Change::Remove);
        let replacements = desired
            .iter()
            .filter_map(|node| self.replace(*node, cluster, members));
        removals.chain(replacements).collect()
    }

    fn replace(
        &self,
        node: NodeId,
        (cluster_id, level): (ClusterId, ProtocolLevel),
        members: &Members,
    ) -> Option<Change> {
        let living = self.living(node)?;
        let id = living.raft_id;
        let has_two = self.doubles.of(node, self.now).is_some();
        if members.voters.contains_key(&id) || has_two {
            return None;
        }
        match members.learners.get(&id) {
            None => {
                let may = living.level >= level && may_join(living, cluster_id);
                may.then_some(Change::AddLearner(id))
            }
            Some(false) => None,
            Some(true) => {
                let mut voters = members.voters.keys();
                match voters.find(|voter| voter.node_id() == node) {
                    Some(&lost) => (lost != self.me).then_some(Change::Remove(lost)),
                    None => Some(Change::Promote(id)),
                }
            }
        }
    }

    /// Whether more than half of the voters after `change` are alive, and hold the entries that the
    /// others need to go on.
    fn most_live(&self, change: Change, cluster_id: ClusterId, members: &Members) -> bool {
        let mut after = members.voters.clone();
        match change {
            Change::Promote(id) => after.insert(id, true),
            Change::Remove(id) => after.remove(&id),
            Change::AddLearner(_) => None,
        };
        let counts = |(id, able): &(&RaftId, &bool)| {
            **id == self.me || (**able && self.is_alive(**id, cluster_id))
        };
        after.iter().filter(counts).count() > after.len() / 2
    }

    /// Whether the process itself has recently answered the current questions.
    fn is_alive(&self, id: RaftId, cluster_id: ClusterId) -> bool {
        let answered = self.census.as_ref().and_then(|it| it.answered.get(&id));
        answered.is_some_and(|(cluster, at)| {
            *cluster == Some(cluster_id) && self.now - at <= ALIVE_TICKS
        })
    }
}

impl Change {
    /// Whether it changes the voters.
    fn is_of_voters(&self, members: &Members) -> bool {
        match self {
            Self::AddLearner(_) => false,
            Self::Promote(_) => true,
            Self::Remove(id) => members.voters.contains_key(id),
        }
    }
}

/// Whether a process may be added. One without a cluster may. One of this cluster that does not take part
/// may as well: late news of its earlier incarnation had it removed while it was joining, or its node was
/// no member for a while.
fn may_join(living: &NodeStatus, cluster_id: ClusterId) -> bool {
    match living.state {
        NodeState::Fresh | NodeState::Outside => true,
        NodeState::Prepared => false,
        NodeState::Started => living.cluster_id == Some(cluster_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);
    const OURS: (ClusterId, ProtocolLevel) = (CLUSTER, ProtocolLevel::FIRST);

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn raft_id_of(id: u16, incarnation: u64) -> RaftId {
        RaftId::new(node(id), incarnation)
    }

    fn status(raft_id: RaftId, state: NodeState, cluster_id: Option<ClusterId>) -> NodeStatus {
        NodeStatus {
            state,
            cluster_id,
            ..NodeStatus::fresh(raft_id)
        }
    }

    fn nodes(ids: &[u16]) -> Vec<NodeId> {
        ids.iter().copied().map(node).collect()
    }

    /// The leader is the first incarnation of node 1, and has heard `statuses`.
    fn leader(statuses: &[NodeStatus]) -> Reconciler {
        let mut reconciler = Reconciler::new(raft_id_of(1, 1));
        for status in statuses {
            reconciler.heard(status.raft_id.node_id(), status, 0);
        }
        reconciler
    }

    /// The plan, after the asked nodes have given the same answers as before.
    fn plan(leader: &mut Reconciler, desired: &[u16], members: &Members) -> Option<Change> {
        let at_once = leader.plan(OURS, &nodes(desired), members);
        at_once.or_else(|| {
            let asked = leader.questions();
            let statuses: Vec<_> = leader.living.values().cloned().collect();
            for (status, _) in statuses {
                let node = status.raft_id.node_id();
                if asked.contains(&node) {
                    leader.heard(node, &status, 0);
                }
            }
            leader.plan(OURS, &nodes(desired), members)
        })
    }

    /// All voters hold the entries that the others need.
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
    fn a_lost_incarnation_is_replaced_step_by_step() {
        let (one, two, three, again) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(3, 2),
        );
        let mut leader = leader(&[started(two), fresh(again)]);
        let mut plan = |voters: &[RaftId], learners: &[(RaftId, bool)]| {
            plan(&mut leader, &[1, 2, 3], &members(voters, learners))
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
    fn an_incarnation_that_ended_before_it_was_promoted_is_forgotten_first() {
        let (one, two, three) = (raft_id_of(1, 1), raft_id_of(2, 1), raft_id_of(3, 1));
        let mut leader = leader(&[started(two), fresh(raft_id_of(3, 3))]);
        let members = members(&[one, two, three], &[(raft_id_of(3, 2), true)]);
        assert_eq!(
            plan(&mut leader, &[1, 2, 3], &members),
            Some(Change::Remove(raft_id_of(3, 2)))
        );
    }

    #[test]
    fn a_silent_process_or_one_of_another_cluster_is_not_added() {
        let (one, two, three, again) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(3, 2),
        );
        let members = members(&[one, two, three], &[]);
        for other in [
            status(again, NodeState::Started, Some(ClusterId(8))),
            status(again, NodeState::Prepared, Some(CLUSTER)),
        ] {
            let mut leader = leader(&[started(two), other]);
            assert_eq!(plan(&mut leader, &[1, 2, 3], &members), None);
        }
        let mut silent = leader(&[started(two)]);
        assert_eq!(plan(&mut silent, &[1, 2, 3], &members), None);
        // A process of this cluster that late news of its earlier incarnation had removed may come back.
        let mut back = leader(&[started(two), started(again)]);
        let back = plan(&mut back, &[1, 2, 3], &members);
        assert_eq!(back, Some(Change::AddLearner(again)));
    }

    #[test]
    fn an_old_status_or_one_of_another_node_does_not_count() {
        let (one, two, three, again) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(3, 2),
        );
        let members = members(&[one, two, three], &[]);
        let mut leader = leader(&[fresh(again)]);
        leader.heard(two.node_id(), &fresh(raft_id_of(3, 9)), 0);
        assert_eq!(
            plan(&mut leader, &[1, 2, 3], &members),
            Some(Change::AddLearner(again))
        );
        for _ in 0..=BELIEVED_TICKS {
            leader.tick(true, &nodes(&[1, 2, 3]));
        }
        assert_eq!(plan(&mut leader, &[1, 2, 3], &members), None);
    }

    #[test]
    fn only_a_leader_asks_and_not_at_every_tick() {
        let mut reconciler = leader(&[]);
        let desired = nodes(&[1, 2, 3]);
        assert!(reconciler.tick(false, &desired).is_empty());
        let asked: usize = (0..2 * PROBE_TICKS)
            .map(|_| reconciler.tick(true, &desired).len())
            .sum();
        assert_eq!(asked, 4, "two others, twice");
    }

    #[test]
    fn a_new_member_gets_a_voter_and_a_former_one_loses_it() {
        let (one, two, three, four) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(4, 1),
        );
        let mut leader = leader(&[started(two), started(three), fresh(four)]);
        let asked = leader.tick(true, &nodes(&[1, 2, 3, 4]));
        assert_eq!(asked, nodes(&[2, 3, 4]));
        let mut plan = |desired: &[u16], voters: &[RaftId], learners: &[(RaftId, bool)]| {
            plan(&mut leader, desired, &members(voters, learners))
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
            "no operator has added it"
        );
    }

    /// The plan of a leader of voters 1 to 4, of which 4 is to be removed, after those in `alive` have
    /// answered. Those in `able` hold the entries that the others need.
    fn removal_of_four(alive: &[u16], able: &[u16]) -> Option<Change> {
        let mut leader = leader(&[]);
        let voters = (1..=4).map(|id| (raft_id_of(id, 1), able.contains(&id)));
        let members = Members {
            voters: voters.collect(),
            learners: BTreeMap::new(),
        };
        let desired = nodes(&[1, 2, 3]);
        // Answers from before the first question do not count.
        leader.heard(node(2), &started(raft_id_of(2, 1)), 0);
        leader.heard(node(3), &started(raft_id_of(3, 1)), 0);
        assert_eq!(leader.plan(OURS, &desired, &members), None);
        let asked: Vec<_> = leader.questions().into_iter().collect();
        assert_eq!(asked, nodes(&[2, 3, 4]));
        assert!(leader.questions().is_empty(), "once");
        for id in alive {
            leader.heard(node(*id), &started(raft_id_of(*id, 1)), 0);
        }
        leader.plan(OURS, &desired, &members)
    }

    #[test]
    fn no_voter_is_removed_unless_most_of_the_others_live() {
        let remove = Some(Change::Remove(raft_id_of(4, 1)));
        let all = [1, 2, 3, 4];
        // Two of the three remaining voters are alive, including the leader.
        assert_eq!(removal_of_four(&[2], &all), remove);
        assert_eq!(removal_of_four(&[2, 3], &all), remove);
        assert_eq!(removal_of_four(&[], &all), None);
        assert_eq!(removal_of_four(&[4], &all), None, "it will not vote");
        assert_eq!(removal_of_four(&[2], &[1, 3, 4]), None, "it is behind");
        assert_eq!(removal_of_four(&[2, 3], &[1, 3, 4]), remove);
    }

    #[test]
    fn no_process_is_promoted_unless_most_of_those_live_that_will_vote() {
        let (one, two, three, four) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(4, 1),
        );
        let members = members(&[one, two, three], &[(four, true)]);
        let mut leader = leader(&[started(two), started(four)]);
        let mut plan = || plan(&mut leader, &[1, 2, 3, 4], &members);
        assert_eq!(plan(), Some(Change::Promote(four)));
        // Two of four voters would be too few.
        leader.unreachable(two);
        let alone = self::plan(&mut leader, &[1, 2, 3, 4], &members);
        assert_eq!(alone, None);
    }

    #[test]
    fn an_answer_expires_soon() {
        let (one, two, four) = (raft_id_of(1, 1), raft_id_of(2, 1), raft_id_of(4, 1));
        let members = members(&[one, two, four], &[]);
        let planned = |after: &dyn Fn(&mut Reconciler)| {
            let mut leader = leader(&[]);
            let desired = nodes(&[1, 2]);
            assert_eq!(leader.plan(OURS, &desired, &members), None);
            leader.heard(node(2), &started(two), 0);
            after(&mut leader);
            leader.plan(OURS, &desired, &members).is_some()
        };
        let ticks = |n: u64| {
            move |leader: &mut Reconciler| {
                for _ in 0..n {
                    leader.tick(true, &nodes(&[1, 2]));
                }
            }
        };
        assert!(planned(&ticks(ALIVE_TICKS)));
        assert!(!planned(&ticks(ALIVE_TICKS + 1)));
        assert!(!planned(&|leader| leader.unreachable(two)));
        assert!(planned(&|leader| leader.unreachable(raft_id_of(2, 2))));
        let again = fresh(raft_id_of(2, 2));
        assert!(!planned(&|leader| {
            leader.heard(node(2), &again, 0);
            leader.living.clear();
        }));
        let elsewhere = status(two, NodeState::Started, Some(ClusterId(8)));
        assert!(!planned(&|leader| {
            leader.heard(node(2), &elsewhere, 0);
        }));
        assert!(!planned(&|leader| {
            leader.tick(false, &nodes(&[1, 2]));
        }));
    }

    #[test]
    fn while_a_change_of_the_voters_waits_all_are_asked_again_and_again() {
        let (one, two, four) = (raft_id_of(1, 1), raft_id_of(2, 1), raft_id_of(4, 1));
        let members = members(&[one, two, four], &[]);
        let mut leader = leader(&[]);
        let desired = nodes(&[1, 2]);
        let rounds = (0..10).filter(|_| {
            leader.tick(true, &desired);
            assert_eq!(leader.plan(OURS, &desired, &members), None);
            !leader.questions().is_empty()
        });
        assert_eq!(rounds.count(), 5);
        // A process that always answers is always believed.
        const { assert!(ALIVE_TICKS > CENSUS_TICKS) };
        // No change is pending any more.
        let well = super::tests::members(&[one, two], &[]);
        assert_eq!(leader.plan(OURS, &desired, &well), None);
        assert!(leader.questions().is_empty());
    }

    #[test]
    fn a_lost_incarnation_stays_until_most_of_the_others_live() {
        let (one, two, three, again) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(3, 2),
        );
        let members = members(&[one, two, three], &[(again, true)]);
        let mut leader = leader(&[fresh(again)]);
        assert_eq!(plan(&mut leader, &[1, 2, 3], &members), None);
    }

    /// Seen: 33 changes of the voters in 11 turns.
    #[test]
    fn no_process_is_replaced_while_two_answer_in_turn() {
        let (one, two, three, other) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(3, 2),
        );
        let members = members(&[one, two, three], &[]);
        let mut leader = leader(&[started(two)]);
        let mut changes = 0;
        for turn in 0..50 {
            let answering = if turn % 2 == 0 {
                fresh(other)
            } else {
                started(three)
            };
            leader.tick(true, &nodes(&[1, 2, 3]));
            leader.heard(node(3), &answering, 0);
            leader.doubled(answering.raft_id);
            let plan = leader.plan(OURS, &nodes(&[1, 2, 3]), &members);
            changes += u32::from(plan.is_some());
        }
        assert_eq!(leader.doubles(), [[three, other]]);
        assert!(changes <= 3, "{changes} changes");
    }

    #[test]
    fn a_leader_never_removes_itself() {
        let (one, two, three) = (raft_id_of(1, 1), raft_id_of(2, 1), raft_id_of(3, 1));
        let mut leader = leader(&[started(two), started(three)]);
        let members = members(&[one, two, three], &[]);
        assert_eq!(plan(&mut leader, &[2, 3], &members), None);
        // It tries to transfer leadership, but not at every tick.
        let attempts = (0..30).filter(|_| {
            leader.tick(true, &nodes(&[2, 3]));
            let may = leader.may_transfer();
            if may {
                leader.handing_over(5);
            }
            may
        });
        assert_eq!(attempts.count(), 2);
    }

    #[test]
    fn a_removed_process_that_still_runs_may_come_back() {
        let (one, two, three, four) = (
            raft_id_of(1, 1),
            raft_id_of(2, 1),
            raft_id_of(3, 1),
            raft_id_of(4, 1),
        );
        let mut leader = leader(&[started(four)]);
        let members = members(&[one, two, three], &[]);
        let plan = plan(&mut leader, &[1, 2, 3, 4], &members);
        assert_eq!(plan, Some(Change::AddLearner(four)));
    }
}
