//! Negative controls: a rule is broken on purpose, and the simulation must notice. One that sees
//! nothing wrong with a wrong system says nothing about a right one.

use crate::invariants::Promise;
use crate::runner::{Report, run_seeds};
use crate::sabotage::Sabotage;
use crate::trace::Show;
use crate::world::Plan;

/// Seeds that a control runs.
const SEEDS: u64 = 400;

fn run(sabotage: Sabotage, troubles: bool) -> Report {
    let plan = Plan {
        sabotage: Some(sabotage),
        troubles,
        ..Plan::new(Show::Nothing)
    };
    let report = run_seeds(0, SEEDS, plan);
    if std::env::var("DUMP").is_ok() {
        println!("{report}");
    }
    println!(
        "{sabotage:?}, troubles {troubles}: {} of {SEEDS} caught ({})",
        report.failures.len(),
        report.by_invariant()
    );
    report
}

/// Breaks the rule in `SEEDS` runs; at least `least` of them must be seen to be wrong.
fn is_caught(sabotage: Sabotage, least: usize) {
    let report = run(sabotage, true);
    let wrong = report.broke(Promise::Safety).len();
    assert!(
        wrong >= least,
        "only {wrong} of {SEEDS} are wrong\n{report}"
    );
}

#[test]
fn a_restart_under_the_same_raft_id_is_caught() {
    is_caught(Sabotage::SameRaftId, 20);
}

#[test]
fn reads_from_the_map_of_whoever_believes_to_lead_are_caught() {
    is_caught(Sabotage::LocalReads, 10);
}

#[test]
fn reads_by_a_lease_are_caught_when_clocks_stand_still() {
    is_caught(Sabotage::LeaseReads, 2);
}

/// The lease itself is sound: only the clocks make it wrong. So the control above sees the fault
/// that it is about.
#[test]
fn reads_by_a_lease_are_right_while_clocks_run() {
    let report = run(Sabotage::LeaseReads, false);
    assert!(report.failures.is_empty(), "{report}");
}

#[test]
fn writes_acknowledged_before_a_majority_holds_them_are_caught() {
    is_caught(Sabotage::EarlyAcknowledgements, 20);
}

/// A second loss before the cluster has healed may halt it, but never makes it lie.
#[test]
fn restarts_before_the_cluster_has_healed_halt_it_at_worst() {
    let report = run(Sabotage::UngatedRestarts, true);
    let (wrong, halted) = (
        report.broke(Promise::Safety),
        report.broke(Promise::Liveness),
    );
    assert!(wrong.is_empty(), "{report}");
    assert!(halted.len() >= 10, "only {} halted", halted.len());
}
