//! Warnings that can repeat: one of them now and then, with the number of those that were not logged.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the same warning is not logged again.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// One warning that can repeat.
#[derive(Default)]
pub(crate) struct Repeats {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    logged_at: Option<Instant>,
    kept_back: u64,
}

impl Repeats {
    /// Calls `log`, unless it was called less than [`WARNING_INTERVAL`] ago, with how often it was not
    /// since then: the field `kept_back` of the line, which is left out where there were none.
    pub(crate) fn warn(&self, log: impl FnOnce(Option<u64>)) {
        if let Some(kept_back) = self.admit() {
            log(Some(kept_back).filter(|count| *count > 0));
        }
    }

    fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = |at: Instant| at.elapsed() < WARNING_INTERVAL;
        if state.logged_at.is_some_and(early) {
            state.kept_back = state.kept_back.saturating_add(1);
            return None;
        }
        state.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut state.kept_back))
    }
}

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeats")
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_in_an_interval_is_logged_and_says_how_many_were_not() {
        let repeats = Repeats::default();
        let said = || {
            let mut said = None;
            repeats.warn(|kept_back| said = Some(kept_back));
            said
        };
        assert_eq!(said(), Some(None));
        for _ in 0..1_000 {
            assert_eq!(said(), None);
        }
        advance(WARNING_INTERVAL).await;
        assert_eq!(said(), Some(Some(1_000)));
        assert_eq!(said(), None);
        advance(WARNING_INTERVAL).await;
        assert_eq!(said(), Some(Some(1)));
        advance(WARNING_INTERVAL).await;
        assert_eq!(said(), Some(None));
    }
}
