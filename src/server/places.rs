//! The places of a listener: who has one, and who gives it up when somebody else wants it.
//!
//! A listener that is full is no reason to turn a client away while others hold a place and make no
//! use of it. So whoever comes takes the place of a connection that takes long to greet, or else of the one
//! that has been idle for longest. And who takes none of the answers that it has asked for does not keep
//! the room for them from others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

use crate::driver::Reader;

/// How long a connection may take to greet before it has to go for another one. Less would let whoever
/// connects fast keep everybody else from greeting.
const GREETING: Duration = Duration::from_secs(1);

/// The time in which calls that are given up are counted.
const RESET_WINDOW: Duration = Duration::from_secs(1);

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    /// Whether a connection that never got a good answer counts as idle, whatever it has asked.
    strangers_are_idle: bool,
    clock: Arc<AtomicU64>,
    taken: HashMap<Id, (Arc<Place>, AbortHandle)>,
}

/// Who has to give up a place, the first to go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GivenUp {
    /// A connection that has not greeted in [`GREETING`]; it is cut.
    Unfinished,
    /// A connection without calls; it is told to end.
    Idle,
    /// A connection that has come a moment ago; it is cut.
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

    /// A place for a connection of `peer` that is about to begin, whose calls may be given up
    /// `max_resets` times a second, and whose answers count for `reader`.
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
            greeted: AtomicBool::new(false),
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

    /// Makes room, if somebody has a place and makes no use of it. Whoever is idle is told, and has
    /// ended when that has reached it; without `gently` it is cut.
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

    /// Cuts the connection that holds most answers, of those that have taken nothing for `patience`.
    /// Whose it was, and what it held.
    pub(super) fn cut_stalled(&mut self, patience: Duration) -> Option<(SocketAddr, usize)> {
        let stalled = self.taken.iter().filter_map(|(id, (place, _))| {
            let Place { peer, reader, .. } = &**place;
            (reader.stalled() >= patience).then(|| (reader.held(), *id, *peer))
        });
        let (held, id, peer) = stalled.max_by_key(|(held, ..)| *held)?;
        let (_, task) = self.taken.remove(&id)?;
        task.abort();
        Some((peer, held))
    }
}

/// What one connection does, as far as that decides whether it keeps its place.
#[derive(Debug)]
pub(super) struct Place {
    peer: SocketAddr,
    /// What its answers hold.
    reader: Arc<Reader>,
    clock: Arc<AtomicU64>,
    came: Instant,
    /// When it came, or when its last call ended, by the order of such events.
    since: AtomicU64,
    greeted: AtomicBool,
    /// Whether it got a good answer.
    served: AtomicBool,
    /// Calls and streams that are under way.
    calls: AtomicUsize,
    resets: Mutex<Resets>,
    max_resets: u32,
    leave: Notify,
}

/// Calls that were given up lately.
#[derive(Debug)]
struct Resets {
    began: Instant,
    count: u32,
    /// Whether they were too many, and the client was told to leave.
    told: bool,
}

impl Place {
    pub(super) fn greeted(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    /// Asks the connection to end well: it answers what it has been asked, and takes no more.
    pub(super) fn ask_to_leave(&self) {
        self.leave.notify_one();
    }

    /// Waits until the connection is to end well.
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
        match self.greeted.load(Ordering::Relaxed) {
            true => is_idle().then_some(GivenUp::Idle),
            false if self.came.elapsed() < GREETING => Some(GivenUp::New),
            false => Some(GivenUp::Unfinished),
        }
    }

    /// The client has given up `calls` calls more. Some are, all together, when a deadline passes. A
    /// client that goes on and on is told to leave. Whether it may go on: `false` if it does not care.
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

/// A call or stream that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Place>);

impl Call {
    /// The call is answered well, or by a refusal.
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
