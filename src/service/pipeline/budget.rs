//! The bytes that a stream may hold.
//!
//! The bytes of a request are known when it comes, but those of its answer are not: a read of few bytes
//! may return a large value. So bytes for the values are reserved by the size of recent values of the
//! stream, and corrected when the values are known.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Host;
use crate::driver::{Account, Answer, Held, Outcome, ValueRoom};

/// Bytes of requests and answers of one stream that may wait to be sent, unless a single batch has more.
const MAX_BYTES: usize = 16 << 20;

/// Bytes that a command and its answer count besides key and value.
pub(super) const COMMAND_BYTES: usize = 256;

/// The budget of one stream.
pub(super) struct Budget {
    account: Arc<Account>,
    /// Expected bytes of a value that is read.
    expected: AtomicUsize,
    /// Bytes of values that fit into one answer.
    max_values: usize,
}

impl Budget {
    /// The budget of a new stream: until it has read a value, the largest one is expected.
    pub(super) fn new(host: &Host) -> Self {
        Self {
            account: host.reader.account(MAX_BYTES),
            expected: AtomicUsize::new(host.options.max_value_bytes),
            max_values: host.options.max_grpc_message_bytes / 2,
        }
    }

    /// Waits for capacity for a batch of `bytes` bytes that reads `reads` keys. Both parts are held until the
    /// answer is sent.
    pub(super) async fn reserve(&self, bytes: usize, reads: usize) -> (Held, ValueRoom) {
        let expected = self.expected.load(Ordering::Relaxed);
        // A single value may be larger than the bound of all values of an answer.
        let values = reads
            .saturating_mul(expected)
            .min(self.max_values.max(expected));
        let (held, values) = self.account.reserve(bytes, values).await;
        (held, ValueRoom::new(values, self.max_values))
    }

    /// Updates the expected size: the largest value of this batch, or the earlier expectation minus an
    /// eighth, if that is more.
    pub(super) fn learn(&self, outcomes: &[Outcome]) {
        let bytes = outcomes.iter().filter_map(|outcome| match outcome {
            Ok(Answer::Got { found, .. }) => {
                Some(found.as_ref().map_or(0, |(pair, _)| pair.value().len()))
            }
            _ => None,
        });
        if let Some(largest) = bytes.max() {
            let expected = self.expected.load(Ordering::Relaxed);
            let before = expected - expected / 8;
            self.expected.store(before.max(largest), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Unread;
    use crate::kv::Pair;

    fn budget(expected: usize) -> Budget {
        Budget {
            account: Unread::new(1 << 30).reader().account(MAX_BYTES),
            expected: AtomicUsize::new(expected),
            max_values: 1000,
        }
    }

    fn got(bytes: usize) -> Outcome {
        let found = Some((Pair::new(b"k", &vec![0; bytes], 1, false), 1));
        let applied_index = 1;
        Ok(Answer::Got {
            found,
            applied_index,
        })
    }

    #[tokio::test]
    async fn room_is_taken_for_what_reads_are_expected_to_bring() {
        let budget = budget(100);
        for (reads, values) in [(0, 0), (3, 300), (500, 1000)] {
            let (held, room) = budget.reserve(7, reads).await;
            assert_eq!((held.bytes(), budget.account.held()), (7, 7 + values));
            drop((held, room));
        }
    }

    #[test]
    fn the_largest_of_late_is_expected() {
        let budget = budget(1 << 20);
        let expected = || budget.expected.load(Ordering::Relaxed);
        budget.learn(&[Ok(Answer::Set { applied_index: 1 })]);
        assert_eq!(expected(), 1 << 20, "nothing was read");
        for _ in 0..100 {
            budget.learn(&[got(10), got(30)]);
        }
        assert_eq!(expected(), 30);
        budget.learn(&[got(5000)]);
        assert_eq!(expected(), 5000);
    }
}
