//! What went wrong: as a line for people, as JSON for programs, and as an exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::json;
use seshat::client::{Applied, Error};
use seshat::config::ConfigError;

use super::tell;

/// A command ended without doing what it was told.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// The kind of failure, in one word for programs.
    kind: &'static str,
    message: String,
    /// What became of the request, in one word for programs, where one was made.
    applied: Option<&'static str>,
    /// The answer in JSON that could not be written.
    answer: Option<Box<serde_json::Value>>,
    /// The faults of a configuration, one by one.
    faults: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Whoever read our output wants no more of it.
    Quiet,
    NodeFailed,
    Usage,
    Unserved,
    Removed,
    Unwritten,
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

    /// The command line is faulty.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Something on this machine went wrong before the cluster was asked.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "local", message)
    }

    /// Time was up before the cluster was asked.
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
                "nobody took it in time".to_owned(),
            ),
            _ => (Exit::Unserved, "local", error.to_string()),
        };
        Self::new(
            exit,
            kind,
            format!("the answer could not be written: {why}"),
        )
    }

    /// The same of a command that has changed something: what it has `done`, and the `answer` that
    /// programs read, reach the user here.
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

    /// A node could not start, or did not run to its proper end.
    pub(crate) fn node(message: impl Into<String>) -> Self {
        Self::new(Exit::NodeFailed, "node", message)
    }

    /// The cluster was waited for, and is not healed.
    pub(crate) fn not_healed(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "not_healed", message)
    }

    /// The cluster gave answers that no correct cluster gives.
    pub(crate) fn wrong_answers(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "wrong_answers", message)
    }

    /// The cluster served nothing that could be measured.
    pub(crate) fn unmeasured(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, kind, message)
    }

    /// The cluster is not as it has to be for the request, which was not made.
    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self {
            applied: Some(word(Applied::No)),
            ..Self::new(Exit::Unserved, "failed_precondition", message)
        }
    }

    /// The same, with what to do.
    pub(crate) fn advising(self, what: &str) -> Self {
        Self {
            message: format!("{} ({what})", self.message),
            ..self
        }
    }

    /// What the command was for is done, and what came afterwards failed.
    pub(crate) fn although(self, done: impl fmt::Display) -> Self {
        Self {
            message: format!("{done}, but {}", self.message),
            applied: None,
            ..self
        }
    }

    /// A node ended because an operator has removed it from its cluster.
    pub(crate) fn removed(message: impl Into<String>) -> Self {
        Self::new(Exit::Removed, "removed", message)
    }

    /// Whether it is [`removed`](Self::removed).
    pub(crate) fn is_removal(&self) -> bool {
        self.exit == Exit::Removed
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let code = match self.exit {
            Exit::Quiet => return ExitCode::SUCCESS,
            Exit::NodeFailed => 1,
            Exit::Usage => 2,
            Exit::Unserved => 3,
            Exit::Removed => 4,
            Exit::Unwritten => 5,
        };
        if json {
            tell(self.to_json());
        } else {
            tell(format_args!("error: {}", self.message));
        }
        ExitCode::from(code)
    }

    /// What went wrong, for people.
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

/// The cluster did not do it.
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

/// Text of another machine, without anything that would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}
