//! Where the work is done that takes long: encoding a large state, putting one together, freeing it.

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

/// Who does the work that takes long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workers {
    /// Threads of their own, so that the node's goes on serving.
    #[default]
    Threads,
    /// The node's own thread, for a simulation: only so is the same seed the same run.
    Inline,
}

impl Workers {
    /// Has `work` done.
    ///
    /// # Errors
    ///
    /// It panicked on another thread, or the runtime ended.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Self::Threads => spawn_blocking(work).await,
            Self::Inline => Ok(work()),
        }
    }

    /// Frees what takes long to free.
    pub(crate) fn free<T: Send + 'static>(self, retired: T) {
        match (self, Handle::try_current()) {
            (Self::Threads, Ok(runtime)) => {
                runtime.spawn_blocking(move || drop(retired));
            }
            // Inline, or there is nobody left who could wait for it.
            _ => drop(retired),
        }
    }
}
