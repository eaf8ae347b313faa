//! Times of a wall clock.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Microseconds since 1970 by the wall clock of some process, which may be wrong.
///
/// Revisions begin at such a time, so that those of a later cluster are higher, and a status shows one. Nothing
/// else depends on a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

/// Maximum difference between the clocks of two processes that form a cluster.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(3600);

/// 2026-01-01.
const FIRST: u64 = 1_767_225_600_000_000;
/// 2200-01-01. Below 2^53, which a double-precision number holds exactly.
const END: u64 = 7_258_118_400_000_000;

impl WallTime {
    /// The first credible time, 2026-01-01.
    pub const FIRST: Self = Self(FIRST);

    /// The time `micros` after 1970. `None` unless it is credible: from 2026 and before 2200. A machine
    /// without a clock of its own may say 1970.
    pub const fn new(micros: u64) -> Option<Self> {
        if micros >= FIRST && micros < END {
            Some(Self(micros))
        } else {
            None
        }
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whether the two times differ by no more than [`MAX_CLOCK_DIFFERENCE`].
    pub fn agrees_with(self, other: Self) -> bool {
        Duration::from_micros(self.0.abs_diff(other.0)) <= MAX_CLOCK_DIFFERENCE
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} µs since 1970", self.0)
    }
}

impl From<WallTime> for SystemTime {
    fn from(time: WallTime) -> Self {
        Self::UNIX_EPOCH + Duration::from_micros(time.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credible_times_count() {
        assert_eq!(WallTime::new(0), None);
        assert_eq!(WallTime::new(FIRST - 1), None);
        assert_eq!(WallTime::new(FIRST), Some(WallTime::FIRST));
        assert_eq!(WallTime::new(END - 1).map(WallTime::micros), Some(END - 1));
        assert_eq!(WallTime::new(END), None);
        const { assert!(END < 1 << 53) };
    }

    #[test]
    fn clocks_agree_within_an_hour() {
        let hour = 3_600_000_000;
        let (one, other) = (WallTime(FIRST), WallTime(FIRST + hour));
        assert!(one.agrees_with(other) && other.agrees_with(one));
        let later = WallTime(FIRST + hour + 1);
        assert!(!one.agrees_with(later) && !later.agrees_with(one));
    }
}
