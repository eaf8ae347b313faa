//! Elections: a leader, its observers, and what these are told while leaders of the cluster come and go. The clock is
//! paused, and the nodes are in memory.

use std::time::Duration;

use seshat::client::{Client, Error, Holder, Holders, Lost};
use seshat::proto::kv::{Applied as ProtoApplied, InvalidRequest, error_detail::Reason};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::mock::{LockFate, Mock, in_memory, refusal};
use seshat_test_support::InTime as _;

const SECOND: Duration = Duration::from_secs(1);

fn client<const N: usize>(nodes: [&Mock; N]) -> Client {
    let endpoints = nodes.map(|node| node.address.clone());
    let builder = Client::builder().endpoints(endpoints);
    builder.simulated(in_memory, 7).build().unwrap()
}

/// The token of the next holder. `None`: the lock is free.
async fn next(holders: &mut Holders) -> Option<u64> {
    let holder = holders.next().await.unwrap().unwrap();
    holder.map(|holder| holder.token)
}

/// Nothing is told for a while.
async fn is_silent(holders: &mut Holders) {
    let told = timeout(SECOND * 60, holders.next()).await;
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_the_holder_of_a_lock_with_its_value() {
    let node = Mock::in_memory("kv-1", true);
    let client = client([&node]);
    let session = client.session().ttl(SECOND * 10).await.unwrap();
    let first = session.elect("indexer", "a:80").await.unwrap();
    assert_eq!((first.name(), first.token()), ("indexer", 1));
    let second = tokio::spawn(client.elect("indexer", "b:80").ttl(SECOND * 20));
    node.until(|node| node.claims_to("indexer").len() == 2)
        .await;
    let shown = client.inspect_lock("indexer").await.unwrap();
    assert_eq!(shown.holder.unwrap().value, "a:80");
    client.set("k", "v").if_held(&first).await.unwrap();

    first.resign().await.unwrap();
    let second = second.in_time("a lock").await.unwrap().unwrap();
    assert_eq!((second.token(), second.session().ttl()), (2, SECOND * 20));
    node.ends_sessions();
    assert_eq!(second.lost().in_time("a loss").await, Lost::Ended);
}

#[tokio::test(start_paused = true)]
async fn observers_are_told_of_every_holder_once() {
    let node = Mock::in_memory("kv-1", true);
    let mut holders = client([&node]).observe("indexer");
    assert_eq!(next(&mut holders).await, None);
    is_silent(&mut holders).await;
    node.claims("indexer", 7);
    assert_eq!(next(&mut holders).await, Some(1));
    // Another one waits, and another lock is held.
    node.claims("indexer", 8);
    node.claims("other", 9);
    is_silent(&mut holders).await;
    node.ends_claims(7);
    let holder: Holder = holders.next().await.unwrap().unwrap().unwrap();
    assert_eq!((holder.client_id, holder.claim, holder.token), (8, 1, 3));
    assert_eq!(holder.value, "another");
    node.ends_claims(8);
    assert_eq!(next(&mut holders).await, None);
    assert_eq!(node.observers(), 1);
    drop(holders);
    node.until(|node| node.observers() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn observers_go_on_at_the_next_leader() {
    let nodes = [("kv-1", true), ("kv-2", false), ("kv-3", false)];
    let [one, two, three] = nodes.map(|(name, leads)| Mock::in_memory(name, leads));
    two.shares_locks_with(&one);
    three.shares_locks_with(&one);
    let mut holders = client([&one, &two, &three]).observe("indexer");
    one.claims("indexer", 7);
    assert_eq!(next(&mut holders).await, Some(1));

    // Nothing has changed, so nothing is told.
    two.leads();
    one.follows(Some(&two.address));
    is_silent(&mut holders).await;
    assert_eq!(one.observers(), 1);
    // It has, while there was no leader for longer than a call may take.
    two.follows(None);
    let told = timeout(SECOND * 20, holders.next()).await;
    assert!(told.is_err(), "{told:?}");
    one.claims("indexer", 8);
    one.ends_claims(7);
    three.leads();
    assert_eq!(next(&mut holders).await, Some(2));
    is_silent(&mut holders).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_again_and_again_is_opened_with_pauses() {
    let node = Mock::in_memory("kv-1", true);
    for _ in 0..200 {
        node.next_lock(LockFate::CutOff);
    }
    let mut holders = client([&node]).observe("indexer");
    assert_eq!(next(&mut holders).await, None);
    let begun = Instant::now();
    let before = node.observed();
    let claimed = async {
        sleep(SECOND * 10).await;
        node.claims("indexer", 7);
    };
    let (told, ()) = tokio::join!(next(&mut holders), claimed);
    assert_eq!(told, Some(1));
    assert!(begun.elapsed() >= SECOND * 10, "{:?}", begun.elapsed());
    let streams = node.observed() - before;
    assert!((10..=60).contains(&streams), "{streams}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_node_serves_ends_the_stream() {
    let node = Mock::in_memory("kv-1", true);
    let client = client([&node]);
    let reason = Reason::InvalidRequest(InvalidRequest::default());
    let refused = refusal(Code::InvalidArgument, "name", ProtoApplied::No, reason);
    node.next_lock(LockFate::Refused(refused));
    let mut holders = client.observe("");
    let error: Error = holders.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), "invalid_request");
    assert!(holders.next().await.is_none());

    // One without a deadline waits.
    node.follows(None);
    let mut holders = client.within(SECOND * 7).observe("indexer");
    let begun = Instant::now();
    let error = holders.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), "not_leader", "{error:?}");
    assert!(begun.elapsed() <= SECOND * 7);
    node.leads();
    let mut holders = client.within(SECOND * 7).observe("indexer");
    assert_eq!(next(&mut holders).await, None);
    let begun = Instant::now();
    let error = holders.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), ("timeout", 7));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_survives_a_caller_that_gives_up() {
    let node = Mock::in_memory("kv-1", true);
    let mut holders = client([&node]).observe("indexer");
    let given_up = timeout(Duration::ZERO, holders.next()).await;
    assert!(given_up.is_err(), "{given_up:?}");
    sleep(SECOND).await;
    assert_eq!(next(&mut holders).await, None);
}
