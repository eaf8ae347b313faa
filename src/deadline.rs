//! The end of a wait, counted from now.
//!
//! A caller may wait for any [`Duration`], up to [`Duration::MAX`], but a clock has an end, and an
//! addition past it panics. So only this module computes deadlines.

use std::time::Duration;

use tokio::time::Instant;

/// The longest wait: thirty years. A longer wait ends then, which is never in practice. The bound leaves
/// room for additions.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment `wait` after now, at the latest [`LONGEST`].
pub(crate) fn after(wait: Duration) -> Instant {
    since(Instant::now(), wait)
}

/// The moment `wait` after `start`, at the latest [`LONGEST`].
pub(crate) fn since(start: Instant, wait: Duration) -> Instant {
    start.checked_add(wait.min(LONGEST)).unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_wait_has_an_end_and_a_longer_one_ends_no_earlier() {
        let now = Instant::now();
        let waits = [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(5),
            LONGEST,
            Duration::from_secs(u64::MAX / 2),
            Duration::MAX,
        ];
        for pair in waits.windows(2) {
            assert!(after(pair[0]) <= after(pair[1]), "{pair:?}");
        }
        assert_eq!(after(Duration::from_secs(5)) - now, Duration::from_secs(5));
        // Waits follow one another.
        let late = since(after(Duration::MAX), Duration::MAX);
        assert_eq!(late - now, LONGEST * 2);
    }
}
