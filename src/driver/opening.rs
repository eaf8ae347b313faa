//! The part of a [`DriverHandle`] for watches.

use std::time::Duration;

use tokio::sync::oneshot;

use super::handle::{DriverHandle, Notice};
use super::watching::{Opening, Watch};
use crate::error::Refusal;
use crate::watch::WatchSpec;

impl DriverHandle {
    /// Begins to watch. The client is told that nothing has changed every `progress`.
    ///
    /// # Errors
    ///
    /// As for [`Replica::open_watch`](crate::node::Replica::open_watch), and
    /// [`Reason::ShuttingDown`](crate::error::Reason::ShuttingDown) when the driver has stopped.
    pub async fn open_watch(
        &self,
        spec: WatchSpec,
        progress: Option<Duration>,
    ) -> Result<Watch, Refusal> {
        let (opened, outcome) = oneshot::channel();
        let opening = Opening {
            spec,
            progress,
            opened,
        };
        self.decide(Notice::Watch(opening), outcome).await
    }
}
