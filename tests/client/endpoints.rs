//! How the client finds and follows the leader, and the endpoints that it does not wait for.

use std::time::{Duration, Instant};

use seshat::client::{Applied, Client, Error};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{Applied as ProtoApplied, Overloaded};
use tonic::Code;

use super::mock::{Fate, Mock, black_hole, dead, refusal};

/// The deadline of a call, and the part of it after which no test expects an answer any more: a silent
/// endpoint costs a fraction of it.
const TIMEOUT: Duration = Duration::from_secs(30);
const FRACTION: Duration = Duration::from_secs(10);

fn client<const N: usize>(endpoints: [&str; N]) -> Client {
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(TIMEOUT).build().unwrap()
}

#[tokio::test]
async fn the_leader_is_found_through_a_follower_and_remembered() {
    let leader = Mock::leader().await;
    let follower = Mock::follower(Some(&leader.address)).await;
    let client = client([&follower.address]);
    client.set("k", "v").await.unwrap();
    let (asked, clone) = (follower.reads(), client.clone());
    for _ in 0..10 {
        let value = clone.get("k").await.unwrap();
        assert_eq!(value.as_deref(), Some(&b"v"[..]));
    }
    assert_eq!(
        follower.reads(),
        asked,
        "a clone knows what the client knows"
    );
}

#[tokio::test]
async fn endpoints_that_are_dead_or_say_nothing_cost_a_fraction_of_the_deadline() {
    let leader = Mock::leader().await;
    let ((_hole, hole), (_socket, dead)) = (black_hole(), dead());
    // Whatever the order in which they are asked.
    for _ in 0..10 {
        let client = client([&hole, &dead, &leader.address]);
        let began = Instant::now();
        client.set("k", "v").await.unwrap();
        client.get("k").await.unwrap();
        assert!(began.elapsed() < FRACTION, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_left_for_the_next_one() {
    let (one, two) = (Mock::leader().await, Mock::follower(None).await);
    let client = client([&one.address, &two.address]);
    let session = client.session().await.unwrap();
    session.set("k", "1").await.unwrap();
    one.falls_silent();
    two.leads();
    let began = Instant::now();
    // Both at once: a read, of a key that no client binds, and a write that may be sent again.
    let (read, written) = tokio::join!(client.get("missing"), session.set("k", "2"));
    assert_eq!(read.unwrap(), None);
    written.unwrap();
    assert!(began.elapsed() < FRACTION, "{:?}", began.elapsed());
    // The number was one and the same, and is the second.
    assert_eq!(two.numbers(), [(2, 2)]);
}

#[tokio::test]
async fn a_write_that_may_not_be_sent_twice_is_not_sent_to_a_leader_that_is_gone() {
    let (one, two) = (Mock::leader().await, Mock::follower(None).await);
    let builder = Client::builder().endpoints([&one.address, &two.address]);
    // All earlier information is too old.
    let builder = builder.timeout(TIMEOUT).trust(Duration::ZERO);
    let client = builder.build().unwrap();
    client.set("k", "1").await.unwrap();
    one.falls_silent();
    two.leads();
    let began = Instant::now();
    client.set("k", "2").await.unwrap();
    assert!(began.elapsed() < FRACTION, "{:?}", began.elapsed());
    assert_eq!((one.writes().len(), two.writes().len()), (1, 1));
}

#[tokio::test]
async fn a_leader_that_steps_down_is_left_without_a_search_for_each_call() {
    let (one, two) = (Mock::leader().await, Mock::follower(None).await);
    let client = client([&one.address, &two.address]);
    client.set("k", "v").await.unwrap();
    one.follows(Some(&two.address));
    two.leads();
    let asked = two.reads();
    let calls = (0..200).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { client.set(format!("k{number}"), "v").await })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(two.applied(), 200);
    let searches = two.reads() - asked;
    assert!(searches <= 3, "{searches} searches for one new leader");
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_waited_for() {
    let node = Mock::follower(None).await;
    let client = client([&node.address]);
    let waiting = tokio::spawn(async move { client.set("k", "v").await });
    while node.reads() < 4 {
        tokio::task::yield_now().await;
    }
    node.leads();
    assert_eq!(waiting.await.unwrap().unwrap().applied_index, 1);
}

#[tokio::test]
async fn a_write_that_was_not_applied_is_made_again_without_a_session() {
    let node = Mock::leader().await;
    let overloaded = Reason::Overloaded(Overloaded::default());
    let code = Code::ResourceExhausted;
    let overloaded = refusal(code, "busy", ProtoApplied::No, overloaded);
    node.next_write(Fate::Refused(overloaded.clone()));
    node.next_write(Fate::Refused(overloaded));
    client([&node.address]).set("k", "v").await.unwrap();
    assert_eq!(node.writes(), [None, None, None]);
}

#[tokio::test]
async fn the_deadline_ends_everything() {
    let ((_hole, hole), (_socket, dead)) = (black_hole(), dead());
    let timeout = Duration::from_millis(600);
    let builder = Client::builder().endpoints([&hole, &dead]);
    let client = builder.timeout(timeout).build().unwrap();
    let began = Instant::now();
    // At once: they wait for one search, and for no longer than each has time.
    let short = client.with_timeout(timeout / 4);
    let (set, get, session) = tokio::join!(
        client.set("k", "v"),
        async {
            let read = short.get("k").await;
            assert!(began.elapsed() < timeout, "{:?}", began.elapsed());
            read
        },
        client.session()
    );
    assert!(began.elapsed() >= timeout, "{:?}", began.elapsed());
    assert!(began.elapsed() < FRACTION, "{:?}", began.elapsed());
    for error in [set.unwrap_err(), get.unwrap_err(), session.unwrap_err()] {
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert_eq!(
            (error.applied(), error.kind()),
            (Applied::No, "unreachable")
        );
    }
}

#[tokio::test]
async fn calls_may_share_one_deadline() {
    let node = Mock::leader().await;
    let whole = Duration::from_millis(500);
    let began = Instant::now();
    let client = client([&node.address]).within(whole);
    // Each of them takes much less.
    let error = loop {
        if let Err(error) = client.get("k").await {
            break error;
        }
        assert!(began.elapsed() < TIMEOUT);
    };
    // A call that could not be finished in time may end a little before.
    assert!(began.elapsed() >= whole / 2, "{:?}", began.elapsed());
    assert_eq!(error.applied(), Applied::No, "{error:?}");
}

#[tokio::test]
async fn nodes_are_told_how_long_the_call_may_take() {
    let node = Mock::leader().await;
    let client = client([&node.address]);
    client.set("k", "v").await.unwrap();
    let session = client.session().await.unwrap();
    session.set("k", "v").await.unwrap();
    let [whole, share] = node.timeouts()[..] else {
        panic!("two writes");
    };
    assert!(whole <= TIMEOUT && whole > FRACTION, "{whole:?}");
    // Something is left for another node.
    assert!(share <= TIMEOUT / 3, "{share:?}");
}

#[test]
fn endpoints_are_checked_before_anything_is_sent() {
    for endpoints in [vec![], vec!["kvstore-1"], vec!["https://kvstore-1:6379"]] {
        let error = Client::connect(endpoints).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
}
