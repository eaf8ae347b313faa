//! The operations of clients and their outcomes, and whether these can be true.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use seshat_test_support::linearizability::{self, Kind, Operation};

/// The most operations in one history: more would show nothing new and would fill the memory.
pub(crate) const MAX_OPERATIONS: usize = 400_000;

/// The time since the first use of this clock.
pub(crate) fn elapsed() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// The same in nanoseconds.
pub(crate) fn now() -> u64 {
    // Operations begin after the missing key that every history begins with.
    u64::try_from(elapsed().as_nanos()).expect("a short time") + 1
}

/// A fresh value.
pub(crate) fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The outcome that a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was done; of a read, the value.
    Done(Option<u64>),
    /// It was surely not done.
    NotDone,
    /// It may have been done, or may still be.
    Unknown,
}

/// The operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Write(u64),
    Read,
}

/// The number of operations by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    /// Writes that were surely not done.
    pub(crate) refused: u64,
    /// Writes with an unknown outcome.
    pub(crate) unknown: u64,
    /// Reads that were not answered.
    pub(crate) unread: u64,
    /// Answers to clients that coordinate.
    pub(crate) coordinated: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            writes,
            reads,
            refused,
            unknown,
            unread,
            coordinated,
        } = self;
        write!(
            f,
            "{writes} writes, {refused} refused, {unknown} unknown; {reads} reads, {unread} failed; \
             {coordinated} answers to actors"
        )
    }
}

/// All operations of some clients, and their outcomes.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    keys: BTreeMap<String, Vec<Operation>>,
    operations: usize,
    counts: Counts,
}

impl History {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("not poisoned")
    }

    /// Records an operation that began at `start` and has ended now.
    pub(crate) fn note(&self, key: &str, asked: Asked, start: u64, told: Told) {
        let now = now();
        let mut inner = self.inner();
        let counts = &mut inner.counts;
        let (kind, end) = match (asked, told) {
            (Asked::Write(value), Told::Done(_)) => {
                counts.writes += 1;
                (Kind::Write(value), Some(now))
            }
            (Asked::Write(value), Told::Unknown) => {
                counts.unknown += 1;
                (Kind::Write(value), None)
            }
            // A read of such a value has read a value that was never written.
            (Asked::Write(_), Told::NotDone) => {
                counts.refused += 1;
                return;
            }
            (Asked::Read, Told::Done(value)) => {
                counts.reads += 1;
                (Kind::Read(value), Some(now))
            }
            (Asked::Read, Told::NotDone | Told::Unknown) => {
                counts.unread += 1;
                return;
            }
        };
        let operation = Operation { kind, start, end };
        inner
            .keys
            .entry(key.to_owned())
            .or_default()
            .push(operation);
        inner.operations += 1;
    }

    /// Whether the history is full.
    pub(crate) fn is_full(&self) -> bool {
        self.inner().operations >= MAX_OPERATIONS
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner().counts
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.inner().keys.keys().cloned().collect()
    }

    /// The time from `moment` to the first acknowledgement of a write that also began after it.
    pub(crate) fn first_write_after(&self, moment: u64) -> Option<Duration> {
        let inner = self.inner();
        let writes = inner.keys.values().flatten();
        let late = writes.filter(|operation| {
            matches!(operation.kind, Kind::Write(_)) && operation.start >= moment
        });
        let first = late.filter_map(|operation| operation.end).min()?;
        Some(Duration::from_nanos(first - moment))
    }

    /// The possible values of a key from now on, if no client writes: the value of the last read, and
    /// those of writes of unknown outcome.
    pub(crate) fn possible_values(&self) -> BTreeMap<String, Vec<Option<u64>>> {
        let possible = |operations: &Vec<Operation>| {
            let reads = operations
                .iter()
                .rev()
                .filter_map(|operation| match operation.kind {
                    Kind::Read(value) => Some(value),
                    Kind::Write(_) => None,
                });
            let unknown = operations
                .iter()
                .filter(|operation| operation.end.is_none());
            let unknown = unknown.filter_map(|operation| match operation.kind {
                Kind::Write(value) => Some(Some(value)),
                Kind::Read(_) => None,
            });
            reads.take(1).chain(unknown).collect()
        };
        let inner = self.inner();
        let keys = inner.keys.iter();
        keys.map(|(key, operations)| (key.clone(), possible(operations)))
            .collect()
    }

    /// Fails unless every key's history is linearizable: no read was stale, no acknowledged write was
    /// lost, and no value was read that was never written or surely not applied.
    pub(crate) fn check(&self) {
        let inner = self.inner();
        for (key, operations) in &inner.keys {
            if let Err(problem) = linearizability::check(operations) {
                panic!("{key}, {} operations: {problem}", operations.len());
            }
        }
    }
}
