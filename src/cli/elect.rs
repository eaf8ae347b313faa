//! `seshat elect`.

use std::ffi::OsString;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use seshat::client::{Leadership, LivingSession};
use seshat::types::ClientId;

use super::entry::Json;
use super::failure::Failure;
use super::holding::Holding;
use super::job::{Job, lost};
use super::options::{ClientOptions, lock_name};
use super::pipes::write_line;
use super::process::{Signals, ended_by};
use super::word::Word;

const HELP: &str = "\
Waits until this process is elected, prints that, and leads until SIGINT or SIGTERM:
  elected indexer 1795707939485460
The number is the fencing token: each later leader has a higher one. With --json:
  {\"elected\":true,\"name\":\"indexer\",\"token\":1795707939485460,
   \"session\":\"5f0c2d9e71a4b863\"}

With a command it runs that while it leads, and prints nothing: see seshat lock --help
for the environment of the command, and for what becomes of it when the leadership is
lost. An election is the lock of that name, and its leader is the holder. So
  seshat locks indexer --follow
shows who leads, with the value.

Examples:
  seshat elect indexer 10.0.0.7:80
  seshat elect indexer 10.0.0.7:80 -- ./indexer

Exit codes:
  0    it has led, and resigned because it was told to
  2    the command line is faulty
  3    the cluster cannot be reached, or refused the candidate
  4    the leadership was lost
  130  ended by SIGINT before it was elected; 143 by SIGTERM
  With a command, those of seshat lock.";

/// Stand for election, and lead.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// The election: 1 to 256 bytes of UTF-8
    #[arg(value_parser = lock_name)]
    name: String,

    /// What others see of the leader, such as its address: any bytes, at most 4096
    value: OsString,

    /// The command that is run while this process leads, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    #[command(flatten)]
    holding: Holding,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        self.client.run(async |cluster| {
            let client = self.client.for_calls(cluster.client());
            let stand = async |session: &_, signals: &mut _| self.stand(session, signals).await;
            self.holding.in_session(&client, stand).await
        })
    }

    async fn stand(
        &self,
        session: &LivingSession,
        signals: &mut Signals,
    ) -> Result<ExitCode, Failure> {
        let value = Bytes::copy_from_slice(self.value.as_encoded_bytes());
        let leadership = tokio::select! {
            elected = session.elect(&self.name, value) => elected?,
            signal = signals.next() => return Ok(ended_by(signal)),
        };
        match self.command.is_empty() {
            true => self.lead(&leadership, signals).await,
            false => {
                let job = Job {
                    command: &self.command,
                    environment: self.client.environment(),
                    grace: self.holding.grace,
                };
                job.run(&leadership, signals).await
            }
        }
    }

    /// Says so, and waits for the end.
    async fn lead(
        &self,
        leadership: &Leadership,
        signals: &mut Signals,
    ) -> Result<ExitCode, Failure> {
        let session = ClientId(leadership.session().id()).to_string();
        let (name, token) = (Word(self.name.as_bytes()), leadership.token());
        let line = match self.client.json {
            true => Json(&json!({
                "elected": true,
                "name": self.name,
                "token": token,
                "session": session,
            }))
            .to_string(),
            false => format!("elected {name} {token}"),
        };
        let written = write_line(line);
        let ended = async {
            tokio::select! {
                biased;
                why = leadership.lost() => Err(Failure::lost(lost(leadership, why))),
                _ = signals.next() => Ok(ExitCode::SUCCESS),
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            ended = &mut ended => return ended,
            written = written => written?,
        }
        ended.await
    }
}
