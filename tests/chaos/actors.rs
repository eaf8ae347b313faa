//! Clients that coordinate all the time, by the Rust client: conditional writes, transactions and scans.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use seshat::client::Client;
use seshat_test_support::coordination::strict::{self, Begins};
use seshat_test_support::coordination::{Actor, History, Keys, Witness};
use tokio::task::JoinSet;

/// Actors of a load that share their keys.
const ACTORS: u64 = 2;
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

/// Actors that make requests until they are told to end.
pub(crate) struct Actors {
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    answered: Answered,
    running: JoinSet<Actor<Answered>>,
    ended: Vec<Actor<Answered>>,
}

impl Actors {
    /// Actors on keys that no client has used before, in the cluster at `client_addrs`.
    pub(crate) fn start(client_addrs: &[String]) -> Self {
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let (history, stop) = (Arc::<History>::default(), Arc::<AtomicBool>::default());
        let answered = Answered::default();
        let mut running = JoinSet::new();
        for actor in 0..ACTORS {
            let client = Client::builder().endpoints(client_addrs);
            let client = client.timeout(TEST_TIMEOUT).attempt_timeout(ATTEMPT);
            let client = client.build().expect("endpoints");
            let keys = Keys::new(&format!("actors/{start}/"));
            let rng = StdRng::seed_from_u64(actor);
            let mut actor = Actor::new(client, rng, keys, PADDING, &history, answered.clone());
            let stop = Arc::clone(&stop);
            running.spawn(async move {
                actor.run(|| stop.load(Ordering::Relaxed), PAUSE).await;
                actor
            });
        }
        Self {
            history,
            stop,
            answered,
            running,
            ended: Vec::new(),
        }
    }

    /// Ends the actors, and waits for their last answers. Fails unless all answers so far can be true.
    pub(crate) async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            self.ended.push(ended.expect("an actor does not panic"));
        }
        self.check();
    }

    /// Lets actors that have ended read all of their keys, and fails unless all answers can be true. Returns
    /// the number of answers.
    pub(crate) async fn finish(mut self) -> u64 {
        for actor in &mut self.ended {
            actor.finish().await;
        }
        self.check();
        self.answered.0.load(Ordering::Relaxed)
    }

    fn check(&self) {
        if let Err(fault) = strict::check(&self.history.records(), Begins::Empty) {
            panic!("the history of the actors is not strictly serializable: {fault}");
        }
    }
}
