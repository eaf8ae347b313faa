//! A client that coordinates: it makes one request after the other, and records what it is told.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seshat::client::{
    Applied, Client, Conditional, Error, Found, Operation, PipelineOptions, Reply, Session,
};
use tokio::time::sleep;

use super::History;
use super::keys::{Keys, encode};
use super::memory::Memory;
use super::record::{Fact, Moment, Record, Told};
use super::request::{Entry, Outcome, Request};

/// Most transactions in a batch.
const MAX_BATCH: usize = 4;
/// Limits of scans.
const LIMITS: [u64; 4] = [1, 5, 100, 100];
/// The pause between attempts at the last requests.
const PAUSE: Duration = Duration::from_millis(50);

/// The test around an actor.
pub trait Witness {
    /// An actor tells what happened to it.
    fn tell(&self, line: fmt::Arguments<'_>);
    /// An event happened.
    fn count(&self, what: &str);
}

/// A client that shares keys with others.
pub struct Actor<W> {
    client: Client,
    rng: StdRng,
    keys: Keys,
    max_padding: u64,
    memory: Memory,
    session: Option<Session>,
    history: Arc<History>,
    witness: W,
    /// A flaw for a negative control: without a session, a conditional write is sent again if its answer is
    /// lost.
    pub resends: bool,
}

impl<W: Witness> Actor<W> {
    /// An actor that uses `client` and records its requests in `history`. Values have up to `max_padding`
    /// bytes of padding.
    pub fn new(
        client: Client,
        mut rng: StdRng,
        keys: Keys,
        max_padding: u64,
        history: &Arc<History>,
        witness: W,
    ) -> Self {
        let memory = StdRng::seed_from_u64(rng.r#gen());
        Self {
            client,
            memory: Memory::new(memory, keys.clone(), max_padding, history),
            rng,
            keys,
            max_padding,
            session: None,
            history: Arc::clone(history),
            witness,
            resends: false,
        }
    }

    /// Makes requests until `ends`, with pauses of up to `longest_pause`.
    pub async fn run(&mut self, ends: impl Fn() -> bool, longest_pause: Duration) {
        while !ends() {
            self.step().await;
            sleep(longest_pause.mul_f64(self.rng.gen_range(0.0..=1.0))).await;
        }
    }

    /// Waits until no key is left that is bound for a time; then reads all keys, until it is answered.
    pub async fn finish(&mut self) {
        while !self.all_are_for_ever().await {
            sleep(PAUSE).await;
        }
        let all = Request::read(&self.keys.all());
        while !(self.ask(&all).await && self.scan(self.keys.range(), u64::MAX).await) {
            sleep(PAUSE).await;
        }
    }

    async fn all_are_for_ever(&self) -> bool {
        let all = self.client.scan_range(self.keys.range()).collect().await;
        all.is_ok_and(|all| all.iter().all(|entry| entry.ttl.is_none()))
    }

    async fn step(&mut self) {
        match self.rng.gen_range(0..10) {
            0..3 => {
                let request = self.memory.write();
                self.write(&request).await;
            }
            3..5 => {
                let request = self.memory.transaction();
                self.ask(&request).await;
            }
            5 => {
                let request = self.memory.read_together();
                self.ask(&request).await;
            }
            6 => {
                let range = self.memory.range();
                let limit = LIMITS[self.rng.gen_range(0..LIMITS.len())];
                self.scan(range, limit).await;
            }
            7..9 => {
                let request = self.memory.transfer();
                self.ask(&request).await;
            }
            _ => self.batch().await,
        }
    }

    /// The session, opened if there is none; half of the requests are made without one.
    async fn session(&mut self) -> Option<Session> {
        if self.rng.gen_bool(0.5) {
            return None;
        }
        if self.session.is_none() {
            self.session = self.client.session().await.ok();
        }
        self.session.clone()
    }

    /// Makes a request of one write, on a condition or without one, by the call that exists for it.
    async fn write(&mut self, request: &Request) {
        let session = self.session().await;
        let start = self.history.moment();
        let answer = loop {
            let answer = self.write_once(request, session.as_ref()).await;
            if !self.resends || session.is_some() {
                break answer;
            }
            match &answer {
                Ok(_) if self.rng.gen_bool(0.1) => {}
                Err(error) if error.applied() == Applied::Unknown => {}
                _ => break answer,
            }
        };
        self.settle(request, start, answer);
    }

    async fn write_once(
        &self,
        request: &Request,
        session: Option<&Session>,
    ) -> Result<Outcome, Error> {
        let (condition, [write]) = (request.conditions.first(), &request.writes[..]) else {
            panic!("not one write: {request:?}");
        };
        let condition = condition.map(|(_, fact)| *fact);
        let key = &write.key;
        let value = |value| encode(value, self.max_padding);
        if write.value.is_none() {
            let delete = match session {
                Some(session) => session.delete(key.clone()),
                None => self.client.delete(key.clone()),
            };
            let deleted = match condition {
                Some(Fact::Version(version)) => delete.if_revision(version.revision).await,
                Some(Fact::Value(number)) => delete.if_value(value(number)).await,
                other => panic!("no condition of a removal: {other:?}"),
            };
            return deleted.map(|deleted| match deleted {
                Conditional::Succeeded(deleted) => {
                    assert!(deleted.existed, "{key} had a value");
                    done(deleted.applied_index)
                }
                Conditional::Failed(found) => not_done(key, found),
            });
        }
        let set = match session {
            Some(session) => session.set(key.clone(), write.bytes.clone()),
            None => self.client.set(key.clone(), write.bytes.clone()),
        };
        let set = match request.ttl {
            Some(ttl) => set.ttl(ttl),
            None => set,
        };
        let written = match condition {
            None => return set.await.map(|written| done(written.applied_index)),
            Some(Fact::Version(version)) => set.if_revision(version.revision).await,
            Some(Fact::Value(number)) => set.if_value(value(number)).await,
            Some(Fact::Missing | Fact::Bound) => set.if_absent().await,
        };
        written.map(|written| match written {
            Conditional::Succeeded(written) => done(written.applied_index),
            Conditional::Failed(found) => not_done(key, found),
        })
    }

    /// Makes a request as a transaction. Returns whether it is answered.
    async fn ask(&mut self, request: &Request) -> bool {
        let session = self.session().await;
        let txn = request.txn(self.max_padding);
        let start = self.history.moment();
        let mut call = match &session {
            Some(session) => session.txn(),
            None => self.client.txn(),
        };
        for condition in txn.conditions {
            call = call.when(condition);
        }
        for operation in txn.success {
            call = call.then(operation);
        }
        for operation in txn.failure {
            call = call.otherwise(operation);
        }
        let answer = call.await.map(|outcome| request.outcome(outcome));
        self.settle(request, start, answer)
    }

    /// Makes a few transactions, on a pipeline of their own.
    async fn batch(&mut self) {
        let count = self.rng.gen_range(1..=MAX_BATCH);
        let batch: Vec<_> = (0..count).map(|_| self.memory.transaction()).collect();
        let options = PipelineOptions::default();
        let opened = match self.session().await {
            Some(session) => session.pipeline(options).await,
            None => self.client.pipeline(options).await,
        };
        let Ok(pipeline) = opened else {
            return;
        };
        let start = self.history.moment();
        let txns = batch.iter().map(|request| request.txn(self.max_padding));
        let answers = match pipeline.submit(txns.map(Operation::Txn)).await {
            Ok(answers) => answers.await,
            Err(error) => return self.failed("a batch of transactions", &error),
        };
        for (request, answer) in batch.iter().zip(answers) {
            let answer = answer.map(|reply| match reply {
                Reply::Txn(outcome) => request.outcome(outcome),
                other => panic!("no outcome of a transaction: {other:?}"),
            });
            self.settle(request, start, answer);
        }
    }

    /// Reads the first keys of a range. Returns whether it is answered.
    async fn scan(&mut self, range: Range<String>, limit: u64) -> bool {
        let start = self.history.moment();
        let scan = self.client.scan_range(range.clone()).limit(limit);
        let mut entries = scan.stream();
        let mut found = Vec::new();
        while let Some(entry) = entries.next().await {
            match entry {
                Ok(entry) => found.push(entry),
                Err(error) => {
                    self.failed("scan", &error);
                    return false;
                }
            }
        }
        let revision = entries.revision().expect("it has ended well");
        // Behind the limit nothing is known.
        let end = match (entries.has_more(), found.last()) {
            (true, Some(last)) => [&last.key[..], &[0]].concat(),
            _ => range.end.into_bytes(),
        };
        let inside = |key: &String| range.start <= *key && key.as_bytes() < &end[..];
        let keys = self.keys.all().into_iter().filter(inside);
        let found = keys.map(|key| {
            let entry = found.iter().find(|entry| entry.key == key.as_bytes());
            (key, entry.cloned().map(Entry::from))
        });
        let outcome = Outcome {
            succeeded: true,
            revision,
            found: found.collect(),
        };
        self.witness.count("scans");
        self.settle(&Request::default(), start, Ok(outcome))
    }

    /// The outcome of a request. Returns whether it is answered.
    fn settle(&mut self, request: &Request, start: Moment, answer: Result<Outcome, Error>) -> bool {
        let writes = request.writes.iter().map(|it| (it.key.clone(), it.value));
        let mut record = Record {
            conditions: request.conditions.clone(),
            writes: writes.collect(),
            ttl: request.ttl,
            ..Record::new(start)
        };
        match answer {
            Ok(outcome) => record.told = Some(self.learn(request, outcome)),
            Err(error) => {
                self.failed(&format!("{record:?}"), &error);
                if !record.is_write() || error.applied() == Applied::No {
                    return false;
                }
                self.witness.count("transactions with unknown outcome");
                for write in &request.writes {
                    self.memory.forget(&write.key);
                }
            }
        }
        let is_answered = record.told.is_some();
        self.witness.tell(format_args!("{record:?}"));
        self.history.remember(record);
        is_answered
    }

    fn learn(&mut self, request: &Request, outcome: Outcome) -> Told {
        let Outcome {
            succeeded,
            revision,
            found,
        } = outcome;
        self.witness
            .count(match (request.writes.is_empty(), succeeded) {
                (true, _) => "reads of several keys",
                (false, true) => "transactions that wrote",
                (false, false) => "transactions that failed",
            });
        let seen = self.memory.saw_together(found);
        for write in request.writes.iter().filter(|_| succeeded) {
            let entry = write.entry(revision);
            self.memory.saw(&write.key, entry.as_ref());
        }
        Told {
            end: self.history.moment(),
            revision,
            succeeded,
            seen,
        }
    }

    /// A call failed. A session that has ended is left.
    fn failed(&mut self, what: &str, error: &Error) {
        let applied = error.applied();
        self.witness
            .tell(format_args!("{what}: {error} ({applied})"));
        if error.is_session_expired() {
            self.session = None;
        }
    }
}

/// A write that was carried out.
fn done(revision: u64) -> Outcome {
    Outcome {
        succeeded: true,
        revision,
        found: Vec::new(),
    }
}

/// A write whose condition did not hold, and its key as it was.
fn not_done(key: &str, found: Found) -> Outcome {
    let revision = found.revision;
    let entry = found.value.map(|bytes| Entry { bytes, revision });
    Outcome {
        succeeded: false,
        revision: found.applied_index,
        found: vec![(key.to_owned(), entry)],
    }
}
