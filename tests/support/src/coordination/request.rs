//! A request of an actor: as the Rust client takes it, and as the checker judges it.

use std::time::Duration;

use bytes::Bytes;
use seshat::client::{Condition, Txn, TxnOperation, TxnOutcome, TxnResult};

use super::keys::encode;
use super::record::Fact;

/// Conditions on keys, keys to be read, and writes that are carried out if all conditions hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) conditions: Vec<(String, Fact)>,
    /// Read before the writes. If a condition does not hold, the keys of the conditions are read too.
    pub(super) reads: Vec<String>,
    pub(super) writes: Vec<Write>,
    /// How long what it writes is bound. `None`: for ever.
    pub(super) ttl: Option<Duration>,
    /// Whether it reads what it has written.
    pub(super) reads_own: bool,
}

/// A write of a key.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) key: String,
    /// `None` removes the key.
    pub(super) value: Option<u64>,
    pub(super) bytes: Bytes,
}

impl Write {
    pub(super) fn remove(key: &str) -> Self {
        let (key, bytes) = (key.to_owned(), Bytes::new());
        Self {
            key,
            value: None,
            bytes,
        }
    }

    pub(super) fn set(key: &str, value: u64, bytes: Bytes) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(value),
            bytes,
        }
    }

    /// The key as this write, of `revision`, leaves it.
    pub(super) fn entry(&self, revision: u64) -> Option<Entry> {
        let bytes = self.bytes.clone();
        self.value.map(|_| Entry { bytes, revision })
    }
}

/// A key that is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: Bytes,
    /// Revision of the write.
    pub(super) revision: u64,
}

impl From<seshat::client::Entry> for Entry {
    fn from(entry: seshat::client::Entry) -> Self {
        Self {
            bytes: entry.value,
            revision: entry.revision,
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) succeeded: bool,
    pub(super) revision: u64,
    /// The entries that were read before the writes. `None`: the key is missing.
    pub(super) found: Vec<(String, Option<Entry>)>,
}

impl Request {
    /// A read of these keys together.
    pub(super) fn read(keys: &[String]) -> Self {
        Self {
            reads: keys.to_vec(),
            ..Self::default()
        }
    }

    /// The condition as the client states it.
    pub(super) fn condition((key, fact): &(String, Fact), max_padding: u64) -> Condition {
        let key = key.clone();
        match fact {
            Fact::Missing => Condition::missing(key),
            Fact::Bound => Condition::exists(key),
            Fact::Value(value) => Condition::value(key, encode(*value, max_padding)),
            Fact::Version(version) => Condition::revision(key, version.revision),
        }
    }

    /// The keys that are read before the writes if all conditions hold, or if one does not.
    fn read_keys(&self, succeeded: bool) -> Vec<&String> {
        let tested = self.conditions.iter().filter(|_| !succeeded);
        let tested = tested.map(|(key, _)| key);
        tested.chain(&self.reads).collect()
    }

    pub(super) fn txn(&self, max_padding: u64) -> Txn {
        let mut txn = Txn::default();
        for condition in &self.conditions {
            txn = txn.when(Self::condition(condition, max_padding));
        }
        for key in self.read_keys(true) {
            txn = txn.then(TxnOperation::get(key.clone()));
        }
        for Write { key, value, bytes } in &self.writes {
            let key = key.clone();
            txn = txn.then(match value {
                Some(_) => self.set(key, bytes.clone()),
                None => TxnOperation::delete(key),
            });
        }
        for write in self.writes.iter().filter(|_| self.reads_own) {
            txn = txn.then(TxnOperation::get(write.key.clone()));
        }
        for key in self.read_keys(false) {
            txn = txn.otherwise(TxnOperation::get(key.clone()));
        }
        txn
    }

    fn set(&self, key: String, bytes: Bytes) -> TxnOperation {
        let set = TxnOperation::set(key, bytes);
        match self.ttl {
            Some(ttl) => set.ttl(ttl),
            None => set,
        }
    }

    /// The outcome of [`txn`](Self::txn). Panics if it does not see its own writes.
    pub(super) fn outcome(&self, outcome: TxnOutcome) -> Outcome {
        let TxnOutcome {
            succeeded,
            results,
            revision,
            ..
        } = outcome;
        let mut results = results.into_iter();
        let keys = self.read_keys(succeeded);
        let found = keys.into_iter().map(|key| match results.next() {
            Some(TxnResult::Found(entry)) => (key.clone(), entry.map(Entry::from)),
            other => panic!("no read of {key}: {other:?}"),
        });
        let found = found.collect();
        let own = results.skip(self.writes.len()).filter_map(|it| match it {
            TxnResult::Found(entry) => Some(entry.map(Entry::from)),
            _ => None,
        });
        for (write, seen) in self.writes.iter().zip(own) {
            let written = write.entry(revision);
            assert_eq!(seen, written, "a transaction does not see its own writes");
        }
        Outcome {
            succeeded,
            revision,
            found,
        }
    }
}
