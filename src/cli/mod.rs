//! The command line: one file a subcommand.
//!
//! | file | subcommand |
//! |---|---|
//! | `dev.rs`, `serve.rs`, `config.rs` | run nodes, or check what they would run with |
//! | `set.rs`, `get.rs`, `del.rs`, `txn.rs`, `scan.rs`, `watch.rs` | read and write |
//! | `status.rs`, `transfer_leader.rs`, `member.rs`, `session.rs` | look at the cluster and steer it |
//! | `lock.rs`, `elect.rs`, `locks.rs` | hold a lock, and look at who does |
//! | `form.rs`, `recover.rs` | decide what nodes must not decide by themselves |
//! | `bench.rs` | measure how fast the cluster is, with `crate::bench` |
//!
//! The last five rows use `seshat::client` and nothing else, and each keeps to one cluster. `client.rs`
//! sets the time limit of the command, `wait.rs` waits until the cluster is healed, `failure.rs` reports
//! errors, `condition.rs` shows why a write was not made, `options.rs` holds the shared flags,
//! `holding.rs` holds the session of a lock and `job.rs` runs a command under it, `process.rs` ends a command with
//! its process group, `pipes.rs` reads and writes within the time limit, `word.rs` shows bytes as text and
//! `entry.rs` in JSON. Standard output gets the answer only; everything else goes to standard error, so that the
//! output of every command can be piped.

mod bench;
mod client;
mod condition;
mod config;
mod del;
mod dev;
mod elect;
mod entry;
mod failure;
mod form;
mod get;
mod holding;
mod job;
mod lock;
mod locks;
mod logging;
mod member;
mod options;
mod pipes;
mod process;
mod recover;
mod redirects;
mod render;
mod scan;
mod serve;
mod session;
mod set;
mod signals;
mod status;
mod transfer_leader;
mod txn;
mod wait;
mod watch;
mod word;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  get: no such key; set, del, txn: a condition does not hold; lock: the lock was
     not free; locks: the lock is free; serve, dev: a node failed
  2  the command line or the configuration is faulty
  3  the cluster cannot be reached, refused the request, or was not healed in time
  4  serve: an operator has removed the node from its cluster; lock, elect: the lock
     was lost
  5  carried out, but the answer could not be written: it is on standard error

Start here:
  seshat dev                    # a cluster of three on this machine
  seshat set greeting hello     # in another terminal
  seshat get greeting";

/// A replicated in-memory key-value store.
///
/// Three or more nodes hold the same map of keys to values and agree on every write
/// by Raft. While more than half of them live, nothing that was acknowledged is
/// lost. Nothing is written to disk.
#[derive(Parser)]
#[command(name = "seshat", version, after_help = EXIT_CODES, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Dev(dev::Args),
    Serve(serve::Args),
    Set(set::Args),
    Get(get::Args),
    Del(del::Args),
    Scan(scan::Args),
    Watch(watch::Args),
    Txn(txn::Args),
    Lock(lock::Args),
    Elect(elect::Args),
    Locks(locks::Args),
    Session(session::Args),
    Status(status::Args),
    TransferLeader(transfer_leader::Args),
    Member(member::Args),
    Form(form::Args),
    Recover(recover::Args),
    Bench(bench::Args),
    Config(config::Args),
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return not_a_command(&error),
    };
    let json = command.json();
    match command.run() {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Dev(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Set(args) => args.run(),
            Self::Get(args) => args.run(),
            Self::Del(args) => args.run(),
            Self::Scan(args) => args.run(),
            Self::Watch(args) => args.run(),
            Self::Txn(args) => args.run(),
            Self::Lock(args) => args.run(),
            Self::Elect(args) => args.run(),
            Self::Locks(args) => args.run(),
            Self::Session(args) => args.run(),
            Self::Status(args) => args.run(),
            Self::TransferLeader(args) => args.run(),
            Self::Member(args) => args.run(),
            Self::Form(args) => args.run(),
            Self::Recover(args) => args.run(),
            Self::Bench(args) => args.run(),
            Self::Config(args) => args.run(),
        }
    }

    /// Whether the caller wants JSON, including errors.
    fn json(&self) -> bool {
        match self {
            Self::Dev(_) | Self::Serve(_) => false,
            Self::Set(args) => args.client.json,
            Self::Get(args) => args.client.json,
            Self::Del(args) => args.client.json,
            Self::Scan(args) => args.client.json,
            Self::Watch(args) => args.client.json,
            Self::Txn(args) => args.client.json,
            Self::Lock(args) => args.client.json,
            Self::Elect(args) => args.client.json,
            Self::Locks(args) => args.client.json,
            Self::Session(args) => args.json(),
            Self::Status(args) => args.client.json,
            Self::TransferLeader(args) => args.client.json,
            Self::Member(args) => args.json(),
            Self::Form(args) => args.client.json,
            Self::Recover(args) => args.client.json,
            Self::Bench(args) => args.client.json,
            Self::Config(args) => args.json(),
        }
    }
}

/// Answers arguments that are not a command: a request for help, or a mistake.
fn not_a_command(error: &clap::Error) -> ExitCode {
    let asked_for_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && asked_for_json {
        let text = error.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text);
        return Failure::usage(message.trim_end()).report(true);
    }
    // A failure to show help does not change the exit code.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Longest wait until a line on standard error is taken.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes `text` and a newline to standard error, with spaces in place of what would steer a terminal. If the reader
/// does not take it in time, the line is lost, and the command goes on.
fn tell(text: impl std::fmt::Display) {
    let steers = |char| !matches!(char, '\n' | '\t') && !word::is_shown(char);
    let line = format!("{text}\n").replace(steers, " ");
    let (done, written) = std::sync::mpsc::sync_channel(1);
    let write = move || {
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
        let _ = done.send(());
    };
    // Writing to a full pipe blocks.
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(TELL_TIMEOUT);
    }
}
