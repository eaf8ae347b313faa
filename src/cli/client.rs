//! The client of one command, and the command's time limit.

use std::time::Duration;

use seshat::client::{Admin, Builder, Client};
use tokio::time::{Instant, sleep};

use super::failure::Failure;

/// A client of one cluster, for one command.
#[derive(Debug)]
pub(crate) struct Cluster {
    client: Client,
    timeout: Duration,
    deadline: Instant,
}

impl Cluster {
    /// A client that has `timeout`, counted from `begun`, for all of its calls.
    pub(crate) fn new(
        builder: Builder,
        begun: std::time::Instant,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let client = builder.build();
        let client = client.map_err(|error| Failure::usage(error.to_string()))?;
        let begun = Instant::from_std(begun);
        // The caller of a traced command passes its trace context in the environment.
        let client = match std::env::var("TRACEPARENT") {
            Ok(traceparent) => client.traced(&traceparent),
            Err(_) => client,
        };
        Ok(Self {
            client: client.within_since(begun, timeout),
            timeout,
            deadline: begun.checked_add(timeout).unwrap_or(begun),
        })
    }

    /// The client for reads and writes.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The client for status and changes.
    pub(crate) fn admin(&self) -> Admin {
        self.client.admin()
    }

    /// The same, with a time limit of at most `max_wait`.
    pub(crate) fn admin_within(&self, max_wait: Duration) -> Admin {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.client.within(max_wait.min(left)).admin()
    }

    /// Waits for `pause`. Returns `false` at once if the time limit would pass before its end.
    pub(crate) async fn pause(&self, pause: Duration) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if pause >= left {
            return false;
        }
        sleep(pause).await;
        true
    }

    /// The whole time limit of the command, for people.
    pub(crate) fn timeout(&self) -> impl std::fmt::Display + use<> {
        humantime::format_duration(self.timeout)
    }
}
