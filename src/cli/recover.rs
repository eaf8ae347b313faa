//! `seshat recover`.
//!
//! This is the one command that can lose acknowledged writes. So it first looks and changes nothing,
//! prints what would be kept and what may be missing, and continues only after the operator has typed the
//! id of the cluster that is given up.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use seshat::proto::admin::{RecoverRequest, RecoverResponse, RecoverySurvivor, StatusResponse};
use seshat::types::{ClusterId, WallTime};

use super::failure::Failure;
use super::options::{ClientOptions, HEALING_TIMEOUT, cluster_id, node_id};
use super::render::summary;
use super::wait::{Goal, WaitOptions};
use super::{options, tell};

const HELP: &str = "\
For a cluster that has halted: so many of its voters have lost their memory that no
leader can ever be elected. One node makes a new cluster of what it still
has, and the others join that one. Writes that were acknowledged but never reached
this node are lost. The node compares its log with that of every other node first,
and refuses where one has more: seshat status names the one that has most.

A node that does not answer may still serve, or have more. Reconnect it, and do not
restart a process that still runs. Use --without only for a node whose process is
gone for good, and --incomplete for one that does not vote: it may have any part of
the whole.

Says first what would be kept, and changes nothing before the id of the halted
cluster is typed. In a script, --confirm types it. Then waits until every member
takes part in the new cluster that can, and says on standard error what it waits for.
What is left to do is printed: survivors to start again, members to remove. With --json
(healed is false where something is left to do, with --no-wait, and with fewer than
three members):
  {\"cluster_id\":\"5f0c2d9e71a4b863\",\"new_cluster_id\":\"83b1…\",\"term\":3,
   \"commit_index\":812,\"last_log_index\":815,\"keys\":42,\"other_survivors\":[2],
   \"without\":[],\"healed\":true}

Examples:
  seshat status                       # halted: … seshat recover --from 3
  seshat recover --from 3
  seshat recover --from 3 --confirm 5f0c2d9e71a4b863
  seshat recover --from 3 --without 4,5   # their machines are gone for good

Exit codes:
  0  the new cluster runs; unless --no-wait is given, it is healed but for what is
     left to do
  2  the command line is faulty, or not confirmed: nothing was changed
  3  the node cannot be reached, it refused, the outcome is unknown, or the new
     cluster was not healed in time: the error says which
  5  carried out, but that could not be printed: standard error says so, and which
     cluster is new";

/// Make a new cluster from the state of one node, when the quorum is lost for good.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Node id of the node whose state is kept
    #[arg(long, value_name = "NODE", value_parser = node_id())]
    from: u16,

    /// Nodes whose processes are gone for good, as you state: they can never answer again
    #[arg(long, value_name = "NODES", value_delimiter = ',', value_parser = node_id())]
    without: Vec<u16>,

    /// Accept that the node does not vote, and may have only a part of the data
    #[arg(long)]
    incomplete: bool,

    /// Id of the halted cluster: continue without asking
    #[arg(long, value_name = "CLUSTER_ID", value_parser = cluster_id)]
    confirm: Option<ClusterId>,

    #[command(flatten)]
    wait: WaitOptions,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let kept = self.client.run(async |cluster| {
            let node = cluster.admin().node(self.from).await?;
            let Some(cluster_id) = node.view().cluster_id else {
                let view = summary(node.view());
                let message = format!("node {} has no state: {view}", self.from);
                return Err(Failure::precondition(message));
            };
            Ok(node.recover(self.request(cluster_id, true)).await?)
        })?;
        if !self.client.json {
            tell(words(self.from, &kept));
        }
        self.confirm(ClusterId(kept.cluster_id))?;
        // The time that the operator took to confirm does not count.
        let client = self.client.begun_anew();
        client.run_within(HEALING_TIMEOUT, async |cluster| {
            let node = cluster.admin().node(self.from).await?;
            let kept = node.recover(self.request(kept.cluster_id, false)).await?;
            let is_new = |status: &StatusResponse| status.cluster_id == kept.new_cluster_id;
            let json = self.client.json;
            // Other nodes may still have a view of the old cluster, and one that stays out has no other
            // view.
            let look = async || node.status().await;
            let goal = goal(&kept);
            let waited = self.wait.reach(goal, look, &cluster, json, is_new).await;
            report(self.from, &kept, waited, &client)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self, cluster_id: u64, dry_run: bool) -> RecoverRequest {
        RecoverRequest {
            cluster_id,
            dry_run,
            without: self.without.iter().copied().map(u32::from).collect(),
            incomplete: self.incomplete,
        }
    }

    /// Checks that the operator means this cluster.
    fn confirm(&self, cluster_id: ClusterId) -> Result<(), Failure> {
        let node = self.from;
        match self.confirm {
            Some(confirmed) if confirmed == cluster_id => return Ok(()),
            Some(confirmed) => {
                return Err(Failure::usage(format!(
                    "node {node} belongs to cluster {cluster_id}, not to {confirmed}: nothing was \
                     changed"
                )));
            }
            None => {}
        }
        let stdin = std::io::stdin();
        if self.client.json || !stdin.is_terminal() {
            return Err(Failure::usage(format!(
                "nothing was changed: with --json, or without a terminal, confirm with --confirm \
                 {cluster_id}"
            )));
        }
        let _ = write!(
            std::io::stderr(),
            "\nType the cluster id, {cluster_id}, to go on: "
        );
        let mut typed = String::new();
        let read = stdin.lock().read_line(&mut typed);
        read.map_err(|error| Failure::local(format!("cannot read standard input: {error}")))?;
        match options::cluster_id(typed.trim()) {
            Ok(confirmed) if confirmed == cluster_id => Ok(()),
            _ => Err(Failure::usage(format!(
                "that is not {cluster_id}: nothing was changed"
            ))),
        }
    }
}

/// The text before the confirmation: the consequences for the data and the nodes.
fn words(from: u16, kept: &RecoverResponse) -> String {
    let RecoverResponse {
        new_cluster_id: _,
        cluster_id,
        term: _,
        commit_index,
        last_log_index,
        keys,
        other_survivors,
        last_log_term,
        votes,
        compared,
        without,
        time,
        commit_revision,
        last_log_revision: _,
    } = kept;
    let cluster_id = ClusterId(*cluster_id);
    let behind = last_log_index.saturating_sub(*commit_index);
    let keys = counted(*keys, "key", "keys");
    let tail = match behind {
        0 => String::new(),
        _ => format!(
            ", with the\n          {} after index {commit_index}, of which it is not known whether\n          \
             they were acknowledged",
            counted(behind, "entry", "entries")
        ),
    };
    let mut text = format!(
        "\
Node {from} gives up cluster {cluster_id} and makes a new one of what it still has.

Kept:     all of its log, up to index {last_log_index} of term {last_log_term}: {keys}{tail}.
Compared: {}.
",
        comparison(compared)
    );
    if !without.is_empty() {
        text += &format!(
            "Left out: {}, gone for good as you state. Their state is not compared.\n",
            named(without)
        );
    }
    text += &format!(
        "\
Missing:  writes acknowledged after log index {last_log_index} that never reached node {from}, if
          there were any. Their number is unknown."
    );
    if !votes {
        text += &format!(
            "\n          Node {from} does not vote: it had not caught up, or was removed, so this may\n          \
             be much."
        );
    }
    text += &clock(from, *time, *commit_revision);
    text += "\n\nThe nodes that have lost their memory join the new cluster.";
    if !other_survivors.is_empty() {
        let survivors = named(other_survivors);
        text += &format!(
            " What {survivors} still has\nof the old one stays there, and keeps it out. Start it again \
             only when every other\nmember takes part in the new cluster: until then it is a copy."
        );
    }
    text
}

/// Where revisions go on, so that an operator notices a wrong clock. Empty if the cluster has no revisions.
fn clock(from: u16, time: u64, last: u64) -> String {
    let shown = |micros| UNIX_EPOCH.checked_add(Duration::from_micros(micros));
    let shown = |micros| shown(micros).map(humantime::format_rfc3339_seconds);
    match (shown(time), shown(last)) {
        _ if last < WallTime::FIRST.micros() => String::new(),
        (Some(now), _) if time > last => format!(
            "\nClock:    revisions go on at {now}, which it is by the clock of node {from}."
        ),
        (_, Some(last)) => format!(
            "\nClock:    the clock of node {from} is wrong, or others were ahead of it: revisions have \
             reached\n          {last}, and go on some minutes above that."
        ),
        _ => String::new(),
    }
}

/// The logs of the other nodes that were compared.
fn comparison(compared: &[RecoverySurvivor]) -> String {
    let has = |survivor: &RecoverySurvivor| {
        let RecoverySurvivor {
            id,
            last_log_term,
            last_log_index,
            commit_index: _,
            votes: _,
        } = survivor;
        format!("node {id} has no more, up to index {last_log_index} of term {last_log_term}")
    };
    match compared {
        [] => "no other node that answers has anything of the cluster".to_owned(),
        some => {
            let all: Vec<_> = some.iter().map(has).collect();
            all.join("\n          ")
        }
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The state that the new cluster can reach by itself.
fn goal(kept: &RecoverResponse) -> Goal {
    let others = [kept.other_survivors.as_slice(), &kept.without].concat();
    if others.is_empty() {
        Goal::Settled
    } else {
        Goal::AllVoteBut(others)
    }
}

/// Prints the result, and the result of waiting for it.
fn report(
    from: u16,
    kept: &RecoverResponse,
    waited: Result<Option<StatusResponse>, Failure>,
    client: &ClientOptions,
) -> Result<(), Failure> {
    let new = kept.new_cluster_id.map(|id| ClusterId(id).to_string());
    let name = new.as_deref().unwrap_or("unknown");
    let mut done = format!("cluster {name} runs on what node {from} had");
    let starts = (!kept.other_survivors.is_empty()).then(|| {
        let those = named(&kept.other_survivors);
        format!("start {those} again, once every other member takes part")
    });
    let gone = kept.without.iter();
    let removals = gone.map(|id| format!("seshat member remove {id}"));
    let left: Vec<_> = starts.into_iter().chain(removals).collect();
    if !left.is_empty() {
        done += &format!(" (left to do: {})", left.join("; "));
    }
    let settled = waited.map_err(|failure| failure.although(&done))?;
    let json = json!({
        "cluster_id": ClusterId(kept.cluster_id).to_string(),
        "new_cluster_id": new,
        "term": kept.term,
        "commit_index": kept.commit_index,
        "last_log_index": kept.last_log_index,
        "keys": kept.keys,
        "other_survivors": kept.other_survivors,
        "without": kept.without,
        "time": kept.time,
        "commit_revision": kept.commit_revision,
        "last_log_revision": kept.last_log_revision,
        "healed": settled.as_ref().is_some_and(|status| status.healed),
    });
    let text = match settled {
        Some(status) => format!("{done}; {}", summary(&status)),
        None => done.clone(),
    };
    client.print_done(done, text, json)
}

fn named(ids: &[u32]) -> String {
    let all: Vec<_> = ids.iter().map(u32::to_string).collect();
    let nodes = if all.len() == 1 { "node" } else { "nodes" };
    format!("{nodes} {}", all.join(", "))
}
