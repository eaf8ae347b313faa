//! Accounts: transfers between them keep the sum of all balances, which every read of them at one moment shows.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;

use super::History;
use super::record::{Fact, Version};
use super::request::{Entry, Request, Write};

/// The balance of each account when it is opened.
const OPENING: u64 = 100;

/// The balance of an account, as an actor has seen it last.
#[derive(Debug, Clone, Copy)]
struct Balance {
    version: Version,
    amount: u64,
}

/// What an actor knows of the accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    names: Vec<String>,
    /// `None`: the account has not been opened.
    known: BTreeMap<String, Option<Balance>>,
}

impl Accounts {
    pub(super) fn new(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            known: BTreeMap::new(),
        }
    }

    /// A transfer between two accounts that are as they were seen last; or else the opening of all accounts, or
    /// a read of them.
    pub(super) fn draw(&self, rng: &mut StdRng, history: &History) -> Request {
        let pair = self.names.iter().choose_multiple(rng, 2);
        let known = pair.iter().map(|name| self.known.get(*name));
        match known.collect::<Option<Vec<_>>>().as_deref() {
            Some([Some(from), Some(to)]) => {
                let amount = rng.gen_range(0..=from.amount);
                let value = history.fresh_value();
                Request {
                    conditions: vec![
                        (pair[0].clone(), Fact::Version(from.version)),
                        (pair[1].clone(), Fact::Version(to.version)),
                    ],
                    writes: vec![
                        write(pair[0], value, from.amount - amount),
                        write(pair[1], value, to.amount + amount),
                    ],
                    ..Request::default()
                }
            }
            Some([None, None]) => {
                let value = history.fresh_value();
                let missing = |name: &String| (name.clone(), Fact::Missing);
                let open = |name: &String| write(name, value, OPENING);
                Request {
                    conditions: self.names.iter().map(missing).collect(),
                    writes: self.names.iter().map(open).collect(),
                    ..Request::default()
                }
            }
            _ => Request::read(&self.names),
        }
    }

    /// The key, if it is an account, was seen like this.
    pub(super) fn saw(&mut self, key: &str, entry: Option<&Entry>) {
        if !self.names.iter().any(|name| name == key) {
            return;
        }
        let balance = entry.map(|entry| {
            let (value, amount) = decode(&entry.bytes);
            let revision = entry.revision;
            let version = Version { value, revision };
            Balance { version, amount }
        });
        self.known.insert(key.to_owned(), balance);
    }

    /// This write may have changed an account.
    pub(super) fn forget(&mut self, key: &str) {
        self.known.remove(key);
    }

    /// Panics unless these entries, of one moment, have the sum that all accounts have together. Without all of
    /// the accounts they say nothing.
    pub(super) fn audit(&self, found: &BTreeMap<String, Option<Entry>>) {
        let all = self.names.iter().map(|name| found.get(name));
        let Some(all) = all.collect::<Option<Vec<_>>>() else {
            return;
        };
        let open: Vec<_> = all.into_iter().flatten().collect();
        let sum: u64 = open.iter().map(|entry| decode(&entry.bytes).1).sum();
        let accounts = u64::try_from(self.names.len()).expect("a small number");
        assert!(
            open.is_empty() || (open.len() == self.names.len() && sum == accounts * OPENING),
            "the accounts have {sum} together: {open:?}"
        );
    }
}

fn write(name: &str, value: u64, amount: u64) -> Write {
    let mut bytes = BytesMut::new();
    bytes.put_u64(value);
    bytes.put_u64(amount);
    Write::set(name, value, bytes.freeze())
}

/// The number of the write, and the balance.
pub(super) fn decode(bytes: &Bytes) -> (u64, u64) {
    let (value, amount) = bytes.split_at(8);
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
    (number(value), number(amount))
}
