//! What all clients of a test know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::Record;
use super::record::Moment;
use super::spans::Span;
use super::tenures::{Contradiction, Tenure};

/// The requests of all clients, with a clock that puts starts and ends in order, and a source of values.
#[derive(Debug)]
pub struct History {
    time: fn() -> Duration,
    moment: AtomicU64,
    value: AtomicU64,
    /// `None`: the request was surely not carried out.
    records: Mutex<Vec<Option<Record>>>,
    spans: Mutex<Vec<Span>>,
    tenures: Mutex<Vec<Tenure>>,
    contradictions: Mutex<Vec<Contradiction>>,
}

impl History {
    /// A history in which `time` tells the time.
    pub fn new(time: fn() -> Duration) -> Self {
        Self {
            time,
            moment: AtomicU64::default(),
            value: AtomicU64::default(),
            records: Mutex::default(),
            spans: Mutex::default(),
            tenures: Mutex::default(),
            contradictions: Mutex::default(),
        }
    }

    /// The present moment.
    pub fn moment(&self) -> Moment {
        Moment {
            number: self.moment.fetch_add(1, Ordering::SeqCst) + 1,
            time: (self.time)(),
        }
    }

    /// A value that no other request writes.
    pub fn fresh_value(&self) -> u64 {
        self.value.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn remember(&self, record: Record) {
        lock(&self.records).push(Some(record));
    }

    /// A request is about to be sent, by a client that may end before it is answered. Returns its place.
    pub fn sent(&self, record: Record) -> usize {
        let mut records = lock(&self.records);
        records.push(Some(record));
        records.len() - 1
    }

    /// The outcome of the request at `place`. `None`: it was surely not carried out.
    pub fn ended(&self, place: usize, record: Option<Record>) {
        lock(&self.records)[place] = record;
    }

    /// A watch has shown all changes in between.
    pub fn watched(&self, span: Span) {
        lock(&self.spans).push(span);
    }

    /// A client has held a lock.
    pub fn held(&self, tenure: Tenure) {
        lock(&self.tenures).push(tenure);
    }

    /// A client was told what cannot be true.
    pub fn contradicted(&self, contradiction: Contradiction) {
        lock(&self.contradictions).push(contradiction);
    }

    pub fn records(&self) -> Vec<Record> {
        lock(&self.records).iter().flatten().cloned().collect()
    }

    pub fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        lock(&self.spans)
    }

    pub fn tenures(&self) -> MutexGuard<'_, Vec<Tenure>> {
        lock(&self.tenures)
    }

    pub fn contradictions(&self) -> MutexGuard<'_, Vec<Contradiction>> {
        lock(&self.contradictions)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("not poisoned")
}
