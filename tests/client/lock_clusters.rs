//! Locks of real clusters: contenders whose leader is killed, and a holder whose renewals are cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use seshat::client::{Client, Condition, LockAttempt, Lost, TxnOperation};
use tokio::time::Instant;

use super::lifetimes::Link;
use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually};

const SECOND: Duration = Duration::from_secs(1);

/// Contenders, each with a session of its own.
const CONTENDERS: usize = 8;

/// How often each of them holds the lock.
const TURNS: usize = 25;

/// A client of `endpoints` that has all the time that a busy machine may need.
fn client(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Client {
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(SECOND * 60).build().unwrap()
}

fn client_of(cluster: &Cluster) -> Client {
    client((0..3).map(|index| cluster.client_addr(index)))
}

/// What holders share, which is right only if they are never two.
#[derive(Default)]
struct Shared {
    taken: AtomicBool,
    token: AtomicU64,
    turns: AtomicU64,
}

impl Shared {
    fn enter(&self, token: u64) {
        assert!(!self.taken.swap(true, Ordering::SeqCst), "two holders");
        let before = self.token.swap(token, Ordering::SeqCst);
        assert!(token > before, "{token} after {before}");
    }

    fn leave(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
        assert!(self.taken.swap(false, Ordering::SeqCst));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contenders_hold_a_lock_one_by_one_also_when_the_leader_is_killed() {
    let mut cluster = Cluster::started(3).await;
    let shared = Arc::new(Shared::default());
    let contenders: Vec<_> = (0..CONTENDERS)
        .map(|_| {
            let (client, shared) = (client_of(&cluster), Arc::clone(&shared));
            tokio::spawn(async move {
                let session = client.session().ttl(SECOND * 60).await.unwrap();
                for turn in 0..TURNS {
                    let lock = session.lock("lock").await.unwrap();
                    shared.enter(lock.token());
                    let written = session.set("k", "v").if_held(&lock).await.unwrap();
                    assert!(written.succeeded());
                    shared.leave();
                    match turn % 2 {
                        0 => lock.release().await.unwrap(),
                        _ => drop(lock),
                    }
                }
            })
        })
        .collect();
    let turns = async |count| {
        let done = async || (shared.turns.load(Ordering::SeqCst) >= count).then_some(());
        eventually("turns", done).await;
    };
    turns(30).await;
    let leader = cluster.leader().await;
    cluster.take(leader).kill();
    turns(90).await;
    for contender in contenders {
        contender.in_time("a contender").await.unwrap();
    }
    let all = u64::try_from(CONTENDERS * TURNS).unwrap();
    assert_eq!(shared.turns.load(Ordering::SeqCst), all);
    let free = async || {
        let lock = client_of(&cluster).inspect_lock("lock").await.unwrap();
        (lock.holder.is_none() && lock.waiting == 0).then_some(())
    };
    eventually("a free lock", free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_goes_to_the_next_one_when_its_holder_is_cut_off() {
    let cluster = Cluster::started(3).await;
    let others = client_of(&cluster);
    let link = Link::to(cluster.client_addr(cluster.leader().await)).await;
    let through = client([link.address.clone()]);
    let lock = through.lock("lock").ttl(SECOND * 3).await.unwrap();
    assert!(
        others
            .set("k", "1")
            .if_held(&lock)
            .await
            .unwrap()
            .succeeded()
    );
    let attempt = others.lock("lock").no_wait().await.unwrap();
    assert!(matches!(attempt, LockAttempt::Occupied(_)), "{attempt:?}");
    let attempt = others.lock("lock").max_wait(SECOND).await.unwrap();
    assert!(matches!(attempt, LockAttempt::TimedOut), "{attempt:?}");
    let next = tokio::spawn(others.lock("lock").into_future());
    let waits = async || {
        let lock = others.inspect_lock("lock").await.unwrap();
        (lock.waiting == 1).then_some(())
    };
    eventually("a waiting claim", waits).await;

    link.cut.send_replace(true);
    let cut = Instant::now();
    let next = next.in_time("the next holder").await.unwrap().unwrap();
    // The holder knew it before, however late this task runs: it reads the clock.
    assert!(lock.is_lost());
    assert_eq!(lock.lost().await, Lost::NotRenewed);
    assert!(next.token() > lock.token());
    println!(
        "the next one holds the lock {:?} after the cut",
        cut.elapsed()
    );

    // A write of the former holder that was on its way for long.
    let late = others.set("k", "late").if_held(&lock).await.unwrap();
    assert!(!late.succeeded());
    let txn = others.txn().when(Condition::held(&lock));
    let late = txn.then(TxnOperation::delete("k")).await.unwrap();
    assert!(!late.succeeded);
    assert!(
        others
            .set("k", "2")
            .if_held(&next)
            .await
            .unwrap()
            .succeeded()
    );
    let error = lock.release().await.unwrap_err();
    assert!(error.is_session_expired(), "{error:?}");
    next.release().await.unwrap();
    assert_eq!(others.locks().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_see_leaders_come_and_go_while_the_cluster_changes_its_own() {
    let mut cluster = Cluster::started(3).await;
    let client = client_of(&cluster);
    let mut leaders = client.observe("service");
    let next = async |leaders: &mut seshat::client::Holders| {
        let leader = leaders.next().in_time("a leader").await.unwrap().unwrap();
        leader.map(|leader| (leader.value, leader.token))
    };
    assert_eq!(next(&mut leaders).await, None);
    let first = client
        .elect("service", "a:80")
        .ttl(SECOND * 60)
        .await
        .unwrap();
    assert_eq!(
        next(&mut leaders).await,
        Some(("a:80".into(), first.token()))
    );
    let second = tokio::spawn(client.elect("service", "b:80").ttl(SECOND * 60));
    let waits = async || {
        let lock = client.inspect_lock("service").await.unwrap();
        (lock.waiting == 1).then_some(())
    };
    eventually("a candidate", waits).await;
    let leader = cluster.leader().await;
    cluster.take(leader).kill();
    first.resign().await.unwrap();
    let second = second.in_time("a leader").await.unwrap().unwrap();
    assert_eq!(
        next(&mut leaders).await,
        Some(("b:80".into(), second.token()))
    );
    client.admin().transfer_leadership(None).await.unwrap();
    drop(second);
    assert_eq!(next(&mut leaders).await, None);
}
