//! The places of a listener: which connections have one, and which gives its place up to a new one.
//!
//! A full listener must not refuse a client while other connections hold places without use. So a new
//! connection takes the place of one that takes long to send its preface, or else of the one that has
//! been idle for longest. A connection that takes none of its answers does not keep the room for answers
//! from others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

use crate::driver::Reader;

/// How long a connection may take to send its preface before it loses its place to another one. With a
/// shorter time, a client that connects fast could keep all others from sending theirs.
const GREETING: Duration = Duration::from_secs(1);

/// The window in which cancelled calls are counted.
const RESET_WINDOW: Duration = Duration::from_secs(1);

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    /// Whether a connection that never got a good answer counts as idle, even while calls are in flight
    /// on it.
    strangers_are_idle: bool,
    clock: Arc<AtomicU64>,
    taken: HashMap<Id, (Arc<Place>, AbortHandle)>,
}

/// Why a connection gives up its place, in the order in which places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GivenUp {
    /// A connection that has not sent its preface within [`GREETING`]; it is cut.
    Unfinished,
    /// A connection without calls; it is told to end.
    Idle,
    /// A connection younger than [`GREETING`], without a preface; it is cut.
    New,
}

impl Places {
    /// Places for `limit` connections.
    pub(super) fn new(limit: usize, strangers_are_idle: bool) -> Self {
        Self {
            limit,
            strangers_are_idle,
            clock: Arc::default(),
            taken: HashMap::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken.len() >= self.limit
    }

    /// A place for a new connection of `peer`. Its calls may be cancelled `max_resets` times a second,
    /// and its answers count for `reader`.
    pub(super) fn prepare(
        &self,
        peer: SocketAddr,
        reader: Arc<Reader>,
        max_resets: u32,
    ) -> Arc<Place> {
        Arc::new(Place {
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
    pub(super) fn take(&mut self, place: Arc<Place>, task: AbortHandle) {
        self.taken.insert(task.id(), (place, task));
    }

    /// The connection that the task `id` served has ended. It may have given up its place before.
    pub(super) fn free(&mut self, id: Id) {
        self.taken.remove(&id);
    }

    /// Frees the place of a connection that makes no use of it, if there is one. An idle connection is
    /// told to end, and ends once it has heard that; without `gently` it is cut.
    pub(super) fn make_room(&mut self, gently: bool) -> Option<GivenUp> {
        let candidates = self.taken.iter().filter_map(|(id, (place, _))| {
            let given_up = place.would_give_up(self.strangers_are_idle)?;
            Some((given_up, place.since.load(Ordering::Relaxed), *id))
        });
        let (given_up, _, id) =
            candidates.min_by_key(|(given_up, since, _)| (*given_up, *since))?;
        let (place, task) = self.taken.remove(&id)?;
        match given_up == GivenUp::Idle && gently {
            true => place.ask_to_leave(),
            false => task.abort(),
        }
        Some(given_up)
    }

    /// Cuts the connection that holds most bytes of answers, among those that have taken none for
    /// `max_wait`. Returns its peer, and the bytes that it held.
    pub(super) fn cut_stalled(&mut self, max_wait: Duration) -> Option<(SocketAddr, usize)> {
        let stalled = self.taken.iter().filter_map(|(id, (place, _))| {
            let Place { peer, reader, .. } = &**place;
            (reader.stalled() >= max_wait).then(|| (reader.held(), *id, *peer))
        });
        let (held, id, peer) = stalled.max_by_key(|(held, ..)| *held)?;
        let (_, task) = self.taken.remove(&id)?;
        task.abort();
        Some((peer, held))
    }
}

/// The activity of one connection, as far as it decides whether the connection keeps its place.
#[derive(Debug)]
pub(super) struct Place {
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

impl Place {
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

    fn would_give_up(&self, strangers_are_idle: bool) -> Option<GivenUp> {
        let is_idle = || {
            let is_stranger = strangers_are_idle && !self.served.load(Ordering::Relaxed);
            is_stranger || self.calls.load(Ordering::Relaxed) == 0
        };
        match self.preface_received.load(Ordering::Relaxed) {
            true => is_idle().then_some(GivenUp::Idle),
            false if self.came.elapsed() < GREETING => Some(GivenUp::New),
            false => Some(GivenUp::Unfinished),
        }
    }

    /// Counts `calls` more calls that the client has cancelled. A client cancels some together when a
    /// deadline passes. A client that goes on is told to end the connection. Returns `false` if it
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
pub(super) struct Call(Arc<Place>);

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
        let Self(place) = self;
        if place.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            let now = tick(&place.clock);
            place.since.store(now, Ordering::Relaxed);
        }
    }
}
