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
    /// A command for the log.
    Write {
        /// The encoded command.
        command: Bytes,
        /// The trace context of the caller, if any.
        context: Bytes,
    },
    /// A read, which sees what the writes before it have written.
    Read(Key),
}

impl BatchItem {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Write { command, context } => command.len().saturating_add(context.len()),
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
    held: Option<Held>,
}

/// What is dropped when the last outcome is there.
struct Held(#[expect(dead_code, reason = "only dropped")] Box<dyn Send>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Batch {
    /// A batch of `size` commands, and where their outcomes arrive. `held` is dropped when the last
    /// is there, whether or not the caller looks.
    pub(super) fn new(
        size: usize,
        held: impl Send + 'static,
    ) -> (Arc<Self>, oneshot::Receiver<Vec<Outcome>>) {
        let (done, outcomes) = oneshot::channel();
        let batch = Self(Mutex::new(Outcomes {
            outcomes: vec![None; size],
            missing: size,
            done: Some(done),
            held: Some(Held(Box::new(held))),
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
            inner.held = None;
            let _ = done.send(outcomes.into_iter().flatten().collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Answer;

    fn set(applied_index: u64) -> Outcome {
        Ok(Answer::Set { applied_index })
    }

    #[test]
    fn the_outcomes_arrive_together_and_in_the_order_of_the_commands() {
        let (batch, mut outcomes) = Batch::new(3, ());
        for place in [2, 0] {
            Waiter::part(Arc::clone(&batch), place).answer(set(u64::try_from(place).unwrap()));
            assert!(outcomes.try_recv().is_err(), "one is missing");
        }
        Waiter::part(Arc::clone(&batch), 1).answer(set(1));
        assert_eq!(outcomes.try_recv(), Ok(vec![set(0), set(1), set(2)]));
    }

    #[test]
    fn an_answer_counts_once_and_only_where_there_is_a_place() {
        let (batch, mut outcomes) = Batch::new(2, ());
        for (place, index) in [(0, 1), (0, 9), (2, 9)] {
            Waiter::part(Arc::clone(&batch), place).answer(set(index));
        }
        assert!(outcomes.try_recv().is_err(), "one is missing");
        Waiter::part(batch, 1).answer(set(2));
        assert_eq!(outcomes.try_recv(), Ok(vec![set(1), set(2)]));
    }

    #[test]
    fn a_waiter_that_is_dropped_ends_the_batch_without_outcomes() {
        let (batch, mut outcomes) = Batch::new(2, ());
        let dropped = Waiter::part(Arc::clone(&batch), 0);
        let answered = Waiter::part(batch, 1);
        drop(dropped);
        assert_eq!(
            outcomes.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        );
        answered.answer(set(1));
        assert_eq!(
            outcomes.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }

    #[test]
    fn what_a_batch_holds_is_let_go_with_the_last_outcome_though_nobody_looks() {
        let held = Arc::new(());
        let (batch, outcomes) = Batch::new(1, Arc::clone(&held));
        assert_eq!(Arc::strong_count(&held), 2);
        Waiter::part(Arc::clone(&batch), 0).answer(set(1));
        assert_eq!(Arc::strong_count(&held), 1);
        drop((batch, outcomes));

        let (refused, _outcomes) = Batch::new(1, Arc::clone(&held));
        drop(refused);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
