//! Members check that they reach one another.

use super::lab::{Lab, Link, TICK, node};
use super::level_tests::state_and_summary;
use super::*;
use crate::cluster::State;
use crate::types::NodeId;

const CUT: Link = Link {
    latency: 0,
    entries: 0,
    snapshot: 0,
    cut: true,
    hole: false,
};

fn healed(lab: &Lab) -> bool {
    state_and_summary(lab).0 == State::Healthy
}

/// Three nodes of a healed cluster.
fn three_nodes() -> Lab {
    let mut lab = Lab::new(3, 1, RaftOptions::default());
    assert!(
        lab.until(50 * TICK, 0, healed).is_some(),
        "{:?}",
        state_and_summary(&lab)
    );
    lab
}

/// The missed members, each with the node that misses it.
fn missed(lab: &Lab) -> Vec<(NodeId, NodeId)> {
    let members = lab.replicas.iter();
    let missed = members.flat_map(|(id, member)| {
        let reach = member.status().reach.unwrap_or_default();
        let missed: Vec<_> = reach.missed.iter().map(|it| (*id, it.node)).collect();
        missed
    });
    missed.collect()
}

#[test]
fn a_path_that_is_cut_is_named_until_it_is_mended() {
    let mut lab = three_nodes();
    let leader = lab.leader();
    let mut followers = [1, 2, 3].map(node).to_vec();
    followers.retain(|id| Some(*id) != leader);
    let (one, other) = (followers[0], followers[1]);
    lab.link_one_way(one, other, CUT);
    // Either the question does not arrive, or its answer does not.
    let both = vec![(one, other), (other, one)];
    let named = lab.until(50 * TICK, 1, |lab| missed(lab) == both);
    assert!(named.is_some(), "{:?}", missed(&lab));
    let words = format!(
        "degraded: nodes {one} and {other} do not reach each other: mend the network between them"
    );
    assert_eq!(state_and_summary(&lab), (State::Degraded, words));
    assert_eq!(lab.leader(), leader, "which hears both of them");
    lab.link_one_way(one, other, Link::default());
    assert!(
        lab.until(20 * TICK, 1, healed).is_some(),
        "{:?}",
        state_and_summary(&lab)
    );
}

/// A link that takes longer than an election timeout of less distant nodes.
#[test]
fn distant_members_reach_one_another() {
    let options = RaftOptions {
        election_min_ticks: 40,
        election_max_ticks: 80,
        ..RaftOptions::default()
    };
    let mut lab = Lab::new(0, 1, options);
    for id in (1..=3).map(node) {
        lab.configure(id);
        let far = Link {
            latency: 600,
            ..Link::default()
        };
        lab.link(id, far);
    }
    for id in (1..=3).map(node) {
        lab.begin(id, true);
    }
    assert!(
        lab.until(400 * TICK, 0, healed).is_some(),
        "{:?}",
        state_and_summary(&lab)
    );
    for _ in 0..600 * TICK {
        lab.step(0);
        assert!(healed(&lab), "{:?}", state_and_summary(&lab));
    }
}

/// A leader asks every few ticks anyway. All others ask once in an election timeout.
#[test]
fn questions_are_few() {
    let mut lab = three_nodes();
    lab.until(30 * TICK, 0, |_| false);
    let before = lab.calls;
    lab.until(100 * TICK, 0, |_| false);
    let (of_the_leader, of_others) = (2 * 100 / 5, 2 * 2 * 100 / 10);
    let calls = lab.calls - before;
    assert!(calls <= of_the_leader + of_others, "{calls}");
    assert!(calls >= of_others, "{calls}");
}
