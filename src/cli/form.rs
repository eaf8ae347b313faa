//! `seshat form`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use seshat::proto::admin::{ClusterState, MemberStatus, StatusResponse};
use seshat::types::ClusterId;

use super::failure::Failure;
use super::options::{ClientOptions, node_id};
use super::render::summary;

const HELP: &str = "\
A new cluster forms by itself once all initial members have found one another. If
some of them are gone, more than half of them can form it without the rest. You
state that the nodes you name are gone: none of them runs, or has ever been part of
a cluster with the others that still runs. A node that comes later is let in.

Refused while a cluster runs. With --json:
  {\"cluster_id\":\"5f0c2d9e71a4b863\"}

Examples:
  seshat form --without 3
  seshat form --without 4,5

Exit codes:
  0  the cluster runs
  2  the command line is faulty
  3  no node can be reached, it refused, or the outcome is unknown: look at seshat
     status
  5  the cluster runs, but that could not be printed: standard error says so";

/// Default time limit of the command: the cluster has to start.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Form a new cluster although initial members are missing.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Node ids of the missing members, which you state to be gone
    #[arg(
        long,
        required = true,
        value_name = "ID,…",
        value_delimiter = ',',
        value_parser = node_id(),
    )]
    without: Vec<u16>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let formed = self.client.run_within(TIMEOUT, async |cluster| {
            let status = cluster.admin().status().await?;
            let coordinator = coordinator(&status, &self.without)?;
            let node = cluster.admin().node(coordinator).await?;
            Ok(node.form(&self.without).await?)
        })?;
        let cluster_id = ClusterId(formed.cluster_id);
        let text = format!("cluster {cluster_id} runs");
        let json = json!({ "cluster_id": cluster_id.to_string() });
        self.client.print_done(&text, &text, json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The node to ask: the lowest id of the members that are there.
fn coordinator(status: &StatusResponse, without: &[u16]) -> Result<u16, Failure> {
    if status.state() != ClusterState::Forming {
        let message = format!("there is a cluster already: {}", summary(status));
        return Err(Failure::precondition(message));
    }
    let named = |member: &MemberStatus| without.iter().any(|id| u32::from(*id) == member.id);
    let unknown = |id: &&u16| {
        let mut members = status.members.iter();
        members.all(|member| member.id != u32::from(**id))
    };
    if let Some(id) = without.iter().find(unknown) {
        return Err(Failure::precondition(format!(
            "node {id} is no initial member"
        )));
    }
    let there = |member: &&MemberStatus| member.reachable && !named(member);
    let first = status.members.iter().filter(there).map(|member| member.id);
    let first = first.min().and_then(|id| u16::try_from(id).ok());
    first.ok_or_else(|| Failure::precondition("no other initial member answers"))
}
