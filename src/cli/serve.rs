//! `seshat serve`.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use seshat::config::Memory;
use seshat::server::{Descriptors, Server, ServerError};
use seshat::types::NodeId;
use tracing::level_filters::LevelFilter;

use super::config::ConfigOverrides;
use super::failure::Failure;
use super::logging::LogOptions;
use super::options::runtime;
use super::signals::{self, Hangup};

const HELP: &str = "\
Fields are taken from the flags, then from environment variables such as
SESHAT_NODE__ID=2, then from the file. A faulty configuration starts nothing:
every fault is listed. See also: seshat config check. The limit of open files
(ulimit -n) is raised as far as the system lets it, and has to suffice for
limits.max_connections and some hundred more.

SIGTERM or Ctrl-C stops the node gracefully: it takes no new requests, transfers
leadership, finishes requests in flight, and ends within
limits.shutdown_timeout_ms. A second signal ends it at once. SIGHUP changes
nothing: a terminal may close. Log lines go to standard error and never delay the
node: lines that are not read in time are lost, and a warning counts them.

Memory only: a node that is stopped forgets everything. The cluster keeps the
data as long as more than half of its nodes run.

Examples:
  seshat serve --config /etc/seshat.toml
  SESHAT_NODE__ID=2 seshat serve --config seshat.toml --log-format json
  SESHAT_LOG=info,seshat::replication=debug seshat serve --config seshat.toml

Exit codes:
  0    stopped as it was told
  1    the node failed, or could not listen
  2    the command line or the configuration is faulty
  4    an operator has removed the node from its cluster. Started again, it waits
       outside and does no harm, until it is added again
  130  ended at once by a second Ctrl-C; 143 by a second SIGTERM";

/// Run one node of a cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// The configuration file, in TOML. Without it, environment and flags configure all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    overrides: ConfigOverrides,

    #[command(flatten)]
    log: LogOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.overrides.load(self.config)?;
        Descriptors::of_this_process().suffice(&config)?;
        Memory::of_this_process().suffices(&config)?;
        let _last_lines = self.log.init(config.node.log_format, LevelFilter::INFO)?;
        let stop = signals::listen(Hangup::Ignored)
            .map_err(|error| Failure::node(format!("cannot listen for signals: {error}")))?;
        run_node(config.node.id, Server::bind(config), stop)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs node `id` on the calling thread, from binding its listeners until `stop`.
pub(crate) fn run_node(
    id: NodeId,
    bound: impl Future<Output = Result<Server, ServerError>>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::node(format!("node {id}: {error}"));
    let runtime = runtime().map_err(|error| failed(&error))?;
    let ended = runtime.block_on(async {
        let mut stop = pin!(stop);
        // Resolving names in the addresses may take long.
        let server = tokio::select! {
            server = bound => server?,
            () = &mut stop => return Ok(()),
        };
        server.run(stop).await
    });
    // Dropping the runtime would wait for running name lookups.
    runtime.shutdown_background();
    ended.map_err(|error| match error {
        ServerError::Removed { .. } => Failure::removed(error.to_string()),
        error => failed(&error),
    })
}
