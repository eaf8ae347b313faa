//! Threads for long work: encoding, assembling and freeing a large state.

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

/// The threads that do long work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workers {
    /// Separate threads, so that the node's own thread goes on serving.
    #[default]
    Threads,
    /// The node's own thread. A simulation needs this, so that the same seed gives the same run.
    Inline,
}

impl Workers {
    /// Runs `work`.
    ///
    /// # Errors
    /// `work` panicked on another thread, or the runtime ended.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Self::Threads => spawn_blocking(work).await,
            Self::Inline => Ok(work()),
        }
    }

    /// Frees a value whose drop takes long.
    pub(crate) fn free<T: Send + 'static>(self, retired: T) {
        match (self, Handle::try_current()) {
            (Self::Threads, Ok(runtime)) => {
                runtime.spawn_blocking(move || drop(retired));
            }
            // Inline, or no runtime is left that could be delayed.
            _ => drop(retired),
        }
    }
}
