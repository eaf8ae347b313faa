//! The waiters: callers to whom the core owes an answer.
//!
//! A waiter enters here with its request and leaves with its outcome. There are three ways out: its entry
//! is applied, its read is confirmed and applied, or leadership ends and all waiters are told at once.
//! Nothing else removes one, and the queues are bounded.
//!
//! Reads go through stages (dissertation, section 6.4): *waiting* until no round is under way, in the
//! *round* whose heartbeats confirm that this node still leads, then *confirmed* at the commit index of
//! the round's beginning, until that index is applied. One round is under way at a time and takes all
//! waiting reads: raft-rs itself would send a round of heartbeats for every read.
//!
//! A *placed* read has its place among writes: it must see the map exactly as the entry before it leaves
//! it. It looks when that entry has been applied, and then goes through the same stages with the value
//! that it saw: if this node still leads afterwards, that was the newest state at that moment.

use std::collections::VecDeque;

use crate::kv::{Found, Query};
use crate::types::{LogIndex, Term};

/// A write whose entry is in the log.
struct PendingWrite<W> {
    index: LogIndex,
    term: Term,
    waiter: W,
}

/// A read and its waiter.
pub(super) struct Read<W> {
    pub(super) what: Sight,
    pub(super) waiter: W,
}

/// The query of a read that has not looked yet, or what it has seen.
pub(super) enum Sight {
    /// It looks when it is answered.
    Ahead(Query),
    /// What it saw when that index was applied.
    Seen(Found, LogIndex),
}

impl Sight {
    /// The number of reads of clients that it is.
    fn reads(&self) -> usize {
        match self {
            Self::Ahead(query) => query.reads(),
            Self::Seen(found, _) => found.reads(),
        }
    }
}

/// A read that looks when `index` has been applied.
struct PlacedRead<W> {
    index: LogIndex,
    query: Query,
    waiter: W,
}

/// The reads whose leadership check is under way.
struct Round<W> {
    context: Vec<u8>,
    reads: Vec<Read<W>>,
}

/// All waiters.
pub(super) struct Waiters<W> {
    writes: VecDeque<PendingWrite<W>>,
    placed_reads: VecDeque<PlacedRead<W>>,
    waiting_reads: VecDeque<Read<W>>,
    round: Option<Round<W>>,
    confirmed_reads: VecDeque<(LogIndex, Vec<Read<W>>)>,
    /// Number of reads of clients in all stages.
    reads: usize,
}

impl<W> Default for Waiters<W> {
    fn default() -> Self {
        Self {
            writes: VecDeque::new(),
            placed_reads: VecDeque::new(),
            waiting_reads: VecDeque::new(),
            round: None,
            confirmed_reads: VecDeque::new(),
            reads: 0,
        }
    }
}

impl<W> Waiters<W> {
    /// The number of waiters.
    pub(super) fn len(&self) -> usize {
        self.writes.len() + self.reads
    }

    /// Adds the waiter of a write that entered the log. Indices must ascend.
    pub(super) fn push_write(&mut self, index: LogIndex, term: Term, waiter: W) {
        self.writes.push_back(PendingWrite {
            index,
            term,
            waiter,
        });
    }

    /// Removes the waiter of the entry at `index` and `term`, if there is one.
    pub(super) fn take_write(&mut self, index: LogIndex, term: Term) -> Option<W> {
        let write = self
            .writes
            .pop_front_if(|write| (write.index, write.term) == (index, term))?;
        Some(write.waiter)
    }

    /// Adds a read that arrived, or that has looked.
    pub(super) fn push_read(&mut self, what: Sight, waiter: W) {
        self.reads += what.reads();
        self.waiting_reads.push_back(Read { what, waiter });
    }

    /// Adds a read that is to look when `index` has been applied. Indices must not descend.
    pub(super) fn place_read(&mut self, index: LogIndex, query: Query, waiter: W) {
        self.reads += query.reads();
        let read = PlacedRead {
            index,
            query,
            waiter,
        };
        self.placed_reads.push_back(read);
    }

    /// Removes a placed read that is to look now that `applied` has been applied.
    pub(super) fn take_placed(&mut self, applied: LogIndex) -> Option<(Query, W)> {
        let read = self
            .placed_reads
            .pop_front_if(|read| read.index <= applied)?;
        self.reads -= read.query.reads();
        Some((read.query, read.waiter))
    }

    /// Whether a round could begin: some read waits, and no round is under way.
    pub(super) fn wants_round(&self) -> bool {
        self.round.is_none() && !self.waiting_reads.is_empty()
    }

    /// Begins a round with the waiting reads: with as many as are at most `max` reads of clients, and with the
    /// first one anyway.
    pub(super) fn begin_round(&mut self, context: Vec<u8>, max: usize) {
        let mut reads = 0;
        let waiting = self.waiting_reads.iter().take_while(|read| {
            reads += read.what.reads();
            reads <= max
        });
        let take = waiting.count().max(1).min(self.waiting_reads.len());
        self.round = Some(Round {
            context,
            reads: self.waiting_reads.drain(..take).collect(),
        });
    }

    /// Confirms leadership for the round `context`: its reads may be answered once `index` is applied. A
    /// context of another round is ignored.
    pub(super) fn confirm_round(&mut self, context: &[u8], index: LogIndex) {
        if let Some(round) = self.round.take_if(|round| round.context == context) {
            self.confirmed_reads.push_back((index, round.reads));
        }
    }

    /// Removes the reads that may be answered when `applied` is applied.
    pub(super) fn take_reads(&mut self, applied: LogIndex) -> Option<Vec<Read<W>>> {
        let (_, reads) = self
            .confirmed_reads
            .pop_front_if(|(index, _)| *index <= applied)?;
        self.reads -= reads.iter().map(|read| read.what.reads()).sum::<usize>();
        Some(reads)
    }

    /// Removes all waiters: first the writes, whose outcome is unknown, then the reads.
    pub(super) fn take_all(&mut self) -> (Vec<W>, Vec<W>) {
        let Self {
            writes,
            placed_reads,
            waiting_reads,
            round,
            confirmed_reads,
            reads: _,
        } = std::mem::take(self);
        let writes = writes.into_iter().map(|write| write.waiter).collect();
        let confirmed = confirmed_reads.into_iter().flat_map(|(_, reads)| reads);
        let in_round = round.into_iter().flat_map(|round| round.reads);
        let reads = confirmed.chain(in_round).chain(waiting_reads);
        let placed = placed_reads.into_iter().map(|read| read.waiter);
        let reads = reads.map(|read| read.waiter).chain(placed);
        (writes, reads.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Key;

    fn placed(waiters: &mut Waiters<u32>, reads: &[(LogIndex, u32)]) {
        for &(index, waiter) in reads {
            waiters.place_read(index, Key::from(waiter.to_string()).into(), waiter);
        }
    }

    fn looks(waiters: &mut Waiters<u32>, applied: LogIndex) -> Vec<u32> {
        std::iter::from_fn(|| waiters.take_placed(applied))
            .map(|(query, waiter)| {
                assert_eq!(query, Key::from(waiter.to_string()).into());
                waiter
            })
            .collect()
    }

    #[test]
    fn placed_reads_look_in_order_each_when_its_index_is_applied() {
        let mut waiters = Waiters::default();
        placed(&mut waiters, &[(3, 1), (3, 2), (5, 3), (5, 4)]);
        assert_eq!(waiters.len(), 4);
        assert_eq!(looks(&mut waiters, 2), Vec::<u32>::new());
        assert_eq!(looks(&mut waiters, 4), [1, 2]);
        assert_eq!(looks(&mut waiters, 4), Vec::<u32>::new());
        assert_eq!(waiters.len(), 2);
        assert_eq!(looks(&mut waiters, 9), [3, 4]);
        assert_eq!(waiters.len(), 0);
    }

    /// A placed read that has looked is confirmed like any other, and counted once all the way.
    #[test]
    fn a_read_that_has_looked_goes_through_a_round() {
        let mut waiters = Waiters::default();
        placed(&mut waiters, &[(3, 1)]);
        assert!(!waiters.wants_round(), "it has not looked");
        let (_, waiter) = waiters.take_placed(3).unwrap();
        waiters.push_read(Sight::Seen(Found::Value(None), 3), waiter);
        assert!(waiters.wants_round());
        waiters.begin_round(vec![7], 10);
        assert_eq!(waiters.len(), 1);
        waiters.confirm_round(&[8], 3);
        assert!(waiters.take_reads(9).is_none(), "another round");
        waiters.confirm_round(&[7], 3);
        let reads = waiters.take_reads(3).unwrap();
        assert!(matches!(
            reads[..],
            [Read {
                what: Sight::Seen(Found::Value(None), 3),
                waiter: 1
            }]
        ));
        assert_eq!(waiters.len(), 0);
        assert!(waiters.take_reads(9).is_none());
    }

    /// Reads of every stage are included.
    #[test]
    fn when_leadership_ends_every_waiter_leaves_exactly_once() {
        let mut waiters = Waiters::default();
        waiters.push_write(2, 1, 1);
        waiters.push_write(3, 1, 2);
        placed(&mut waiters, &[(3, 3), (4, 4)]);
        waiters.push_read(Sight::Ahead(Key::from("k").into()), 5);
        waiters.begin_round(vec![1], 10);
        waiters.confirm_round(&[1], 9);
        waiters.push_read(Sight::Seen(Found::Value(None), 1), 6);
        waiters.begin_round(vec![2], 10);
        waiters.push_read(Sight::Ahead(Key::from("k").into()), 7);
        assert_eq!(waiters.len(), 7);
        let (writes, mut reads) = waiters.take_all();
        reads.sort_unstable();
        assert_eq!((writes, reads), (vec![1, 2], vec![3, 4, 5, 6, 7]));
        assert_eq!(waiters.len(), 0);
        assert_eq!(waiters.take_write(2, 1), None);
        assert_eq!(looks(&mut waiters, 9), Vec::<u32>::new());
        assert_eq!(waiters.take_all(), (vec![], vec![]));
    }

    #[test]
    fn a_run_counts_with_its_gets_in_each_stage_and_is_not_divided() {
        let mut waiters = Waiters::default();
        let run = || Query::Gets(vec!["a".into(), "b".into(), "a".into()]);
        waiters.place_read(1, run(), 1);
        waiters.place_read(1, Query::Get("k".into()), 2);
        assert_eq!(waiters.len(), 4);
        assert_eq!(waiters.take_placed(1), Some((run(), 1)));
        assert_eq!(waiters.len(), 1);
        waiters.push_read(Sight::Seen(Found::Values(vec![None; 3]), 1), 1);
        waiters.push_read(Sight::Ahead(run()), 3);
        waiters.push_read(Sight::Ahead(Query::Get("k".into())), 4);
        assert_eq!(waiters.len(), 8);
        let mut round = |max, context: u8| {
            waiters.begin_round(vec![context], max);
            waiters.confirm_round(&[context], 1);
            let reads = waiters.take_reads(1).expect("a round");
            let reads = reads.iter().map(|read| read.waiter);
            (reads.collect::<Vec<_>>(), waiters.len())
        };
        assert_eq!(round(2, 1), (vec![1], 5), "the first anyway");
        assert_eq!(round(4, 2), (vec![3, 4], 1));
    }
}
