//! The core under a steady load without pauses, with one node farther away than the others.

use std::sync::Arc;

use super::lab::{Lab, Link, TICK, node};
use super::*;
use crate::kv::Command;
use crate::types::{Introduction, NodeState, RaftId};

/// Three nodes, of which node 3 is `rtt` milliseconds away, after they have a leader that is not node 3
/// and `writes` entries a millisecond are under way.
fn three_nodes(rtt: u64, writes: u64) -> Lab {
    let mut lab = Lab::new(3, 1, RaftOptions::default());
    let formed = lab.until(50 * TICK, 0, |lab| lab.leader().is_some());
    assert!(formed.is_some(), "no cluster has formed");
    assert_ne!(lab.leader(), Some(node(3)), "the coordinator leads");
    lab.link(node(3), far(rtt));
    lab.until(5 * TICK, writes, |_| false);
    lab
}

fn far(rtt: u64) -> Link {
    Link {
        latency: rtt / 2,
        ..Link::default()
    }
}

/// Milliseconds until the current incarnation of node 3 is a voter, and no other incarnation of it is.
fn heals(lab: &mut Lab, limit: u64, writes: u64) -> Option<u64> {
    lab.until(limit, writes, |lab| {
        let incarnation = lab.replicas.get(&node(3)).map(Replica::raft_id);
        let voters = lab.leader().map(|leader| lab.voters(leader));
        voters.is_some_and(|voters| {
            let of_three = |id: &&RaftId| id.node_id() == node(3);
            voters.iter().filter(of_three).copied().eq(incarnation)
        })
    })
}

/// Round trips in milliseconds, and writes a millisecond. Far more than 64 are always on their way.
const LOADS: [(u64, u64); 4] = [(20, 5), (4, 40), (60, 2), (200, 10)];

#[test]
fn a_node_that_is_far_away_heals_under_steady_load() {
    for (rtt, writes) in LOADS {
        let mut lab = three_nodes(rtt, writes);
        let acknowledged = lab.acknowledged;
        lab.begin(node(3), true);
        let healed = heals(&mut lab, 60 * TICK, writes);
        assert!(healed.is_some(), "{rtt} ms, {writes} writes a millisecond");
        assert!(lab.acknowledged > acknowledged, "writes went on");
    }
}

/// Node 1 leads and is removed together with node 2, so that node 3, which is far away, has to take over.
#[test]
fn a_removed_leader_transfers_leadership_to_a_distant_node() {
    for (rtt, writes) in LOADS {
        let mut lab = three_nodes(rtt, writes);
        let leader = lab.leader().expect("a leader");
        lab.command(leader, &Command::RemoveMember(node(2)));
        lab.command(leader, &Command::RemoveMember(node(1)));
        let over = lab.until(60 * TICK, writes, |lab| lab.leader() == Some(node(3)));
        assert!(over.is_some(), "{rtt} ms, {writes} writes a millisecond");
        let alone = lab.until(60 * TICK, writes, |lab| lab.voters(node(3)).len() == 1);
        assert!(alone.is_some(), "the others are removed");
    }
}

/// A link with little more capacity than the load: the node catches up slowly, and is not promoted before
/// it has.
#[test]
fn a_node_behind_a_narrow_link_heals_under_steady_load() {
    let (rtt, writes, snapshot) = (20, 5, 3_000);
    for entries in [6, 10] {
        let mut lab = three_nodes(rtt, writes);
        let narrow = Link {
            entries,
            snapshot,
            ..far(rtt)
        };
        lab.link(node(3), narrow);
        lab.begin(node(3), true);
        let healed = heals(&mut lab, 100 * TICK, writes);
        let sent = snapshot / entries;
        assert!(healed.is_some_and(|healed| healed > sent), "{healed:?}");
    }
}

/// Freeing a large log takes long, and the node's thread has heartbeats to send.
#[test]
fn a_large_log_is_freed_elsewhere() {
    let options = RaftOptions {
        compact_after_entries: 20_000,
        ..RaftOptions::default()
    };
    let mut lab = Lab::new(3, 1, options);
    let cut = lab.until(50 * TICK, 500, |lab| lab.retired > 0);
    assert!(cut.is_some());
    let kept = options.compact_keep_entries;
    assert!(lab.retired > 20_000 - kept, "{} entries", lab.retired);
}

/// A process with the id of another one, at an unknown address: it asks, and is never asked. It went
/// unnoticed.
#[test]
fn a_second_process_that_only_asks_is_named_and_none_is_replaced() {
    let mut lab = three_nodes(2, 1);
    let leader = lab.leader().expect("a leader");
    for of in [node(3), leader] {
        let current = lab.replicas[&of].raft_id();
        let other = RaftId::new(of, 7);
        let (both, voters) = ([other.min(current), other.max(current)], lab.voters(leader));
        let asks = Introduction {
            raft_id: other,
            state: NodeState::Fresh,
            cluster_id: None,
            members: Arc::default(),
        };
        for _ in 0..40 {
            lab.replicas.get_mut(&leader).expect("it runs").asked(&asks);
            lab.until(10 * TICK, 1, |_| false);
        }
        let doubled = lab.replicas[&leader].status().doubled;
        assert!(doubled.contains(&both), "{doubled:?}");
        assert_eq!(lab.voters(leader), voters);
    }
}

/// A cluster in which large packets from the nodes `from` do not arrive. Small ones do.
fn with_holes(from: &[u16]) -> Lab {
    let mut lab = three_nodes(2, 1);
    for (from, to) in from
        .iter()
        .flat_map(|from| (1..=3).map(move |to| (*from, to)))
    {
        let hole = Link {
            hole: true,
            ..Link::default()
        };
        lab.link_one_way(node(from), node(to), hole);
    }
    lab
}

fn term(lab: &Lab) -> u64 {
    let leader = lab.leader().expect("a leader");
    let raft = lab.replicas[&leader].raft();
    raft.expect("it takes part").term()
}

#[test]
fn a_leader_whose_appends_do_not_arrive_makes_way_for_one_whose_do() {
    let mut lab = with_holes(&[1]);
    let (acknowledged, began) = (lab.acknowledged, lab.now);
    assert_eq!(lab.leader(), Some(node(1)));
    let written = lab.until(300 * TICK, 1, |lab| {
        lab.leader() != Some(node(1)) && lab.acknowledged > acknowledged + 1_000
    });
    assert!(written.is_some(), "no other node leads");
    let waited = lab.now - began;
    assert!(
        waited >= 100 * TICK,
        "not before ten election timeouts: {waited} ms"
    );
    // The new leader stays.
    let led = term(&lab);
    lab.until(600 * TICK, 1, |_| false);
    assert_eq!(term(&lab), led);
}

#[test]
fn leaders_none_of_whose_appends_arrive_give_up_now_and_then_only() {
    let mut lab = with_holes(&[1, 2, 3]);
    let began = term(&lab);
    lab.until(1_000 * TICK, 1, |_| false);
    let elections = term(&lab) - began;
    assert!((1..=10).contains(&elections), "{elections} in 100 s");
}

#[test]
fn a_leader_that_has_nothing_to_replicate_leads_on() {
    let mut lab = with_holes(&[]);
    lab.until(10 * TICK, 0, |_| false);
    for from in (1..=3).map(node) {
        for to in (1..=3).map(node) {
            let hole = Link {
                hole: true,
                ..Link::default()
            };
            lab.link_one_way(from, to, hole);
        }
    }
    let led = term(&lab);
    lab.until(1_000 * TICK, 0, |_| false);
    assert_eq!(term(&lab), led);
}
