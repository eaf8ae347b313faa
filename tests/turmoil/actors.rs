//! Clients that coordinate, by the Rust client: conditional writes, transactions and scans; watches; locks.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use seshat::client::Client;
use seshat_test_support::coordination::{Actor, Keys, Locker, Watcher, Witness};

use crate::clients::Habits;
use crate::library::client;
use crate::shared::Shared;

/// Most bytes of padding of a value: some requests have many values.
const MAX_PADDING: u64 = 500;

/// A client in the story of a run.
struct Teller {
    name: String,
    shared: Rc<Shared>,
}

impl Witness for Teller {
    fn tell(&self, line: fmt::Arguments<'_>) {
        let now = turmoil::sim_elapsed().expect("on a simulated host");
        self.shared.tell(now, format_args!("{}: {line}", self.name));
    }

    fn count(&self, what: &str) {
        self.shared.count(what);
    }
}

/// A client, and what it lives in. Those of this page share keys and a lock.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) rng: StdRng,
    pub(crate) nodes: u16,
    pub(crate) habits: Habits,
    pub(crate) shared: Rc<Shared>,
}

impl Setting {
    fn client(&mut self) -> Client {
        let attempt = Duration::from_millis([50, 200, 1_000][self.rng.gen_range(0..3)]);
        let timeout = self.habits.max_wait * 2;
        client(self.nodes, timeout, attempt, self.rng.r#gen())
    }

    fn teller(&self) -> Teller {
        Teller {
            name: self.name.clone(),
            shared: Rc::clone(&self.shared),
        }
    }

    fn max_padding(&self) -> u64 {
        self.habits.max_padding.min(MAX_PADDING)
    }

    /// Makes conditional writes, transactions and scans until the run ends.
    pub(crate) async fn act(mut self) {
        let (client, teller, padding) = (self.client(), self.teller(), self.max_padding());
        let Self {
            rng,
            habits,
            shared,
            ..
        } = self;
        let mut actor = Actor::new(client, rng, keys(), padding, &shared.history, teller);
        actor.resends = habits.resends;
        let pause = Duration::from_millis(habits.longest_pause);
        actor.run(|| shared.ending.get(), pause).await;
        actor.finish().await;
    }

    /// Watches until the run ends.
    pub(crate) async fn watch(mut self) {
        let (client, teller, padding) = (self.client(), self.teller(), self.max_padding());
        let Self { rng, shared, .. } = self;
        let mut watcher = Watcher::new(client, rng, keys(), padding, &shared.history, teller);
        watcher.run(|| shared.ending.get()).await;
        watcher.finish().await;
    }

    /// Takes a lock again and again until the run ends, and once more.
    pub(crate) async fn lock(mut self) {
        let (client, teller) = (self.client(), self.teller());
        let Self {
            rng,
            habits,
            shared,
            ..
        } = self;
        let mut locker = Locker::new(client, rng, keys(), &shared.history, teller);
        locker.trusts = habits.unfenced;
        locker.run(|| shared.ending.get()).await;
        locker.finish().await;
    }
}

fn keys() -> Keys {
    Keys::new("actors/")
}
