//! `seshat serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use seshat::server::{Server, ServerError, entropy};
use seshat::types::NodeId;
use tracing::level_filters::LevelFilter;

use super::config::ConfigOverrides;
use super::failure::Failure;
use super::logging::LogOptions;
use super::options::runtime;
use super::signals;

const HELP: &str = "\
Fields are taken from the flags, then from environment variables such as
SESHAT_NODE__ID=2, then from the file. A faulty configuration starts nothing:
every fault is listed. See also: seshat config check.

SIGTERM or Ctrl-C stops the node well: it takes no new requests, hands leadership
over, finishes what it has begun, and ends within limits.shutdown_timeout_ms. A
second signal ends it at once.

Memory only: a node that is stopped forgets everything. The cluster keeps the
data as long as more than half of its nodes live.

Examples:
  seshat serve --config /etc/seshat.toml
  SESHAT_NODE__ID=2 seshat serve --config seshat.toml --log-format json

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
    /// The configuration file, in TOML. Without it, environment and flags say all
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
        self.log.init(LevelFilter::INFO)?;
        let stop = signals::listen()
            .map_err(|error| Failure::node(format!("cannot listen for signals: {error}")))?;
        run_node(config.node.id, Server::bind(config, entropy), stop)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs node `id` on the calling thread, from the moment that it is bound until `stop`.
pub(crate) fn run_node(
    id: NodeId,
    bound: impl Future<Output = Result<Server, ServerError>>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::node(format!("node {id}: {error}"));
    runtime()
        .map_err(|error| failed(&error))?
        .block_on(async { bound.await?.run(stop).await })
        .map_err(|error| match error {
            ServerError::Removed { .. } => Failure::removed(error.to_string()),
            error => failed(&error),
        })
}
