//! Exponential backoff with jitter, and when a state change is worth a log line.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::deadline::after;

/// Decides whether another attempt may be made now.
///
/// The backoff is open until the first failure. Then attempts are spaced by a wait that doubles up to a
/// bound. Jitter keeps nodes that lost one another at the same moment from meeting at the same moment
/// again. A success opens the backoff. If the next failure follows within the longest wait, the waits go on
/// growing: a peer that flaps is treated, and logged, like one that stays away.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failing: bool,
    /// Consecutive failures.
    failures: u32,
    /// Whether an attempt was made since the first failure.
    retried: bool,
    /// While failing: when the next attempt may be made.
    next: Instant,
    /// While not failing: since when.
    since: Option<Instant>,
    /// The state in the last log line: `true` for success, `false` for failure.
    said: Option<bool>,
    jitter: StdRng,
}

impl Backoff {
    /// An open backoff. Its waits begin at `min`, double up to `max`, and jitter takes off up to half of
    /// each.
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        let state = State {
            failing: false,
            failures: 0,
            retried: false,
            next: Instant::now(),
            since: None,
            said: None,
            jitter: StdRng::seed_from_u64(seed),
        };
        Self {
            min,
            max,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no failure was noted since the last success.
    pub(super) fn is_up(&self) -> bool {
        !self.state().failing
    }

    /// Whether an attempt may be made.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.state();
        !state.failing || state.next <= Instant::now()
    }

    /// Notes that an attempt begins. If the backoff is failing, the next attempt has to wait, whatever the
    /// result of this one.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        if state.failing {
            state.retried = true;
            state.failures = state.failures.saturating_add(1);
            self.wait(&mut state);
        }
    }

    /// Notes that an attempt failed or that a connection broke. Returns whether to log it.
    pub(super) fn failed(&self) -> bool {
        let mut state = self.state();
        let stays_away = if state.failing {
            state.retried
        } else {
            let lasted = state.since.is_none_or(|since| since.elapsed() >= self.max);
            if lasted {
                state.failures = 0;
            }
            state.failing = true;
            state.retried = false;
            state.failures = state.failures.saturating_add(1);
            lasted
        };
        self.wait(&mut state);
        stays_away && state.said.replace(false) != Some(false)
    }

    /// Notes that an attempt succeeded. Returns whether to log it.
    pub(super) fn passed(&self) -> bool {
        let mut state = self.state();
        if state.failing || state.since.is_none() {
            state.failing = false;
            state.since = Some(Instant::now());
        }
        state.said.replace(true) != Some(true)
    }

    fn wait(&self, state: &mut State) {
        let doublings = state.failures.saturating_sub(1).min(16);
        let wait = self.min.saturating_mul(1 << doublings).min(self.max);
        let wait = state.jitter.gen_range(wait / 2..=wait);
        state.next = after(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_millis(500);

    async fn waited(backoff: &Backoff) -> Duration {
        let begin = Instant::now();
        while !backoff.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_bound_and_vary() {
        let backoff = Backoff::new(MIN, MAX, 7);
        assert!(backoff.is_ready());
        assert!(backoff.failed());
        let mut bound = MIN;
        for _ in 0..10 {
            let waited = waited(&backoff).await;
            assert!(waited >= bound / 2 && waited <= bound + Duration::from_millis(1));
            backoff.begin();
            assert!(!backoff.is_ready(), "one attempt a wait");
            assert!(!backoff.failed(), "said once");
            bound = (bound * 2).min(MAX);
        }
        tokio::time::sleep(MAX).await;
        backoff.begin();
        assert!(backoff.passed());
        assert!(backoff.is_up());

        // The same seed gives the same waits, another seed gives others.
        let mut waits = Vec::new();
        for seed in [1, 1, 2] {
            let backoff = Backoff::new(MIN, MAX, seed);
            backoff.failed();
            waits.push(waited(&backoff).await);
        }
        assert_eq!(waits[0], waits[1]);
        assert_ne!(waits[0], waits[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_contact_and_the_first_loss_are_reported() {
        let backoff = Backoff::new(MIN, MAX, 7);
        assert!(backoff.passed(), "the first contact is news");
        tokio::time::sleep(MAX).await;
        assert!(!backoff.passed(), "a further one is not");
        assert!(backoff.failed(), "the first loss is news");
        assert!(
            !backoff.failed(),
            "the loss of the second stream is the same loss"
        );
        backoff.begin();
        assert!(backoff.passed());

        for _ in 0..10 {
            assert!(!backoff.failed(), "came for a moment only");
            backoff.begin();
            assert!(!backoff.passed());
        }
        assert!(!backoff.failed());
        assert!(waited(&backoff).await >= MAX / 2, "the waits have grown");
        backoff.begin();
        assert!(backoff.failed(), "and now it stays away");
    }
}
