//! A little store for nodes that a test makes up: it carries out transactions, reads intervals of keys, and
//! remembers revisions and lifetimes. Nothing expires, and every lock is held under every token.

use std::collections::BTreeMap;

use bytes::Bytes;
use seshat::proto::kv::condition::Condition as Tested;
use seshat::proto::kv::key_condition::Test;
use seshat::proto::kv::key_range::Range;
use seshat::proto::kv::operation::Operation as Asked;
use seshat::proto::kv::operation_result::Result as Done;
use seshat::proto::kv::set_operation::Lifetime;
use seshat::proto::kv::{
    Condition, DeleteResult, Entry, GetResult, Operation, OperationResult, ScanRequest,
    ScanResponse, SetResult, TxnRequest, TxnResponse,
};

/// A map of keys to values, each with the revision of its write.
#[derive(Debug, Default)]
pub struct Store {
    map: BTreeMap<Bytes, (Bytes, u64)>,
    lifetimes: BTreeMap<Bytes, Lifetime>,
}

impl Store {
    /// The value of `key`, and the revision of its write.
    pub fn get(&self, key: &Bytes) -> Option<(Bytes, u64)> {
        self.map.get(key).cloned()
    }

    /// Binds `key` by the write `revision`.
    pub fn set(&mut self, key: Bytes, value: Bytes, revision: u64) {
        self.lifetimes.remove(&key);
        self.map.insert(key, (value, revision));
    }

    /// Removes `key`. Returns whether it was bound.
    pub fn delete(&mut self, key: &Bytes) -> bool {
        self.lifetimes.remove(key);
        self.map.remove(key).is_some()
    }

    /// Carries out a transaction as the write `revision`.
    pub fn carry_out(&mut self, txn: TxnRequest, revision: u64) -> TxnResponse {
        let succeeded = txn.conditions.iter().all(|it| self.holds(it));
        let operations = match succeeded {
            true => txn.success,
            false => txn.failure,
        };
        let results = operations
            .into_iter()
            .map(|operation| OperationResult {
                result: Some(self.operate(operation, revision)),
            })
            .collect();
        TxnResponse {
            succeeded,
            results,
            revision,
            cluster_id: None,
        }
    }

    /// The parts of the answer to `request`, with at most `part_keys` keys each.
    pub fn scan(
        &self,
        request: &ScanRequest,
        revision: u64,
        part_keys: usize,
    ) -> Vec<ScanResponse> {
        let range = request.range.as_ref().and_then(|it| it.range.as_ref());
        let Some(Range::Interval(interval)) = range else {
            panic!("{range:?}");
        };
        let limit = match request.limit {
            0 => usize::MAX,
            limit => limit.try_into().expect("a limit"),
        };
        let of_range = |key: &Bytes| {
            *key >= interval.start && interval.end.as_ref().is_none_or(|end| key < end)
        };
        let mut found: Vec<_> = self.map.iter().filter(|(key, _)| of_range(key)).collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let entry = |(key, _): &(&Bytes, &(Bytes, u64))| {
            let entry = self.entry(key).expect("a key of the map");
            match request.keys_only {
                true => Entry {
                    value: Bytes::new(),
                    ..entry
                },
                false => entry,
            }
        };
        let count = found.len();
        let mut parts: Vec<_> = found
            .chunks(part_keys)
            .map(|part| ScanResponse {
                entries: match request.count_only {
                    true => Vec::new(),
                    false => part.iter().map(entry).collect(),
                },
                revision,
                more: true,
                ..ScanResponse::default()
            })
            .collect();
        if parts.is_empty() {
            parts.push(ScanResponse {
                revision,
                ..ScanResponse::default()
            });
        }
        if let Some(last) = parts.last_mut() {
            last.count = count.try_into().expect("a count");
            last.more = more;
        }
        parts
    }

    fn entry(&self, key: &Bytes) -> Option<Entry> {
        let (value, revision) = self.get(key)?;
        let lifetime = self.lifetimes.get(key);
        Some(Entry {
            key: key.clone(),
            value,
            revision,
            ttl: match lifetime {
                Some(Lifetime::Ttl(ttl)) => Some(*ttl),
                _ => None,
            },
            owner: match lifetime {
                Some(Lifetime::Owner(owner)) => *owner,
                _ => 0,
            },
        })
    }

    fn holds(&self, condition: &Condition) -> bool {
        let tested = match &condition.condition {
            Some(Tested::Key(tested)) => tested,
            Some(Tested::Lock(_)) => return true,
            None => panic!("{condition:?}"),
        };
        let bound = self.map.get(&tested.key);
        match tested.test.as_ref().expect("a test") {
            Test::Exists(exists) => bound.is_some() == *exists,
            Test::Revision(wanted) => bound.map_or(0, |(_, revision)| *revision) == *wanted,
            Test::Value(wanted) => bound.is_some_and(|(value, _)| value == wanted),
        }
    }

    fn operate(&mut self, operation: Operation, revision: u64) -> Done {
        match operation.operation.expect("an operation") {
            Asked::Set(set) => {
                let lifetime = match set.lifetime {
                    Some(Lifetime::Keep(_)) => self.lifetimes.get(&set.key).cloned(),
                    lifetime => lifetime,
                };
                self.set(set.key.clone(), set.value, revision);
                self.lifetimes.extend(lifetime.map(|it| (set.key, it)));
                Done::Set(SetResult {})
            }
            Asked::Get(get) => Done::Get(GetResult {
                entry: self.entry(&get.key),
            }),
            Asked::Delete(delete) => Done::Delete(DeleteResult {
                existed: self.delete(&delete.key),
            }),
        }
    }
}

/// Whether a transaction may write.
pub fn writes(txn: &TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure);
    operations.any(|it| !matches!(it.operation, Some(Asked::Get(_))))
}
