//! Clients that hold living sessions, and readers of the keys that these own.
//!
//! An owned key ends with its session, and nothing else removes it. So once a reader has found it missing, its client
//! may not take the session for held.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::rngs::StdRng;
use seshat::client::{Client, Error, LivingSession};
use tokio::time::sleep;

use crate::clients::Habits;
use crate::library::client;
use crate::shared::Shared;

/// The pause between two looks at a session.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause between two reads of all keys.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// The keys of all sessions that clients take for held, and whether a reader has found them missing.
pub(crate) type Held = Rc<RefCell<BTreeMap<Bytes, bool>>>;

/// A client that holds one session after the other.
pub(crate) struct Holder {
    name: String,
    rng: StdRng,
    client: Client,
    held: Held,
    habits: Habits,
    shared: Rc<Shared>,
}

impl Holder {
    pub(crate) fn new(
        name: String,
        mut rng: StdRng,
        nodes: u16,
        held: Held,
        habits: Habits,
        shared: Rc<Shared>,
    ) -> Self {
        let attempt = Duration::from_millis([200, 1_000][rng.gen_range(0..2)]);
        Self {
            client: client(nodes, habits.max_wait * 2, attempt, rng.r#gen()),
            name,
            rng,
            held,
            habits,
            shared,
        }
    }

    /// Holds sessions until the run ends, then one more.
    pub(crate) async fn run(mut self) {
        loop {
            let ending = self.shared.ending.get();
            let ttl = Duration::from_millis(self.rng.gen_range(2_000..8_000));
            match self.hold(ttl).await {
                Ok(()) if ending => return,
                Ok(()) => {}
                Err(error) => self.tell(format_args!("a living session: {error}")),
            }
            sleep(PAUSE).await;
        }
    }

    /// Opens a session that owns a key, holds it for a while, and closes it.
    async fn hold(&mut self, ttl: Duration) -> Result<(), Error> {
        // Whether a recovery that would take the session with it is noticed.
        let (era, settled) = (self.shared.era(), !self.shared.recovery_is_open());
        let session = self.client.session().ttl(ttl).await?;
        let key = Bytes::from(format!("held/{:016x}", session.id()));
        session.set(key.clone(), "").owned_by(&session).await?;
        self.tell(format_args!("holds {:016x} for {ttl:?}", session.id()));
        self.shared.count("living sessions");
        self.held.borrow_mut().insert(key.clone(), false);
        let looks = self.rng.gen_range(1..1_000);
        for _ in 0..looks {
            if !self.holds(&session) || self.shared.ending.get() {
                break;
            }
            let gone = self.held.borrow().get(&key) == Some(&true);
            let lost_by_recovery = !settled || self.shared.era() != era;
            assert!(
                !gone || lost_by_recovery,
                "{} holds a session whose key is gone",
                self.name
            );
            sleep(PAUSE).await;
        }
        self.held.borrow_mut().remove(&key);
        if session.is_lost() {
            self.shared.count("living sessions lost");
        }
        session.close().await?;
        let found = self.client.get(key).await?;
        assert!(
            found.is_none() || !settled || self.shared.era() != era,
            "{} has closed a session whose key is left",
            self.name
        );
        Ok(())
    }

    fn holds(&self, session: &LivingSession) -> bool {
        self.habits.trusting || !session.is_lost()
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        let now = turmoil::sim_elapsed().expect("on a simulated host");
        self.shared.tell(now, format_args!("{}: {what}", self.name));
    }
}

/// Reads the keys of all sessions that are held, until the run ends.
pub(crate) async fn read(nodes: u16, mut rng: StdRng, held: Held, shared: Rc<Shared>) {
    let second = Duration::from_secs(1);
    let client = client(nodes, second, second / 5, rng.r#gen());
    while !shared.ending.get() {
        let keys: Vec<_> = held.borrow().keys().cloned().collect();
        for key in keys {
            let Ok(found) = client.get(key.clone()).await else {
                continue;
            };
            if found.is_some() {
                shared.count("reads of owned keys");
            } else if let Some(gone) = held.borrow_mut().get_mut(&key) {
                *gone = true;
            }
        }
        sleep(READ_PAUSE).await;
    }
}
