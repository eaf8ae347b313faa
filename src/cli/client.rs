//! The client of one command, and the time that the command has.

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
    /// A client that has `timeout` since `begun` for all that it is asked for.
    pub(crate) fn new(
        builder: Builder,
        begun: std::time::Instant,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let client = builder.build();
        let client = client.map_err(|error| Failure::usage(error.to_string()))?;
        let begun = Instant::from_std(begun);
        // Where a command is a step of something that is traced, its caller says so.
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

    /// Reads and writes.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Looks and steers.
    pub(crate) fn admin(&self) -> Admin {
        self.client.admin()
    }

    /// Looks and steers, for `patience` at most.
    pub(crate) fn admin_within(&self, patience: Duration) -> Admin {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.client.within(patience.min(left)).admin()
    }

    /// Waits for `pause`, unless time runs out before its end; whether it did not.
    pub(crate) async fn pause(&self, pause: Duration) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if pause >= left {
            return false;
        }
        sleep(pause).await;
        true
    }

    /// The whole time that the command has, for people.
    pub(crate) fn timeout(&self) -> impl std::fmt::Display + use<> {
        humantime::format_duration(self.timeout)
    }
}
