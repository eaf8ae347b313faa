use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::record::{Moment, Told};
use super::*;

fn bound(value: u64, revision: u64) -> Fact {
    Fact::Version(Version { value, revision })
}

fn facts(facts: &[(&str, Fact)]) -> Vec<(String, Fact)> {
    let facts = facts.iter().map(|(key, fact)| (key.to_string(), *fact));
    facts.collect()
}

/// A second is a hundred moments.
fn at(number: u64) -> Moment {
    let time = Duration::from_millis(number * 10);
    Moment { number, time }
}

fn told(end: u64, revision: u64, seen: &[(&str, Fact)]) -> Option<Told> {
    Some(Told {
        end: at(end),
        revision,
        succeeded: true,
        seen: facts(seen),
    })
}

fn read(start: u64, revision: u64, seen: &[(&str, Fact)]) -> Record {
    Record {
        told: told(start + 1, revision, seen),
        ..Record::new(at(start))
    }
}

fn write(start: u64, writes: &[(&str, Option<u64>)], told: Option<Told>) -> Record {
    let writes = writes.iter().map(|(key, value)| (key.to_string(), *value));
    Record {
        writes: writes.collect(),
        told,
        ..Record::new(at(start))
    }
}

fn on(conditions: &[(&str, Fact)], record: Record) -> Record {
    Record {
        conditions: facts(conditions),
        ..record
    }
}

fn failed(record: Record) -> Record {
    let told = record.told.map(|told| Told {
        succeeded: false,
        ..told
    });
    Record { told, ..record }
}

fn holds(records: &[Record]) {
    assert_eq!(check(records, &[], Begins::Empty), Ok(()));
}

fn breaks(records: &[Record], complaint: &str) {
    let fault = check(records, &[], Begins::Empty).expect_err("it cannot be true");
    assert!(fault.contains(complaint), "{fault}");
}

/// Writes 1 to both keys, as revision 10.
fn both() -> Record {
    write(1, &[("k", Some(1)), ("l", Some(1))], told(2, 10, &[]))
}

#[test]
fn a_transaction_takes_effect_as_a_whole() {
    let all = [("k", bound(1, 10)), ("l", bound(1, 10))];
    holds(&[both(), read(3, 10, &all)]);
    breaks(
        &[
            both(),
            read(3, 10, &[("k", bound(1, 10)), ("l", Fact::Missing)]),
        ],
        "l is Some",
    );
    // The same, if its outcome is not known.
    let unknown = Record {
        told: None,
        ..both()
    };
    holds(&[unknown.clone(), read(3, 9, &[("l", Fact::Missing)])]);
    holds(&[unknown.clone(), read(3, 10, &all)]);
    breaks(
        &[
            unknown,
            read(3, 11, &[("k", bound(1, 10))]),
            read(5, 12, &[("l", Fact::Missing)]),
        ],
        "l is Some",
    );
}

#[test]
fn a_scan_shows_one_moment() {
    let overwrite = write(3, &[("k", Some(2)), ("l", Some(2))], told(6, 20, &[]));
    let torn = [("k", bound(2, 20)), ("l", bound(1, 10))];
    for revision in [10, 19, 20] {
        let scan = read(4, revision, &torn);
        breaks(&[both(), overwrite.clone(), scan], "not Version");
    }
}

#[test]
fn no_write_lies_between_a_compare_and_set_and_what_it_expected() {
    let first = write(1, &[("k", Some(1))], told(2, 10, &[]));
    let expects = |version| {
        let set = write(5, &[("k", Some(3))], told(6, 30, &[]));
        on(&[("k", version)], set)
    };
    holds(&[first.clone(), expects(bound(1, 10))]);
    let between = write(3, &[("k", Some(2))], told(4, 20, &[]));
    holds(&[first.clone(), between.clone(), expects(bound(2, 20))]);
    for expected in [bound(1, 10), Fact::Value(1), Fact::Missing] {
        let history = [first.clone(), between.clone(), expects(expected)];
        breaks(&history, "k is Some");
    }
    // One of unknown outcome that was seen in between.
    let unknown = write(1, &[("k", Some(2))], None);
    let seen = read(3, 20, &[("k", bound(2, 20))]);
    breaks(&[first, unknown, seen, expects(bound(1, 10))], "k is Some");
}

#[test]
fn a_condition_that_failed_did_not_hold() {
    let first = write(1, &[("k", Some(1))], told(2, 10, &[]));
    let fails = |expected| {
        let set = write(3, &[("k", Some(2))], told(4, 20, &[("k", bound(1, 10))]));
        failed(on(&[("k", expected)], set))
    };
    holds(&[first.clone(), fails(Fact::Missing)]);
    holds(&[first.clone(), fails(bound(1, 9))]);
    for expected in [bound(1, 10), Fact::Value(1), Fact::Bound] {
        breaks(&[first.clone(), fails(expected)], "all conditions hold");
    }
    let seen = read(5, 20, &[("k", bound(2, 20))]);
    breaks(&[first, fails(Fact::Missing), seen], "wrote nothing");
}

#[test]
fn a_write_takes_effect_once() {
    let seen_again = [("k", bound(1, 12)), ("l", bound(1, 10))];
    breaks(
        &[both(), read(3, 12, &seen_again)],
        "has revision 10, and 12",
    );
    let unknown = write(1, &[("k", Some(1))], None);
    let history = [
        unknown,
        read(3, 10, &[("k", bound(1, 10))]),
        read(5, 14, &[("k", bound(1, 12))]),
    ];
    breaks(&history, "has revision 10, and 12");
}

#[test]
fn a_removal_of_unknown_outcome_removes_what_it_names() {
    let first = write(1, &[("k", Some(1))], told(2, 10, &[]));
    let removal = |version| on(&[("k", version)], write(3, &[("k", None)], None));
    let missing = read(5, 20, &[("k", Fact::Missing)]);
    breaks(&[first.clone(), missing.clone()], "k is Some");
    for version in [bound(1, 10), Fact::Value(1)] {
        let gone = [first.clone(), removal(version), missing.clone()];
        holds(&gone);
        let back = read(7, 21, &[("k", bound(1, 10))]);
        breaks(&[&gone[..], &[back]].concat(), "k is None");
    }
    let other = [first.clone(), removal(bound(1, 9)), missing.clone()];
    breaks(&other, "k is Some");
    let later = Record {
        start: at(7),
        ..removal(bound(1, 10))
    };
    breaks(&[first, later, missing], "k is Some");
}

#[test]
fn revisions_follow_time_and_are_given_once() {
    let first = write(1, &[("k", Some(1))], told(2, 10, &[]));
    let second = |revision| write(3, &[("l", Some(2))], told(4, revision, &[]));
    holds(&[first.clone(), second(11)]);
    breaks(&[first.clone(), second(10)], "one revision");
    breaks(&[first.clone(), second(9)], "began after");
    breaks(&[first.clone(), read(3, 9, &[])], "began after");
    breaks(&[read(1, 10, &[]), second(10)], "began after");
    holds(&[first.clone(), read(3, 10, &[])]);
    // Seen at a place that is over when it begins.
    let late = write(7, &[("l", Some(2))], None);
    let seen = read(8, 30, &[("l", bound(2, 20))]);
    breaks(&[first, read(3, 25, &[]), late, seen], "began after");
}

#[test]
fn a_history_may_begin_anywhere_but_in_one_state() {
    let anywhere = |records: &[Record]| check(records, &[], Begins::Anywhere);
    let first = read(1, 20, &[("k", bound(7, 5)), ("l", Fact::Missing)]);
    assert!(check(std::slice::from_ref(&first), &[], Begins::Empty).is_err());
    assert_eq!(anywhere(std::slice::from_ref(&first)), Ok(()));
    let overwrite = write(3, &[("k", Some(8))], told(4, 30, &[]));
    let back = read(5, 31, &[("k", bound(7, 5))]);
    assert_eq!(anywhere(&[first.clone(), overwrite.clone()]), Ok(()));
    assert!(anywhere(&[first.clone(), overwrite.clone(), back]).is_err());
    let other = read(5, 20, &[("k", bound(6, 4))]);
    assert!(anywhere(&[first, other]).is_err());
    // What was lost does not come back.
    let back = read(5, 41, &[("k", bound(7, 40))]);
    assert!(anywhere(&[overwrite, back]).is_err());
}

#[test]
fn a_key_is_bound_for_its_ttl_at_least_and_once() {
    let second = Duration::from_secs(1);
    let first = Record {
        ttl: Some(second),
        ..write(1, &[("k", Some(1))], told(2, 10, &[]))
    };
    let missing = |start| read(start, 20, &[("k", Fact::Missing)]);
    holds(&[first.clone(), missing(100)]);
    breaks(&[first.clone(), missing(98)], "k is Some");
    let back = read(110, 20, &[("k", bound(1, 10))]);
    breaks(&[first, missing(100), back], "k is None");
}

#[test]
fn the_news_of_a_watch_may_be_late_and_never_early() {
    let (first, second) = (both(), write(5, &[("k", Some(2))], told(6, 20, &[])));
    let news = |start, revision, value| Record {
        is_late: true,
        ..read(start, revision, &[("k", value)])
    };
    holds(&[first.clone(), second.clone(), news(7, 19, bound(1, 10))]);
    breaks(
        &[first.clone(), second.clone(), news(7, 20, bound(1, 10))],
        "k is Some",
    );
    // A later read is no older.
    let stale = read(9, 19, &[("k", bound(1, 10))]);
    breaks(
        &[first, second, news(7, 20, bound(2, 20)), stale],
        "began after",
    );
}

#[test]
fn a_watch_leaves_out_no_change() {
    let span = |behind, up_to, changes: &[(u64, &str)]| Span {
        start: at(1),
        end: at(9),
        keys: vec!["k".to_owned(), "l".to_owned()],
        behind,
        up_to,
        changes: changes
            .iter()
            .map(|(at, key)| (*at, key.to_string()))
            .collect(),
    };
    let check = |span| check(&[both()], &[span], Begins::Empty);
    assert_eq!(check(span(9, 10, &[(10, "k"), (10, "l")])), Ok(()));
    for other in [span(10, 12, &[]), span(5, 9, &[])] {
        assert_eq!(check(other), Ok(()));
    }
    for hole in [span(9, 10, &[(10, "k")]), span(9, 12, &[])] {
        assert!(
            check(hole)
                .unwrap_err()
                .starts_with("a watch has not shown")
        );
    }
}

/// Clients of a store that does everything right: all that they are told can be true, until one answer is changed.
#[test]
fn true_histories_are_accepted_and_changed_ones_are_not() {
    let (mut changed, mut found) = (0, 0);
    for seed in 0..500 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut history = a_true_history(&mut rng);
        assert_eq!(check(&history, &[], Begins::Empty), Ok(()), "seed {seed}");
        if change(&mut rng, &mut history) {
            changed += 1;
            found += u32::from(check(&history, &[], Begins::Empty).is_err());
        }
    }
    assert!(changed > 400, "{changed}");
    assert_eq!(found, changed);
}

const KEYS: [&str; 3] = ["k", "l", "m"];

/// Requests that overlap, take effect in an order of their own, and are answered or not.
fn a_true_history(rng: &mut StdRng) -> Vec<Record> {
    let mut state: BTreeMap<&str, Version> = BTreeMap::new();
    let mut records = Vec::new();
    // Values that clients have been told of. A condition names no others.
    let mut known = BTreeSet::new();
    let mut revision = 100;
    for value in 1..60 {
        // It takes effect at the moment 10 * value.
        let start = 10 * value - rng.gen_range(0..40.min(10 * value));
        let end = 10 * value + rng.gen_range(1..40);
        let keys: BTreeSet<_> = (0..2).map(|_| KEYS[rng.gen_range(0..3)]).collect();
        let seen = |key: &&str| (key.to_string(), Fact::found(state.get(key).copied()));
        let seen: Vec<_> = keys.iter().map(seen).collect();
        let mut writes = Vec::new();
        for key in keys.iter().filter(|_| value % 3 > 0) {
            let may_remove = state.get(key).is_some_and(|it| known.contains(&it.value));
            let removes = may_remove && rng.gen_bool(0.3);
            writes.push((key.to_string(), (!removes).then_some(value)));
        }
        let holds = rng.gen_bool(0.8);
        let conditions = match holds {
            true => {
                let conditions = seen.iter().filter(|(_, fact)| match fact {
                    Fact::Version(version) => known.contains(&version.value),
                    _ => true,
                });
                conditions.cloned().collect()
            }
            false => facts(&[("k", bound(0, 0))]),
        };
        if !writes.is_empty() {
            revision += rng.gen_range(1..3);
        }
        for (key, value) in writes.iter().filter(|_| holds) {
            let key = *KEYS.iter().find(|it| *it == key).expect("a key");
            match *value {
                Some(value) => drop(state.insert(key, Version { value, revision })),
                None => drop(state.remove(key)),
            }
        }
        let is_answered = rng.gen_bool(0.8);
        if is_answered {
            let versions = seen.iter().filter_map(|(_, fact)| fact.read()?);
            known.extend(versions.map(|version| version.value));
            known.insert(value);
        }
        records.push(Record {
            conditions,
            writes,
            told: is_answered.then_some(Told {
                end: at(end),
                revision,
                succeeded: holds,
                seen,
            }),
            ..Record::new(at(start))
        });
    }
    records
}

/// Makes one answer false: it shows a version that was never there. Returns whether there is one.
fn change(rng: &mut StdRng, history: &mut [Record]) -> bool {
    // The place of a write without an answer is only known from what was seen.
    let answered = history.iter().filter(|record| record.succeeded());
    let answered = answered.flat_map(|record| &record.writes);
    let answered: BTreeSet<_> = answered.filter_map(|(_, value)| *value).collect();
    let told = history.iter_mut().filter_map(|record| record.told.as_mut());
    let mut seen: Vec<_> = told
        .flat_map(|told| &mut told.seen)
        .filter(|(_, fact)| match fact {
            Fact::Version(version) => answered.contains(&version.value),
            _ => true,
        })
        .collect();
    let Some(last) = seen.len().checked_sub(1) else {
        return false;
    };
    let (_, fact) = &mut seen[rng.gen_range(0..=last)];
    *fact = match *fact {
        Fact::Version(version) => bound(version.value, version.revision - 1),
        _ => bound(1_000, 100),
    };
    true
}
