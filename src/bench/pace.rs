//! The schedule of operations.
//!
//! Without a rate, an operation is due when its client has room for it. This is a closed loop: it
//! measures the capacity of the cluster, and hides the cost of a slow answer for later operations. With a
//! rate, operations are due at fixed times, regardless of earlier ones. This is an open loop: any free
//! client takes the next operation, and if none is free, the operation is late. Its latency counts from
//! the time when it was due.
//!
//! The runtime's timers have a resolution of a millisecond. So a thread sleeps instead, with a precision
//! of some tens of microseconds, and releases the operations that are due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Longest sleep of the thread: it notices within this time that the run was ended.
const LONGEST_SLEEP: Duration = Duration::from_millis(10);
/// Shortest sleep: at high rates several operations are released at once.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);

/// The pace of all clients of a run.
#[derive(Debug)]
pub(super) struct Pace {
    end: Instant,
    stopped: AtomicBool,
    schedule: Option<Schedule>,
}

/// Operations at fixed times.
#[derive(Debug)]
struct Schedule {
    begin: Instant,
    rate: u32,
    /// Operations in total.
    total: u64,
    /// Operations that clients have taken.
    taken: AtomicU64,
    /// Operations that are due and not taken.
    due: Semaphore,
}

/// Operations that are due.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    /// Now.
    Now(Instant),
    /// Scheduled, starting with the operation of this number.
    Scheduled(u64),
}

impl Pace {
    /// A pace from `begin` to `end`: `rate` operations a second, or as many as possible.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(super) fn start(begin: Instant, end: Instant, rate: Option<u32>) -> io::Result<Arc<Self>> {
        let pace = Arc::new(Self {
            end,
            stopped: AtomicBool::new(false),
            schedule: rate.map(|rate| Schedule::new(begin, end, rate)),
        });
        if rate.is_some() {
            let pace = Arc::clone(&pace);
            let thread = thread::Builder::new().name("pace".to_owned());
            thread.spawn(move || pace.hand_out())?;
        }
        Ok(pace)
    }

    /// Waits until `count` more operations are due. `None` at the end of the run. May be dropped and
    /// called again.
    pub(super) async fn next(&self, count: usize) -> Option<Due> {
        let Some(schedule) = &self.schedule else {
            let now = Instant::now();
            return (now < self.end && !self.is_stopped()).then_some(Due::Now(now));
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        schedule.due.acquire_many(count).await.ok()?.forget();
        let first = schedule
            .taken
            .fetch_add(u64::from(count), Ordering::Relaxed);
        Some(Due::Scheduled(first))
    }

    /// The time when operation number `position` of `due` was due.
    pub(super) fn moment(&self, due: Due, position: usize) -> Instant {
        match (due, &self.schedule) {
            (Due::Scheduled(first), Some(schedule)) => {
                schedule.moment(first.saturating_add(u64::try_from(position).unwrap_or(u64::MAX)))
            }
            (Due::Now(moment), _) => moment,
            (Due::Scheduled(_), None) => self.end,
        }
    }

    /// Ends the run early.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Operations that were due and never taken, at the end of the run.
    pub(super) fn missed(&self) -> u64 {
        self.schedule.as_ref().map_or(0, |schedule| {
            let taken = schedule.taken.load(Ordering::Relaxed);
            schedule.total.saturating_sub(taken)
        })
    }

    fn hand_out(&self) {
        let Some(schedule) = &self.schedule else {
            return;
        };
        let mut given = 0;
        while given < schedule.total && !self.is_stopped() {
            let due = schedule.due_at(Instant::now());
            schedule
                .due
                .add_permits(usize::try_from(due - given).unwrap_or(0));
            given = due;
            let pause = schedule
                .moment(given)
                .saturating_duration_since(Instant::now());
            thread::sleep(pause.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        }
        while Instant::now() < self.end && !self.is_stopped() {
            thread::sleep(SHORTEST_SLEEP);
        }
        schedule.due.close();
    }
}

impl Schedule {
    fn new(begin: Instant, end: Instant, rate: u32) -> Self {
        let length = end.saturating_duration_since(begin).as_nanos();
        let total = length
            .saturating_mul(u128::from(rate))
            .div_ceil(1_000_000_000);
        Self {
            begin,
            rate,
            total: u64::try_from(total).unwrap_or(u64::MAX),
            taken: AtomicU64::new(0),
            due: Semaphore::new(0),
        }
    }

    fn moment(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate.max(1));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.begin
            .checked_add(Duration::from_nanos(nanos))
            .unwrap_or(self.begin)
    }

    /// Number of operations that are due by `now`.
    fn due_at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.begin).as_nanos();
        let due = passed.saturating_mul(u128::from(self.rate)) / 1_000_000_000 + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_even_and_ends() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, begin + Duration::from_secs(2), 1000);
        assert_eq!(schedule.total, 2000);
        assert_eq!(schedule.moment(0), begin);
        assert_eq!(schedule.moment(1500), begin + Duration::from_millis(1500));
        assert_eq!(schedule.due_at(begin), 1);
        assert_eq!(schedule.due_at(begin + Duration::from_millis(10)), 11);
        assert_eq!(schedule.due_at(begin + Duration::from_secs(9)), 2000);
    }

    #[tokio::test]
    async fn operations_that_are_not_taken_are_late_or_missed() {
        let begin = Instant::now();
        let end = begin + Duration::from_millis(100);
        let pace = Pace::start(begin, end, Some(1000)).unwrap();
        let due = pace.next(2).await.unwrap();
        assert_eq!(pace.moment(due, 1), begin + Duration::from_millis(1));
        thread::sleep(Duration::from_millis(50));
        // It was due long ago, and its time says so.
        let due = pace.next(1).await.unwrap();
        assert_eq!(pace.moment(due, 0), begin + Duration::from_millis(2));
        assert!(Instant::now() >= begin + Duration::from_millis(50));
        while !pace.schedule.as_ref().unwrap().due.is_closed() {
            tokio::task::yield_now().await;
        }
        assert!(pace.next(1).await.is_none());
        assert_eq!(pace.missed(), 97);
    }
}
