//! Arriving messages for which there is no capacity yet.
//!
//! They wait in a queue and cost nothing meanwhile. Each permit that ends admits as many of them as there is
//! capacity for, the oldest first. They count before they are woken, so that none is woken in vain. A
//! connection has at most one message in the queue, and its others wait for that one, so connections take
//! turns. A connection that has more in flight than it leaves free does not delay the others.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{AdmissionControl, Counts, Excess, Inner, Own, Permit};
use crate::error::{Reason, Refusal};

/// The messages that wait: at most one of each connection, and those that were given up since the last one
/// came.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    queue: VecDeque<Waiting>,
}

/// A message that waits for capacity.
#[derive(Debug)]
struct Waiting {
    own: Arc<Own>,
    bytes: usize,
    hears: oneshot::Sender<Permit>,
}

/// A message that has been admitted and not been woken yet.
pub(super) struct Admitted {
    permit: Permit,
    hears: oneshot::Sender<Permit>,
}

impl Admitted {
    /// Wakes the stream of the message. If that has just given up, the permit is dropped here, so no lock may
    /// be held.
    pub(super) fn tell(self) {
        drop(self.hears.send(self.permit));
    }
}

impl AdmissionControl {
    /// Counts the `bytes` of a request as [`announce`](Self::announce) does, as soon as there is capacity for
    /// them.
    ///
    /// # Errors
    ///
    /// [`Reason::ShuttingDown`].
    pub async fn announce_in_turn(self, bytes: usize) -> Result<Permit, Refusal> {
        let _turn = self.own.held_back.lock().await;
        let waits = self.enqueue(bytes.min(self.inner.max_bytes));
        let permit = match waits {
            Some(waits) => waits.await.ok(),
            None => None,
        };
        permit.ok_or_else(|| Refusal::not_applied(Reason::ShuttingDown))
    }

    /// Queues a message. Returns the channel that receives its permit; `None` if admission control is closed.
    fn enqueue(&self, bytes: usize) -> Option<oneshot::Receiver<Permit>> {
        let (hears, waits) = oneshot::channel();
        let mut counts = self.inner.counts();
        if self.is_closed() {
            return None;
        }
        let queue = &mut counts.held_back.queue;
        queue.retain(|waiting| !waiting.hears.is_closed());
        queue.push_back(Waiting {
            own: Arc::clone(&self.own),
            bytes,
            hears,
        });
        let let_in = counts.let_in_held_back(&self.inner);
        drop(counts);
        let_in.into_iter().for_each(Admitted::tell);
        Some(waits)
    }
}

impl Counts {
    /// Admits the messages for which there is capacity now. The first one for which there is none holds up
    /// all behind it, unless the reason is its own connection's share.
    pub(super) fn let_in_held_back(&mut self, inner: &Arc<Inner>) -> Vec<Admitted> {
        let mut let_in = Vec::new();
        let mut next = 0;
        while let Some(waiting) = self.held_back.queue.get(next) {
            let (own, bytes) = (Arc::clone(&waiting.own), waiting.bytes);
            let permit = match waiting.hears.is_closed() {
                true => None,
                false => match self.let_in(inner, &own, 0, bytes) {
                    Ok(permit) => Some(permit),
                    Err(Excess::All(..)) => break,
                    Err(Excess::Share(..)) => {
                        next += 1;
                        continue;
                    }
                },
            };
            let waiting = self.held_back.queue.remove(next);
            if let (Some(permit), Some(Waiting { hears, .. })) = (permit, waiting) {
                let_in.push(Admitted { permit, hears });
            }
        }
        let_in
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;

    struct Waits(BoxFuture<'static, Result<Permit, Refusal>>);

    impl Waits {
        fn new(admission: &AdmissionControl, bytes: usize) -> Self {
            let mut waits = Self(admission.clone().announce_in_turn(bytes).boxed());
            assert!(waits.permit().is_none(), "it has to wait");
            waits
        }

        fn permit(&mut self) -> Option<Permit> {
            (&mut self.0).now_or_never().map(Result::unwrap)
        }
    }

    #[test]
    fn a_permit_that_ends_admits_as_many_as_there_is_room_for_the_oldest_first() {
        let admission = AdmissionControl::new(10, 100);
        let [a, b] = [1, 2].map(|_| admission.for_another_connection());
        let (first, second) = (admission.enter(50).unwrap(), a.enter(50).unwrap());
        let mut large = Waits::new(&admission.for_another_connection(), 60);
        let mut small = Waits::new(&admission.for_another_connection(), 10);
        drop(first);
        assert!(large.permit().is_none());
        assert!(small.permit().is_none(), "it is behind the large one");
        // A single request does not wait for them.
        drop(b.enter(50).unwrap());
        drop(second);
        let large = large.permit().unwrap();
        let _small = small.permit().unwrap();
        assert!(b.enter(31).is_err(), "they count before they look");
        drop(large);
        b.enter(90).unwrap();
    }

    #[test]
    fn connections_take_turns() {
        let admission = AdmissionControl::new(10, 100);
        let mut inside = admission.for_another_connection().enter(100).unwrap();
        let mut all: Vec<_> = (0..3).map(|_| Waits::new(&admission, 100)).collect();
        all.push(Waits::new(&admission.for_another_connection(), 100));
        let mut order = Vec::new();
        while order.len() < 4 {
            drop(inside);
            // All look, so that the next message of the greedy one joins the queue.
            let mut let_in = Vec::new();
            for (index, waits) in all.iter_mut().enumerate() {
                if !order.contains(&index) {
                    let_in.extend(waits.permit().map(|permit| (index, permit)));
                }
            }
            let (index, permit) = let_in.pop().unwrap();
            assert!(let_in.is_empty());
            order.push(index);
            inside = permit;
        }
        assert_eq!(order, [0, 3, 1, 2]);
    }

    #[test]
    fn a_connection_that_has_its_share_holds_up_no_other() {
        let admission = AdmissionControl::new(10, 100);
        let hog = admission.for_another_connection();
        let (most, _rest) = (hog.enter(50).unwrap(), admission.enter(40).unwrap());
        let last = admission.for_another_connection().enter(10).unwrap();
        let mut more = Waits::new(&hog, 10);
        let mut modest = Waits::new(&admission.for_another_connection(), 10);
        drop(last);
        assert!(more.permit().is_none());
        let _modest = modest.permit().unwrap();
        drop(most);
        assert!(more.permit().is_some());
    }

    #[test]
    fn a_message_that_is_given_up_leaves_nothing_behind() {
        let admission = AdmissionControl::new(10, 100);
        let inside = admission.enter(100).unwrap();
        for _ in 0..10 {
            drop(Waits::new(&admission.for_another_connection(), 10));
        }
        let mut waits = Waits::new(&admission.for_another_connection(), 100);
        assert_eq!(admission.inner.counts().held_back.queue.len(), 1);
        drop(Waits::new(&admission.for_another_connection(), 10));
        drop(inside);
        assert!(waits.permit().is_some());
        admission.enter(100).unwrap();
    }

    #[test]
    fn admission_control_that_closes_refuses_the_waiting_messages() {
        let admission = AdmissionControl::new(10, 100);
        let _inside = admission.enter(100).unwrap();
        let waits = [1, 2].map(|_| Waits::new(&admission, 10));
        admission.close();
        for Waits(waits) in waits {
            let refusal = waits.now_or_never().unwrap().unwrap_err();
            assert_eq!(refusal, Refusal::not_applied(Reason::ShuttingDown));
        }
    }
}
