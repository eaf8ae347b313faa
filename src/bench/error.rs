//! Why a run has no figures.

use std::io;

use hdrhistogram::CreationError;

/// A run has no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The end of the run is further away than a clock can tell.
    #[error("the run is too long")]
    TooLong,
    /// The thread that releases operations cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// There is no memory for the latencies.
    #[error("cannot make a histogram: {0}")]
    Histogram(CreationError),
    /// The cluster does not serve the run.
    #[error("{message}")]
    Unserved {
        /// The kind of the refusal, in one word for programs.
        kind: &'static str,
        /// What could not be done, and the refusal.
        message: String,
    },
    /// The cluster gave answers that no correct cluster gives.
    #[error("the cluster gave wrong answers, so there are no figures: {answers} (seed {seed})")]
    WrongAnswers {
        /// The first of them.
        answers: String,
        /// The seed of the run.
        seed: u64,
    },
}
