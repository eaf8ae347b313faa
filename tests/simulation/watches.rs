//! The watches of clients. Each client follows a range at some node, takes what comes at its own pace, and
//! goes on at another node whenever it likes, its node dies, or that ends the watch.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seshat::error::Refusal;
use seshat::kv::{Cause, Entry, KeyRange};
use seshat::types::{ClusterId, Key, NodeId, Revision};
use seshat::watch::{Event, WatchBounds, WatchId, WatchMessage, WatchSpec};

use crate::invariants::{Verdict, a_watch_shows_every_revision};
use crate::process::Incarnation;
use crate::sabotage::Sabotage;
use crate::world::{Happening, World};

/// Clients that watch, in each run.
const CLIENTS: usize = 3;

/// Bounds that are reached.
pub(crate) fn bounds(seed: u64) -> WatchBounds {
    let (small, large) = match seed % 3 {
        0 => (100, 600),
        1 => (300, 2_000),
        _ => (1_000, 100_000),
    };
    WatchBounds {
        history_bytes: large,
        waiting_bytes: small,
        all_waiting_bytes: large,
        part_bytes: small,
        turn_bytes: large,
        patience_ticks: 30,
        ..WatchBounds::default()
    }
}

/// The node at which a client watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: NodeId,
    incarnation: Incarnation,
    id: WatchId,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) spec: WatchSpec,
    place: Option<Place>,
    /// What has arrived, and the client has not taken.
    arrived: VecDeque<Result<Vec<WatchMessage>, Refusal>>,
    /// What the client has made of the messages that it has taken.
    pub(crate) map: BTreeMap<Key, Entry>,
    pub(crate) cluster: Option<ClusterId>,
    /// The revision at which its map is complete.
    pub(crate) at: Option<Revision>,
    /// The last revision of the stream.
    last: Option<Revision>,
}

/// All clients that watch.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Of its own, so that the rest of a run is as it is without watches.
    rng: StdRng,
    clients: Vec<Watcher>,
}

impl Watching {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x0077_6174_6368);
        let clients = (0..CLIENTS).map(|_| Watcher::draw(&mut rng)).collect();
        Self { rng, clients }
    }

    /// A bundle of messages leaves `node`.
    fn arrives(&mut self, at: Place, bundle: Result<Vec<WatchMessage>, Refusal>) {
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|it| it.place == Some(at)) {
            client.arrived.push_back(bundle);
        }
    }
}

impl Watcher {
    fn draw(rng: &mut StdRng) -> Self {
        let key = |rng: &mut StdRng| Key::from(vec![b'k', b'0' + rng.gen_range(0..10u8)]);
        let range = match rng.gen_range(0..4) {
            0 => KeyRange::key(key(rng)),
            1 => KeyRange::interval(key(rng), None),
            _ => KeyRange::prefix(Key::new()),
        };
        let spec = WatchSpec {
            range,
            after: None,
            min_revision: 0,
            keys_only: rng.gen_bool(0.2),
            progress_ticks: rng.gen_bool(0.5).then(|| rng.gen_range(1..20)),
        };
        Self {
            spec,
            place: None,
            arrived: VecDeque::new(),
            map: BTreeMap::new(),
            cluster: None,
            at: None,
            last: None,
        }
    }

    /// Applies a message. Returns whether its map is complete.
    fn apply(&mut self, message: WatchMessage) -> Result<bool, String> {
        let at = match message {
            WatchMessage::Reset => {
                self.map.clear();
                (self.at, self.last) = (None, None);
                return Ok(false);
            }
            WatchMessage::State { entries, deleted } => {
                self.at = None;
                let entries = entries.into_iter();
                self.map.extend(entries.map(|it| (it.key.clone(), it)));
                for key in deleted {
                    self.map.remove(&key);
                }
                return Ok(false);
            }
            WatchMessage::Synced {
                cluster_id,
                revision,
            } => {
                self.cluster = Some(cluster_id);
                self.is_after(revision, true)?;
                revision
            }
            WatchMessage::Progress { revision } => {
                self.is_after(revision, true)?;
                revision
            }
            WatchMessage::Events {
                revision,
                events,
                more,
            } => {
                // The parts of one revision follow one another.
                let in_part = self.at.is_none();
                self.is_after(revision, in_part)?;
                for Event { cause, entry } in events {
                    match cause {
                        Cause::Set => self.map.insert(entry.key.clone(), entry),
                        Cause::Deleted | Cause::Expired | Cause::SessionEnded => {
                            self.map.remove(&entry.key)
                        }
                    };
                }
                if more {
                    self.at = None;
                    return Ok(false);
                }
                revision
            }
        };
        self.at = Some(at);
        Ok(true)
    }

    /// Notes a revision that is told, which is after the last one.
    fn is_after(&mut self, revision: Revision, or_same: bool) -> Result<(), String> {
        let last = self.last.replace(revision);
        match last {
            Some(last) if revision < last || (revision == last && !or_same) => {
                Err(format!("{revision} after {last}"))
            }
            _ => Ok(()),
        }
    }
}

impl World {
    /// Each client that watches does something.
    pub(crate) fn watch(&mut self) -> Verdict {
        for client in 0..CLIENTS {
            match self.place(client) {
                None => self.open_watch(client),
                Some(_) if self.watching.rng.gen_bool(0.02) => self.leave(client),
                Some(_) => self.take_bundles(client)?,
            }
        }
        let next = self.watching.rng.gen_range(10..300);
        self.schedule(next, Happening::Watch);
        Ok(())
    }

    /// Where a client watches, if the process still runs.
    fn place(&self, client: usize) -> Option<Place> {
        let place = self.watching.clients[client].place?;
        let process = self.processes.get(&place.node)?;
        (process.incarnation == place.incarnation).then_some(place)
    }

    /// A client goes on at some node, from where it stands.
    fn open_watch(&mut self, client: usize) {
        let nodes = self.setting.node_ids();
        let Watching { rng, clients } = &mut self.watching;
        let node = nodes[rng.gen_range(0..nodes.len())];
        let watcher = &mut clients[client];
        watcher.place = None;
        watcher.arrived.clear();
        watcher.spec.after = watcher.cluster.zip(watcher.at);
        watcher.spec.min_revision = match watcher.at {
            Some(at) if rng.gen_bool(0.3) => at,
            _ => 0,
        };
        watcher.last = watcher.at;
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let opened = process.replica.open_watch(watcher.spec.clone());
        watcher.place = opened.as_ref().ok().map(|id| Place {
            node,
            incarnation: process.incarnation,
            id: *id,
        });
        let after = watcher.spec.after;
        self.trace.line(
            self.now,
            format_args!("client {client} watches at {node} after {after:?}: {opened:?}"),
        );
    }

    fn leave(&mut self, client: usize) {
        let watcher = &mut self.watching.clients[client];
        watcher.arrived.clear();
        if let Some(place) = watcher.place.take()
            && let Some(process) = self.processes.get_mut(&place.node)
        {
            process.replica.close_watch(place.id);
        }
    }

    /// A client takes some of what has arrived.
    fn take_bundles(&mut self, client: usize) -> Verdict {
        for _ in 0..self.watching.rng.gen_range(0..4) {
            if !self.take_bundle(client)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A client takes the next bundle. Returns whether there is one.
    fn take_bundle(&mut self, client: usize) -> Result<bool, crate::invariants::Violation> {
        let watcher = &mut self.watching.clients[client];
        let (Some(place), Some(bundle)) = (watcher.place, watcher.arrived.pop_front()) else {
            return Ok(false);
        };
        self.trace.line(
            self.now,
            format_args!("client {client} takes {bundle:?} of {}", place.node),
        );
        let Ok(messages) = bundle else {
            watcher.place = None;
            return Ok(false);
        };
        for message in messages {
            let text = format!("{message:?}");
            let complete = watcher.apply(message);
            let complete = a_watch_shows_every_revision::in_order(watcher, complete, &text)?;
            if complete {
                self.summary.watched += 1;
                a_watch_shows_every_revision::check(watcher, &self.clusters)?;
            }
        }
        if let Some(process) = self.processes.get_mut(&place.node) {
            process.replica.watch_taken(place.id);
        }
        Ok(true)
    }

    /// Messages for watches leave `node`.
    pub(crate) fn send_to_watches(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        watches: Vec<(WatchId, Result<Vec<WatchMessage>, Refusal>)>,
    ) {
        for (id, mut bundle) in watches {
            if self.plan.sabotage == Some(Sabotage::DropsEvents)
                && self.watching.rng.gen_bool(0.02)
                && let Ok(messages) = &mut bundle
                && let Some(WatchMessage::Events { events, .. }) = messages.last_mut()
            {
                events.pop();
            }
            let place = Place {
                node,
                incarnation,
                id,
            };
            self.watching.arrives(place, bundle);
        }
    }

    /// All clients take everything, and have the last state of their nodes.
    pub(crate) fn finish_watches(&mut self) -> Verdict {
        for client in 0..CLIENTS {
            while let Some(place) = self.place(client) {
                if self.take_bundle(client)? {
                    continue;
                }
                let process = self.processes.get(&place.node);
                if !process.is_some_and(|process| process.replica.has_watch_output()) {
                    break;
                }
                self.settle(place.node)?;
            }
            let Some(place) = self.place(client) else {
                continue;
            };
            let process = self.processes.get(&place.node);
            if let Some(raft) = process.and_then(|process| process.replica.raft()) {
                let watcher = &self.watching.clients[client];
                a_watch_shows_every_revision::finish(watcher, raft, &self.clusters)?;
            }
        }
        Ok(())
    }
}
