//! `seshat lock`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use seshat::client::{Client, Error, LivingSession, LockAttempt};

use super::entry::Json;
use super::failure::Failure;
use super::holding::Holding;
use super::job::Job;
use super::locks::Shown;
use super::options::{ClientOptions, duration, lock_name};
use super::process::{Signals, ended_by};
use super::tell;
use super::word::Word;

const HELP: &str = "\
Waits until the lock is free, runs the command, and releases the lock when that has
ended. Those who wait get the lock in the order in which they came. The command finds
in its environment:
  SESHAT_LOCK_NAME     the lock
  SESHAT_LOCK_TOKEN    the fencing token: each later holder has a higher one
  SESHAT_LOCK_SESSION  the session that holds the lock
  SESHAT_ENDPOINTS     the endpoints of this command, and SESHAT_CLUSTER, if it has one

If the lock is lost, because the cluster cannot be reached for 90 % of the TTL, the
command gets SIGTERM, and SIGKILL after the grace period, and so does all that it has
started. On a terminal, only the command itself does. Another client may have the lock
by then. If seshat is killed by SIGKILL, the command goes on without the lock. So name
the token wherever a former holder would do harm:
  seshat set backup/state done --if-held \"$SESHAT_LOCK_NAME\" \"$SESHAT_LOCK_TOKEN\"

SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to the command. --timeout limits each
call to the cluster, not the wait for the lock.

Examples:
  seshat lock backup -- ./back-up.sh
  seshat lock backup --no-wait -- ./back-up.sh     # not if it runs elsewhere
  seshat lock deploy --wait 5m --ttl 30s -- make deploy

Exit codes:
  that of the command; 128 + N if signal N has ended it. Otherwise:
  1    the lock was not free: standard error says who holds it
  2    the command line is faulty
  3    the cluster cannot be reached, or refused the claim
  4    the lock was lost, and the command was ended
  126  the command cannot be executed
  127  there is no such command
  130  ended by SIGINT before it had the lock; 143 by SIGTERM";

/// Exit code if the lock is not free.
const OCCUPIED: u8 = 1;

/// Run a command while holding a lock.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// The lock: 1 to 256 bytes of UTF-8
    #[arg(value_parser = lock_name)]
    name: String,

    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    /// Do not wait if the lock is held
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,

    /// Longest wait for the lock, such as 30s or 5m [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,

    #[command(flatten)]
    holding: Holding,

    /// What others see of the holder: any bytes, at most 4096
    /// [default: name of this machine and process id]
    #[arg(long, verbatim_doc_comment)]
    value: Option<OsString>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        self.client.run(async |cluster| {
            let client = self.client.for_calls(cluster.client());
            let hold =
                async |session: &_, signals: &mut _| self.hold(&client, session, signals).await;
            self.holding.in_session(&client, hold).await
        })
    }

    async fn hold(
        &self,
        client: &Client,
        session: &LivingSession,
        signals: &mut Signals,
    ) -> Result<ExitCode, Failure> {
        let attempt = tokio::select! {
            attempt = self.acquire(session) => attempt?,
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        let LockAttempt::Acquired(lock) = attempt else {
            self.tell_who_holds_it(client, attempt).await;
            return Ok(ExitCode::from(OCCUPIED));
        };
        let job = Job {
            command: &self.command,
            environment: self.client.environment(),
            grace: self.holding.grace,
        };
        job.run(&lock, signals).await
    }

    async fn acquire(&self, session: &LivingSession) -> Result<LockAttempt, Error> {
        let value = match &self.value {
            Some(value) => Bytes::copy_from_slice(value.as_encoded_bytes()),
            None => host_and_process().into(),
        };
        let acquire = session.lock(&self.name).value(value);
        match (self.no_wait, self.wait) {
            (true, _) => acquire.no_wait().await,
            (false, Some(wait)) => acquire.max_wait(wait).await,
            (false, None) => acquire.await.map(LockAttempt::Acquired),
        }
    }

    async fn tell_who_holds_it(&self, client: &Client, attempt: LockAttempt) {
        let holder = match attempt {
            LockAttempt::Occupied(holder) => Some(holder),
            _ => {
                let lock = client.inspect_lock(&self.name).await;
                lock.ok().and_then(|lock| lock.holder)
            }
        };
        let (name, holder) = (Word(self.name.as_bytes()), holder.as_ref().map(Shown));
        match (self.client.json, holder) {
            (true, holder) => tell(Json(&serde_json::json!({
                "acquired": false,
                "name": self.name,
                "holder": holder.map(|holder| holder.json()),
            }))),
            (false, Some(holder)) => tell(format_args!("not locked: {name} is held by {holder}")),
            (false, None) => tell(format_args!("not locked: {name} was not free in time")),
        }
    }
}

/// The name of this machine, and the id of this process.
fn host_and_process() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    format!("{host} pid {}", std::process::id())
}
