//! Negative controls: a rule is broken on purpose, and the simulation must notice. A simulation that
//! finds no fault in a wrong system proves nothing about a right one.

use crate::invariants::Promise;
use crate::runner::{Report, run_seeds};
use crate::sabotage::Sabotage;
use crate::setting::Scope;
use crate::trace::Show;
use crate::world::{HowMany, Plan};

/// Breaks a rule in so many runs of the narrow world.
fn run(sabotage: Sabotage, troubles: HowMany, seeds: u64) -> Report {
    let plan = Plan::new(Scope::Narrow, Show::Nothing);
    run_plan(Plan { troubles, ..plan }, sabotage, seeds)
}

/// Breaks a rule in so many runs of the wide world.
fn run_wide(sabotage: Sabotage, seeds: u64) -> Report {
    run_plan(Plan::new(Scope::Wide, Show::Nothing), sabotage, seeds)
}

/// The same with a loss of several nodes at once in every run.
fn run_disasters(sabotage: Sabotage, seeds: u64) -> Report {
    let plan = Plan::new(Scope::Wide, Show::Nothing);
    let disasters = HowMany::Often;
    run_plan(Plan { disasters, ..plan }, sabotage, seeds)
}

fn run_plan(plan: Plan, sabotage: Sabotage, seeds: u64) -> Report {
    let troubles = plan.troubles;
    let sabotage = Some(sabotage);
    let report = run_seeds(0, seeds, Plan { sabotage, ..plan });
    println!(
        "{:?}, {sabotage:?}, troubles {troubles:?}: {} of {seeds} seeds caught ({})",
        plan.scope,
        report.failures.len(),
        report.by_invariant()
    );
    report
}

/// At least `least` of the runs must end in a violation, not only in a halt.
fn assert_caught(report: &Report, least: usize) {
    let wrong = report.broke(Promise::Safety).len();
    assert!(wrong >= least, "only {wrong} are wrong\n{report}");
}

/// The leader believes that such a process still has the entries that it has lost, and never sends them
/// again. The process believes no leader before a member has confirmed the cluster, so it seldom
/// acknowledges entries that it lacks.
#[test]
fn a_restart_under_the_same_raft_id_is_caught() {
    let report = run(Sabotage::SameRaftId, HowMany::Drawn, 24);
    let caught = report.failures.len();
    assert!(caught >= 6, "only {caught} are caught\n{report}");
}

#[test]
fn reads_from_the_map_of_a_former_leader_are_caught() {
    assert_caught(&run(Sabotage::LocalReads, HowMany::Drawn, 24), 6);
}

#[test]
fn reads_by_a_lease_are_caught_when_clocks_stand_still() {
    assert_caught(&run(Sabotage::LeaseReads, HowMany::Often, 60), 3);
}

/// The lease itself is sound, and only wrong clocks break it: so the control above finds the fault that
/// it is about.
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

/// A second loss before the cluster has healed may halt it, but never leads to a wrong answer.
#[test]
fn restarts_before_the_cluster_has_healed_halt_it_at_worst() {
    let report = run(Sabotage::UngatedRestarts, HowMany::Drawn, 24);
    let halted = report.broke(Promise::Liveness).len();
    assert!(report.broke(Promise::Safety).is_empty(), "{report}");
    assert!(halted >= 6, "only {halted} halted");
}

/// At least `least` of the runs must violate this very invariant.
fn assert_caught_by(report: &Report, invariant: &str, least: usize) {
    let caught = report.failures.iter();
    let caught = caught.filter(|(_, it)| it.invariant == invariant).count();
    assert!(caught >= least, "only {caught} by {invariant}\n{report}");
}

#[test]
fn answers_that_go_back_in_time_are_caught() {
    let report = run_wide(Sabotage::LocalReads, 24);
    assert_caught_by(&report, "answers_follow_time", 1);
}

#[test]
fn reads_out_of_order_are_caught() {
    let report = run_wide(Sabotage::ReadsLast, 12);
    assert_caught_by(&report, "reads_keep_their_order", 6);
}

#[test]
fn losses_that_the_cluster_cannot_bear_are_seen_to_halt_it() {
    // About one run in twenty.
    let report = run_wide(Sabotage::UngatedAccidents, 120);
    assert_caught_by(&report, "healthy_means_any_one_may_go", 1);
}

#[test]
fn a_status_that_says_healthy_too_early_is_caught() {
    let report = run_wide(Sabotage::AlwaysHealthy, 24);
    assert_caught_by(&report, "healthy_means_any_one_may_go", 3);
}

#[test]
fn recoveries_by_two_survivors_are_caught() {
    let report = run_disasters(Sabotage::RecoverEverywhere, 40);
    assert_caught_by(&report, "one_serving_cluster", 1);
}

#[test]
fn a_recovery_by_the_survivor_that_has_least_is_caught() {
    let report = run_disasters(Sabotage::RecoverLeast, 40);
    assert_caught_by(&report, "no_copy_is_given_up", 1);
}

#[test]
fn a_node_that_does_not_heal_under_load_is_caught() {
    let report = run_wide(Sabotage::LearnersLag, 24);
    assert_caught_by(&report, "healing_ends_under_load", 3);
}

#[test]
fn a_second_cluster_beside_members_that_were_added_later_is_caught() {
    let report = run_wide(Sabotage::Forgets, 24);
    assert_caught_by(&report, "one_serving_cluster", 8);
}

/// At least `least` of the runs violate one of the two invariants, whichever notices first.
fn assert_caught_by_either(report: &Report, either: [&str; 2], least: usize) {
    let caught = report.failures.iter();
    let caught = caught.filter(|(_, it)| either.contains(&it.invariant));
    let caught = caught.count();
    assert!(caught >= least, "only {caught} by {either:?}\n{report}");
}

fn assert_revisions_repeat(report: &Report) {
    let either = ["revisions_follow_time", "revisions_are_given_once"];
    assert_caught_by_either(report, either, 1);
}

#[test]
fn revisions_that_begin_anew_with_each_cluster_are_caught() {
    assert_revisions_repeat(&run_wide(Sabotage::SameTime, 40));
}

#[test]
fn a_recovery_that_skips_no_revision_is_caught() {
    assert_revisions_repeat(&run_disasters(Sabotage::NoneSkipped, 60));
}

#[test]
fn conditions_that_are_decided_before_the_log_are_caught() {
    let report = run(Sabotage::DecidesEarly, HowMany::Drawn, 12);
    assert_caught_by(&report, "transactions_see_the_log", 6);
}

#[test]
fn a_compare_and_set_that_is_retried_without_its_number_is_caught() {
    let report = run(Sabotage::TxnsWithoutNumbers, HowMany::Drawn, 12);
    assert_caught_by(&report, "numbered_writes_apply_once", 6);
}

#[test]
fn a_dropped_event_is_caught() {
    let report = run(Sabotage::DropsEvents, HowMany::Drawn, 12);
    assert_caught_by(&report, "a_watch_shows_every_revision", 6);
}

#[test]
fn a_process_that_hangs_and_is_taken_for_gone_is_caught() {
    let report = run_disasters(Sabotage::HungIsSilent, 40);
    assert_caught(&report, 4);
}

#[test]
fn keys_that_end_by_local_clocks_are_caught() {
    let report = run(Sabotage::LocalClocks, HowMany::Drawn, 12);
    assert_caught_by(&report, "reads_see_the_log", 6);
}

#[test]
fn renewals_that_are_not_in_the_log_are_caught() {
    let report = run(Sabotage::LocalRenewals, HowMany::Drawn, 12);
    assert_caught_by(&report, "a_believed_session_lives", 6);
}

/// Clocks that are wrong by so much end lifetimes too early, and sessions that their clients hold.
#[test]
fn clocks_that_race_are_caught() {
    let report = run(Sabotage::ClocksRace, HowMany::Drawn, 12);
    for invariant in ["no_lifetime_is_cut_short", "a_believed_session_lives"] {
        assert_caught_by(&report, invariant, 1);
    }
}

#[test]
fn clocks_that_crawl_are_caught() {
    let report = run(Sabotage::ClocksCrawl, HowMany::Drawn, 12);
    let either = ["nothing_lives_for_ever", "locks_change_hands"];
    assert_caught_by_either(&report, either, 3);
}

#[test]
fn locks_that_are_granted_before_the_log_are_caught() {
    let report = run(Sabotage::GrantsEarly, HowMany::Drawn, 12);
    assert_caught_by(&report, "a_believed_holder_holds", 6);
}

#[test]
fn a_claim_that_is_retried_without_its_number_is_caught() {
    let report = run(Sabotage::ClaimsWithoutNumbers, HowMany::Drawn, 12);
    assert_caught_by(&report, "tokens_ascend", 6);
}

#[test]
fn writes_of_former_holders_are_caught() {
    let report = run(Sabotage::Unguarded, HowMany::Drawn, 12);
    assert_caught_by(&report, "guarded_writes_are_of_the_holder", 6);
}

#[test]
fn locks_of_clients_that_are_gone_are_caught() {
    let report = run(Sabotage::RenewsForAll, HowMany::Drawn, 12);
    assert_caught_by(&report, "locks_change_hands", 3);
}
