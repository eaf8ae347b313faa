//! Failures of commands: a line for people, JSON for programs, and an exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::json;
use seshat::client::{Applied, Error};
use seshat::config::ConfigError;

use super::entry::Json;
use super::tell;
use super::word::is_shown;

/// The exit code of a command whose condition did not hold.
pub(crate) const UNMET: u8 = 1;

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// The kind of failure, in one word for programs.
    kind: &'static str,
    message: String,
    /// Whether the request was applied, in one word for programs, if there was a request.
    applied: Option<&'static str>,
    /// The answer in JSON that could not be written.
    answer: Option<Box<serde_json::Value>>,
    /// The faults of a configuration, one by one.
    faults: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// The reader of our output has closed it.
    Quiet,
    /// The same, of the answer that a condition does not hold.
    QuietUnmet,
    NodeFailed,
    Usage,
    Unserved,
    Removed,
    Unwritten,
    /// A lock was lost.
    Lost,
    /// A command could not be run: the exit code that shells have for it.
    NotRun(u8),
}

impl Failure {
    fn new(exit: Exit, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind,
            message: message.into(),
            applied: None,
            answer: None,
            faults: Vec::new(),
        }
    }

    /// The command line is invalid.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// An error on this machine, before the cluster was asked.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "local", message)
    }

    /// The time limit passed before the cluster was asked.
    pub(crate) fn late(message: impl Into<String>) -> Self {
        Self {
            applied: Some(word(Applied::No)),
            ..Self::new(Exit::Unserved, "timeout", message)
        }
    }

    /// The answer could not be written.
    pub(crate) fn stdout(error: io::Error) -> Self {
        let (exit, kind, why) = match error.kind() {
            io::ErrorKind::BrokenPipe => (Exit::Quiet, "local", error.to_string()),
            io::ErrorKind::TimedOut => (
                Exit::Unserved,
                "timeout",
                "standard output was not read in time".to_owned(),
            ),
            _ => (Exit::Unserved, "local", error.to_string()),
        };
        Self::new(
            exit,
            kind,
            format!("the answer could not be written: {why}"),
        )
    }

    /// The same for a command that has changed something: the error tells the user what is `done`, and
    /// contains the `answer` for programs.
    pub(crate) fn carried_out(self, done: impl fmt::Display, answer: serde_json::Value) -> Self {
        Self {
            exit: Exit::Unwritten,
            kind: "unwritten",
            message: format!("carried out ({done}), but {}", self.message),
            applied: Some("yes"),
            answer: Some(Box::new(answer)),
            faults: Vec::new(),
        }
    }

    /// The same for a command whose condition did not hold, so that it has changed nothing.
    pub(crate) fn unmet(self) -> Self {
        let exit = match self.exit {
            Exit::Quiet => Exit::QuietUnmet,
            exit => exit,
        };
        Self {
            exit,
            applied: Some(word(Applied::No)),
            ..self
        }
    }

    /// A node could not start, or ended with an error.
    pub(crate) fn node(message: impl Into<String>) -> Self {
        Self::new(Exit::NodeFailed, "node", message)
    }

    /// The cluster was not healed in time, or cannot be healed.
    pub(crate) fn not_healed(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "not_healed", message)
    }

    /// The cluster gave answers that no correct cluster gives.
    pub(crate) fn wrong_answers(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "wrong_answers", message)
    }

    /// The cluster served no operation, so nothing was measured.
    pub(crate) fn unmeasured(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, kind, message)
    }

    /// The cluster does not meet a precondition of the request, which was not sent.
    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self {
            applied: Some(word(Applied::No)),
            ..Self::new(Exit::Unserved, "failed_precondition", message)
        }
    }

    /// The same, with advice.
    pub(crate) fn advising(self, what: &str) -> Self {
        Self {
            message: format!("{} ({what})", self.message),
            ..self
        }
    }

    /// The change is done, but a later step of the command failed.
    pub(crate) fn although(self, done: impl fmt::Display) -> Self {
        Self {
            message: format!("{done}, but {}", self.message),
            applied: None,
            ..self
        }
    }

    /// A lock was lost, and what relied on it was ended.
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::new(Exit::Lost, "lock_lost", message)
    }

    /// A command could not be run.
    pub(crate) fn not_run(code: u8, message: impl Into<String>) -> Self {
        Self::new(Exit::NotRun(code), "local", message)
    }

    /// A node ended because an operator has removed it from its cluster.
    pub(crate) fn removed(message: impl Into<String>) -> Self {
        Self::new(Exit::Removed, "removed", message)
    }

    /// Whether it is [`removed`](Self::removed).
    pub(crate) fn is_removal(&self) -> bool {
        self.exit == Exit::Removed
    }

    /// Reports the failure to the user, and returns the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let code = match self.exit {
            Exit::Quiet => return ExitCode::SUCCESS,
            Exit::QuietUnmet => return ExitCode::from(UNMET),
            Exit::NodeFailed => 1,
            Exit::Usage => 2,
            Exit::Unserved => 3,
            Exit::Removed | Exit::Lost => 4,
            Exit::Unwritten => 5,
            Exit::NotRun(code) => code,
        };
        if json {
            tell(Json(&self.to_json()));
        } else {
            tell(format_args!("error: {}", self.message));
        }
        ExitCode::from(code)
    }

    /// The message for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::Map::new();
        error.insert("kind".to_owned(), self.kind.into());
        error.insert("message".to_owned(), self.message.clone().into());
        if let Some(applied) = self.applied {
            error.insert("applied".to_owned(), applied.into());
        }
        if let Some(answer) = &self.answer {
            error.insert("answer".to_owned(), (**answer).clone());
        }
        if !self.faults.is_empty() {
            error.insert("faults".to_owned(), self.faults.clone().into());
        }
        json!({ "error": error })
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let faults = error.faults.iter().map(|fault| {
            json!({
                "field": fault.field,
                "problem": fault.problem,
                "expected": fault.expected,
                "origin": fault.origin.as_ref().map(ToString::to_string),
            })
        });
        Self {
            faults: faults.collect(),
            ..Self::new(Exit::Usage, "config", error.to_string())
        }
    }
}

/// The cluster did not carry out the request.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = match error.applied() {
            Applied::No => error.to_string(),
            Applied::Unknown => format!(
                "{error}; the request may have been carried out, or may yet be, and was not repeated"
            ),
        };
        Self {
            applied: Some(word(error.applied())),
            ..Self::new(Exit::Unserved, error.kind(), message)
        }
    }
}

fn word(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "no",
        Applied::Unknown => "unknown",
    }
}

/// Text from another machine, without the characters that would steer a terminal or fool its reader.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|char| !is_shown(char), " ")
}
