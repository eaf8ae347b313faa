//! A command that runs as long as a lock is held.
//!
//! The command has a process group of its own, so that signals reach all that it has started. Only if standard input
//! is a terminal it stays in the job of that terminal: a process of another group could not read there. Then the
//! terminal sends Ctrl-C to the command itself, and other signals reach the command alone.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use seshat::client::{Lock, Lost};
use seshat::types::ClientId;
use tokio::process::Command;
use tokio::signal::unix::SignalKind;

use super::failure::{Failure, printable};
use super::process::{Process, Signals, code_of, taken};
use super::tell;

/// The exit codes of a command that was not run, as shells have them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// How a command is run.
pub(super) struct Job<'a> {
    pub(super) command: &'a [OsString],
    /// What the command finds in its environment, beside the lock.
    pub(super) environment: Vec<(&'static str, String)>,
    /// How long it has to end when the lock is lost.
    pub(super) grace: Duration,
}

impl Job<'_> {
    /// Runs the command until it ends, or `lock` is lost. It gets the signals of this process.
    ///
    /// # Errors
    ///
    /// The command could not be run, or was ended because the lock was lost.
    pub(super) async fn run(self, lock: &Lock, signals: &mut Signals) -> Result<ExitCode, Failure> {
        let (mut hangup, mut quit) = (taken(SignalKind::hangup())?, taken(SignalKind::quit())?);
        let has_group = !io::stdin().is_terminal();
        let process = Process::start(self.to_run(lock)?, has_group);
        let mut process = process.map_err(|error| self.not_run(&error))?;
        loop {
            tokio::select! {
                biased;
                why = lock.lost() => {
                    tell(lost(lock, why));
                    process.end(self.grace).await;
                    return Err(Failure::lost(format!("the command was ended: {}", lost(lock, why))));
                }
                ended = process.ended() => {
                    let ended = ended.map_err(|error| Failure::local(error.to_string()))?;
                    return Ok(exit_code(ended));
                }
                signal = signals.next() => process.pass(signal),
                _ = hangup.recv() => process.pass(Signal::HUP),
                _ = quit.recv() => process.pass(Signal::QUIT),
            }
        }
    }

    fn to_run(&self, lock: &Lock) -> Result<Command, Failure> {
        let [program, arguments @ ..] = self.command else {
            return Err(Failure::usage("there is no command"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.environment.iter().cloned());
        command.env("SESHAT_LOCK_NAME", lock.name());
        command.env("SESHAT_LOCK_TOKEN", lock.token().to_string());
        let session = ClientId(lock.session().id()).to_string();
        command.env("SESHAT_LOCK_SESSION", session);
        Ok(command)
    }

    fn not_run(&self, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        let program = self.command.first().map(|it| it.to_string_lossy());
        let program = printable(&program.unwrap_or_default());
        Failure::not_run(code, format!("cannot run {program}: {error}"))
    }
}

/// The loss of `lock` in words.
pub(super) fn lost(lock: &Lock, why: Lost) -> String {
    let session = ClientId(lock.session().id());
    format!("the lock is lost, with session {session}: {why}")
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let exited = status.code().and_then(|code| u8::try_from(code).ok());
    let signalled = status.signal().map(code_of);
    ExitCode::from(exited.or(signalled).unwrap_or(u8::MAX))
}
