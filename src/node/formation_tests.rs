use super::*;

fn node(id: u16) -> NodeId {
    NodeId::new(id).expect("a node id")
}

fn life(id: u16, incarnation: u64) -> RaftId {
    RaftId::new(node(id), incarnation)
}

fn members() -> ClusterMembership {
    [node(1), node(2), node(3)].into()
}

fn fresh(id: u16, incarnation: u64) -> Formation {
    Formation::new(life(id, incarnation), &members(), true, 42)
}

fn status(process: &Formation) -> NodeStatus {
    NodeStatus {
        state: process.state(),
        cluster_id: process.cluster_id(),
        ..NodeStatus::fresh(process.raft_id)
    }
}

/// Three processes and the calls between them. A call reaches whoever lives at a node then.
struct World {
    processes: BTreeMap<NodeId, Formation>,
    /// Nodes that answer nothing.
    down: BTreeSet<NodeId>,
}

impl World {
    fn new() -> Self {
        let processes = [fresh(1, 0xa), fresh(2, 0xa), fresh(3, 0xa)];
        Self {
            processes: processes
                .into_iter()
                .map(|process| (process.raft_id.node_id(), process))
                .collect(),
            down: BTreeSet::new(),
        }
    }

    fn at(&mut self, id: u16) -> &mut Formation {
        self.processes.get_mut(&node(id)).expect("a member")
    }

    fn restart(&mut self, id: u16, incarnation: u64) {
        self.processes.insert(node(id), fresh(id, incarnation));
    }

    fn states(&self) -> Vec<NodeState> {
        self.processes.values().map(Formation::state).collect()
    }

    /// What the node `to` replies to a call, as the transport would carry it.
    fn serve(&mut self, to: NodeId, call: Call) -> Reply {
        if self.down.contains(&to) {
            return Reply::Failed;
        }
        let process = self.processes.get_mut(&to).expect("a member");
        match call {
            Call::Yield { .. } => Reply::Failed,
            Call::Identify => Reply::Identified(status(process)),
            Call::Offer(offer) | Call::Start(offer)
                if !offer.members.contains(&process.raft_id) =>
            {
                Reply::Failed
            }
            Call::Offer(offer) => Reply::Offered {
                cluster_id: offer.cluster_id,
                accepted: process.offered(offer),
            },
            Call::Start(offer) => {
                process.start(offer.cluster_id, offer.coordinator);
                Reply::Started
            }
        }
    }

    /// One tick of everybody, and the calls that follow until nobody makes one.
    fn tick(&mut self) {
        self.tick_until(|_, _| false);
    }

    /// As `tick`, until `stop` says so of a call that is about to be made.
    fn tick_until(&mut self, mut stop: impl FnMut(NodeId, &Call) -> bool) {
        for process in self.processes.values_mut() {
            process.tick();
        }
        loop {
            let mut calls = Vec::new();
            for (&from, process) in &mut self.processes {
                let down = self.down.contains(&from);
                let made = process.take_calls().into_iter().filter(|_| !down);
                calls.extend(made.map(|(to, call)| (from, to, call)));
            }
            if calls.is_empty() {
                return;
            }
            for (from, to, call) in calls {
                if stop(to, &call) {
                    return;
                }
                let reply = self.serve(to, call);
                if let Some(process) = self.processes.get_mut(&from) {
                    process.replied(to, reply);
                }
            }
        }
    }

    fn tick_many(&mut self) {
        for _ in 0..3 * WAIT_TICKS {
            self.tick();
        }
    }
}

fn cluster_of(world: &mut World, id: u16) -> ClusterId {
    world.at(id).cluster_id().expect("a cluster")
}

use NodeState::{Bound, Fresh, Outside, Started};

#[test]
fn three_fresh_processes_start_one_cluster() {
    let mut world = World::new();
    world.tick();
    assert_eq!(world.states(), [Started; 3]);
    let cluster_id = cluster_of(&mut world, 1);
    for id in 1..=3 {
        let offer = world.at(id).started().expect("started").clone();
        assert_eq!(offer.cluster_id, cluster_id);
        assert_eq!(offer.members, [life(1, 0xa), life(2, 0xa), life(3, 0xa)]);
    }
}

#[test]
fn nothing_starts_until_every_initial_member_is_there() {
    let mut world = World::new();
    world.down.insert(node(3));
    world.tick_many();
    assert_eq!(world.states(), [Fresh; 3]);
    assert_eq!(world.at(1).waiting_for(), "node 3 has not been found yet");
    world.down.insert(node(2));
    world.tick_many();
    assert_eq!(
        world.at(1).waiting_for(),
        "nodes 2 and 3 have not been found yet"
    );
    world.down.clear();
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
}

#[test]
fn members_that_answer_late_and_in_turn_are_offered_a_cluster() {
    for delay in 0..=OFFER_TICKS {
        let mut coordinator = fresh(1, 0xa);
        let mut under_way = Vec::new();
        let mut offered = false;
        for now in 0..10 * OFFER_TICKS {
            coordinator.tick();
            for (to, call) in coordinator.take_calls() {
                offered |= matches!(call, Call::Offer(_));
                // Node 3 listens a little later, so from then on it is asked in turn with node 2.
                match now < PROBE_TICKS && to == node(3) {
                    true => coordinator.replied(to, Reply::Failed),
                    false => under_way.push((now + delay, to)),
                }
            }
            let arrived = under_way.extract_if(.., |(at, _)| *at <= now);
            for (_, to) in arrived.collect::<Vec<_>>() {
                let status = status(&fresh(to.get(), 0xa));
                coordinator.replied(to, Reply::Identified(status));
            }
        }
        assert!(offered, "answers after {delay} ticks");
    }
}

#[test]
fn a_process_started_again_waits_outside_and_disturbs_nobody() {
    for id in 1..=3 {
        let mut world = World::new();
        world.tick();
        let cluster_id = cluster_of(&mut world, 1);
        world.restart(id, 0xb);
        world.tick_many();
        assert_eq!(world.at(id).state(), Outside);
        assert_eq!(world.at(id).cluster_id(), Some(cluster_id));
        assert!(world.at(id).waiting_for().contains("takes it back"));
        let started = world.states().into_iter().filter(|&state| state == Started);
        assert_eq!(started.count(), 2);
    }
}

#[test]
fn two_that_lost_their_memory_form_no_second_cluster() {
    let mut world = World::new();
    world.tick();
    world.restart(1, 0xb);
    world.restart(2, 0xb);
    world.tick_many();
    assert_eq!(world.states(), [Outside, Outside, Started]);
}

#[test]
fn three_that_lost_their_memory_form_a_new_cluster() {
    let mut world = World::new();
    world.tick();
    let old = cluster_of(&mut world, 1);
    world.restart(3, 0xb);
    world.tick_many();
    assert_eq!(world.at(3).state(), Outside, "it has seen the old cluster");
    world.restart(1, 0xb);
    world.restart(2, 0xb);
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
    assert_ne!(cluster_of(&mut world, 1), old);
}

#[test]
fn a_member_that_restarts_between_question_and_offer_is_not_taken_for_its_former_life() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Offer(_)));
    world.restart(3, 0xb);
    for _ in 0..=CALL_TICKS {
        world.tick();
    }
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
    let offer = world.at(1).started().expect("started").clone();
    assert!(offer.members.contains(&life(3, 0xb)));
}

#[test]
fn the_next_life_of_a_dead_coordinator_overrides_its_offer() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Start(_)));
    assert_eq!(world.states(), [Started, Bound, Bound]);
    let old = cluster_of(&mut world, 2);
    world.restart(1, 0xb);
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
    assert_ne!(cluster_of(&mut world, 1), old);
    assert_eq!(cluster_of(&mut world, 2), cluster_of(&mut world, 3));
}

#[test]
fn a_bound_process_starts_on_traffic_of_its_cluster() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Start(_)));
    let cluster_id = cluster_of(&mut world, 2);
    world.at(2).hear_traffic(ClusterId(99), life(1, 0xa));
    assert_eq!(world.at(2).state(), Bound, "not its cluster");
    world.at(2).hear_traffic(cluster_id, life(1, 0xb));
    assert_eq!(world.at(2).state(), Bound, "not a member of the offer");
    world.at(2).hear_traffic(cluster_id, life(1, 0xa));
    assert_eq!(world.at(2).state(), Started);
}

#[test]
fn a_bound_process_starts_when_it_finds_a_member_that_has() {
    let mut world = World::new();
    world.tick_until(|to, call| matches!(call, Call::Start(_)) && to == node(3));
    assert_eq!(world.states(), [Started, Started, Bound]);
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
}

#[test]
fn a_process_that_a_newer_offer_pulled_away_finds_back_to_the_cluster_that_runs() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Start(_)));
    let old = cluster_of(&mut world, 3);
    // The new life of the coordinator reaches node 3 before anybody has reached node 2 …
    let newer = Offer {
        cluster_id: ClusterId(7),
        coordinator: life(1, 0xb),
        members: vec![life(1, 0xb), life(2, 0xa), life(3, 0xa)],
        membership: members(),
    };
    assert!(world.at(3).offered(newer.clone()));
    // … and the old coordinator's traffic reaches node 2 first.
    world.at(2).hear_traffic(old, life(1, 0xa));
    assert!(!world.at(2).offered(newer));
    // Late traffic of the old coordinator proves nothing: the newer cluster could still start.
    world.at(3).hear_traffic(old, life(1, 0xa));
    assert_eq!(cluster_of(&mut world, 3), ClusterId(7));
    // Traffic of node 2 does: it refuses the newer offer for ever.
    world.at(3).hear_traffic(old, life(2, 0xa));
    assert_eq!(world.at(3).state(), Started);
    assert_eq!(cluster_of(&mut world, 3), old);
}

#[test]
fn an_offer_that_is_not_for_this_process_or_not_of_its_coordinator_is_refused() {
    let offer = |coordinator, members: &[RaftId]| Offer {
        cluster_id: ClusterId(7),
        coordinator,
        members: members.to_vec(),
        membership: self::members(),
    };
    let (one, two, three) = (life(1, 0xa), life(2, 0xa), life(3, 0xa));
    let refused = [
        offer(one, &[one, life(2, 0xb), three]),
        offer(three, &[one, two, three]),
        offer(one, &[one, three]),
        offer(one, &[two]),
        offer(two, &[two, three]),
        offer(one, &[two, three]),
        offer(one, &[one, two, life(4, 0xa)]),
        offer(one, &[one, two, three, life(3, 0xb)]),
    ];
    for offer in refused {
        assert!(!fresh(2, 0xa).offered(offer.clone()), "{offer:?}");
    }
    let other_members = Offer {
        membership: [node(1), node(2), node(4)].into(),
        ..offer(one, &[one, two])
    };
    assert!(!fresh(2, 0xa).offered(other_members));
    assert!(fresh(2, 0xa).offered(offer(one, &[one, two, three])));
    assert!(fresh(2, 0xa).offered(offer(one, &[one, two])));
    let mut waits = Formation::new(two, &members(), false, 42);
    assert!(!waits.offered(offer(one, &[one, two, three])));
}

#[test]
fn an_answer_to_an_offer_that_was_given_up_counts_for_nothing() {
    let mut coordinator = fresh(1, 0xa);
    coordinator.tick();
    let fresh_peer = |id| Reply::Identified(status(&fresh(id, 0xa)));
    let offer_of = |process: &mut Formation| {
        let calls = process.take_calls();
        calls.into_iter().find_map(|(_, call)| match call {
            Call::Offer(offer) => Some(offer.cluster_id),
            _ => None,
        })
    };
    coordinator.replied(node(2), fresh_peer(2));
    coordinator.replied(node(3), fresh_peer(3));
    let first = offer_of(&mut coordinator).expect("an offer");
    coordinator.replied(node(2), Reply::Failed);
    let accepted = |cluster_id| Reply::Offered {
        cluster_id,
        accepted: true,
    };
    for _ in 0..=PROBE_TICKS {
        coordinator.tick();
    }
    coordinator.replied(node(2), fresh_peer(2));
    coordinator.replied(node(3), fresh_peer(3));
    let second = offer_of(&mut coordinator).expect("another offer");
    assert_ne!(first, second);
    coordinator.replied(node(3), accepted(second));
    coordinator.replied(node(2), accepted(first));
    assert_eq!(coordinator.state(), Fresh);
    coordinator.replied(node(2), accepted(second));
    assert_eq!(coordinator.state(), Started);
}

#[test]
fn a_call_that_is_never_answered_is_made_again() {
    let mut process = fresh(1, 0xa);
    process.tick();
    assert_eq!(process.take_calls().len(), 2);
    let mut again = 0;
    for _ in 0..=CALL_TICKS + PROBE_TICKS {
        process.tick();
        again += process.take_calls().len();
    }
    assert_eq!(again, 2);
}

#[test]
fn an_operator_vouches_for_a_member_that_is_missing() {
    let mut world = World::new();
    world.down.insert(node(1));
    world.tick_many();
    assert_eq!(world.at(2).state(), Fresh);
    assert_eq!(world.at(2).form_without([node(1)].into()), Ok(()));
    assert_eq!(world.at(2).form_without([node(1)].into()), Ok(()), "again");
    world.tick();
    let offer = world.at(2).started().expect("started").clone();
    assert_eq!(offer.members, [life(2, 0xa), life(3, 0xa)]);
    assert_eq!(offer.membership, members());
    assert_eq!(world.at(3).started(), Some(&offer));
    world.down.clear();
    world.restart(1, 0xb);
    world.tick_many();
    assert_eq!(world.states(), [Outside, Started, Started]);
}

/// `addr` and `client_addr` of node 1 are swapped in the configuration: it runs, and is not found.
#[test]
fn nobody_vouches_for_a_member_at_whose_address_another_service_answers() {
    let mut process = fresh(2, 0xa);
    let found = |stranger| Reply::Stranger(stranger);
    process.tick();
    process.replied(node(1), found(Answering::ClientPort));
    process.replied(node(3), Reply::Failed);
    assert_eq!(
        process.waiting_for(),
        "the address of node 1, kvstore-1:7379, leads to the client port of a node; \
         node 3 has not been found yet"
    );
    let refused = process.form_without([node(1)].into());
    let refused = refused.expect_err("it may be there").to_string();
    assert!(refused.contains("node 1 may be there"), "{refused}");

    process.replied(node(1), Reply::Identified(status(&fresh(3, 0xa))));
    let refused = process.form_without([node(1)].into());
    let refused = refused.expect_err("it may be there").to_string();
    assert!(refused.contains("leads to node 3"), "{refused}");

    process.replied(node(1), found(Answering::NotGrpc));
    assert_eq!(process.form_without([node(1)].into()), Ok(()));
}

#[test]
fn a_vouched_member_that_answers_ends_it() {
    let mut world = World::new();
    world.down.extend([node(1), node(3)]);
    world.tick_many();
    assert_eq!(world.at(2).form_without([node(1)].into()), Ok(()));
    assert_eq!(world.at(2).waiting_for(), "node 3 has not been found yet");
    // Node 3 is still missing when node 1 answers.
    world.down.remove(&node(1));
    world.tick_many();
    world.down.insert(node(1));
    world.down.remove(&node(3));
    world.tick_many();
    assert_eq!(world.states(), [Fresh; 3]);
}

#[test]
fn what_an_operator_has_said_is_forgotten_after_a_while() {
    let mut world = World::new();
    world.down.extend([node(1), node(3)]);
    world.tick_many();
    assert_eq!(world.at(2).form_without([node(1)].into()), Ok(()));
    for _ in 0..=100 {
        world.tick();
    }
    world.down.remove(&node(3));
    world.tick_many();
    assert_eq!(world.states(), [Fresh; 3]);
}

#[test]
fn an_offer_without_somebody_who_is_there_is_refused() {
    let offer = Offer {
        cluster_id: ClusterId(7),
        coordinator: life(1, 0xa),
        members: vec![life(1, 0xa), life(2, 0xa)],
        membership: members(),
    };
    let mut process = fresh(2, 0xa);
    process.tick();
    process.replied(node(3), Reply::Identified(status(&fresh(3, 0xa))));
    assert!(!process.offered(offer.clone()));
    for _ in 0..=LATELY_TICKS {
        process.tick();
    }
    assert!(process.offered(offer));
}

/// Five members: one that accepted an offer which can never be decided is let go.
#[test]
fn a_process_bound_to_what_nobody_will_start_is_outside_of_what_runs() {
    let members: ClusterMembership = [1, 2, 3, 4, 5].map(node).into();
    let mut five = Formation::new(life(5, 0xa), &members, true, 42);
    let offer = |cluster_id, ids: &[u16]| Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator: life(ids[0], 0xa),
        members: ids.iter().map(|&id| life(id, 0xa)).collect(),
        membership: members.clone(),
    };
    assert!(five.offered(offer(7, &[1, 2, 3, 4, 5])));
    // Meanwhile nodes 2, 3 and 4 have started a cluster without nodes 1 and 5.
    let mut two = Formation::new(life(2, 0xa), &members, true, 42);
    two.phase = Phase::Started {
        offer: offer(8, &[2, 3, 4]),
    };
    five.replied(node(2), Reply::Identified(status(&two)));
    assert_eq!(five.state(), Bound, "that may have been long ago");
    for _ in 0..=PROBE_TICKS {
        five.tick();
    }
    five.replied(node(2), Reply::Identified(status(&two)));
    assert_eq!(five.state(), Outside);
    assert_eq!(five.cluster_id(), Some(ClusterId(8)));
}

/// An offer of a dead coordinator arrives after that of its next life.
#[test]
fn a_late_offer_strands_nobody() {
    let offer = |cluster_id, incarnation| Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator: life(1, incarnation),
        members: vec![life(1, incarnation), life(2, 0xa), life(3, 0xa)],
        membership: members(),
    };
    let (dead, newer) = (offer(7, 0xa), offer(8, 0xb));
    let mut process = fresh(3, 0xa);
    assert!(process.offered(newer.clone()));
    assert!(process.offered(dead));
    assert!(!process.offered(newer.clone()), "a copy");
    let mut next = fresh(1, 0xb);
    next.phase = Phase::Started { offer: newer };
    process.hear_traffic(ClusterId(8), life(1, 0xb));
    assert_eq!(process.state(), Bound, "that may have been long ago");
    for _ in 0..=PROBE_TICKS {
        process.tick();
    }
    process.replied(node(1), Reply::Identified(status(&next)));
    assert_eq!(process.state(), Started);
    assert_eq!(process.cluster_id(), Some(ClusterId(8)));
}

#[test]
fn late_traffic_of_a_dead_member_starts_no_earlier_offer() {
    let mut process = fresh(3, 0xa);
    let offer = |cluster_id, incarnation| Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator: life(1, incarnation),
        members: vec![life(1, incarnation), life(2, incarnation), life(3, 0xa)],
        membership: members(),
    };
    assert!(process.offered(offer(7, 0xa)));
    assert!(process.offered(offer(8, 0xb)));
    process.hear_traffic(ClusterId(7), life(2, 0xa));
    assert_eq!(process.state(), Bound);
}
