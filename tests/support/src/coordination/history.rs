//! What all clients of a test know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::Record;

/// The requests of all clients, with a clock of moments that puts starts and ends in order, and a source of
/// values.
#[derive(Debug, Default)]
pub struct History {
    moment: AtomicU64,
    value: AtomicU64,
    records: Mutex<Vec<Record>>,
}

impl History {
    /// The next moment. An event that happened before another one has the lower moment.
    pub fn moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A value that no other request writes.
    pub fn fresh_value(&self) -> u64 {
        self.value.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn remember(&self, record: Record) {
        self.records().push(record);
    }

    pub fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().expect("not poisoned")
    }
}
