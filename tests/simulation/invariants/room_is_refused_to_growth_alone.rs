//! A node whose state is full refuses only growth: no removal, and no opening of a session.
//! `linearizable` and `numbered_writes_apply_once` check that a refused write is never applied.

use seshat::error::Reason;
use seshat::kv::{Operation, Write};
use seshat::node::Outcome;

use super::{Verdict, safe};

/// `write` is the answered request; `None` for the opening of a session.
pub(crate) fn check(write: Option<&Write>, outcome: &Outcome) -> Verdict {
    let is_full = is_full(outcome);
    let grows = match write {
        Some(Write::Set { .. } | Write::Acquire(_)) => true,
        Some(Write::Txn(txn)) => {
            let mut operations = txn.operations();
            operations.any(|it| matches!(it, Operation::Set { .. }))
        }
        Some(Write::Delete { .. } | Write::Release(_)) | None => false,
    };
    safe(grows || !is_full, "room_is_refused_to_growth_alone", || {
        format!("{write:?} was answered {outcome:?}")
    })
}

/// Whether a request was refused because the state was full.
pub(crate) fn is_full(outcome: &Outcome) -> bool {
    matches!(outcome, Err(refusal) if matches!(refusal.reason, Reason::Full { .. }))
}
