//! The slots of a listener: which connections have one, and which one gives its slot to a new connection.
//!
//! A full listener must not refuse a client while other connections hold slots that they do not use. So a
//! new connection gets the slot of one that takes long to send its preface, or else of the one that has been
//! idle for longest. A connection that takes none of its answers cannot hold the room for answers that others
//! need.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

use crate::driver::Reader;

/// How long a connection may take to send its preface before it loses its slot to another one. With a
/// shorter time, a client that connects fast could keep all others from sending theirs.
const PREFACE_GRACE: Duration = Duration::from_secs(1);

/// The window in which cancelled calls are counted.
const RESET_WINDOW: Duration = Duration::from_secs(1);

/// The connections that have a slot.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    /// Whether a connection that never got a good answer counts as idle, even while calls are in flight
    /// on it.
    unserved_are_idle: bool,
    clock: Arc<AtomicU64>,
    taken: HashMap<Id, (Arc<Slot>, AbortHandle)>,
}

/// Why a connection gives up its slot, in the order in which slots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GivenUp {
    /// A connection that has not sent its preface within [`PREFACE_GRACE`]; it is cut.
    Unfinished,
    /// A connection without calls; it is told to end.
    Idle,
    /// A connection younger than [`PREFACE_GRACE`], without a preface; it is cut.
    New,
}

impl Slots {
    /// Slots for `limit` connections.
    pub(super) fn new(limit: usize, unserved_are_idle: bool) -> Self {
        Self {
            limit,
            unserved_are_idle,
            clock: Arc::default(),
            taken: HashMap::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken.len() >= self.limit
    }

    /// A slot for a new connection of `peer`. Its calls may be cancelled `max_resets` times a second,
    /// and its answers count for `reader`.
    pub(super) fn prepare(
        &self,
        peer: SocketAddr,
        reader: Arc<Reader>,
        max_resets: u32,
    ) -> Arc<Slot> {
        Arc::new(Slot {
            peer,
            reader,
            came: Instant::now(),
            since: AtomicU64::new(tick(&self.clock)),
            clock: Arc::clone(&self.clock),
            preface_received: AtomicBool::new(false),
            served: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            resets: Mutex::new(Resets {
                began: Instant::now(),
                count: 0,
                told: false,
            }),
            max_resets,
            leave: Notify::new(),
        })
    }

    /// The connection that `task` serves has begun.
    pub(super) fn take(&mut self, slot: Arc<Slot>, task: AbortHandle) {
        self.taken.insert(task.id(), (slot, task));
    }

    /// The connection that the task `id` served has ended. It may have given up its slot before.
    pub(super) fn free(&mut self, id: Id) {
        self.taken.remove(&id);
    }

    /// Frees the slot of a connection that does not use it, if there is one. An idle connection is
    /// told to end, and ends once it has heard that; without `gently` it is cut.
    pub(super) fn make_room(&mut self, gently: bool) -> Option<GivenUp> {
        let candidates = self.taken.iter().filter_map(|(id, (slot, _))| {
            let given_up = slot.would_give_up(self.unserved_are_idle)?;
            Some((given_up, slot.since.load(Ordering::Relaxed), *id))
        });
        let (given_up, _, id) =
            candidates.min_by_key(|(given_up, since, _)| (*given_up, *since))?;
        let (slot, task) = self.taken.remove(&id)?;
        match given_up == GivenUp::Idle && gently {
            true => slot.ask_to_leave(),
            false => task.abort(),
        }
        Some(given_up)
    }

    /// Cuts the connection that holds most bytes of answers, among those that have taken none for
    /// `max_wait`. Returns its peer, and the bytes that it held.
    pub(super) fn cut_stalled(&mut self, max_wait: Duration) -> Option<(SocketAddr, usize)> {
        let stalled = self.taken.iter().filter_map(|(id, (slot, _))| {
            let Slot { peer, reader, .. } = &**slot;
            (reader.stalled() >= max_wait).then(|| (reader.held(), *id, *peer))
        });
        let (held, id, peer) = stalled.max_by_key(|(held, ..)| *held)?;
        let (_, task) = self.taken.remove(&id)?;
        task.abort();
        Some((peer, held))
    }
}

/// The activity of one connection, as far as it decides whether the connection keeps its slot.
#[derive(Debug)]
pub(super) struct Slot {
    peer: SocketAddr,
    /// The bytes that its answers hold.
    reader: Arc<Reader>,
    clock: Arc<AtomicU64>,
    came: Instant,
    /// When it came, or when its last call ended, as a number in the order of such events.
    since: AtomicU64,
    preface_received: AtomicBool,
    /// Whether it got a good answer.
    served: AtomicBool,
    /// Calls and streams in flight.
    calls: AtomicUsize,
    resets: Mutex<Resets>,
    max_resets: u32,
    leave: Notify,
}

/// Calls that were cancelled within the last [`RESET_WINDOW`].
#[derive(Debug)]
struct Resets {
    began: Instant,
    count: u32,
    /// Whether they were too many, and the client was told to end the connection.
    told: bool,
}

impl Slot {
    pub(super) fn preface_received(&self) {
        self.preface_received.store(true, Ordering::Relaxed);
    }

    /// Asks the connection to end gracefully: it answers the calls in flight, and takes no more.
    pub(super) fn ask_to_leave(&self) {
        self.leave.notify_one();
    }

    /// Waits until the connection is asked to end.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// A call has come.
    pub(super) fn begin(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(self))
    }

    fn would_give_up(&self, unserved_are_idle: bool) -> Option<GivenUp> {
        let is_idle = || {
            let is_unserved = unserved_are_idle && !self.served.load(Ordering::Relaxed);
            is_unserved || self.calls.load(Ordering::Relaxed) == 0
        };
        match self.preface_received.load(Ordering::Relaxed) {
            true => is_idle().then_some(GivenUp::Idle),
            false if self.came.elapsed() < PREFACE_GRACE => Some(GivenUp::New),
            false => Some(GivenUp::Unfinished),
        }
    }

    /// Counts `calls` more calls that the client has cancelled. A client cancels some together when a
    /// deadline passes. A client that continues is told to end the connection. Returns `false` if it
    /// ignores that: the connection is to be cut.
    pub(super) fn reset(&self, calls: u32) -> bool {
        if calls == 0 {
            return true;
        }
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        if resets.began.elapsed() >= RESET_WINDOW && !resets.told {
            resets.began = Instant::now();
            resets.count = 0;
        }
        resets.count = resets.count.saturating_add(calls);
        if resets.count > self.max_resets && !resets.told {
            resets.told = true;
            self.ask_to_leave();
        }
        resets.count <= self.max_resets.saturating_mul(2)
    }
}

fn tick(clock: &AtomicU64) -> u64 {
    clock.fetch_add(1, Ordering::Relaxed)
}

/// A call or stream in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Slot>);

impl Call {
    /// The call got a good answer, or a refusal.
    pub(super) fn answered(&self, well: bool) {
        let served = &self.0.served;
        if well && !served.load(Ordering::Relaxed) {
            served.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Self(slot) = self;
        if slot.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            let now = tick(&slot.clock);
            slot.since.store(now, Ordering::Relaxed);
        }
    }
}
