//! A process that a command runs, and the signals that end both.
//!
//! A process group of its own makes signals reach what the process has started, unless that leaves the group.

use std::io;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;

use super::failure::Failure;

/// How long a process may take to end, by default.
pub(super) const GRACE: &str = "5s";

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

pub(super) fn taken(kind: SignalKind) -> Result<unix::Signal, Failure> {
    let signal = unix::signal(kind);
    signal.map_err(|error| Failure::local(format!("cannot listen for signals: {error}")))
}

/// The exit code that a shell gives to a process which `signal` has ended.
pub(super) fn ended_by(signal: Signal) -> ExitCode {
    ExitCode::from(code_of(signal.as_raw()))
}

pub(super) fn code_of(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

/// The process of a command.
pub(super) struct Process {
    child: Child,
    id: Option<Pid>,
    has_group: bool,
}

impl Process {
    /// Starts `command`, in a process group of its own if it `has_group`.
    pub(super) fn start(mut command: Command, has_group: bool) -> io::Result<Self> {
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

    /// Waits until it has ended by itself. Processes that it has started may go on.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends it a signal that this process has got.
    pub(super) fn pass(&self, signal: Signal) {
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

    /// Ends it, and its group: by SIGTERM, and by SIGKILL after `grace` at the latest.
    pub(super) async fn end(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        let in_time = timeout(grace, self.child.wait()).await.is_ok();
        // Without a group, a process that has ended is all that can be reached, and its id is free.
        if self.has_group || !in_time {
            self.send(Signal::KILL);
        }
        let _ = self.child.wait().await;
    }
}
