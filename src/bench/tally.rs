//! The counts of one client, and of all clients together.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use super::target::Refused;

/// Significant decimal digits of latencies: they are exact within one part in a hundred.
const DIGITS: u8 = 2;
/// Lower bound of the histogram, in nanoseconds.
const SHORTEST: u64 = 1_000;
/// Upper bound of the histogram: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Counts of measured operations.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Operations that were answered.
    pub(super) ops: u64,
    /// Bytes of their keys and values, both ways.
    pub(super) bytes: u64,
    /// Operations that were not answered, by kind.
    pub(super) errors: BTreeMap<&'static str, Errors>,
    /// Latencies of the answered operations, in nanoseconds.
    pub(super) latencies: Histogram<u64>,
    /// The longest latency, exactly.
    pub(super) longest: Duration,
}

/// Errors of one kind.
#[derive(Debug, Clone)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// The message of the first error.
    pub(super) first: String,
}

impl Tally {
    /// An empty tally.
    ///
    /// # Errors
    ///
    /// There is no memory for the histogram.
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            ops: 0,
            bytes: 0,
            errors: BTreeMap::new(),
            latencies: Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS)?,
            longest: Duration::ZERO,
        })
    }

    pub(super) fn answered(&mut self, latency: Duration, bytes: usize) {
        self.ops += 1;
        self.bytes += u64::try_from(bytes).unwrap_or(0);
        self.longest = self.longest.max(latency);
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(nanos);
    }

    pub(super) fn refused(&mut self, refused: &Refused) {
        let errors = self.errors.entry(refused.kind);
        let errors = errors.or_insert_with(|| Errors {
            count: 0,
            first: refused.message.clone(),
        });
        errors.count += 1;
    }

    /// Adds the counts of another client.
    pub(super) fn merge(&mut self, other: &Self) {
        self.ops += other.ops;
        self.bytes += other.bytes;
        self.longest = self.longest.max(other.longest);
        // Both have the same bounds, so this cannot fail.
        let _ = self.latencies.add(&other.latencies);
        for (kind, more) in &other.errors {
            match self.errors.get_mut(kind) {
                Some(errors) => errors.count += more.count,
                None => {
                    self.errors.insert(kind, more.clone());
                }
            }
        }
    }

    /// Operations without an answer.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }

    /// The latency that the fraction `part` of the operations did not exceed.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        let nanos = self.latencies.value_at_quantile(part);
        Duration::from_nanos(nanos).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_part_in_a_hundred() {
        let (mut one, mut other) = (Tally::new().unwrap(), Tally::new().unwrap());
        for micros in 1..=10_000 {
            let tally = if micros % 2 == 0 {
                &mut one
            } else {
                &mut other
            };
            tally.answered(Duration::from_micros(micros), 3);
        }
        one.merge(&other);
        assert_eq!((one.ops, one.bytes), (10_000, 30_000));
        for (part, micros) in [(0.5, 5_000), (0.99, 9_900), (0.999, 9_990), (1.0, 10_000)] {
            let off = one.quantile(part).abs_diff(Duration::from_micros(micros));
            assert!(
                off <= Duration::from_micros(micros / 100),
                "{part}: {off:?}"
            );
        }
        assert_eq!(one.longest, Duration::from_millis(10));
        one.answered(Duration::from_secs(100_000), 0);
        assert_eq!(one.longest, Duration::from_secs(100_000));
    }
}
