//! Admission control: which requests may be in flight.
//!
//! Single requests and batches share a bound. At the bound a single request is refused: its caller can ask
//! another node. A batch of a pipeline is held back, and its stream with it: that is the backpressure of
//! streams. Batches have at most half of the capacity, so that single requests find some, however many
//! batches there are. Connections take turns with their batches, so that none waits for all batches of
//! another. The single requests of one connection have at most as much capacity as they leave free, so that
//! another connection finds some as well.

mod held_back;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};

use self::held_back::{Admitted, HeldBack};
use crate::error::{Reason, Refusal};

/// Counts the commands in flight and the bytes that they hold, and refuses or holds back commands beyond
/// the bounds. It closes for good when the node shuts down: then no request is admitted, and
/// [`drained`](Self::drained) waits for those in flight. Cheap to clone; a request costs a few additions.
#[derive(Debug, Clone)]
pub struct AdmissionControl {
    inner: Arc<Inner>,
    own: Arc<Own>,
}

/// One connection.
#[derive(Debug, Default)]
struct Own {
    /// Its single requests, and the bytes that they hold; changed under the lock of all counts.
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// The queue of its batches: one at a time waits for capacity.
    queue: Mutex<()>,
    /// The queue of its streams with a message that is held back.
    held_back: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    max_requests: usize,
    max_bytes: usize,
    counts: std::sync::Mutex<Counts>,
    batches: Batches,
    closed: AtomicBool,
    changed: Notify,
}

/// The requests in flight of all connections, and the messages that wait for capacity.
#[derive(Debug, Default)]
struct Counts {
    requests: usize,
    bytes: usize,
    held_back: HeldBack,
}

impl Inner {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The capacity for batches.
#[derive(Debug)]
struct Batches {
    max_commands: u32,
    max_bytes: u32,
    commands: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The capacity that a batch takes: commands and bytes.
type Capacity = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Batches {
    fn new(max_commands: usize, max_bytes: usize) -> Self {
        let bound = |max: usize| u32::try_from(max).unwrap_or(u32::MAX).max(1);
        let room = |max: u32| Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(usize::MAX)));
        let (max_commands, max_bytes) = (bound(max_commands), bound(max_bytes));
        Self {
            max_commands,
            max_bytes,
            commands: room(max_commands),
            bytes: room(max_bytes),
        }
    }

    /// Waits for capacity. A batch that is larger than all of it takes all of it.
    async fn capacity(&self, commands: usize, bytes: usize) -> Option<Capacity> {
        let of = |wanted: usize, max: u32| u32::try_from(wanted).unwrap_or(max).min(max);
        let commands = of(commands, self.max_commands);
        let commands = Arc::clone(&self.commands).acquire_many_owned(commands);
        let commands = commands.await.ok()?;
        let bytes = of(bytes, self.max_bytes);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes);
        Some((commands, bytes.await.ok()?))
    }
}

impl AdmissionControl {
    /// Admits at most `max_requests` commands at once, which hold at most `max_bytes`; half of each for
    /// batches.
    pub fn new(max_requests: usize, max_bytes: usize) -> Self {
        let inner = Inner {
            max_requests,
            max_bytes,
            counts: std::sync::Mutex::default(),
            batches: Batches::new(max_requests / 2, max_bytes / 2),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
            own: Arc::default(),
        }
    }

    /// The same admission control, with a new account for another connection.
    #[must_use]
    pub fn for_another_connection(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            own: Arc::default(),
        }
    }

    /// Admits a request that holds `bytes`, until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::ShuttingDown`] or [`Reason::Overloaded`].
    pub fn enter(&self, bytes: usize) -> Result<Permit, Refusal> {
        self.let_in(1, bytes)
    }

    /// Counts the `bytes` of a request that is arriving, until the permit is dropped. It is no command yet,
    /// and [`drained`](Self::drained) does not wait for it. One that is larger than all the capacity takes
    /// all of it.
    ///
    /// # Errors
    ///
    /// [`Reason::ShuttingDown`] or [`Reason::Overloaded`].
    pub fn announce(&self, bytes: usize) -> Result<Permit, Refusal> {
        self.let_in(0, bytes.min(self.inner.max_bytes))
    }

    fn let_in(&self, requests: usize, bytes: usize) -> Result<Permit, Refusal> {
        let mut counts = self.inner.counts();
        if self.is_closed() {
            return Err(Refusal::not_applied(Reason::ShuttingDown));
        }
        let permit = counts.let_in(&self.inner, &self.own, requests, bytes);
        permit.map_err(|excess| Refusal::not_applied(excess.into()))
    }

    /// Admits a batch of `commands` that holds `bytes`, as soon as there is capacity for it, until the permit
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::ShuttingDown`].
    pub async fn admit(&self, commands: usize, bytes: usize) -> Result<Permit, Refusal> {
        let capacity = async {
            let _queue = self.own.queue.lock().await;
            self.inner.batches.capacity(commands, bytes).await
        };
        let capacity = tokio::select! {
            biased;
            () = self.closed() => None,
            capacity = capacity => capacity,
        };
        let Some(capacity) = capacity else {
            return Err(Refusal::not_applied(Reason::ShuttingDown));
        };
        let commands = capacity.0.num_permits();
        let of = Of::Batch(capacity);
        Ok(self.inner.counts().count(&self.inner, commands, bytes, of))
    }

    /// Admits no request from now on.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        let held_back = std::mem::take(&mut self.inner.counts().held_back);
        drop(held_back);
        self.inner.changed.notify_waiters();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::SeqCst)
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        self.until(|| self.is_closed()).await;
    }

    /// Waits until it is closed and no request is in flight.
    pub async fn drained(&self) {
        self.until(|| self.is_closed() && self.inner.counts().requests == 0)
            .await;
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        loop {
            // Subscribes before it checks, so that no change is missed.
            let changed = self.inner.changed.notified();
            if reached() {
                return;
            }
            changed.await;
        }
    }
}

impl Counts {
    /// Admits a single request of the connection `own`, if there is capacity for it.
    fn let_in(
        &mut self,
        inner: &Arc<Inner>,
        own: &Arc<Own>,
        requests: usize,
        bytes: usize,
    ) -> Result<Permit, Excess> {
        let order = Ordering::Relaxed;
        let (has, max) = (own.requests.load(order), inner.max_requests);
        room(requests, has, self.requests, max, Bound::Requests)?;
        let (has, max) = (own.bytes.load(order), inner.max_bytes);
        room(bytes, has, self.bytes, max, Bound::Bytes)?;
        own.requests.fetch_add(requests, order);
        own.bytes.fetch_add(bytes, order);
        Ok(self.count(inner, requests, bytes, Of::Single(Arc::clone(own))))
    }

    fn count(&mut self, inner: &Arc<Inner>, requests: usize, bytes: usize, of: Of) -> Permit {
        self.requests += requests;
        self.bytes += bytes;
        Permit {
            inner: Arc::clone(inner),
            requests,
            bytes,
            of,
        }
    }
}

/// The bounded quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Requests,
    Bytes,
}

/// Why there is no capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excess {
    /// All connections together would exceed this bound.
    All(Bound, usize),
    /// The connection has this much, which is more than is free.
    Share(Bound, usize),
}

impl From<Excess> for Reason {
    fn from(excess: Excess) -> Self {
        let (what, limit) = match excess {
            Excess::All(Bound::Requests, max) => ("max_pending_requests", max),
            Excess::All(Bound::Bytes, max) => ("max_pending_bytes", max),
            Excess::Share(Bound::Requests, own) => {
                ("a connection's share of max_pending_requests", own)
            }
            Excess::Share(Bound::Bytes, own) => ("a connection's share of max_pending_bytes", own),
        };
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Self::Overloaded { what, limit }
    }
}

/// Whether there is capacity for `more`, where all connections have `all` of `max`, and this one `own`.
fn room(more: usize, own: usize, all: usize, max: usize, bound: Bound) -> Result<(), Excess> {
    let free = max.saturating_sub(all);
    if more > free {
        Err(Excess::All(bound, max))
    } else if own > free {
        Err(Excess::Share(bound, own))
    } else {
        Ok(())
    }
}

/// Permit of one request, batch or arriving message. Dropping it frees its capacity.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    requests: usize,
    bytes: usize,
    of: Of,
}

/// What a permit belongs to.
#[derive(Debug)]
enum Of {
    Single(Arc<Own>),
    Batch(#[expect(dead_code, reason = "only dropped")] Capacity),
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.inner;
        let mut counts = inner.counts();
        if let Of::Single(own) = &self.of {
            own.requests.fetch_sub(self.requests, Ordering::Relaxed);
            own.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        counts.bytes -= self.bytes;
        counts.requests -= self.requests;
        let is_empty = counts.requests == 0;
        let let_in = counts.let_in_held_back(inner);
        drop(counts);
        let_in.into_iter().for_each(Admitted::tell);
        if is_empty && inner.closed.load(Ordering::SeqCst) {
            inner.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    fn overloaded(refused: Result<Permit, Refusal>) -> (&'static str, u64) {
        match refused.unwrap_err().reason {
            Reason::Overloaded { what, limit } => (what, limit),
            reason => panic!("{reason}"),
        }
    }

    #[test]
    fn requests_and_bytes_are_bounded() {
        let admission = AdmissionControl::new(2, 10);
        let one = admission.enter(4).unwrap();
        assert_eq!(overloaded(admission.enter(7)), ("max_pending_bytes", 10));
        let two = admission.enter(6).unwrap();
        assert_eq!(overloaded(admission.enter(0)), ("max_pending_requests", 2));
        drop(one);
        assert_eq!(overloaded(admission.enter(5)), ("max_pending_bytes", 10));
        let other = admission.for_another_connection();
        drop((other.enter(4).unwrap(), two));
        admission.enter(10).unwrap();
    }

    #[tokio::test]
    async fn a_closed_gate_drains() {
        let admission = AdmissionControl::new(2, 10);
        let inside = admission.enter(1).unwrap();
        let drained = tokio::spawn({
            let admission = admission.clone();
            async move { admission.drained().await }
        });
        tokio::task::yield_now().await;
        admission.close();
        admission.closed().await;
        assert_eq!(admission.enter(1).unwrap_err().reason, Reason::ShuttingDown);
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        drop(inside);
        drained.await.unwrap();
    }

    #[test]
    fn the_single_requests_of_a_connection_leave_as_many_places_as_they_take() {
        let admission = AdmissionControl::new(8, 100);
        let enter = |admission: &AdmissionControl| {
            let mut inside = Vec::new();
            let refused = loop {
                match admission.enter(1) {
                    Ok(permit) => inside.push(permit),
                    refused => break overloaded(refused).0,
                }
            };
            (inside, refused)
        };
        let share = "a connection's share of max_pending_requests";
        let (hog, refused) = enter(&admission);
        assert_eq!((hog.len(), refused), (5, share));
        let (other, refused) = enter(&admission.for_another_connection());
        assert_eq!((other.len(), refused), (2, share));
        let (last, refused) = enter(&admission.for_another_connection());
        assert_eq!((last.len(), refused), (1, "max_pending_requests"));
        drop((hog, other, last));
        let _large = admission.enter(60).unwrap();
        let refused = overloaded(admission.enter(1)).0;
        assert_eq!(refused, "a connection's share of max_pending_bytes");
    }

    /// Whether `admitted` is through; it goes on waiting if not.
    async fn through(admitted: &mut JoinHandle<Result<Permit, Refusal>>) -> bool {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        admitted.is_finished()
    }

    fn admit(
        admission: &AdmissionControl,
        commands: usize,
        bytes: usize,
    ) -> JoinHandle<Result<Permit, Refusal>> {
        let admission = admission.clone();
        tokio::spawn(async move { admission.admit(commands, bytes).await })
    }

    #[tokio::test]
    async fn a_batch_counts_by_its_commands_and_bytes_and_is_held_back() {
        let admission = AdmissionControl::new(8, 100);
        let first = admission.admit(3, 10).await.unwrap();
        let mut second = admit(&admission, 2, 10);
        assert!(
            !through(&mut second).await,
            "half of the room is for others"
        );
        drop(first);
        let second = second.await.unwrap().unwrap();
        let mut third = admit(&admission, 1, 41);
        assert!(!through(&mut third).await, "half of the bytes");
        drop(second);
        let _third = third.await.unwrap().unwrap();
        let single = |_| admission.for_another_connection().enter(1).unwrap();
        let _singles: Vec<_> = (0..7).map(single).collect();
        assert_eq!(overloaded(admission.enter(1)), ("max_pending_requests", 8));
    }

    #[tokio::test]
    async fn a_batch_that_is_larger_than_the_room_comes_in_alone() {
        let admission = AdmissionControl::new(8, 100);
        let large = admission.admit(1000, 1000).await.unwrap();
        let mut other = admit(&admission, 1, 1);
        assert!(!through(&mut other).await);
        drop(large);
        other.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn connections_take_turns_with_their_batches() {
        let greedy = AdmissionControl::new(2, 100);
        let modest = greedy.for_another_connection();
        let mut inside = greedy.admit(1, 1).await.unwrap();
        let mut waits: Vec<_> = (0..3).map(|_| admit(&greedy, 1, 1)).collect();
        assert!(!through(&mut waits[0]).await);
        waits.push(admit(&modest, 1, 1));
        let mut order = Vec::new();
        while order.len() < 4 {
            drop(inside);
            through(&mut waits[0]).await;
            let next = (0..4).find(|index| !order.contains(index) && waits[*index].is_finished());
            let next = next.unwrap();
            order.push(next);
            inside = (&mut waits[next]).await.unwrap().unwrap();
        }
        assert_eq!(order, [0, 3, 1, 2]);
    }

    #[tokio::test]
    async fn a_batch_that_waits_hears_that_the_gate_closes() {
        let admission = AdmissionControl::new(2, 10);
        let _inside = admission.admit(1, 1).await.unwrap();
        let mut waits = admit(&admission, 1, 1);
        assert!(!through(&mut waits).await);
        admission.close();
        let refusal = waits.await.unwrap().unwrap_err();
        assert_eq!(refusal, Refusal::not_applied(Reason::ShuttingDown));
    }
}
