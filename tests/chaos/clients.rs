//! Clients that write and read all the time, and record the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{Applied, GetRequest, SetRequest};
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::Channel;
use tonic::{ConnectError, Request, Status};

use crate::actors::Actors;
use crate::history::{Asked, Counts, History, Told, now, unique};
use seshat_test_support::cluster::channel;
use seshat_test_support::{eventually, refused};

/// Clients of a load that share its keys.
const CLIENTS: u64 = 6;
/// Keys that they share: few, so that they meet.
const KEYS: usize = 4;
/// Deadline of one call.
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of a read at any node.
const LONGEST_READ: Duration = Duration::from_secs(30);
/// Pause of a client after an answer. It keeps the histories of a test small.
const PAUSE: Duration = Duration::from_millis(3);
/// Pause of a client that was not served.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Why a node did not answer a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Failure {
    /// The node gave a reason.
    Refused(Option<Reason>),
    /// No answer in time, or the connection broke or was never made.
    Silence,
}

/// A caller of nodes that records the outcomes.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client_addrs: Vec<String>,
    nodes: Vec<KvServiceClient<Channel>>,
    history: Arc<History>,
}

impl Caller {
    /// A caller of the nodes at `client_addrs`, with connections of its own.
    pub(crate) fn new(client_addrs: &[String], history: &Arc<History>) -> Self {
        let nodes = client_addrs.iter().map(|addr| channel(addr));
        Self {
            client_addrs: client_addrs.to_vec(),
            nodes: nodes.map(KvServiceClient::new).collect(),
            history: Arc::clone(history),
        }
    }

    /// The same connections, and another history.
    pub(crate) fn with_history(&self, history: &Arc<History>) -> Self {
        Self {
            history: Arc::clone(history),
            ..self.clone()
        }
    }

    /// Writes a new value to `key` at `node`, once. Returns the value, and the failure if it failed.
    pub(crate) async fn write(&self, node: usize, key: &str) -> (u64, Told, Option<Failure>) {
        let value = unique();
        let start = now();
        let request = timed(SetRequest {
            key: key.to_owned().into(),
            value: value.to_string().into(),
            session: None,
            ..SetRequest::default()
        });
        let (told, failure) = match self.nodes[node].clone().set(request).await {
            Ok(_) => (Told::Done(None), None),
            Err(status) => failed(&status),
        };
        self.history.note(key, Asked::Write(value), start, told);
        (value, told, failure)
    }

    /// Reads `key` at `node`, once.
    pub(crate) async fn read(&self, node: usize, key: &str) -> (Told, Option<Failure>) {
        let start = now();
        let request = timed(GetRequest {
            key: key.to_owned().into(),
            ..GetRequest::default()
        });
        let (told, failure) = match self.nodes[node].clone().get(request).await {
            Ok(answer) => (Told::Done(answer.into_inner().value.map(number)), None),
            Err(status) => failed(&status),
        };
        self.history.note(key, Asked::Read, start, told);
        (told, failure)
    }

    /// Reads `key` at any node that serves, as soon as one does, and asks `node` first. Returns the node
    /// and the value.
    pub(crate) async fn read_anywhere(&self, mut node: usize, key: &str) -> (usize, Option<u64>) {
        let began = Instant::now();
        loop {
            let (told, failure) = self.read(node, key).await;
            if let Told::Done(value) = told {
                return (node, value);
            }
            assert!(began.elapsed() < LONGEST_READ, "{key}: {failure:?}");
            node = self.next(node, failure.as_ref());
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }

    /// Which node to ask after `node` has failed: the one that it named, or any other.
    fn next(&self, node: usize, failure: Option<&Failure>) -> usize {
        let leader = match failure {
            Some(Failure::Refused(Some(Reason::NotLeader(hint)))) => hint.leader_id,
            _ => None,
        };
        let leader = leader.and_then(|id| usize::try_from(id).ok());
        leader.map_or((node + 1) % self.nodes.len(), |id| id - 1)
    }

    /// Fails unless a restarted node says that it takes no part in a cluster.
    pub(crate) async fn is_refused_outside(&self, node: usize, key: &str) {
        let (_, written, why) = self.write(node, key).await;
        let (read, _) = self.read(node, key).await;
        assert_eq!((written, read), (Told::NotDone, Told::NotDone));
        assert!(
            matches!(why, Some(Failure::Refused(Some(Reason::Forming(_))))),
            "{why:?}"
        );
    }

    /// Reads every key of the history once.
    async fn read_all(&self) {
        let mut readers = JoinSet::new();
        for keys in self.history.keys().chunks(256) {
            let (caller, keys) = (self.clone(), keys.to_vec());
            readers.spawn(async move {
                let mut node = 0;
                for key in keys {
                    (node, _) = caller.read_anywhere(node, &key).await;
                }
            });
        }
        while let Some(ended) = readers.join_next().await {
            ended.expect("a reader does not panic");
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TEST_TIMEOUT);
    request
}

fn number(value: bytes::Bytes) -> u64 {
    let text = std::str::from_utf8(&value).expect("clients write numbers");
    text.parse().expect("clients write numbers")
}

/// The outcome that a failed call states.
fn failed(status: &Status) -> (Told, Option<Failure>) {
    if !status.details().is_empty() {
        let (applied, reason) = refused(status);
        let told = match applied {
            Applied::No => Told::NotDone,
            Applied::Unknown | Applied::Unspecified => Told::Unknown,
        };
        return (told, Some(Failure::Refused(reason)));
    }
    // Without a connection nothing was sent.
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return (Told::NotDone, Some(Failure::Silence));
        }
        cause = error.source();
    }
    (Told::Unknown, Some(Failure::Silence))
}

/// The task of a client.
#[derive(Debug, Clone)]
enum Habit {
    /// Writes and reads these keys, not too fast.
    Shared(Vec<String>),
    /// Writes a new key each time, as fast as it can.
    Burst,
}

/// Clients that call until they are told to end.
pub(crate) struct Load {
    caller: Caller,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    actors: Option<Actors>,
}

impl Load {
    /// A few clients that ask `node` first, and write and read a few keys that begin with `prefix`; and others
    /// that coordinate.
    pub(crate) fn start(caller: &Caller, node: usize, prefix: &str) -> Self {
        Self {
            actors: Some(Actors::start(&caller.client_addrs)),
            ..Self::plain(caller, node, prefix)
        }
    }

    /// The same without those that coordinate: a node that is watched keeps a history of its changes.
    pub(crate) fn plain(caller: &Caller, node: usize, prefix: &str) -> Self {
        let keys = (0..KEYS).map(|key| format!("{prefix}{key}"));
        Self::spawn(caller, node, CLIENTS, &Habit::Shared(keys.collect()))
    }

    /// `writers` that ask `node` first and write as fast as they can, each time a key of its own.
    pub(crate) fn burst(caller: &Caller, node: usize, writers: u64) -> Self {
        Self::spawn(caller, node, writers, &Habit::Burst)
    }

    fn spawn(caller: &Caller, node: usize, clients: u64, habit: &Habit) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let (caller, habit, stop) = (caller.clone(), habit.clone(), Arc::clone(&stop));
            let mut node = node;
            tasks.spawn(async move {
                // The requests are the same each time; their times depend on the machine.
                let mut rng = StdRng::seed_from_u64(client);
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) && !caller.history.is_full() {
                    turn += 1;
                    let failure = match &habit {
                        Habit::Burst => caller.write(node, &format!("{client}-{turn}")).await.2,
                        Habit::Shared(keys) => {
                            tokio::time::sleep(PAUSE).await;
                            let key = &keys[rng.gen_range(0..keys.len())];
                            match rng.gen_bool(0.5) {
                                true => caller.write(node, key).await.2,
                                false => caller.read(node, key).await.1,
                            }
                        }
                    };
                    if failure.is_some() {
                        node = caller.next(node, failure.as_ref());
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            });
        }
        Self {
            caller: caller.clone(),
            stop,
            tasks,
            actors: None,
        }
    }

    /// Waits until a write that began now or later was acknowledged, and returns the time from `moment`
    /// to that.
    pub(crate) async fn write_after(&self, moment: u64) -> Duration {
        let history = &self.caller.history;
        eventually("an accepted write", async || {
            history.first_write_after(moment)
        })
        .await
    }

    /// The lock that the clients share.
    pub(crate) fn lock(&self) -> Option<&str> {
        self.actors.as_ref().map(Actors::lock)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.caller.history.counts()
    }

    /// Ends the clients, and waits for their last answers. Fails unless all answers so far can be true.
    pub(crate) async fn stop(mut self) -> Counts {
        self.end().await;
        self.counts()
    }

    async fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client does not panic");
        }
        if let Some(actors) = &mut self.actors {
            actors.stop().await;
        }
        self.caller.history.check();
    }

    /// Ends the clients, reads every key once more, and fails unless all answers can be true.
    pub(crate) async fn check(mut self) -> Counts {
        self.end().await;
        // Twice: a value that was read once has to stay.
        for _ in 0..2 {
            self.caller.read_all().await;
        }
        self.caller.history.check();
        let mut counts = self.counts();
        assert!(counts.writes > 0 && counts.reads > 0, "{counts}");
        if let Some(actors) = self.actors {
            counts.coordinated = actors.finish().await;
        }
        counts
    }
}

/// A client that knows one node only, and writes and reads there.
pub(crate) struct Pinned {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<(Told, Option<Failure>)>>,
}

impl Pinned {
    pub(crate) fn start(caller: &Caller, node: usize, key: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (caller, stopped) = (caller.clone(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut answers = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let write = async {
                    let (_, told, failure) = caller.write(node, key).await;
                    (told, failure)
                };
                // Both at once, so that neither waits for the other's deadline.
                let (written, read) = tokio::join!(write, caller.read(node, key));
                answers.extend([written, read]);
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
            answers
        });
        Self { stop, task }
    }

    /// Ends the client, and returns its history.
    pub(crate) async fn stop(self) -> Vec<(Told, Option<Failure>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a client does not panic")
    }

    /// Ends the client, and fails unless every call was refused, some with a reason, and for no other
    /// reason than a missing quorum. Returns the number of calls.
    pub(crate) async fn stop_unserved(self) -> usize {
        let answers = self.stop().await;
        let mut said_why = 0;
        for (told, failure) in &answers {
            assert!(
                !matches!(told, Told::Done(_)),
                "served by a minority: {told:?}"
            );
            match failure {
                Some(Failure::Refused(reason)) => {
                    let fits = matches!(reason, Some(Reason::NotLeader(_) | Reason::NoQuorum(_)));
                    assert!(fits, "{reason:?}");
                    said_why += 1;
                }
                // A busy machine can be late.
                Some(Failure::Silence) | None => {}
            }
        }
        assert!(said_why > 0, "{answers:?}");
        answers.len()
    }
}
