//! Answers that no correct cluster gives.

use std::sync::{Mutex, PoisonError};

use super::BenchError;
use super::ledger::Wrong;

/// The wrong answers of a run.
#[derive(Debug)]
pub(super) struct WrongAnswers {
    seed: u64,
    kept: Mutex<Vec<Wrong>>,
}

/// Number of wrong answers that are kept; one is enough to reject the run.
const KEPT: usize = 3;

impl WrongAnswers {
    /// No wrong answers yet, in the run with this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            kept: Mutex::default(),
        }
    }

    pub(super) fn add(&self, wrong: Wrong) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(wrong);
        }
    }

    /// Checks that there are no wrong answers.
    ///
    /// # Errors
    ///
    /// There are some: the run has no figures.
    pub(super) fn none(&self) -> Result<(), BenchError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            return Ok(());
        }
        let wrong: Vec<_> = kept.iter().map(|wrong| wrong.0.as_str()).collect();
        Err(BenchError::WrongAnswers {
            answers: wrong.join("; "),
            seed: self.seed,
        })
    }
}
