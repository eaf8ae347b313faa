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

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use seshat::client::{Lock, Lost};
use seshat::types::ClientId;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;

use super::failure::{Failure, printable};
use super::tell;

/// The exit codes of a command that was not run, as shells have them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The signals that end a command line.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Takes them from now on.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: taken(SignalKind::interrupt())?,
            terminate: taken(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }
}

fn taken(kind: SignalKind) -> Result<unix::Signal, Failure> {
    let signal = unix::signal(kind);
    signal.map_err(|error| Failure::local(format!("cannot listen for signals: {error}")))
}

/// The exit code that a shell gives to a process which `signal` has ended.
pub(super) fn ended_by(signal: Signal) -> ExitCode {
    ExitCode::from(code_of(signal.as_raw()))
}

fn code_of(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

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
        let mut process =
            Process::start(self.to_run(lock)?).map_err(|error| self.not_run(&error))?;
        loop {
            tokio::select! {
                biased;
                why = lock.lost() => {
                    tell(lost(lock, why));
                    process.end(self.grace).await;
                    return Err(Failure::lost(format!("the command was ended: {}", lost(lock, why))));
                }
                ended = process.child.wait() => {
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

/// The process of a command.
struct Process {
    child: Child,
    id: Option<Pid>,
    has_group: bool,
}

impl Process {
    fn start(mut command: Command) -> io::Result<Self> {
        let has_group = !io::stdin().is_terminal();
        if has_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            child,
            id: id.and_then(Pid::from_raw),
            has_group,
        })
    }

    /// Sends it a signal that this process has got.
    fn pass(&self, signal: Signal) {
        let is_of_terminal = signal == Signal::INT || signal == Signal::QUIT;
        if self.has_group || !is_of_terminal {
            self.send(signal);
        }
    }

    fn send(&self, signal: Signal) {
        let Some(id) = self.id else { return };
        // It may have ended.
        let _ = match self.has_group {
            true => kill_process_group(id, signal),
            false => kill_process(id, signal),
        };
    }

    /// Ends it, at the latest after `grace`.
    async fn end(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        let in_time = timeout(grace, self.child.wait()).await.is_ok();
        // Without a group, a process that has ended is all that can be reached, and its id is free.
        if self.has_group || !in_time {
            self.send(Signal::KILL);
        }
        let _ = self.child.wait().await;
    }
}
