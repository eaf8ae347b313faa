//! Locks and elections: claims, their order, their end, and their tokens.
//!
//! As in `tests/service.rs`, there are no sockets, and the test controls the clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::time::Duration;

use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{
    Applied, CloseSessionRequest, Condition, HeldLock, InvalidRequest, KeepAliveRequest,
    OpenSessionRequest, Operation, Session, SetOperation, ShuttingDown, TxnRequest, condition,
    operation,
};
use seshat::proto::lock::{
    AcquireRequest, AcquireResponse, AwaitRequest, Gone, Held, Holder, InspectRequest,
    InspectResponse, ListLocksRequest, ObserveRequest, ObserveResponse, Occupied, ReleaseRequest,
    Waiting, acquire_response, await_response,
};
use seshat_test_support::fabric::{Fabric, Node, leader_first};
use seshat_test_support::{InTime as _, refused};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::{Code, Request, Status, Streaming};

const TTL: Duration = Duration::from_secs(4);

async fn leader() -> (Fabric, Node, Vec<Node>) {
    let (fabric, nodes) = Fabric::started(3).await;
    let (leader, followers) = leader_first(nodes);
    (fabric, leader, followers)
}

async fn open(node: &mut Node, client_id: u64) {
    let request = OpenSessionRequest {
        client_id,
        ttl: Some(TTL.try_into().unwrap()),
        ..OpenSessionRequest::default()
    };
    let opened = node.kv.open_session(request).await.unwrap().into_inner();
    assert_eq!(opened.ttl, Some(TTL.try_into().unwrap()));
}

fn session(client_id: u64, sequence: u64) -> Option<Session> {
    Some(Session {
        client_id,
        sequence,
        first_outstanding: 1,
    })
}

fn acquire(name: &str, client_id: u64, sequence: u64) -> AcquireRequest {
    AcquireRequest {
        name: name.to_owned(),
        session: session(client_id, sequence),
        value: format!("client {client_id}").into(),
        ..AcquireRequest::default()
    }
}

fn release(name: &str, client_id: u64, sequence: u64) -> ReleaseRequest {
    ReleaseRequest {
        name: name.to_owned(),
        session: session(client_id, sequence),
        ..ReleaseRequest::default()
    }
}

fn holder(client_id: u64, claim: u64, token: u64) -> Holder {
    Holder {
        client_id,
        claim,
        token,
        value: format!("client {client_id}").into(),
    }
}

async fn acquired(node: &mut Node, request: AcquireRequest) -> acquire_response::Result {
    let AcquireResponse { result, cluster_id } =
        node.lock.acquire(request).await.unwrap().into_inner();
    assert!(cluster_id.is_some(), "no cluster was named");
    result.expect("a state that is known")
}

/// Claims a free lock, and returns the token.
async fn held(node: &mut Node, request: AcquireRequest) -> u64 {
    match acquired(node, request).await {
        acquire_response::Result::Held(Held { token }) => token,
        other => panic!("{other:?}"),
    }
}

async fn waits(node: &mut Node, request: AcquireRequest, ahead: u64) {
    let expected = acquire_response::Result::Waiting(Waiting { ahead });
    assert_eq!(acquired(node, request).await, expected);
}

/// Waits for the end of the waiting of a claim, in a task of its own.
fn awaits(
    node: &Node,
    name: &str,
    client_id: u64,
    claim: u64,
) -> JoinHandle<Result<await_response::Result, Status>> {
    let mut lock = node.lock.clone();
    let request = AwaitRequest {
        name: name.to_owned(),
        client_id,
        claim,
        ..AwaitRequest::default()
    };
    tokio::spawn(async move {
        loop {
            let state = lock.r#await(request.clone()).await?.into_inner();
            match state.result.expect("a state that is known") {
                // As long as the node lets a request wait.
                await_response::Result::Waiting(_) => {}
                other => return Ok(other),
            }
        }
    })
}

async fn inspected(node: &mut Node, name: &str) -> (Option<Holder>, u64) {
    let request = InspectRequest {
        name: name.to_owned(),
        ..InspectRequest::default()
    };
    let InspectResponse {
        holder,
        waiting,
        revision,
        ..
    } = node.lock.inspect(request).await.unwrap().into_inner();
    assert!(revision > 0);
    (holder, waiting)
}

async fn observe(node: &mut Node, name: &str) -> Streaming<ObserveResponse> {
    let request = ObserveRequest {
        name: name.to_owned(),
        ..ObserveRequest::default()
    };
    node.lock.observe(request).await.unwrap().into_inner()
}

async fn seen(observed: &mut Streaming<ObserveResponse>) -> Option<Holder> {
    let message = observed.message().in_time("a holder").await.unwrap();
    message.expect("it goes on").holder
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, Reason) {
    let status = answer.expect_err("a refusal");
    let (applied, reason) = refused(&status);
    assert_eq!(applied, Applied::No);
    (status.code(), reason.expect("a reason"))
}

async fn keep_alive(node: &mut Node, client_id: u64) {
    let request = KeepAliveRequest {
        client_id,
        ..KeepAliveRequest::default()
    };
    node.kv.keep_alive(request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn claims_hold_the_lock_in_the_order_in_which_they_came() {
    let (_fabric, mut leader, _followers) = leader().await;
    for client in 1..=3 {
        open(&mut leader, client).await;
    }
    let first = held(&mut leader, acquire("a", 1, 1)).await;
    waits(&mut leader, acquire("a", 2, 1), 1).await;
    waits(&mut leader, acquire("a", 3, 1), 2).await;
    assert_eq!(held(&mut leader, acquire("a", 1, 1)).await, first, "again");
    assert_eq!(
        inspected(&mut leader, "a").await,
        (Some(holder(1, 1, first)), 2)
    );
    let (second, third) = (awaits(&leader, "a", 2, 1), awaits(&leader, "a", 3, 1));
    leader.lock.release(release("a", 1, 1)).await.unwrap();
    let second = second.in_time("the second claim").await.unwrap().unwrap();
    let await_response::Result::Held(Held { token }) = second else {
        panic!("{second:?}");
    };
    assert!(token > first);
    assert!(!third.is_finished());
    leader.lock.release(release("a", 2, 1)).await.unwrap();
    let third = third.in_time("the third claim").await.unwrap().unwrap();
    assert!(matches!(third, await_response::Result::Held(Held { token: last }) if last > token));
}

#[tokio::test(start_paused = true)]
async fn a_lock_goes_on_when_its_holder_is_gone_and_not_before() {
    let (_fabric, mut leader, _followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    let first = held(&mut leader, acquire("a", 1, 1)).await;
    waits(&mut leader, acquire("a", 2, 1), 1).await;
    let next = awaits(&leader, "a", 2, 1);
    // Both are renewed for twice the TTL, then only the one that waits.
    for second in 1..=8 {
        sleep(Duration::from_secs(1)).await;
        assert!(!next.is_finished(), "after {second} s");
        keep_alive(&mut leader, 1).await;
        keep_alive(&mut leader, 2).await;
    }
    while !next.is_finished() {
        sleep(Duration::from_secs(1)).await;
        keep_alive(&mut leader, 2).await;
    }
    let next = next.await.unwrap().unwrap();
    assert!(matches!(next, await_response::Result::Held(Held { token }) if token > first));
    let late = leader.lock.release(release("a", 1, 1)).await;
    let (code, reason) = refusal(late);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(matches!(reason, Reason::SessionExpired(it) if it.client_id == 1));
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_no_longer_than_it_wants_to() {
    let (_fabric, mut leader, _followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    let token = held(&mut leader, acquire("a", 1, 1)).await;
    let now = AcquireRequest {
        max_wait: Some(Duration::ZERO.try_into().unwrap()),
        ..acquire("a", 2, 1)
    };
    let occupied = acquire_response::Result::Occupied(Occupied {
        holder: Some(holder(1, 1, token)),
    });
    assert_eq!(acquired(&mut leader, now.clone()).await, occupied);
    assert_eq!(acquired(&mut leader, now).await, occupied, "again");
    let soon = AcquireRequest {
        max_wait: Some(Duration::from_secs(1).try_into().unwrap()),
        ..acquire("a", 2, 2)
    };
    waits(&mut leader, soon.clone(), 1).await;
    let ended = awaits(&leader, "a", 2, 2).in_time("its end").await.unwrap();
    assert_eq!(ended.unwrap(), await_response::Result::Gone(Gone {}));
    let gone = acquire_response::Result::Gone(Gone {});
    assert_eq!(acquired(&mut leader, soon).await, gone);
}

#[tokio::test(start_paused = true)]
async fn an_await_that_ends_first_says_that_the_claim_still_waits() {
    let (_fabric, mut leader, _followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    held(&mut leader, acquire("a", 1, 1)).await;
    waits(&mut leader, acquire("a", 2, 1), 1).await;
    let mut request = Request::new(AwaitRequest {
        name: "a".to_owned(),
        client_id: 2,
        claim: 1,
        ..AwaitRequest::default()
    });
    request.set_timeout(Duration::from_secs(1));
    let state = leader.lock.r#await(request).await.unwrap().into_inner();
    let waiting = await_response::Result::Waiting(Waiting { ahead: 1 });
    assert_eq!(state.result, Some(waiting));
}

#[tokio::test(start_paused = true)]
async fn a_claim_survives_the_leader_and_its_await_is_sent_on() {
    let (_fabric, mut leader, mut followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    let first = held(&mut leader, acquire("a", 1, 1)).await;
    waits(&mut leader, acquire("a", 2, 1), 1).await;
    let (code, reason) = refusal(awaits(&followers[0], "a", 2, 1).await.unwrap());
    assert_eq!(code, Code::FailedPrecondition);
    assert!(matches!(reason, Reason::NotLeader(_)));
    leader.kill().await;
    let next = loop {
        let (one, rest) = followers.split_first_mut().unwrap();
        let ready = |node: &Node| node.status().role == Some(seshat::types::Role::Leader);
        if ready(one) {
            break one;
        }
        if ready(&rest[0]) {
            break &mut rest[0];
        }
        sleep(Duration::from_millis(50)).await;
    };
    let waiting = awaits(next, "a", 2, 1);
    assert_eq!(inspected(next, "a").await, (Some(holder(1, 1, first)), 1));
    next.lock.release(release("a", 1, 1)).await.unwrap();
    let held = waiting.in_time("the claim").await.unwrap().unwrap();
    assert!(matches!(held, await_response::Result::Held(Held { token }) if token > first));
}

#[tokio::test(start_paused = true)]
async fn observers_see_every_holder_that_stays() {
    let (_fabric, mut leader, mut followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    let mut observed = observe(&mut leader, "a").await;
    assert_eq!(seen(&mut observed).await, None);
    let first = held(&mut leader, acquire("a", 1, 1)).await;
    assert_eq!(seen(&mut observed).await, Some(holder(1, 1, first)));
    waits(&mut leader, acquire("a", 2, 1), 1).await;
    let close = CloseSessionRequest {
        client_id: 1,
        ..CloseSessionRequest::default()
    };
    leader.kv.close_session(close).await.unwrap();
    let next = seen(&mut observed).await.unwrap();
    assert_eq!((next.client_id, next.token > first), (2, true));
    leader.lock.release(release("a", 2, 1)).await.unwrap();
    assert_eq!(seen(&mut observed).await, None);
    let mut elsewhere = observe(&mut followers[0], "a").await;
    let refused = elsewhere.message().in_time("a refusal").await;
    assert!(matches!(refusal(refused).1, Reason::NotLeader(_)));
    leader.admission.close();
    let ended = observed.message().in_time("the end").await;
    let shutting_down = Reason::ShuttingDown(ShuttingDown {});
    assert_eq!(refusal(ended).1, shutting_down);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_names_an_older_token_is_not_carried_out() {
    let (_fabric, mut leader, _followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    let first = held(&mut leader, acquire("a", 1, 1)).await;
    let guarded = |token| TxnRequest {
        conditions: vec![Condition {
            condition: Some(condition::Condition::Lock(HeldLock {
                name: "a".to_owned(),
                token,
            })),
        }],
        success: vec![Operation {
            operation: Some(operation::Operation::Set(SetOperation {
                key: "k".into(),
                value: "v".into(),
                ..SetOperation::default()
            })),
        }],
        ..TxnRequest::default()
    };
    let mut kv = leader.kv.clone();
    let mut write = async |token| kv.txn(guarded(token)).await.unwrap().into_inner().succeeded;
    assert!(write(first).await);
    waits(&mut leader, acquire("a", 2, 1), 1).await;
    leader.lock.release(release("a", 1, 1)).await.unwrap();
    assert!(!write(first).await, "another claim holds the lock");
    let (next, _) = inspected(&mut leader, "a").await;
    assert!(write(next.unwrap().token).await);
    leader.lock.release(release("a", 2, 1)).await.unwrap();
    assert!(!write(first).await, "none holds the lock");
}

#[tokio::test(start_paused = true)]
async fn locks_are_listed_page_by_page() {
    let (_fabric, mut leader, _followers) = leader().await;
    open(&mut leader, 1).await;
    open(&mut leader, 2).await;
    for (sequence, name) in [(1, "b"), (2, "a"), (3, "c")] {
        held(&mut leader, acquire(name, 1, sequence)).await;
    }
    waits(&mut leader, acquire("b", 2, 1), 1).await;
    let list = |after: &str, limit| ListLocksRequest {
        after: after.to_owned(),
        limit,
        ..ListLocksRequest::default()
    };
    let page = leader.lock.list_locks(list("", 2)).await.unwrap();
    let page = page.into_inner();
    let locks = page.locks.iter();
    let locks: Vec<_> = locks.map(|it| (it.name.as_str(), it.waiting)).collect();
    assert_eq!((locks, page.more), (vec![("a", 0), ("b", 1)], true));
    let page = leader.lock.list_locks(list("b", 0)).await.unwrap();
    let page = page.into_inner();
    let holder = page.locks[0].holder.as_ref().unwrap();
    assert_eq!((page.locks.len(), page.more), (1, false));
    assert_eq!((holder.client_id, holder.claim), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused() {
    let (_fabric, mut leader, _followers) = leader().await;
    open(&mut leader, 1).await;
    let plain = OpenSessionRequest {
        client_id: 2,
        ..OpenSessionRequest::default()
    };
    leader.kv.open_session(plain).await.unwrap();
    let cases = [
        (acquire("", 1, 1), "name"),
        (
            AcquireRequest {
                session: None,
                ..acquire("a", 1, 1)
            },
            "session",
        ),
        (acquire("a", 1, 0), "session"),
        (acquire("a", 2, 1), "session"),
        (
            AcquireRequest {
                max_wait: Some(prost_types::Duration {
                    seconds: -1,
                    nanos: 0,
                }),
                ..acquire("a", 1, 1)
            },
            "max_wait",
        ),
    ];
    for (request, field) in cases {
        let (code, reason) = refusal(leader.lock.acquire(request).await);
        assert_eq!(code, Code::InvalidArgument);
        let Reason::InvalidRequest(InvalidRequest { field: named, .. }) = &reason else {
            panic!("{reason:?}");
        };
        assert_eq!(named, field);
    }
    let unknown = refusal(leader.lock.acquire(acquire("a", 3, 1)).await);
    assert!(matches!(unknown.1, Reason::SessionExpired(it) if it.client_id == 3));
    assert_eq!(inspected(&mut leader, "a").await, (None, 0));
}
