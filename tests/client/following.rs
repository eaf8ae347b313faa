//! Watches of real clusters, whose nodes die, and whose place another cluster takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use seshat::client::{Client, Error, Event, Mirror, Position, Session, Update, Updates};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clusters::recover;
use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually};

/// Often, so that a node that is lost is noticed soon.
const PROGRESS: Duration = Duration::from_millis(200);

const TIMEOUT: Duration = Duration::from_secs(60);

/// A client of the nodes with these indices.
fn client(cluster: &Cluster, indices: impl IntoIterator<Item = usize>) -> Client {
    let endpoints = indices.into_iter().map(|index| cluster.client_addr(index));
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(TIMEOUT).build().unwrap()
}

type Map = BTreeMap<Bytes, Bytes>;

/// A map that follows a watch, and what it was wherever it was whole.
struct Watcher {
    updates: Updates,
    map: Map,
    states: Vec<(Position, Map)>,
    resets: usize,
}

impl Watcher {
    fn new(updates: Updates) -> Self {
        Self {
            updates,
            map: Map::new(),
            states: Vec::new(),
            resets: 0,
        }
    }

    /// Takes the next news. Returns the revision of the map, if it is whole.
    async fn take(&mut self) -> Option<u64> {
        match self.updates.next().await.unwrap().unwrap() {
            Update::Reset => {
                self.map.clear();
                self.resets += 1;
            }
            Update::State {
                entries, deleted, ..
            } => {
                let entries = entries.into_iter().map(|it| (it.key, it.value));
                self.map.extend(entries);
                self.map.retain(|key, _| !deleted.contains(key));
            }
            Update::Events { events, .. } => {
                for event in events {
                    match event {
                        Event::Set(entry) => drop(self.map.insert(entry.key, entry.value)),
                        removed => drop(self.map.remove(removed.key())),
                    }
                }
            }
            _ => {}
        }
        let position = self.updates.position()?;
        self.states.push((position, self.map.clone()));
        Some(position.revision)
    }

    /// Takes all news up to the revision `until`, once that is known.
    async fn follow(mut self, until: watch::Receiver<Option<u64>>) -> Self {
        loop {
            let revision = self.take().await;
            if revision.is_some_and(|at| until.borrow().is_some_and(|until| at >= until)) {
                return self;
            }
        }
    }

    /// Checks that it has seen the states that `writes` have made, and did not go back.
    fn check(&self, writes: &[Write]) {
        let mut before = 0;
        for (position, map) in &self.states {
            assert!(position.revision >= before, "it goes back");
            before = position.revision;
            assert!(*map == state_at(writes, before), "{position:?}");
        }
    }
}

/// A write: its revision, its key, and the value or `None` for a removal.
type Write = (u64, Bytes, Option<Bytes>);

/// A client that writes until it is stopped.
struct Writer {
    task: JoinHandle<Vec<Write>>,
    count: watch::Receiver<usize>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Writes to so many keys, values of so many bytes or more.
    async fn start(client: &Client, keys: usize, bytes: usize) -> Self {
        let session = client.session().await.unwrap();
        let (count, counted) = watch::channel(0);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut writes = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let write = write(&session, writes.len(), keys, bytes).await;
                writes.push(write.unwrap());
                count.send_modify(|count| *count += 1);
            }
            writes
        });
        Self {
            task,
            count: counted,
            stop,
        }
    }

    /// Waits until so many more writes are made.
    async fn more(&mut self, writes: usize) {
        let enough = *self.count.borrow() + writes;
        let waited = self.count.wait_for(|count| *count >= enough);
        waited.in_time("writes").await.unwrap();
    }

    /// Ends it. Returns what it has written, and tells watchers where they end.
    async fn finish(self, until: watch::Sender<Option<u64>>) -> Vec<Write> {
        self.stop.store(true, Ordering::Relaxed);
        let writes = self.task.await.unwrap();
        until.send_replace(writes.last().map(|(revision, ..)| *revision));
        writes
    }
}

async fn write(
    session: &Session,
    number: usize,
    keys: usize,
    bytes: usize,
) -> Result<Write, Error> {
    let key = Bytes::from(format!("key/{}", number % keys));
    let value = (!number.is_multiple_of(5)).then(|| Bytes::from(format!("{number:0bytes$}")));
    let revision = match &value {
        Some(value) => session.set(key.clone(), value.clone()).await?.applied_index,
        None => session.delete(key.clone()).await?.applied_index,
    };
    Ok((revision, key, value))
}

/// The state at `revision`.
fn state_at(writes: &[Write], revision: u64) -> Map {
    let mut map = Map::new();
    for (_, key, value) in writes.iter().filter(|(at, ..)| *at <= revision) {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
    map
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_see_every_state_while_each_node_dies_and_returns() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster, 0..3);
    let (until, is_known) = watch::channel(None);
    let watchers: Vec<_> = (0..6)
        .map(|_| client.watch("key/").progress_interval(PROGRESS).stream())
        .map(|updates| tokio::spawn(Watcher::new(updates).follow(is_known.clone())))
        .collect();
    let mut writer = Writer::start(&client, 7, 1).await;
    for index in 0..3 {
        writer.more(40).await;
        cluster.take(index).kill();
        writer.more(40).await;
        cluster.start(index);
        eventually("a healed cluster", async || {
            let status = client.admin().fresh_status().await;
            status.is_ok_and(|status| status.healed).then_some(())
        })
        .await;
    }
    writer.more(40).await;
    let writes = writer.finish(until).await;
    let watchers = join_all(watchers).in_time("the last write").await;
    let watchers: Vec<_> = watchers.into_iter().map(Result::unwrap).collect();
    watchers.iter().for_each(|watcher| watcher.check(&writes));
    let resets: usize = watchers.iter().map(|watcher| watcher.resets).sum();
    println!("{} writes, {resets} resets of 6 watches", writes.len());
}

/// What it has not read is more than may wait for it at the node and on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_stands_still_is_sent_what_has_changed() {
    let cluster = Cluster::started(3).await;
    let client = client(&cluster, 0..3);
    let mut writer = Writer::start(&client, 200, 8 << 10).await;
    writer.more(200).await;
    let mut watcher = Watcher::new(client.watch("key/").stream());
    while watcher.take().await.is_none() {}
    let begin = watcher.states.len();
    let (until, is_known) = watch::channel(None);
    writer.more(400).await;
    let writes = writer.finish(until).await;
    let watcher = watcher.follow(is_known).in_time("the last write").await;
    watcher.check(&writes);
    assert!(
        watcher.states.len() - begin < 400,
        "{}",
        watcher.states.len()
    );
    assert_eq!(watcher.resets, 1);
}

#[tokio::test]
async fn every_node_shows_a_write_to_a_watch_that_asks_for_it() {
    let cluster = Cluster::started(3).await;
    let writer = client(&cluster, 0..3);
    for round in 0..10 {
        for index in 0..3 {
            let value = format!("{round}/{index}");
            let written = writer.set("k", value.clone()).await.unwrap();
            let reader = client(&cluster, [index]);
            let watch = reader.watch_key("k").min_revision(written.applied_index);
            let mirror = watch.mirror().in_time("the state").await.unwrap();
            assert_eq!(mirror.get("k").unwrap().value, value);
            assert!(mirror.position().revision >= written.applied_index);
        }
    }
}

/// Waits until `mirror` shows this value.
async fn shows(mirror: &mut Mirror, value: &str) {
    let shown = async {
        while mirror.get("whose").is_none_or(|entry| entry.value != value) {
            mirror.changed().await.unwrap();
        }
    };
    shown.in_time(value).await;
}

#[tokio::test]
async fn a_watch_goes_on_with_the_cluster_that_takes_the_place_of_its_own() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster, 0..3);
    client.set("whose", "first").await.unwrap();
    let watch = client.watch("").progress_interval(PROGRESS);
    let mut mirror = watch.mirror().await.unwrap();
    shows(&mut mirror, "first").await;
    let first = mirror.position();

    let survivor = cluster.leader().await;
    for index in (0..3).filter(|&index| index != survivor) {
        cluster.take(index).kill();
    }
    let recovered = recover(&mut cluster, survivor).await;
    cluster.set("whose", "recovered").await;
    shows(&mut mirror, "recovered").await;
    let second = mirror.position();
    assert_eq!(second.cluster_id, recovered);
    assert!(second.revision > first.revision);

    for index in 0..3 {
        cluster.take(index).kill();
    }
    cluster.start_all().await;
    cluster.set("whose", "formed anew").await;
    shows(&mut mirror, "formed anew").await;
    let third = mirror.position();
    assert!(![first.cluster_id, second.cluster_id].contains(&third.cluster_id));
    assert!(third.revision > second.revision);
}
