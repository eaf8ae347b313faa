//! `seshat member`.

use std::process::ExitCode;

use serde_json::{Value, json};
use seshat::client::endpoint;
use seshat::proto::admin::{AddMemberResponse, RemoveMemberResponse, StatusResponse};

use super::entry::Json;
use super::failure::{Failure, printable};
use super::options::{ClientOptions, HEALING_TIMEOUT, node_id};
use super::render::{role, role_and_percent, summary, table};
use super::wait::WaitOptions;

const ADD_HELP: &str = "\
Start the new node with bootstrap off, and with the present members and itself in
its configuration, before or after this command. The leader then sends it the data
and makes it a voter. The id of a member changes its addresses.

The configuration of every node should list the present members, or set
node.data_dir: a node asks these members when it is started again.

Waits until the cluster is healed again, and says on standard error what it waits
for. With --json (healed is false with --no-wait, and with fewer than three members):
  {\"applied_index\":42,\"members\":[1,2,3,4],\"healed\":true}

Examples:
  seshat member add 4 kvstore-4:7379 kvstore-4:6379
  seshat member add 4 kvstore-4:7379 kvstore-4:6379 --no-wait

Exit codes:
  0  the node is a member; unless --no-wait is given, the cluster is healed
  2  the command line is faulty
  3  the cluster cannot be reached, refused the change, its outcome is unknown, or
     the cluster was not healed in time: the error says which
  5  carried out, but that could not be printed: standard error says so";

const REMOVE_HELP: &str = "\
The leader removes the node's process, which ends, and the cluster does not wait for
the node any more. Refused if the remaining members could not decide anything; and,
without --yes, if fewer than three remain: then restarting any one of them halts the
cluster, or loses all data.

Waits until the cluster is healed again, or as whole as it can be with fewer than
three members, and says on standard error what it waits for. With --json (healed is
false with --no-wait, and with fewer than three members):
  {\"applied_index\":42,\"members\":[1,2,3],\"healed\":true}

Examples:
  seshat member remove 4
  seshat member remove 3 --yes      # two are left
  seshat member remove 4 --timeout 5m --quiet

Exit codes:
  0  the node is no member; unless --no-wait is given, the cluster is healed, or has
     fewer than three members and all of them take part
  2  the command line is faulty
  3  the cluster cannot be reached, refused the change, its outcome is unknown, or
     the cluster was not healed in time: the error says which
  5  carried out, but that could not be printed: standard error says so";

const LIST_HELP: &str = "\
With --json:
  {\"members\":[{\"id\":1,\"role\":\"leader\",\"addr\":\"kvstore-1:7379\",
   \"client_addr\":\"kvstore-1:6379\"},…]}
The role of a member that does not answer is - or, in JSON, null.

Examples:
  seshat member list
  seshat member list --json | jq -r '.members[].client_addr'

Exit codes:
  0  a node answered
  2  the command line is faulty
  3  no endpoint answers";

/// List, add and remove members.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(List),
    Add(Add),
    Remove(Remove),
}

/// Show the members and their addresses.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_HELP, next_line_help = true)]
struct List {
    #[command(flatten)]
    client: ClientOptions,
}

/// Add a member, or change its addresses.
#[derive(Debug, clap::Args)]
#[command(after_help = ADD_HELP, next_line_help = true)]
struct Add {
    /// Node id of the member
    #[arg(value_parser = node_id())]
    id: u16,

    /// Address for the other nodes: host:port
    #[arg(value_parser = endpoint)]
    addr: String,

    /// Address for clients: host:port
    #[arg(value_parser = endpoint)]
    client_addr: String,

    #[command(flatten)]
    wait: WaitOptions,

    #[command(flatten)]
    client: ClientOptions,
}

/// Remove a member.
#[derive(Debug, clap::Args)]
#[command(after_help = REMOVE_HELP, next_line_help = true)]
struct Remove {
    /// Node id of the member
    #[arg(value_parser = node_id())]
    id: u16,

    /// Remove it although fewer than three members are left, so that none may be lost
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    wait: WaitOptions,

    #[command(flatten)]
    client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Add(add) => add.run(),
            Command::Remove(remove) => remove.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::List(list) => list.client.json,
            Command::Add(add) => add.client.json,
            Command::Remove(remove) => remove.client.json,
        }
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let status = self
            .client
            .run(async |cluster| Ok(cluster.admin().status().await?))?;
        if self.client.json {
            return self.client.print(Json(&list_to_json(&status)));
        }
        self.client.print(list_to_text(&status))
    }
}

fn list_to_json(status: &StatusResponse) -> Value {
    let members = status.members.iter().map(|member| {
        json!({
            "id": member.id,
            "role": role(member.role()),
            "addr": member.addr,
            "client_addr": member.client_addr,
        })
    });
    json!({ "members": members.collect::<Value>() })
}

fn list_to_text(status: &StatusResponse) -> String {
    let rows = status.members.iter().map(|member| {
        [
            member.id.to_string(),
            role_and_percent(member),
            printable(&member.addr),
            printable(&member.client_addr),
        ]
    });
    let header = ["NODE", "ROLE", "ADDRESS", "CLIENT ADDRESS"];
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned))
        .chain(rows)
        .collect();
    table(&rows)
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        self.client.run_within(HEALING_TIMEOUT, async |cluster| {
            let admin = cluster.admin();
            let added = admin.add_member(self.id, &self.addr, &self.client_addr);
            let added = added.await?;
            let AddMemberResponse {
                applied_index,
                members,
            } = added;
            let decided = Decided {
                what: format!("node {} is a member", self.id),
                advice: FILES,
                applied_index,
                members,
            };
            let is_in = |status: &StatusResponse| lists(status, self.id);
            let json = self.client.json;
            let waited = self.wait.finish(&cluster, json, is_in).await;
            decided.report(waited, &self.client)
        })
    }
}

impl Remove {
    fn run(self) -> Result<(), Failure> {
        self.client.run_within(HEALING_TIMEOUT, async |cluster| {
            let removed = cluster.admin().remove_member(self.id, self.yes).await?;
            let RemoveMemberResponse {
                applied_index,
                members,
            } = removed;
            let decided = Decided {
                what: format!("node {} is no member", self.id),
                advice: "",
                applied_index,
                members,
            };
            let is_out = |status: &StatusResponse| !lists(status, self.id);
            let json = self.client.json;
            let waited = self.wait.finish(&cluster, json, is_out).await;
            decided.report(waited, &self.client)
        })
    }
}

fn lists(status: &StatusResponse, id: u16) -> bool {
    status.members.iter().any(|it| it.id == u32::from(id))
}

/// After a restart a node asks the members of its configuration, or of its file.
const FILES: &str = "\nlist it in the configuration of every node, or set node.data_dir there: a node \
                     that is started again asks the members that these name";

/// A change that was decided.
struct Decided {
    what: String,
    /// Advice for the operator; empty if there is none.
    advice: &'static str,
    applied_index: u64,
    members: Vec<u32>,
}

impl Decided {
    /// Prints the change, and the result of waiting for it.
    fn report(
        self,
        waited: Result<Option<StatusResponse>, Failure>,
        client: &ClientOptions,
    ) -> Result<(), Failure> {
        let Self {
            what,
            advice,
            applied_index,
            members,
        } = self;
        let since = format!("{what} since log index {applied_index}");
        let settled = waited.map_err(|failure| failure.although(&since))?;
        let json = json!({
            "applied_index": applied_index,
            "members": members,
            "healed": settled.as_ref().is_some_and(|status| status.healed),
        });
        let text = match settled {
            Some(status) => format!("{what}; {}{advice}", summary(&status)),
            None => format!("{since}{advice}"),
        };
        client.print_done(since, text, json)
    }
}
