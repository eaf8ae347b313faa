//! Reads of ranges: in order, at one moment, part by part, and at the cost of no other caller.
//!
//! As in `tests/service.rs`, there are no sockets, and the test controls the clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::time::Duration;

use bytes::Bytes;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{
    Applied, Entry, Interval, InvalidRequest, KeyRange, NotLeader, Overloaded, ScanRequest,
    ScanResponse, SetRequest, TooLarge, key_range::Range,
};
use seshat_test_support::fabric::{Fabric, MAX_KEY, MAX_VALUE, Node, leader_first};
use seshat_test_support::{InTime as _, Refused, refused};
use tonic::{Code, Status, Streaming};

/// Bytes of a value of which few fill a part.
const LARGE: usize = MAX_VALUE;

fn prefix(prefix: &str) -> ScanRequest {
    range(Range::Prefix(prefix.to_owned().into()))
}

fn range(range: Range) -> ScanRequest {
    ScanRequest {
        range: Some(KeyRange { range: Some(range) }),
        ..ScanRequest::default()
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

/// Binds `count` keys `k000`, `k001`, …, each to `bytes` bytes.
async fn fill(node: &mut Node, count: usize, bytes: usize) {
    for number in 0..count {
        set(node, format!("k{number:03}"), vec![b'v'; bytes]).await;
    }
}

async fn open(node: &mut Node, request: ScanRequest) -> Streaming<ScanResponse> {
    node.kv.scan(request).await.unwrap().into_inner()
}

/// All parts of an answer.
async fn parts(mut stream: Streaming<ScanResponse>) -> Result<Vec<ScanResponse>, Status> {
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push(part);
    }
    Ok(parts)
}

async fn scan(node: &mut Node, request: ScanRequest) -> Vec<ScanResponse> {
    let stream = open(node, request).await;
    parts(stream).in_time("a scan").await.unwrap()
}

fn entries(parts: &[ScanResponse]) -> Vec<&Entry> {
    parts.iter().flat_map(|part| &part.entries).collect()
}

fn keys(parts: &[ScanResponse]) -> Vec<String> {
    let keys = entries(parts).into_iter();
    keys.map(|entry| String::from_utf8(entry.key.to_vec()).unwrap())
        .collect()
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, Refused) {
    let status = answer.expect_err("a refusal");
    (status.code(), refused(&status))
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_range_come_in_order_with_their_revisions() {
    let (_fabric, mut leader, _followers) = leader().await;
    let mut written = Vec::new();
    for (key, value) in [("b", "2"), ("a", "1"), ("ab", ""), ("c", "3")] {
        written.push(set(&mut leader, key, value).await);
    }
    let read = scan(&mut leader, prefix("")).await;
    let found = entries(&read).into_iter().map(|it| {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&it.key), text(&it.value), it.revision)
    });
    let expected = [("a", "1", 1), ("ab", "", 2), ("b", "2", 0), ("c", "3", 3)];
    let expected = expected.map(|(key, value, at)| (key.to_owned(), value.to_owned(), written[at]));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let last = read.last().unwrap();
    assert_eq!((last.count, last.more), (4, false));
    assert!(read.iter().all(|part| part.revision == written[3]));
    assert!(last.cluster_id.is_some());

    let named = ScanRequest {
        cluster_id: last.cluster_id,
        ..prefix("a")
    };
    let read = scan(&mut leader, named).await;
    assert_eq!(keys(&read), ["a", "ab"]);
    assert_eq!(read[0].cluster_id, None, "the request names it");
    let one = scan(&mut leader, range(Range::Key("ab".into()))).await;
    assert_eq!(keys(&one), ["ab"]);
    let interval = |start: &str, end: Option<&str>| {
        range(Range::Interval(Interval {
            start: start.to_owned().into(),
            end: end.map(|end| end.to_owned().into()),
        }))
    };
    let read = scan(&mut leader, interval("ab", Some("c"))).await;
    assert_eq!(keys(&read), ["ab", "b"]);
    assert_eq!(
        keys(&scan(&mut leader, interval("b", None)).await),
        ["b", "c"]
    );
    let nothing = scan(&mut leader, interval("b", Some("b"))).await;
    assert_eq!((nothing[0].count, nothing[0].more), (0, false));
}

#[tokio::test(start_paused = true)]
async fn keys_alone_a_number_alone_and_a_limit() {
    let (_fabric, mut leader, _followers) = leader().await;
    fill(&mut leader, 5, 3).await;
    let request = ScanRequest {
        keys_only: true,
        limit: 2,
        ..prefix("k")
    };
    let read = scan(&mut leader, request).await;
    assert_eq!(keys(&read), ["k000", "k001"]);
    assert!(
        entries(&read)
            .iter()
            .all(|it| it.value.is_empty() && it.revision > 0)
    );
    assert_eq!((read[0].count, read[0].more), (2, true));
    let request = ScanRequest {
        count_only: true,
        ..prefix("k")
    };
    let read = scan(&mut leader, request).await;
    assert_eq!((read[0].count, read[0].more), (5, false));
    assert!(entries(&read).is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_parts_show_one_moment() {
    let (_fabric, mut leader, _followers) = leader().await;
    fill(&mut leader, 40, LARGE).await;
    let mut stream = open(&mut leader, prefix("k")).await;
    let first = stream.message().await.unwrap().unwrap();
    assert!((first.count, first.more) == (0, true) && !first.entries.is_empty());
    fill(&mut leader, 40, 0).await;
    set(&mut leader, "k0000", "new").await;
    let rest = parts(stream).in_time("the other parts").await.unwrap();
    let read: Vec<_> = std::iter::once(first).chain(rest).collect();
    assert!(read.len() > 3, "{}", read.len());
    assert_eq!(entries(&read).len(), 40);
    assert!(
        entries(&read)
            .iter()
            .all(|entry| entry.value.len() == LARGE)
    );
    let revision = read[0].revision;
    assert!(read.iter().all(|part| part.revision == revision));
    assert!(
        entries(&read)
            .iter()
            .all(|entry| entry.revision <= revision)
    );
    let last = read.last().unwrap();
    assert_eq!((last.count, last.more), (40, false));
    let read = scan(&mut leader, prefix("k")).await;
    assert_eq!(read.last().unwrap().count, 41);
}

#[tokio::test(start_paused = true)]
async fn a_limit_in_a_later_part_ends_the_scan_there() {
    let (_fabric, mut leader, _followers) = leader().await;
    fill(&mut leader, 40, LARGE).await;
    let request = ScanRequest {
        limit: 30,
        ..prefix("k")
    };
    let read = scan(&mut leader, request).await;
    assert!(read.len() > 2);
    assert_eq!(entries(&read).len(), 30);
    let last = read.last().unwrap();
    assert_eq!((last.count, last.more), (30, true));
}

/// Four readers that read nothing have all copies of the state. A fifth one waits for one of them, and a
/// short scan for none.
#[tokio::test(start_paused = true)]
async fn few_scans_have_a_copy_of_the_state_and_the_others_wait() {
    let (_fabric, mut leader, _followers) = leader().await;
    fill(&mut leader, 60, LARGE).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(open(&mut leader, prefix("k")).await);
    }
    assert_eq!(scan(&mut leader, prefix("k000")).await[0].count, 1);
    set(&mut leader, "other", "write").await;
    let refusal = refusal(leader.kv.scan(prefix("k")).await);
    let full = Reason::Overloaded(Overloaded {
        what: "scans".to_owned(),
        limit: 4,
    });
    assert_eq!(
        refusal,
        (Code::ResourceExhausted, (Applied::No, Some(full)))
    );

    let mut kv = leader.kv.clone();
    let fifth = tokio::spawn(async move {
        let stream = kv.scan(prefix("k")).await.unwrap();
        parts(stream.into_inner())
            .await
            .unwrap()
            .last()
            .unwrap()
            .count
    });
    tokio::task::yield_now().await;
    // One of them goes.
    drop(slow.pop());
    assert_eq!(fifth.in_time("the fifth scan").await.unwrap(), 60);
}

/// Each takes the core a while, so few are there together: the others wait before it.
#[tokio::test(start_paused = true)]
async fn few_scans_are_in_the_core_and_the_others_wait() {
    let (fabric, mut leader, _followers) = leader().await;
    set(&mut leader, "k", "v").await;
    // No read is confirmed from now on.
    fabric.cut(leader.id);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut kv = leader.kv.clone();
        waiting.spawn(async move { kv.scan(prefix("k")).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut request = tonic::Request::new(prefix("k"));
    request.set_timeout(Duration::from_millis(300));
    let full = Reason::Overloaded(Overloaded {
        what: "scans".to_owned(),
        limit: 16,
    });
    let (code, detail) = refusal(leader.kv.scan(request).await);
    assert_eq!(
        (code, detail),
        (Code::ResourceExhausted, (Applied::No, Some(full)))
    );
    while let Some(ended) = waiting.join_next().in_time("a scan").await {
        assert!(ended.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_go_on_loses_its_copy_after_a_minute() {
    let (_fabric, mut leader, _followers) = leader().await;
    fill(&mut leader, 60, LARGE).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(open(&mut leader, prefix("k")).await);
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(
        scan(&mut leader, prefix("k")).await.last().unwrap().count,
        60
    );
    let late = Reason::Overloaded(Overloaded {
        what: "scan_seconds".to_owned(),
        limit: 60,
    });
    for stream in slow {
        let (code, detail) = refusal(parts(stream).await);
        assert_eq!(
            (code, detail),
            (Code::ResourceExhausted, (Applied::No, Some(late.clone())))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_has_to_be_one() {
    let (_fabric, mut leader, _followers) = leader().await;
    let field = |request| {
        let mut kv = leader.kv.clone();
        async move {
            match refusal(kv.scan(request).await) {
                (
                    Code::InvalidArgument,
                    (Applied::No, Some(Reason::InvalidRequest(InvalidRequest { field, .. }))),
                ) => field,
                (_, (_, Some(Reason::TooLarge(TooLarge { what, .. })))) => what,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(field(ScanRequest::default()).await, "range");
    let empty = ScanRequest {
        range: Some(KeyRange { range: None }),
        ..ScanRequest::default()
    };
    assert_eq!(field(empty).await, "range");
    assert_eq!(field(range(Range::Key(Bytes::new()))).await, "range");
    let long = "k".repeat(MAX_KEY + 2);
    assert_eq!(field(prefix(&long)).await, "key");
    assert_eq!(scan(&mut leader, prefix("nothing")).await[0].count, 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_serves() {
    let (_fabric, leader, mut followers) = leader().await;
    let (code, detail) = refusal(followers[0].kv.scan(prefix("")).await);
    assert_eq!(code, Code::FailedPrecondition);
    let (Applied::No, Some(Reason::NotLeader(NotLeader { leader_id, .. }))) = detail else {
        panic!("{detail:?}");
    };
    assert_eq!(
        leader_id,
        Some(leader.driver.status().raft_id.node_id().into())
    );
}
