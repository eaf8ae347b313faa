//! Warnings that can repeat: bounded in rate, with the number of those that were not logged.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The same warning is logged at most [`AT_A_TIME`] times within this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// More than one: a warning of a change, such as a peer that is down, should not be suppressed because of
/// the same change a moment ago.
const AT_A_TIME: u32 = 3;

/// One warning that can repeat.
#[derive(Default)]
pub(crate) struct Repeats {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the first warning of the current interval was logged.
    began: Option<Instant>,
    logged: u32,
    kept_back: u64,
}

impl Repeats {
    /// Calls `log`, at most [`AT_A_TIME`] times in an [`INTERVAL`]. Its argument is the number of
    /// suppressed calls since the last one, `None` if there were none: the field `kept_back` of the line.
    pub(crate) fn warn(&self, log: impl FnOnce(Option<u64>)) {
        if let Some(kept_back) = self.admit() {
            log(Some(kept_back).filter(|count| *count > 0));
        }
    }

    fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| began.elapsed() >= INTERVAL) {
            state.began = Some(Instant::now());
            state.logged = 0;
        }
        if state.logged >= AT_A_TIME {
            state.kept_back = state.kept_back.saturating_add(1);
            return None;
        }
        state.logged += 1;
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
    async fn a_few_in_an_interval_are_logged_and_say_how_many_were_not() {
        let repeats = Repeats::default();
        let said = || {
            let mut said = None;
            repeats.warn(|kept_back| said = Some(kept_back));
            said
        };
        for _ in 0..AT_A_TIME {
            assert_eq!(said(), Some(None));
        }
        for _ in 0..1_000 {
            assert_eq!(said(), None);
        }
        advance(INTERVAL).await;
        assert_eq!(said(), Some(Some(1_000)));
        for _ in 1..AT_A_TIME {
            assert_eq!(said(), Some(None));
        }
        assert_eq!(said(), None);
        advance(INTERVAL).await;
        assert_eq!(said(), Some(Some(1)));
        advance(INTERVAL).await;
        assert_eq!(said(), Some(None));
    }
}
