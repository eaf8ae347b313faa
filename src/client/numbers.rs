//! The numbers of a session's writes, and which of them are outstanding.
//!
//! A number is given once. It is outstanding while a caller waits for its answer. It ends when it was
//! answered, timed out or was dropped: the session moves past it, and a node refuses a copy of that write
//! that is still in flight.
//!
//! Numbers are given first come, first served: a batch needs room for all of its writes at once, and
//! would starve if single writes took every gap before it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Error;
use super::renewal::Renewal;
use crate::proto::kv;

/// Numbers that may be outstanding: a node refuses more.
pub(super) const MAX_OUTSTANDING: u64 = 1024;

/// Gives the numbers of one session.
#[derive(Debug)]
pub(super) struct Numbers {
    client_id: u64,
    /// The renewal of the session, if it lives.
    renewal: Option<Arc<Renewal>>,
    state: Mutex<State>,
    /// Held by the first caller in the queue; the others wait for it in order.
    turn: tokio::sync::Mutex<()>,
    moved: Notify,
}

#[derive(Debug)]
struct State {
    next: u64,
    outstanding: BTreeSet<u64>,
}

impl State {
    fn first_outstanding(&self) -> u64 {
        self.outstanding.first().copied().unwrap_or(self.next)
    }
}

impl Numbers {
    pub(super) fn new(client_id: u64, renewal: Option<Arc<Renewal>>) -> Self {
        Self {
            client_id,
            renewal,
            state: Mutex::new(State {
                next: 1,
                outstanding: BTreeSet::new(),
            }),
            turn: tokio::sync::Mutex::default(),
            moved: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client_id(&self) -> u64 {
        self.client_id
    }

    /// The session field of a request about the write with the number `sequence`, if it is sent now. That write may
    /// have been answered.
    pub(super) fn stamp(&self, sequence: u64) -> kv::Session {
        kv::Session {
            client_id: self.client_id,
            sequence,
            first_outstanding: self.state().first_outstanding().min(sequence),
        }
    }

    /// Returns an error if the session is lost. One that does not live never is.
    pub(super) fn holds(&self) -> Result<(), Error> {
        self.renewal.as_ref().map_or(Ok(()), |it| it.holds())
    }

    /// The next `count` numbers, at most [`MAX_OUTSTANDING`]. Waits until so many may be outstanding, and
    /// until every earlier caller has its numbers or waits no longer.
    ///
    /// # Errors
    ///
    /// The session is lost.
    pub(super) async fn next(self: &Arc<Self>, count: u64) -> Result<Vec<Number>, Error> {
        let _turn = self.turn.lock().await;
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // From here on no notification is missed.
            moved.as_mut().enable();
            self.holds()?;
            if let Some(numbers) = self.try_next(count) {
                return Ok(numbers);
            }
            moved.await;
        }
    }

    fn try_next(self: &Arc<Self>, count: u64) -> Option<Vec<Number>> {
        let mut state = self.state();
        let end = state.next.saturating_add(count);
        if end > state.first_outstanding().saturating_add(MAX_OUTSTANDING) {
            return None;
        }
        let given = state.next..end;
        state.next = end;
        state.outstanding.extend(given.clone());
        let numbers = given.map(|sequence| Number {
            sequence,
            numbers: Arc::clone(self),
        });
        Some(numbers.collect())
    }
}

/// A number, outstanding until this is dropped.
#[derive(Debug)]
pub(super) struct Number {
    sequence: u64,
    numbers: Arc<Numbers>,
}

impl Number {
    /// The session field of a write with this number, if it is sent now.
    pub(super) fn stamp(&self) -> kv::Session {
        self.numbers.stamp(self.sequence)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.numbers.state().outstanding.remove(&self.sequence);
        self.numbers.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: &Number) -> (u64, u64) {
        let stamp = number.stamp();
        (stamp.sequence, stamp.first_outstanding)
    }

    #[tokio::test]
    async fn the_session_moves_past_writes_without_a_waiting_caller() {
        let numbers = Arc::new(Numbers::new(7, None));
        let mut given = numbers.next(3).await.unwrap();
        let third = given.pop().expect("a number");
        let second = given.pop().expect("a number");
        assert_eq!((stamp(&second), stamp(&third)), ((2, 1), (3, 1)));
        drop(second);
        assert_eq!(stamp(&third), (3, 1), "the first is still waited for");
        drop(given);
        assert_eq!(stamp(&third), (3, 3));
        drop(third);
        let fourth = numbers.next(1).await.unwrap().remove(0);
        assert_eq!(stamp(&fourth), (4, 4), "no number is given twice");
    }

    /// Each task runs until it waits before the next one starts, so the order of the requests is certain.
    #[tokio::test]
    async fn numbers_are_given_first_come_first_served() {
        let numbers = Arc::new(Numbers::new(7, None));
        let ask = |count| {
            let numbers = Arc::clone(&numbers);
            tokio::spawn(async move { numbers.next(count).await.unwrap() })
        };
        let first = numbers.next(1).await.unwrap();
        let batch = ask(MAX_OUTSTANDING);
        let mut singles = Vec::new();
        for _ in 0..3 {
            tokio::task::yield_now().await;
            singles.push(ask(1));
        }
        let gone = ask(MAX_OUTSTANDING);
        tokio::task::yield_now().await;
        let last = ask(1);
        tokio::task::yield_now().await;
        assert!(
            singles.iter().all(|single| !single.is_finished()),
            "writes that came later have gone ahead of the batch"
        );
        drop(first);
        let batch = batch.await.expect("no panic");
        assert_eq!(stamp(&batch[0]), (2, 2));
        // A caller that waits no longer does not block the others.
        gone.abort();
        drop(batch);
        for (single, number) in singles.into_iter().chain([last]).zip(1026..) {
            let single = single.await.expect("no panic");
            assert_eq!(single[0].sequence, number);
        }
    }

    #[tokio::test]
    async fn no_more_are_outstanding_than_a_node_accepts() {
        let numbers = Arc::new(Numbers::new(7, None));
        let mut given = numbers.next(MAX_OUTSTANDING).await.unwrap();
        assert!(numbers.try_next(1).is_none());
        // The last number is answered, but the first is not: no further one may follow.
        given.pop();
        assert!(numbers.try_next(1).is_none());
        let waiting = tokio::spawn({
            let numbers = Arc::clone(&numbers);
            async move { stamp(&numbers.next(1).await.unwrap()[0]) }
        });
        tokio::task::yield_now().await;
        given.remove(0);
        assert_eq!(waiting.await.expect("no panic"), (1025, 2));
    }
}
