//! The bounds of the watches of a node.

use crate::kv::MAX_PART_BYTES;

/// Bounds of the watches of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchBounds {
    /// Maximum number of watches.
    pub watches: usize,
    /// Maximum bytes of the history.
    pub history_bytes: usize,
    /// Maximum bytes that wait for one client: changes, or the keys of changes.
    pub waiting_bytes: usize,
    /// Maximum bytes that wait for all clients, or are on their way. No client has more of them than it
    /// leaves free, except a single entry.
    pub all_waiting_bytes: usize,
    /// Maximum bytes of a message, unless a single entry is larger.
    pub part_bytes: usize,
    /// Bytes of messages at which a turn ends.
    pub turn_bytes: usize,
    /// Ticks without a leader after which all watches end.
    pub patience_ticks: u64,
}

impl Default for WatchBounds {
    fn default() -> Self {
        Self {
            watches: 16_384,
            history_bytes: 32 << 20,
            waiting_bytes: 1 << 20,
            all_waiting_bytes: 32 << 20,
            part_bytes: MAX_PART_BYTES,
            turn_bytes: 512 << 10,
            patience_ticks: 100,
        }
    }
}

impl WatchBounds {
    /// The most bytes of a client that leave as many free, beside `others`.
    pub(super) fn share(&self, others: usize) -> usize {
        self.all_waiting_bytes.saturating_sub(others) / 2
    }

    /// Bytes that may wait for a client beside `others`.
    pub(super) fn room(&self, others: usize) -> usize {
        self.waiting_bytes.min(self.share(others))
    }
}
