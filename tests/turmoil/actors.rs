//! Clients that coordinate: conditional writes, transactions and scans, by the Rust client.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use seshat_test_support::coordination::{Actor, Keys, Witness};

use crate::clients::Habits;
use crate::library::client;
use crate::shared::Shared;

/// An actor in the story of a run.
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

/// Most bytes of padding of a value: some requests have many values.
const MAX_PADDING: u64 = 500;

/// Runs an actor until the run ends. It shares its keys with the other actors.
pub(crate) async fn run(
    name: String,
    mut rng: StdRng,
    nodes: u16,
    habits: Habits,
    shared: Rc<Shared>,
) {
    let attempt = Duration::from_millis([50, 200, 1_000][rng.gen_range(0..3)]);
    let client = client(nodes, habits.max_wait * 2, attempt, rng.r#gen());
    let teller = Teller {
        name,
        shared: Rc::clone(&shared),
    };
    let (keys, padding) = (Keys::new("actors/"), habits.max_padding.min(MAX_PADDING));
    let mut actor = Actor::new(client, rng, keys, padding, &shared.history, teller);
    actor.resends = habits.resends;
    let pause = Duration::from_millis(habits.longest_pause);
    actor.run(|| shared.ending.get(), pause).await;
    actor.finish().await;
}
