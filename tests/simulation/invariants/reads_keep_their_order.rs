//! A read among writes sees the writes before it, and none of the writes after it.

use std::collections::BTreeMap;

use seshat::types::LogIndex;

use super::{Verdict, safe};

const NAME: &str = "reads_keep_their_order";

/// The position of a request in its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InBatch {
    pub(crate) batch: u64,
    pub(crate) position: usize,
    pub(crate) read: bool,
}

/// The answers to the requests of each batch, by their positions.
#[derive(Debug, Default)]
struct Batch {
    writes: BTreeMap<usize, LogIndex>,
    reads: BTreeMap<usize, LogIndex>,
}

/// All batches.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    begun: u64,
    batches: BTreeMap<u64, Batch>,
}

impl Batches {
    /// Begins a batch, and returns its name.
    pub(crate) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// The request was answered with `index`.
    pub(crate) fn check(&mut self, request: InBatch, index: LogIndex) -> Verdict {
        let batch = self.batches.entry(request.batch).or_default();
        let at = request.position;
        let (own, others) = match request.read {
            true => (&mut batch.reads, &batch.writes),
            false => (&mut batch.writes, &batch.reads),
        };
        own.insert(at, index);
        let before = others.range(..at).next_back();
        let after = others.range(at..).next();
        let (write_before, write_after) = match request.read {
            // The read at its index, and all later ones, see a write.
            true => (
                before.is_none_or(|(_, &write)| write <= index),
                after.is_none_or(|(_, &write)| index < write),
            ),
            false => (
                before.is_none_or(|(_, &read)| read < index),
                after.is_none_or(|(_, &read)| index <= read),
            ),
        };
        safe(write_before && write_after, NAME, || {
            format!("{request:?} was answered with {index}, between {before:?} and {after:?}")
        })
    }
}
