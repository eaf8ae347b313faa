//! A numbered write takes effect at most once: where it stands first in the agreed log. However
//! often it was sent and whoever answers, the answer is what it did there.
//!
//! The model forgets nothing and has no bounds, and it knows a write by its value, not by its stamp
//! alone: so it cannot be wrong in the way in which the sessions of the core may be.
//!
//! One thing it takes from the stamps: a client has said in this log that it no longer waits for lower
//! numbers. One of them that does not stand before was acknowledged by a cluster that was lost since,
//! and a copy of it that comes now must not take effect.

use std::collections::{BTreeMap, BTreeSet};

use seshat::kv::{Command, Stamp, Write};
use seshat::node::Answer;
use seshat::types::LogIndex;

use super::{Verdict, Violation, safe};
use crate::clients::decode;
use crate::numbered::{Done, Number, number_of};

const NAME: &str = "numbered_writes_apply_once";

/// What the agreed log says of numbered writes.
#[derive(Debug, Default)]
pub(crate) struct Once {
    open: BTreeSet<u64>,
    done: BTreeMap<Number, Done>,
    /// Below this number each client waits for nothing.
    first_outstanding: BTreeMap<u64, u64>,
    /// Where a write stands that stands before it already.
    again: BTreeSet<LogIndex>,
}

impl Once {
    /// The agreed log holds `command` at `index`, where the key of a write was bound or not before:
    /// whether it changes the map.
    pub(crate) fn changes(&mut self, index: LogIndex, command: &Command, existed: bool) -> bool {
        let (write, stamp) = match command {
            Command::Write { write, stamp } => (write, stamp),
            Command::OpenSession(client_id) => {
                self.open.insert(client_id.0);
                return false;
            }
            Command::AddMember(_) | Command::RemoveMember(_) | Command::RaiseLevel(_) => {
                return false;
            }
        };
        let (number, existed) = match write {
            Write::Set { value, .. } => (number_of(decode(value)), None),
            Write::Delete { .. } => (stamp.map(number), Some(existed)),
        };
        let Some(number) = number else {
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
        self.done.insert(number, Done { index, existed });
        true
    }

    /// Whether some write stands between the two that must not change the map any more.
    pub(crate) fn again(&self, from: LogIndex, to: LogIndex) -> bool {
        from <= to && self.again.range(from..=to).next().is_some()
    }

    /// Copies that stand in the log and changed nothing.
    pub(crate) fn suppressed(&self) -> usize {
        self.again.len()
    }

    /// The client of this write was told that it did `told`.
    pub(crate) fn check(&self, number: Number, told: Done) -> Verdict {
        let done = self.done.get(&number);
        safe(done == Some(&told), NAME, || {
            format!("{number:?} was told {told:?}, and the log says {done:?}")
        })
    }
}

fn number(stamp: Stamp) -> Number {
    (stamp.client_id.0, stamp.sequence)
}

pub(crate) fn same(number: Number, first: Done, again: Done) -> Verdict {
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
