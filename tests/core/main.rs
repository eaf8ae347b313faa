//! The core, one behaviour at a time, as readable scripts.
//!
//! A script below `scripts/` drives a few replicas over a network that does nothing by itself: messages
//! wait until the script delivers or drops them. Each block of commands is followed by the output of the
//! replicas, so a script is at once a test and an example of the protocol:
//!
//! ```text
//! # The write is in the leader's log, and on its way to the followers.
//! set 1 a=1
//! ---
//! n1 → n2 AppendEntries term=2 prev=2@2 entries=[3@2 set a=1] commit=2
//! n1 → n3 AppendEntries term=2 prev=2@2 entries=[3@2 set a=1] commit=2
//! ```
//!
//! Read `3@2` as index 3, term 2. `n1'` is the second incarnation of node 1: a process that was
//! restarted under the same node id and has forgotten everything. `→` is a Raft message, `⇢` a call or a
//! reply of the formation, `✗` one that is lost on its way, `⇒` an answer to a caller. The commands are
//! in `commands.rs`, the notation is in `show.rs`.
//!
//! For every script the runner checks that every caller is answered exactly once, that the replicas owe
//! answers to exactly the callers that wait, and that no term has two leaders.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test core` rewrites the outputs. Then read them: a trace shows the
//! behaviour of the core, and only a reader knows whether that is right.

#![cfg(test)]

mod cluster;
mod commands;
mod show;
mod txn;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use commands::Script;

/// Declares a test for every script, and the list of all of them.
macro_rules! scripts {
    ($($topic:ident { $($behaviour:ident)* })*) => {
        $(mod $topic {
            $(#[test]
            fn $behaviour() {
                super::check(concat!(stringify!($topic), "/", stringify!($behaviour)));
            })*
        })*

        const LISTED: &[&str] = &[$($(concat!(stringify!($topic), "/", stringify!($behaviour)),)*)*];
    };
}

scripts! {
    formation {
        a_prepared_process_starts_on_traffic_of_its_cluster
        a_node_that_is_being_removed_is_found
        a_process_claimed_by_another_offer_finds_the_running_cluster
        a_restarted_node_waits_outside
        coordinator_dies_after_one_heard_the_start
        coordinator_dies_before_any_process_hears_the_start
        coordinator_dies_before_it_offers
        coordinator_dies_while_it_offers
        fresh_members_form_a_cluster
        no_cluster_forms_while_a_clock_is_not_credible
        no_cluster_forms_while_clocks_differ
        two_lost_memories_form_no_second_cluster
        waits_for_a_missing_member
    }
    election {
        a_leader_dies_and_another_is_elected
        a_leader_of_an_older_term_is_told_and_steps_down
        a_leader_without_a_quorum_steps_down
        a_node_with_a_shorter_log_is_not_elected
        a_one_way_cut_deposes_the_leader
        a_split_vote_is_resolved_by_the_next_timeout
        a_vote_is_given_once_a_term
        pre_vote_does_not_disturb_a_healthy_leader
    }
    watch {
        a_client_goes_on_at_another_node
        a_follower_tells_of_a_commit_at_once
        a_node_that_hears_no_leader_ends_its_watches
        a_node_outside_takes_no_watch
        a_recovery_resets_the_watches
        a_snapshot_resets_the_watches
        a_watch_survives_a_change_of_leader
        a_watch_tells_why_a_key_has_gone
        the_first_revisions_reset_the_watches
    }
    write {
        a_batch_is_one_append_for_each_follower
        a_batch_larger_than_a_message_is_cut
        a_change_of_leader_fails_the_waiting_callers
        a_follower_refuses_and_says_who_leads
        a_follower_that_was_unreachable_is_probed
        a_node_without_a_leader_refuses
        a_write_is_answered_when_a_majority_holds_it
        a_write_that_no_majority_holds_is_not_committed
        a_write_with_unknown_outcome_may_still_be_applied
        an_append_that_is_lost_is_sent_again
        delete_says_whether_the_key_was_there
        too_many_waiters_are_refused
        too_much_uncommitted_data_is_refused
        writes_beyond_the_state_are_refused
        entries_of_a_former_leader_count_for_the_state
        unanswered_appends_are_bounded
        writes_are_applied_in_log_order
    }
    pipeline {
        a_read_is_confirmed_after_it_has_looked
        a_read_sees_the_writes_before_it_and_none_behind_it
        reads_among_writes_fail_when_leadership_ends
        too_many_are_refused_one_by_one
    }
    read {
        a_follower_refuses_reads
        a_late_answer_of_an_old_round_confirms_nothing
        a_lost_round_is_repeated_by_the_next_heartbeat
        a_read_among_writes_sees_what_was_committed_when_it_came
        a_read_sees_every_write_that_was_acknowledged_before
        a_read_waits_for_one_round_of_heartbeats
        a_round_takes_a_bounded_batch
        an_isolated_leader_does_not_serve
        many_reads_share_one_round
        reads_fail_when_leadership_ends
        reads_wait_until_the_leader_has_committed_in_its_term
        rounds_of_reads_do_not_repeat_a_probe
    }
    transaction {
        a_numbered_transaction_that_comes_again_gets_its_first_answer
        a_revision_is_that_of_the_write_that_bound_the_key
        a_transaction_that_writes_nothing_needs_no_entry
        conditions_decide_which_operations_are_carried_out
        while_an_older_version_takes_part_transactions_are_refused
    }
    session {
        a_late_duplicate_of_a_forgotten_number_is_refused
        a_retry_at_a_new_leader_gets_the_first_answer
        a_retry_gets_the_first_answer
        a_session_survives_snapshots_and_new_incarnations
        a_write_of_an_unknown_session_is_refused
        two_copies_under_way_apply_once
    }
    lock {
        a_claim_survives_its_leader
        a_claim_waits_no_longer_than_it_wants_to
        a_lock_goes_on_when_a_session_ends
        a_release_before_its_acquire_uses_up_the_number
        claims_wait_in_their_order
        locks_survive_snapshots_and_recovery
    }
    time {
        a_failover_neither_restarts_nor_shortens_a_ttl
        a_follower_renews_nothing
        a_key_ends_at_the_same_entry_at_every_node
        a_leader_that_was_replaced_counts_nothing
        a_pause_of_the_leader_counts_half_a_second
        a_recovery_keeps_lifetimes
        a_session_lives_as_long_as_it_is_renewed
        a_leader_that_was_replaced_calls_no_session_expired
        an_idle_cluster_stays_idle
        lifetimes_survive_snapshots_and_new_incarnations
        living_sessions_are_listed_page_by_page
        no_load_refuses_a_renewal
        renewals_end_with_the_leadership
        what_ends_together_ends_in_batches
        while_an_older_version_takes_part_nothing_lives
    }
    log {
        a_follower_behind_the_compacted_log_gets_a_snapshot
        a_heartbeat_commits_no_more_than_the_follower_holds
        a_long_unapplied_log_keeps_its_tail
        a_snapshot_holds_what_is_applied_when_it_leaves
        a_snapshot_of_what_is_already_there_changes_nothing
        a_snapshot_replaces_a_divergent_log
        a_snapshot_that_failed_is_sent_again
        a_snapshot_without_a_report_holds_the_follower_back
        an_append_follows_its_snapshot_in_the_same_turn
        an_older_entry_is_committed_only_with_one_of_the_leaders_own
        compaction_keeps_a_tail
        compaction_keeps_what_follows_a_snapshot_of_large_entries
        compaction_keeps_what_follows_a_snapshot_under_way
        compaction_keeps_what_is_not_applied
        conflicting_entries_are_overwritten
    }
    refuse {
        a_heartbeat_that_commits_past_the_log
        a_late_snapshot_of_an_old_leader
        a_message_for_another_incarnation
        a_message_of_another_cluster
        a_snapshot_at_the_commit_of_another_term
        a_snapshot_without_its_state_machine
        a_vote_request_of_a_non_member_does_not_disturb
        a_term_too_far_ahead
        an_answer_of_a_process_that_is_no_member
        an_append_answer_past_the_log
        an_append_before_the_commit
        an_append_that_leaves_a_gap
        late_messages_of_an_old_leader
        timeout_now_of_a_non_member
    }
    rejoin {
        a_restarted_follower_is_taken_back
        a_restarted_leader_is_taken_back
        a_second_loss_before_healed_halts
    }
    members {
        a_dead_member_is_removed
        a_follower_is_removed_and_ends
        a_member_stays_when_another_one_dies_meanwhile
        a_member_that_is_no_voter_yet_may_be_removed
        a_node_that_is_no_member_waits_outside
        a_removed_node_that_is_elected_steps_down
        a_removed_node_that_hears_nothing_does_not_disturb
        a_removed_node_waits_while_its_vote_may_be_needed
        a_removed_node_that_is_started_again_is_not_let_in
        a_voter_stays_while_the_others_have_no_majority
        leader_dies_in_the_middle_of_a_change
        the_cluster_grows
        the_cluster_shrinks
        the_leader_is_removed
        the_members_may_stand_first
        two_changes_are_made_one_after_the_other
    }
    level {
        a_rolling_upgrade_raises_the_level
        an_older_version_is_not_let_in
        the_level_stays_while_clocks_differ
    }
    recovery {
        a_recovery_keeps_what_stands_behind_the_commit_index
        a_claimant_that_dies_sets_the_others_free
        an_invalid_recovery_is_refused
        a_survivor_that_was_removed_is_a_member_again
        an_old_survivor_stays_out_until_it_is_restarted
        a_recovery_skips_the_revisions_behind_the_commit_index
        forms_without_a_member_once_clocks_agree
        forms_without_a_member_that_comes_later
        forms_without_a_member_that_comes_meanwhile
        invalid_orders_to_form_are_refused
        one_of_two_survivors_recovers
        two_lose_their_memory_and_the_third_recovers
    }
    transfer {
        a_node_that_does_not_lead_cannot_transfer_leadership
        another_transferee_replaces_the_first
        reads_go_on_meanwhile
        right_after_the_quorum_check
        to_a_dead_node_is_given_up
        to_a_named_node
        to_a_node_that_does_not_vote
        to_itself_changes_nothing
        to_the_best_transferee
        in_a_cluster_of_one_member
        writes_are_refused_meanwhile
        writes_that_came_before_are_answered
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/core/scripts")
}

/// Runs a script twice, which must give the same output, and compares it with the output in the file.
fn check(script: &str) {
    let path = scripts().join(script);
    let input = fs::read_to_string(&path).expect("the script can be read");
    let run = || goldenscript::generate(&mut Script::default(), &input).expect(script);
    assert_eq!(run(), run(), "{script}: two runs differ");
    goldenscript::run(&mut Script::default(), path).expect(script);
}

#[test]
fn every_script_is_listed() {
    let names = |directory: &Path| -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("ASCII")
            })
            .collect()
    };
    let topics = names(&scripts());
    let found: BTreeSet<_> = topics
        .iter()
        .flat_map(|topic| {
            let behaviours = names(&scripts().join(topic));
            behaviours
                .into_iter()
                .map(move |behaviour| format!("{topic}/{behaviour}"))
        })
        .collect();
    let listed: BTreeSet<_> = LISTED.iter().map(|&script| script.to_owned()).collect();
    assert_eq!(
        listed, found,
        "scripts that are listed, scripts that there are"
    );
}

#[test]
fn a_caller_without_an_answer_fails_the_script() {
    let script = "cluster nodes=3\n(form)\nset 1 a=1\n---\n";
    let error = goldenscript::generate(&mut Script::default(), script).unwrap_err();
    assert_eq!(
        error.to_string(),
        r##"end_script failed: the script ends while callers wait: ["n1 #1 set a=1"]"##
    );
}
