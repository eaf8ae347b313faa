//! Watches: what the caller is told, where a watch goes on, and when it ends.

use std::time::Duration;

use futures_util::FutureExt as _;
use seshat::client::{
    Builder, Client, Entry, Error, Event, Mirror, Position, Reason, Removal, Update, Updates,
};
use seshat::proto::kv;
use seshat::proto::kv::watch_response::Message;
use tokio::time::timeout;
use tonic::Code;

use super::mock::{Mock, dead, in_memory, invalid};
use seshat_test_support::watch::{
    CLUSTER as OURS, End, changes, cut, deleted, entry, nothing, part, progress, reset, set, state,
    synced, synced_of,
};
use seshat_test_support::{InTime as _, eventually};

const OTHER: u64 = 8;

fn builder(nodes: &[&Mock]) -> Builder {
    let endpoints = nodes.iter().map(|node| &node.address);
    let timeout = Duration::from_secs(30);
    Client::builder().endpoints(endpoints).timeout(timeout)
}

fn client_of(nodes: &[&Mock]) -> Client {
    builder(nodes).build().unwrap()
}

fn sets(key: &'static str, revision: u64) -> Message {
    changes(revision, &[set(key, "v", revision)])
}

/// The next news in short.
async fn next(updates: &mut Updates) -> String {
    let update = updates.next().in_time("news").await;
    short(&update.expect("news").expect("no error"))
}

fn bound(entry: &Entry) -> String {
    let text = |bytes| str::from_utf8(bytes).unwrap().to_owned();
    format!(
        "{}={}@{}",
        text(&entry.key),
        text(&entry.value),
        entry.revision
    )
}

fn short(update: &Update) -> String {
    let event = |event: &Event| match event {
        Event::Set(entry) => bound(entry),
        Event::Removed {
            key,
            revision,
            cause,
            ..
        } => {
            assert_eq!(*cause, Removal::Deleted);
            format!("-{}@{revision}", str::from_utf8(key).unwrap())
        }
        other => panic!("{other:?}"),
    };
    match update {
        Update::Reset => "reset".to_owned(),
        Update::State {
            entries, deleted, ..
        } => {
            let deleted = deleted
                .iter()
                .map(|key| format!("-{}", str::from_utf8(key).unwrap()));
            let all: Vec<_> = entries.iter().map(bound).chain(deleted).collect();
            format!("state {}", all.join(" "))
        }
        Update::Synced { position, .. } => {
            format!("synced {} {}", position.cluster_id, position.revision)
        }
        Update::Events {
            revision, events, ..
        } => {
            let all: Vec<_> = events.iter().map(event).collect();
            format!("{revision}: {}", all.join(" "))
        }
        Update::Progress { revision, .. } => format!("progress {revision}"),
        Update::Disconnected(error) => format!("disconnected: {error}"),
        other => panic!("{other:?}"),
    }
}

/// The news up to `count`, in short.
async fn news(updates: &mut Updates, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(next(updates).await);
    }
    all
}

/// The error that ends a watch, and nothing after it.
async fn end(updates: &mut Updates) -> Error {
    let error = updates.next().in_time("the end").await;
    let error = error.expect("an error").expect_err("no news");
    assert!(updates.next().in_time("nothing").await.is_none());
    error
}

fn position(cluster_id: u64, revision: u64) -> Position {
    Position {
        cluster_id,
        revision,
    }
}

#[tokio::test]
async fn the_state_comes_first_and_then_every_change() {
    let node = Mock::follower(None).await;
    let messages = [
        reset(),
        state(&[entry("k1", "a", 2)], &[]),
        state(&[entry("k2", "b", 4)], &["k0"]),
        synced(5),
        changes(6, &[set("k1", "c", 6)]),
        part(8, &[set("k0", "x", 8)]),
        changes(8, &[deleted("k1", 8), deleted("k2", 8)]),
        progress(9),
    ];
    node.next_watch(messages, End::Silence);
    let mut updates = client_of(&[&node]).watch("k").stream();
    assert_eq!(
        node.watches_open(),
        0,
        "nothing is sent before it is polled"
    );
    assert_eq!(
        news(&mut updates, 7).await,
        [
            "reset",
            "state k1=a@2",
            "state k2=b@4 -k0",
            "synced 7 5",
            "6: k1=c@6",
            "8: k0=x@8 -k1@8 -k2@8",
            "progress 9",
        ]
    );
    assert_eq!(updates.position(), Some(position(OURS, 9)));
    let asked = node.watches().remove(0);
    let interval = kv::Interval {
        start: "k".into(),
        end: Some("l".into()),
    };
    let range = Some(kv::key_range::Range::Interval(interval));
    assert_eq!(asked.range, Some(kv::KeyRange { range }));
    assert_eq!(
        (asked.cluster_id, asked.after_revision, asked.min_revision),
        (None, 0, 0)
    );
    assert!(!asked.keys_only);
    assert_eq!(asked.progress_interval.map(|it| it.seconds), Some(5));
    assert_eq!(node.reads(), 0, "a watch needs no leader");
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_node() {
    let node = Mock::follower(None).await;
    let client = client_of(&[&node]);
    node.next_watch([synced(12)], End::Silence);
    let watch = client.watch_key("k").keys_only().min_revision(12);
    let watch = watch
        .resume(position(OURS, 10))
        .progress_interval(Duration::ZERO);
    let mut updates = watch.stream();
    assert_eq!(updates.position(), Some(position(OURS, 10)));
    assert_eq!(next(&mut updates).await, "synced 7 12");
    let asked = node.watches().remove(0);
    assert_eq!(
        (asked.cluster_id, asked.after_revision, asked.min_revision),
        (Some(OURS), 10, 12)
    );
    let interval = kv::Interval {
        start: "k".into(),
        end: Some("k\0".into()),
    };
    let range = Some(kv::key_range::Range::Interval(interval));
    assert_eq!(asked.range, Some(kv::KeyRange { range }));
    assert!(asked.keys_only);
    assert_eq!(
        asked.progress_interval.map(|it| it.nanos),
        Some(100_000_000)
    );
}

#[tokio::test]
async fn a_watch_that_is_cut_off_goes_on_where_its_caller_stands() {
    let node = Mock::follower(None).await;
    node.next_watch([nothing(5).to_vec(), vec![sets("a", 6)]].concat(), cut());
    // Nothing of a half revision is told twice or lost.
    let half = part(7, &[set("b", "v", 7)]);
    node.next_watch([synced(6), half], End::Short);
    let whole = changes(7, &[set("b", "v", 7), set("c", "v", 7)]);
    node.next_watch([whole, synced(7), progress(9)], cut());
    node.next_watch([synced(9)], End::Silence);
    let mut updates = client_of(&[&node]).watch("").stream();
    assert_eq!(
        news(&mut updates, 8).await,
        [
            "reset",
            "synced 7 5",
            "6: a=v@6",
            "synced 7 6",
            "7: b=v@7 c=v@7",
            "synced 7 7",
            "progress 9",
            "synced 7 9"
        ]
    );
    let asked = node.watches().into_iter();
    let asked: Vec<_> = asked
        .map(|it| (it.cluster_id, it.after_revision, it.min_revision))
        .collect();
    let from = |revision| (Some(OURS), revision, revision);
    assert_eq!(asked, [(None, 0, 0), from(6), from(6), from(9)]);
}

#[tokio::test]
async fn a_caller_with_a_part_of_the_state_begins_again() {
    let node = Mock::follower(None).await;
    let some = || state(&[entry("k", "v", 8)], &[]);
    node.next_watch([reset(), some()], cut());
    node.next_watch([nothing(8).to_vec(), vec![some()]].concat(), cut());
    // Seen otherwise: changes after revision 8, on a map that has later ones already.
    node.next_watch([sets("k", 9)], End::Silence);
    node.next_watch(nothing(9), End::Silence);
    let mut updates = client_of(&[&node]).watch("").stream();
    assert_eq!(
        news(&mut updates, 7).await,
        [
            "reset",
            "state k=v@8",
            "reset",
            "synced 7 8",
            "state k=v@8",
            "reset",
            "synced 7 9"
        ]
    );
    let asked: Vec<_> = node.watches();
    assert!(
        asked
            .iter()
            .all(|it| it.cluster_id.is_none() && it.after_revision == 0)
    );
    let floors: Vec<_> = asked.iter().map(|it| it.min_revision).collect();
    assert_eq!(floors, [0, 8, 8, 8]);
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_for_another_one() {
    let [one, two] = [Mock::follower(None).await, Mock::follower(None).await];
    for node in [&one, &two] {
        node.joins(OURS, None);
        // More than one, because a slow node is not waited for.
        for _ in 0..100 {
            node.next_watch(nothing(5), End::Silence);
        }
    }
    let client = client_of(&[&one, &two]);
    let watch = client
        .watch("")
        .progress_interval(Duration::from_millis(100));
    let mut updates = watch.stream();
    assert_eq!(news(&mut updates, 2).await, ["reset", "synced 7 5"]);
    // Seen otherwise: nothing more, for ever.
    assert_eq!(news(&mut updates, 2).await, ["reset", "synced 7 5"]);
    for node in [&one, &two] {
        let asked = node.watches();
        let positions = asked.iter().map(|it| it.after_revision);
        assert!(positions.clone().all(|it| it == 0 || it == 5));
        // The one that was lost is the last that is asked again.
        assert!(!asked.is_empty());
    }
    eventually("the end of the lost call", async || {
        (one.watches_open() + two.watches_open() == 1).then_some(())
    })
    .await;
}

/// The other one may be as good, and the lost one may be dying.
#[tokio::test]
async fn a_node_that_is_lost_is_asked_after_all_others() {
    let [one, two] = [Mock::follower(None).await, Mock::follower(None).await];
    for node in [&one, &two] {
        node.joins(OURS, None);
        for _ in 0..20 {
            node.next_watch(nothing(5), cut());
        }
    }
    let builder = builder(&[&one, &two]).attempt_timeout(Duration::from_secs(30));
    let mut updates = builder.build().unwrap().watch("").stream();
    // At first both may be asked.
    news(&mut updates, 2).await;
    let mut last = None;
    for _ in 0..10 {
        let before = one.watches().len();
        let both = before + two.watches().len();
        news(&mut updates, 2).await;
        assert_eq!(one.watches().len() + two.watches().len(), both + 1);
        let served = one.watches().len() > before;
        assert_ne!(last.replace(served), Some(served), "the other one serves");
    }
}

#[tokio::test]
async fn an_outage_is_told_once_and_ends() {
    let node = Mock::follower(None).await;
    let (_socket, dead) = dead();
    let endpoints = [dead.as_str(), &node.address];
    let builder = Client::builder().endpoints(endpoints);
    let client = builder.timeout(Duration::from_millis(1)).build().unwrap();
    node.next_watch(nothing(5), cut());
    let mut updates = client.watch("").stream();
    assert_eq!(news(&mut updates, 2).await, ["reset", "synced 7 5"]);
    let told = next(&mut updates).await;
    assert!(told.starts_with("disconnected: "), "{told}");
    assert!(
        told.contains("serves no watch now") && told.contains(&dead),
        "{told}"
    );
    // It goes on asking for longer than it took to tell.
    let more = timeout(Duration::from_secs(2), updates.next()).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(updates.position(), Some(position(OURS, 5)));
    node.next_watch([synced(6)], cut());
    assert_eq!(next(&mut updates).await, "synced 7 6");
    let told = next(&mut updates).await;
    assert!(told.starts_with("disconnected: "), "another outage: {told}");
}

#[tokio::test]
async fn a_node_of_another_cluster_resets_nobody() {
    let [ours, other] = [Mock::follower(None).await, Mock::follower(None).await];
    ours.joins(OURS, None);
    other.joins(OTHER, None);
    // The first connection decides, so the client knows its cluster.
    let client = builder(&[&ours, &other]).cluster(OURS).build().unwrap();
    let mut updates = client.watch("").stream();
    for revision in 5..15 {
        for _ in 0..8 {
            other.next_watch([reset(), synced_of(OTHER, 90)], End::Silence);
        }
        ours.next_watch(nothing(revision), cut());
        assert_eq!(
            news(&mut updates, 2).await,
            ["reset".to_owned(), format!("synced 7 {revision}")]
        );
    }
    assert!(!other.watches().is_empty(), "it was asked");
}

/// The cluster has no leader at the moment: it has not formed anew, however slow its node is.
#[tokio::test(start_paused = true)]
async fn an_outage_leads_to_no_other_cluster() {
    for delay in [0, 500].map(Duration::from_millis) {
        let [ours, other] = ["kv-1", "kv-2"].map(|name| Mock::in_memory(name, false));
        ours.joins(OURS, None);
        other.joins(OTHER, None);
        ours.delays_reads(delay);
        ours.next_watch(nothing(5), cut());
        let builder = builder(&[&ours, &other]).timeout(Duration::from_millis(1));
        let client = builder.simulated(in_memory, 7).build().unwrap();
        let mut updates = client.watch("").stream();
        assert_eq!(news(&mut updates, 2).await, ["reset", "synced 7 5"]);
        for _ in 0..100 {
            other.next_watch([reset(), synced_of(OTHER, 90)], End::Silence);
        }
        let told = next(&mut updates).await;
        assert!(told.starts_with("disconnected: "), "{told}");
        // For longer than it took to tell.
        let more = timeout(Duration::from_secs(4), updates.next()).await;
        assert!(more.is_err(), "{more:?}");
        ours.next_watch([synced(6)], End::Silence);
        assert_eq!(next(&mut updates).await, "synced 7 6");
        assert!(!other.watches().is_empty(), "it was asked");
    }
}

#[tokio::test]
async fn a_cluster_that_has_formed_anew_resets_a_watch() {
    let node = Mock::follower(None).await;
    node.joins(OURS, None);
    let client = client_of(&[&node]);
    node.next_watch(nothing(5), cut());
    for _ in 0..9 {
        node.next_watch([reset(), synced_of(OTHER, 6)], End::Silence);
    }
    let mut updates = client.watch("").stream();
    assert_eq!(news(&mut updates, 2).await, ["reset", "synced 7 5"]);
    node.joins(OTHER, None);
    assert_eq!(news(&mut updates, 2).await, ["reset", "synced 8 6"]);
    assert_eq!(updates.position(), Some(position(OTHER, 6)));
    // Calls do not follow.
    assert_eq!(*client.watch_cluster().borrow(), Some(OURS));

    // Nor does a watch of a client that was told its cluster.
    let told = builder(&[&node]).cluster(OURS).build().unwrap();
    node.next_watch([reset(), synced_of(OTHER, 6)], End::Silence);
    let error = end(&mut told.watch("").stream()).await;
    assert!(error.is_other_cluster(), "{error:?}");
}

#[tokio::test]
async fn a_successor_of_the_cluster_resets_a_watch_and_calls_follow() {
    let node = Mock::follower(None).await;
    node.joins(OURS, None);
    let client = client_of(&[&node]);
    let only = builder(&[&node]).only_cluster(OURS).build().unwrap();
    let mut watches = [client.watch("").stream(), only.watch("").stream()];
    for updates in &mut watches {
        // The same connection: the process goes on as another cluster.
        let messages = [nothing(5).to_vec(), vec![reset(), synced_of(OTHER, 6)]].concat();
        node.next_watch(messages, End::Silence);
        assert_eq!(next(updates).await, "reset");
        node.joins(OTHER, Some(OURS));
        assert_eq!(next(updates).await, "synced 7 5");
        node.joins(OURS, None);
    }
    node.joins(OTHER, Some(OURS));
    let [follower, strict] = &mut watches;
    assert_eq!(news(follower, 2).await, ["reset", "synced 8 6"]);
    assert_eq!(*client.watch_cluster().borrow(), Some(OTHER));
    assert_eq!(node.watches().len(), 2, "it stays there");
    for _ in 0..9 {
        node.next_watch([reset(), synced_of(OTHER, 6)], End::Silence);
    }
    let error = end(strict).await;
    assert!(error.is_other_cluster(), "{error:?}");
}

#[tokio::test]
async fn what_no_node_will_ever_serve_ends_a_watch() {
    let node = Mock::follower(None).await;
    let refused = End::Refused(invalid("range", "one is needed"));
    node.next_watch([], refused);
    let error = end(&mut client_of(&[&node]).watch("").stream()).await;
    assert!(
        matches!(error.reason(), Some(Reason::InvalidRequest(_))),
        "{error:?}"
    );
    assert_eq!(node.watches().len(), 1);

    let older = Mock::older().await;
    let error = end(&mut client_of(&[&older]).watch("").stream()).await;
    assert_eq!(error.refusal().map(|it| it.code), Some(Code::Unimplemented));
    assert!(error.to_string().contains("knows no watches"), "{error}");

    // While a cluster is upgraded, another node serves.
    node.next_watch(nothing(5), End::Silence);
    let mut updates = client_of(&[&older, &node]).watch("").stream();
    assert_eq!(news(&mut updates, 2).await, ["reset", "synced 7 5"]);
}

#[tokio::test]
async fn nothing_is_lost_when_a_wait_is_given_up() {
    let node = Mock::follower(None).await;
    let events = (6..40).map(|revision| sets("k", revision));
    node.next_watch(nothing(5).into_iter().chain(events), cut());
    let events = (40..60).map(|revision| sets("k", revision));
    node.next_watch(events, End::Silence);
    let mut updates = client_of(&[&node]).watch("").stream();
    let mut told = Vec::new();
    while told.len() < 56 {
        // Dropped whenever it has to wait.
        match updates.next().now_or_never() {
            Some(update) => told.push(short(&update.unwrap().unwrap())),
            None => tokio::task::yield_now().await,
        }
    }
    let revisions = (6..60).map(|revision| format!("{revision}: k=v@{revision}"));
    let expected = ["reset".to_owned(), "synced 7 5".to_owned()];
    assert_eq!(
        told,
        expected.into_iter().chain(revisions).collect::<Vec<_>>()
    );
    drop(updates);
    eventually("the end of the call", async || {
        (node.watches_open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn watches_that_are_not_read_delay_no_other_call() {
    const WATCHES: usize = 32;
    const NEWS: u64 = 3_000;
    let node = Mock::leader().await;
    let client = client_of(&[&node]);
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let events = (6..6 + NEWS).map(|revision| sets("k", revision));
        node.next_watch(nothing(5).into_iter().chain(events), End::Silence);
        let mut updates = client.watch("").stream();
        assert_eq!(next(&mut updates).await, "reset");
        watches.push(updates);
    }
    // Until nothing more is sent.
    let (mut sent, mut unchanged) = (0, 0);
    while unchanged < 100 {
        client.set("k", "v").in_time("a write").await.unwrap();
        let before = std::mem::replace(&mut sent, node.news_sent());
        unchanged = if sent == before { unchanged + 1 } else { 0 };
    }
    let all = WATCHES * usize::try_from(NEWS).unwrap();
    assert!(sent < all, "the windows are full");
    node.next_watch(nothing(5), End::Silence);
    let mut another = client.watch("").stream();
    assert_eq!(news(&mut another, 2).await, ["reset", "synced 7 5"]);
    for updates in &mut watches {
        assert_eq!(next(updates).await, "synced 7 5");
        for revision in 6..6 + NEWS {
            assert_eq!(next(updates).await, format!("{revision}: k=v@{revision}"));
        }
    }
    assert_eq!(node.watches().len(), WATCHES + 1, "no connection was lost");
    assert_eq!(node.watch_peers().len(), 1);
    assert!(node.watch_peers().is_disjoint(&node.peers()[0]));
}

#[tokio::test]
async fn a_mirror_shows_one_moment_at_any_time() {
    let node = Mock::follower(None).await;
    let client = client_of(&[&node]);
    let some = state(&[entry("a", "1", 2), entry("b", "1", 3)], &[]);
    let messages = [
        reset(),
        some,
        synced(5),
        progress(6),
        changes(7, &[deleted("a", 7), set("c", "1", 7)]),
        state(&[entry("b", "2", 8)], &["c"]),
        synced(9),
    ];
    node.next_watch(messages, End::Short);
    // Nothing has changed: the program has nothing to do.
    node.next_watch(
        [reset(), state(&[entry("b", "2", 8)], &[]), synced(10)],
        End::Short,
    );
    node.next_watch([reset(), state(&[entry("d", "1", 11)], &[])], cut());
    node.next_watch([reset(), state(&[], &[]), synced(12)], End::Silence);
    let mut mirror = client
        .watch("")
        .mirror()
        .in_time("the state")
        .await
        .unwrap();
    let shown = |mirror: &Mirror| {
        let entries: Vec<_> = mirror.entries().map(bound).collect();
        (mirror.position().revision, entries.join(" "))
    };
    assert_eq!(shown(&mirror), (5, "a=1@2 b=1@3".to_owned()));
    for (revision, expected) in [
        (7, "b=1@3 c=1@7"),
        (9, "b=2@8"),
        // Not what a lost connection has begun to send.
        (12, ""),
    ] {
        let before = shown(&mirror);
        let changed = async {
            // Dropped whenever it has to wait.
            while mirror.changed().now_or_never().is_none() {
                assert_eq!(shown(&mirror).1, before.1);
                tokio::task::yield_now().await;
            }
        };
        changed.in_time("a change").await;
        assert_eq!(shown(&mirror), (revision, expected.to_owned()));
    }
    assert_eq!(mirror.get("b"), None);
    assert_eq!(mirror.position().cluster_id, OURS);
    assert!(mirror.disconnected().is_none());
}

#[tokio::test]
async fn a_mirror_without_a_node_is_an_error() {
    let (_socket, dead) = dead();
    let builder = Client::builder().endpoints([dead]);
    let client = builder.timeout(Duration::from_millis(1)).build().unwrap();
    let error = client.watch("").mirror().in_time("an error").await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}
