//! `seshat session`.

use std::process::ExitCode;

use serde_json::{Value, json};
use seshat::client::SessionInfo;
use seshat::types::ClientId;

use super::entry::{Json, millis};
use super::failure::Failure;
use super::options::ClientOptions;
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

/// Look at the sessions of clients.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(List),
}

/// List the living sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_HELP, next_line_help = true)]
struct List {
    #[command(flatten)]
    client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List(args) => args.run(),
        }
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::List(args) => args.client.json,
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
