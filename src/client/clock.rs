//! A clock that counts suspended time, beside the one of tokio, which does not.

use std::time::Duration;

use tokio::time::Instant;

/// Returns the time that has passed since some moment of the past, always the same one.
pub(super) type Clock = fn() -> Duration;

/// The clock of the system that also counts while the machine is suspended: `CLOCK_BOOTTIME` of Linux,
/// `CLOCK_MONOTONIC` of Apple's systems. Other systems have none here: it stands still.
pub(super) fn boot_time() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return since_boot(rustix::time::ClockId::Boottime);
    #[cfg(target_vendor = "apple")]
    return since_boot(rustix::time::ClockId::Monotonic);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    return Duration::ZERO;
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn since_boot(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::try_from(time).unwrap_or_default()
}

/// A moment on the clock of tokio, which moves timers, and on one that counts suspended time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    boot: Duration,
}

impl Moment {
    pub(super) fn now(clock: Clock) -> Self {
        Self {
            instant: Instant::now(),
            boot: clock(),
        }
    }

    /// The time since then, by the clock that has counted more.
    pub(super) fn elapsed(self, clock: Clock) -> Duration {
        self.instant
            .elapsed()
            .max(clock().saturating_sub(self.boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_that_has_counted_more_tells_the_time() {
        const SUSPENDED: Clock = || Duration::from_secs(7);
        let before = Moment::now(|| Duration::ZERO);
        assert_eq!(before.elapsed(|| Duration::ZERO), Duration::ZERO);
        assert_eq!(before.elapsed(SUSPENDED), Duration::from_secs(7));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(before.elapsed(SUSPENDED), Duration::from_secs(8));
    }

    #[test]
    fn the_clock_of_the_system_runs() {
        let before = boot_time();
        if cfg!(target_os = "linux") {
            while boot_time() == before {
                std::hint::spin_loop();
            }
        }
        assert!(boot_time() >= before);
    }
}
