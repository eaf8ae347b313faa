//! `seshat status`.

use std::process::ExitCode;

use serde_json::{Value, json};
use seshat::proto::admin::{MemberStatus, StatusResponse};
use seshat::types::{ClusterId, RaftId};

use super::client::Cluster;
use super::entry::Json;
use super::failure::{Failure, printable};
use super::options::{ClientOptions, HEALING_TIMEOUT};
use super::redirects::Redirects;
use super::render::{role, role_and_percent, state, summary, table};
use super::wait::{Goal, Progress, until};

const HELP: &str = "\
The first line is a summary. A node that the answering node cannot reach has - in
the columns that only the node itself can fill. A further line names each member
that clients do not find at its client address. With --json (unknown: null):
  {\"cluster_id\":\"5f0c…\",\"leader_id\":1,\"term\":2,\"state\":\"healthy\",
   \"healed\":true,\"summary\":\"healthy: …\",\"members\":[
   {\"id\":1,\"raft_id\":\"1.3fa94c01b2d7\",\"role\":\"leader\",\"term\":2,
    \"commit_index\":7,\"applied_index\":7,\"keys\":1,\"state_bytes\":228,
    \"max_state_bytes\":1073741824,\"addr\":\"127.0.0.1:7379\",
    \"client_addr\":\"127.0.0.1:6379\",\"client_addr_fault\":null,\"reachable\":true,
    \"unreached\":[],\"caught_up_percent\":null},…]}

  state  forming, healthy (healed: any one member may be restarted), no_spare (fewer
         than three members: none may be restarted), healing (every member answers,
         the leader makes all of them voters), degraded (a leader, but not every
         member answers, keeps up with its log and reaches all others), no_quorum (no
         leader: reads and writes wait), halted (too many members have lost their
         memory: see seshat recover)
  role   leader, follower, candidate, learner, forming (waits for the cluster to
         form), outside (restarted without its memory; neither votes nor serves)

The leader's view is shown where it can be had, otherwise that of the endpoint
that knows most. A raft id is new each time that a node starts. While a node is
sent what it missed, a percentage beside its role says how far it is. State is the
memory of keys, values and sessions, and its limit (limits.max_state_bytes): the
leader refuses writes beyond it as full. Unreached are the members that a node does
not reach at their internal addresses.

Healed means that any one member may be restarted now: no acknowledged write is
lost, and writes go on. --wait healed asks again until the cluster is healed, and
says on standard error what it waits for. It ends at once if the cluster cannot heal
by itself, because it is halted or has fewer than three members.

Examples:
  seshat status
  seshat status --wait healed && sudo reboot
  seshat status --wait healed --timeout 10m --quiet
  seshat status --json | jq -r .state
  seshat status --endpoints 127.0.0.1:6380    # how node 2 sees it

Exit codes:
  0  a node answered, whatever the state of the cluster; with --wait: it is healed
  2  the command line is faulty
  3  no endpoint answers; with --wait: the cluster was not healed in time, or never
     is by itself";

/// Show the state of the cluster and of its nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Wait until the cluster is healed
    #[arg(long, value_name = "healed", value_parser = ["healed"])]
    wait: Option<String>,

    /// While waiting, say nothing on standard error
    #[arg(long, requires = "wait")]
    quiet: bool,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let tried = async |cluster: Cluster, status| {
            let redirects = Redirects::try_out(&cluster, &status).await;
            Ok((status, redirects))
        };
        let (status, redirects) = match self.wait {
            None => self.client.run(async |cluster| {
                let status = cluster.admin().status().await?;
                tried(cluster, status).await
            })?,
            Some(_) => self.client.run_within(HEALING_TIMEOUT, async |cluster| {
                let progress = Progress::new(self.quiet || self.client.json);
                let look = async || cluster.admin().fresh_status().await;
                let status = until(Goal::Healed, look, &cluster, progress, |_| true).await?;
                tried(cluster, status).await
            })?,
        };
        match self.client.json {
            true => self.client.print(Json(&to_json(&status, &redirects)))?,
            false => self.client.print(to_text(&status, &redirects))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn to_json(status: &StatusResponse, redirects: &Redirects) -> Value {
    let members = status.members.iter();
    let members = members.map(|member| member_to_json(member, redirects.fault(member.id)));
    json!({
        "cluster_id": status.cluster_id.map(|id| ClusterId(id).to_string()),
        "leader_id": status.leader_id,
        "term": status.term,
        "state": state(status.state()),
        "healed": status.healed,
        "summary": summary(status),
        "members": members.collect::<Value>(),
    })
}

fn member_to_json(member: &MemberStatus, client_addr_fault: Option<&str>) -> Value {
    json!({
        "id": member.id,
        "raft_id": raft_id(member),
        "role": role(member.role()),
        "term": told(member, member.term),
        "commit_index": told(member, member.commit_index),
        "applied_index": told(member, member.applied_index),
        "keys": told(member, member.keys),
        "state_bytes": told(member, member.state_bytes),
        "max_state_bytes": told(member, member.max_state_bytes),
        "addr": member.addr,
        "client_addr": member.client_addr,
        "client_addr_fault": client_addr_fault,
        "reachable": member.reachable,
        "unreached": member.unreached,
        "caught_up_percent": member.caught_up_percent,
    })
}

fn to_text(status: &StatusResponse, redirects: &Redirects) -> String {
    let header = [
        "NODE",
        "RAFT ID",
        "ROLE",
        "TERM",
        "COMMIT",
        "APPLIED",
        "KEYS",
        "STATE",
        "ADDRESS",
        "REACHABLE",
    ];
    let number = |member: &MemberStatus, number: u64| {
        told(member, number).map_or("-".to_owned(), |number| number.to_string())
    };
    let rows = status.members.iter().map(|member| {
        [
            member.id.to_string(),
            raft_id(member).unwrap_or("-".to_owned()),
            role_and_percent(member),
            number(member, member.term),
            number(member, member.commit_index),
            number(member, member.applied_index),
            number(member, member.keys),
            state_and_limit(member),
            printable(&member.client_addr),
            if member.reachable { "yes" } else { "no" }.to_owned(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut lines = vec![summary(status)];
    lines.extend(redirects.lines(status));
    format!("{}\n\n{}", lines.join("\n"), table(&rows))
}

/// A number that a member reports; `None` if the member does not answer.
fn told(member: &MemberStatus, number: u64) -> Option<u64> {
    member.reachable.then_some(number)
}

/// `1.2 MiB of 2.0 GiB`: the memory of the member's state, and its bound.
fn state_and_limit(member: &MemberStatus) -> String {
    match (told(member, member.state_bytes), member.max_state_bytes) {
        (None, _) => "-".to_owned(),
        (Some(bytes), 0) => size(bytes),
        (Some(bytes), limit) => format!("{} of {}", size(bytes), size(limit)),
    }
}

/// Bytes in the largest unit that does not give less than 1.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, bits)) = units.into_iter().find(|(_, bits)| bytes >> bits > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> bits;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

fn raft_id(member: &MemberStatus) -> Option<String> {
    let id = RaftId::try_from(member.raft_id).ok()?;
    Some(id.to_string())
}
