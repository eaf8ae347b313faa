//! Scans: what is asked for, what comes of a scan that is cut off, and what it costs other calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use seshat::client::{Client, Entries, Entry, Error, Reason};
use seshat::proto::kv::key_range::Range;
use seshat::proto::kv::{Interval, ScanRequest};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::mock::{Cut, Mock, PART_KEYS, not_leader};
use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually};

const TIMEOUT: Duration = Duration::from_secs(30);

fn client_of(nodes: &[&Mock]) -> Client {
    let endpoints = nodes.iter().map(|node| &node.address);
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(TIMEOUT).build().unwrap()
}

/// A leader that has the keys k0, k1, …, k4 and one behind them, and its client.
async fn filled() -> (Mock, Client) {
    let node = Mock::leader().await;
    let client = client_of(&[&node]);
    for key in ["k3", "k0", "l", "k4", "k1", "k2"] {
        client.set(key, format!("value of {key}")).await.unwrap();
    }
    (node, client)
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    let keys = entries.iter();
    keys.map(|it| str::from_utf8(&it.key).unwrap()).collect()
}

/// All entries, and the error that has ended them.
async fn read(entries: &mut Entries) -> (Vec<Entry>, Option<Error>) {
    let mut read = Vec::new();
    while let Some(entry) = entries.next().in_time("an entry").await {
        match entry {
            Ok(entry) => read.push(entry),
            Err(error) => {
                let next = entries.next().in_time("the end").await;
                assert!(next.is_none(), "{next:?} after {error:?}");
                return (read, Some(error));
            }
        }
    }
    (read, None)
}

/// The interval that a request asks for.
fn interval(request: &ScanRequest) -> (&[u8], Option<&[u8]>) {
    match request.range.as_ref().and_then(|it| it.range.as_ref()) {
        Some(Range::Interval(Interval { start, end })) => (start, end.as_deref()),
        other => panic!("{other:?}"),
    }
}

fn unavailable() -> Status {
    Status::unavailable("the node goes away")
}

#[tokio::test]
async fn the_entries_of_a_range_come_in_order() {
    let (node, client) = filled().await;
    let mut entries = client.scan("k").stream();
    assert_eq!(entries.revision(), None);
    let (read, error) = read(&mut entries).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(keys(&read), ["k0", "k1", "k2", "k3", "k4"]);
    let revisions: Vec<_> = read.iter().map(|it| it.revision).collect();
    assert_eq!(revisions, [2, 5, 6, 1, 4]);
    assert_eq!(read[3].value, "value of k3");
    assert_eq!(entries.revision(), Some(6));
    assert!(entries.is_consistent() && !entries.has_more());
    assert_eq!(node.scans().len(), 1);

    let scan = client.scan_range("k1".."k4");
    assert_eq!(keys(&scan.collect().await.unwrap()), ["k1", "k2", "k3"]);
    let scan = client.scan_range("k3"..).keys_only().limit(2);
    let read = scan.collect().await.unwrap();
    assert_eq!(keys(&read), ["k3", "k4"]);
    assert!(read.iter().all(|it| it.value.is_empty()));
    assert_eq!(client.count("").await.unwrap(), 6);
    assert_eq!(client.count("k").await.unwrap(), 5);
    assert_eq!(client.count("x").await.unwrap(), 0);
    assert_eq!(client.scan("k").limit(3).count().await.unwrap(), 3);
    assert!(client.scan("x").collect().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_limit_is_kept_and_says_whether_there_is_more() {
    let (node, client) = filled().await;
    for (limit, more) in [(1, true), (2, true), (4, true), (5, false), (6, false)] {
        let mut entries = client.scan("k").limit(limit).stream();
        let (read, error) = read(&mut entries).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(read.len(), usize::try_from(limit.min(5)).unwrap());
        assert_eq!(entries.has_more(), more, "{limit}");
    }
    let asked = node.scans().len();
    // 0 means all to a node.
    assert!(client.scan("k").limit(0).stream().next().await.is_none());
    assert!(
        client
            .scan("k")
            .limit(0)
            .collect()
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(client.scan("k").limit(0).count().await.unwrap(), 0);
    assert_eq!(node.scans().len(), asked);
}

#[tokio::test]
async fn the_leader_is_found_and_asked_until_the_first_part_comes() {
    let (leader, _client) = filled().await;
    let follower = Mock::follower(Some(&leader.address)).await;
    let client = client_of(&[&follower]);
    leader.next_scan(Cut::Refused(0, unavailable()));
    leader.next_scan(Cut::Refused(0, not_leader(None)));
    leader.next_scan(Cut::Short(0));
    let mut entries = client.scan("k").stream();
    let (read, error) = read(&mut entries).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(read.len(), 5);
    assert!(entries.is_consistent());
    assert_eq!(leader.scans().len(), 4);
    assert!(leader.scans().iter().all(|it| interval(it).0 == b"k"));
}

#[tokio::test]
async fn a_scan_that_is_cut_off_ends_with_an_error_and_never_changes_its_moment() {
    let (node, client) = filled().await;
    for (cut, code) in [
        (Cut::Refused(1, unavailable()), Some(Code::Unavailable)),
        (
            Cut::Refused(1, not_leader(None)),
            Some(Code::FailedPrecondition),
        ),
        (Cut::Short(1), None),
    ] {
        node.next_scan(cut);
        let asked = node.scans().len();
        let mut entries = client.scan("k").stream();
        let (read, error) = read(&mut entries).await;
        assert_eq!(keys(&read), ["k0", "k1"]);
        let error = error.expect("it is cut off");
        assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
        assert_eq!(error.kind(), "interrupted");
        assert_eq!(error.refusal().map(|it| it.code), code);
        let said = error.to_string();
        assert!(said.contains("begin it again") && said.contains(&node.address));
        assert!(entries.is_consistent());
        assert_eq!(node.scans().len(), asked + 1);
    }
}

#[tokio::test]
async fn a_scan_that_may_resume_goes_on_behind_its_last_key() {
    let (node, client) = filled().await;
    node.next_scan(Cut::Refused(1, unavailable()));
    let mut entries = client.scan("k").limit(4).stream().resuming();
    for key in ["k0", "k1"] {
        assert_eq!(entries.next().await.unwrap().unwrap().key, key);
    }
    assert_eq!(entries.revision(), Some(6));
    // Both are in the state that is read from now on. One of them is behind the scan.
    client.set("k00", "new").await.unwrap();
    client.set("k22", "new").await.unwrap();
    assert!(entries.is_consistent());
    let (rest, error) = read(&mut entries).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(keys(&rest), ["k2", "k22"]);
    assert_eq!(entries.revision(), Some(8));
    assert!(!entries.is_consistent() && entries.has_more());
    let asked: Vec<_> = node.scans();
    let [first, second] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!(interval(first), (&b"k"[..], Some(&b"l"[..])));
    assert_eq!(interval(second), (&b"k1\0"[..], Some(&b"l"[..])));
    assert_eq!((first.limit, second.limit), (4, 2));
}

#[tokio::test]
async fn a_scan_that_resumes_at_the_same_revision_is_still_of_one_moment() {
    let (node, client) = filled().await;
    node.next_scan(Cut::Refused(1, unavailable()));
    node.next_scan(Cut::Short(1));
    let mut entries = client.scan("").stream().resuming();
    let (read, error) = read(&mut entries).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(keys(&read), ["k0", "k1", "k2", "k3", "k4", "l"]);
    assert!(entries.is_consistent());
    assert_eq!(node.scans().len(), 3);
}

#[tokio::test]
async fn a_scan_resumes_at_the_next_leader_when_its_node_hangs() {
    let (node, _client) = filled().await;
    let other = Mock::follower(Some(&node.address)).await;
    node.next_scan(Cut::Silence(1));
    let attempt = Duration::from_millis(50);
    let endpoints = [&node.address, &other.address];
    let builder = Client::builder().endpoints(endpoints).timeout(TIMEOUT);
    let client_of_both = builder.attempt_timeout(attempt).build().unwrap();
    let mut entries = client_of_both.scan("").stream().resuming();
    assert_eq!(entries.next().await.unwrap().unwrap().key, "k0");
    node.falls_silent();
    other.leads();
    client_of(&[&other]).set("k4", "there").await.unwrap();
    let (rest, error) = read(&mut entries).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(keys(&rest), ["k1", "k4"]);
    assert_eq!(rest[1].value, "there");
}

#[tokio::test]
async fn a_node_that_hangs_ends_a_scan_when_the_timeout_has_passed() {
    let (node, client) = filled().await;
    node.next_scan(Cut::Silence(1));
    let client = client.with_timeout(Duration::from_millis(200));
    let (read, error) = read(&mut client.scan("").stream()).await;
    assert_eq!(read.len(), PART_KEYS);
    assert!(
        matches!(error, Some(Error::Interrupted { .. })),
        "{error:?}"
    );
}

/// The clock jumps: the test waits for nothing.
async fn time_passes(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_timeout_is_that_of_each_part_and_a_deadline_that_of_the_whole_scan() {
    let (node, client) = filled().await;
    let mut scans = [client.clone(), client.within(TIMEOUT)].map(|it| it.scan("").stream());
    for entries in &mut scans {
        node.next_scan(Cut::Silence(1));
        entries.next().in_time("an entry").await.unwrap().unwrap();
    }
    let [mut by_part, mut by_deadline] = scans;
    time_passes(TIMEOUT + Duration::from_secs(1)).await;
    let begun = Instant::now();
    let (_, error) = read(&mut by_deadline).await;
    assert!(
        matches!(error, Some(Error::Interrupted { .. })),
        "{error:?}"
    );
    assert!(begun.elapsed() < TIMEOUT / 2, "it waits once more");

    // The wait for the part that it asks for now has just begun.
    let waited = timeout(Duration::from_millis(100), read(&mut by_part)).await;
    assert!(waited.is_err(), "{waited:?}");
    time_passes(TIMEOUT + Duration::from_secs(1)).await;
    let (_, error) = read(&mut by_part).await;
    assert!(
        matches!(error, Some(Error::Interrupted { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_read_at_once_begins_again_when_it_is_cut_off() {
    let (node, client) = filled().await;
    node.next_scan(Cut::Refused(1, unavailable()));
    node.next_scan(Cut::Short(2));
    let read = client.scan("k").collect().await.unwrap();
    assert_eq!(keys(&read), ["k0", "k1", "k2", "k3", "k4"]);
    assert_eq!(node.scans().len(), 3);
    assert!(node.scans().iter().all(|it| interval(it).0 == b"k"));

    node.next_scan(Cut::Refused(1, unavailable()));
    assert_eq!(client.count("k").await.unwrap(), 5);
    let counted = node.scans().split_off(3);
    assert_eq!(counted.len(), 2);
    assert!(counted.iter().all(|it| it.count_only));
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_its_call() {
    let (node, client) = filled().await;
    node.next_scan(Cut::Silence(1));
    let mut entries = client.scan("").stream();
    entries.next().await.unwrap().unwrap();
    assert_eq!(node.scans_open(), 1);
    drop(entries);
    eventually("the end of the call", async || {
        (node.scans_open() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_of_an_older_version_is_named_as_such() {
    let node = Mock::older().await;
    let error = client_of(&[&node]).count("").await.unwrap_err();
    assert!(error.to_string().contains("knows no scans"), "{error}");
    assert_eq!(error.refusal().unwrap().code, Code::Unimplemented);
}

#[tokio::test]
async fn scans_that_are_read_slowly_delay_no_other_call_and_take_little_memory() {
    // A node has no more of several parts at a time.
    const SCANS: usize = 4;
    const KEYS: usize = 64;
    let node = Mock::leader().await;
    let client = client_of(&[&node]);
    for key in 0..KEYS {
        // 6 MiB in all: several times what is on its way to a client that reads nothing.
        let value = vec![b'v'; 96 << 10];
        client.set(format!("{key:02}"), value).await.unwrap();
    }
    let mut scans = Vec::new();
    for _ in 0..SCANS {
        let mut entries = client.scan("").stream();
        entries.next().in_time("an entry").await.unwrap().unwrap();
        scans.push(entries);
    }
    // Calls go on until nothing more is sent to the scans, and after that.
    let (mut sent, mut unchanged) = (0, 0);
    while unchanged < 100 {
        client.set("k", "v").in_time("a write").await.unwrap();
        let before = std::mem::replace(&mut sent, node.parts_sent());
        unchanged = if sent == before { unchanged + 1 } else { 0 };
    }
    assert!(sent < SCANS * KEYS / PART_KEYS / 2, "{sent}");
    let [writes, of_scans] = node.peers();
    assert_eq!((writes.len(), of_scans.len()), (1, 1));
    assert_ne!(writes, of_scans);
    // Nothing is lost of what was read slowly.
    for mut scan in scans.drain(..2) {
        assert_eq!(read(&mut scan).await.0.len(), KEYS - 1);
    }
}

/// A real cluster with more in it than a connection holds, its client, and the number of keys.
async fn real() -> (Cluster, Client, usize) {
    const KEYS: u8 = 96;
    let cluster = Cluster::started(3).await;
    let endpoints = (0..3).map(|index| cluster.client_addr(index));
    let builder = Client::builder().endpoints(endpoints);
    let client = builder.timeout(Duration::from_secs(60)).build().unwrap();
    for key in 0..KEYS {
        let key = format!("{key:03}");
        client.set(key, vec![b'v'; 64 << 10]).await.unwrap();
    }
    (cluster, client, KEYS.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_leader_cuts_a_scan_off_or_makes_it_resume() {
    let (mut cluster, client, count) = real().await;
    let mut strict = client.scan("").stream();
    let mut lenient = client.scan("").stream().resuming();
    for entries in [&mut strict, &mut lenient] {
        entries.next().in_time("an entry").await.unwrap().unwrap();
    }
    let leader = cluster.leader().await;
    cluster.take(leader).kill();
    let (rest, error) = read(&mut strict).await;
    assert!(
        matches!(error, Some(Error::Interrupted { .. })),
        "{error:?}"
    );
    assert!(rest.len() < count - 1 && strict.is_consistent());

    let (rest, error) = read(&mut lenient).await;
    assert!(error.is_none(), "{error:?}");
    assert!(keys(&rest).is_sorted());
    let different: BTreeSet<_> = keys(&rest).into_iter().collect();
    assert_eq!((different.len(), rest.len()), (count - 1, count - 1));
    assert!(!lenient.is_consistent());
    assert_eq!(
        client.count("").await.unwrap(),
        u64::try_from(count).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_a_real_cluster_shows_one_moment_while_writes_go_on() {
    let (_cluster, client, count) = real().await;
    let mut entries = client.scan("").stream();
    let first = entries.next().in_time("an entry").await.unwrap().unwrap();
    assert_eq!(first.key, "000");
    client.set("zzz", "later").await.unwrap();
    client.delete("050").await.unwrap();
    let (rest, error) = read(&mut entries).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(rest.len(), count - 1);
    let revision = entries.revision().unwrap();
    assert!(rest.iter().all(|it| it.revision <= revision));
    assert_eq!(
        client.scan("zzz").collect().await.unwrap()[0].value,
        "later"
    );
    assert_eq!(
        client.count("").await.unwrap(),
        u64::try_from(count).unwrap()
    );
    let error = client.scan("k".repeat(1 << 20)).collect().await;
    let error = error.unwrap_err();
    assert!(
        matches!(error.reason(), Some(Reason::TooLarge(_))),
        "{error}"
    );
}
