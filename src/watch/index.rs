//! Which watches a key concerns.
//!
//! A write looks up its key among the watched keys, and each of its beginnings that has the length of a
//! watched prefix among these. So it costs no more with thousands of watches of other keys than with one.
//! Only intervals are compared one by one, each once, however many watch it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::WatchId;
use crate::kv::KeyRange;
use crate::types::Key;

type Ids = BTreeSet<WatchId>;

/// The ranges of all watches.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Key, Ids, RandomState>,
    prefixes: HashMap<Key, Ids, RandomState>,
    /// The number of prefixes of each length.
    lengths: BTreeMap<usize, usize>,
    /// In the order of their starts.
    intervals: BTreeMap<KeyRange, Ids>,
}

impl Index {
    pub(super) fn insert(&mut self, range: &KeyRange, id: WatchId) {
        if let Some(key) = range.as_key() {
            self.keys.entry(key.clone()).or_default().insert(id);
        } else if let Some(prefix) = range.as_prefix() {
            let ids = self.prefixes.entry(prefix.clone()).or_default();
            if ids.is_empty() {
                *self.lengths.entry(prefix.len()).or_default() += 1;
            }
            ids.insert(id);
        } else if !range.is_empty() {
            self.intervals.entry(range.clone()).or_default().insert(id);
        }
    }

    pub(super) fn remove(&mut self, range: &KeyRange, id: WatchId) {
        if let Some(key) = range.as_key() {
            if let Some(ids) = self.keys.get_mut(key) {
                ids.remove(&id);
                self.keys.retain_used(key);
            }
        } else if let Some(prefix) = range.as_prefix() {
            if let Some(ids) = self.prefixes.get_mut(prefix) {
                ids.remove(&id);
                if self.prefixes.retain_used(prefix) {
                    self.forget_length(prefix.len());
                }
            }
        } else if let Some(ids) = self.intervals.get_mut(range) {
            ids.remove(&id);
            if ids.is_empty() {
                self.intervals.remove(range);
            }
        }
    }

    fn forget_length(&mut self, length: usize) {
        if let Some(count) = self.lengths.get_mut(&length) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    /// The watches whose range has `key`.
    pub(super) fn of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = WatchId> + 'a {
        let prefixes = self
            .lengths
            .keys()
            .filter_map(move |length| key.get(..*length));
        let prefixes = prefixes.filter_map(move |prefix| self.prefixes.get(prefix));
        let begun = self.intervals.iter();
        let begun = begun.take_while(move |(range, _)| &range.start()[..] <= key);
        let intervals = begun.filter(move |(range, _)| range.contains(key));
        let all = self.keys.get(key).into_iter();
        let all = all.chain(prefixes).chain(intervals.map(|(_, ids)| ids));
        all.flatten().copied()
    }
}

/// A map without empty sets.
trait RetainUsed {
    /// Removes `key` if its set is empty. Returns whether it did.
    fn retain_used(&mut self, key: &Key) -> bool;
}

impl RetainUsed for HashMap<Key, Ids, RandomState> {
    fn retain_used(&mut self, key: &Key) -> bool {
        let unused = self.get(key).is_some_and(Ids::is_empty);
        unused && self.remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Key> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xff)];
        prop::collection::vec(byte, 0..4).prop_map(Key::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            bytes().prop_map(KeyRange::key),
            bytes().prop_map(KeyRange::prefix),
            (bytes(), prop::option::of(bytes()))
                .prop_map(|(start, end)| KeyRange::interval(start, end)),
        ]
    }

    proptest! {
        #[test]
        fn a_key_concerns_the_watches_of_ranges_that_have_it(
            ranges in prop::collection::vec((range(), any::<bool>()), 0..30),
            keys in prop::collection::vec(bytes(), 1..10),
        ) {
            let mut index = Index::default();
            let ranges: Vec<_> = (0..).map(WatchId).zip(ranges).collect();
            for (id, (range, _)) in &ranges {
                index.insert(range, *id);
            }
            for (id, (range, stays)) in &ranges {
                if !stays {
                    index.remove(range, *id);
                }
            }
            for key in keys {
                let mut found: Vec<_> = index.of(&key).collect();
                found.sort_unstable();
                let concerned = ranges.iter().filter(|(_, (range, stays))| *stays && range.contains(&key));
                prop_assert_eq!(found, concerned.map(|(id, _)| *id).collect::<Vec<_>>());
            }
            for (id, (range, stays)) in &ranges {
                if *stays {
                    index.remove(range, *id);
                }
            }
            prop_assert!(index.keys.is_empty() && index.prefixes.is_empty());
            prop_assert!(index.lengths.is_empty() && index.intervals.is_empty());
        }
    }
}
