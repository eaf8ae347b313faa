//! A checker of linearizability, for the history of one key.
//!
//! Every write of a key has a value of its own, so each read names the write that it saw, and the
//! operations on one value form a cluster. Gibbons and Korach ("Testing shared memories", 1997):
//! with `f` the earliest end and `s` the latest start in a cluster, its zone lies between the two,
//! *forward* if `f < s` (the value must have been there from `f` to `s`), otherwise *backward* (the
//! value was there at some moment between `s` and `f`). The history is linearizable exactly when no
//! two forward zones overlap and no backward zone lies inside a forward one, and no read ends before
//! its write begins.

use std::collections::BTreeMap;

/// One operation on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub kind: Kind,
    pub start: u64,
    /// `None` if its outcome is not known: it may take effect at any time after its start.
    pub end: Option<u64>,
}

/// What an operation did. Values are numbers; `None` is the missing key that every history begins
/// with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Write(u64),
    Read(Option<u64>),
}

/// The operations on one value.
#[derive(Debug)]
struct Cluster {
    write_start: u64,
    earliest_end: u64,
    latest_start: u64,
    read: bool,
}

/// Whether `history` is linearizable, or why not.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let mut clusters = BTreeMap::from([(
        None,
        Cluster {
            write_start: 0,
            earliest_end: 0,
            latest_start: 0,
            read: true,
        },
    )]);
    for operation in history {
        if let Kind::Write(value) = operation.kind {
            let cluster = Cluster {
                write_start: operation.start,
                earliest_end: operation.end.unwrap_or(u64::MAX),
                latest_start: operation.start,
                // A write whose outcome is known took place; one without a reader need not have.
                read: operation.end.is_some(),
            };
            if clusters.insert(Some(value), cluster).is_some() {
                return Err(format!("the history writes {value} twice"));
            }
        }
    }
    for operation in history {
        let (Kind::Read(value), Some(end)) = (operation.kind, operation.end) else {
            continue;
        };
        let Some(cluster) = clusters.get_mut(&value) else {
            return Err(format!("{operation:?} saw a value that was never written"));
        };
        if end < cluster.write_start {
            return Err(format!("{operation:?} saw a write of the future"));
        }
        cluster.read = true;
        cluster.earliest_end = cluster.earliest_end.min(end);
        cluster.latest_start = cluster.latest_start.max(operation.start);
    }
    let zones = clusters.into_iter().filter(|(_, cluster)| cluster.read);
    let (mut forward, backward): (Vec<_>, Vec<_>) =
        zones.partition(|(_, zone)| zone.earliest_end < zone.latest_start);
    forward.sort_by_key(|(_, zone)| zone.earliest_end);
    for pair in forward.windows(2) {
        if pair[1].1.earliest_end < pair[0].1.latest_start {
            return Err(format!("forward zones overlap: {pair:?}"));
        }
    }
    for inner in &backward {
        let outer = forward.partition_point(|(_, zone)| zone.earliest_end < inner.1.latest_start);
        let around = outer.checked_sub(1).map(|index| &forward[index]);
        if let Some(outer) = around.filter(|outer| inner.1.earliest_end < outer.1.latest_start) {
            return Err(format!("{inner:?} lies inside {outer:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, start: u64, end: u64) -> Operation {
        Operation {
            kind: Kind::Write(value),
            start,
            end: Some(end),
        }
    }

    fn unknown(value: u64, start: u64) -> Operation {
        Operation {
            kind: Kind::Write(value),
            start,
            end: None,
        }
    }

    fn read(value: u64, start: u64, end: u64) -> Operation {
        Operation {
            kind: Kind::Read((value != 0).then_some(value)),
            start,
            end: Some(end),
        }
    }

    #[test]
    fn a_sequential_history_is_linearizable() {
        let history = [
            read(0, 1, 2),
            write(1, 3, 4),
            read(1, 5, 6),
            write(2, 7, 8),
            read(2, 9, 10),
        ];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn a_read_beside_a_write_may_see_it_or_not() {
        assert_eq!(
            check(&[write(1, 1, 10), read(0, 2, 3), read(1, 4, 5)]),
            Ok(())
        );
        assert_eq!(
            check(&[write(1, 1, 10), read(1, 2, 3), read(1, 4, 5)]),
            Ok(())
        );
    }

    #[test]
    fn a_value_that_was_seen_does_not_vanish_again() {
        assert!(check(&[write(1, 1, 10), read(1, 2, 3), read(0, 4, 5)]).is_err());
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(check(&[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)]).is_err());
        assert!(check(&[write(1, 1, 2), read(0, 3, 4)]).is_err());
    }

    #[test]
    fn a_lost_write_is_found() {
        let history = [write(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)];
        assert!(check(&history).is_err());
    }

    #[test]
    fn an_unknown_write_may_take_place_late_or_never_but_only_once() {
        let late = [write(1, 1, 2), unknown(2, 3), read(1, 5, 6), read(2, 7, 8)];
        assert_eq!(check(&late), Ok(()));
        assert_eq!(check(&late[..3]), Ok(()));
        let mut twice = late.to_vec();
        twice.push(read(1, 9, 10));
        assert!(check(&twice).is_err());
    }

    #[test]
    fn values_never_written_or_written_later_cannot_be_seen() {
        assert!(check(&[read(7, 1, 2)]).is_err());
        assert!(check(&[read(1, 1, 2), write(1, 3, 4)]).is_err());
    }

    /// The fast answer agrees with trying every order, on histories of up to six operations.
    #[test]
    fn small_histories_agree_with_trying_every_order() {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut linearizable = 0;
        for _ in 0..20_000 {
            let mut value = 0;
            let history: Vec<_> = (0..rng.gen_range(1..=6))
                .map(|_| {
                    let start = rng.gen_range(1..12);
                    let end = start + rng.gen_range(1..8);
                    if rng.gen_bool(0.5) {
                        value += 1;
                        Operation {
                            end: rng.gen_bool(0.8).then_some(end),
                            ..write(value, start, end)
                        }
                    } else {
                        read(rng.gen_range(0..=3), start, end)
                    }
                })
                .collect();
            let slow = every_order(&history, None, &mut vec![false; history.len()]);
            assert_eq!(check(&history).is_ok(), slow, "{history:?}");
            linearizable += u32::from(slow);
        }
        assert!(
            (2_000..18_000).contains(&linearizable),
            "{linearizable} say nothing"
        );
    }

    /// Whether the operations not yet `done` can take place one after the other from `now` on.
    fn every_order(history: &[Operation], now: Option<u64>, done: &mut Vec<bool>) -> bool {
        if (0..history.len()).all(|i| done[i] || history[i].end.is_none()) {
            return true;
        }
        for i in 0..history.len() {
            // Nothing that ended before this one began may still be to come.
            let first = !done[i]
                && (0..history.len())
                    .all(|j| done[j] || history[j].end.is_none_or(|end| end >= history[i].start));
            let next = match history[i].kind {
                Kind::Write(value) => Some(value),
                Kind::Read(value) if value == now => now,
                Kind::Read(_) => continue,
            };
            if first {
                done[i] = true;
                let found = every_order(history, next, done);
                done[i] = false;
                if found {
                    return true;
                }
            }
        }
        false
    }
}
