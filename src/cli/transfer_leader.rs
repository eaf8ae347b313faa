//! `seshat transfer-leader`.

use std::process::ExitCode;

use serde_json::json;

use super::failure::Failure;
use super::options::{ClientOptions, node_id};

const HELP: &str = "\
Returns once the new leader leads. Reads and writes wait for some milliseconds
meanwhile. With --json:
  {\"leader_id\":2,\"term\":3}

Examples:
  seshat transfer-leader              # before the leader's machine is rebooted
  seshat transfer-leader --to 2

Exit codes:
  0  transferred
  2  the command line is faulty
  3  the cluster cannot be reached, refused the hand-over, or its outcome is
     unknown: look at seshat status
  5  transferred, but that could not be printed: standard error says so";

/// Transfer leadership to another node.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Node id of the new leader [default: the best caught-up one]
    #[arg(long, value_name = "ID", value_parser = node_id())]
    to: Option<u16>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let leader = self.client.run(async |cluster| {
            let leader = cluster.admin().transfer_leadership(self.to).await;
            Ok(leader?)
        })?;
        let text = format!("node {} leads in term {}", leader.leader_id, leader.term);
        let json = json!({ "leader_id": leader.leader_id, "term": leader.term });
        self.client.print_done(&text, &text, json)?;
        Ok(ExitCode::SUCCESS)
    }
}
