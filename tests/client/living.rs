//! Living sessions: when they are renewed, when they are lost, and what is sent then. The clock is paused, and
//! the nodes are in memory, so nothing takes time but the pauses of the client.

use std::time::Duration;

use seshat::client::{
    Applied, Client, Error, LivingSession, Lost, Operation, PipelineOptions, Reason, TxnOperation,
};
use seshat::proto::kv::{Applied as ProtoApplied, FailedPrecondition, OtherCluster, SessionInfo};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::mock::{Mock, Renewal, in_memory, refusal};

const TTL: Duration = Duration::from_secs(10);

/// What a client believes: 90 % of the TTL.
const HOLDS: Duration = Duration::from_secs(9);

/// A client of `nodes`, which are in memory.
fn client<const N: usize>(nodes: [&Mock; N]) -> Client {
    let endpoints = nodes.map(|node| node.address.clone());
    let builder = Client::builder().endpoints(endpoints);
    builder.simulated(in_memory, 7).build().unwrap()
}

/// A node that leads, a client of it, and a living session.
async fn one() -> (Mock, Client, LivingSession) {
    let node = Mock::in_memory("kv-1", true);
    let client = client([&node]);
    let session = client.session().ttl(TTL).await.unwrap();
    (node, client, session)
}

/// The pauses between the renewals that have come.
fn pauses(node: &Mock) -> Vec<Duration> {
    let times: Vec<_> = node.renewed().into_iter().map(|(time, _)| time).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The last renewal that has come.
fn last(node: &Mock) -> Instant {
    node.renewed().last().unwrap().0
}

/// The refusal by a cluster that was recovered from the one of the session.
fn recovered() -> Status {
    let other = OtherCluster {
        cluster_id: 8,
        successor: true,
    };
    let (code, other) = (Code::FailedPrecondition, Reason::OtherCluster(other));
    refusal(code, "recovered", ProtoApplied::No, other)
}

fn why(error: &Error) -> Option<Lost> {
    match error {
        Error::SessionLost { why } => Some(*why),
        _ => None,
    }
}

/// No call of the session is sent any more.
async fn is_over(node: &Mock, session: &LivingSession, lost: Lost) {
    assert!(session.is_lost());
    assert_eq!(session.lost().await, lost);
    let (writes, txns, reads) = (node.writes().len(), node.txns().len(), node.reads());
    let renewals = node.renewed().len();
    let read = session.txn().then(TxnOperation::get("k"));
    let pipeline = session.pipeline(PipelineOptions::default()).await;
    for error in [
        session.set("k", "v").await.unwrap_err(),
        session.set("k", "v").owned_by(session).await.unwrap_err(),
        session.set("k", "v").if_absent().await.unwrap_err(),
        session.delete("k").await.unwrap_err(),
        session.get("k").await.unwrap_err(),
        session.get_with_index("k").await.unwrap_err(),
        read.await.unwrap_err(),
        pipeline.unwrap_err(),
        session.close().await.unwrap_err(),
    ] {
        assert_eq!(why(&error), Some(lost), "{error:?}");
        assert_eq!(error.applied(), Applied::No, "{error:?}");
        assert!(error.is_session_expired() && error.kind() == "session_lost");
        assert_eq!(error.to_string(), format!("the session is lost: {lost}"));
    }
    sleep(TTL * 2).await;
    let sent = (node.writes().len(), node.txns().len(), node.reads());
    assert_eq!(sent, (writes, txns, reads));
    assert_eq!(node.renewed().len(), renewals);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_every_third_of_its_ttl_as_long_as_it_is_used() {
    let (node, client, session) = one().await;
    let asked = node.sessions()[0];
    assert_eq!(asked.client_id, session.id());
    assert_eq!(
        asked.ttl.map(Duration::try_from),
        Some(Ok(session.ttl())),
        "{asked:?}"
    );
    sleep(TTL * 100).await;
    assert!(!session.is_lost());
    let pauses = pauses(&node);
    let third = TTL / 3;
    let close = |pause: &Duration| (third..third + Duration::from_millis(5)).contains(pause);
    assert!(pauses.iter().all(close), "{pauses:?}");
    assert!((295..=300).contains(&pauses.len()), "{}", pauses.len());
    assert!(node.renewed().iter().all(|(_, id)| *id == session.id()));

    session.set("k", "v").await.unwrap();
    client.set("k", "w").owned_by(&session).await.unwrap();
    assert_eq!(node.numbers_of(&session), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_session_survives_a_leader_that_answers_no_more() {
    let nodes = [("kv-1", true), ("kv-2", false), ("kv-3", false)];
    let [one, two, three] = nodes.map(|(name, leads)| Mock::in_memory(name, leads));
    let session = client([&one, &two, &three]).session().ttl(TTL).await;
    let session = session.unwrap();
    sleep(TTL).await;
    one.falls_silent();
    two.leads();
    sleep(TTL * 3).await;
    assert!(!session.is_lost());
    assert!(two.renewed().len() >= 8, "{:?}", two.renewed());

    // A refusal, or a lost answer, is followed by another attempt at once.
    two.follows(Some(&three.address));
    three.leads();
    for _ in 0..3 {
        three.next_renewal(Renewal::Lost);
    }
    let begun = Instant::now();
    sleep(TTL / 2).await;
    assert!(!session.is_lost());
    let attempts = three.renewed();
    assert!(attempts.len() >= 4, "{attempts:?}");
    let took = attempts[3].0 - attempts[0].0;
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(attempts[0].0 > begun);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_lost_for_ever_when_no_renewal_is_answered_in_time() {
    let (node, client, session) = one().await;
    let pipeline = session.pipeline(PipelineOptions::default()).await.unwrap();
    sleep(TTL * 2).await;
    let renewed = last(&node);
    node.falls_silent();
    assert_eq!(session.lost().await, Lost::NotRenewed);
    assert_eq!(renewed.elapsed(), HOLDS);
    node.leads();
    node.speaks();
    let batch = pipeline.submit([Operation::get("k")]).await;
    assert_eq!(why(&batch.unwrap_err()), Some(Lost::NotRenewed));
    is_over(&node, &session, Lost::NotRenewed).await;
    // The client itself goes on.
    client.set("k", "v").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_when_a_renewal_was_sent_and_not_from_its_answer() {
    let (node, _client, session) = one().await;
    for _ in 0..2 {
        node.next_renewal(Renewal::Late(Duration::from_millis(900)));
    }
    sleep(TTL).await;
    let renewals = node.renewed();
    assert_eq!(renewals.len(), 2, "{renewals:?}");
    node.falls_silent();
    session.lost().await;
    assert_eq!(renewals[1].0.elapsed(), HOLDS);
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_when_the_request_to_open_was_sent() {
    let node = Mock::in_memory("kv-1", true);
    node.next_renewal(Renewal::Late(Duration::from_millis(800)));
    let session = client([&node]).session().ttl(TTL).await.unwrap();
    let opened = Instant::now() - Duration::from_millis(800);
    node.falls_silent();
    session.lost().await;
    assert_eq!(opened.elapsed(), HOLDS);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_cluster_has_ended_is_lost_at_once() {
    let (node, _client, session) = one().await;
    sleep(TTL / 2).await;
    node.ends_sessions();
    let begun = Instant::now();
    assert_eq!(session.lost().await, Lost::Ended);
    assert!(begun.elapsed() < TTL / 3, "{:?}", begun.elapsed());
    is_over(&node, &session, Lost::Ended).await;

    // It ends with its cluster.
    let (node, _client, session) = one().await;
    node.next_renewal(Renewal::Refused(recovered()));
    assert_eq!(session.lost().await, Lost::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_loss_and_attempts_have_pauses() {
    let (node, _client, session) = one().await;
    let rule = Reason::FailedPrecondition(FailedPrecondition::default());
    let refused = refusal(Code::FailedPrecondition, "not now", ProtoApplied::No, rule);
    for _ in 0..1_000 {
        node.next_renewal(Renewal::Refused(refused.clone()));
    }
    sleep(TTL * 8 / 10).await;
    assert!(!session.is_lost());
    assert_eq!(session.lost().await, Lost::NotRenewed);
    let attempts = node.renewed().len();
    assert!((10..=40).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_session_is_lost_for_all_who_share_it() {
    let (node, _client, session) = one().await;
    let other = session.clone();
    other.close().await.unwrap();
    assert_eq!(node.closed(), [session.id()]);
    is_over(&node, &session, Lost::Closed).await;
    assert_eq!(node.closed(), [session.id()]);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_lost_before_its_end_is_sent_and_also_if_the_caller_does_not_wait() {
    let (node, _client, session) = one().await;
    node.next_renewal(Renewal::Late(Duration::from_millis(900)));
    let closing = tokio::time::timeout(Duration::from_millis(1), session.close()).await;
    assert!(closing.is_err() && session.is_lost());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.closed(), [session.id()]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_is_repeated_until_the_deadline_of_its_caller() {
    let (node, _client, session) = one().await;
    for _ in 0..3 {
        node.next_renewal(Renewal::Lost);
    }
    session.close().await.unwrap();
    assert_eq!(node.closed(), [session.id(); 4]);

    // A cluster that was recovered meanwhile still has the session, and ends it as well.
    let (node, _client, session) = one().await;
    node.next_renewal(Renewal::Refused(recovered()));
    session.close().await.unwrap();
    assert_eq!(node.closed(), [session.id(); 2]);

    let (node, client, _) = one().await;
    let session = client.session().ttl(TTL).await.unwrap();
    let session = session.with_timeout(Duration::from_secs(1));
    node.falls_silent();
    let begun = Instant::now();
    let error = session.close().await.unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error:?}");
    assert!(begun.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_the_last_of_those_who_use_it() {
    let (node, _client, session) = one().await;
    let id = session.id();
    let (clone, plain) = (session.clone(), (*session).clone());
    let pipeline = session.pipeline(PipelineOptions::default()).await.unwrap();
    drop(session);
    drop(clone);
    drop(plain);
    sleep(TTL * 2).await;
    let answers = pipeline.submit([Operation::set("k", "v")]).await.unwrap();
    assert!(answers.await[0].is_ok());
    assert!(node.closed().is_empty());
    drop(pipeline);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(node.closed(), [id]);
    let renewals = node.renewed().len();
    sleep(TTL).await;
    assert_eq!(node.renewed().len(), renewals);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_begun_before_the_loss_still_gets_its_answer() {
    let (node, _client, session) = one().await;
    let patient = session.with_timeout(TTL * 3);
    let write = tokio::spawn(async move { patient.set("k", "v").await });
    tokio::task::yield_now().await;
    node.falls_silent();
    session.lost().await;
    node.speaks();
    write.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_of_an_older_version_is_named() {
    let node = Mock::older().await;
    let client = Client::connect([&node.address]).unwrap();
    let error = client.session().ttl(TTL).await.unwrap_err();
    let words = "this node runs an older version, which knows no living sessions (not applied)";
    assert_eq!(error.to_string(), format!("{}: {words}", node.address));
    assert_eq!(error.applied(), Applied::No);
    let code = error.refusal().map(|refusal| refusal.code);
    assert_eq!(code, Some(Code::Unimplemented));
    assert_eq!(node.sessions().len(), 1, "no node is asked again in vain");
    client.session().await.unwrap();

    let error = client.sessions().await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: {words}", node.address));
    // A newer leader of a cluster with an older member says so itself.
    let rule = "node 3 runs an older version".to_owned();
    let rule = Reason::FailedPrecondition(FailedPrecondition { rule });
    let node = Mock::leader().await;
    let refused = refusal(Code::FailedPrecondition, "no", ProtoApplied::No, rule);
    node.next_renewal(Renewal::Refused(refused));
    let client = Client::connect([&node.address]).unwrap();
    let error = client.session().ttl(TTL).await.unwrap_err();
    let reason = error.reason();
    assert!(
        matches!(reason, Some(Reason::FailedPrecondition(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_key_has_the_lifetime_that_its_last_write_has_given_it() {
    let node = Mock::leader().await;
    let client = Client::connect([&node.address]).unwrap();
    let session = client.session().ttl(TTL).await.unwrap();
    let entry = async || {
        let read = client.scan("k").collect().await.unwrap();
        (read[0].ttl, read[0].owner)
    };
    let minute = Duration::from_secs(60);
    let owned = (None, Some(session.id()));

    let written = client.set("k", "v").ttl(minute).await.unwrap();
    assert_eq!(written.applied_index, 1);
    assert_eq!(entry().await, (Some(minute), None));
    let kept = client.set("k", "w").keep_lifetime().if_value("v").await;
    assert!(kept.unwrap().succeeded());
    assert_eq!(entry().await, (Some(minute), None));
    session.set("k", "v").owned_by(&session).await.unwrap();
    assert_eq!(entry().await, owned);
    client.set("k", "w").keep_lifetime().await.unwrap();
    assert_eq!(entry().await, owned);
    client.set("k", "w").await.unwrap();
    assert_eq!(entry().await, (None, None));
    let txn = client.txn();
    let txn = txn
        .then(TxnOperation::set("k", "v").owned_by(&session))
        .then(TxnOperation::set("l", "v").ttl(Duration::MAX))
        // Other operations have no lifetime.
        .then(TxnOperation::delete("m").ttl(minute));
    txn.await.unwrap();
    assert_eq!(entry().await, owned);
    // Only the writes of the session have numbers.
    assert_eq!(node.numbers_of(&session), [1]);
}

#[tokio::test]
async fn sessions_are_listed_page_by_page() {
    let node = Mock::leader().await;
    let client = Client::connect([&node.address]).unwrap();
    assert_eq!(client.sessions().await.unwrap(), []);
    let sessions = (1..=5).map(|client_id| SessionInfo {
        client_id,
        ttl: Some(TTL.try_into().unwrap()),
        remaining: Some(HOLDS.try_into().unwrap()),
        owned_keys: client_id * 2,
    });
    node.lists(sessions.collect());
    let listed = client.sessions().await.unwrap();
    let ids: Vec<_> = listed.iter().map(|it| it.client_id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let last = &listed[4];
    assert_eq!(
        (last.ttl, last.remaining, last.owned_keys),
        (TTL, HOLDS, 10)
    );
}
