//! One watch: what its client has been sent, and what waits for it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::history::{History, held};
use super::walk::Walk;
use super::{Event, View, WatchMessage, WatchSpec};
use crate::kv::{Change, Entry};
use crate::types::Revision;

/// Bundles of messages that may be on their way to a client.
const MAX_IN_FLIGHT: usize = 2;
/// Bytes of a message that take as long as a comparison of a change with a range.
const COMPARED_BYTES: usize = 16;

/// Where a watch stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// The node has not applied this revision, which the client already knows.
    Waiting(Revision),
    /// The node knows enough to begin.
    Opening,
    /// The client gets the state.
    Walking(Walk),
    /// The client has the state, and gets the changes.
    Live(Queue),
}

/// The changes that wait for a client.
#[derive(Debug, Default)]
pub(super) struct Queue {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// The client does not know yet that it is at this revision, once it has got the changes up to it.
    unsynced: Option<Revision>,
}

/// One watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) spec: WatchSpec,
    pub(super) phase: Phase,
    /// Whether it is in the queue of those that are ready.
    pub(super) queued: bool,
    /// Whether the client is to be told that nothing has changed.
    pub(super) owes_progress: bool,
    /// The tick at which it is told that next.
    pub(super) progress_at: u64,
    /// The bytes of each bundle that its client has not taken.
    in_flight: VecDeque<usize>,
}

impl Watcher {
    pub(super) fn new(spec: WatchSpec, floor: Revision) -> Self {
        Self {
            spec,
            phase: Phase::Waiting(floor),
            queued: false,
            owes_progress: false,
            progress_at: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// Whether there is something for its client, and the client has taken enough of what came before.
    pub(super) fn is_ready(&self) -> bool {
        let has_something = match &self.phase {
            Phase::Waiting(_) => false,
            Phase::Opening | Phase::Walking(_) => true,
            Phase::Live(queue) => {
                !queue.changes.is_empty() || queue.unsynced.is_some() || self.owes_progress
            }
        };
        has_something && self.in_flight.len() < MAX_IN_FLIGHT
    }

    /// Notes that the client has taken a bundle.
    pub(super) fn taken(&mut self) {
        self.in_flight.pop_front();
    }

    /// Whether the client has taken all bundles.
    pub(super) fn has_taken_all(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Bytes that it holds: those that wait for the client, and those that are on their way.
    pub(super) fn held(&self) -> usize {
        let in_flight: usize = self.in_flight.iter().sum();
        in_flight.saturating_add(self.waiting())
    }

    /// Bytes that wait for the client.
    pub(super) fn waiting(&self) -> usize {
        match &self.phase {
            Phase::Waiting(_) | Phase::Opening => 0,
            Phase::Walking(walk) => walk.held(),
            Phase::Live(queue) => queue.bytes,
        }
    }

    /// Begins with the changes after the state of the client, or with the whole state. What waits may take
    /// `room` bytes. Returns the cost in bytes of a message.
    pub(super) fn begin(
        &mut self,
        history: Option<&History>,
        view: &View<'_>,
        room: usize,
    ) -> usize {
        let after = self.spec.after;
        let after = after.filter(|(cluster, after)| *cluster == view.cluster_id && *after > 0);
        let missed = after
            .zip(history)
            .and_then(|((_, after), history)| history.after(after));
        let Some(missed) = missed else {
            self.restart();
            return 0;
        };
        self.follow(view.applied);
        let mut cost = 0;
        for change in missed {
            cost += COMPARED_BYTES;
            if self.spec.range.contains(&change.key) {
                self.push(change, room);
            }
        }
        cost
    }

    /// Sends the whole state again.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::Walking(Walk::from_start(&self.spec));
    }

    /// Sends the changes that come, and says that the client is at `revision` once it has those up to it.
    fn follow(&mut self, revision: Revision) {
        self.phase = Phase::Live(Queue {
            unsynced: Some(revision),
            ..Queue::default()
        });
    }

    /// Adds a change in its range. What waits may take `room` bytes.
    pub(super) fn push(&mut self, change: &Arc<Change>, room: usize) {
        match &mut self.phase {
            Phase::Waiting(_) | Phase::Opening => {}
            Phase::Walking(walk) => walk.note(&change.key),
            Phase::Live(queue) => {
                queue.bytes = queue.bytes.saturating_add(held(change));
                queue.changes.push_back(Arc::clone(change));
                if queue.bytes > room {
                    let keys = queue.changes.iter().map(|change| &change.key);
                    self.phase = Phase::Walking(Walk::of_changed(keys));
                }
            }
        }
        if matches!(self.phase, Phase::Walking(_)) && self.waiting() > room {
            self.restart();
        }
    }

    /// The next bundle of messages, and the bytes that it takes.
    pub(super) fn next(
        &mut self,
        view: &View<'_>,
        part_bytes: usize,
    ) -> (Vec<WatchMessage>, usize) {
        let mut messages = Vec::new();
        let bytes = match &mut self.phase {
            Phase::Waiting(_) | Phase::Opening => 0,
            Phase::Walking(walk) => {
                let bytes = walk.next(&self.spec, view, part_bytes, &mut messages);
                if walk.is_over() {
                    messages.push(WatchMessage::Synced {
                        cluster_id: view.cluster_id,
                        revision: view.applied,
                    });
                    self.phase = Phase::Live(Queue::default());
                }
                bytes
            }
            Phase::Live(queue) => {
                let bytes = queue.next(&self.spec, view, part_bytes, &mut messages);
                if self.owes_progress && messages.is_empty() {
                    messages.push(WatchMessage::Progress {
                        revision: view.applied,
                    });
                }
                bytes
            }
        };
        self.owes_progress = false;
        if !messages.is_empty() {
            self.in_flight.push_back(bytes);
        }
        (messages, bytes)
    }
}

impl Queue {
    /// Takes changes of `part_bytes`, at least one. Returns their bytes.
    fn next(
        &mut self,
        spec: &WatchSpec,
        view: &View<'_>,
        part_bytes: usize,
        messages: &mut Vec<WatchMessage>,
    ) -> usize {
        let (mut bytes, mut last) = (0, 0);
        while let Some(change) = self
            .changes
            .pop_front_if(|change| bytes == 0 || bytes + held(change) <= part_bytes)
        {
            let size = held(&change);
            bytes += size;
            self.bytes = self.bytes.saturating_sub(size);
            last = change.revision;
            add(last, event(&change, spec, view), messages);
        }
        let next = self.changes.front().map(|change| change.revision);
        if next == Some(last)
            && let Some(WatchMessage::Events { more, .. }) = messages.last_mut()
        {
            *more = true;
            return bytes;
        }
        if let Some(at) = self.unsynced
            && next.is_none_or(|next| next > at)
        {
            self.unsynced = None;
            messages.push(WatchMessage::Synced {
                cluster_id: view.cluster_id,
                revision: match next {
                    None => view.applied,
                    Some(_) => at.max(last),
                },
            });
        }
        bytes
    }
}

fn event(change: &Change, spec: &WatchSpec, view: &View<'_>) -> Event {
    let value = change.value.clone().filter(|_| !spec.keys_only);
    Event {
        cause: change.cause,
        entry: Entry {
            key: change.key.clone(),
            value: value.unwrap_or_default(),
            revision: match view.state.revisions().base {
                // The keys of such a cluster have no revisions.
                0 => 0,
                _ => change.revision,
            },
            lifetime: change.lifetime,
        },
    }
}

/// Adds an event to those of the revision `of`.
fn add(of: Revision, event: Event, messages: &mut Vec<WatchMessage>) {
    match messages.last_mut() {
        Some(WatchMessage::Events {
            revision, events, ..
        }) if *revision == of => events.push(event),
        _ => messages.push(WatchMessage::Events {
            revision: of,
            events: vec![event],
            more: false,
        }),
    }
}
