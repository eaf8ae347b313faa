//! The invariants: one property a file.
//!
//! A violation is a value: a negative control counts it and does not unwind.

pub(crate) mod a_believed_holder_holds;
pub(crate) mod a_believed_session_lives;
pub(crate) mod a_recovery_decides_alike;
pub(crate) mod a_watch_shows_every_revision;
pub(crate) mod acknowledged_writes_are_kept;
pub(crate) mod answers_follow_time;
pub(crate) mod clocks_agree_when_a_cluster_forms;
pub(crate) mod equal_logs;
pub(crate) mod every_client_is_answered;
pub(crate) mod guarded_writes_are_of_the_holder;
pub(crate) mod healing_ends_under_load;
pub(crate) mod healthy_means_any_one_may_go;
pub(crate) mod linearizable;
pub(crate) mod locks_change_hands;
pub(crate) mod locks_see_the_log;
pub(crate) mod no_copy_is_given_up;
pub(crate) mod no_lifetime_is_cut_short;
pub(crate) mod no_replica_fails;
pub(crate) mod nothing_lives_for_ever;
pub(crate) mod numbered_writes_apply_once;
pub(crate) mod one_cluster;
pub(crate) mod one_holder_a_lock;
pub(crate) mod one_leader_a_term;
pub(crate) mod one_serving_cluster;
pub(crate) mod reads_keep_their_order;
pub(crate) mod reads_see_the_log;
pub(crate) mod revisions_are_given_once;
pub(crate) mod revisions_follow_time;
pub(crate) mod room_is_refused_to_growth_alone;
pub(crate) mod scans_see_one_moment;
pub(crate) mod served_after_the_calm;
pub(crate) mod tokens_ascend;
pub(crate) mod transactions_see_the_log;
pub(crate) mod waiters_end_once;
pub(crate) mod well_after_the_calm;

use std::fmt;

/// Whether an invariant holds.
pub(crate) type Verdict = Result<(), Violation>;

/// The kind of the broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing wrong is ever done or told.
    Safety,
    /// Progress happens in the end.
    Liveness,
}

/// An invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The invariant, by the name of its file.
    pub(crate) invariant: &'static str,
    pub(crate) promise: Promise,
    pub(crate) reason: String,
    /// Simulated milliseconds since the run began.
    pub(crate) at: u64,
}

impl Violation {
    pub(crate) fn safety(invariant: &'static str, reason: impl Into<String>) -> Self {
        Self {
            invariant,
            promise: Promise::Safety,
            reason: reason.into(),
            at: 0,
        }
    }

    pub(crate) fn liveness(invariant: &'static str, reason: impl Into<String>) -> Self {
        Self {
            promise: Promise::Liveness,
            ..Self::safety(invariant, reason)
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            invariant,
            promise,
            reason,
            at,
        } = self;
        write!(f, "{invariant} ({promise:?}) at {at} ms: {reason}")
    }
}

/// `Ok` if it `holds`, otherwise a violation of safety.
pub(crate) fn safe(
    holds: bool,
    invariant: &'static str,
    reason: impl FnOnce() -> String,
) -> Verdict {
    if holds {
        return Ok(());
    }
    Err(Violation::safety(invariant, reason()))
}

/// `Ok` if it `holds`, otherwise a violation of liveness.
pub(crate) fn live(
    holds: bool,
    invariant: &'static str,
    reason: impl FnOnce() -> String,
) -> Verdict {
    if holds {
        return Ok(());
    }
    Err(Violation::liveness(invariant, reason()))
}
