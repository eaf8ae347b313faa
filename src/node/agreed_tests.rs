//! Nodes that are configured with different limits.

use super::lab::{Lab, TICK, node};
use super::level_tests::state_and_summary;
use super::*;
use crate::cluster::State;
use crate::error::Reason;
use crate::kv::{Command, Write};
use crate::types::{NodeId, NodeLimits};

const SMALL: NodeLimits = NodeLimits {
    key: 16,
    value: 100,
    append: 1_000,
    message: 4_000,
};

const LARGE: NodeLimits = NodeLimits {
    value: 1_000,
    append: 1_500,
    ..SMALL
};

/// Three nodes, of which node 3 has smaller limits.
fn cluster() -> Lab {
    let mut lab = Lab::new(0, 1, RaftOptions::default());
    for id in (1..=3).map(node) {
        lab.configure(id);
        lab.limits.insert(id, LARGE);
    }
    lab.limits.insert(node(3), SMALL);
    for id in (1..=3).map(node) {
        lab.begin(id, true);
    }
    lab.until(50 * TICK, 0, |lab| {
        state_and_summary(lab).0 == State::Healthy
    })
    .expect("a cluster");
    lab
}

/// The refusal of a value of this many bytes, if it is refused.
fn write(lab: &mut Lab, leader: NodeId, bytes: usize) -> Option<Reason> {
    let refused = lab.refusals.len();
    let set = Command::from(Write::Set {
        key: "k".into(),
        value: vec![0; bytes].into(),
    });
    lab.command(leader, &set);
    let refusal = lab.refusals.get(refused);
    refusal.map(|refusal| refusal.reason.clone())
}

#[test]
fn the_leader_takes_what_every_member_can_take() {
    let mut lab = cluster();
    let leader = lab.leader().expect("a leader");
    assert_ne!(leader, node(3));
    let too_large = Reason::TooLarge {
        what: "value",
        limit: 100,
        node_id: Some(node(3)),
    };
    assert_eq!(write(&mut lab, leader, 101), Some(too_large.clone()));
    assert_eq!(write(&mut lab, leader, 100), None);
    // The same holds for a new leader: it has heard of the others during formation.
    lab.transfer(leader, node(2));
    lab.until(20 * TICK, 0, |lab| lab.leader() == Some(node(2)))
        .expect("node 2 leads");
    assert_eq!(write(&mut lab, node(2), 101), Some(too_large));

    lab.limits.insert(node(3), LARGE);
    lab.begin(node(3), true);
    lab.until(100 * TICK, 1, |lab| {
        state_and_summary(lab).0 == State::Healthy
    })
    .expect("node 3 is back");
    assert_eq!(write(&mut lab, node(2), 101), None, "it takes more now");
}

#[test]
fn a_member_that_takes_less_is_named() {
    let mut lab = cluster();
    lab.until(10 * TICK, 0, |_| false);
    let (state, summary) = state_and_summary(&lab);
    assert_eq!(state, State::Healthy);
    assert!(
        summary.contains("limits.max_value_bytes is 100 on node 3 and 1000 on node 2"),
        "{summary}"
    );
    let told: Vec<_> = lab
        .of_versions
        .iter()
        .filter_map(|(_, event)| match event {
            Event::TakesLess { limit, there, .. } => Some((*limit, *there)),
            _ => None,
        })
        .collect();
    let expected = [
        ("limits.max_value_bytes", 100),
        ("limits.max_append_bytes", 1_000),
    ];
    assert_eq!(told, expected, "said once");
}

/// Three nodes, whose states are bounded so; and their leader.
fn bounded(states: &[(u16, usize)]) -> (Lab, NodeId) {
    let mut lab = Lab::new(0, 1, RaftOptions::default());
    for id in (1..=3).map(node) {
        lab.configure(id);
    }
    for (id, bytes) in states {
        lab.states.insert(node(*id), *bytes);
    }
    for id in (1..=3).map(node) {
        lab.begin(id, true);
    }
    lab.until(50 * TICK, 0, |lab| {
        state_and_summary(lab).0 == State::Healthy
    })
    .expect("a cluster");
    lab.until(10 * TICK, 0, |_| false);
    let leader = lab.leader().expect("a leader");
    (lab, leader)
}

fn full(limit: u64, node_id: NodeId) -> Option<Reason> {
    let what = "max_state_bytes";
    Some(Reason::Full {
        what,
        limit,
        node_id,
    })
}

#[test]
fn the_leader_names_itself_where_no_member_has_less_room() {
    let (mut lab, leader) = bounded(&[1, 2, 3].map(|id| (id, 4_000)));
    assert_eq!(write(&mut lab, leader, 4_000), full(4_000, leader));
}

#[test]
fn the_state_takes_no_more_than_the_smallest_member_has_room_for() {
    let (mut lab, leader) = bounded(&[(3, 4_000)]);
    assert_ne!(leader, node(3));
    assert_eq!(write(&mut lab, leader, 4_000), full(4_000, node(3)));
    assert_eq!(write(&mut lab, leader, 3_000), None);

    lab.states.clear();
    lab.begin(node(3), true);
    lab.until(100 * TICK, 0, |lab| {
        state_and_summary(lab).0 == State::Healthy
    })
    .expect("node 3 is back");
    lab.until(10 * TICK, 0, |_| false);
    assert_eq!(write(&mut lab, leader, 4_000), None, "it has more room now");
}

#[test]
fn an_offer_says_what_the_coordinator_takes() {
    let mut lab = Lab::new(0, 1, RaftOptions::default());
    for id in (1..=3).map(node) {
        lab.configure(id);
        lab.limits.insert(id, LARGE);
    }
    lab.limits.insert(node(1), SMALL);
    for id in (1..=3).map(node) {
        lab.begin(id, true);
    }
    // Only the coordinator hears the limits of the others.
    lab.deaf = [node(2), node(3)].into();
    lab.until(50 * TICK, 0, |lab| lab.leader() == Some(node(1)))
        .expect("a cluster");
    lab.until(5 * TICK, 0, |_| false);
    lab.transfer(node(1), node(2));
    lab.until(20 * TICK, 0, |lab| lab.leader() == Some(node(2)))
        .expect("node 2 leads");
    let too_large = Reason::TooLarge {
        what: "value",
        limit: 100,
        node_id: Some(node(1)),
    };
    assert_eq!(write(&mut lab, node(2), 101), Some(too_large));
}
