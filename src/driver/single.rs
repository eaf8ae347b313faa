//! A caller that waits for one command.
//!
//! Caller and driver share one small state under a lock that is held only for moments: the stage of the
//! command, and its outcome. A separate channel for the outcome would be a second allocation for each
//! command.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Stopped;
use crate::node::Outcome;

/// The side that owes the outcome. If it is dropped without one, the caller gets [`Stopped`].
#[derive(Debug)]
pub(super) struct Owed(Arc<Shared>);

/// The future outcome of a command. If the driver stops first, it is [`Stopped`], and the outcome of a
/// write is unknown. If it is dropped, it takes the command back if that still waits for its turn.
#[derive(Debug)]
pub struct Pending(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    caller: Option<Waker>,
}

/// The stage of the command. Both sides have to agree on whether it was taken up: the first to change the
/// stage decides.
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Waits,
    TakenUp,
    Done(Outcome),
    /// There will be no outcome.
    Stopped,
    /// The caller has gone, or has received the outcome.
    Left,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the final stage, unless the caller has gone.
    fn end(&self, end: Stage) {
        let (caller, _gone) = self.with(|state| match state.stage {
            Stage::Waits | Stage::TakenUp => {
                (state.caller.take(), mem::replace(&mut state.stage, end))
            }
            // The unused value is freed after the lock is released.
            _ => (None, end),
        });
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

/// Both sides of a command.
pub(super) fn single() -> (Owed, Pending) {
    let shared = Arc::<Shared>::default();
    (Owed(Arc::clone(&shared)), Pending(shared))
}

impl Owed {
    /// Takes the command up. Returns `false` if its caller has gone.
    pub(super) fn take_up(&self) -> bool {
        self.0.with(|state| {
            let waits = matches!(state.stage, Stage::Waits);
            if waits {
                state.stage = Stage::TakenUp;
            }
            waits
        })
    }

    /// Delivers the outcome.
    pub(super) fn answer(self, outcome: Outcome) {
        self.0.end(Stage::Done(outcome));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.end(Stage::Stopped);
    }
}

impl Pending {
    /// Takes the command back. Returns `true` if that was in time: the command surely has no effect.
    /// Otherwise its outcome is unknown.
    pub fn withdraw(self) -> bool {
        matches!(self.leave(), Stage::Waits)
    }

    fn leave(&self) -> Stage {
        self.0
            .with(|state| mem::replace(&mut state.stage, Stage::Left))
    }
}

impl Future for Pending {
    type Output = Result<Outcome, Stopped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.with(|state| match &state.stage {
            Stage::Waits | Stage::TakenUp => {
                match &mut state.caller {
                    Some(caller) => caller.clone_from(context.waker()),
                    caller => *caller = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            _ => match mem::replace(&mut state.stage, Stage::Left) {
                Stage::Done(outcome) => Poll::Ready(Ok(outcome)),
                _ => Poll::Ready(Err(Stopped)),
            },
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::node::Answer;

    fn outcome() -> Outcome {
        Ok(Answer::Set { applied_index: 7 })
    }

    #[test]
    fn a_command_is_taken_up_or_withdrawn_and_never_both() {
        let (owed, pending) = single();
        assert!(owed.take_up());
        assert!(!pending.withdraw(), "too late");
        let (owed, pending) = single();
        assert!(pending.withdraw());
        assert!(!owed.take_up());
        let (owed, pending) = single();
        drop(pending);
        assert!(!owed.take_up(), "its caller has gone");
        owed.answer(outcome());
    }

    #[tokio::test]
    async fn the_outcome_wakes_the_waiting_caller_and_so_does_its_absence() {
        let waits = |pending: Pending| tokio::spawn(pending);
        let (owed, mut pending) = single();
        assert!((&mut pending).now_or_never().is_none());
        let waiting = waits(pending);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        owed.answer(outcome());
        assert_eq!(waiting.await.unwrap(), Ok(outcome()));

        let (owed, pending) = single();
        let waiting = waits(pending);
        tokio::task::yield_now().await;
        assert!(owed.take_up());
        drop(owed);
        assert_eq!(waiting.await.unwrap(), Err(Stopped));
    }

    #[test]
    fn an_outcome_without_a_waiting_caller_is_not_kept() {
        let outcome = std::sync::Arc::new(crate::kv::TxnOutcome {
            succeeded: true,
            results: Vec::new(),
        });
        let (owed, pending) = single();
        owed.answer(Ok(Answer::Txn {
            outcome: outcome.clone(),
            revision: 1,
        }));
        assert_eq!(std::sync::Arc::strong_count(&outcome), 2);
        drop(pending);
        assert_eq!(std::sync::Arc::strong_count(&outcome), 1);
    }
}
