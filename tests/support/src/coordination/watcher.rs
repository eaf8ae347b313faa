//! A client that watches the keys of actors: it applies what it is told to a map, and records what that shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use seshat::client::{Client, Event, Mirror, Position, Update, Updates};
use tokio::time::{sleep, timeout};

use super::History;
use super::actor::Witness;
use super::keys::Keys;
use super::record::{Fact, Moment, Record, Told, Version};
use super::request::Entry;
use super::spans::Span;

/// How often a node says that nothing has changed.
const PROGRESS: Duration = Duration::from_millis(200);
/// How long the next news are waited for, before the watcher looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A client that watches all keys of actors.
pub struct Watcher<W> {
    client: Client,
    rng: StdRng,
    keys: Keys,
    max_padding: u64,
    history: Arc<History>,
    witness: W,
    map: BTreeMap<String, Version>,
    /// Where the map stands, if it is complete.
    position: Option<Position>,
    /// The cluster that the map was seen in, and since when.
    cluster: Option<(u64, Moment)>,
    /// The changes since the map was last incomplete, or since the last span.
    span: Option<Span>,
}

impl<W: Witness> Watcher<W> {
    pub fn new(
        client: Client,
        rng: StdRng,
        keys: Keys,
        max_padding: u64,
        history: &Arc<History>,
        witness: W,
    ) -> Self {
        Self {
            client,
            rng,
            keys,
            max_padding,
            history: Arc::clone(history),
            witness,
            map: BTreeMap::new(),
            position: None,
            cluster: None,
            span: None,
        }
    }

    /// Watches until `ends`, by one watch after the other.
    pub async fn run(&mut self, ends: impl Fn() -> bool) {
        while !ends() {
            let turns = self.rng.gen_range(1..200);
            match self.rng.gen_range(0..4) {
                0 => self.mirror(turns, &ends).await,
                _ => self.follow(turns, &ends).await,
            }
        }
    }

    /// Watches until the map is at least as new as a read that begins now.
    pub async fn finish(&mut self) {
        let mut updates = self.begin();
        let revision = loop {
            let found = self.client.get_with_index(self.keys.kept[0].clone()).await;
            match found {
                Ok(found) => break found.applied_index,
                Err(error) => self.witness.tell(format_args!("last read: {error}")),
            }
            sleep(LOOK).await;
        };
        while self.position.is_none_or(|it| it.revision < revision) {
            self.take(&mut updates).await;
        }
        self.end_span();
    }

    /// A watch that goes on where the map stands, or one from the beginning.
    fn begin(&mut self) -> Updates {
        self.end_span();
        let position = self.position;
        let resumed = position.filter(|_| self.rng.gen_bool(0.7));
        if resumed.is_none() {
            self.incomplete();
        }
        let watch = self.client.watch_range(self.keys.range());
        let watch = watch.progress_interval(PROGRESS);
        match (resumed, position) {
            (Some(position), _) => watch.resume(position).stream(),
            (None, Some(known)) => watch.min_revision(known.revision).stream(),
            (None, None) => watch.stream(),
        }
    }

    async fn follow(&mut self, turns: u32, ends: &impl Fn() -> bool) {
        let mut updates = self.begin();
        for _ in 0..turns {
            self.take(&mut updates).await;
            if ends() {
                return;
            }
        }
    }

    /// Takes the next news, if they come soon.
    async fn take(&mut self, updates: &mut Updates) {
        let Ok(update) = timeout(LOOK, updates.next()).await else {
            return;
        };
        match update.expect("a watch does not end") {
            Ok(update) => self.apply(update),
            Err(error) => {
                self.witness.tell(format_args!("watch: {error}"));
                self.incomplete();
                *updates = self.begin();
            }
        }
        if let (Some(position), true) = (self.position, updates.position().is_some()) {
            assert_eq!(updates.position(), Some(position), "two positions");
        }
    }

    fn apply(&mut self, update: Update) {
        match update {
            Update::Reset => {
                self.incomplete();
                self.witness.count("watches begun");
                self.map.clear();
            }
            Update::State {
                entries, deleted, ..
            } => {
                self.incomplete();
                for entry in entries {
                    self.bind(entry);
                }
                for key in deleted {
                    self.map.remove(&text(&key));
                }
            }
            Update::Synced { position, .. } => {
                self.advance(position);
                self.show(self.keys.all());
            }
            Update::Events {
                revision, events, ..
            } => self.change(revision, events),
            Update::Progress { revision, .. } => {
                let position = self.position.expect("no progress of an incomplete map");
                self.advance(Position {
                    revision,
                    ..position
                });
                self.show(self.keys.all());
                self.end_span();
            }
            Update::Disconnected(error) => {
                self.witness.tell(format_args!("watch: {error}"));
                self.witness.count("watches without a node");
            }
            other => panic!("unknown news: {other:?}"),
        }
    }

    fn change(&mut self, revision: u64, events: Vec<Event>) {
        let position = self.position.expect("no changes of an incomplete map");
        assert!(
            position.revision < revision,
            "{revision} after {position:?}"
        );
        let mut keys = Vec::new();
        for event in events {
            let key = text(event.key());
            match event {
                Event::Set(entry) => self.bind(entry),
                Event::Removed { cause, .. } => {
                    self.witness.count(&format!("keys removed: {cause:?}"));
                    self.map.remove(&key);
                }
                other => panic!("unknown event: {other:?}"),
            }
            keys.push(key);
        }
        self.witness.count("changes shown");
        if let Some(span) = &mut self.span {
            let changes = keys.iter().map(|key| (revision, key.clone()));
            span.changes.extend(changes);
        }
        self.advance(Position {
            revision,
            ..position
        });
        self.show(keys);
    }

    fn bind(&mut self, entry: seshat::client::Entry) {
        let key = text(&entry.key);
        if self.keys.contains(&key) {
            let version = self
                .keys
                .version(&key, &Entry::from(entry), self.max_padding);
            self.map.insert(key, version);
        }
    }

    /// The map shows no moment.
    fn incomplete(&mut self) {
        self.end_span();
        self.span = None;
        self.position = None;
    }

    /// The map is complete, at `position`.
    fn advance(&mut self, position: Position) {
        if self
            .cluster
            .is_none_or(|(cluster, _)| cluster != position.cluster_id)
        {
            assert!(self.position.is_none(), "another cluster without a reset");
            self.cluster = Some((position.cluster_id, self.history.moment()));
        }
        self.position = Some(position);
        if self.span.is_none() {
            self.begin_span(position.revision);
        }
        if let Some(span) = &mut self.span {
            span.up_to = position.revision;
        }
    }

    fn begin_span(&mut self, revision: u64) {
        let moment = self.history.moment();
        self.span = Some(Span {
            start: moment,
            end: moment,
            keys: self.keys.all(),
            behind: revision,
            up_to: revision,
            changes: BTreeSet::new(),
        });
    }

    /// Remembers the changes so far, and begins anew.
    fn end_span(&mut self) {
        let Some(span) = self.span.take() else {
            return;
        };
        self.begin_span(span.up_to);
        if span.behind < span.up_to {
            let end = self.history.moment();
            self.history.watched(Span { end, ..span });
        }
    }

    /// Records what the map says of these keys.
    fn show(&self, keys: Vec<String>) {
        let Some((position, (_, since))) = self.position.zip(self.cluster) else {
            return;
        };
        let keys = keys.into_iter().filter(|key| self.keys.contains(key));
        let seen = keys.map(|key| {
            let fact = Fact::found(self.map.get(&key).copied());
            (key, fact)
        });
        self.history.remember(Record {
            is_late: true,
            told: Some(Told {
                end: self.history.moment(),
                revision: position.revision,
                succeeded: true,
                seen: seen.collect(),
            }),
            ..Record::new(since)
        });
    }

    /// Follows the range by a mirror, and records each of its states.
    async fn mirror(&mut self, turns: u32, ends: &impl Fn() -> bool) {
        self.incomplete();
        let watch = self.client.watch_range(self.keys.range());
        let mut mirror = match watch.progress_interval(PROGRESS).mirror().await {
            Ok(mirror) => mirror,
            Err(error) => return self.witness.tell(format_args!("mirror: {error}")),
        };
        for _ in 0..turns {
            self.copy(&mirror);
            if ends() {
                break;
            }
            match timeout(LOOK, mirror.changed()).await {
                Ok(Ok(())) => self.witness.count("states of mirrors"),
                Ok(Err(error)) => {
                    self.witness.tell(format_args!("mirror: {error}"));
                    break;
                }
                Err(_) => {}
            }
        }
        self.incomplete();
    }

    fn copy(&mut self, mirror: &Mirror) {
        self.incomplete();
        self.map.clear();
        for entry in mirror.entries() {
            self.bind(entry.clone());
        }
        self.advance(mirror.position());
        self.show(self.keys.all());
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).expect("names are text")
}
