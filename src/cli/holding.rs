//! The session in which a command holds a lock.

use std::process::ExitCode;
use std::time::Duration;

use seshat::client::{Client, LivingSession};

use super::failure::Failure;
use super::options::{duration, session_ttl};
use super::process::{GRACE, Signals, ended_by};
use super::tell;

/// How a lock is held.
#[derive(Debug, clap::Args)]
pub(crate) struct Holding {
    /// How long the lock stays held when this machine is cut off: 2s to 1h
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = session_ttl)]
    ttl: Duration,

    /// How long the command may take to end when the lock is lost
    #[arg(long, value_name = "DURATION", default_value = GRACE, value_parser = duration)]
    pub(crate) grace: Duration,
}

impl Holding {
    /// Does `work` in a session of its own, and with the signals of this process from now on.
    ///
    /// # Errors
    ///
    /// The session could not be opened, or those of `work`.
    pub(super) async fn in_session(
        &self,
        client: &Client,
        work: impl AsyncFnOnce(&LivingSession, &mut Signals) -> Result<ExitCode, Failure>,
    ) -> Result<ExitCode, Failure> {
        let mut signals = Signals::new()?;
        let opened = client.session().ttl(self.ttl);
        let session = tokio::select! {
            opened = opened => opened?,
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        let outcome = work(&session, &mut signals).await;
        close(&session).await;
        outcome
    }
}

/// Ends a session with its locks, so that the others do not wait for its TTL.
async fn close(session: &LivingSession) {
    if session.is_lost() {
        return;
    }
    if let Err(error) = session.close().await {
        tell(format_args!(
            "the lock stays held until its TTL has passed: {error}"
        ));
    }
}
