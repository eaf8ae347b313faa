//! Several commands that are answered together.
//!
//! A channel for each command would cost more than the command does. The commands of a batch share
//! one, which delivers when the last of them has its outcome.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::node::Outcome;
use crate::types::Key;

/// One command of a batch.
#[derive(Debug, Clone)]
pub enum BatchItem {
    /// An encoded command for the log.
    Write(Bytes),
    /// A read, which sees what the writes before it have written.
    Read(Key),
}

impl BatchItem {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Write(command) => command.len(),
            Self::Read(key) => key.len(),
        }
    }
}

/// Whom the core owes an outcome.
#[derive(Debug)]
pub struct Waiter(To);

#[derive(Debug)]
enum To {
    One(oneshot::Sender<Outcome>),
    Part { batch: Arc<Batch>, place: usize },
}

impl Waiter {
    pub(super) fn one(waiter: oneshot::Sender<Outcome>) -> Self {
        Self(To::One(waiter))
    }

    pub(super) fn part(batch: Arc<Batch>, place: usize) -> Self {
        Self(To::Part { batch, place })
    }

    /// Delivers the outcome. A caller that has gone away needs none.
    pub(super) fn answer(self, outcome: Outcome) {
        match self.0 {
            To::One(waiter) => {
                let _ = waiter.send(outcome);
            }
            To::Part { batch, place } => batch.answer(place, outcome),
        }
    }
}

/// The outcomes of a batch, as far as they are there. If the last of its waiters is dropped before,
/// the caller is told so by its channel.
#[derive(Debug)]
pub(super) struct Batch(Mutex<Outcomes>);

#[derive(Debug)]
struct Outcomes {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Outcome>>>,
}

impl Batch {
    /// A batch of `size` commands, and where their outcomes arrive.
    pub(super) fn new(size: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Outcome>>) {
        let (done, outcomes) = oneshot::channel();
        let batch = Self(Mutex::new(Outcomes {
            outcomes: vec![None; size],
            missing: size,
            done: Some(done),
        }));
        (Arc::new(batch), outcomes)
    }

    fn answer(&self, place: usize, outcome: Outcome) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot @ None) = inner.outcomes.get_mut(place) {
            *slot = Some(outcome);
            inner.missing -= 1;
        }
        if inner.missing == 0
            && let Some(done) = inner.done.take()
        {
            let outcomes = std::mem::take(&mut inner.outcomes);
            let _ = done.send(outcomes.into_iter().flatten().collect());
        }
    }
}
