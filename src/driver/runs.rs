//! The runs of a batch: gets that follow each other are one query.
//!
//! The work for a query beside its look-up is several times the look-up: it waits for its turn, has a place
//! among the writes, joins a round, and is answered. A run does all of that once.

use std::iter::{Enumerate, Peekable};
use std::vec;

use super::batch::BatchItem;
use crate::kv::Query;
use crate::types::Key;

/// Maximum number of gets in a run: few enough that other sources do not wait long for their turn.
pub(super) const MAX_RUN: usize = 16;
/// Bytes of keys at which a run ends.
const MAX_RUN_BYTES: usize = 16 << 10;

/// The items of a batch, in order, each with its place. Gets that follow each other are one [`Query::Gets`].
pub(super) struct Runs {
    items: Peekable<Enumerate<vec::IntoIter<BatchItem>>>,
    /// Maximum number of gets in a run.
    max: usize,
}

impl Runs {
    /// The runs of `items`, with at most `max` gets each.
    pub(super) fn of(items: Vec<BatchItem>, max: usize) -> Self {
        Self {
            items: items.into_iter().enumerate().peekable(),
            max,
        }
    }

    /// The keys of the gets that follow `first`, and `first`.
    fn run(&mut self, first: Key) -> Query {
        if !self.items.peek().is_some_and(|(_, item)| is_get(item)) {
            return Query::Get(first);
        }
        let mut bytes = first.len();
        let mut keys = Vec::with_capacity(self.max);
        keys.push(first);
        while keys.len() < self.max
            && bytes < MAX_RUN_BYTES
            && let Some((_, BatchItem::Read(Query::Get(key)))) =
                self.items.next_if(|(_, item)| is_get(item))
        {
            bytes = bytes.saturating_add(key.len());
            keys.push(key);
        }
        Query::Gets(keys)
    }
}

impl Iterator for Runs {
    type Item = (usize, BatchItem);

    fn next(&mut self) -> Option<Self::Item> {
        let (place, item) = self.items.next()?;
        let item = match item {
            BatchItem::Read(Query::Get(key)) if self.max > 1 => BatchItem::Read(self.run(key)),
            item => item,
        };
        Some((place, item))
    }
}

fn is_get(item: &BatchItem) -> bool {
    matches!(item, BatchItem::Read(Query::Get(_)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn get(key: impl Into<Key>) -> BatchItem {
        BatchItem::Read(Query::Get(key.into()))
    }

    fn write() -> BatchItem {
        BatchItem::Write {
            command: Bytes::from("w"),
            context: Bytes::new(),
        }
    }

    /// The place and the number of gets of each run; no number for another item.
    fn runs(items: Vec<BatchItem>, max: usize) -> Vec<(usize, Option<usize>)> {
        let runs = Runs::of(items, max).map(|(place, item)| match item {
            BatchItem::Read(query @ (Query::Get(_) | Query::Gets(_))) => {
                (place, Some(query.reads()))
            }
            _ => (place, None),
        });
        runs.collect()
    }

    #[test]
    fn gets_that_follow_each_other_are_one_run_and_others_stay_alone() {
        let items = vec![get("a"), get("b"), write(), get("c"), write(), write()];
        let expected = [(0, Some(2)), (2, None), (3, Some(1)), (4, None), (5, None)];
        assert_eq!(runs(items, 16), expected);
        let mut runs = Runs::of(vec![get("a"), get("b"), get("a")], 16);
        let Some((0, BatchItem::Read(Query::Gets(keys)))) = runs.next() else {
            panic!("a run");
        };
        assert_eq!(keys, ["a", "b", "a"]);
        assert!(runs.next().is_none());
    }

    #[test]
    fn a_run_has_a_bound_on_its_gets_and_on_their_bytes() {
        let gets = |keys: usize| (0..keys).map(|_| get("k")).collect::<Vec<_>>();
        assert_eq!(runs(gets(5), 2), [(0, Some(2)), (2, Some(2)), (4, Some(1))]);
        assert_eq!(runs(gets(2), 1), [(0, Some(1)), (1, Some(1))]);
        let long = || get(vec![b'k'; MAX_RUN_BYTES / 2]);
        assert_eq!(
            runs(vec![long(), long(), get("k")], 16),
            [(0, Some(2)), (2, Some(1))]
        );
    }

    #[test]
    fn another_read_ends_a_run() {
        let items = vec![get("a"), BatchItem::Read(Query::Lock("l".into())), get("b")];
        assert_eq!(runs(items, 16), [(0, Some(1)), (1, None), (2, Some(1))]);
    }
}
