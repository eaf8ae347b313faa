//! Ranges of keys, and how they are read part by part.

use std::ops::Bound;

use super::{Entry, Lifetime, Pair};
use crate::types::{Key, Revision, Value};

/// Maximum number of keys that one part of a scan reads.
pub const MAX_PART_KEYS: usize = 4096;
/// Maximum bytes of the entries in one part of a scan, unless a single entry is larger.
pub const MAX_PART_BYTES: usize = 128 << 10;
/// Bytes of an entry in a message beside its key and value, at most: its revision, its lifetime and framing.
const ENTRY_BYTES: usize = 48;

/// The keys from one on and before another one, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    start: Key,
    /// The first key behind the range. `None`: there is no such key.
    end: Option<Key>,
}

impl KeyRange {
    /// The keys from `start` on and before `end`; without an end all from `start` on.
    pub fn interval(start: Key, end: Option<Key>) -> Self {
        Self { start, end }
    }

    /// `key` alone.
    pub fn key(key: Key) -> Self {
        let end = Some(behind(&key));
        Self { start: key, end }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: Key) -> Self {
        // The first key behind them ends with the last byte that can be increased, increased.
        let kept = prefix.iter().rposition(|byte| *byte < u8::MAX);
        let end = kept.and_then(|at| {
            let mut end = prefix.get(..=at)?.to_vec();
            let last = end.last_mut()?;
            *last += 1;
            Some(Key::from(end))
        });
        Self { start: prefix, end }
    }

    /// The keys of this range behind `key`.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        Self {
            start: behind(key),
            end: self.end.clone(),
        }
    }

    /// Whether it has no key, whatever the state.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Its ends, for a collection in the order of keys. Only for a range that is not
    /// [empty](Self::is_empty).
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = self.end.as_deref();
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(&self.start), end)
    }

    /// Its first key, unless it is empty.
    pub fn start(&self) -> &Key {
        &self.start
    }

    /// The key, if it has only one.
    pub fn as_key(&self) -> Option<&Key> {
        let end = self.end.as_ref()?.strip_suffix(&[0])?;
        (end == self.start).then_some(&self.start)
    }

    /// The prefix, if its keys are those that begin with one.
    pub fn as_prefix(&self) -> Option<&Key> {
        (*self == Self::prefix(self.start.clone())).then_some(&self.start)
    }

    /// Bytes of the longer one of its ends.
    pub fn longest(&self) -> usize {
        let end = self.end.as_ref().map_or(0, Key::len);
        self.start.len().max(end)
    }

    /// Bytes of its ends.
    pub fn bytes(&self) -> usize {
        let end = self.end.as_ref().map_or(0, Key::len);
        self.start.len().saturating_add(end)
    }
}

/// The first key behind `key`.
fn behind(key: &[u8]) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// What is read of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The keys that have not been read yet.
    pub range: KeyRange,
    /// How many more are read at most.
    pub limit: u64,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether the keys are only counted.
    pub count_only: bool,
    /// Maximum bytes of the entries in one part, unless a single entry is larger. At most
    /// [`MAX_PART_BYTES`].
    pub part_bytes: usize,
}

/// A part of what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The entries, in ascending order of their keys. Empty if the keys are only counted.
    pub entries: Vec<Entry>,
    /// How many keys were read.
    pub count: u64,
    /// Whether the range has keys behind these.
    pub more: bool,
}

impl Part {
    /// Whether nothing else of `scan`, which goes on behind this part, is to be read.
    pub fn is_last(&self, scan: &Scan) -> bool {
        !self.more || scan.limit == 0
    }

    /// Bytes of the keys and values.
    pub fn bytes(&self) -> usize {
        let entries = self.entries.iter();
        entries.map(|it| it.key.len() + it.value.len()).sum()
    }
}

impl Scan {
    /// Reads the next part from `entries`, those of the range in ascending order, and goes on behind it.
    /// `lifetime` finds the lifetime of a key.
    pub(super) fn take<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a Pair, Revision)>,
        lifetime: impl Fn(&Pair) -> Lifetime,
    ) -> Part {
        let mut part = Part::default();
        let (mut bytes, mut read, mut last) = (0, 0, None);
        let mut entries = entries.peekable();
        while let Some((pair, revision)) = entries.next_if(|(pair, _)| {
            let value = match self.keys_only {
                true => 0,
                false => pair.value().len(),
            };
            let size = pair.key().len() + value + ENTRY_BYTES;
            let fits = read == 0 || self.count_only || bytes + size <= self.part_bytes;
            let takes = fits && self.limit > 0 && read < MAX_PART_KEYS;
            if takes {
                bytes += size;
            }
            takes
        }) {
            read += 1;
            part.count += 1;
            self.limit -= 1;
            last = Some(pair);
            if !self.count_only {
                part.entries.push(Entry {
                    key: Key::copy_from_slice(pair.key()),
                    value: match self.keys_only {
                        true => Value::new(),
                        false => pair.clone().into_value(),
                    },
                    revision,
                    lifetime: lifetime(pair),
                });
            }
        }
        part.more = entries.peek().is_some();
        if let Some(last) = last {
            self.range = self.range.after(last.key());
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::{Command, Found, Query, StateMachine, Write};
    use crate::types::ProtocolLevel;

    fn key(bytes: &[u8]) -> Key {
        Key::copy_from_slice(bytes)
    }

    #[test]
    fn a_prefix_ends_before_the_first_key_that_does_not_begin_with_it() {
        let end = |prefix: &[u8]| KeyRange::prefix(key(prefix)).end;
        assert_eq!(end(b"ab"), Some(key(b"ac")));
        assert_eq!(end(b"a\xff\xff"), Some(key(b"b")));
        assert_eq!(end(b"\xff"), None);
        assert_eq!(end(b""), None);
    }

    #[test]
    fn a_single_key_is_a_range_of_one() {
        let range = KeyRange::key(key(b"ab"));
        assert!(range.contains(b"ab"));
        assert!(!range.contains(b"ab\0") && !range.contains(b"aa") && !range.contains(b"a"));
        assert_eq!((range.longest(), range.bytes()), (3, 5));
    }

    #[test]
    fn an_interval_that_ends_where_it_begins_is_empty() {
        let interval = |start: &[u8], end: &[u8]| KeyRange::interval(key(start), Some(key(end)));
        assert!(interval(b"b", b"b").is_empty() && interval(b"b", b"a").is_empty());
        assert!(!interval(b"a", b"b").is_empty());
        assert!(!KeyRange::interval(key(b"a"), None).is_empty());
        let empty = StateMachine::default().scan(&mut all(interval(b"b", b"a")));
        assert_eq!(empty, Part::default());
    }

    fn all(range: KeyRange) -> Scan {
        Scan {
            range,
            limit: u64::MAX,
            keys_only: false,
            count_only: false,
            part_bytes: MAX_PART_BYTES,
        }
    }

    /// All parts of a scan.
    fn parts(state: &StateMachine, mut scan: Scan) -> Vec<Part> {
        let mut parts = Vec::new();
        loop {
            let part = state.scan(&mut scan);
            let last = part.is_last(&scan);
            parts.push(part);
            if last {
                return parts;
            }
        }
    }

    fn with_keys(keys: u32, value: usize) -> StateMachine {
        let value = Value::from(vec![b'v'; value]);
        let pairs = (0..keys).map(|it| (key(&it.to_be_bytes()), value.clone()));
        pairs.collect()
    }

    #[test]
    fn a_part_ends_before_it_is_too_large() {
        let state = with_keys(300, 1024 - 4 - ENTRY_BYTES);
        let read = parts(&state, all(KeyRange::prefix(Key::new())));
        let sizes: Vec<_> = read.iter().map(|part| (part.count, part.more)).collect();
        assert_eq!(sizes, [(128, true), (128, true), (44, false)]);
        assert_eq!(read[0].bytes(), MAX_PART_BYTES - 128 * ENTRY_BYTES);
        // Without values, and without anything, it holds more keys.
        let keys = Scan {
            keys_only: true,
            ..all(KeyRange::prefix(Key::new()))
        };
        let read = parts(&state, keys);
        assert_eq!(read.len(), 1);
        let part = &read[0];
        assert_eq!((part.count, part.bytes()), (300, 1200));
        assert!(part.entries.iter().all(|entry| entry.value.is_empty()));
    }

    #[test]
    fn an_entry_that_is_larger_than_a_part_is_a_part() {
        let state = with_keys(3, MAX_PART_BYTES);
        let read = parts(&state, all(KeyRange::prefix(Key::new())));
        assert!(read.iter().all(|part| part.entries.len() == 1));
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn a_part_has_a_bound_of_keys() {
        let keys = u32::try_from(MAX_PART_KEYS).unwrap() + 1;
        let counted = Scan {
            count_only: true,
            ..all(KeyRange::prefix(Key::new()))
        };
        let read = parts(&with_keys(keys, 0), counted);
        let sizes: Vec<_> = read
            .iter()
            .map(|it| (it.count, it.entries.len(), it.more))
            .collect();
        assert_eq!(sizes, [(4096, 0, true), (1, 0, false)]);
    }

    #[test]
    fn a_limit_says_whether_there_is_more() {
        let state = with_keys(5, 1);
        let limited = |limit| {
            let scan = Scan {
                limit,
                ..all(KeyRange::prefix(Key::new()))
            };
            let read = parts(&state, scan);
            (read.len(), read[0].count, read[0].more)
        };
        assert_eq!(limited(4), (1, 4, true));
        assert_eq!(limited(5), (1, 5, false));
        assert_eq!(limited(6), (1, 5, false));
    }

    #[test]
    fn a_query_keeps_the_state_if_there_is_more_to_read() {
        let state = with_keys(3, 1);
        let finds = |limit, part_bytes, keeps, expected| {
            let scan = Scan {
                limit,
                part_bytes,
                ..all(KeyRange::prefix(Key::new()))
            };
            let query = Query::Scan {
                scan: Box::new(scan),
                keeps,
            };
            assert_eq!((query.bytes(), query.level()), (0, ProtocolLevel::FIRST));
            let is =
                |part: &(Part, Scan), kept: bool| (part.0.count, part.1.limit, kept) == expected;
            matches!(state.find(&query, 7), Found::Part(part, kept) if is(&part, kept.is_some()))
        };
        assert!(finds(9, 1, true, (1, 8, true)));
        assert!(finds(9, 1, false, (1, 8, false)));
        assert!(finds(1, 1, true, (1, 0, false)), "the limit is reached");
        assert!(finds(9, MAX_PART_BYTES, true, (3, 6, false)), "all is read");
    }

    #[test]
    fn a_copy_is_read_as_it_was() {
        let mut state = with_keys(10, 1);
        let copy = state.clone();
        for it in [1u32, 3] {
            let key = key(&it.to_be_bytes());
            state.apply(7, Command::from(Write::Delete { key }));
        }
        let new = Write::Set {
            key: key(b"new"),
            value: Value::new(),
        };
        state.apply(8, new.into());
        let count = |state: &StateMachine| parts(state, all(KeyRange::prefix(Key::new())))[0].count;
        assert_eq!((count(&copy), count(&state)), (10, 9));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff)],
            0..4,
        )
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            bytes().prop_map(|it| KeyRange::key(key(&it))),
            bytes().prop_map(|it| KeyRange::prefix(key(&it))),
            (bytes(), prop::option::of(bytes())).prop_map(|(start, end)| {
                KeyRange::interval(key(&start), end.map(|end| key(&end)))
            }),
        ]
    }

    proptest! {
        /// A scan gives the keys of the range that a sorted map gives, after any writes.
        #[test]
        fn a_scan_is_the_range_of_a_sorted_map(
            writes in prop::collection::vec((bytes(), any::<bool>()), 0..60),
            range in range(),
            limit in 1u64..20,
        ) {
            let mut model = std::collections::BTreeSet::new();
            let mut state = StateMachine::default();
            for (it, binds) in writes {
                if it.is_empty() {
                    continue;
                }
                let key = key(&it);
                state.apply(1, match binds {
                    true => Write::Set { key, value: Value::new() },
                    false => Write::Delete { key },
                }.into());
                match binds {
                    true => model.insert(it),
                    false => model.remove(&it),
                };
            }
            let expected: Vec<_> = model.iter().filter(|it| range.contains(it)).collect();
            let limited = Scan { limit, ..all(range) };
            let read = parts(&state, limited);
            let keys: Vec<_> = read.iter().flat_map(|part| &part.entries).map(|it| it.key.to_vec()).collect();
            let take = usize::try_from(limit).unwrap();
            prop_assert_eq!(keys.iter().collect::<Vec<_>>(), expected.iter().copied().take(take).collect::<Vec<_>>());
            prop_assert_eq!(read.last().unwrap().more, expected.len() > take);
        }

        #[test]
        fn a_prefix_has_the_keys_that_begin_with_it(prefix in bytes(), it in bytes()) {
            let range = KeyRange::prefix(key(&prefix));
            prop_assert_eq!(range.contains(&it), it.starts_with(&prefix));
        }
    }
}
