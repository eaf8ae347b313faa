//! The answers that clients got, and whether they can be true: those about each key by their times alone, and all
//! of them together by the revisions that they claim.
//!
//! A cluster that an operator recovered has two histories. The first ends with the state of the
//! survivor, and later acknowledged writes are lost. Each has to be linearizable, and the second has to
//! begin with the state of the survivor: a write that was acknowledged at an index of its log is there,
//! unless a later one has replaced it.

use std::collections::{BTreeMap, BTreeSet};

use seshat::types::LogIndex;

use seshat_test_support::coordination::strict::{self, Begins};
use seshat_test_support::coordination::{Fact, History, Moment, Record, Span, Tenure, tenures};
use seshat_test_support::linearizability::{self, Kind, Operation};

/// An operation on a key, as a client knows it.
#[derive(Debug, Clone, Copy)]
struct Told {
    kind: Kind,
    start: u64,
    /// `None` if its outcome is not known.
    end: Option<u64>,
    /// Revision of an acknowledged write.
    index: Option<LogIndex>,
}

/// A recovery: the time of the order, the time when it was known to have taken place, and the index up
/// to which the log of the survivor surely was that of the cluster. An entry beyond its commit index may
/// never have been committed: another leader may have put another one there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Break {
    pub(crate) asked: u64,
    pub(crate) done: u64,
    pub(crate) kept: LogIndex,
}

/// Whether all that the clients know, with a recovery in between or none, can be true; or why not.
pub(crate) fn check(history: &History, recovery: Option<Break>) -> Result<(), String> {
    let records = history.records();
    for key in never_removed(&records) {
        let history: Vec<_> = records.iter().flat_map(|it| accesses(it, key)).collect();
        check_key(&history, recovery)
            .map_err(|fault| format!("the history of {key} is not linearizable: {fault}"))?;
    }
    check_together(&records, &history.spans(), recovery)
        .map_err(|fault| format!("the history is not strictly serializable: {fault}"))?;
    check_holders(history, recovery)
}

/// Whether what the holders of sessions and locks know can be true.
fn check_holders(history: &History, recovery: Option<Break>) -> Result<(), String> {
    let torn = |start: Moment, end: Moment| {
        recovery.is_some_and(|recovery| is_torn(start.number, Some(end.number), recovery))
    };
    for found in history.contradictions().iter() {
        if !torn(found.start, found.end) {
            return Err(format!("the history of a session is not true: {found:?}"));
        }
    }
    // A client that was sure of a lock while another cluster was made may have been sure of what was lost.
    let known = history.tenures();
    let known = known.iter().map(|tenure| Tenure {
        sure: tenure.sure.filter(|(first, last)| !torn(*first, *last)),
        ..tenure.clone()
    });
    let known: Vec<_> = known.collect();
    tenures::check(&known).map_err(|fault| format!("the history of a lock is not true: {fault}"))
}

fn check_together(
    records: &[Record],
    spans: &[Span],
    recovery: Option<Break>,
) -> Result<(), String> {
    let Some(recovery) = recovery else {
        return strict::check(records, spans, Begins::Empty);
    };
    let torn = |record: &Record| is_torn(record.start.number, end(record), recovery);
    let part = |record: &Record| match torn(record) {
        true => in_doubt(record),
        false => Some(record.clone()),
    };
    let is_before = |start: Moment| start.number < recovery.asked;
    let is_after = |start: Moment| start.number >= recovery.done;
    let before = records.iter().filter(|it| is_before(it.start));
    let before: Vec<_> = before.filter_map(part).collect();
    let after = records.iter().filter(|it| torn(it) || is_after(it.start));
    let after: Vec<_> = after.filter_map(part).collect();
    let whole = |span: &&Span| !is_torn(span.start.number, Some(span.end.number), recovery);
    let whole: Vec<_> = spans.iter().filter(whole).cloned().collect();
    let (spans_before, spans_after): (Vec<_>, Vec<_>) =
        whole.into_iter().partition(|span| is_before(span.start));
    strict::check(&before, &spans_before, Begins::Empty)?;
    strict::check(&after, &spans_after, Begins::Anywhere)
}

/// The keys that are never removed: the checker of linearizability knows only these.
fn never_removed(records: &[Record]) -> BTreeSet<&str> {
    let writes = || {
        records
            .iter()
            .flat_map(|record| record.writes.iter().map(move |it| (record, it)))
    };
    let removed = writes().filter(|(record, (_, value))| value.is_none() || record.ttl.is_some());
    let removed: BTreeSet<_> = removed.map(|(_, (key, _))| key.as_str()).collect();
    let keys = writes().map(|(_, (key, _))| key.as_str());
    keys.filter(|key| !removed.contains(key)).collect()
}

/// What a request says about `key` alone.
fn accesses<'a>(record: &'a Record, key: &'a str) -> impl Iterator<Item = Told> + 'a {
    let told = record.told.as_ref();
    let of_key = move |(it, _): &&(String, Fact)| it == key;
    let tested = record.conditions.iter().filter(|_| record.succeeded());
    let seen = told.into_iter().flat_map(|told| &told.seen);
    let reads = tested.chain(seen).filter(of_key);
    let reads = reads.filter_map(|(_, fact)| match fact {
        Fact::Missing => Some(Kind::Read(None)),
        Fact::Value(value) => Some(Kind::Read(Some(*value))),
        Fact::Version(version) => Some(Kind::Read(Some(version.value))),
        Fact::Bound => None,
    });
    let may_write = told.is_none_or(|told| told.succeeded);
    let write = record.writes(key).flatten().filter(|_| may_write);
    // The news of a watch are true, but not of a moment since its start.
    let all = reads.chain(write.map(Kind::Write));
    all.filter(|_| !record.is_late).map(move |kind| Told {
        kind,
        start: record.start.number,
        end: end(record),
        index: told.map(|told| told.revision),
    })
}

fn end(record: &Record) -> Option<u64> {
    record.told.as_ref().map(|told| told.end.number)
}

/// Whether a request may belong to either side of the recovery.
fn is_torn(start: u64, end: Option<u64>, recovery: Break) -> bool {
    start < recovery.done && end.is_none_or(|end| end > recovery.asked)
}

/// The same write with an unknown outcome. The revisions of what it expects may be others since.
fn in_doubt(record: &Record) -> Option<Record> {
    let conditions = record.conditions.iter().map(|(key, fact)| {
        let fact = match fact {
            Fact::Version(version) => Fact::Value(version.value),
            fact => *fact,
        };
        (key.clone(), fact)
    });
    record.is_write().then(|| Record {
        conditions: conditions.collect(),
        told: None,
        ..record.clone()
    })
}

/// Whether the history of a key can be true.
fn check_key(history: &[Told], recovery: Option<Break>) -> Result<(), String> {
    let Some(recovery) = recovery else {
        let whole: Vec<_> = history.iter().map(Told::operation).collect();
        return linearizability::check(&whole);
    };
    let before: Vec<_> = history
        .iter()
        .filter_map(|told| told.before(recovery))
        .collect();
    linearizability::check(&before).map_err(|fault| format!("before the recovery: {fault}"))?;
    let after: Vec<_> = history
        .iter()
        .filter_map(|told| told.after(recovery))
        .collect();
    let (after, first) = begin_anew(after)?;
    linearizability::check(&after).map_err(|fault| format!("after the recovery: {fault}"))?;
    first.map_or(Ok(()), |first| is_kept(history, recovery, first))
}

impl Told {
    fn operation(&self) -> Operation {
        Operation {
            kind: self.kind,
            start: self.start,
            end: self.end,
        }
    }

    fn is_write(&self) -> bool {
        matches!(self.kind, Kind::Write(_))
    }

    /// Whether it may belong to either history.
    fn is_torn(&self, recovery: Break) -> bool {
        is_torn(self.start, self.end, recovery)
    }

    fn before(&self, recovery: Break) -> Option<Operation> {
        let whole = self.operation();
        match self.is_torn(recovery) {
            true => (self.start < recovery.asked && self.is_write())
                .then_some(Operation { end: None, ..whole }),
            false => (self.start < recovery.asked).then_some(whole),
        }
    }

    fn after(&self, recovery: Break) -> Option<Operation> {
        let whole = self.operation();
        match self.is_torn(recovery) {
            true => self.is_write().then_some(Operation { end: None, ..whole }),
            false => (self.start >= recovery.done).then_some(whole),
        }
    }
}

/// The history with its first value as the missing key, and that value, if it was seen.
fn begin_anew(
    mut history: Vec<Operation>,
) -> Result<(Vec<Operation>, Option<Option<u64>>), String> {
    let written: BTreeSet<_> = history
        .iter()
        .filter_map(|operation| match operation.kind {
            Kind::Write(value) => Some(value),
            Kind::Read(_) => None,
        })
        .collect();
    let mut found = BTreeSet::new();
    for operation in &mut history {
        if let Kind::Read(value) = &mut operation.kind
            && value.is_none_or(|value| !written.contains(&value))
        {
            found.insert(value.take());
        }
    }
    match found.len() {
        0 | 1 => Ok((history, found.pop_first())),
        _ => Err(format!("it begins with each of {found:?}")),
    }
}

/// Whether the value `first` of a key after the recovery is that of the survivor.
fn is_kept(history: &[Told], recovery: Break, first: Option<u64>) -> Result<(), String> {
    let indices: BTreeMap<_, _> = history
        .iter()
        .filter(|told| told.end.is_some_and(|end| end <= recovery.asked))
        .filter_map(|told| match told.kind {
            Kind::Write(value) => Some((value, told.index?)),
            Kind::Read(_) => None,
        })
        .collect();
    let had = indices.values().filter(|it| **it <= recovery.kept);
    let index = match first {
        None => 0,
        Some(value) => match indices.get(&value) {
            Some(index) => *index,
            None => return Ok(()),
        },
    };
    match had.max() {
        Some(last) if index < *last => Err(format!(
            "the survivor had the log up to {}, the write at {last} too, and the key was {first:?}",
            recovery.kept
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECOVERY: Break = Break {
        asked: 100,
        done: 110,
        kept: 5,
    };

    fn write(value: u64, start: u64, end: Option<u64>, index: u64) -> Told {
        Told {
            kind: Kind::Write(value),
            start,
            end,
            index: end.map(|_| index),
        }
    }

    fn read(value: Option<u64>, start: u64) -> Told {
        Told {
            kind: Kind::Read(value),
            start,
            end: Some(start + 1),
            index: None,
        }
    }

    #[test]
    fn the_state_of_the_survivor_is_kept_and_the_rest_may_be_lost() {
        let (first, second) = (write(1, 1, Some(2), 5), write(2, 3, Some(4), 6));
        let kept = [first, second, read(Some(2), 5), read(Some(1), 120)];
        assert_eq!(check_key(&kept, Some(RECOVERY)), Ok(()));
        assert!(check_key(&kept, None).is_err(), "lost without a recovery");
        let all = [first, second, read(Some(2), 120), read(Some(2), 130)];
        assert_eq!(check_key(&all, Some(RECOVERY)), Ok(()));
        let missing = [first, second, read(None, 120)];
        assert!(check_key(&missing, Some(RECOVERY)).is_err());
        let longer = Break {
            kept: 6,
            ..RECOVERY
        };
        assert!(check_key(&kept, Some(longer)).is_err());
    }

    #[test]
    fn a_lost_write_does_not_come_back() {
        let history = [
            write(1, 1, Some(2), 5),
            write(2, 3, Some(4), 6),
            read(Some(1), 120),
            read(Some(2), 130),
        ];
        assert!(check_key(&history, Some(RECOVERY)).is_err());
    }

    #[test]
    fn each_side_of_a_recovery_is_linearizable() {
        let stale = [
            write(1, 1, Some(2), 3),
            write(2, 3, Some(4), 4),
            read(Some(1), 6),
        ];
        assert!(check_key(&stale, Some(RECOVERY)).is_err());
        let stale = [
            write(1, 111, Some(112), 3),
            write(2, 113, Some(114), 4),
            read(Some(1), 116),
        ];
        assert!(check_key(&stale, Some(RECOVERY)).is_err());
    }

    #[test]
    fn a_write_under_way_may_be_kept_or_lost() {
        let torn = write(2, 90, Some(130), 7);
        for seen in [Some(1), Some(2)] {
            let history = [write(1, 1, Some(2), 5), torn, read(seen, 140)];
            assert_eq!(check_key(&history, Some(RECOVERY)), Ok(()), "{seen:?}");
        }
    }
}
