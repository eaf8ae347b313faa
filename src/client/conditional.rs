//! Writes on a condition, and their outcomes.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::issuer::Issuer;
use super::running::Running;
use super::txn::{Txn, TxnOutcome, TxnResult};
use super::{Deleted, Error, Found};

/// The outcome of a write on a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conditional<T> {
    /// The condition held, and the write is done.
    Succeeded(T),
    /// The condition did not hold, and nothing is written: what the key was bound to, read in the same
    /// step.
    Failed(Found),
}

impl<T> Conditional<T> {
    /// Whether the condition held.
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }
}

/// A call that writes on one condition: see [`Set::if_absent`](super::Set::if_absent) and its siblings.
///
/// A future, which begins when it is polled. If it is dropped after it was polled, the write may be applied
/// or not.
///
/// An error says whether the write may have been applied. Without a session a call is not repeated then, as
/// a second attempt would fail against the success of the first; in a [`Session`](super::Session) it is,
/// and the outcome is that of the first attempt.
#[derive(Debug)]
#[must_use = "nothing is written before it is awaited"]
pub struct ConditionalWrite<'a, T> {
    issuer: Issuer<'a>,
    txn: Txn,
    /// The result of the write, from the outcome of a transaction that succeeded.
    done: fn(&TxnOutcome) -> T,
    running: Running<'a, TxnOutcome>,
}

impl<'a, T> ConditionalWrite<'a, T> {
    /// `txn` reads the key if its condition does not hold.
    pub(super) fn new(issuer: Issuer<'a>, txn: Txn, done: fn(&TxnOutcome) -> T) -> Self {
        Self {
            issuer,
            txn,
            done,
            running: Running::default(),
        }
    }
}

impl<T> Future for ConditionalWrite<'_, T> {
    type Output = Result<Conditional<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            issuer,
            txn,
            done,
            running,
        } = &mut *self;
        let outcome = running.poll(context, || issuer.txn(txn.clone()));
        outcome.map_ok(|outcome| match outcome.succeeded {
            true => Conditional::Succeeded(done(&outcome)),
            false => Conditional::Failed(found(outcome)),
        })
    }
}

/// The result of a removal that was made.
pub(super) fn deleted(outcome: &TxnOutcome) -> Deleted {
    Deleted {
        existed: outcome.results == [TxnResult::Deleted { existed: true }],
        applied_index: outcome.revision,
    }
}

/// What the only operation of a transaction has read.
fn found(outcome: TxnOutcome) -> Found {
    let entry = match outcome.results.into_iter().next() {
        Some(TxnResult::Found(entry)) => entry,
        _ => None,
    };
    let (value, revision) = entry.map(|it| (it.value, it.revision)).unzip();
    Found {
        value,
        revision: revision.unwrap_or_default(),
        applied_index: outcome.revision,
    }
}
