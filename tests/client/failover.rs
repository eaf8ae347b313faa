//! A real cluster that changes its leader, or loses it, in the middle of writes.
//!
//! DELETE reveals a write that was applied twice: each key is bound once and removed once, so an answer
//! that the key was missing means a second removal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seshat::client::{Applied, Client, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use seshat_test_support::cluster::Cluster;

/// Callers at once.
const CALLERS: usize = 32;

fn client(cluster: &Cluster, timeout: Duration) -> Client {
    let endpoints = (0..3).map(|index| cluster.client_addr(index));
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(timeout).build().unwrap()
}

/// Callers at work. Each call binds a key and removes it, and reports whether there was one to remove.
struct Callers {
    tasks: Vec<JoinHandle<Vec<Result<bool, Error>>>>,
    done: watch::Receiver<usize>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    fn start<F, Fut>(call: F) -> Self
    where
        F: Fn(String) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, Error>> + Send,
    {
        let (count, done) = watch::channel(0);
        let (count, stop) = (Arc::new(count), Arc::new(AtomicBool::new(false)));
        let tasks = (0..CALLERS).map(|caller| {
            let (call, count, stop) = (call.clone(), Arc::clone(&count), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut came_to = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    came_to.push(call(format!("{caller}/{}", came_to.len())).await);
                    count.send_modify(|count| *count += 1);
                }
                came_to
            })
        });
        Self {
            tasks: tasks.collect(),
            done,
            stop,
        }
    }

    /// Waits until so many more calls are done.
    async fn more(&mut self, count: usize) {
        let until = *self.done.borrow() + count;
        let waited = self.done.wait_for(|done| *done >= until);
        let waited = tokio::time::timeout(Duration::from_secs(60), waited).await;
        waited.expect("calls go on").expect("callers live");
    }

    /// Ends them. Returns the number of calls and the failures; checks that no call was applied twice.
    async fn finish(self) -> (usize, Vec<Error>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut came_to = Vec::new();
        for task in self.tasks {
            came_to.extend(task.await.unwrap());
        }
        let calls = came_to.len();
        let twice = came_to.iter().filter(|it| matches!(it, Ok(false))).count();
        assert_eq!(twice, 0, "removals of {calls} were made twice");
        let failed = came_to.into_iter().filter_map(Result::err);
        (calls, failed.collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_leader_costs_a_session_nothing() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster, Duration::from_secs(60));
    let session = client.session().await.unwrap();
    let mut callers = Callers::start(move |key| {
        let session = session.clone();
        async move {
            session.set(key.clone(), "v").await?;
            Ok(session.delete(key).await?.existed)
        }
    });
    callers.more(200).await;
    let leader = cluster.leader().await;
    cluster.take(leader).kill();
    callers.more(200).await;
    let (calls, failed) = callers.finish().await;
    println!("session: {calls} pairs, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_the_leader_leaves_unknown_outcomes_but_no_second_write() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster, Duration::from_secs(60));
    let mut callers = Callers::start(move |key| {
        let client = client.clone();
        async move {
            client.set(key.clone(), "v").await?;
            Ok(client.delete(key).await?.existed)
        }
    });
    callers.more(200).await;
    let leader = cluster.leader().await;
    cluster.take(leader).kill();
    callers.more(200).await;
    let (calls, failed) = callers.finish().await;
    println!("no session: {calls} pairs, {} unknown", failed.len());
    // A caller has at most one write in flight when the leader dies.
    assert!(failed.len() <= CALLERS, "{failed:?}");
    for error in failed {
        assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leadership_transfer_costs_nothing() {
    let cluster = Cluster::started(3).await;
    let client = client(&cluster, Duration::from_secs(60));
    let session = client.session().await.unwrap();
    let reader = client.clone();
    let mut callers = Callers::start(move |key| {
        let (session, reader) = (session.clone(), reader.clone());
        async move {
            session.set(key.clone(), key.clone()).await?;
            let value = reader.get(key.clone()).await?;
            assert_eq!(value.as_deref(), Some(key.as_bytes()));
            Ok(session.delete(key).await?.existed)
        }
    });
    for _ in 0..3 {
        callers.more(50).await;
        client.admin().transfer_leadership(None).await.unwrap();
    }
    callers.more(50).await;
    let (_, failed) = callers.finish().await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_could_not_be_sent_was_surely_not_applied() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster, Duration::from_secs(2));
    client.set("k", "v").await.unwrap();
    for index in 0..3 {
        cluster.take(index).kill();
    }
    // The connection may break with the first on it. After that no listener is there.
    let _ = client.set("k", "w").await;
    let error = client.set("k", "x").await.unwrap_err();
    // The message depends on whether another node has got the port of a dead node by now.
    assert_eq!(error.applied(), Applied::No, "{error:?}");
}
