//! `seshat config`, and the flags that override the configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use seshat::config::{Config, ConfigError, Overrides, process_env};

use super::entry::Json;
use super::failure::Failure;
use super::pipes::print;

const HELP: &str = "\
Checks the configuration of seshat serve: the file, then environment variables
such as SESHAT_NODE__ID=2, then flags; the later wins. Every fault is listed on
standard error with its field, the rule that it breaks, and its source.

Examples:
  seshat config check /etc/seshat.toml
  seshat config check seshat.toml --id 2   # one file for all machines
  seshat config check seshat.toml --json

Exit codes:
  0  seshat serve can run with it
  2  it is faulty";

/// Check a configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(Check),
}

/// Check a configuration and list every fault.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
struct Check {
    /// The configuration file, in TOML
    file: PathBuf,

    /// Answer in JSON, one object on one line. Errors too, on standard error
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    overrides: ConfigOverrides,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let Command::Check(Check {
            file,
            json,
            overrides,
        }) = self.command;
        let config = overrides.load(Some(file.clone()))?;
        let members = config.cluster.initial_members.len();
        let node = &config.node;
        if json {
            let valid = json!({ "valid": true, "id": node.id.get(), "members": members });
            print(Json(&valid), None)?;
        } else {
            let valid = format_args!(
                "{}: valid: node {} of {members}, clients on {}, nodes on {}",
                file.display(),
                node.id,
                node.client_addr,
                node.internal_addr,
            );
            print(valid, None)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    pub(crate) fn json(&self) -> bool {
        let Command::Check(check) = &self.command;
        check.json
    }
}

/// Flags that override fields of the file. Each field has an environment variable too: SESHAT_NODE__ID
/// for node.id, and so on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration (wins over the environment and the file)")]
pub(crate) struct ConfigOverrides {
    /// Node id of this machine, one of the initial members [node.id]
    #[arg(long)]
    id: Option<String>,

    /// Address to listen on for clients [node.client_addr]
    #[arg(long, value_name = "HOST:PORT")]
    client_addr: Option<String>,

    /// Address to listen on for other nodes [node.internal_addr]
    #[arg(long, value_name = "HOST:PORT")]
    internal_addr: Option<String>,

    /// Directory for a small file of the last known members; no state is written [node.data_dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Form of the log lines on standard error: human or json [node.log_format]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Whether to take part in forming a new cluster [cluster.bootstrap]
    #[arg(long, value_name = "true|false")]
    bootstrap: Option<String>,

    /// All members, e.g. 1=kv-1:7379/kv-1:6379,2=… [cluster.initial_members]
    #[arg(long, value_name = "ID=ADDR/CLIENT_ADDR,…")]
    initial_members: Option<String>,

    /// Any field, e.g. raft.heartbeat_interval_ms=50; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
}

impl ConfigOverrides {
    /// The configuration from the file, if any, the environment and these flags.
    pub(crate) fn load(self, file: Option<PathBuf>) -> Result<Config, ConfigError> {
        let Self {
            id,
            client_addr,
            internal_addr,
            data_dir,
            log_format,
            bootstrap,
            initial_members,
            set,
        } = self;
        let overrides = Overrides {
            id,
            client_addr,
            internal_addr,
            data_dir,
            log_format,
            bootstrap,
            initial_members,
            set,
        };
        Config::load(file.as_deref(), process_env(), &overrides)
    }
}
