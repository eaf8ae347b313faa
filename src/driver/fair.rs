//! Fair shares for the sources of requests.
//!
//! One connection can send more in a moment than a node executes in a second. In a single queue all other
//! requests would wait behind it for that second. So every *source* has a queue of its own, and the
//! sources take turns: deficit round robin (Shreedhar and Varghese, 1995). A turn of a source adds a
//! quantum to its balance, and each request is paid from the balance. A request that the balance does not
//! cover waits for another turn. So sources share by cost and not by number of requests, and large
//! demands delay only their own source. A new source with one small request waits for at most one turn of
//! each other source.
//!
//! A batch costs one look-up in a hash map. A request costs one turn of the round for each quantum of its
//! cost. The owner of the queue bounds its length.

use std::collections::{HashMap, VecDeque};
use std::mem;

use foldhash::fast::RandomState;

/// Number of empty queues whose memory is kept for the next source, and the largest capacity that is kept.
const SPARE_LINES: usize = 64;
const SPARE_LENGTH: usize = 64;

/// A party that shares turns with others: a connection, or a part of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(pub(super) u64);

/// The requests of one source.
struct Line<T> {
    source: Source,
    /// Each with its cost.
    requests: VecDeque<(usize, T)>,
    balance: usize,
}

/// The requests of many sources.
pub(super) struct FairQueue<T> {
    lines: Vec<Line<T>>,
    /// Positions in `lines` of the sources that have requests.
    places: HashMap<Source, usize, RandomState>,
    /// The same positions in the order of their turns.
    turns: VecDeque<usize>,
    /// Positions of unused queues.
    vacant: Vec<usize>,
    quantum: usize,
    len: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue, in which one turn of a source is worth `quantum`.
    pub(super) fn new(quantum: usize) -> Self {
        Self {
            lines: Vec::new(),
            places: HashMap::default(),
            turns: VecDeque::new(),
            vacant: Vec::new(),
            quantum: quantum.max(1),
            len: 0,
        }
    }

    /// The number of waiting requests.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether no request waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends requests, each with its cost, behind the others of their source.
    pub(super) fn extend(
        &mut self,
        source: Source,
        requests: impl IntoIterator<Item = (usize, T)>,
    ) {
        let mut requests = requests.into_iter().peekable();
        if requests.peek().is_none() {
            return;
        }
        if let Some(line) = self.line(source) {
            let before = line.requests.len();
            line.requests.extend(requests);
            let more = line.requests.len() - before;
            self.len += more;
        }
    }

    /// The queue of `source`, which takes part in the turns from now on.
    fn line(&mut self, source: Source) -> Option<&mut Line<T>> {
        let Self {
            lines,
            places,
            turns,
            vacant,
            quantum,
            ..
        } = self;
        let place = *places.entry(source).or_insert_with(|| {
            let place = vacant.pop().unwrap_or_else(|| {
                lines.push(Line {
                    source,
                    requests: VecDeque::new(),
                    balance: 0,
                });
                lines.len() - 1
            });
            if let Some(line) = lines.get_mut(place) {
                line.source = source;
                line.balance = *quantum;
            }
            turns.push_back(place);
            place
        });
        lines.get_mut(place)
    }

    /// Removes and returns the request whose turn it is, if it fits. Otherwise that request stays the next.
    pub(super) fn pop_if(&mut self, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        loop {
            let place = *self.turns.front()?;
            let line = self.lines.get_mut(place)?;
            let (cost, request) = line.requests.front()?;
            if let Some(balance) = line.balance.checked_sub(*cost) {
                if !fits(request) {
                    return None;
                }
                line.balance = balance;
                let (_, request) = line.requests.pop_front()?;
                if line.requests.is_empty() {
                    self.leave(place);
                }
                self.len -= 1;
                return Some(request);
            }
            line.balance = line.balance.saturating_add(self.quantum);
            self.turns.rotate_left(1);
        }
    }

    /// Removes the source whose turn it is, because it has no more requests. It keeps no balance: idle
    /// time earns nothing.
    fn leave(&mut self, place: usize) {
        self.turns.pop_front();
        if let Some(line) = self.lines.get_mut(place) {
            self.places.remove(&line.source);
            if self.vacant.len() >= SPARE_LINES || line.requests.capacity() > SPARE_LENGTH {
                mem::take(&mut line.requests);
            }
            self.vacant.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTUM: usize = 10;

    /// A queue of requests, given as (source, cost, number).
    fn queue(requests: &[(u64, usize, u32)]) -> FairQueue<(u64, u32)> {
        let mut queue = FairQueue::new(QUANTUM);
        for &(source, cost, number) in requests {
            queue.extend(Source(source), [(cost, (source, number))]);
        }
        queue
    }

    fn pop(queue: &mut FairQueue<(u64, u32)>) -> Option<(u64, u32)> {
        queue.pop_if(|_| true)
    }

    fn all(queue: &mut FairQueue<(u64, u32)>) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| pop(queue)).collect()
    }

    #[test]
    fn a_lone_source_is_served_in_its_order_whatever_it_asks() {
        let mut queue = queue(&[(1, 1, 1), (1, 1000, 2), (1, 0, 3)]);
        assert_eq!(queue.len(), 3);
        assert_eq!(all(&mut queue), [(1, 1), (1, 2), (1, 3)]);
        assert!(queue.is_empty());
        assert_eq!(pop(&mut queue), None);
    }

    #[test]
    fn a_source_with_one_request_waits_for_one_turn_of_each_other() {
        let mut many: Vec<_> = (0..1000)
            .flat_map(|number| [(1, 1, number), (2, 1, number)])
            .collect();
        many.push((3, 1, 0));
        let mut queue = queue(&many);
        let before = all(&mut queue).iter().position(|(source, _)| *source == 3);
        assert_eq!(before, Some(2 * QUANTUM));
    }

    #[test]
    fn a_source_that_asks_for_nothing_delays_no_other() {
        let mut queue = queue(&[]);
        queue.extend(Source(1), []);
        queue.extend(Source(2), [(1, (2, 1)), (1, (2, 2))]);
        assert_eq!(queue.len(), 2);
        assert_eq!(all(&mut queue), [(2, 1), (2, 2)]);
    }

    #[test]
    fn sources_share_by_cost() {
        // One source has expensive requests, the other cheap ones, both more than are served.
        let mut requests: Vec<_> = (0..100).map(|number| (1, 25, number)).collect();
        requests.extend((0..2000).map(|number| (2, 1, number)));
        let mut queue = queue(&requests);
        let mut served = [0_usize; 2];
        for _ in 0..1040 {
            match pop(&mut queue) {
                Some((1, _)) => served[0] += 25,
                Some((2, _)) => served[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        let [large, small] = served;
        assert!(large.abs_diff(small) <= 25 + QUANTUM, "{large} {small}");
    }

    #[test]
    fn a_silent_source_saves_nothing() {
        let mut queue = queue(&[(1, 1, 0)]);
        assert_eq!(all(&mut queue), [(1, 0)]);
        for number in 0..30 {
            queue.extend(Source(2), [(1, (2, number))]);
            queue.extend(Source(1), [(1, (1, number))]);
        }
        let served = all(&mut queue);
        for source in [1, 2] {
            let first = served.iter().take(2 * QUANTUM);
            let count = first.filter(|(of, _)| *of == source).count();
            assert_eq!(count, QUANTUM, "source {source}");
        }
    }

    #[test]
    fn a_request_that_does_not_fit_stays_the_next() {
        let mut queue = queue(&[(1, 1, 1), (2, 1, 1)]);
        assert_eq!(queue.pop_if(|_| false), None);
        assert_eq!(queue.len(), 2);
        assert_eq!(all(&mut queue), [(1, 1), (2, 1)]);
    }

    /// Whatever the order of arrivals and departures, each request leaves once, and the requests of a
    /// source leave in order.
    #[test]
    fn every_request_leaves_once_and_in_the_order_of_its_source() {
        use rand::rngs::StdRng;
        use rand::{Rng as _, SeedableRng as _};
        for seed in 0..100 {
            println!("seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let mut queue = FairQueue::new(QUANTUM);
            let (mut pushed, mut popped) = ([0_u32; 8], [0_u32; 8]);
            for _ in 0..2000 {
                if rng.gen_bool(0.5) {
                    let source = rng.gen_range(0..8);
                    let number = &mut pushed[source];
                    let source = u64::try_from(source).unwrap();
                    let cost = rng.gen_range(0..40);
                    queue.extend(Source(source), [(cost, (source, *number))]);
                    *number += 1;
                } else if let Some((source, number)) = pop(&mut queue) {
                    let expected = &mut popped[usize::try_from(source).unwrap()];
                    assert_eq!(number, *expected);
                    *expected += 1;
                }
            }
            for (source, number) in all(&mut queue) {
                let expected = &mut popped[usize::try_from(source).unwrap()];
                assert_eq!(number, *expected);
                *expected += 1;
            }
            assert_eq!(pushed, popped);
        }
    }
}
