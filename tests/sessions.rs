//! Lifetimes for clients: keys with a TTL, and sessions that live.
//!
//! Every answer takes the path of a real node, except that there are no sockets and that the test controls
//! the clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::time::Duration;

use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{
    Applied, CloseSessionRequest, GetRequest, KeepAliveRequest, KeepAliveResponse,
    ListSessionsRequest, OpenSessionRequest, OpenSessionResponse, Operation, SetOperation,
    TxnRequest, TxnResponse, operation, set_operation,
};
use seshat_test_support::fabric::{Fabric, MAX_REQUESTS, Node, leader_first};
use seshat_test_support::{Refused, refused};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

/// The session of the tests.
const SESSION: u64 = 7;
/// The shortest TTL of a session.
const TTL: Duration = Duration::from_secs(2);
/// By how much something may end too late: the margin, a step of the clock, and a tick.
const LATE: Duration = Duration::from_millis(500 + 250 + 100);

fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap()
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, Refused) {
    let status = answer.expect_err("a refusal");
    (status.code(), refused(&status))
}

async fn open(node: &mut Node, ttl: Duration) -> Result<OpenSessionResponse, Status> {
    let request = OpenSessionRequest {
        client_id: SESSION,
        ttl: Some(duration(ttl)),
        ..OpenSessionRequest::default()
    };
    Ok(node.kv.open_session(request).await?.into_inner())
}

async fn renew(node: &mut Node, client_id: u64) -> Result<KeepAliveResponse, Status> {
    let request = KeepAliveRequest {
        client_id,
        ..KeepAliveRequest::default()
    };
    Ok(node.kv.keep_alive(request).await?.into_inner())
}

async fn set(node: &mut Node, lifetime: set_operation::Lifetime) -> Result<TxnResponse, Status> {
    let set = SetOperation {
        key: "k".into(),
        value: "v".into(),
        lifetime: Some(lifetime),
    };
    let request = TxnRequest {
        success: vec![Operation {
            operation: Some(operation::Operation::Set(set)),
        }],
        ..TxnRequest::default()
    };
    Ok(node.kv.txn(request).await?.into_inner())
}

async fn has(node: &mut Node) -> bool {
    let request = GetRequest {
        key: "k".into(),
        ..GetRequest::default()
    };
    let answer = node.kv.get(request).await.unwrap();
    answer.into_inner().value.is_some()
}

/// For how long the key is bound, from `began` on.
async fn ends_after(node: &mut Node, began: Instant) -> Duration {
    while has(node).await {
        sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

fn assert_on_time(took: Duration) {
    assert!(took >= TTL, "too early: {took:?}");
    assert!(took <= TTL + LATE, "too late: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_ends_with_its_ttl() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    // The cluster was idle for long.
    sleep(Duration::from_secs(60)).await;
    let began = Instant::now();
    let ttl = set_operation::Lifetime::Ttl(duration(TTL));
    set(&mut leader, ttl).await.unwrap();
    assert_on_time(ends_after(&mut leader, began).await);
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_with_its_key_as_long_as_it_is_renewed() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    let opened = open(&mut leader, TTL).await.unwrap();
    assert_eq!(opened.ttl, Some(duration(TTL)));
    let owner = set_operation::Lifetime::Owner(SESSION);
    set(&mut leader, owner).await.unwrap();
    let mut last = Instant::now();
    for _ in 0..10 {
        sleep(TTL / 2).await;
        last = Instant::now();
        let renewed = renew(&mut leader, SESSION).await.unwrap();
        assert_eq!(renewed.ttl, Some(duration(TTL)));
        assert!(renewed.revision > opened.applied_index);
    }
    let listed = leader.kv.list_sessions(ListSessionsRequest::default());
    let listed = listed.await.unwrap().into_inner();
    let shown = |it: &seshat::proto::kv::SessionInfo| (it.client_id, it.ttl, it.owned_keys);
    let shown: Vec<_> = listed.sessions.iter().map(shown).collect();
    assert_eq!(shown, [(SESSION, Some(duration(TTL)), 1)]);

    assert_on_time(ends_after(&mut leader, last).await);
    let (code, (applied, reason)) = refusal(renew(&mut leader, SESSION).await);
    assert_eq!(
        (code, applied),
        (Code::FailedPrecondition, Applied::No),
        "{reason:?}"
    );
    assert!(matches!(reason, Some(Reason::SessionExpired(it)) if it.client_id == SESSION));
    let (_, (_, reason)) = refusal(set(&mut leader, owner).await);
    assert!(matches!(reason, Some(Reason::SessionExpired(it)) if it.client_id == SESSION));
}

#[tokio::test(start_paused = true)]
async fn closing_a_session_removes_its_key_at_once() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    open(&mut leader, TTL).await.unwrap();
    let owner = set_operation::Lifetime::Owner(SESSION);
    set(&mut leader, owner).await.unwrap();
    for existed in [true, false] {
        let request = CloseSessionRequest {
            client_id: SESSION,
            ..CloseSessionRequest::default()
        };
        let closed = leader.kv.close_session(request).await.unwrap();
        assert_eq!(closed.into_inner().existed, existed);
        assert!(!has(&mut leader).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_node_renews() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    open(&mut leader, TTL).await.unwrap();
    let inside: Vec<_> = (0..MAX_REQUESTS)
        .map(|_| leader.admission.for_another_connection().enter(1).unwrap())
        .collect();
    let (code, _) = refusal(open(&mut leader, TTL).await);
    assert_eq!(code, Code::ResourceExhausted);
    renew(&mut leader, SESSION).await.unwrap();
    drop(inside);
}

#[tokio::test(start_paused = true)]
async fn a_follower_names_the_leader() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    open(&mut leader, TTL).await.unwrap();
    let (_, (applied, reason)) = refusal(renew(&mut followers[0], SESSION).await);
    assert_eq!(applied, Applied::No);
    let leader_id = Some(u32::from(leader.id.get()));
    assert!(matches!(reason, Some(Reason::NotLeader(it)) if it.leader_id == leader_id));
}

/// The field that the refusal of a request names.
fn field<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    match refusal(answer) {
        (Code::InvalidArgument, (Applied::No, Some(Reason::InvalidRequest(it)))) => it.field,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn requests_out_of_bounds_are_refused() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    let short = Duration::from_millis(1_999);
    assert_eq!(field(open(&mut leader, short).await), "ttl");
    assert_eq!(field(renew(&mut leader, 0).await), "client_id");
    let close = CloseSessionRequest::default();
    assert_eq!(
        field(leader.kv.close_session(close).await),
        "client_id",
        "0 is none"
    );
    let many = ListSessionsRequest {
        limit: 1001,
        ..ListSessionsRequest::default()
    };
    assert_eq!(field(leader.kv.list_sessions(many).await), "limit");
    for lifetime in [
        set_operation::Lifetime::Ttl(duration(Duration::from_millis(999))),
        set_operation::Lifetime::Owner(0),
    ] {
        let answer = set(&mut leader, lifetime).await;
        let (code, (applied, _)) = refusal(answer);
        assert_eq!((code, applied), (Code::InvalidArgument, Applied::No));
    }
}
