//! Negative controls: a rule is broken on purpose, and the simulation must notice. One that sees
//! nothing wrong with a wrong system says nothing about a right one.

use crate::invariants::Promise;
use crate::runner::{Report, run_seeds};
use crate::sabotage::Sabotage;
use crate::setting::Scope;
use crate::trace::Show;
use crate::world::{HowMany, Plan};

/// Breaks a rule in so many runs.
fn run(sabotage: Sabotage, troubles: HowMany, seeds: u64) -> Report {
    let plan = Plan {
        sabotage: Some(sabotage),
        troubles,
        ..Plan::new(Scope::Narrow, Show::Nothing)
    };
    let report = run_seeds(0, seeds, plan);
    println!(
        "{sabotage:?}, troubles {troubles:?}: {} of {seeds} seeds caught ({})",
        report.failures.len(),
        report.by_invariant()
    );
    report
}

/// At least `least` of the runs must have been seen to be wrong: not only halted.
fn assert_caught(report: &Report, least: usize) {
    let wrong = report.broke(Promise::Safety).len();
    assert!(wrong >= least, "only {wrong} are wrong\n{report}");
}

#[test]
fn a_restart_under_the_same_raft_id_is_caught() {
    assert_caught(&run(Sabotage::SameRaftId, HowMany::Drawn, 24), 6);
}

#[test]
fn reads_from_the_map_of_whoever_believes_to_lead_are_caught() {
    assert_caught(&run(Sabotage::LocalReads, HowMany::Drawn, 24), 6);
}

#[test]
fn reads_by_a_lease_are_caught_when_clocks_stand_still() {
    assert_caught(&run(Sabotage::LeaseReads, HowMany::Often, 60), 3);
}

/// The lease itself is sound, and only the clocks make it wrong: so what the control above sees is
/// the fault that it is about.
#[test]
fn reads_by_a_lease_are_right_while_clocks_run() {
    let report = run(Sabotage::LeaseReads, HowMany::Never, 24);
    assert!(report.failures.is_empty(), "{report}");
}

#[test]
fn writes_acknowledged_before_a_majority_holds_them_are_caught() {
    let report = run(Sabotage::EarlyAcknowledgements, HowMany::Drawn, 24);
    assert_caught(&report, 12);
}

#[test]
fn copies_of_writes_without_numbers_are_caught() {
    assert_caught(&run(Sabotage::NoNumbers, HowMany::Drawn, 24), 20);
}

/// A second loss before the cluster has healed may halt it, but never makes it lie.
#[test]
fn restarts_before_the_cluster_has_healed_halt_it_at_worst() {
    let report = run(Sabotage::UngatedRestarts, HowMany::Drawn, 24);
    let halted = report.broke(Promise::Liveness).len();
    assert!(report.broke(Promise::Safety).is_empty(), "{report}");
    assert!(halted >= 6, "only {halted} halted");
}
