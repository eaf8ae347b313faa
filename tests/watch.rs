//! Watches: at every node, at every pace, and across failures.
//!
//! As in `tests/service.rs`, there are no sockets, and the test controls the clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::key_range::Range;
use seshat::proto::kv::watch_response::Message;
use seshat::proto::kv::{
    Applied, Cause, DeleteRequest, Event, InvalidRequest, KeyRange, NoQuorum, SetRequest,
    ShuttingDown, WatchEvents, WatchProgress, WatchRequest, WatchResponse, WatchState, WatchSynced,
};
use seshat::types::Role;
use seshat_test_support::fabric::{Fabric, MAX_KEY, MAX_WAITING, Node, leader_first};
use seshat_test_support::{InTime as _, Refused, eventually, refused};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

fn prefix(prefix: &str) -> WatchRequest {
    let range = Range::Prefix(prefix.to_owned().into());
    WatchRequest {
        range: Some(KeyRange { range: Some(range) }),
        ..WatchRequest::default()
    }
}

async fn leader() -> (Fabric, Node, Vec<Node>) {
    let (fabric, nodes) = Fabric::started(3).await;
    let (leader, followers) = leader_first(nodes);
    (fabric, leader, followers)
}

async fn set(node: &mut Node, key: impl Into<Bytes>, value: impl Into<Bytes>) -> u64 {
    let request = SetRequest {
        key: key.into(),
        value: value.into(),
        ..SetRequest::default()
    };
    let set = node.kv.set(request).await.unwrap();
    set.into_inner().applied_index
}

async fn delete(node: &mut Node, key: &'static str) -> u64 {
    let request = DeleteRequest {
        key: key.into(),
        ..DeleteRequest::default()
    };
    let deleted = node.kv.delete(request).await.unwrap();
    deleted.into_inner().applied_index
}

/// A client that applies every message to its map.
struct Watcher {
    stream: Streaming<WatchResponse>,
    map: BTreeMap<Bytes, Bytes>,
    cluster_id: Option<u64>,
    revision: u64,
    /// The number of resets, and of events.
    resets: usize,
    events: usize,
}

impl Watcher {
    async fn open(node: &mut Node, request: WatchRequest) -> Self {
        Self {
            stream: node.kv.watch(request).await.unwrap().into_inner(),
            map: BTreeMap::new(),
            cluster_id: None,
            revision: 0,
            resets: 0,
            events: 0,
        }
    }

    /// The same client at another node, where it stands.
    async fn resume(self, node: &mut Node, request: WatchRequest) -> Self {
        let request = WatchRequest {
            cluster_id: self.cluster_id,
            after_revision: self.revision,
            ..request
        };
        let resumed = Self::open(node, request).await;
        Self {
            stream: resumed.stream,
            ..self
        }
    }

    async fn next(&mut self) -> Result<Message, Status> {
        let message = self
            .stream
            .message()
            .in_time("a message of a watch")
            .await?;
        let message = message.expect("a watch does not end by itself").message;
        let message = message.expect("a message that is known");
        self.apply(message.clone());
        Ok(message)
    }

    fn apply(&mut self, message: Message) {
        match message {
            Message::Reset(_) => {
                self.map.clear();
                self.resets += 1;
            }
            Message::State(WatchState { entries, deleted }) => {
                for key in deleted {
                    self.map.remove(&key);
                }
                let entries = entries.into_iter().map(|entry| (entry.key, entry.value));
                self.map.extend(entries);
            }
            Message::Synced(WatchSynced {
                cluster_id,
                revision,
            }) => {
                self.cluster_id = Some(cluster_id);
                self.revision = revision;
            }
            Message::Events(WatchEvents {
                revision,
                events,
                more,
            }) => {
                for event in events {
                    self.events += 1;
                    let cause = event.cause();
                    let entry = event.entry.unwrap();
                    assert_eq!(entry.revision, revision);
                    match cause {
                        Cause::Set => self.map.insert(entry.key, entry.value),
                        _ => self.map.remove(&entry.key),
                    };
                }
                if !more {
                    self.revision = revision;
                }
            }
            Message::Progress(WatchProgress { revision }) => self.revision = revision,
        }
    }

    /// Takes messages until the map is that of `revision` or a later one.
    async fn until(&mut self, revision: u64) {
        while self.revision < revision {
            self.next().await.unwrap();
        }
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let pairs = self.map.iter();
        pairs.map(|(key, value)| (text(key), text(value))).collect()
    }
}

fn refusal<T>(answer: Result<T, Status>) -> (Code, Refused) {
    let Err(status) = answer else {
        panic!("no refusal");
    };
    (status.code(), refused(&status))
}

#[tokio::test(start_paused = true)]
async fn every_node_sends_the_state_and_then_every_change() {
    let (_fabric, mut leader, mut followers) = leader().await;
    set(&mut leader, "k1", "a").await;
    let at = set(&mut leader, "other", "b").await;
    for node in [&mut leader].into_iter().chain(&mut followers) {
        let request = WatchRequest {
            min_revision: at,
            ..prefix("k")
        };
        let mut watcher = Watcher::open(node, request).await;
        watcher.until(at).await;
        assert_eq!((watcher.pairs(), watcher.resets), (vec![("k1", "a")], 1));
    }
    let mut watchers = Vec::new();
    for node in [&mut leader].into_iter().chain(&mut followers) {
        let mut watcher = Watcher::open(node, prefix("k")).await;
        watcher.until(at).await;
        watchers.push(watcher);
    }
    set(&mut leader, "k2", "c").await;
    set(&mut leader, "other", "d").await;
    let last = delete(&mut leader, "k1").await;
    for mut watcher in watchers {
        watcher.until(last).await;
        assert_eq!((watcher.pairs(), watcher.events), (vec![("k2", "c")], 2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_tells_the_cause_and_the_entry() {
    let (_fabric, mut leader, _followers) = leader().await;
    let mut watcher = Watcher::open(&mut leader, prefix("")).await;
    let Message::Reset(_) = watcher.next().await.unwrap() else {
        panic!("a client without a state gets one");
    };
    let Message::Synced(synced) = watcher.next().await.unwrap() else {
        panic!("there is no state");
    };
    let cluster_id = leader.status().cluster_id.unwrap().0;
    assert_eq!(synced.cluster_id, cluster_id);
    let bound = set(&mut leader, "k", "v").await;
    let gone = delete(&mut leader, "k").await;
    for (revision, cause, value) in [(bound, Cause::Set, "v"), (gone, Cause::Deleted, "")] {
        let event = Event {
            cause: cause.into(),
            entry: Some(seshat::proto::kv::Entry {
                key: "k".into(),
                value: value.into(),
                revision,
                ..Default::default()
            }),
        };
        let expected = WatchEvents {
            revision,
            events: vec![event],
            more: false,
        };
        assert_eq!(watcher.next().await.unwrap(), Message::Events(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_tells_of_a_change_before_the_next_heartbeat() {
    let (_fabric, mut leader, mut followers) = leader().await;
    let mut watcher = Watcher::open(&mut followers[0], prefix("")).await;
    watcher.next().await.unwrap();
    // The leader learns from an answer to a heartbeat that the follower is watched.
    sleep(Duration::from_millis(300)).await;
    let at = set(&mut leader, "k", "v").await;
    // No time passes until it is told: the clock advances only when all tasks wait.
    let began = tokio::time::Instant::now();
    watcher.until(at).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_goes_on_at_another_node_when_its_own_dies() {
    let (_fabric, mut leader, followers) = leader().await;
    let mut watcher = Watcher::open(&mut leader, prefix("k")).await;
    let [mut next, mut other] = <[Node; 2]>::try_from(followers).ok().unwrap();
    // It keeps the changes from now on.
    let mut first = Watcher::open(&mut next, prefix("k")).await;
    first.next().await.unwrap();
    for number in 0..20 {
        let at = set(&mut leader, format!("k{number}"), "v").await;
        watcher.until(at).await;
    }
    leader.kill().await;
    let Err(status) = watcher.stream.message().await else {
        panic!("the stream of a dead node goes on");
    };
    assert_ne!(status.code(), Code::Ok);
    let mut watcher = watcher.resume(&mut next, prefix("k")).await;
    let dead = leader.id;
    let mut status = next.driver.watch();
    status
        .wait_for(|status| status.leader.is_some_and(|leader| leader.node_id() != dead))
        .in_time("another leader")
        .await
        .unwrap();
    let leads = next.status().role == Some(Role::Leader);
    let leader = if leads { &mut next } else { &mut other };
    let at = set(leader, "k1", "new").await;
    watcher.until(at).await;
    assert_eq!((watcher.map.len(), watcher.resets), (20, 1));
    assert_eq!(watcher.map[&Bytes::from("k1")], "new");
    // A node without a history sends the state.
    let at = set(leader, "k2", "new").await;
    let applied = leader.status().applied_index;
    eventually("the write at the other node", async || {
        (other.status().applied_index >= applied).then_some(())
    })
    .await;
    let mut watcher = watcher.resume(&mut other, prefix("k")).await;
    watcher.until(at).await;
    assert_eq!((watcher.map.len(), watcher.resets), (20, 2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_delays_no_other_and_gets_the_last_state() {
    let (_fabric, mut leader, _followers) = leader().await;
    let mut slow = Watcher::open(&mut leader, prefix("k")).await;
    let mut fast = Watcher::open(&mut leader, prefix("k")).await;
    let writes = 3 * MAX_WAITING / 100;
    let mut at = 0;
    for number in 0..writes {
        at = set(&mut leader, format!("k{}", number % 50), number.to_string()).await;
        fast.until(at).await;
    }
    assert_eq!(fast.events, writes);
    slow.until(at).await;
    assert_eq!(slow.map, fast.map);
    assert!(slow.events < writes, "it got the keys that have changed");
    let at = delete(&mut leader, "k1").await;
    slow.until(at).await;
    assert!(!slow.map.contains_key(&Bytes::from("k1")));
}

#[tokio::test(start_paused = true)]
async fn a_large_range_comes_in_parts() {
    let (_fabric, mut leader, _followers) = leader().await;
    let mut at = 0;
    for number in 0..50 {
        at = set(&mut leader, format!("k{number}"), vec![b'v'; 32]).await;
    }
    let keys_only = true;
    let mut keys = Watcher::open(
        &mut leader,
        WatchRequest {
            keys_only,
            ..prefix("k")
        },
    )
    .await;
    keys.until(at).await;
    assert!(keys.map.len() == 50 && keys.map.values().all(Bytes::is_empty));
    let mut watcher = Watcher::open(&mut leader, prefix("k")).await;
    let mut parts = 0;
    while watcher.revision < at {
        parts += usize::from(matches!(watcher.next().await.unwrap(), Message::State(_)));
    }
    assert_eq!(watcher.map.len(), 50);
    assert!(parts > 10, "{parts}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_as_often_as_asked() {
    let (_fabric, mut leader, mut followers) = leader().await;
    let request = WatchRequest {
        progress_interval: Some(Duration::from_secs(1).try_into().unwrap()),
        ..prefix("k")
    };
    let mut watcher = Watcher::open(&mut followers[0], request).await;
    watcher.next().await.unwrap();
    watcher.next().await.unwrap();
    let at = set(&mut leader, "other", "v").await;
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        let message = watcher.next().await.unwrap();
        assert!(matches!(message, Message::Progress(_)), "{message:?}");
    }
    let told = began.elapsed();
    assert!(watcher.revision >= at);
    let expected = Duration::from_secs(4)..=Duration::from_millis(5200);
    assert!(expected.contains(&told), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_ends_its_watches_and_takes_none() {
    let (fabric, mut leader, mut followers) = leader().await;
    let request = WatchRequest {
        progress_interval: Some(Duration::from_millis(100).try_into().unwrap()),
        ..prefix("k")
    };
    let mut watcher = Watcher::open(&mut followers[0], request).await;
    let at = set(&mut leader, "k", "v").await;
    watcher.until(at).await;
    fabric.cut(followers[0].id);
    let began = tokio::time::Instant::now();
    let ended = loop {
        if let Err(status) = watcher.next().await {
            break status;
        }
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "it tells of progress"
        );
    };
    let waited = began.elapsed();
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(12)).contains(&waited),
        "{waited:?}"
    );
    let no_quorum = |(code, (applied, reason)): (Code, Refused)| {
        code == Code::Unavailable
            && applied == Applied::No
            && matches!(reason, Some(Reason::NoQuorum(NoQuorum { .. })))
    };
    assert!(no_quorum(refusal::<()>(Err(ended))));
    assert!(no_quorum(refusal(followers[0].kv.watch(prefix("k")).await)));
    // It takes them again as soon as it hears a leader.
    let waiting = {
        let mut kv = followers[0].kv.clone();
        tokio::spawn(async move { kv.watch(prefix("k")).await })
    };
    sleep(Duration::from_secs(1)).await;
    fabric.heal();
    assert!(waiting.in_time("a watch").await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_watch_waits_while_the_cluster_forms() {
    let fabric = Fabric::new(3);
    let mut first = fabric.start(1, 1).await;
    let mut kv = first.kv.clone();
    let waiting = tokio::spawn(async move { kv.watch(prefix("")).await });
    sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    let _others = [fabric.start(2, 1).await, fabric.start(3, 1).await];
    assert!(waiting.in_time("a watch").await.unwrap().is_ok());
    first.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_node_shuts_down() {
    let (_fabric, mut leader, _followers) = leader().await;
    let mut watcher = Watcher::open(&mut leader, prefix("")).await;
    watcher.next().await.unwrap();
    watcher.next().await.unwrap();
    leader.admission.close();
    let (code, detail) = refusal(watcher.next().await);
    let reason = Some(Reason::ShuttingDown(ShuttingDown {}));
    assert_eq!((code, detail), (Code::Unavailable, (Applied::No, reason)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_client_has_gone() {
    let (_fabric, mut leader, mut followers) = leader().await;
    for _ in 0..3 {
        let watcher = Watcher::open(&mut followers[0], prefix("")).await;
        drop(watcher);
    }
    // Then the leader tells of a commit with the next heartbeat again.
    // Between two heartbeats.
    sleep(Duration::from_millis(1050)).await;
    set(&mut leader, "k", "v").await;
    let applied = followers[0].status().applied_index;
    assert!(applied < leader.status().applied_index);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_checked() {
    let (_fabric, leader, _followers) = leader().await;
    let field = |request| {
        let mut kv = leader.kv.clone();
        async move {
            match refusal(kv.watch(request).await) {
                (
                    Code::InvalidArgument,
                    (Applied::No, Some(Reason::InvalidRequest(InvalidRequest { field, .. }))),
                ) => field,
                (Code::InvalidArgument, (_, Some(Reason::TooLarge(large)))) => large.what,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(field(WatchRequest::default()).await, "range");
    assert_eq!(field(prefix(&"k".repeat(MAX_KEY + 2))).await, "key");
    let after = WatchRequest {
        after_revision: 7,
        ..prefix("k")
    };
    assert_eq!(field(after).await, "after_revision");
    for (seconds, nanos) in [(0, 99_999_999), (3600, 1), (-1, 0), (0, 0)] {
        let progress = WatchRequest {
            progress_interval: Some(prost_types::Duration { seconds, nanos }),
            ..prefix("k")
        };
        assert_eq!(field(progress).await, "progress_interval");
    }
    let mut kv = leader.kv.clone();
    let other_cluster = WatchRequest {
        cluster_id: Some(1),
        after_revision: 7,
        ..prefix("k")
    };
    let mut stream = kv.watch(other_cluster).await.unwrap().into_inner();
    let first = timeout(Duration::from_secs(1), stream.message()).await;
    let first = first.unwrap().unwrap().unwrap().message;
    assert!(matches!(first, Some(Message::Reset(_))), "{first:?}");
}
