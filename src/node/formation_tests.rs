use std::sync::Arc;

use super::*;
use crate::types::{Introduction, Missed};

/// With the election timeout that a formation has by itself.
const CALL_TICKS: u64 = CALL_TIMEOUTS * PACE;
const OFFER_TICKS: u64 = OFFER_TIMEOUTS * PACE;

fn node(id: u16) -> NodeId {
    NodeId::new(id).expect("a node id")
}

fn raft_id_of(id: u16, incarnation: u64) -> RaftId {
    RaftId::new(node(id), incarnation)
}

fn members() -> ClusterMembership {
    [node(1), node(2), node(3)].into()
}

fn fresh(id: u16, incarnation: u64) -> Formation {
    Formation::new(raft_id_of(id, incarnation), &members(), true, 42)
}

fn status(process: &Formation) -> NodeStatus {
    NodeStatus {
        state: process.state(),
        cluster_id: process.cluster_id(),
        ..NodeStatus::fresh(process.raft_id)
    }
}

/// `process` gets `reply` to its question to `id`, which it may ask only now.
fn answer(process: &mut Formation, id: u16, reply: Reply) {
    let to = node(id);
    let asked = process.peers[&to].asked;
    let number = asked.map_or_else(
        || {
            process.call(to, Call::Identify(process.introduction()));
            let calls = process.take_calls();
            calls.last().expect("a call").0.number
        },
        |(number, _)| number,
    );
    process.replied(CallId { to, number }, reply);
}

/// Three processes and the calls between them. A call reaches the process that runs at a node then.
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
            Call::Identify(by) => {
                process.asked(&by);
                Reply::Identified(Box::new(status(process)))
            }
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

    /// One tick of every process, and the calls that follow until no process makes one.
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
                calls.extend(made.map(|(id, call)| (from, id, call)));
            }
            if calls.is_empty() {
                return;
            }
            for (from, id, call) in calls {
                if stop(id.to, &call) {
                    return;
                }
                let reply = self.serve(id.to, call);
                if let Some(process) = self.processes.get_mut(&from) {
                    process.replied(id, reply);
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

use NodeState::{Fresh, Outside, Prepared, Started};

#[test]
fn three_fresh_processes_start_one_cluster() {
    let mut world = World::new();
    world.tick();
    assert_eq!(world.states(), [Started; 3]);
    let cluster_id = cluster_of(&mut world, 1);
    for id in 1..=3 {
        let offer = world.at(id).started().expect("started").clone();
        assert_eq!(offer.cluster_id, cluster_id);
        assert_eq!(
            offer.members,
            [raft_id_of(1, 0xa), raft_id_of(2, 0xa), raft_id_of(3, 0xa)]
        );
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
            for (id, call) in coordinator.take_calls() {
                offered |= matches!(call, Call::Offer(_));
                // Node 3 listens a little later, so from then on it is asked in turn with node 2.
                match now < PROBE_TICKS && id.to == node(3) {
                    true => coordinator.replied(id, Reply::Failed),
                    false => under_way.push((now + delay, id)),
                }
            }
            let arrived = under_way.extract_if(.., |(at, _)| *at <= now);
            for (_, id) in arrived.collect::<Vec<_>>() {
                let status = status(&fresh(id.to.get(), 0xa));
                coordinator.replied(id, Reply::Identified(Box::new(status)));
            }
        }
        assert!(offered, "answers after {delay} ticks");
    }
}

#[test]
fn a_process_started_again_waits_outside_and_disturbs_no_other() {
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
fn a_member_that_restarts_between_question_and_offer_is_not_taken_for_its_earlier_incarnation() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Offer(_)));
    world.restart(3, 0xb);
    for _ in 0..=CALL_TICKS {
        world.tick();
    }
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
    let offer = world.at(1).started().expect("started").clone();
    assert!(offer.members.contains(&raft_id_of(3, 0xb)));
}

#[test]
fn the_next_incarnation_of_a_dead_coordinator_overrides_its_offer() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Start(_)));
    assert_eq!(world.states(), [Started, Prepared, Prepared]);
    let old = cluster_of(&mut world, 2);
    world.restart(1, 0xb);
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
    assert_ne!(cluster_of(&mut world, 1), old);
    assert_eq!(cluster_of(&mut world, 2), cluster_of(&mut world, 3));
}

#[test]
fn a_prepared_process_starts_on_traffic_of_its_cluster() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Start(_)));
    let cluster_id = cluster_of(&mut world, 2);
    world.at(2).hear_traffic(ClusterId(99), raft_id_of(1, 0xa));
    assert_eq!(world.at(2).state(), Prepared, "not its cluster");
    world.at(2).hear_traffic(cluster_id, raft_id_of(1, 0xb));
    assert_eq!(world.at(2).state(), Prepared, "not a member of the offer");
    world.at(2).hear_traffic(cluster_id, raft_id_of(1, 0xa));
    assert_eq!(world.at(2).state(), Started);
}

#[test]
fn a_bound_process_starts_when_it_finds_a_member_that_has() {
    let mut world = World::new();
    world.tick_until(|to, call| matches!(call, Call::Start(_)) && to == node(3));
    assert_eq!(world.states(), [Started, Started, Prepared]);
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
}

#[test]
fn a_process_that_a_newer_offer_pulled_away_finds_back_to_the_cluster_that_runs() {
    let mut world = World::new();
    world.tick_until(|_, call| matches!(call, Call::Start(_)));
    let old = cluster_of(&mut world, 3);
    // The new incarnation of the coordinator reaches node 3 before any process has reached node 2 …
    let newer = Offer {
        cluster_id: ClusterId(7),
        coordinator: raft_id_of(1, 0xb),
        members: vec![raft_id_of(1, 0xb), raft_id_of(2, 0xa), raft_id_of(3, 0xa)],
        membership: members(),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    assert!(world.at(3).offered(newer.clone()));
    // … and the old coordinator's traffic reaches node 2 first.
    world.at(2).hear_traffic(old, raft_id_of(1, 0xa));
    assert!(!world.at(2).offered(newer));
    // Late traffic of the old coordinator proves nothing: the newer cluster could still start.
    world.at(3).hear_traffic(old, raft_id_of(1, 0xa));
    assert_eq!(cluster_of(&mut world, 3), ClusterId(7));
    // Traffic of node 2 starts it: node 2 refuses the newer offer for ever.
    world.at(3).hear_traffic(old, raft_id_of(2, 0xa));
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
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    let (one, two, three) = (raft_id_of(1, 0xa), raft_id_of(2, 0xa), raft_id_of(3, 0xa));
    let refused = [
        offer(one, &[one, raft_id_of(2, 0xb), three]),
        offer(three, &[one, two, three]),
        offer(one, &[one, three]),
        offer(one, &[two]),
        offer(two, &[two, three]),
        offer(one, &[two, three]),
        offer(one, &[one, two, raft_id_of(4, 0xa)]),
        offer(one, &[one, two, three, raft_id_of(3, 0xb)]),
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
    // One that forms nothing by itself is counted by those whose files list it.
    assert!(waits.offered(offer(one, &[one, two, three])));
}

#[test]
fn an_answer_to_an_offer_that_was_given_up_counts_for_nothing() {
    let mut coordinator = fresh(1, 0xa);
    coordinator.tick();
    let fresh_peer = |id| Reply::Identified(Box::new(status(&fresh(id, 0xa))));
    let offer_of = |process: &mut Formation| {
        let calls = process.take_calls();
        calls.into_iter().find_map(|(_, call)| match call {
            Call::Offer(offer) => Some(offer.cluster_id),
            _ => None,
        })
    };
    answer(&mut coordinator, 2, fresh_peer(2));
    answer(&mut coordinator, 3, fresh_peer(3));
    let first = offer_of(&mut coordinator).expect("an offer");
    answer(&mut coordinator, 2, Reply::Failed);
    let accepted = |cluster_id| Reply::Offered {
        cluster_id,
        accepted: true,
    };
    for _ in 0..=PROBE_TICKS {
        coordinator.tick();
    }
    answer(&mut coordinator, 2, fresh_peer(2));
    answer(&mut coordinator, 3, fresh_peer(3));
    let second = offer_of(&mut coordinator).expect("another offer");
    assert_ne!(first, second);
    answer(&mut coordinator, 3, accepted(second));
    answer(&mut coordinator, 2, accepted(first));
    assert_eq!(coordinator.state(), Fresh);
    answer(&mut coordinator, 2, accepted(second));
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
fn an_operator_leaves_out_a_member_that_is_gone() {
    let mut world = World::new();
    world.down.insert(node(1));
    world.tick_many();
    assert_eq!(world.at(2).state(), Fresh);
    assert_eq!(world.at(2).form_without([node(1)].into()), Ok(()));
    assert_eq!(world.at(2).form_without([node(1)].into()), Ok(()), "again");
    world.tick();
    let offer = world.at(2).started().expect("started").clone();
    assert_eq!(offer.members, [raft_id_of(2, 0xa), raft_id_of(3, 0xa)]);
    assert_eq!(offer.membership, members());
    assert_eq!(world.at(3).started(), Some(&offer));
    world.down.clear();
    world.restart(1, 0xb);
    world.tick_many();
    assert_eq!(world.states(), [Outside, Started, Started]);
}

#[test]
fn a_statement_is_withdrawn_and_the_answer_names_what_has_formed() {
    let mut world = World::new();
    world.down.extend([node(1), node(3)]);
    world.tick_many();
    let without: BTreeSet<_> = [node(1)].into();
    assert_eq!(world.at(2).form_without(without.clone()), Ok(()));
    assert_eq!(world.at(2).stop_forming(&without), Ok(None));
    world.down.remove(&node(3));
    world.tick();
    assert_eq!(
        world.states(),
        [Fresh; 3],
        "the statement would still count"
    );
    assert_eq!(world.at(2).form_without(without.clone()), Ok(()));
    let other = [node(1), node(9)].into();
    assert!(world.at(2).stop_forming(&other).is_err());
    world.tick();
    let formed = world.at(2).started().expect("started").cluster_id;
    assert_eq!(world.at(2).stop_forming(&without), Ok(Some(formed)));
}

/// `addr` and `client_addr` of node 1 are swapped in the configuration: it runs, and is not found.
#[test]
fn no_member_is_left_out_at_whose_address_another_service_answers() {
    let mut process = fresh(2, 0xa);
    let found = |answering| Reply::Misdirected(answering);
    process.tick();
    answer(&mut process, 1, found(Answering::ClientPort));
    answer(&mut process, 3, Reply::Failed);
    assert_eq!(
        process.waiting_for(),
        "the address of node 1, kvstore-1:7379, leads to the client port of a node; \
         node 3 has not been found yet"
    );
    let refused = process.form_without([node(1)].into());
    let refused = refused.expect_err("it may be there").to_string();
    assert!(refused.contains("node 1 may be there"), "{refused}");

    answer(
        &mut process,
        1,
        Reply::Identified(Box::new(status(&fresh(3, 0xa)))),
    );
    let refused = process.form_without([node(1)].into());
    let refused = refused.expect_err("it may be there").to_string();
    assert!(refused.contains("leads to node 3"), "{refused}");

    answer(&mut process, 1, found(Answering::NotGrpc));
    assert_eq!(process.form_without([node(1)].into()), Ok(()));
}

/// Seen: node 3 was stopped and held the last copy, the others had lost their memory, and formed anew.
#[test]
fn no_member_is_left_out_that_may_hang() {
    let mut process = fresh(1, 0xa);
    process.tick();
    let without_3 = |process: &mut Formation| {
        let outcome = process.form_without([node(3)].into());
        outcome.err().map(|refusal| refusal.to_string())
    };
    // As long as no process knows, the statement is taken, and nothing is done.
    assert_eq!(without_3(&mut process), None);
    let two = Reply::Identified(Box::new(status(&fresh(2, 0xa))));
    answer(&mut process, 2, two.clone());
    assert!(matches!(process.phase, Phase::Fresh));
    answer(&mut process, 3, Reply::Misdirected(Answering::Hung));
    assert!(process.waiting_for().contains("accepts connections"));
    let refused = without_3(&mut process).expect("it may be there");
    assert!(refused.contains("node 3 accepts connections"), "{refused}");

    // A word that was given before counts no more.
    assert_eq!(without_3(&mut process), Some(refused));
    process.peers.get_mut(&node(2)).expect("known").forget();
    answer(&mut process, 3, Reply::Failed);
    assert_eq!(without_3(&mut process), None);
    answer(&mut process, 3, Reply::Misdirected(Answering::Hung));
    answer(&mut process, 2, two);
    assert!(matches!(process.phase, Phase::Fresh));
}

/// The links are not alike: the coordinator may reach nothing where another member finds a process.
#[test]
fn no_node_helps_to_form_without_a_member_that_may_hang() {
    let mut world = World::new();
    world.down.insert(node(3));
    world.tick_many();
    let hung = Reply::Misdirected(Answering::Hung);
    answer(world.at(2), 3, hung);
    assert_eq!(world.at(1).form_without([node(3)].into()), Ok(()));
    let two = Reply::Identified(Box::new(status(world.at(2))));
    answer(world.at(1), 2, two);
    let Phase::Offering { offer, .. } = world.at(1).phase.clone() else {
        panic!("it offers");
    };
    assert!(!world.at(2).offered(offer));
}

#[test]
fn a_member_that_is_left_out_and_answers_ends_the_statement() {
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
fn the_statement_of_an_operator_expires() {
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
fn an_offer_without_a_node_that_is_there_is_refused() {
    let offer = Offer {
        cluster_id: ClusterId(7),
        coordinator: raft_id_of(1, 0xa),
        members: vec![raft_id_of(1, 0xa), raft_id_of(2, 0xa)],
        membership: members(),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    let mut process = fresh(2, 0xa);
    process.tick();
    answer(
        &mut process,
        3,
        Reply::Identified(Box::new(status(&fresh(3, 0xa)))),
    );
    assert!(!process.offered(offer.clone()));
    for _ in 0..=LATELY_TICKS {
        process.tick();
    }
    assert!(process.offered(offer));
}

/// Five members: one that accepted an offer which can never be decided is let go.
#[test]
fn a_process_prepared_for_a_dead_offer_is_outside_of_the_running_cluster() {
    let members: ClusterMembership = [1, 2, 3, 4, 5].map(node).into();
    let mut five = Formation::new(raft_id_of(5, 0xa), &members, true, 42);
    let offer = |cluster_id, ids: &[u16]| Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator: raft_id_of(ids[0], 0xa),
        members: ids.iter().map(|&id| raft_id_of(id, 0xa)).collect(),
        membership: members.clone(),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    assert!(five.offered(offer(7, &[1, 2, 3, 4, 5])));
    // Meanwhile nodes 2, 3 and 4 have started a cluster without nodes 1 and 5.
    let mut two = Formation::new(raft_id_of(2, 0xa), &members, true, 42);
    two.phase = Phase::Started {
        offer: offer(8, &[2, 3, 4]),
    };
    answer(&mut five, 2, Reply::Identified(Box::new(status(&two))));
    assert_eq!(five.state(), Prepared, "that may have been long ago");
    for _ in 0..=PROBE_TICKS {
        five.tick();
    }
    answer(&mut five, 2, Reply::Identified(Box::new(status(&two))));
    assert_eq!(five.state(), Outside);
    assert_eq!(five.cluster_id(), Some(ClusterId(8)));
}

/// An offer of a dead coordinator arrives after that of its next incarnation.
#[test]
fn a_late_offer_strands_no_process() {
    let offer = |cluster_id, incarnation| Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator: raft_id_of(1, incarnation),
        members: vec![
            raft_id_of(1, incarnation),
            raft_id_of(2, 0xa),
            raft_id_of(3, 0xa),
        ],
        membership: members(),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    let (dead, newer) = (offer(7, 0xa), offer(8, 0xb));
    let mut process = fresh(3, 0xa);
    assert!(process.offered(newer.clone()));
    assert!(process.offered(dead));
    assert!(!process.offered(newer.clone()), "a copy");
    let mut next = fresh(1, 0xb);
    next.phase = Phase::Started { offer: newer };
    process.hear_traffic(ClusterId(8), raft_id_of(1, 0xb));
    assert_eq!(process.state(), Prepared, "that may have been long ago");
    for _ in 0..=PROBE_TICKS {
        process.tick();
    }
    answer(&mut process, 1, Reply::Identified(Box::new(status(&next))));
    assert_eq!(process.state(), Started);
    assert_eq!(process.cluster_id(), Some(ClusterId(8)));
}

#[test]
fn late_traffic_of_a_dead_member_starts_no_earlier_offer() {
    let mut process = fresh(3, 0xa);
    let offer = |cluster_id, incarnation| Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator: raft_id_of(1, incarnation),
        members: vec![
            raft_id_of(1, incarnation),
            raft_id_of(2, incarnation),
            raft_id_of(3, 0xa),
        ],
        membership: members(),
        absent: BTreeSet::new(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    assert!(process.offered(offer(7, 0xa)));
    assert!(process.offered(offer(8, 0xb)));
    process.hear_traffic(ClusterId(7), raft_id_of(2, 0xa));
    assert_eq!(process.state(), Prepared);
}

/// Nodes 1 to 5 of a cluster that has grown: 4 and 5 take part in it.
fn grown() -> ClusterMembership {
    [1, 2, 3, 4, 5].map(node).into()
}

/// What a survivor of that cluster says of itself.
fn survivor(id: u16) -> NodeStatus {
    NodeStatus {
        state: Started,
        cluster_id: Some(ClusterId(0xa)),
        applied_index: 9,
        conf: Arc::new(crate::types::Conf {
            members: [1, 2, 3, 4, 5].map(node).to_vec(),
            ..crate::types::Conf::default()
        }),
        ..NodeStatus::fresh(raft_id_of(id, 0xa))
    }
}

fn introduced(status: &NodeStatus) -> Introduction {
    Introduction {
        raft_id: status.raft_id,
        state: status.state,
        cluster_id: status.cluster_id,
        members: Arc::new(grown()),
    }
}

/// A process of a cluster that was grown to five, with the file of its last members.
fn remembers(id: u16) -> Formation {
    let mut process = fresh(id, 0xb);
    process.remember(&grown());
    process
}

/// The configuration of nodes 1 to 3 lists these three, and all of them were started again.
#[test]
fn a_process_that_remembers_members_waits_for_their_answers() {
    let mut world = World::new();
    for id in 1..=3 {
        world.processes.insert(node(id), remembers(id));
    }
    world.down.extend([node(4), node(5)]);
    world.tick_many();
    assert_eq!(world.states(), [Fresh; 3]);
    assert_eq!(
        world.at(1).waiting_for(),
        "nodes 4 and 5 have not been found yet"
    );
    // They are there, and hold what is left.
    for id in [4, 5] {
        for at in 1..=3 {
            answer(world.at(at), id, Reply::Identified(Box::new(survivor(id))));
        }
    }
    assert_eq!(world.states(), [Outside; 3]);
    assert_eq!(world.at(1).cluster_id(), Some(ClusterId(0xa)));
}

#[test]
fn remembered_members_without_memory_let_the_initial_ones_form() {
    let mut world = World::new();
    for id in 1..=3 {
        world.processes.insert(node(id), remembers(id));
    }
    for id in [4, 5] {
        let waits = Formation::new(raft_id_of(id, 0xb), &grown(), false, 42);
        world.processes.insert(node(id), waits);
    }
    world.tick_many();
    assert_eq!(
        world.states(),
        [Started, Started, Started, Outside, Outside]
    );
    let offer = world.at(3).started().expect("started").clone();
    assert_eq!(offer.membership, members());
    assert_eq!(offer.members.len(), 3);
}

/// Only node 3 remembers; the coordinator learns from its questions whom else to ask.
#[test]
fn a_process_that_remembers_more_tells_the_coordinator() {
    let mut world = World::new();
    world.processes.insert(node(3), remembers(3));
    world.down.extend([node(4), node(5)]);
    world.tick_many();
    assert_eq!(world.states(), [Fresh; 3]);
    assert_eq!(
        world.at(1).waiting_for(),
        "nodes 4 and 5 have not been found yet"
    );
    // An operator who knows that they are gone says so once.
    let gone = BTreeSet::from([node(4), node(5)]);
    assert_eq!(world.at(1).form_without(gone.clone()), Ok(()));
    world.tick_many();
    assert_eq!(world.states(), [Started; 3]);
    assert_eq!(world.at(3).started().expect("started").absent, gone);
}

#[test]
fn an_offer_that_omits_a_remembered_member_is_refused() {
    let offer = |absent: &[u16]| Offer {
        cluster_id: ClusterId(7),
        coordinator: raft_id_of(1, 0xa),
        members: vec![raft_id_of(1, 0xa), raft_id_of(2, 0xb), raft_id_of(3, 0xa)],
        membership: members(),
        absent: absent.iter().copied().map(node).collect(),
        level: crate::types::ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    assert!(!remembers(2).offered(offer(&[])));
    assert!(!remembers(2).offered(offer(&[4])));
    assert!(remembers(2).offered(offer(&[4, 5])));
    let mut process = remembers(2);
    for id in [4, 5] {
        answer(
            &mut process,
            id,
            Reply::Identified(Box::new(status(&fresh(id, 0xb)))),
        );
    }
    assert!(process.offered(offer(&[])));
    assert!(!remembers_survivor().offered(offer(&[4, 5])), "node 4 runs");
}

fn remembers_survivor() -> Formation {
    let mut process = remembers(2);
    answer(&mut process, 4, Reply::Identified(Box::new(survivor(4))));
    for _ in 0..=2 * LATELY_TICKS {
        process.tick();
    }
    process
}

/// No node has a file: nodes 4 and 5 have lost their leader, and ask all members for their identity.
#[test]
fn a_survivor_that_asks_keeps_processes_from_forming_a_second_cluster() {
    let mut world = World::new();
    world.down.extend([node(4), node(5)]);
    for id in 1..=3 {
        world.restart(id, 0xb);
        world.at(id).wait(10);
    }
    for _ in 0..9 {
        world.tick();
    }
    assert_eq!(world.states(), [Fresh; 3], "they wait");
    assert!(world.at(1).waiting_for().contains("a former cluster"));
    world.at(2).asked(&introduced(&survivor(4)));
    world.tick_many();
    assert_eq!(world.states(), [Fresh; 3]);
    assert_eq!(
        world.at(2).waiting_for(),
        "nodes 4 and 5 have not been found yet"
    );
    answer(world.at(2), 4, Reply::Identified(Box::new(survivor(4))));
    assert_eq!(world.at(2).state(), Outside);
    let words = world.at(2).waiting_for();
    assert!(words.contains("list its present members"), "{words}");
}

#[test]
fn fresh_processes_wait_no_longer_than_needed() {
    let mut world = World::new();
    for id in 1..=3 {
        world.at(id).wait(10);
    }
    for _ in 0..9 {
        world.tick();
    }
    assert_eq!(world.states(), [Fresh; 3]);
    for _ in 0..2 * PROBE_TICKS {
        world.tick();
    }
    assert_eq!(world.states(), [Started; 3]);
}

#[test]
fn a_coordinator_that_is_asked_by_a_survivor_takes_its_offer_back() {
    let mut coordinator = fresh(1, 0xb);
    coordinator.tick();
    for id in [2, 3] {
        answer(
            &mut coordinator,
            id,
            Reply::Identified(Box::new(status(&fresh(id, 0xb)))),
        );
    }
    let calls = coordinator.take_calls();
    let offered = calls.iter().find_map(|(id, call)| match call {
        Call::Offer(offer) => Some((*id, offer.cluster_id)),
        _ => None,
    });
    let (id, cluster_id) = offered.expect("an offer");
    coordinator.asked(&introduced(&survivor(4)));
    for to in [2, 3].map(node) {
        let number = id.number + u64::from(to != id.to);
        let accepted = true;
        coordinator.replied(
            CallId { to, number },
            Reply::Offered {
                cluster_id,
                accepted,
            },
        );
    }
    assert_eq!(coordinator.state(), Fresh);
}

#[test]
fn other_clusters_and_joiners_hold_no_formation_up() {
    let mut process = fresh(1, 0xa);
    let unrelated = Introduction {
        members: Arc::new([7, 8, 9].map(node).into()),
        ..introduced(&survivor(7))
    };
    process.asked(&unrelated);
    process.asked(&Formation::new(raft_id_of(4, 1), &grown(), false, 1).introduction());
    process.asked(&fresh(1, 0xb).introduction());
    assert_eq!(**process.known(), members());
}

#[test]
fn a_fresh_process_joins_what_its_members_confirm_and_nothing_else() {
    let (running, forged) = (ClusterId(0xa), ClusterId(0xbad));
    let mut process = fresh(3, 0xb);
    process.tick();
    process.take_calls();
    answer(&mut process, 1, Reply::Failed);
    process.tick();
    assert!(!process.join(forged));
    assert_eq!(process.take_calls().len(), 1, "it asks at once");
    assert!(!process.join(running));
    assert_eq!(process.take_calls().len(), 0, "once a tick");
    answer(&mut process, 1, Reply::Identified(Box::new(survivor(1))));
    assert!(!process.join(forged));
    assert!(process.join(running));

    // A process that only says so itself is no member.
    let mut process = fresh(3, 0xb);
    process.asked(&introduced(&survivor(4)));
    answer(&mut process, 4, Reply::Identified(Box::new(survivor(4))));
    assert_eq!(process.state(), Outside);
    assert!(!process.join(running));
}

/// With a heartbeat of 50 ms a call may take 100 ticks.
#[test]
fn an_answer_counts_for_its_own_question_only() {
    let mut process = fresh(1, 0xa);
    process.tick();
    let first = process.take_calls();
    for _ in 0..=CALL_TICKS + PROBE_TICKS {
        process.tick();
    }
    assert_eq!(process.take_calls().len(), 2, "asked again");
    for (id, _) in first {
        let late = status(&fresh(id.to.get(), 0xa));
        process.replied(id, Reply::Identified(Box::new(late)));
    }
    assert!(process.take_calls().is_empty(), "no offer");
    assert_eq!(
        process.waiting_for(),
        "nodes 2 and 3 have not been found yet"
    );
}

/// Wide seeds 153286 and 159021 of the simulation: files of different times, so no cluster formed, and
/// no message said why.
#[test]
fn an_offer_with_other_members_is_refused_and_named() {
    let grown = [1, 2, 3, 4].map(node).into();
    let mut process = Formation::new(raft_id_of(2, 1), &grown, true, 42);
    let offer = Offer {
        cluster_id: ClusterId(7),
        coordinator: raft_id_of(1, 1),
        members: [1, 2, 3].map(|id| raft_id_of(id, 1)).into(),
        membership: members(),
        absent: BTreeSet::new(),
        level: ProtocolLevel::FIRST,
        limits: None,
        time: None,
    };
    assert_eq!(process.differs_from(), None);
    assert!(!process.offered(offer));
    assert_eq!(process.differs_from(), Some(node(1)));
    assert_eq!(
        process.waiting_for(),
        "cluster.initial_members of this node and of node 1 differ: make them the same on every node"
    );
    for _ in 0..=CALL_TIMEOUTS * PACE {
        process.tick();
    }
    assert_eq!(process.differs_from(), None, "it is not offered any more");
}

/// Seen: node 1 had a wrong address of node 2, which asked it all the time, and status offered to form
/// without node 2.
#[test]
fn no_node_is_left_out_that_asks() {
    let mut process = fresh(1, 0xa);
    let ask_all = |process: &mut Formation| {
        for (call, _) in process.take_calls() {
            process.replied(call, Reply::Failed);
        }
    };
    process.tick();
    process.asked(&fresh(2, 0xb).introduction());
    ask_all(&mut process);
    let missed = process.reach().map(|reach| reach.missed.clone());
    assert_eq!(
        missed,
        Some(vec![Missed {
            node: node(2),
            answering: Answering::Silent,
            asks: true
        }])
    );
    let refused = process.form_without([node(2)].into()).unwrap_err();
    assert!(
        refused.to_string().contains("in the file of node 1"),
        "{refused}"
    );
    for _ in 0..=2 * PACE {
        process.tick();
        ask_all(&mut process);
    }
    assert_eq!(process.reach(), None, "it has ended");
    process.form_without([node(2)].into()).unwrap();
}
