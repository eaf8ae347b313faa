//! `seshat dev`.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use seshat::client::Client;
use seshat::config::Config;
use seshat::proto::admin::StatusResponse;
use seshat::server::{Descriptors, Server};
use seshat::telemetry::LogFormat;
use seshat::types::NodeId;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{NoSubscriber, set_default};

use super::client::Cluster;
use super::failure::Failure;
use super::logging::{LOG_OPTIONS, LogOptions};
use super::options::{DEV_CLUSTER, runtime};
use super::pipes::print;
use super::serve::run_node;
use super::signals::{self, Hangup};
use super::tell;

const HELP: &str = "\
Prints the leader and what to type next, and runs until Ctrl-C. A second Ctrl-C
ends it at once. Node N listens for clients on port 6378 + N and for the other
nodes on port 7378 + N, on 127.0.0.1 only. Everything is kept in memory: when the
command ends, the data is gone.

Examples:
  seshat dev
  seshat dev --nodes 5
  seshat dev --base-port 16379 --internal-base-port 17379
  seshat dev -v                       # with the log of the nodes

Exit codes:
  0    stopped as it was told
  1    a node failed, or could not listen
  2    the command line is faulty
  129  ended by SIGHUP, as when its terminal is closed, unless nohup says otherwise
  130  ended at once by a second Ctrl-C; 143 by a second SIGTERM";

/// Longest wait until a cluster on one machine has a leader, however busy the machine is.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Fewest client connections of a node, even if there are hardly enough descriptors for them: a user who
/// experiments needs a few.
const FEWEST_CONNECTIONS: usize = 16;

/// Run a whole cluster on this machine, to try things out.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Number of nodes: odd, at least 3
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u16,

    /// Client port of node 1; each further node listens one port up
    #[arg(long, value_name = "PORT", default_value_t = 6379)]
    base_port: u16,

    /// Internal port of node 1; each further node listens one port up
    #[arg(long, value_name = "PORT", default_value_t = 7379)]
    internal_base_port: u16,

    /// Form of the log lines on standard error: human or json
    #[arg(long, value_name = "FORMAT", default_value_t, help_heading = LOG_OPTIONS)]
    log_format: LogFormat,

    #[command(flatten)]
    log: LogOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let configs = self.configs()?;
        let _last_lines = self.log.init(self.log_format, LevelFilter::WARN)?;
        let stop = signals::listen(Hangup::EndsTheProcess)
            .map_err(|error| Failure::node(format!("cannot listen for signals: {error}")))?;
        let endpoints = configs.iter().map(|config| config.node.client_addr.clone());
        let endpoints: Vec<_> = endpoints.collect();
        let nodes = configs.into_iter().map(Node::bind);
        let nodes = nodes.collect::<Result<_, _>>()?;
        let runtime =
            runtime().map_err(|error| Failure::node(format!("cannot start a runtime: {error}")))?;
        let ended = runtime.block_on(run(nodes, &endpoints, stop, self.log.is_default()));
        runtime.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }

    fn configs(&self) -> Result<Vec<Config>, Failure> {
        let one = |id| Config::for_dev(id, self.nodes, self.base_port, self.internal_base_port);
        // With zero nodes, the configuration of node 1 reports the fault.
        let ids = (1..=self.nodes.max(1)).filter_map(NodeId::new);
        let mut configs = ids.map(one).collect::<Result<Vec<_>, _>>()?;
        let descriptors = Descriptors::of_this_process().shared_by(self.nodes);
        for config in &mut configs {
            let connections = &mut config.limits.max_connections;
            *connections = descriptors
                .connections()
                .clamp(FEWEST_CONNECTIONS, *connections);
        }
        Ok(configs)
    }
}

/// Runs the nodes until `stop`, or until one of them fails.
async fn run(
    nodes: Vec<Node>,
    endpoints: &[String],
    stop: impl Future<Output = ()>,
    quiet: bool,
) -> Result<(), Failure> {
    let (stopping, _) = watch::channel(false);
    let (ended, mut ends) = mpsc::unbounded_channel();
    let turns: Vec<_> = nodes
        .into_iter()
        .map(|node| node.start(quiet, stopping.subscribe(), ended.clone()))
        .collect::<Result<_, _>>()?;

    tokio::select! {
        failure = failure(&mut ends, turns.len()) => return Err(failure),
        failed = announce_and_wait(endpoints) => return failed,
        () = stop => {}
    }
    stopping.send_replace(true);
    // One after another, so that a leader finds a transferee, and writes in flight find their majority.
    // The rest has no majority and can do nothing more: it ends with the process.
    let majority = turns.len() / 2 + 1;
    for turn in turns.into_iter().take(majority) {
        // A node that was removed has ended.
        if turn.send(()).is_ok()
            && let Some(end) = ends.recv().await
        {
            end?;
        }
    }
    Ok(())
}

/// Waits until a node fails, or none of the `running` ones is left. A node that an operator removes ends,
/// and the others go on.
async fn failure(
    ends: &mut mpsc::UnboundedReceiver<Result<(), Failure>>,
    mut running: usize,
) -> Failure {
    while let Some(end) = ends.recv().await {
        match end {
            Err(failure) if failure.is_removal() && running > 1 => tell(failure.message()),
            Err(failure) => return failure,
            Ok(()) => break,
        }
        running -= 1;
    }
    Failure::node("a node stopped by itself")
}

/// A node that is about to start.
struct Node {
    config: Config,
    client: TcpListener,
    internal: TcpListener,
}

impl Node {
    /// Binds the ports of a node. All nodes are bound before one of them starts, so that none finds
    /// another one missing.
    fn bind(config: Config) -> Result<Self, Failure> {
        let bind = |addr: &str| {
            TcpListener::bind(addr).map_err(|error| {
                let id = config.node.id;
                Failure::node(format!("node {id}: cannot listen on {addr}: {error}"))
            })
        };
        Ok(Self {
            client: bind(&config.node.client_addr)?,
            internal: bind(&config.node.internal_addr)?,
            config,
        })
    }

    /// Runs the node on a thread of its own. It stops when its turn comes, and reports how it ended.
    fn start(
        self,
        quiet: bool,
        mut stopping: watch::Receiver<bool>,
        ended: mpsc::UnboundedSender<Result<(), Failure>>,
    ) -> Result<oneshot::Sender<()>, Failure> {
        let Self {
            config,
            client,
            internal,
        } = self;
        let id = config.node.id;
        let (turn, my_turn) = oneshot::channel();
        let stop = async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            if quiet {
                // The other nodes are expected to disappear now. The node has this thread to itself.
                std::mem::forget(set_default(NoSubscriber::new()));
            }
            let _ = my_turn.await;
        };
        let run = move || {
            let bound = Server::from_listeners(config, client, internal);
            run_node(id, bound, stop)
        };
        thread::Builder::new()
            .name(format!("node-{id}"))
            .spawn(move || {
                let panicked = |_| Err(Failure::node(format!("node {id} panicked")));
                let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked);
                // The receiver is dropped only when the process ends.
                let _ = ended.send(outcome);
            })
            .map_err(|error| Failure::node(format!("node {id}: cannot start: {error}")))?;
        Ok(turn)
    }
}

/// Prints the leader once there is one, and then waits for ever. Returns only errors.
async fn announce_and_wait(endpoints: &[String]) -> Result<(), Failure> {
    let cluster = Cluster::new(
        Client::builder().endpoints(endpoints),
        Instant::now(),
        MAX_WAIT,
    )?;
    cluster.client().ready().await?;
    let status = cluster.admin().status().await?;
    let welcome = welcome(&status, endpoints);
    // The cluster runs even if this is not read, and writing to a full pipe blocks.
    let _ = tokio::task::spawn_blocking(move || print(welcome, None)).await;
    std::future::pending().await
}

fn welcome(status: &StatusResponse, endpoints: &[String]) -> String {
    let mut text = String::from("Seshat runs on this machine:\n\n");
    for member in &status.members {
        let leads = if status.leader_id == Some(member.id) {
            "  leads"
        } else {
            ""
        };
        text += &format!("  node {}  {}{leads}\n", member.id, member.client_addr);
    }
    text += "\nIn another terminal:\n\n";
    let endpoints = endpoints.join(",");
    if endpoints != DEV_CLUSTER {
        text += &format!("  export SESHAT_ENDPOINTS={endpoints}\n");
    }
    text += "  seshat set greeting hello\n";
    text += "  seshat get greeting\n";
    text += "  seshat status\n";
    text += "\nCtrl-C stops the cluster and forgets the data.";
    text
}
