//! Nodes of different versions in one cluster.

use super::lab::{Lab, TICK, info, node};
use super::*;
use crate::cluster::{ClusterView, State, Survey};
use crate::error::Reason;
use crate::kv::Command;
use crate::types::{NodeId, ProtocolLevel};

const ONE: ProtocolLevel = ProtocolLevel::FIRST;

fn two() -> ProtocolLevel {
    ProtocolLevel::new(2)
}

/// Three nodes that speak `levels`, after they have formed a cluster.
fn cluster(levels: [ProtocolLevel; 3]) -> Lab {
    let mut lab = Lab::new(0, 1, RaftOptions::default());
    for (id, level) in (1..).map(node).zip(levels) {
        lab.configure(id);
        lab.levels.insert(id, level);
    }
    for id in (1..=3).map(node) {
        lab.begin(id, true);
    }
    let formed = lab.until(50 * TICK, 0, healed);
    assert!(formed.is_some(), "no cluster has formed");
    lab
}

/// The level of the cluster, as each node has applied it.
fn levels(lab: &Lab) -> Vec<ProtocolLevel> {
    let members = lab.replicas.values();
    members
        .map(|replica| replica.status().cluster_level)
        .collect()
}

pub(super) fn state_and_summary(lab: &Lab) -> (State, String) {
    let asked = lab.leader().unwrap_or(node(1));
    let own = &lab.replicas[&asked];
    let answers = lab.replicas.iter().map(|(id, it)| (*id, Ok(it.status())));
    let survey = Survey::new(own.status(), own.members().clone(), answers);
    ClusterView::new(&survey).sum_up()
}

fn healed(lab: &Lab) -> bool {
    state_and_summary(lab).0 == State::Healthy
}

/// Restarts the process of `id`, which speaks `level` from now on, and waits until the cluster is healthy.
fn restart(lab: &mut Lab, id: NodeId, level: ProtocolLevel, writes: u64) {
    lab.levels.insert(id, level);
    lab.begin(id, true);
    let healed = lab.until(100 * TICK, writes, healed);
    assert!(
        healed.is_some(),
        "node {id} does not come back: {:?}",
        state_and_summary(lab)
    );
}

#[test]
fn a_cluster_forms_at_the_level_that_all_speak() {
    assert_eq!(levels(&cluster([two(); 3])), [two(); 3]);
    for lower in 0..3 {
        let mut spoken = [two(); 3];
        spoken[lower] = ONE;
        let mut lab = cluster(spoken);
        lab.until(50 * TICK, 1, |_| false);
        assert_eq!(levels(&lab), [ONE; 3], "one of them speaks 1 only");
    }
}

#[test]
fn a_rolling_upgrade_under_load_raises_the_level_when_the_last_has_come() {
    let mut lab = cluster([ONE; 3]);
    let mut acknowledged = lab.acknowledged;
    for id in [3, 2, 1].map(node) {
        assert_eq!(levels(&lab), [ONE; 3], "not all of them speak 2");
        restart(&mut lab, id, two(), 5);
        assert!(lab.acknowledged > acknowledged, "writes go on");
        acknowledged = lab.acknowledged;
    }
    let raised = lab.until(20 * TICK, 5, |lab| levels(lab) == [two(); 3]);
    assert!(raised.is_some(), "{:?}", levels(&lab));
    // A process that starts now gets it with the snapshot.
    restart(&mut lab, node(2), two(), 5);
    assert_eq!(levels(&lab), [two(); 3]);
}

#[test]
fn a_process_of_a_lower_level_is_not_let_in_and_both_sides_say_so() {
    let mut lab = cluster([two(); 3]);
    let three = node(3);
    lab.levels.insert(three, ONE);
    lab.begin(three, true);
    lab.until(100 * TICK, 1, |_| false);
    let outsider = &lab.replicas[&three];
    assert!(outsider.raft().is_none());
    let says = outsider.waiting_for();
    assert!(says.contains("too old"), "{says}");
    let told: Vec<_> = lab
        .of_versions
        .iter()
        .filter(|(_, event)| matches!(event, Event::TooOld { .. }))
        .collect();
    let leader = lab.leader().expect("a leader");
    let [(by, Event::TooOld { process, .. })] = told.as_slice() else {
        panic!("said once: {told:?}");
    };
    assert_eq!((*by, process.node_id()), (leader, three));
    let (state, summary) = state_and_summary(&lab);
    assert_eq!(state, State::Degraded);
    assert!(
        summary.contains("node 3 runs an older version and is not let in any more"),
        "{summary}"
    );
    restart(&mut lab, three, two(), 1);
}

#[test]
fn a_command_that_a_member_does_not_know_is_not_proposed() {
    let mut lab = cluster([two(), two(), ONE]);
    // The leader asks all members for their status.
    lab.until(10 * TICK, 1, |_| false);
    let leader = lab.leader().expect("a leader");
    lab.command(
        leader,
        &Command::RaiseLevel {
            level: two(),
            revision: 0,
        },
    );
    let [refusal] = lab.refusals.as_slice() else {
        panic!("{:?}", lab.refusals);
    };
    let rule = "node 3 runs an older version".to_owned();
    assert_eq!(refusal.reason, Reason::FailedPrecondition { rule });
    lab.until(20 * TICK, 1, |_| false);
    assert_eq!(levels(&lab), [ONE; 3]);
    assert!(healed(&lab));
}

/// The fault: the leader says that the cluster speaks 2, and one follower only speaks 1.
#[test]
fn a_follower_that_cannot_read_an_entry_is_named() {
    let mut lab = cluster([two(), two(), ONE]);
    let leader = lab.leader().expect("a leader");
    assert_ne!(leader, node(3));
    lab.force_level(leader, two());
    lab.until(20 * TICK, 1, |_| false);
    assert_eq!(levels(&lab), [two(), two(), ONE], "the others have it");
    let three = &lab.replicas[&node(3)];
    let held = three.status();
    assert_eq!(held.unreadable, Some(held.last_index + 1));
    let (state, summary) = state_and_summary(&lab);
    assert_eq!(state, State::Degraded, "{summary}");
    assert!(
        summary.contains("node 3 runs an older version and cannot read entry"),
        "{summary}"
    );
    let said = lab
        .of_versions
        .iter()
        .filter(|(_, event)| matches!(event, Event::Unreadable { .. }));
    assert_eq!(said.count(), 1, "the log says so once");
    restart(&mut lab, node(3), two(), 1);
}

/// A rolling upgrade to a version that writes entries which the others do not know, without a higher level.
#[test]
fn a_leader_whose_followers_cannot_read_it_makes_way_and_writes_go_on() {
    let mut lab = cluster([two(), ONE, ONE]);
    let leader = lab.leader().expect("a leader");
    assert_eq!(leader, node(1));
    lab.force_level(leader, two());
    lab.until(20 * TICK, 1, |_| false);
    let (state, summary) = state_and_summary(&lab);
    assert_eq!(state, State::Degraded);
    for id in [2, 3] {
        let named = format!("node {id} runs an older version and cannot read entry");
        assert!(summary.contains(&named), "{summary}");
    }
    let acknowledged = lab.acknowledged;
    let served = lab.until(200 * TICK, 1, |lab| {
        lab.leader() != Some(leader) && lab.acknowledged > acknowledged && healed(lab)
    });
    assert!(served.is_some(), "{:?}", state_and_summary(&lab));
    assert_eq!(levels(&lab), [ONE; 3]);
}

#[test]
fn a_node_that_joins_later_gets_the_level_with_the_snapshot() {
    let mut lab = cluster([two(); 3]);
    let leader = lab.leader().expect("a leader");
    lab.levels.insert(node(4), two());
    lab.begin(node(4), false);
    lab.command(leader, &Command::AddMember(info(node(4))));
    let joined = lab.until(100 * TICK, 1, |lab| levels(lab) == [two(); 4]);
    assert!(joined.is_some(), "{:?}", levels(&lab));
}
