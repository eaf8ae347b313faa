use std::collections::VecDeque;

use std::collections::BTreeMap;

use super::*;
use crate::error::Reason;
use crate::node::{CallId, RaftNode, RaftOptions, ReplicaOptions, Reply, StepError};
use crate::types::{ClusterId, ClusterMembership, NodeInfo, NodeState, Offer, Role, WallTime};
use crate::wire::PeerMessage;

fn node(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

fn raft_id_of(id: u16, incarnation: u64) -> RaftId {
    RaftId::new(node(id), incarnation)
}

fn membership(size: u16) -> ClusterMembership {
    let info = |id| NodeInfo {
        id: node(id),
        addr: format!("kvstore-{id}:7379"),
        client_addr: format!("kvstore-{id}:6379"),
    };
    (1..=size).map(info).collect()
}

fn fresh(id: u16, incarnation: u64, size: u16) -> Replica<()> {
    Replica::new(ReplicaOptions {
        raft_id: raft_id_of(id, incarnation),
        members: membership(size),
        remembered: ClusterMembership::default(),
        bootstrap: true,
        formation_wait_ticks: 0,
        time: Some(WallTime::FIRST),
        raft: RaftOptions::default(),
        seed: u64::from(id),
        logger: slog::Logger::root(slog::Discard, slog::o!()),
    })
}

/// A process that takes part in the cluster of the first incarnations, and has heard of no other process
/// since.
fn started(id: u16, size: u16) -> Replica<()> {
    let mut member = fresh(id, 1, size);
    let offer = Offer {
        cluster_id: CLUSTER,
        coordinator: raft_id_of(1, 1),
        members: (1..=size).map(|id| raft_id_of(id, 1)).collect(),
        membership: membership(size),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    let ReplicaOptions {
        raft_id,
        raft,
        seed,
        logger,
        ..
    } = &member.options;
    let raft = RaftNode::start(*raft_id, &offer, *raft, *seed, logger).expect("a server");
    member.formation.recovered(CLUSTER);
    member.raft = Some(raft);
    member
}

const CLUSTER: ClusterId = ClusterId(7);

/// A message between two processes.
#[derive(Debug, Clone)]
enum Packet {
    Call(CallId, Call),
    Reply(CallId, Reply),
}

/// Processes of one halted cluster. By default of five: 1 and 4 survive, and 2, 3 and 5 have lost their
/// memory.
struct World {
    size: u16,
    replicas: BTreeMap<NodeId, Replica<()>>,
    /// Packets in flight, by sender and receiver, in order.
    links: BTreeMap<(NodeId, NodeId), VecDeque<Packet>>,
    ended: BTreeMap<NodeId, Result<Recovery, Refusal>>,
}

const SIZE: u16 = 5;

impl World {
    fn new() -> Self {
        Self::of(SIZE, &[1, 4])
    }

    fn of(size: u16, survivors: &[u16]) -> Self {
        let members = (1..=size).map(|id| match survivors.contains(&id) {
            true => started(id, size),
            false => fresh(id, 2, size),
        });
        let mut world = Self {
            size,
            replicas: members.map(|it| (it.raft_id().node_id(), it)).collect(),
            links: BTreeMap::new(),
            ended: BTreeMap::new(),
        };
        world.settle();
        world.links.clear();
        world
    }

    fn member(&mut self, id: u16) -> &mut Replica<()> {
        self.replicas.get_mut(&node(id)).expect("it runs")
    }

    fn views(&self) -> BTreeMap<NodeId, NodeStatus> {
        let all = self.replicas.iter();
        all.map(|(id, member)| (*id, member.status())).collect()
    }

    /// Puts all output in flight, except the questions of formation.
    fn settle(&mut self) {
        let mut sent = Vec::new();
        for (id, member) in &mut self.replicas {
            let output = member.output().expect("no broken invariant");
            if let Some(ended) = member.take_recovered() {
                self.ended.insert(*id, ended);
            }
            let started = member.raft().is_some();
            let calls = output.calls.into_iter().filter(|_| started);
            sent.extend(
                calls.map(|(call_id, call)| ((*id, call_id.to), Packet::Call(call_id, call))),
            );
        }
        for (link, packet) in sent {
            self.links.entry(link).or_default().push_back(packet);
        }
    }

    /// The packets that may arrive next: the first of each link.
    fn due(&self) -> Vec<(NodeId, NodeId)> {
        let links = self.links.iter().filter(|(_, packets)| !packets.is_empty());
        links.map(|(link, _)| *link).collect()
    }

    fn deliver(&mut self, link: (NodeId, NodeId)) {
        let (from, to) = link;
        let packet = self.links.get_mut(&link).and_then(VecDeque::pop_front);
        let (Some(packet), Some(member)) = (packet, self.replicas.get_mut(&to)) else {
            return;
        };
        let reply = match packet {
            Packet::Call(id, Call::Identify(_)) => {
                Some((id, Reply::Identified(Box::new(member.status()))))
            }
            Packet::Call(id, Call::Yield { to, .. }) if to != member.raft_id() => {
                Some((id, Reply::Failed))
            }
            Packet::Call(id, Call::Yield { claim, .. }) => {
                let answer = member.yield_to(&claim);
                let attempt = claim.attempt;
                Some((id, Reply::Yielded { attempt, answer }))
            }
            Packet::Call(_, call) => panic!("{call:?}"),
            Packet::Reply(id, reply) => {
                member.replied(id, reply);
                None
            }
        };
        if let Some((id, reply)) = reply {
            let back = self.links.entry((to, from)).or_default();
            back.push_back(Packet::Reply(id, reply));
        }
        self.settle();
    }

    /// Delivers all packets in flight, and those that result.
    fn deliver_all(&mut self) {
        while let Some(link) = self.due().first().copied() {
            self.deliver(link);
        }
    }

    fn tick(&mut self, id: u16) {
        self.member(id).tick();
        self.settle();
    }

    /// An operator, who has seen `views` of the others, orders node `id` to recover.
    fn order(&mut self, id: u16, views: BTreeMap<NodeId, NodeStatus>) -> Result<(), Refusal> {
        let begun = self.member(id).recover(Order::new(CLUSTER), views);
        self.settle();
        begun
    }

    fn clusters(&self) -> BTreeSet<ClusterId> {
        let recovered = self.replicas.values().filter_map(|member| {
            let status = member.status();
            let new = status.cluster_id.filter(|id| *id != CLUSTER);
            new.filter(|_| status.state == NodeState::Started)
        });
        recovered.collect()
    }

    /// Starts another incarnation of a node.
    fn restart(&mut self, id: u16, incarnation: u64) {
        self.replicas
            .insert(node(id), fresh(id, incarnation, self.size));
    }
}

fn rule(refusal: &Refusal) -> &str {
    match &refusal.reason {
        Reason::FailedPrecondition { rule } => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_others_yield_before_one_recovers() {
    let mut world = World::new();
    let views = world.views();
    // Equal logs: the greater raft id goes first.
    let refused = world.order(1, views.clone()).unwrap_err();
    assert!(
        rule(&refused).ends_with("seshat recover --from 4"),
        "{refused}"
    );
    world.order(4, views).unwrap();
    assert!(world.clusters().is_empty(), "nothing has happened yet");
    assert!(world.member(4).status().recovery.under_way);
    world.deliver_all();
    let recovery = world
        .ended
        .remove(&node(4))
        .expect("an end")
        .expect("a new cluster");
    assert_eq!(world.clusters(), recovery.new.into_iter().collect());
    assert_eq!(recovery.others.len(), 1);
    assert_eq!(world.member(4).status().role, Some(Role::Leader));

    // The other one is left over for good: it hears that there is another cluster now.
    for _ in 0..100 {
        world.tick(1);
        world.deliver_all();
    }
    assert_eq!(
        world.member(1).status().role,
        Some(Role::Follower),
        "it never stood"
    );
    let views = world.views();
    let refused = world.order(1, views).unwrap_err();
    assert!(
        rule(&refused).starts_with("node 4 takes part in cluster"),
        "{refused}"
    );
}

/// Operators order both survivors to recover. Each operator saw that theirs has most: each saw the other
/// survivor before that had received its last entries.
fn two_orders(world: &mut World) {
    for id in [1, 4] {
        let mut views = world.views();
        let other = node(if id == 1 { 4 } else { 1 });
        let outdated = views.get_mut(&other).expect("it answers");
        outdated.last_term = 0;
        outdated.last_index = 1;
        outdated.recovery = RecoveryAttempt::default();
        world.order(id, views).unwrap();
    }
}

/// Every order in which the questions and answers of two recoveries can arrive, each lost or not.
fn explore(world: &dyn Fn() -> World, path: &[usize], ends: &mut Vec<usize>) {
    let mut at = world();
    for choice in path {
        let due = at.due();
        // Twice as many choices as links: the packet arrives, or it is lost.
        let link = due[choice / 2];
        if choice % 2 == 0 {
            at.deliver(link);
        } else {
            at.links.get_mut(&link).expect("a link").pop_front();
        }
        assert!(at.clusters().len() < 2, "{path:?}: {:?}", at.clusters());
    }
    let choices = 2 * at.due().len();
    if choices == 0 {
        // Without a loss, the greater one succeeds at once.
        let complete = path.iter().all(|choice| choice % 2 == 0);
        assert!(!complete || at.clusters().len() == 1, "{path:?}");
        ends.push(at.clusters().len());
        at = after(at, path);
        assert_eq!(at.clusters().len(), 1, "{path:?}: a retry succeeds");
    }
    for choice in 0..choices {
        explore(world, &[path, &[choice]].concat(), ends);
    }
}

/// Time passes, so that attempts with lost packets are given up, and an operator tries again.
fn after(mut world: World, path: &[usize]) -> World {
    for _ in 0..2 * ATTEMPT_TICKS {
        for id in [1, 4] {
            world.tick(id);
        }
        world.deliver_all();
    }
    if world.clusters().is_empty() {
        for id in [1, 4] {
            if let Some(ended) = world.ended.get(&node(id)) {
                assert!(ended.is_err(), "{path:?}");
            }
            let attempt = world.member(id).status().recovery;
            assert!(!attempt.under_way, "{path:?}: each attempt ends");
            let frozen = world.member(id).claims.frozen_for(raft_id_of(9, 9));
            assert_eq!(frozen, None, "{path:?}: node {id} takes part again");
        }
        let views = world.views();
        world.order(4, views).unwrap();
        world.deliver_all();
    }
    world
}

#[test]
fn of_two_recoveries_at_once_at_most_one_succeeds_and_a_retry_does() {
    let both = || {
        let mut world = World::new();
        two_orders(&mut world);
        world
    };
    let mut ends = Vec::new();
    explore(&both, &[], &mut ends);
    assert!(ends.len() > 20, "{}", ends.len());
    assert!(ends.iter().all(|clusters| *clusters <= 1));
}

/// As above, but the second operator comes at any moment of the first recovery.
#[test]
fn a_second_recovery_may_begin_at_any_moment_of_the_first() {
    for delivered in 0..4 {
        let second = move || {
            let mut world = World::new();
            let (first, mut outdated) = (world.views(), world.views());
            world.order(4, first).unwrap();
            for _ in 0..delivered {
                if let Some(link) = world.due().first().copied() {
                    world.deliver(link);
                }
            }
            let four = outdated.get_mut(&node(4)).expect("it answers");
            (four.last_term, four.last_index) = (0, 1);
            // Refused at once if node 1 has yielded already.
            let _ = world.order(1, outdated);
            world
        };
        let mut ends = Vec::new();
        explore(&second, &[], &mut ends);
        assert!(ends.iter().all(|clusters| *clusters <= 1), "{delivered}");
    }
}

#[test]
fn a_survivor_that_has_yielded_takes_no_part_until_the_claimant_is_gone() {
    let mut world = World::new();
    let views = world.views();
    world.order(4, views).unwrap();
    world.deliver((node(4), node(1)));
    // The claimant dies before it hears of that.
    world.links.clear();
    world.replicas.remove(&node(4));
    for _ in 0..200 {
        world.tick(1);
        world.links.clear();
    }
    let status = world.member(1).status();
    assert_eq!(
        (status.role, status.term),
        (Some(Role::Follower), 1),
        "it never stood"
    );
    let vote = PeerMessage::RequestVote(crate::proto::raft::RequestVoteRequest {
        term: 9,
        candidate_id: raft_id_of(2, 1).get(),
        last_log_index: 9,
        last_log_term: 9,
        cluster_id: CLUSTER.0,
        to: raft_id_of(1, 1).get(),
        ..Default::default()
    });
    let error = world.member(1).step(vote).unwrap_err();
    assert!(
        matches!(error, StepError::Frozen { claimant, .. } if claimant == raft_id_of(4, 1)),
        "{error}"
    );

    // As long as nothing answers there, the refusal names the next step.
    let views = world.views();
    let refused = world.order(1, views).unwrap_err();
    assert!(
        rule(&refused).starts_with("node 4 does not answer"),
        "{refused}"
    );
    assert!(rule(&refused).ends_with("--without 4"), "{refused}");

    // Another incarnation answers: the claim is void.
    world.restart(4, 2);
    for _ in 0..2 * ASK_TICKS {
        world.tick(1);
        world.deliver_all();
    }
    assert_eq!(world.member(1).claims.frozen_for(raft_id_of(1, 1)), None);
    let views = world.views();
    world.order(1, views).unwrap();
    assert_eq!(world.clusters().len(), 1);
}

#[test]
fn an_operator_may_state_that_the_claimant_is_gone() {
    let mut world = World::new();
    let views = world.views();
    world.order(4, views).unwrap();
    world.deliver((node(4), node(1)));
    world.links.clear();
    world.replicas.remove(&node(4));
    let mut order = Order::new(CLUSTER);
    order.without.insert(node(4));
    let views = world.views();
    let kept = world.member(1).may_recover(&order, views.clone()).unwrap();
    assert_eq!(kept.without, order.without);
    let frozen = world.member(1).claims.frozen_for(raft_id_of(1, 1));
    assert_eq!(frozen, Some(raft_id_of(4, 1)), "a look changes nothing");
    world.member(1).recover(order, views).unwrap();
    world.settle();
    assert_eq!(world.clusters().len(), 1);
}

#[test]
fn a_process_yields_only_to_one_that_has_as_much() {
    let mut member = started(1, SIZE);
    let claim = |cluster_id, last_index, id| RecoveryClaim {
        cluster_id,
        attempt: 1,
        rank: Rank {
            last_term: 1,
            last_index,
            votes: true,
            commit_index: 1,
            raft_id: raft_id_of(id, 1),
        },
    };
    let refused = member.yield_to(&claim(CLUSTER, 0, 4)).unwrap_err();
    assert_eq!(
        refused,
        "has more by now: its log reaches index 1 of term 1"
    );
    let refused = member.yield_to(&claim(ClusterId(8), 9, 4)).unwrap_err();
    assert_eq!(refused, "takes part in cluster 0000000000000007");
    assert_eq!(member.yield_to(&claim(CLUSTER, 1, 4)), Ok(()));
    assert_eq!(
        member.yield_to(&claim(CLUSTER, 1, 4)),
        Ok(()),
        "asked again"
    );
    let refused = member.yield_to(&claim(CLUSTER, 9, 5)).unwrap_err();
    assert_eq!(refused, "has left the recovery to node 4");
    let refused = fresh(2, 2, SIZE)
        .yield_to(&claim(CLUSTER, 9, 4))
        .unwrap_err();
    assert_eq!(refused, "takes part in no cluster");
}

/// An answer that the claimant gave before its claim does not release a process.
#[test]
fn an_old_answer_says_nothing_of_a_claim() {
    let mut world = World::new();
    let before = world.member(4).status();
    let views = world.views();
    world.order(4, views).unwrap();
    world.deliver((node(4), node(1)));
    let member = world.member(1);
    let asked = member.call(node(4), Call::Identify(member.introduction()));
    member.questions.ask(asked);
    member.replied(asked, Reply::Identified(Box::new(before)));
    assert_eq!(
        world.member(1).claims.frozen_for(raft_id_of(1, 1)),
        Some(raft_id_of(4, 1))
    );
}

#[test]
fn a_leader_or_a_process_without_state_does_not_recover() {
    let order = Order::new(CLUSTER);
    let refused = fresh(1, 1, 3)
        .may_recover(&order, BTreeMap::new())
        .unwrap_err();
    assert!(
        rule(&refused).starts_with("this node takes part in no cluster"),
        "{refused}"
    );
    let stray = Order::new(ClusterId(8));
    let refused = started(1, 3)
        .may_recover(&stray, BTreeMap::new())
        .unwrap_err();
    assert!(
        matches!(
            refused.reason,
            Reason::InvalidRequest {
                field: "cluster_id",
                ..
            }
        ),
        "{refused}"
    );
    let refused = started(2, 3)
        .may_recover(&order, BTreeMap::new())
        .unwrap_err();
    assert!(
        rule(&refused).starts_with("nodes 1 and 3 do not answer"),
        "{refused}"
    );
}

/// A process that was added and not promoted yet, or that was removed: no voter, and all that is left.
#[test]
fn the_state_of_a_non_voter_is_kept_only_if_an_operator_accepts_it() {
    let mut member = fresh(3, 2, 3);
    let offer = Offer {
        cluster_id: CLUSTER,
        coordinator: raft_id_of(1, 1),
        members: (1..=3).map(|id| raft_id_of(id, 1)).collect(),
        membership: membership(3),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    let options = member.options.clone();
    let raft = RaftNode::start(options.raft_id, &offer, options.raft, 1, &options.logger);
    member.raft = Some(raft.expect("a server"));
    member.formation.recovered(CLUSTER);
    assert_eq!(member.status().role, Some(Role::Learner));

    let views = || BTreeMap::from([1, 2].map(|id| (node(id), fresh(id, 2, 3).status())));
    let order = Order::new(CLUSTER);
    let refused = member.may_recover(&order, views()).unwrap_err();
    assert!(rule(&refused).ends_with("--incomplete"), "{refused}");
    let order = Order {
        incomplete: true,
        ..order
    };
    assert!(!member.may_recover(&order, views()).unwrap().kept.votes);
    member.recover(order, views()).unwrap();
    let recovered = member.take_recovered().expect("an end").unwrap();
    let _ = member.output().expect("no broken invariant");
    let status = member.status();
    assert_eq!(status.cluster_id, recovered.new);
    assert_eq!(status.role, Some(Role::Leader));
    assert_eq!(status.conf.voters, [raft_id_of(3, 2)]);
}

/// Three survivors of seven and as many operators, each of whom believes that theirs has most: with any
/// events, in any order, and with any losses. In the end one of them recovers.
#[test]
fn any_number_of_recoveries_at_any_time_makes_one_cluster() {
    let survivors = [1, 4, 6];
    let (mut soon, mut late) = (0, 0);
    for seed in 0..100 {
        let mut draws = 0;
        let mut draw = |below: usize| {
            draws += 1;
            let drawn = crate::node::seed::mix(&[seed, draws]) % u64::try_from(below).unwrap();
            usize::try_from(drawn).unwrap()
        };
        let mut world = World::of(7, &survivors);
        for _ in 0..60 {
            let id = survivors[draw(3)];
            match draw(8) {
                0 => {
                    let mut views = world.views();
                    for other in survivors.iter().filter(|other| **other != id) {
                        let outdated = views.get_mut(&node(*other)).expect("it answers");
                        if outdated.cluster_id == Some(CLUSTER) {
                            (outdated.last_term, outdated.last_index) = (0, 1);
                            outdated.recovery = RecoveryAttempt::default();
                        }
                    }
                    // It may be refused, because the node has yielded or is about to recover.
                    let _ = world.order(id, views);
                }
                1 => world.tick(id),
                choice => {
                    let due = world.due();
                    if let Some(link) = due.get(draw(due.len().max(1))).copied() {
                        match choice {
                            2 => drop(world.links.get_mut(&link).and_then(VecDeque::pop_front)),
                            _ => world.deliver(link),
                        }
                    }
                }
            }
            assert!(world.clusters().len() < 2, "seed {seed}");
        }
        soon += world.clusters().len();
        late += 1 - world.clusters().len();
        for _ in 0..2 * ATTEMPT_TICKS {
            for id in survivors {
                world.tick(id);
            }
            world.deliver_all();
        }
        if world.clusters().is_empty() {
            let views = world.views();
            world
                .order(6, views)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            world.deliver_all();
        }
        assert_eq!(world.clusters().len(), 1, "seed {seed}");
    }
    assert!(soon > 10 && late > 10, "{soon} at once, {late} later");
}
