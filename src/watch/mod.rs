//! Watches: clients that follow the changes of a range.
//!
//! All watches of a node are here, with the last changes of the state, the [`History`]. A watch either
//! *walks* through its range, or is *live*: then each change in its range waits for it in a queue of its own.
//! What waits is bounded. If a client is too slow for its changes, only their keys are kept, and the client
//! gets these keys as they are when it takes them. If even the keys are too many, it gets the whole range
//! again. So a slow client delays no write and no other client, and holds no copy of the state.
//!
//! A client gets bundles of messages, and the next one only after it has taken one of the last two. The
//! promise is that of `WatchResponse` in `watch.proto`.

mod bounds;
mod history;
mod index;
mod message;
#[cfg(test)]
mod tests;
mod walk;
mod watcher;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::kv::{Changes, StateMachine};
use crate::types::{ClusterId, Revision};

pub use bounds::WatchBounds;
pub use history::History;
use index::Index;
pub use message::{Event, WatchMessage, WatchSpec};
use watcher::{Phase, Watcher};

/// Bytes that a waiting change or key counts for, beside its key and value.
const CHANGE_BYTES: usize = 64;
/// Maximum number of bundles in one turn.
const TURN_BUNDLES: usize = 1024;
/// Without a watch, the history is kept for so many times [`WatchBounds::patience_ticks`].
const KEPT_PATIENCES: u64 = 60;

/// The number of a watch at its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// The state that watches see.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The state.
    pub state: &'a StateMachine,
    /// The revision up to which it has all writes. 0 if the node has no state yet.
    pub applied: Revision,
    /// The cluster.
    pub cluster_id: ClusterId,
}

/// Why a node takes no more watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWatch {
    /// It has as many as it may.
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// It has not heard of a leader for too long.
    Unled,
}

/// All watches of a node.
#[derive(Debug)]
pub struct Watches {
    bounds: WatchBounds,
    watchers: HashMap<WatchId, Watcher, RandomState>,
    index: Index,
    /// There is one while clients watch, and for some time afterwards.
    history: Option<History>,
    changes: Changes,
    /// Those whose clients can be sent something, each once, in turns.
    ready: VecDeque<WatchId>,
    /// Those that wait for a revision.
    waiting: BTreeSet<(Revision, WatchId)>,
    /// The ticks at which clients are told that nothing has changed.
    timers: BTreeSet<(u64, WatchId)>,
    ended: Vec<WatchId>,
    retired: Option<History>,
    /// Bytes that wait for all clients, or are on their way.
    held: usize,
    last_id: u64,
    now: u64,
    /// The number of ticks without a leader, and without a watch.
    unled: u64,
    unwatched: u64,
}

impl Watches {
    /// No watches.
    pub fn new(bounds: WatchBounds) -> Self {
        Self {
            bounds,
            watchers: HashMap::default(),
            index: Index::default(),
            history: None,
            changes: Changes::ignored(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            timers: BTreeSet::new(),
            ended: Vec::new(),
            retired: None,
            held: 0,
            last_id: 0,
            now: 0,
            unled: 0,
            unwatched: 0,
        }
    }

    /// Whether there is a watch.
    pub fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Whether [`output`](Self::output) has something.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty() || !self.ended.is_empty()
    }

    /// Begins to watch. `is_led` as in [`tick`](Self::tick).
    ///
    /// # Errors
    ///
    /// [`NoWatch`].
    pub fn open(
        &mut self,
        spec: WatchSpec,
        view: &View<'_>,
        is_led: bool,
    ) -> Result<WatchId, NoWatch> {
        if !is_led && self.unled >= self.bounds.patience_ticks {
            return Err(NoWatch::Unled);
        }
        if self.watchers.len() >= self.bounds.watches {
            let limit = self.bounds.watches;
            return Err(NoWatch::TooMany { limit });
        }
        self.last_id += 1;
        let id = WatchId(self.last_id);
        if self.history.is_none() {
            let history = History::new(view.applied, self.bounds.history_bytes);
            self.history = Some(history);
            self.changes = Changes::kept();
        }
        self.index.insert(&spec.range, id);
        let floor = floor(&spec, view.cluster_id);
        self.waiting.insert((floor, id));
        let mut watcher = Watcher::new(spec, floor);
        set_timer(&mut watcher, id, self.now, &mut self.timers);
        self.watchers.insert(id, watcher);
        self.advance(view.applied);
        Ok(id)
    }

    /// Ends a watch.
    pub fn close(&mut self, id: WatchId) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.held -= watcher.held();
            self.index.remove(&watcher.spec.range, id);
            self.timers.remove(&(watcher.progress_at, id));
            if let Phase::Waiting(floor) = watcher.phase {
                self.waiting.remove(&(floor, id));
            }
        }
    }

    /// Notes that the client of a watch has taken a bundle.
    pub fn taken(&mut self, id: WatchId) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            self.held -= watcher.held();
            watcher.taken();
            self.held += watcher.held();
            queue(watcher, id, &mut self.ready);
        }
    }

    /// Where the next command puts the changes that it makes. [`note`](Self::note) follows.
    pub fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Tells the watches of the changes that a command has made.
    pub fn note(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        for change in self.changes.take() {
            let change = Arc::new(change);
            if let Some(history) = &mut self.history {
                history.push(Arc::clone(&change));
            }
            for id in self.index.of(&change.key) {
                if let Some(watcher) = self.watchers.get_mut(&id) {
                    let others = self.held - watcher.waiting();
                    watcher.push(&change, self.bounds.room(others));
                    self.held = others + watcher.waiting();
                    queue(watcher, id, &mut self.ready);
                }
            }
        }
    }

    /// Wakes the watches that have waited for `applied`.
    pub fn advance(&mut self, applied: Revision) {
        while let Some((floor, id)) = self.waiting.first().copied()
            && floor <= applied
        {
            self.waiting.pop_first();
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.phase = Phase::Opening;
                queue(watcher, id, &mut self.ready);
            }
        }
    }

    /// Sends the whole state to all clients, because it has changed in another way than by writes.
    pub fn reset(&mut self, view: &View<'_>) {
        if let Some(history) = &mut self.history {
            let new = History::new(view.applied, self.bounds.history_bytes);
            self.retired = Some(std::mem::replace(history, new));
        }
        let mut ids: Vec<_> = self.watchers.keys().copied().collect();
        ids.sort_unstable();
        self.waiting.clear();
        for id in ids {
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            match watcher.phase {
                Phase::Waiting(_) => {
                    let floor = floor(&watcher.spec, view.cluster_id);
                    watcher.phase = Phase::Waiting(floor);
                    self.waiting.insert((floor, id));
                }
                Phase::Opening => {}
                Phase::Walking(_) | Phase::Live(_) => {
                    self.held -= watcher.waiting();
                    watcher.restart();
                    queue(watcher, id, &mut self.ready);
                }
            }
        }
        self.advance(view.applied);
    }

    /// Counts one tick. `is_led` is whether the node leads, or has heard of a leader within an election
    /// timeout.
    pub fn tick(&mut self, is_led: bool) {
        self.now += 1;
        self.unled = if is_led { 0 } else { self.unled + 1 };
        if self.unled >= self.bounds.patience_ticks {
            self.end_all();
        }
        self.unwatched = if self.is_watched() {
            0
        } else {
            self.unwatched + 1
        };
        if self.unwatched > self.bounds.patience_ticks.saturating_mul(KEPT_PATIENCES)
            && let Some(history) = self.history.take()
        {
            self.retired = Some(history);
            self.changes = Changes::ignored();
        }
        while let Some((at, id)) = self.timers.first().copied()
            && at <= self.now
        {
            self.timers.pop_first();
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.owes_progress |= is_led;
                queue(watcher, id, &mut self.ready);
                set_timer(watcher, id, self.now, &mut self.timers);
            }
        }
    }

    /// Ends all watches.
    fn end_all(&mut self) {
        let mut ids: Vec<_> = self.watchers.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.close(id);
            self.ended.push(id);
        }
    }

    /// The watches that have ended because there is no leader.
    pub fn take_ended(&mut self) -> Vec<WatchId> {
        std::mem::take(&mut self.ended)
    }

    /// An unused history, which may take long to free.
    pub fn take_retired(&mut self) -> Option<History> {
        self.retired.take()
    }

    /// The next bundles of messages, as many as a turn may have. All changes up to the state of `view` have
    /// been noted.
    pub fn output(&mut self, view: &View<'_>) -> Vec<(WatchId, Vec<WatchMessage>)> {
        let mut bundles = Vec::new();
        let mut spent = 0;
        self.advance(view.applied);
        while spent < self.bounds.turn_bytes
            && bundles.len() < TURN_BUNDLES
            && let Some(id) = self.ready.pop_front()
        {
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            watcher.queued = false;
            let others = self.held - watcher.waiting();
            let part_bytes = self.bounds.part_bytes.min(self.bounds.share(others));
            if part_bytes < self.bounds.part_bytes && !watcher.has_taken_all() {
                // It is queued again when its client has taken what is on its way.
                continue;
            }
            self.held -= watcher.held();
            if matches!(watcher.phase, Phase::Opening) {
                let room = self.bounds.room(others);
                spent += watcher.begin(self.history.as_ref(), view, room);
            }
            let (messages, bytes) = watcher.next(view, part_bytes);
            self.held += watcher.held();
            spent += bytes;
            queue(watcher, id, &mut self.ready);
            if !messages.is_empty() {
                bundles.push((id, messages));
            }
        }
        bundles
    }
}

/// The revision before which the client gets nothing.
fn floor(spec: &WatchSpec, cluster_id: ClusterId) -> Revision {
    let after = spec.after.filter(|(cluster, _)| *cluster == cluster_id);
    let after = after.map_or(0, |(_, revision)| revision);
    // A node without a state is at revision 0.
    after.max(spec.min_revision).max(1)
}

/// Queues a watch that is ready, unless it is queued.
fn queue(watcher: &mut Watcher, id: WatchId, ready: &mut VecDeque<WatchId>) {
    if !watcher.queued && watcher.is_ready() {
        watcher.queued = true;
        ready.push_back(id);
    }
}

/// Sets the tick at which the client is told that nothing has changed.
fn set_timer(watcher: &mut Watcher, id: WatchId, now: u64, timers: &mut BTreeSet<(u64, WatchId)>) {
    if let Some(ticks) = watcher.spec.progress_ticks {
        watcher.progress_at = now.saturating_add(ticks.max(1));
        timers.insert((watcher.progress_at, id));
    }
}
