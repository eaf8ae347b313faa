//! What went wrong: as a line for people, as JSON for programs, and as an exit code.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use prost::Message as _;
use serde_json::json;
use seshat::config::ConfigError;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{Applied as WireApplied, ErrorDetail};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// A command ended without doing what it was told.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// The kind of failure, in one word for programs.
    kind: &'static str,
    message: String,
    /// What became of the request, where one was made.
    applied: Option<Applied>,
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
}

impl Failure {
    fn new(exit: Exit, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind,
            message: message.into(),
            applied: None,
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

    /// The answer could not be written.
    pub(crate) fn stdout(error: io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::Quiet,
            _ => Exit::Unserved,
        };
        Self::new(exit, "local", format!("cannot write the answer: {error}"))
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

    /// No such node is found.
    pub(crate) fn no_node(message: impl Into<String>) -> Self {
        Self::new(Exit::Unserved, "unreachable", message)
    }

    /// The cluster is not as it has to be for the request, which was not made.
    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::unserved("failed_precondition", message.into(), Applied::No)
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

    /// The cluster did not do it. `applied` says what became of the request.
    pub(crate) fn unserved(kind: &'static str, message: String, applied: Applied) -> Self {
        Self {
            applied: Some(applied),
            ..Self::new(Exit::Unserved, kind, message)
        }
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let code = match self.exit {
            Exit::Quiet => return ExitCode::SUCCESS,
            Exit::NodeFailed => 1,
            Exit::Usage => 2,
            Exit::Unserved => 3,
            Exit::Removed => 4,
        };
        if json {
            eprintln!("{}", self.to_json());
        } else {
            eprintln!("error: {}", self.message);
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
            error.insert("applied".to_owned(), applied.as_str().into());
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

/// What became of a request that was not answered as it should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Surely nothing, now or later.
    No,
    /// It may have been carried out, or may yet be.
    Unknown,
}

impl Applied {
    fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether it makes sense to ask once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hope {
    /// Later, perhaps: the cluster may recover.
    Later,
    /// Not at this endpoint.
    Elsewhere,
    /// Nowhere: the request itself is at fault.
    Nowhere,
}

/// How one call to one node failed.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) applied: Applied,
    pub(crate) hope: Hope,
    /// Where the leader is reached, if the node says so.
    pub(crate) leader_addr: Option<String>,
    /// Whether the node itself answered, so that the connection to it is good.
    pub(crate) answered: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Refusal {
    /// No connection was made, so nothing was sent.
    pub(crate) fn unreachable(error: &(dyn Error + 'static)) -> Self {
        Self {
            kind: "unreachable",
            message: root_cause(error),
            applied: Applied::No,
            hope: Hope::Later,
            leader_addr: None,
            answered: false,
        }
    }

    /// Nothing came back in time.
    pub(crate) fn timeout(sent: bool) -> Self {
        Self {
            kind: if sent { "timeout" } else { "unreachable" },
            message: if sent {
                "no answer in time"
            } else {
                "no connection in time"
            }
            .to_owned(),
            applied: if sent { Applied::Unknown } else { Applied::No },
            hope: Hope::Later,
            leader_addr: None,
            answered: false,
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        if let Some(detail) = detail(&status) {
            return Self::typed(&status, detail);
        }
        if let Some(error) = status.source() {
            // The status was made here, of what the transport said.
            if find::<ConnectError>(error).is_some() {
                return Self::unreachable(error);
            }
            if find::<TimeoutExpired>(error).is_some() {
                return Self::timeout(true);
            }
        }
        let (applied, hope) = match status.code() {
            // By their meaning these say that the request was not even begun.
            Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => {
                (Applied::No, Hope::Elsewhere)
            }
            Code::InvalidArgument | Code::OutOfRange => (Applied::No, Hope::Nowhere),
            _ => (Applied::Unknown, Hope::Later),
        };
        Self {
            kind: if status.source().is_some() {
                "unreachable"
            } else {
                "refused"
            },
            message: match status.source() {
                Some(error) => format!("the connection broke: {}", root_cause(error)),
                None => words(&status),
            },
            applied,
            hope,
            leader_addr: None,
            answered: status.source().is_none(),
        }
    }
}

impl Refusal {
    fn typed(status: &Status, detail: ErrorDetail) -> Self {
        let applied = match detail.applied() {
            WireApplied::No => Applied::No,
            WireApplied::Unknown | WireApplied::Unspecified => Applied::Unknown,
        };
        let mut leader_addr = None;
        let (kind, hope) = match detail.reason {
            Some(Reason::NotLeader(not_leader)) => {
                leader_addr = not_leader.leader_addr;
                ("not_leader", Hope::Later)
            }
            Some(Reason::NoQuorum(_)) => ("no_quorum", Hope::Later),
            Some(Reason::Overloaded(_)) => ("overloaded", Hope::Later),
            Some(Reason::TooLarge(_)) => ("too_large", Hope::Nowhere),
            Some(Reason::Forming(_)) => ("forming", Hope::Later),
            Some(Reason::InvalidRequest(_)) => ("invalid_request", Hope::Nowhere),
            Some(Reason::FailedPrecondition(_)) => ("failed_precondition", Hope::Nowhere),
            Some(Reason::SessionExpired(_)) => ("session_expired", Hope::Nowhere),
            Some(Reason::ShuttingDown(_)) => ("shutting_down", Hope::Later),
            // A reason from a newer version: its status code has to do.
            None => match status.code() {
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::DeadlineExceeded => ("refused", Hope::Later),
                _ => ("refused", Hope::Nowhere),
            },
        };
        Self {
            kind,
            message: words(status),
            applied,
            hope,
            leader_addr,
            answered: true,
        }
    }
}

/// The typed detail of a refusal, if it carries one.
fn detail(status: &Status) -> Option<ErrorDetail> {
    let details = tonic_types::pb::Status::decode(status.details())
        .ok()?
        .details;
    let any = details
        .iter()
        .find(|any| any.type_url.rsplit('/').next() == Some("seshat.kv.v1.ErrorDetail"))?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// What a status says, on one line.
fn words(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => printable(message),
    }
}

/// Text of another machine, without anything that would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error at the bottom: those above it only say that there is one.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    match find::<io::Error>(error) {
        // "connection refused" instead of "Connection refused (os error 111)".
        Some(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::TimedOut
            ) =>
        {
            error.kind().to_string()
        }
        _ => chain(error)
            .last()
            .map(|error| printable(&error.to_string()))
            .unwrap_or_default(),
    }
}
