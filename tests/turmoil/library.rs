//! Clients that use the Rust client as a program does: sessions and pipelines, beside calls.
//!
//! Each has a key of its own beside the shared ones. It is the only writer of that key, so the possible
//! values are known exactly: once a numbered write is acknowledged, the key has its value, whatever was
//! sent before it and lost, and the answer tells whether the key was bound before.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::rngs::StdRng;
use seshat::client::{
    Applied, Client, Error, Operation, Pipeline, PipelineOptions, Reply, Session,
};
use tokio::time::sleep;

use crate::clients::{Habits, KEYS, name};
use crate::network::{channel, client_addr};
use crate::shared::Shared;
use seshat_test_support::coordination::{History, Moment, Record, Version, decode, encode};
use seshat_test_support::linearizability::Kind;

/// Most commands in a batch.
const MAX_BATCH: usize = 6;

/// A client of the nodes `1..=nodes`, over the simulated network.
pub(crate) fn client(nodes: u16, timeout: Duration, attempt: Duration, seed: u64) -> Client {
    let endpoints = (1..=nodes).map(client_addr);
    let builder = Client::builder().endpoints(endpoints).timeout(timeout);
    let builder = builder.attempt_timeout(attempt).simulated(channel, seed);
    builder.build().expect("endpoints")
}

/// One user of the library: it makes one request at a time, or one batch.
pub(crate) struct User {
    name: String,
    rng: StdRng,
    client: Client,
    session: Option<Session>,
    /// Without a session, and in one.
    pipelines: [Option<Pipeline>; 2],
    own: Own,
    habits: Habits,
    shared: Rc<Shared>,
}

impl User {
    pub(crate) fn new(
        name: String,
        mut rng: StdRng,
        nodes: u16,
        habits: Habits,
        shared: Rc<Shared>,
    ) -> Self {
        let attempt = Duration::from_millis([50, 200, 1_000][rng.gen_range(0..3)]);
        Self {
            client: client(nodes, habits.max_wait * 2, attempt, rng.r#gen()),
            own: Own::new(&name),
            name,
            rng,
            session: None,
            pipelines: [None, None],
            habits,
            shared,
        }
    }

    /// Makes one request after the other until the run ends, then until each key is read and its own one
    /// is written.
    pub(crate) async fn run(mut self) {
        while !self.shared.ending.get() {
            match self.rng.gen_range(0..10) {
                0..3 => drop(self.write_own().await),
                3..5 => drop(self.read_own().await),
                5..7 => drop(self.one().await),
                _ => self.batch().await,
            }
            let pause = self.rng.gen_range(0..=self.habits.longest_pause);
            sleep(Duration::from_millis(pause)).await;
        }
        for key in 0..KEYS {
            let kind = Kind::Read(None);
            let read = Asked { key, kind };
            while !self.ask(&read).await {
                sleep(Duration::from_millis(50)).await;
            }
        }
        while !(self.write_own().await && self.read_own().await) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The session, opened if there is none.
    async fn session(&mut self) -> Option<Session> {
        if self.session.is_none() {
            self.session = self.client.session().await.ok();
            self.shared.count("sessions");
        }
        self.session.clone()
    }

    /// Binds or removes its own key, in a session. Returns whether that is acknowledged.
    async fn write_own(&mut self) -> bool {
        let Some(session) = self.session().await else {
            return false;
        };
        let value = (self.rng.gen_bool(0.6)).then(|| self.shared.history.fresh_value());
        self.own.look(&self.shared);
        let (key, padding) = (self.own.key.clone(), self.habits.max_padding);
        let written = match (value, self.habits.unnumbered) {
            (Some(value), false) => {
                let set = session.set(key, encode(value, padding)).await;
                set.map(|_| None)
            }
            (None, false) => session.delete(key).await.map(|it| Some(it.existed)),
            (value, true) => self.unnumbered(key, value).await,
        };
        let what = format!("own = {value:?}");
        match &written {
            Ok(existed) => {
                self.tell(format_args!("{what}: applied, existed: {existed:?}"));
                self.shared.count("numbered writes");
                self.own.is(value, *existed, &self.shared);
            }
            Err(error) => {
                self.failed(&what, error);
                if error.applied() == Applied::Unknown {
                    self.own.may_be(value);
                }
            }
        }
        written.is_ok()
    }

    /// The flaw of a negative control: a write without a number is sent again until it is answered,
    /// and some answers are lost.
    async fn unnumbered(&mut self, key: Bytes, value: Option<u64>) -> Result<Option<bool>, Error> {
        loop {
            let written = match value {
                Some(value) => {
                    let value = encode(value, self.habits.max_padding);
                    self.client.set(key.clone(), value).await.map(|_| None)
                }
                None => {
                    let deleted = self.client.delete(key.clone()).await;
                    deleted.map(|deleted| Some(deleted.existed))
                }
            };
            match written {
                Ok(_) if self.rng.gen_bool(0.1) => {}
                Err(error) if error.applied() == Applied::Unknown => {}
                written => return written,
            }
        }
    }

    async fn read_own(&mut self) -> bool {
        self.own.look(&self.shared);
        match self.client.get(self.own.key.clone()).await {
            Ok(found) => {
                let found = found.map(|value| decode(&value, self.habits.max_padding));
                self.tell(format_args!("own is {found:?}"));
                self.own.was(found, &self.shared);
                true
            }
            Err(error) => {
                self.failed("get own", &error);
                false
            }
        }
    }

    /// One operation on a shared key.
    async fn one(&mut self) -> bool {
        let asked = Asked::draw(&mut self.rng, &self.shared.history);
        self.ask(&asked).await
    }

    async fn ask(&mut self, asked: &Asked) -> bool {
        let start = self.shared.history.moment();
        let (key, padding) = (name(asked.key), self.habits.max_padding);
        let answer = match asked.kind {
            Kind::Read(_) => self.client.get_with_index(key).await.map(Reply::Found),
            Kind::Write(value) if self.rng.gen_bool(0.5) => {
                let set = self.client.set(key, encode(value, padding)).await;
                set.map(Reply::Written)
            }
            Kind::Write(value) => {
                let Some(session) = self.session().await else {
                    return false;
                };
                let set = session.set(key, encode(value, padding)).await;
                set.map(Reply::Written)
            }
        };
        self.settle(asked, start, &answer)
    }

    /// A batch on a pipeline, in a session or without one.
    async fn batch(&mut self) {
        let numbered = self.rng.gen_bool(0.5);
        let Some(pipeline) = self.pipeline(numbered).await else {
            return;
        };
        let count = self.rng.gen_range(1..=MAX_BATCH);
        let batch: Vec<_> = (0..count)
            .map(|_| Asked::draw(&mut self.rng, &self.shared.history))
            .collect();
        let start = self.shared.history.moment();
        let padding = self.habits.max_padding;
        let submitted = pipeline.submit(batch.iter().map(|it| it.operation(padding)));
        let answers = match submitted.await {
            Ok(answers) => answers.await,
            Err(error) => return self.failed("batch", &error),
        };
        self.shared.count("batches");
        let mut last_index = 0;
        let mut well = true;
        for (asked, answer) in batch.iter().zip(&answers) {
            well &= self.settle(asked, start, answer);
            if let (Ok(Reply::Written(written)), false) = (answer, numbered) {
                let index = written.applied_index;
                assert!(
                    last_index < index,
                    "a pipeline is out of order: {answers:?}"
                );
                last_index = index;
            }
        }
        if well || numbered {
            self.pipelines[usize::from(numbered)] = Some(pipeline);
        }
    }

    /// The pipeline, opened if there is none. It is put back if it is to be used again.
    async fn pipeline(&mut self, numbered: bool) -> Option<Pipeline> {
        let opened = self.pipelines[usize::from(numbered)].take();
        if opened.is_some() {
            return opened;
        }
        let options = PipelineOptions::default();
        self.shared.count("pipelines");
        match numbered {
            true => self.session().await?.pipeline(options).await.ok(),
            false => self.client.pipeline(options).await.ok(),
        }
    }

    /// The outcome of an operation on a shared key. Returns whether it was answered.
    fn settle(&mut self, asked: &Asked, start: Moment, answer: &Result<Reply, Error>) -> bool {
        let Asked { key, kind } = *asked;
        let what = format!("{kind:?} of k{key}");
        let (history, name) = (&self.shared.history, name(key));
        let end = history.moment();
        match (answer, kind) {
            (Ok(Reply::Found(found)), _) => {
                let version = found.value.as_ref().map(|value| Version {
                    value: decode(value, self.habits.max_padding),
                    revision: found.revision,
                });
                self.tell(format_args!("{what}: {version:?}"));
                self.shared.count("reads");
                let index = found.applied_index;
                history.remember(Record::read(&name, start, end, version, index));
                true
            }
            (Ok(Reply::Written(written)), Kind::Write(value)) => {
                let index = written.applied_index;
                self.tell(format_args!("{what}: applied at {index}"));
                self.shared.count("writes");
                history.remember(Record::write(&name, start, value, Some((end, index))));
                true
            }
            (Ok(other), _) => panic!("shared keys are only read and bound: {other:?}"),
            (Err(error), kind) => {
                if let (Kind::Write(value), Applied::Unknown) = (kind, error.applied()) {
                    self.shared.count("writes with unknown outcome");
                    history.remember(Record::write(&name, start, value, None));
                }
                self.failed(&what, error);
                false
            }
        }
    }

    /// A call failed. A session that was given up is left.
    fn failed(&mut self, what: &str, error: &Error) {
        self.tell(format_args!("{what}: {error} ({})", error.applied()));
        if error.is_session_expired() {
            self.shared.count("sessions expired");
            self.session = None;
            self.pipelines[1] = None;
        }
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        let now = turmoil::sim_elapsed().expect("on a simulated host");
        self.shared.tell(now, format_args!("{}: {what}", self.name));
    }
}

/// An operation on a shared key.
struct Asked {
    key: u64,
    kind: Kind,
}

impl Asked {
    fn draw(rng: &mut StdRng, history: &History) -> Self {
        let kind = match rng.gen_bool(0.5) {
            true => Kind::Write(history.fresh_value()),
            false => Kind::Read(None),
        };
        let key = rng.gen_range(0..KEYS);
        Self { key, kind }
    }

    fn operation(&self, max_padding: u64) -> Operation {
        match self.kind {
            Kind::Write(value) => Operation::set(name(self.key), encode(value, max_padding)),
            Kind::Read(_) => Operation::get(name(self.key)),
        }
    }
}

/// A key with one writer, and its possible values.
struct Own {
    key: Bytes,
    /// `None`: anything, because acknowledged writes may have been lost.
    possible: Option<BTreeSet<Option<u64>>>,
    era: u64,
}

impl Own {
    fn new(user: &str) -> Self {
        Self {
            key: Bytes::from(format!("own/{user}")),
            possible: Some(BTreeSet::from([None])),
            era: 0,
        }
    }

    /// Any acknowledged write may have been lost by a recovery.
    fn look(&mut self, shared: &Shared) {
        if self.era != shared.era() {
            self.era = shared.era();
            self.possible = None;
        }
    }

    fn may_be(&mut self, value: Option<u64>) {
        if let Some(possible) = &mut self.possible {
            possible.insert(value);
        }
    }

    /// A write to `value` was acknowledged; a removal reports whether the key `existed`.
    fn is(&mut self, value: Option<u64>, existed: Option<bool>, shared: &Shared) {
        if self.era != shared.era() {
            return self.look(shared);
        }
        if let (Some(possible), Some(existed)) = (&self.possible, existed) {
            assert!(
                possible.iter().any(|it| it.is_some() == existed),
                "a numbered write was not applied once: the key was one of {possible:?}, and \
                 existed: {existed}"
            );
        }
        self.possible = Some(BTreeSet::from([value]));
    }

    fn was(&mut self, value: Option<u64>, shared: &Shared) {
        self.look(shared);
        if let Some(possible) = &self.possible {
            assert!(
                possible.contains(&value),
                "a numbered write was not applied once: the key is {value:?}, not one of \
                 {possible:?}"
            );
        }
    }
}
