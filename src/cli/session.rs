//! `seshat session`.

use std::process::ExitCode;

use serde_json::{Value, json};
use seshat::client::{ClosedSession, SessionInfo};
use seshat::types::ClientId;

use super::entry::{Json, millis};
use super::failure::Failure;
use super::options::{ClientOptions, session_id};
use super::render::table;

const LIST_HELP: &str = "\
Living sessions end when their clients do not renew them for their TTL, and the keys
that they own end with them. LEFT is how much of the TTL is left, KEYS how many keys
the session owns:
  SESSION           TTL  LEFT  KEYS
  5f0c2d9e71a4b863  10s  7.3s     2
With --json:
  {\"sessions\":[{\"id\":\"5f0c2d9e71a4b863\",\"ttl_ms\":10000,\"remaining_ms\":7250,
   \"owned_keys\":2},…]}
seshat scan --json shows which session owns a key. Sessions without a TTL are not
listed.

Examples:
  seshat session list
  seshat session list --json | jq -r '.sessions[].id'

Exit codes:
  0  listed
  2  the command line is faulty
  3  the cluster cannot be reached, refused the read, or it could not be printed";

const CLOSE_HELP: &str = "\
Ends a session at once, as its own client would: the keys that it owns are removed, and
its claims to locks end, so that the next ones get these. Prints \"closed\", or \"no such
session\", which is no error: it is not open either way. With --json:
  {\"existed\":true,\"revision\":1795707939485460}

The client of the session learns of it by its next renewal, which is due within a third
of the TTL; until then it believes that it holds its locks. So close a session whose
program is gone, or use fencing tokens: see seshat lock --help.

Examples:
  seshat session close 5f0c2d9e71a4b863

Exit codes:
  0  the session is not open now
  2  the command line is faulty
  3  the cluster cannot be reached, refused it, or the outcome is unknown
  5  closed, but that could not be printed: standard error says so";

/// Look at the sessions of clients, and end them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(List),
    Close(Close),
}

/// List the living sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_HELP, next_line_help = true)]
struct List {
    #[command(flatten)]
    client: ClientOptions,
}

/// End a session, with its keys and its claims to locks.
#[derive(Debug, clap::Args)]
#[command(after_help = CLOSE_HELP, next_line_help = true)]
struct Close {
    /// The session: 16 hexadecimal digits
    #[arg(value_parser = session_id)]
    id: ClientId,

    #[command(flatten)]
    client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List(args) => args.run(),
            Command::Close(args) => args.run(),
        }
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::List(args) => args.client.json,
            Command::Close(args) => args.client.json,
        }
    }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let sessions = self
            .client
            .run(async |cluster| Ok(cluster.client().sessions().await?))?;
        match self.client.json {
            true => self.client.print(Json(&to_json(&sessions)))?,
            false => self.client.print(to_text(&sessions))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Close {
    fn run(self) -> Result<ExitCode, Failure> {
        let ClientId(id) = self.id;
        let ClosedSession {
            existed, revision, ..
        } = self
            .client
            .run(async |cluster| Ok(cluster.client().close_session(id).await?))?;
        let text = match existed {
            true => "closed",
            false => "no such session",
        };
        let json = json!({ "existed": existed, "revision": revision });
        let done = format_args!("{text}, at revision {revision}");
        self.client.print_done(done, text, json)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn to_json(sessions: &[SessionInfo]) -> Value {
    let sessions = sessions.iter().map(|session| {
        json!({
            "id": ClientId(session.client_id).to_string(),
            "ttl_ms": millis(session.ttl),
            "remaining_ms": millis(session.remaining),
            "owned_keys": session.owned_keys,
        })
    });
    json!({ "sessions": sessions.collect::<Value>() })
}

fn to_text(sessions: &[SessionInfo]) -> String {
    let header = ["SESSION", "TTL", "LEFT", "KEYS"].map(str::to_owned);
    let rows = sessions.iter().map(|session| {
        [
            ClientId(session.client_id).to_string(),
            humantime::format_duration(session.ttl).to_string(),
            format!("{:.1}s", session.remaining.as_secs_f64()),
            session.owned_keys.to_string(),
        ]
    });
    table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}
