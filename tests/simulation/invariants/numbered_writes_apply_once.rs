//! A numbered write takes effect at most once: at its first entry in the agreed log. However often it
//! was sent, and whichever node answers, the answer is its effect there.
//!
//! The model forgets nothing and has no bounds, and it identifies a write by its value, not by its stamp
//! alone: so it cannot share a fault with the sessions of the core.
//!
//! It takes one fact from the stamps: a client has stated in this log that it no longer waits for lower
//! numbers. A lower number without an earlier entry in the log was acknowledged by a cluster that was
//! lost since, and a copy of it that arrives now must not take effect.

use std::collections::{BTreeMap, BTreeSet};

use seshat::kv::{Effect, Operation, Stamp, Write};
use seshat::node::Answer;
use seshat::types::{ClientId, LogIndex};

use super::{Verdict, Violation, safe};
use crate::clients::decode;
use crate::numbered::{Done, Number, number_of};

const NAME: &str = "numbered_writes_apply_once";

/// The numbered writes according to the agreed log.
#[derive(Debug, Default)]
pub(crate) struct Once {
    open: BTreeSet<u64>,
    done: BTreeMap<Number, (LogIndex, Effect)>,
    /// Below this number a client waits for no answer.
    first_outstanding: BTreeMap<u64, u64>,
    /// The first entry of a write that is in the log more than once.
    again: BTreeSet<LogIndex>,
}

impl Once {
    /// The agreed log opens a session.
    pub(crate) fn open(&mut self, client_id: ClientId) {
        self.open.insert(client_id.0);
    }

    /// The agreed log holds `write` at `index`, which has this effect if it is carried out there. Returns
    /// whether it is.
    pub(crate) fn changes(
        &mut self,
        index: LogIndex,
        write: &Write,
        stamp: Option<Stamp>,
        effect: &Effect,
    ) -> bool {
        let written = written(write).map(number_of);
        let Some(number) = written.unwrap_or_else(|| stamp.map(number)) else {
            return true;
        };
        if !self.open.contains(&number.0) {
            return false;
        }
        let waits_from = self.first_outstanding.entry(number.0).or_default();
        let late = number.1 < *waits_from;
        let said = stamp.map_or(0, |stamp| stamp.first_outstanding);
        *waits_from = said.max(*waits_from);
        if self.done.contains_key(&number) {
            self.again.insert(index);
            return false;
        }
        if late {
            return false;
        }
        self.done.insert(number, (index, effect.clone()));
        true
    }

    /// Whether there is a write between the two that must not change the map any more.
    pub(crate) fn again(&self, from: LogIndex, to: LogIndex) -> bool {
        from <= to && self.again.range(from..=to).next().is_some()
    }

    /// Copies in the log that changed nothing.
    pub(crate) fn suppressed(&self) -> usize {
        self.again.len()
    }

    /// The index at which this write was carried out, or refused for good. 0: nowhere.
    pub(crate) fn index(&self, number: Number) -> LogIndex {
        self.done.get(&number).map_or(0, |(index, _)| *index)
    }

    /// The client of this write was told that it had this effect at `index`.
    pub(crate) fn check(&self, number: Number, index: LogIndex, effect: &Effect) -> Verdict {
        let done = self.done.get(&number);
        let same = done.is_some_and(|(at, done)| *at == index && done == effect);
        safe(same, NAME, || {
            format!("{number:?} was told {effect:?} at {index}, and the log says {done:?}")
        })
    }
}

/// The value by which a write is known, if it writes one.
fn written(write: &Write) -> Option<u64> {
    let value = match write {
        Write::Set { value, .. } => Some(value),
        Write::Delete { .. } | Write::Acquire(_) | Write::Release(_) => None,
        Write::Txn(txn) => txn.operations().find_map(|operation| match operation {
            Operation::Set { value, .. } => Some(value),
            Operation::Get(_) | Operation::Delete(_) => None,
        }),
    };
    value.map(decode)
}

fn number(stamp: Stamp) -> Number {
    (stamp.client_id.0, stamp.sequence)
}

pub(crate) fn same(number: Number, first: &Done, again: &Done) -> Verdict {
    safe(first == again, NAME, || {
        format!("{number:?} was told {first:?} first and {again:?} then")
    })
}

pub(crate) fn expired(number: Number) -> Violation {
    let reason = format!("{number:?} is outstanding, and its session is said to have expired");
    Violation::safety(NAME, reason)
}

pub(crate) fn astray(number: Number, answer: &Answer) -> Violation {
    Violation::safety(NAME, format!("{number:?} was told {answer:?}"))
}
