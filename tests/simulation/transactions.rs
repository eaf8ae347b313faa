//! The transactions of clients: a client replaces some of its writes and reads by transactions that write
//! or read the same key, and often others, under conditions that it believes in.
//!
//! They are drawn apart, from random numbers of their own, so that the other requests of a seed are the
//! same with and without them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use seshat::kv::{
    Condition, KeyTest, Lifetime, Operation, OperationResult, Query, SetLifetime, Txn, TxnOutcome,
    Write,
};
use seshat::node::{Answer, Outcome};
use seshat::types::{ClientId, ClusterId, LogIndex, Revision};
use seshat_test_support::linearizability::Kind;

use crate::clients::{KEYS, decode};
use crate::numbered::REMOVED_KEYS;
use crate::scans::Scans;

/// The share of writes that become transactions.
const OF_WRITES: f64 = 0.4;
/// The share of reads that become transactions.
const OF_READS: f64 = 0.3;

/// The share of reads that become scans.
const SCANS: f64 = 0.1;

/// A transaction that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) cluster: ClusterId,
    pub(crate) index: LogIndex,
    pub(crate) txn: Txn,
    pub(crate) outcome: Arc<TxnOutcome>,
}

/// All transactions.
#[derive(Debug)]
pub(crate) struct Transactions {
    rng: StdRng,
    /// The entry of each key that some client has seen last.
    seen: BTreeMap<Bytes, (Bytes, Revision)>,
    /// Those without a number that were answered.
    pub(crate) told: Vec<Carried>,
    /// Answered transactions, each counted once.
    pub(crate) answered: u64,
    /// Of these, all conditions of which held, although there were some.
    pub(crate) conditional: u64,
    /// Whether some node takes part in a cluster that speaks of them.
    pub(crate) spoken: bool,
    /// Sessions that may live.
    pub(crate) owners: Vec<u64>,
}

impl Transactions {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(!seed),
            seen: BTreeMap::new(),
            told: Vec::new(),
            answered: 0,
            conditional: 0,
            spoken: false,
            owners: Vec::new(),
        }
    }

    /// A client has seen that `key` is bound to `value` by the write `revision`.
    pub(crate) fn saw(&mut self, key: &Bytes, value: &Bytes, revision: Revision) {
        let seen = (value.clone(), revision);
        self.seen.insert(key.clone(), seen);
    }

    /// A client was told that `write`, which carried out `succeeded` if it is a transaction, has `revision`.
    pub(crate) fn wrote(&mut self, write: &Write, succeeded: bool, revision: Revision) {
        let sets = match write {
            Write::Set { key, value } => vec![(key, value)],
            Write::Delete { .. } | Write::Acquire(_) | Write::Release(_) => Vec::new(),
            Write::Txn(txn) => {
                let operations = txn.branch(succeeded).iter();
                let sets = operations.filter_map(|operation| match operation {
                    Operation::Set { key, value, .. } => Some((key, value)),
                    Operation::Get(_) | Operation::Delete(_) => None,
                });
                sets.collect()
            }
        };
        for (key, value) in sets {
            self.saw(key, value, revision);
        }
    }

    /// The client of `txn` has seen its outcome.
    pub(crate) fn saw_all(&mut self, txn: &Txn, outcome: &TxnOutcome) {
        self.answered += 1;
        self.conditional += u64::from(outcome.succeeded && !txn.conditions.is_empty());
        for result in &outcome.results {
            if let OperationResult::Got(Some(entry)) = result {
                self.saw(&entry.key, &entry.value, entry.revision);
            }
        }
    }

    /// `write`, or a transaction in its place.
    pub(crate) fn instead_of(&mut self, write: Write) -> Write {
        if !self.spoken || !self.rng.gen_bool(OF_WRITES) {
            return write;
        }
        let key = match &write {
            Write::Set { key, .. } | Write::Delete { key } => key.clone(),
            Write::Txn(_) | Write::Acquire(_) | Write::Release(_) => return write,
        };
        let own = match write {
            Write::Set { key, value } => Operation::Set {
                lifetime: self.lifetime(&key),
                key,
                value,
            },
            Write::Delete { key } => Operation::Delete(key),
            Write::Txn(_) | Write::Acquire(_) | Write::Release(_) => return write,
        };
        let conditions = self.conditions(&key);
        let success = self.branch(&own);
        let failure = match self.rng.gen_range(0..4) {
            0 => Vec::new(),
            1 => self.branch(&own),
            _ => vec![Operation::Get(key)],
        };
        Write::Txn(Box::new(Txn {
            conditions,
            success,
            failure,
        }))
    }

    /// A read of `key`, or a transaction that reads it.
    pub(crate) fn instead_of_read(&mut self, key: &Bytes, scans: &Scans) -> Query {
        if self.rng.gen_bool(SCANS) {
            return scans.draw(&mut self.rng);
        }
        if !self.spoken || !self.rng.gen_bool(OF_READS) {
            return Query::Get(key.clone());
        }
        let conditions = self.conditions(key);
        let success = self.reads(key);
        let failure = self.reads(key);
        Query::Txn(Box::new(Txn {
            conditions,
            success,
            failure,
        }))
    }

    /// Up to two, one of them rather often of `key`.
    fn conditions(&mut self, key: &Bytes) -> Vec<Condition> {
        let count = self.rng.gen_range(0..=2);
        let condition = |_| {
            let key = match self.rng.gen_bool(0.7) {
                true => key.clone(),
                false => self.any_key(),
            };
            let test = self.test(&key);
            Condition::Key { key, test }
        };
        (0..count).map(condition).collect()
    }

    /// Most tests ask whether the key is as it was seen last.
    fn test(&mut self, key: &Bytes) -> KeyTest {
        let seen = self.seen.get(key);
        match (self.rng.gen_range(0..10), seen) {
            (0..=4, Some((_, revision))) => KeyTest::Revision(*revision),
            (5 | 6, Some((value, _))) => KeyTest::Value(value.clone()),
            (0..=6, None) | (7, _) => KeyTest::Revision(0),
            (exists, _) => KeyTest::Exists(exists == 8),
        }
    }

    /// `own`, and often operations on other keys before and after it.
    fn branch(&mut self, own: &Operation) -> Vec<Operation> {
        let mut operations = vec![own.clone()];
        for _ in 0..self.rng.gen_range(0..=2) {
            let operation = match (self.rng.gen_range(0..4), own) {
                (0, _) => Operation::Delete(self.removed_key()),
                (1, Operation::Set { value, .. }) => {
                    let key = self.any_key();
                    Operation::Set {
                        lifetime: self.lifetime(&key),
                        key,
                        value: value.clone(),
                    }
                }
                _ => Operation::Get(self.any_key()),
            };
            let written = operations.iter().filter(|it| it.writes());
            let twice = written.clone().any(|it| it.key() == operation.key());
            if !operation.writes() || !twice {
                operations.push(operation);
            }
        }
        operations.shuffle(&mut self.rng);
        operations
    }

    /// Keys that are removed may end as well.
    fn lifetime(&mut self, key: &Bytes) -> SetLifetime {
        if !key.starts_with(b"d") {
            return SetLifetime::default();
        }
        match (self.rng.gen_range(0..4), self.owners.choose(&mut self.rng)) {
            (0, _) => SetLifetime::To(Lifetime::Ttl(self.rng.gen_range(1_000..3_000))),
            (1, Some(owner)) => SetLifetime::To(Lifetime::Owner(ClientId(*owner))),
            (2, _) => SetLifetime::Keep,
            _ => SetLifetime::default(),
        }
    }

    fn reads(&mut self, key: &Bytes) -> Vec<Operation> {
        let mut reads = vec![Operation::Get(key.clone())];
        let others = self.rng.gen_range(0..=2);
        reads.extend((0..others).map(|_| Operation::Get(self.any_key())));
        reads
    }

    fn any_key(&mut self) -> Bytes {
        match self.rng.gen_bool(0.2) {
            true => self.removed_key(),
            false => Bytes::from(format!("k{}", self.rng.gen_range(0..KEYS))),
        }
    }

    fn removed_key(&mut self) -> Bytes {
        Bytes::from(format!("d{}", self.rng.gen_range(0..REMOVED_KEYS)))
    }
}

/// The reads and writes of `txn` with this outcome, each as an operation of the key alone. That says less
/// than the transaction, which does them at one moment: `transactions_see_the_log` checks that.
pub(crate) fn accesses(txn: &Txn, outcome: &TxnOutcome) -> Vec<(Bytes, Kind)> {
    let operations = txn.branch(outcome.succeeded).iter().zip(&outcome.results);
    let accesses = operations.filter_map(|(operation, result)| match (operation, result) {
        (Operation::Set { value, .. }, _) => Some((operation.key(), Kind::Write(decode(value)))),
        (Operation::Get(key), OperationResult::Got(entry)) => {
            let value = entry.as_ref().map(|entry| decode(&entry.value));
            Some((key, Kind::Read(value)))
        }
        _ => None,
    });
    let of_success = txn.conditions.iter().filter(|_| outcome.succeeded);
    let tested = of_success.filter_map(|condition| {
        let Condition::Key { key, test } = condition else {
            return None;
        };
        let value = match test {
            KeyTest::Value(value) => Some(decode(value)),
            KeyTest::Exists(false) | KeyTest::Revision(0) => None,
            KeyTest::Exists(true) | KeyTest::Revision(_) => return None,
        };
        Some((key, Kind::Read(value)))
    });
    let all = tested.chain(accesses);
    all.map(|(key, kind)| (key.clone(), kind)).collect()
}

/// Whether the transaction in an answer has succeeded. A write without conditions always does.
pub(crate) fn succeeded(answer: &Outcome) -> bool {
    match answer {
        Ok(Answer::Txn { outcome, .. }) => outcome.succeeded,
        _ => true,
    }
}

/// The keys that `write` may bind, with their values.
pub(crate) fn possible(write: &Write) -> BTreeMap<Bytes, Bytes> {
    match write {
        Write::Set { key, value } => BTreeMap::from([(key.clone(), value.clone())]),
        Write::Delete { .. } | Write::Acquire(_) | Write::Release(_) => BTreeMap::new(),
        Write::Txn(txn) => {
            let sets = txn.operations().filter_map(|operation| match operation {
                Operation::Set { key, value, .. } => Some((key.clone(), value.clone())),
                Operation::Get(_) | Operation::Delete(_) => None,
            });
            sets.collect()
        }
    }
}
