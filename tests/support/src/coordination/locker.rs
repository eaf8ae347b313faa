//! A client that takes a lock again and again, and counts under it.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use seshat::client::{
    Applied, Client, Condition, Conditional, Error, LivingSession, Lock, LockAttempt, TxnOperation,
};
use tokio::time::{sleep, timeout};

use super::History;
use super::actor::Witness;
use super::keys::{Keys, decode, encode};
use super::record::{Fact, Moment, Record, Version};
use super::tenures::{Contradiction, Tenure};

/// TTLs of sessions: an election may cost the session or not.
const TTLS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// The longest wait for the lock.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a holder stands still at most. Its session may be over then.
const LONGEST_STILL: Duration = Duration::from_secs(2);
/// The longest pause under the lock, and without it.
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// Most counts under the lock.
const MAX_COUNTS: u32 = 5;

/// A living session, and a key that it owns.
struct Opened {
    session: LivingSession,
    /// `None`: it is not known whether the key was bound.
    key: Option<String>,
    since: Moment,
}

/// What a write needs in order to take effect.
enum Guard<'a> {
    Lock(&'a Lock),
    Token(Condition),
}

/// A client that shares a lock and a counter with others. Each count reads the counter and writes the next value, on
/// no other condition than that the lock is held.
pub struct Locker<W> {
    client: Client,
    rng: StdRng,
    keys: Keys,
    history: Arc<History>,
    witness: W,
    session: Option<Opened>,
    /// A flaw for a negative control: it never asks whether it has lost the lock, and its writes do not need it.
    pub trusts: bool,
}

impl<W: Witness> Locker<W> {
    pub fn new(
        client: Client,
        rng: StdRng,
        keys: Keys,
        history: &Arc<History>,
        witness: W,
    ) -> Self {
        Self {
            client,
            rng,
            keys,
            history: Arc::clone(history),
            witness,
            session: None,
            trusts: false,
        }
    }

    /// Takes the lock again and again until `ends`.
    pub async fn run(&mut self, ends: impl Fn() -> bool) {
        while !ends() {
            self.turn().await;
            self.pause().await;
        }
    }

    /// Takes the lock until it has counted once more.
    pub async fn finish(&mut self) {
        while !self.turn().await {
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        sleep(LONGEST_PAUSE.mul_f64(self.rng.gen_range(0.0..=1.0))).await;
    }

    /// Asks for the lock, counts under it, and gives it back. Returns whether it has counted.
    async fn turn(&mut self) -> bool {
        let asked = self.history.moment();
        let lock = match self.acquire().await {
            Ok(Some(lock)) => lock,
            Ok(None) => return false,
            Err(error) => {
                self.failed("no lock", &error);
                return false;
            }
        };
        let token = lock.token();
        self.witness
            .tell(format_args!("holds the lock under {token}"));
        self.witness.count("locks held");
        let mut tenure = Tenure {
            name: lock.name().to_owned(),
            token,
            asked,
            sure: None,
            refused: None,
        };
        let wanted = self.rng.gen_range(1..=MAX_COUNTS);
        let mut counts = 0;
        while counts < wanted && self.is_sure(&lock, &mut tenure) {
            if !self.count(&lock, &mut tenure).await {
                break;
            }
            counts += 1;
            self.pause().await;
        }
        // A holder that is too late: it reads under the lock, and writes without it. It has no other write under way.
        let may_be_late = self.is_sure(&lock, &mut tenure) && counts == wanted;
        let late = match may_be_late && self.rng.gen_bool(0.3) {
            true => self.read().await,
            false => None,
        };
        self.give_back(lock).await;
        if let Some(version) = late {
            self.pause().await;
            let held = Condition::token(tenure.name.clone(), token);
            self.write(version, Guard::Token(held), &mut tenure).await;
        }
        self.witness.tell(format_args!("{tenure:?}"));
        self.history.held(tenure);
        counts > 0
    }

    async fn give_back(&mut self, lock: Lock) {
        if self.rng.gen_bool(0.3) {
            return drop(lock);
        }
        if let Err(error) = lock.release().await {
            self.failed("release", &error);
        }
    }

    /// The lock, if it is free in time.
    async fn acquire(&mut self) -> Result<Option<Lock>, Error> {
        let name = self.keys.lock.clone();
        let wait = LONGEST_WAIT.mul_f64(self.rng.gen_range(0.0..=1.0));
        let ttl = TTLS[self.rng.gen_range(0..TTLS.len())];
        if self.rng.gen_bool(0.2) {
            let acquired = timeout(wait, self.client.lock(name).ttl(ttl)).await;
            return acquired.ok().transpose();
        }
        let session = self.session(ttl).await?;
        let attempt = match self.rng.gen_range(0..3) {
            // A claim that is given up on the way.
            0 => return timeout(wait, session.lock(name)).await.ok().transpose(),
            1 => session.lock(name).max_wait(wait).await?,
            _ => session.lock(name).no_wait().await?,
        };
        if let LockAttempt::Occupied(holder) = &attempt {
            self.witness.tell(format_args!(
                "held by {:016x} under {}",
                holder.client_id, holder.token
            ));
        }
        Ok(attempt.acquired())
    }

    /// The session, opened if there is none that lives.
    async fn session(&mut self, ttl: Duration) -> Result<LivingSession, Error> {
        if let Some(opened) = self.session.take_if(|it| !it.session.is_lost()) {
            self.owns(&opened).await;
            return Ok(self.session.insert(opened).session.clone());
        }
        let since = self.history.moment();
        let session = self.client.session().ttl(ttl).await?;
        self.witness.count("sessions of lockers");
        let key = format!("{}{:016x}", self.keys.owned, session.id());
        let owned = session.set(key.clone(), "").owned_by(&session).await;
        let opened = Opened {
            session,
            key: owned.is_ok().then_some(key),
            since,
        };
        Ok(self.session.insert(opened).session.clone())
    }

    /// Whether a session that is not lost owns its key.
    async fn owns(&self, opened: &Opened) {
        let Some(key) = &opened.key else {
            return;
        };
        let Ok(found) = self.client.get(key.clone()).await else {
            return;
        };
        self.witness.count("owned keys seen");
        if found.is_none() && !opened.session.is_lost() {
            self.history.contradicted(Contradiction {
                start: opened.since,
                end: self.history.moment(),
                what: format!("{key} is gone, and its session is not lost"),
            });
        }
    }

    /// Whether the lock is surely held.
    fn is_sure(&self, lock: &Lock, tenure: &mut Tenure) -> bool {
        let moment = self.history.moment();
        if !self.trusts && lock.is_lost() {
            self.witness.count("locks lost");
            return false;
        }
        let first = tenure.sure.map_or(moment, |(first, _)| first);
        tenure.sure = Some((first, moment));
        true
    }

    /// Reads the counter, and writes its next value. Returns whether that is acknowledged.
    async fn count(&mut self, lock: &Lock, tenure: &mut Tenure) -> bool {
        let Some(version) = self.read().await else {
            return false;
        };
        if self.rng.gen_bool(0.05) {
            sleep(LONGEST_STILL.mul_f64(self.rng.gen_range(0.0..=1.0))).await;
        }
        self.write(version, Guard::Lock(lock), tenure).await
    }

    /// The version of the counter, if the read is answered.
    async fn read(&self) -> Option<Option<Version>> {
        let start = self.history.moment();
        let counter = &self.keys.counter;
        let found = match self.client.get_with_index(counter.clone()).await {
            Ok(found) => found,
            Err(error) => {
                self.failed("get the counter", &error);
                return None;
            }
        };
        let version = found.value.as_ref().map(|value| Version {
            value: decode(value, 0),
            revision: found.revision,
        });
        let end = self.history.moment();
        let read = Record::read(counter, start, end, version, found.applied_index);
        self.history.remember(read);
        Some(version)
    }

    /// Writes a new value of the counter, which was `version` under the lock. Returns whether that is acknowledged.
    async fn write(
        &mut self,
        version: Option<Version>,
        guard: Guard<'_>,
        tenure: &mut Tenure,
    ) -> bool {
        let counter = self.keys.counter.clone();
        let value = self.history.fresh_value();
        let mut record = Record {
            // The lock says so.
            conditions: vec![(counter.clone(), Fact::found(version))],
            writes: vec![(counter, Some(value))],
            ..Record::new(self.history.moment())
        };
        let place = self.history.sent(record.clone());
        let written = self.write_guarded(value, guard).await;
        match &written {
            Ok(Some(revision)) => {
                record.is_done(self.history.moment(), *revision);
                self.witness.count("counts under a lock");
            }
            Ok(None) => {
                self.witness.count("counts refused without the lock");
                tenure.refused = Some(self.history.moment());
            }
            Err(error) => self.failed(&format!("{record:?}"), error),
        }
        let may_be_done = match &written {
            Ok(revision) => revision.is_some(),
            Err(error) => error.applied() == Applied::Unknown,
        };
        self.history.ended(place, may_be_done.then_some(record));
        matches!(written, Ok(Some(_)))
    }

    /// The revision of the write. `None`: the lock was not held.
    async fn write_guarded(&self, value: u64, guard: Guard<'_>) -> Result<Option<u64>, Error> {
        let (counter, value) = (self.keys.counter.clone(), encode(value, 0));
        if self.trusts {
            let written = self.client.set(counter, value).await?;
            return Ok(Some(written.applied_index));
        }
        Ok(match guard {
            Guard::Lock(lock) => match lock.session().set(counter, value).if_held(lock).await? {
                Conditional::Succeeded(written) => Some(written.applied_index),
                Conditional::Failed(_) => None,
            },
            Guard::Token(held) => {
                let set = TxnOperation::set(counter, value);
                let outcome = self.client.txn().when(held).then(set).await?;
                outcome.succeeded.then_some(outcome.revision)
            }
        })
    }

    fn failed(&self, what: &str, error: &Error) {
        let applied = error.applied();
        self.witness
            .tell(format_args!("{what}: {error} ({applied})"));
    }
}
