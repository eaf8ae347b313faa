//! The conclusions of a client: without a session, in one, and when a call is dropped in the middle.

use std::time::Duration;

use seshat::client::{Applied, Client, Error, Reason};
use seshat::proto::kv::{Applied as ProtoApplied, Full};
use tonic::{Code, Status};

use super::mock::{Fate, Mock, refusal, session_expired};
use seshat_test_support::eventually;

fn client(node: &Mock) -> Client {
    let builder = Client::builder().endpoints([&node.address]);
    builder.timeout(Duration::from_secs(30)).build().unwrap()
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_write_is_not_sent_again() {
    let node = Mock::leader().await;
    node.next_write(Fate::AppliedAndLost);
    let error = client(&node).set("k", "v").await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    assert_eq!(node.writes(), [None]);

    node.next_write(Fate::AppliedInSilence);
    let hasty = client(&node).with_timeout(Duration::from_millis(300));
    let error = hasty.delete("k").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    assert_eq!(node.writes(), [None, None]);
}

#[tokio::test]
async fn an_invalid_trace_context_is_not_sent() {
    let node = Mock::leader().await;
    let client = client(&node);
    let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for traceparent in [valid, &"0".repeat(100), &"0".repeat(100_000), "\n", "é"] {
        client.traced(traceparent).set("k", "v").await.unwrap();
    }
    assert_eq!(node.traceparents(), [valid]);
}

#[tokio::test]
async fn in_a_session_a_lost_answer_is_asked_for_again() {
    let node = Mock::leader().await;
    let session = client(&node).session().await.unwrap();
    session.set("k", "v").await.unwrap();
    for fate in [Fate::AppliedAndLost, Fate::AppliedAndLost, Fate::Silence] {
        node.next_write(fate);
    }
    let deleted = session.delete("k").await.unwrap();
    // Applied by the first attempt: the second would have found nothing.
    assert!(deleted.existed);
    assert_eq!(node.applied(), 2);
    assert_eq!(node.numbers(), [(1, 1), (2, 2), (2, 2), (2, 2), (2, 2)]);
}

#[tokio::test]
async fn a_write_refused_by_a_full_node_ends_at_once_and_was_surely_not_applied() {
    let node = Mock::leader().await;
    let full = Full {
        what: "max_state_bytes".to_owned(),
        limit: 1000,
        node_id: Some(3),
    };
    let code = Code::ResourceExhausted;
    let words = "full: it would take more memory than max_state_bytes of node 3";
    let refused = refusal(code, words, ProtoApplied::No, Reason::Full(full.clone()));
    node.next_write(Fate::Refused(refused));
    let error = client(&node).set("k", "v").await.unwrap_err();
    assert_eq!(error.reason(), Some(&Reason::Full(full)));
    assert_eq!((error.kind(), error.applied()), ("full", Applied::No));
    assert!(error.to_string().ends_with(words), "{error}");
    assert_eq!(node.writes(), [None], "no node is asked again in vain");
    client(&node).delete("k").await.unwrap();
}

#[tokio::test]
async fn a_session_that_expired_says_what_is_known_of_this_very_write() {
    let node = Mock::leader().await;
    let session = client(&node).session().await.unwrap();
    node.next_write(Fate::Refused(session_expired()));
    let error = session.set("k", "v").await.unwrap_err();
    assert!(error.is_session_expired(), "{error:?}");
    assert_eq!((error.applied(), node.writes().len()), (Applied::No, 1));

    node.next_write(Fate::AppliedAndLost);
    node.next_write(Fate::Refused(session_expired()));
    let error = session.set("k", "v").await.unwrap_err();
    assert!(error.is_session_expired(), "{error:?}");
    assert_eq!(
        (error.applied(), node.writes().len()),
        (Applied::Unknown, 3)
    );
}

#[tokio::test]
async fn a_doubt_survives_later_refusals() {
    let node = Mock::leader().await;
    let session = client(&node).with_timeout(Duration::from_secs(2));
    let session = session.session().await.unwrap();
    node.next_write(Fate::AppliedAndLost);
    let set = tokio::spawn(async move { session.set("k", "v").await });
    eventually("the write", async || (node.applied() == 1).then_some(())).await;
    node.follows(None);
    let error = set.await.unwrap().unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
}

#[tokio::test]
async fn numbers_of_several_writes_in_flight_are_kept_apart() {
    let node = Mock::leader().await;
    let session = client(&node).session().await.unwrap();
    // The first hangs until its share of the deadline is over.
    node.next_write(Fate::Silence);
    let slow = tokio::spawn({
        let session = session.clone();
        async move { session.set("slow", "v").await }
    });
    eventually("a write", async || (node.writes().len() == 1).then_some(())).await;
    for _ in 0..3 {
        session.set("quick", "v").await.unwrap();
    }
    slow.await.unwrap().unwrap();
    session.set("quick", "v").await.unwrap();
    assert_eq!(
        node.numbers(),
        [(1, 1), (2, 1), (3, 1), (4, 1), (1, 1), (5, 5)]
    );
}

#[tokio::test]
async fn a_dropped_write_leaves_its_number_behind_and_the_session_whole() {
    let node = Mock::leader().await;
    let session = client(&node).session().await.unwrap();
    node.next_write(Fate::AppliedInSilence);
    let dropped = tokio::spawn({
        let session = session.clone();
        async move { session.delete("k").await }
    });
    eventually("a write", async || (node.applied() == 1).then_some(())).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    session.set("k", "v").await.unwrap();
    assert!(session.delete("k").await.unwrap().existed);
    assert_eq!(node.numbers(), [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test]
async fn a_read_is_never_in_doubt() {
    let node = Mock::leader().await;
    let client = client(&node).with_timeout(Duration::from_millis(500));
    client.get("k").await.unwrap();
    node.falls_silent();
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error:?}");
    let status = Status::unknown("what is this");
    let node = Mock::leader().await;
    node.next_write(Fate::Refused(status));
    let error = self::client(&node).set("k", "v").await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
}
