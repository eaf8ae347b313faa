//! Callers that wait for an outcome, of one command or of a batch.
//!
//! A channel for each command would cost more than the command does. So the commands of a batch share one
//! channel, which delivers when the last of them has its outcome.
//!
//! A command first waits for its turn. The core sees it only when it is *taken up*. Both sides have to
//! agree on that moment: a caller that gives up before it *withdraws* the command, which then surely has
//! no effect. A caller that gives up later cannot know.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Stopped;
use super::single::{Owed, single};
use super::unread::{Held, ValueRoom};
use crate::error::{Reason, Refusal};
use crate::kv::Query;
use crate::node::{Answer, Outcome};

pub use super::single::Pending;

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
    /// A read, which sees the effects of the writes before it.
    Read(Query),
}

/// The receiver of an outcome that the core owes.
#[derive(Debug)]
pub struct Waiter(To);

#[derive(Debug)]
enum To {
    One(Owed),
    Part {
        batch: Arc<Batch>,
        place: usize,
        /// Number of commands of the batch from `place` on.
        commands: usize,
    },
}

impl Waiter {
    /// A waiter for one command, and the future of its outcome.
    pub(super) fn one() -> (Self, Pending) {
        let (owed, pending) = single();
        (Self(To::One(owed)), pending)
    }

    /// A waiter for so many `commands` of a batch, from `place` on.
    pub(super) fn part(batch: Arc<Batch>, place: usize, commands: usize) -> Self {
        Self(To::Part {
            batch,
            place,
            commands,
        })
    }

    /// Takes the command up. Returns `false` if its caller has gone: then the command must not be executed.
    pub(super) fn take_up(&self) -> bool {
        match &self.0 {
            To::One(owed) => owed.take_up(),
            To::Part {
                batch,
                place,
                commands,
            } => batch.take_up(place.saturating_add(*commands)),
        }
    }

    /// Delivers one outcome.
    #[cfg(test)]
    pub(super) fn answer(self, outcome: Outcome) {
        deliver(vec![(self, outcome)]);
    }

    /// Its place in `batch` and the number of its commands, if it is a waiter of that.
    fn part_of(&self, batch: &Arc<Batch>) -> Option<(usize, usize)> {
        match &self.0 {
            To::Part {
                batch: own,
                place,
                commands,
            } if Arc::ptr_eq(own, batch) => Some((*place, *commands)),
            _ => None,
        }
    }
}

/// Delivers outcomes. The outcome of a caller that has gone is dropped. A batch is locked once for all that
/// follow each other.
pub(super) fn deliver(answers: Vec<(Waiter, Outcome)>) {
    let mut answers = answers.into_iter().peekable();
    while let Some((Waiter(to), outcome)) = answers.next() {
        match to {
            To::One(owed) => owed.answer(outcome),
            To::Part {
                batch,
                place,
                commands,
            } => {
                let mut outcomes = batch.lock();
                outcomes.answer_all((place, commands), outcome);
                while let Some(part) = answers.peek().and_then(|(next, _)| next.part_of(&batch))
                    && let Some((_, outcome)) = answers.next()
                {
                    outcomes.answer_all(part, outcome);
                }
            }
        }
    }
}

/// The result of a batch.
#[derive(Debug)]
pub struct Answered {
    /// One outcome for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// The room that the values in the outcomes take. Must be dropped together with them.
    pub values: Held,
}

/// The outcomes of a batch, ready when the last one is known. Otherwise like [`Pending`].
#[derive(Debug)]
pub struct PendingBatch {
    outcomes: oneshot::Receiver<Answered>,
    batch: Weak<Batch>,
}

impl PendingBatch {
    /// Takes back the commands that still wait for their turn, and returns the outcome of each command:
    /// its own if it has one, `late` for a command that was taken back, and [`Reason::NoQuorum`] with an
    /// unknown outcome for a command that the core has.
    ///
    /// # Errors
    ///
    /// [`Stopped`]: the driver has stopped, and the outcome of every write is unknown.
    pub fn withdraw(mut self, late: &Refusal) -> Result<Answered, Stopped> {
        let batch = self.batch.upgrade();
        if let Some(answered) = batch.and_then(|batch| batch.withdraw(late)) {
            return Ok(answered);
        }
        // Either the last outcome has just come, or none will.
        self.outcomes.try_recv().map_err(|_| Stopped)
    }
}

impl Future for PendingBatch {
    type Output = Result<Answered, Stopped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcomes)
            .poll(context)
            .map_err(|_| Stopped)
    }
}

/// The outcomes of a batch so far. If the last of its waiters is dropped before it answers, the closed
/// channel tells the caller.
#[derive(Debug)]
pub(super) struct Batch(Mutex<Outcomes>);

#[derive(Debug)]
struct Outcomes {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    /// Number of commands that were taken up. Commands are taken up in order.
    taken_up: usize,
    /// The channel for the outcomes, and the room for their values.
    done: Option<(oneshot::Sender<Answered>, ValueRoom)>,
    permit: Option<Permit>,
}

/// A value that is dropped when the last outcome is known.
struct Permit(#[expect(dead_code, reason = "only dropped")] Box<dyn Send>);

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Batch {
    /// A batch of `size` commands, whose values have `room`, and the future of their outcomes. `permit` is
    /// dropped when the last outcome is known, whether or not the caller polls.
    pub(super) fn new(
        size: usize,
        room: ValueRoom,
        permit: impl Send + 'static,
    ) -> (Arc<Self>, PendingBatch) {
        let (done, outcomes) = oneshot::channel();
        let batch = Arc::new(Self(Mutex::new(Outcomes {
            outcomes: vec![None; size],
            missing: size,
            taken_up: 0,
            done: Some((done, room)),
            permit: Some(Permit(Box::new(permit))),
        })));
        let pending = PendingBatch {
            outcomes,
            batch: Arc::downgrade(&batch),
        };
        (batch, pending)
    }

    fn lock(&self) -> MutexGuard<'_, Outcomes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_up(&self, commands: usize) -> bool {
        let mut inner = self.lock();
        let done = inner.done.as_ref();
        let waited_for = done.is_some_and(|(done, _)| !done.is_closed());
        if waited_for {
            inner.taken_up = commands;
        }
        waited_for
    }

    fn withdraw(&self, late: &Refusal) -> Option<Answered> {
        let mut inner = self.lock();
        let (_, room) = inner.done.take()?;
        inner.permit = None;
        let taken_up = inner.taken_up;
        let unknown = Refusal::unknown(Reason::NoQuorum);
        let outcomes = std::mem::take(&mut inner.outcomes).into_iter().enumerate();
        let became = outcomes.map(|(place, outcome)| {
            let refusal = if place < taken_up { &unknown } else { late };
            outcome.unwrap_or_else(|| Err(refusal.clone()))
        });
        Some(Answered {
            outcomes: became.collect(),
            values: room.close(),
        })
    }
}

impl Outcomes {
    /// The outcome of so many `commands` from `place` on.
    fn answer_all(&mut self, (place, commands): (usize, usize), outcome: Outcome) {
        match outcome {
            Ok(Answer::GotEach {
                found,
                applied_index,
            }) => {
                for (place, found) in (place..).zip(found) {
                    let got = Answer::Got {
                        found,
                        applied_index,
                    };
                    self.answer(place, Ok(got));
                }
            }
            Err(refusal) => {
                for place in (place..).take(commands) {
                    self.answer(place, Err(refusal.clone()));
                }
            }
            one @ Ok(_) => self.answer(place, one),
        }
    }

    fn answer(&mut self, place: usize, outcome: Outcome) {
        let Self {
            outcomes,
            missing,
            done,
            permit,
            ..
        } = self;
        // No value is kept for a caller that has gone.
        let Some((_, room)) = done.as_mut().filter(|(done, _)| !done.is_closed()) else {
            return;
        };
        if let Some(slot @ None) = outcomes.get_mut(place) {
            *slot = Some(with_room(outcome, room));
            *missing -= 1;
        }
        if *missing == 0
            && let Some((done, room)) = done.take()
        {
            let outcomes = std::mem::take(outcomes);
            *permit = None;
            let _ = done.send(Answered {
                outcomes: outcomes.into_iter().flatten().collect(),
                values: room.close(),
            });
        }
    }
}

/// The outcome, or a refusal if there is no room for its value.
fn with_room(outcome: Outcome, room: &mut ValueRoom) -> Outcome {
    match &outcome {
        Ok(Answer::Got {
            found: Some((pair, _)),
            ..
        }) => room.take(pair.value().len())?,
        Ok(Answer::Txn { outcome, .. }) => {
            let taken = room.take(outcome.bytes());
            // It may have written.
            taken.map_err(|refusal| Refusal::unknown(refusal.reason))?;
        }
        _ => {}
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::unread::{Account, Unread};
    use super::*;
    use crate::error::Applied;
    use crate::kv::{Entry, Lifetime, OperationResult, Pair, TxnOutcome};

    fn account() -> Arc<Account> {
        Unread::new(100).reader().account(100)
    }

    fn batch_with_room(size: usize) -> (Arc<Batch>, PendingBatch) {
        batch_of(size, &account(), ())
    }

    fn batch_of(
        size: usize,
        account: &Arc<Account>,
        permit: impl Send + 'static,
    ) -> (Arc<Batch>, PendingBatch) {
        Batch::new(size, ValueRoom::new(account.hold(0), 10), permit)
    }

    /// The outcomes, if they have arrived.
    fn there(pending: &mut PendingBatch) -> Result<Vec<Outcome>, oneshot::error::TryRecvError> {
        Ok(pending.outcomes.try_recv()?.outcomes)
    }

    fn withdrawn(pending: PendingBatch) -> Result<Vec<Outcome>, Stopped> {
        Ok(pending.withdraw(&late())?.outcomes)
    }

    fn set(applied_index: u64) -> Outcome {
        Ok(Answer::Set { applied_index })
    }

    #[test]
    fn the_outcomes_arrive_together_and_in_the_order_of_the_commands() {
        let (batch, mut outcomes) = batch_with_room(3);
        for place in [2, 0] {
            Waiter::part(Arc::clone(&batch), place, 1).answer(set(u64::try_from(place).unwrap()));
            assert!(there(&mut outcomes).is_err(), "one is missing");
        }
        Waiter::part(Arc::clone(&batch), 1, 1).answer(set(1));
        assert_eq!(there(&mut outcomes), Ok(vec![set(0), set(1), set(2)]));
    }

    #[test]
    fn an_answer_counts_once_and_only_where_there_is_a_place() {
        let (batch, mut outcomes) = batch_with_room(2);
        for (place, index) in [(0, 1), (0, 9), (2, 9)] {
            Waiter::part(Arc::clone(&batch), place, 1).answer(set(index));
        }
        assert!(there(&mut outcomes).is_err(), "one is missing");
        Waiter::part(batch, 1, 1).answer(set(2));
        assert_eq!(there(&mut outcomes), Ok(vec![set(1), set(2)]));
    }

    #[test]
    fn a_waiter_that_is_dropped_ends_the_batch_without_outcomes() {
        let (batch, mut outcomes) = batch_with_room(2);
        let dropped = Waiter::part(Arc::clone(&batch), 0, 1);
        let answered = Waiter::part(batch, 1, 1);
        drop(dropped);
        assert_eq!(
            there(&mut outcomes),
            Err(oneshot::error::TryRecvError::Empty)
        );
        answered.answer(set(1));
        assert_eq!(
            there(&mut outcomes),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }

    #[test]
    fn a_batch_frees_what_it_holds_with_the_last_outcome_though_no_caller_looks() {
        let held = Arc::new(());
        let (batch, outcomes) = batch_of(1, &account(), Arc::clone(&held));
        assert_eq!(Arc::strong_count(&held), 2);
        Waiter::part(Arc::clone(&batch), 0, 1).answer(set(1));
        assert_eq!(Arc::strong_count(&held), 1);
        drop((batch, outcomes));

        let (refused, _outcomes) = batch_of(1, &account(), Arc::clone(&held));
        drop(refused);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    fn late() -> Refusal {
        Refusal::not_applied(Reason::ShuttingDown)
    }

    #[test]
    fn a_batch_that_is_withdrawn_says_what_became_of_each_command() {
        let (batch, pending) = batch_with_room(3);
        let part = |place| Waiter::part(Arc::clone(&batch), place, 1);
        assert!(part(0).take_up() && part(1).take_up());
        part(0).answer(set(7));
        assert_eq!(
            withdrawn(pending),
            Ok(vec![
                set(7),
                Err(Refusal::unknown(Reason::NoQuorum)),
                Err(late())
            ])
        );
        assert!(!part(2).take_up());
        part(1).answer(set(8));
    }

    #[test]
    fn a_batch_that_ends_as_it_is_withdrawn_has_its_outcomes_or_none() {
        let (batch, pending) = batch_with_room(1);
        Waiter::part(Arc::clone(&batch), 0, 1).answer(set(1));
        assert_eq!(withdrawn(pending), Ok(vec![set(1)]));
        let (batch, pending) = batch_with_room(1);
        drop(batch);
        assert_eq!(withdrawn(pending), Err(Stopped));
    }

    #[test]
    fn the_rest_of_a_batch_whose_caller_has_gone_is_not_taken_up() {
        let (batch, pending) = batch_with_room(2);
        assert!(Waiter::part(Arc::clone(&batch), 0, 1).take_up());
        drop(pending);
        assert!(!Waiter::part(batch, 1, 1).take_up());
    }

    fn got(bytes: usize) -> Outcome {
        Ok(Answer::Got {
            found: Some((Pair::new(b"k", &vec![b'v'; bytes], 5, false), 5)),
            applied_index: 1,
        })
    }

    #[test]
    fn values_count_from_when_they_are_there_until_they_are_dropped() {
        let account = account();
        let (batch, mut pending) = batch_of(2, &account, ());
        Waiter::part(Arc::clone(&batch), 0, 1).answer(got(4));
        assert_eq!(account.held(), 4);
        Waiter::part(batch, 1, 1).answer(got(3));
        let answered = pending.outcomes.try_recv().unwrap();
        assert_eq!(account.held(), 7);
        drop(answered);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn each_command_of_a_run_has_its_own_outcome() {
        let (batch, mut pending) = batch_with_room(5);
        let found = [4, 3, 5, 2].map(|bytes| match bytes {
            3 => None,
            bytes => Some((Pair::new(b"k", &vec![b'v'; bytes], 5, false), 5)),
        });
        let each = Answer::GotEach {
            found: found.to_vec(),
            applied_index: 7,
        };
        Waiter::part(Arc::clone(&batch), 0, 4).answer(Ok(each));
        Waiter::part(batch, 4, 1).answer(set(8));
        let outcomes = there(&mut pending).unwrap();
        let got = |found: &Option<(Pair, u64)>| {
            Ok(Answer::Got {
                found: found.clone(),
                applied_index: 7,
            })
        };
        assert_eq!(outcomes[..3], found.each_ref().map(got)[..3]);
        let refusal = outcomes[3]
            .as_ref()
            .expect_err("there is room for 10 bytes");
        assert!(matches!(refusal.reason, Reason::TooLarge { .. }));
        assert_eq!(outcomes[4], set(8));
    }

    #[test]
    fn a_run_that_is_refused_is_refused_to_each_command_and_one_that_is_taken_up_is_so_as_a_whole()
    {
        let (batch, mut pending) = batch_with_room(3);
        Waiter::part(Arc::clone(&batch), 0, 2).answer(Err(late()));
        Waiter::part(batch, 2, 1).answer(set(1));
        assert_eq!(
            there(&mut pending).unwrap(),
            [Err(late()), Err(late()), set(1)]
        );

        let (batch, pending) = batch_with_room(3);
        let run = Waiter::part(batch, 0, 2);
        assert!(run.take_up());
        let unknown = Err(Refusal::unknown(Reason::NoQuorum));
        assert_eq!(
            withdrawn(pending),
            Ok(vec![unknown.clone(), unknown, Err(late())])
        );
    }

    #[test]
    fn values_of_a_caller_that_has_gone_are_not_kept() {
        let account = account();
        let (batch, pending) = batch_of(2, &account, ());
        drop(pending);
        Waiter::part(Arc::clone(&batch), 0, 1).answer(got(4));
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn a_transaction_whose_answer_has_no_room_may_have_written() {
        let entry = Entry {
            key: "k".into(),
            value: vec![b'v'; 200].into(),
            revision: 5,
            lifetime: Lifetime::Unlimited,
        };
        let outcome = TxnOutcome {
            succeeded: true,
            results: vec![OperationResult::Got(Some(entry))],
        };
        let (batch, mut pending) = batch_with_room(1);
        let outcome = Arc::new(outcome);
        let revision = 7;
        Waiter::part(batch, 0, 1).answer(Ok(Answer::Txn { outcome, revision }));
        let outcomes = there(&mut pending).unwrap();
        let refusal = outcomes[0].as_ref().unwrap_err();
        assert!(matches!(refusal.reason, Reason::Overloaded { .. }));
        assert_eq!(refusal.applied, Applied::Unknown);
    }

    #[test]
    fn a_value_without_room_is_refused_and_those_behind_it_are_not() {
        let (batch, mut pending) = batch_with_room(3);
        for (place, bytes) in [(0, 8), (1, 3), (2, 2)] {
            Waiter::part(Arc::clone(&batch), place, 1).answer(got(bytes));
        }
        let outcomes = there(&mut pending).unwrap();
        assert_eq!(outcomes[0], got(8));
        let refusal = outcomes[1].as_ref().unwrap_err();
        assert!(matches!(refusal.reason, Reason::TooLarge { limit: 10, .. }));
        assert_eq!(outcomes[2], got(2));
    }
}
