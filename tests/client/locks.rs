//! Locks: what is sent to hold them, to wait for them and to give them back, also when answers are lost, the leader
//! changes, or the caller goes away. The clock is paused, and the nodes are in memory.

use std::time::Duration;

use seshat::client::{
    Acquire, Applied, Client, Condition, Error, LivingSession, Lock, LockAttempt, Lost,
    TxnOperation,
};
use seshat::proto::kv::condition::Condition as Tested;
use seshat::proto::kv::{
    Applied as ProtoApplied, HeldLock, InvalidRequest, OtherCluster, error_detail::Reason,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::mock::{Fate, LockFate, Mock, in_memory, refusal};
use seshat_test_support::InTime as _;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(10);

/// The session of another client.
const OTHER: u64 = 99;

fn client<const N: usize>(nodes: [&Mock; N]) -> Client {
    let endpoints = nodes.map(|node| node.address.clone());
    let builder = Client::builder().endpoints(endpoints);
    builder.simulated(in_memory, 7).build().unwrap()
}

/// A node that leads, and a living session.
async fn one() -> (Mock, LivingSession) {
    let node = Mock::in_memory("kv-1", true);
    let session = client([&node]).session().ttl(TTL).await.unwrap();
    (node, session)
}

/// Nodes of which the first one leads, and a living session.
async fn three() -> ([Mock; 3], LivingSession) {
    let nodes = [("kv-1", true), ("kv-2", false), ("kv-3", false)];
    let nodes = nodes.map(|(name, leads)| Mock::in_memory(name, leads));
    nodes[1].shares_locks_with(&nodes[0]);
    nodes[2].shares_locks_with(&nodes[0]);
    let client = client([&nodes[0], &nodes[1], &nodes[2]]);
    let session = client.session().ttl(TTL).await.unwrap();
    (nodes, session)
}

/// A call that runs on its own.
fn running(acquire: Acquire) -> tokio::task::JoinHandle<Result<Lock, Error>> {
    tokio::spawn(acquire)
}

fn why(error: &Error) -> Option<Lost> {
    match error {
        Error::SessionLost { why } => Some(*why),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_free_lock_is_held_at_once_and_free_again_when_it_is_released() {
    let (node, session) = one().await;
    session.set("k", "v").await.unwrap();
    let lock = session.lock("backup").value("kv-1").await.unwrap();
    let asked = node.acquired();
    assert_eq!((asked.len(), node.awaited()), (1, 0));
    let numbers = asked[0].session.unwrap();
    assert_eq!((numbers.client_id, numbers.sequence), (session.id(), 2));
    assert_eq!(
        (&asked[0].name[..], &asked[0].value[..]),
        ("backup", &b"kv-1"[..])
    );
    assert_eq!(asked[0].max_wait, None);
    assert_eq!((lock.name(), lock.token()), ("backup", 1));
    assert!(lock.session().id() == session.id() && !lock.is_lost());

    // The place of its number is free for other writes.
    for _ in 0..2_000 {
        session.set("k", "v").await.unwrap();
    }
    lock.release().await.unwrap();
    let released = node.released();
    let numbers = released[0].session.unwrap();
    assert_eq!((numbers.client_id, numbers.sequence), (session.id(), 2));
    // Nodes accept no other.
    assert!((1..=2).contains(&numbers.first_outstanding), "{numbers:?}");
    assert_eq!((released.len(), &released[0].name[..]), (1, "backup"));
    assert!(node.claims_to("backup").is_empty());
    assert_eq!(session.lock("backup").await.unwrap().token(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_for_longer_than_any_call_may_take() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    let waiting = running(session.lock("backup"));
    sleep(TTL * 100).await;
    assert!(!waiting.is_finished() && !session.is_lost());
    assert_eq!(node.acquired().len(), 1);
    // Each question stays open for a while.
    let asked = node.awaited();
    assert!((100..=2_000).contains(&asked), "{asked}");
    let freed = Instant::now();
    node.ends_claims(OTHER);
    let lock = waiting.in_time("a lock").await.unwrap().unwrap();
    assert!(freed.elapsed() < Duration::from_millis(1));
    assert_eq!(lock.token(), 2);
}

#[tokio::test(start_paused = true)]
async fn claims_take_turns_where_more_wait_than_are_asked_for_at_once() {
    let node = Mock::in_memory("kv-1", true);
    let client = Client::builder().endpoints([&node.address]);
    let client = client.simulated(in_memory, 7).awaits(2).build().unwrap();
    let session = client.session().ttl(TTL).await.unwrap();
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        node.claims(name, OTHER);
    }
    let waiting = names.map(|name| running(session.lock(name)));
    sleep(TTL * 10).await;
    assert_eq!((node.acquired().len(), node.awaited_at_once()), (5, 2));
    assert!(!session.is_lost());
    // Another call finds its node as before.
    session.set("k", "v").await.unwrap();
    node.ends_claims(OTHER);
    let freed = Instant::now();
    for lock in waiting {
        assert!(lock.in_time("a lock").await.unwrap().is_ok());
    }
    // Two of them at once, and each question is answered within its attempt.
    assert!(freed.elapsed() < SECOND * 3, "{:?}", freed.elapsed());
    assert_eq!(node.awaited_at_once(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_claim_that_has_no_turn() {
    let node = Mock::in_memory("kv-1", true);
    let client = Client::builder().endpoints([&node.address]);
    let client = client.simulated(in_memory, 7).awaits(1).build().unwrap();
    for name in ["a", "b"] {
        node.claims(name, OTHER);
    }
    let session = client.session().ttl(TTL).await.unwrap();
    let _first = running(session.lock("a"));
    node.until(|node| node.awaited_at_once() == 1).await;
    let limited = client.within(SECOND / 2).session().ttl(TTL).await.unwrap();
    let begun = Instant::now();
    let error = limited.lock("b").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!(begun.elapsed() <= SECOND / 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn two_calls_of_a_session_are_two_claims() {
    let (node, session) = one().await;
    let first = session.lock("backup").await.unwrap();
    let second = running(session.lock("backup"));
    node.until(|node| node.claims_to("backup").len() == 2).await;
    first.release().await.unwrap();
    let second = second.in_time("a lock").await.unwrap().unwrap();
    assert_eq!(second.token(), 2);
    assert_eq!(node.claims_to("backup"), [(session.id(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_answer_is_lost_is_the_same_claim() {
    let (node, session) = one().await;
    for _ in 0..3 {
        node.next_lock(LockFate::Lost);
    }
    node.next_lock(LockFate::CarriedOutInSilence);
    let lock = session.lock("backup").await.unwrap();
    assert_eq!(lock.token(), 1);
    let asked = node.acquired();
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|it| it.session == asked[0].session));
    assert_eq!(node.claims_to("backup"), [(session.id(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_until_it_is_acknowledged() {
    let (node, session) = one().await;
    let lock = session.lock("backup").await.unwrap();
    for _ in 0..3 {
        node.next_lock(LockFate::Lost);
    }
    lock.release().await.unwrap();
    assert_eq!(node.released().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_takes_too_long_goes_on_in_the_background() {
    let node = Mock::in_memory("kv-1", true);
    let client = client([&node]);
    let session = client.session().ttl(SECOND * 60).await.unwrap();
    let lock = session.lock("backup").await.unwrap();
    node.follows(None);
    let begun = Instant::now();
    let error = lock.release().await.unwrap_err();
    assert_eq!(error.kind(), "not_leader", "{error:?}");
    assert!(begun.elapsed() <= SECOND * 5);
    // Longer than the next attempt may take; no renewal is answered meanwhile, but the session lives.
    sleep(SECOND * 20).await;
    assert!(!session.is_lost());
    node.leads();
    node.until(|node| node.claims_to("backup").is_empty()).await;
    assert!(!session.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_claim_survives_changes_of_the_leader() {
    let (nodes, session) = three().await;
    let [one, two, three] = &nodes;
    one.claims("backup", OTHER);
    let waiting = running(session.lock("backup"));
    one.until(|node| node.awaited() == 1).await;
    two.leads();
    one.follows(Some(&two.address));
    sleep(SECOND * 2).await;
    // Cut off, without a word.
    three.leads();
    two.falls_silent();
    sleep(SECOND * 5).await;
    assert!(!waiting.is_finished());
    one.ends_claims(OTHER);
    let lock = waiting.in_time("a lock").await.unwrap().unwrap();
    assert_eq!((lock.token(), one.acquired().len()), (2, 1));
    two.speaks();
    two.leads();
    three.follows(None);
    lock.release().await.unwrap();
    assert!(one.claims_to("backup").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_survives_an_outage_that_its_session_survives() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    let waiting = running(session.lock("backup"));
    node.until(|node| node.awaited() == 1).await;
    // A renewal has just been answered.
    sleep(TTL / 3 + SECOND / 2).await;
    node.follows(None);
    // Longer than a call may take.
    sleep(SECOND * 6).await;
    node.leads();
    node.ends_claims(OTHER);
    let lock = waiting.in_time("a lock").await.unwrap().unwrap();
    assert_eq!((lock.token(), node.acquired().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_once_when_its_session_is_lost() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    let waiting = running(session.lock("backup"));
    node.until(|node| node.awaited() == 1).await;
    node.falls_silent();
    session.lost().in_time("a loss").await;
    let lost = Instant::now();
    let error = waiting.in_time("a lock").await.unwrap().unwrap_err();
    assert_eq!(lost.elapsed(), Duration::ZERO);
    assert_eq!(why(&error), Some(Lost::NotRenewed), "{error:?}");
    assert!(error.is_session_expired());
    // Nothing is sent any more.
    node.speaks();
    let (acquired, released) = (node.acquired().len(), node.released().len());
    let again = session.lock("backup").await.unwrap_err();
    assert_eq!(why(&again), Some(Lost::NotRenewed), "{again:?}");
    sleep(TTL).await;
    assert_eq!(
        (node.acquired().len(), node.released().len()),
        (acquired, released)
    );
}

/// The cluster has ended the session, and the client learns of it from the claim first.
#[tokio::test(start_paused = true)]
async fn a_claim_that_has_ended_ends_its_session() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    let waiting = running(session.lock("backup"));
    node.until(|node| node.awaited() == 1).await;
    node.ends_claims(session.id());
    let error = waiting.in_time("a lock").await.unwrap().unwrap_err();
    assert_eq!(why(&error), Some(Lost::Ended), "{error:?}");
    assert!(session.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_lost_with_its_session() {
    let (node, session) = one().await;
    let lock = session.lock("backup").await.unwrap();
    sleep(TTL * 5).await;
    assert!(!lock.is_lost());
    node.ends_sessions();
    assert_eq!(lock.lost().in_time("a loss").await, Lost::Ended);
    assert!(lock.is_lost());
    let error = lock.release().await.unwrap_err();
    assert_eq!(why(&error), Some(Lost::Ended), "{error:?}");
    assert!(node.released().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_dropped_is_released() {
    let (node, session) = one().await;
    let lock = session.lock("backup").await.unwrap();
    for _ in 0..3 {
        node.next_lock(LockFate::Lost);
    }
    // Outside of the runtime's tasks, as the value of another thread.
    std::thread::spawn(move || drop(lock)).join().unwrap();
    node.until(|node| node.released().len() == 4).await;
    assert!(node.claims_to("backup").is_empty());
    assert!(!session.is_lost());
    // Once is enough.
    sleep(TTL).await;
    assert_eq!(node.released().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_no_claim() {
    let (node, session) = one().await;
    let gone = || node.claims_to("backup").iter().all(|(id, _)| *id == OTHER);

    // Before it was polled.
    drop(session.lock("backup"));
    // While the answer to the Acquire is on its way, whether that was carried out or not.
    for fate in [LockFate::CarriedOutInSilence, LockFate::Silence] {
        node.next_lock(fate);
        let released = node.released().len();
        let cut = timeout(Duration::from_millis(1), session.lock("backup")).await;
        assert!(cut.is_err());
        node.until(|node| node.released().len() > released).await;
        let (last, number) = (node.acquired(), node.released());
        let [acquired, released] = [last.last().unwrap().session, number.last().unwrap().session];
        assert_eq!(acquired.unwrap().sequence, released.unwrap().sequence);
        assert!(gone());
    }
    // While it waits.
    node.claims("backup", OTHER);
    let waiting = running(session.lock("backup"));
    let awaited = node.awaited();
    node.until(|node| node.awaited() > awaited).await;
    assert!(!gone());
    waiting.abort();
    node.until(|_| gone()).await;
    // When it was granted, and the answer to the Await is on its way.
    let waiting = running(session.lock("backup"));
    node.until(|node| node.claims_to("backup").len() == 2).await;
    node.next_lock(LockFate::CarriedOutInSilence);
    node.ends_claims(OTHER);
    sleep(Duration::from_millis(1)).await;
    assert!(!gone());
    waiting.abort();
    node.until(|_| gone()).await;
    assert!(!session.is_lost());
    assert_eq!(node.acquired().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_surely_was_not_made_is_not_released() {
    let (node, session) = one().await;
    let reason = Reason::InvalidRequest(InvalidRequest::default());
    let refused = refusal(Code::InvalidArgument, "name", ProtoApplied::No, reason);
    node.next_lock(LockFate::Refused(refused.clone()));
    let error = session.lock("").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        ("invalid_request", Applied::No)
    );
    sleep(SECOND).await;
    assert!(node.released().is_empty());
    // After an answer was lost, it may have been.
    node.next_lock(LockFate::Lost);
    node.next_lock(LockFate::Refused(refused));
    session.lock("backup").await.unwrap_err();
    node.until(|node| node.released().len() == 1).await;
    assert!(node.claims_to("backup").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_to_wait_is_told_who_holds_the_lock() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    node.next_lock(LockFate::Lost);
    let attempt = session.lock("backup").no_wait().await.unwrap();
    let LockAttempt::Occupied(holder) = attempt else {
        panic!("{attempt:?}");
    };
    assert_eq!(
        (holder.client_id, holder.claim, holder.token),
        (OTHER, 1, 1)
    );
    assert_eq!(holder.value, "another");
    node.ends_claims(OTHER);
    let attempt = session.lock("backup").no_wait().await.unwrap();
    assert_eq!(attempt.acquired().unwrap().token(), 2);
    assert_eq!(node.awaited(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_gives_up_after_its_longest_wait() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    let begun = Instant::now();
    let attempt = session.lock("backup").max_wait(SECOND * 30).await.unwrap();
    assert!(matches!(attempt, LockAttempt::TimedOut), "{attempt:?}");
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert!(!session.is_lost() && node.released().is_empty());
    // In time.
    let waiting = tokio::spawn(session.lock("backup").max_wait(SECOND * 30).into_future());
    node.until(|node| node.claims_to("backup").len() == 2).await;
    node.ends_claims(OTHER);
    let attempt = waiting.in_time("a lock").await.unwrap().unwrap();
    assert!(attempt.acquired().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_all_calls_ends_the_wait_too() {
    let node = Mock::in_memory("kv-1", true);
    node.claims("backup", OTHER);
    let within = client([&node]).within(SECOND * 7);
    let session = within.session().ttl(TTL).await.unwrap();
    let begun = Instant::now();
    let error = session.lock("backup").await.unwrap_err();
    assert!(
        error.kind() == "timeout" || error.kind() == "unreachable",
        "{error:?}"
    );
    assert!(begun.elapsed() <= SECOND * 7);
    node.until(|node| node.released().len() == 1).await;
    assert_eq!(node.claims_to("backup"), [(OTHER, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_of_a_client_has_a_session_of_its_own() {
    let node = Mock::in_memory("kv-1", true);
    let client = client([&node]);
    let lock = client.lock("backup").ttl(SECOND * 30).await.unwrap();
    let opened = node.sessions()[0];
    assert_eq!(opened.ttl.map(Duration::try_from), Some(Ok(SECOND * 30)));
    let session = lock.session().clone();
    lock.release().await.unwrap();
    assert!(session.is_lost());
    assert_eq!(node.closed(), [session.id()]);
    assert!(
        node.released().is_empty(),
        "the end of the session is enough"
    );

    let lock = client.lock("backup").await.unwrap();
    assert_eq!(lock.session().ttl(), TTL);
    // Also if a clone of it is still there.
    let session = lock.session().clone();
    drop(lock);
    assert_eq!(session.lost().in_time("a loss").await, Lost::Closed);
    node.until(|node| node.closed().len() == 2).await;
    assert!(node.claims_to("backup").is_empty());

    // Given up while it waits.
    node.claims("backup", OTHER);
    let waiting = running(client.lock("backup"));
    node.until(|node| node.awaited() == 1).await;
    waiting.abort();
    node.until(|node| node.closed().len() == 3).await;
    assert_eq!(node.claims_to("backup"), [(OTHER, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_lock_lives_on_when_nothing_else_uses_it() {
    let (node, session) = one().await;
    let id = session.id();
    let lock = session.lock("backup").await.unwrap();
    drop(session);
    sleep(TTL * 3).await;
    assert!(!lock.is_lost() && node.closed().is_empty());
    drop(lock);
    node.until(|node| node.closed() == [id]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_cluster_and_so_do_its_claims() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    let reason = Reason::OtherCluster(OtherCluster {
        cluster_id: 8,
        successor: true,
    });
    let code = Code::FailedPrecondition;
    let recovered = refusal(code, "recovered", ProtoApplied::No, reason);
    node.next_lock(LockFate::Refused(recovered));
    let error = session.lock("backup").await.unwrap_err();
    assert!(
        error.is_session_expired() && error.is_other_cluster(),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_guarded_write_names_the_lock_and_the_token() {
    let (node, session) = one().await;
    node.claims("backup", OTHER);
    node.ends_claims(OTHER);
    let lock = session.lock("backup").await.unwrap();
    node.next_write(Fate::AppliedAndLost);
    session.set("k", "v").if_held(&lock).await.unwrap();
    session.delete("k").if_held(&lock).await.unwrap();
    let txn = session.txn().when(Condition::held(&lock));
    txn.then(TxnOperation::set("k", "v")).await.unwrap();
    session.set("k", "v").if_token("other", 7).await.unwrap();
    session.delete("k").if_token("other", 7).await.unwrap();
    let named: Vec<_> = node
        .txns()
        .into_iter()
        .map(|txn| match &txn.conditions[0].condition {
            Some(Tested::Lock(HeldLock { name, token })) => (name.clone(), *token),
            other => panic!("{other:?}"),
        })
        .collect();
    let own = ("backup".to_owned(), 2);
    let other = ("other".to_owned(), 7);
    assert_eq!(
        named,
        [&own, &own, &own, &own, &other, &other].map(Clone::clone)
    );
    // A plain write stays one.
    session.set("k", "v").await.unwrap();
    assert_eq!(node.txns().len(), 6);
}

/// However many wait, no renewal waits behind them.
#[tokio::test]
async fn claims_wait_on_a_connection_of_their_own() {
    let node = Mock::leader().await;
    let client = Client::connect([&node.address]).unwrap();
    client.set("k", "v").await.unwrap();
    node.claims("backup", OTHER);
    let waiting = running(client.lock("backup"));
    node.until(|node| node.awaited() == 1).await;
    node.ends_claims(OTHER);
    let lock = waiting.in_time("a lock").await.unwrap().unwrap();
    lock.release().await.unwrap();
    let [calls, _] = node.peers();
    assert_eq!(calls.len(), 1);
    assert!(calls.is_disjoint(&node.waiting_peers()));
}

#[tokio::test(start_paused = true)]
async fn locks_are_listed_page_by_page() {
    let node = Mock::in_memory("kv-1", true);
    let client = client([&node]);
    assert_eq!(client.locks().await.unwrap(), []);
    for name in ["a", "b", "c", "d", "e"] {
        node.claims(name, OTHER);
    }
    node.claims("c", 7);
    let locks = client.locks().await.unwrap();
    let names: Vec<_> = locks.iter().map(|lock| &lock.name[..]).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let waiting: Vec<_> = locks.iter().map(|lock| lock.waiting).collect();
    assert_eq!(waiting, [0, 0, 1, 0, 0]);
    let holder = locks[2].holder.as_ref().unwrap();
    assert_eq!(
        (holder.client_id, &holder.value[..]),
        (OTHER, &b"another"[..])
    );
    assert_eq!(client.inspect_lock("c").await.unwrap(), locks[2]);
    let free = client.inspect_lock("f").await.unwrap();
    assert_eq!((free.holder, free.waiting), (None, 0));
}

#[tokio::test]
async fn a_node_of_an_older_version_knows_no_locks() {
    let node = Mock::older().await;
    let client = Client::connect([&node.address]).unwrap();
    let words = "this node runs an older version, which knows no locks (not applied)";
    let mut holders = client.observe("backup");
    for error in [
        client.locks().await.unwrap_err(),
        client.inspect_lock("backup").await.unwrap_err(),
        holders.next().await.unwrap().unwrap_err(),
    ] {
        assert_eq!(error.to_string(), format!("{}: {words}", node.address));
    }
    assert!(holders.next().await.is_none());
    let error = client.lock("backup").await.unwrap_err();
    assert!(
        error.to_string().contains("runs an older version"),
        "{error}"
    );
}
