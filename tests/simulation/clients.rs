//! Clients that write and read all the time, and remember what they were told.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use seshat::error::Applied;
use seshat::kv::{Command, Write};
use seshat::node::{Answer, Outcome};
use seshat::types::{LogIndex, NodeId};

use crate::checker::{Kind, Operation};

/// A caller, as the core knows it.
pub(crate) type Waiter = u64;

/// Keys that the clients share: few, so that they meet.
const KEYS: u64 = 4;

/// What a client wants.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Write(Command),
    Read(Bytes),
}

/// An operation under way.
#[derive(Debug)]
struct Pending {
    key: Bytes,
    kind: Kind,
    start: u64,
    node: NodeId,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) index: LogIndex,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// All clients together.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    next: Waiter,
    pending: BTreeMap<Waiter, Pending>,
    pub(crate) history: BTreeMap<Bytes, Vec<Operation>>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) reads: u64,
    pub(crate) refused: u64,
}

pub(crate) fn encode(value: u64) -> Bytes {
    Bytes::from(value.to_string())
}

fn decode(value: &Bytes) -> u64 {
    let text = std::str::from_utf8(value).expect("clients write numbers");
    text.parse().expect("clients write numbers")
}

impl Clients {
    /// A new request to `node`, at `now`. Every value is written once.
    pub(crate) fn ask(&mut self, rng: &mut StdRng, node: NodeId, now: u64) -> (Waiter, Request) {
        self.next += 1;
        let waiter = self.next;
        let key = Bytes::from(format!("k{}", rng.gen_range(0..KEYS)));
        let (kind, request) = if rng.gen_bool(0.5) {
            let command = Command::from(Write::Set {
                key: key.clone(),
                value: encode(waiter),
            });
            (Kind::Write(waiter), Request::Write(command))
        } else {
            (Kind::Read(None), Request::Read(key.clone()))
        };
        let pending = Pending {
            key,
            kind,
            start: now,
            node,
        };
        self.pending.insert(waiter, pending);
        (waiter, request)
    }

    /// `waiter` was told `outcome` at `now`. Panics if it is owed nothing: who waits is answered
    /// once.
    pub(crate) fn told(&mut self, waiter: Waiter, outcome: &Outcome, now: u64) {
        let pending = self.pending.remove(&waiter);
        let pending = pending.unwrap_or_else(|| panic!("waiter {waiter} was answered twice"));
        let (kind, end) = match (pending.kind, outcome) {
            (Kind::Write(value), Ok(Answer::Set { applied_index })) => {
                self.acknowledged.push(Acknowledged {
                    index: *applied_index,
                    key: pending.key.clone(),
                    value: encode(value),
                });
                (Kind::Write(value), Some(now))
            }
            (Kind::Read(_), Ok(Answer::Got { value, .. })) => {
                self.reads += 1;
                (Kind::Read(value.as_ref().map(decode)), Some(now))
            }
            (_, Err(refusal)) if refusal.applied == Applied::No => {
                self.refused += 1;
                return;
            }
            (Kind::Write(value), Err(_)) => (Kind::Write(value), None),
            (kind, outcome) => panic!("waiter {waiter} asked {kind:?} and was told {outcome:?}"),
        };
        self.remember(pending.key, kind, pending.start, end);
    }

    fn remember(&mut self, key: Bytes, kind: Kind, start: u64, end: Option<u64>) {
        let operation = Operation { kind, start, end };
        self.history.entry(key).or_default().push(operation);
    }

    /// `node` died: whoever waited there will hear nothing.
    pub(crate) fn lost(&mut self, node: NodeId) {
        let gone: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.node == node)
            .map(|(&waiter, _)| waiter)
            .collect();
        for waiter in gone {
            if let Some(pending) = self.pending.remove(&waiter)
                && let Kind::Write(_) = pending.kind
            {
                self.remember(pending.key, pending.kind, pending.start, None);
            }
        }
    }

    /// How many wait at `node`.
    pub(crate) fn waiting_at(&self, node: NodeId) -> usize {
        let here = self.pending.values().filter(|pending| pending.node == node);
        here.count()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }
}
