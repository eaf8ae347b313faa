//! The answers that clients got, and whether they can be true.
//!
//! A cluster that an operator recovered has two histories. The first ends with the state of the
//! survivor, and later acknowledged writes are lost. Each has to be linearizable, and the second has to
//! begin with the state of the survivor: a write that was acknowledged at an index of its log is there,
//! unless a later one has replaced it.

use std::collections::{BTreeMap, BTreeSet};

use seshat::types::LogIndex;

use seshat_test_support::linearizability::{self, Kind, Operation};

/// An operation on a key, as a client knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) start: u64,
    /// `None` if its outcome is not known.
    pub(crate) end: Option<u64>,
    /// Revision of an acknowledged write.
    pub(crate) index: Option<LogIndex>,
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

/// Whether `history`, with a recovery in it or none, can be true; or why not.
pub(crate) fn check(history: &[Told], recovery: Option<Break>) -> Result<(), String> {
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
        self.start < recovery.done && self.end.is_none_or(|end| end > recovery.asked)
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
        assert_eq!(check(&kept, Some(RECOVERY)), Ok(()));
        assert!(check(&kept, None).is_err(), "lost without a recovery");
        let all = [first, second, read(Some(2), 120), read(Some(2), 130)];
        assert_eq!(check(&all, Some(RECOVERY)), Ok(()));
        let missing = [first, second, read(None, 120)];
        assert!(check(&missing, Some(RECOVERY)).is_err());
        let longer = Break {
            kept: 6,
            ..RECOVERY
        };
        assert!(check(&kept, Some(longer)).is_err());
    }

    #[test]
    fn a_lost_write_does_not_come_back() {
        let history = [
            write(1, 1, Some(2), 5),
            write(2, 3, Some(4), 6),
            read(Some(1), 120),
            read(Some(2), 130),
        ];
        assert!(check(&history, Some(RECOVERY)).is_err());
    }

    #[test]
    fn each_side_of_a_recovery_is_linearizable() {
        let stale = [
            write(1, 1, Some(2), 3),
            write(2, 3, Some(4), 4),
            read(Some(1), 6),
        ];
        assert!(check(&stale, Some(RECOVERY)).is_err());
        let stale = [
            write(1, 111, Some(112), 3),
            write(2, 113, Some(114), 4),
            read(Some(1), 116),
        ];
        assert!(check(&stale, Some(RECOVERY)).is_err());
    }

    #[test]
    fn a_write_under_way_may_be_kept_or_lost() {
        let torn = write(2, 90, Some(130), 7);
        for seen in [Some(1), Some(2)] {
            let history = [write(1, 1, Some(2), 5), torn, read(seen, 140)];
            assert_eq!(check(&history, Some(RECOVERY)), Ok(()), "{seen:?}");
        }
    }
}
