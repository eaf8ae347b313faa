//! What an actor has seen, and the requests that it makes of that.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom as _, SliceRandom as _};

use super::History;
use super::accounts::Accounts;
use super::keys::{Keys, encode};
use super::record::{Fact, Version};
use super::request::{Entry, Request, Write};

/// The share of single writes to keys that are bound for a time alone.
const BRIEF: f64 = 0.3;
/// The share of values that are bound for a time, of those that may be.
const WITH_TTL: f64 = 0.5;
/// How long these are bound, in milliseconds.
const TTL: std::ops::Range<u64> = 1_000..2_000;

/// The keys as an actor has seen them last.
pub(super) struct Memory {
    rng: StdRng,
    keys: Keys,
    max_padding: u64,
    history: Arc<History>,
    seen: BTreeMap<String, Option<Version>>,
    accounts: Accounts,
}

impl Memory {
    pub(super) fn new(rng: StdRng, keys: Keys, max_padding: u64, history: &Arc<History>) -> Self {
        Self {
            rng,
            accounts: Accounts::new(&keys.accounts),
            keys,
            max_padding,
            history: Arc::clone(history),
            seen: BTreeMap::new(),
        }
    }

    /// A transfer between accounts, or what has to come before it.
    pub(super) fn transfer(&mut self) -> Request {
        self.accounts.draw(&mut self.rng, &self.history)
    }

    /// A write of one key, often on a condition of that key.
    pub(super) fn write(&mut self) -> Request {
        if self.rng.gen_bool(BRIEF) {
            return self.write_brief();
        }
        let key = self.any_key();
        let seen = self.seen.get(&key).copied().flatten();
        let condition = match (self.rng.gen_range(0..8), seen) {
            (0, _) => None,
            (1, _) | (_, None) => Some(Fact::Missing),
            (2 | 3, Some(version)) => Some(Fact::Value(version.value)),
            (_, Some(version)) => Some(Fact::Version(version)),
        };
        let may_remove = !matches!(condition, None | Some(Fact::Missing));
        let removes = may_remove && self.rng.gen_bool(0.5);
        let write = match removes && self.keys.removable.contains(&key) {
            true => Write::remove(&key),
            false => self.set(&key, self.history.fresh_value()),
        };
        self.maybe_for_a_time(Request {
            conditions: condition.map(|it| (key, it)).into_iter().collect(),
            writes: vec![write],
            ..Request::default()
        })
    }

    /// A write of a key that is bound for a time alone, if it is missing.
    fn write_brief(&mut self) -> Request {
        let key = self.keys.brief.choose(&mut self.rng).expect("keys").clone();
        let write = self.set(&key, self.history.fresh_value());
        Request {
            conditions: vec![(key, Fact::Missing)],
            writes: vec![write],
            ttl: Some(self.ttl()),
            ..Request::default()
        }
    }

    fn ttl(&mut self) -> Duration {
        Duration::from_millis(self.rng.gen_range(TTL))
    }

    /// The request, or the same whose value is bound for a time.
    fn maybe_for_a_time(&mut self, mut request: Request) -> Request {
        let removable = |write: &Write| self.keys.removable.contains(&write.key);
        let may = matches!(&request.writes[..], [write] if removable(write));
        if may && self.rng.gen_bool(WITH_TTL) {
            request.ttl = Some(self.ttl());
        }
        request
    }

    /// Conditions, reads and writes of up to three keys.
    pub(super) fn transaction(&mut self) -> Request {
        let count = self.rng.gen_range(1..=3);
        let all = self.keys.kept.iter().chain(&self.keys.removable);
        let mut keys: Vec<_> = all.cloned().choose_multiple(&mut self.rng, count);
        keys.shuffle(&mut self.rng);
        let value = self.history.fresh_value();
        let reads_own = self.rng.gen_bool(0.3);
        let mut request = Request {
            reads_own,
            ..Request::default()
        };
        for key in keys {
            let seen = self.seen.get(&key).copied().flatten();
            let removable = self.keys.removable.contains(&key);
            match (self.rng.gen_range(0..6), seen) {
                (0, Some(version)) if removable => {
                    let condition = (key.clone(), Fact::Version(version));
                    request.conditions.push(condition);
                    request.writes.push(Write::remove(&key));
                    continue;
                }
                (0..=2, Some(version)) => request
                    .conditions
                    .push((key.clone(), Fact::Version(version))),
                (3, Some(version)) => {
                    request
                        .conditions
                        .push((key.clone(), Fact::Value(version.value)));
                }
                (4, _) => {
                    request.conditions.push((key.clone(), Fact::Bound));
                    request.reads.push(key.clone());
                }
                (_, None) if self.rng.gen_bool(0.5) => {
                    request.conditions.push((key.clone(), Fact::Missing));
                }
                _ => {}
            }
            match self.rng.gen_bool(0.7) {
                true => request.writes.push(self.set(&key, value)),
                false => request.reads.push(key),
            }
        }
        self.maybe_for_a_time(request)
    }

    /// A read of several keys, or of all accounts.
    pub(super) fn read_together(&mut self) -> Request {
        let all = self.keys.all();
        let count = self.rng.gen_range(1..=all.len());
        match self.rng.gen_bool(0.5) {
            true => Request::read(&self.keys.accounts),
            false => Request::read(&all.into_iter().choose_multiple(&mut self.rng, count)),
        }
    }

    /// A range of keys.
    pub(super) fn range(&mut self) -> Range<String> {
        let all = self.keys.range();
        let keys = self.keys.all();
        let mut key = || keys.choose(&mut self.rng).expect("keys").clone();
        let (one, other) = (key(), key());
        match self.rng.gen_range(0..3) {
            0 if one < other => one..other,
            1 => one..all.end,
            _ => all,
        }
    }

    fn any_key(&mut self) -> String {
        let all = self.keys.kept.iter().chain(&self.keys.removable);
        all.choose(&mut self.rng).expect("keys").clone()
    }

    fn set(&self, key: &str, value: u64) -> Write {
        Write::set(key, value, encode(value, self.max_padding))
    }

    /// A key, of which everything is known at this moment.
    pub(super) fn saw(&mut self, key: &str, entry: Option<&Entry>) -> Option<Version> {
        self.accounts.saw(key, entry);
        let version = entry.map(|entry| self.keys.version(key, entry, self.max_padding));
        self.seen.insert(key.to_owned(), version);
        version
    }

    /// Keys at one moment. Panics if the sum of the accounts has changed. Returns what was seen, for the checker.
    pub(super) fn saw_together(
        &mut self,
        found: Vec<(String, Option<Entry>)>,
    ) -> Vec<(String, Fact)> {
        let found: BTreeMap<_, _> = found.into_iter().collect();
        self.accounts.audit(&found);
        let facts = found.into_iter().map(|(key, entry)| {
            let version = self.saw(&key, entry.as_ref());
            (key, Fact::found(version))
        });
        facts.collect()
    }

    /// A write of unknown outcome may have changed the key.
    pub(super) fn forget(&mut self, key: &str) {
        self.accounts.forget(key);
    }
}
