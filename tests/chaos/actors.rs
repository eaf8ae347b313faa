//! Clients that coordinate all the time, by the Rust client: conditional writes, transactions and scans; watches;
//! locks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use seshat::client::Client;
use seshat_test_support::coordination::strict::{self, Begins};
use seshat_test_support::coordination::{Actor, History, Keys, Locker, Watcher, Witness, tenures};
use tokio::task::JoinSet;

use crate::history::elapsed;

/// Deadline of one call, and of one attempt at it.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT: Duration = Duration::from_millis(500);
/// The longest pause after an answer.
const PAUSE: Duration = Duration::from_millis(10);
/// Most bytes of padding of a value.
const PADDING: u64 = 200;

/// The number of requests that were answered.
#[derive(Debug, Clone, Default)]
struct Answered(Arc<AtomicU64>);

impl Witness for Answered {
    fn tell(&self, _: fmt::Arguments<'_>) {}

    fn count(&self, _: &str) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client of a load.
enum Kind {
    Actor(Box<Actor<Answered>>),
    Watcher(Watcher<Answered>),
    Locker(Locker<Answered>),
}

impl Kind {
    async fn run(&mut self, ends: impl Fn() -> bool) {
        match self {
            Self::Actor(actor) => actor.run(ends, PAUSE).await,
            Self::Watcher(watcher) => watcher.run(ends).await,
            Self::Locker(locker) => locker.run(ends).await,
        }
    }

    async fn finish(&mut self) {
        match self {
            Self::Actor(actor) => actor.finish().await,
            Self::Watcher(watcher) => watcher.finish().await,
            Self::Locker(locker) => locker.finish().await,
        }
    }
}

/// Clients that share their keys and a lock, and make requests until they are told to end.
pub(crate) struct Actors {
    history: Arc<History>,
    lock: String,
    stop: Arc<AtomicBool>,
    answered: Answered,
    running: JoinSet<Kind>,
    ended: Vec<Kind>,
}

impl Actors {
    /// Clients of the cluster at `client_addrs`, on keys that no client has used before.
    pub(crate) fn start(client_addrs: &[String]) -> Self {
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let history = Arc::new(History::new(elapsed));
        let answered = Answered::default();
        let keys = || Keys::new(&format!("actors/{start}/"));
        let setting = |seed| (client(client_addrs), StdRng::seed_from_u64(seed), keys());
        let actor = |seed| {
            let (client, rng, keys) = setting(seed);
            let witness = answered.clone();
            let actor = Actor::new(client, rng, keys, PADDING, &history, witness);
            Kind::Actor(Box::new(actor))
        };
        let watcher = |seed| {
            let (client, rng, keys) = setting(seed);
            let witness = answered.clone();
            Kind::Watcher(Watcher::new(client, rng, keys, PADDING, &history, witness))
        };
        let locker = |seed| {
            let (client, rng, keys) = setting(seed);
            let witness = answered.clone();
            Kind::Locker(Locker::new(client, rng, keys, &history, witness))
        };
        let kinds = [actor(1), actor(2), watcher(3), locker(4), locker(5)];
        let stop = Arc::<AtomicBool>::default();
        let mut running = JoinSet::new();
        for mut kind in kinds {
            let stop = Arc::clone(&stop);
            running.spawn(async move {
                kind.run(|| stop.load(Ordering::Relaxed)).await;
                kind
            });
        }
        Self {
            lock: keys().lock,
            history,
            stop,
            answered,
            running,
            ended: Vec::new(),
        }
    }

    /// The lock that they share.
    pub(crate) fn lock(&self) -> &str {
        &self.lock
    }

    /// Ends the clients, and waits for their last answers. Fails unless all answers so far can be true.
    pub(crate) async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            self.ended.push(ended.expect("an actor does not panic"));
        }
        self.check();
    }

    /// Lets clients that have ended count, read and watch once more, and fails unless all answers can be true.
    /// Returns the number of answers.
    pub(crate) async fn finish(mut self) -> u64 {
        let mut finishing = JoinSet::new();
        for mut kind in self.ended.drain(..) {
            finishing.spawn(async move { kind.finish().await });
        }
        while let Some(finished) = finishing.join_next().await {
            finished.expect("an actor does not panic");
        }
        self.check();
        self.answered.0.load(Ordering::Relaxed)
    }

    fn check(&self) {
        let (records, spans) = (self.history.records(), self.history.spans());
        if let Err(fault) = strict::check(&records, &spans, Begins::Empty) {
            panic!("the history of the actors is not strictly serializable: {fault}");
        }
        let contradictions = self.history.contradictions();
        assert!(contradictions.is_empty(), "{contradictions:?}");
        if let Err(fault) = tenures::check(&self.history.tenures()) {
            panic!("the history of a lock is not true: {fault}");
        }
    }
}

fn client(client_addrs: &[String]) -> Client {
    let builder = Client::builder().endpoints(client_addrs);
    let builder = builder.timeout(TEST_TIMEOUT).attempt_timeout(ATTEMPT);
    builder.build().expect("endpoints")
}
