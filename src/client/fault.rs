//! How one call to one node failed: what is read out of a status.
//!
//! The typed detail of a refusal says what became of a write. Where there is none, only what surely
//! happened before anything was sent counts as not applied: a connection that was not made, and the
//! status codes which mean that the request was not even begun.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use prost::Message as _;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::error::Refusal;
use crate::error::Applied;
use crate::proto::kv::error_detail::Reason;
use crate::proto::kv::{Applied as ProtoApplied, ErrorDetail, OtherCluster, PipelineError};

/// The type of the detail that every refusal carries.
const DETAIL: &str = "seshat.kv.v1.ErrorDetail";

/// Whether it makes sense to ask once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// Later, perhaps: the cluster may recover.
    Later,
    /// Not at this endpoint.
    Elsewhere,
    /// Nowhere: the request itself is at fault.
    Nowhere,
}

/// How one call to one node failed.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) applied: Applied,
    pub(super) hope: Hope,
    /// The status code, where a node gave one.
    pub(super) code: Option<Code>,
    pub(super) reason: Option<Reason>,
    /// Whether nothing came back in time.
    pub(super) silent: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Fault {
    /// No connection was made, so nothing was sent.
    fn unreachable(error: &(dyn StdError + 'static)) -> Self {
        Self {
            message: root_cause(error),
            applied: Applied::No,
            hope: Hope::Later,
            code: None,
            reason: None,
            silent: false,
        }
    }

    /// Nothing came back in time.
    pub(super) fn silence() -> Self {
        Self {
            message: "no answer in time".to_owned(),
            applied: Applied::Unknown,
            hope: Hope::Later,
            code: None,
            reason: None,
            silent: true,
        }
    }

    /// The connection ended with a request on it.
    pub(super) fn broken(why: &str) -> Self {
        Self {
            message: format!("the connection broke: {why}"),
            silent: false,
            ..Self::silence()
        }
    }

    /// Whether the node itself answered, so that the connection to it is good.
    pub(super) fn answered(&self) -> bool {
        self.code.is_some()
    }

    /// Where the leader is, if the node says so.
    pub(super) fn leader_addr(&self) -> Option<&str> {
        match &self.reason {
            Some(Reason::NotLeader(not_leader)) => not_leader.leader_addr.as_deref(),
            _ => None,
        }
    }

    /// The cluster that answers in place of the one that was asked, and was recovered from it.
    pub(super) fn successor(&self) -> Option<u64> {
        match self.reason {
            Some(Reason::OtherCluster(OtherCluster {
                cluster_id,
                successor: true,
            })) => Some(cluster_id),
            _ => None,
        }
    }

    /// The cluster that answers in place of the one that was asked, and has nothing to do with it.
    pub(super) fn stranger(&self) -> Option<u64> {
        match self.reason {
            Some(Reason::OtherCluster(OtherCluster {
                cluster_id,
                successor: false,
            })) => Some(cluster_id),
            _ => None,
        }
    }

    /// Whether another cluster answers, in whichever way it came about.
    pub(super) fn is_other_cluster(&self) -> bool {
        matches!(self.reason, Some(Reason::OtherCluster(_)))
    }

    /// Whether another node has to be asked next time.
    pub(super) fn ends_leadership(&self) -> bool {
        match &self.reason {
            // The leader is there, and says to come back later.
            Some(Reason::Overloaded(_)) => false,
            _ => self.hope != Hope::Nowhere,
        }
    }

    /// Whether a node refused what another one may serve, so that it is of use to reach another one
    /// at the same address.
    pub(super) fn sends_elsewhere(&self) -> bool {
        self.answered() && self.hope == Hope::Later && self.ends_leadership()
    }

    /// The same of a read, which changes nothing.
    pub(super) fn of_read(self) -> Self {
        Self {
            applied: Applied::No,
            ..self
        }
    }

    /// What the caller is told of a fault that `endpoint` answered with.
    pub(super) fn refusal(self, endpoint: &str) -> Refusal {
        Refusal {
            endpoint: endpoint.to_owned(),
            code: self.code.unwrap_or(Code::Unavailable),
            reason: self.reason,
            applied: self.applied,
            message: self.message,
        }
    }

    fn typed(code: Code, message: String, detail: ErrorDetail) -> Self {
        let ErrorDetail { reason, .. } = &detail;
        let hope = match reason {
            Some(
                Reason::NotLeader(_)
                | Reason::NoQuorum(_)
                | Reason::Overloaded(_)
                | Reason::Forming(_)
                | Reason::OtherCluster(_)
                | Reason::ShuttingDown(_),
            ) => Hope::Later,
            Some(
                Reason::Full(_)
                | Reason::TooLarge(_)
                | Reason::InvalidRequest(_)
                | Reason::FailedPrecondition(_)
                | Reason::SessionExpired(_),
            ) => Hope::Nowhere,
            // A reason from a newer version: its status code has to do.
            None => match code {
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::DeadlineExceeded => Hope::Later,
                _ => Hope::Nowhere,
            },
        };
        Self {
            message,
            applied: match detail.applied() {
                ProtoApplied::No => Applied::No,
                ProtoApplied::Unknown | ProtoApplied::Unspecified => Applied::Unknown,
            },
            hope,
            code: Some(code),
            reason: detail.reason,
            silent: false,
        }
    }

    /// A status without a detail, which some node or something on the way to it has given.
    fn untyped(code: Code, message: String) -> Self {
        let (applied, hope) = match code {
            // By their meaning these say that the request was not even begun.
            Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => {
                (Applied::No, Hope::Elsewhere)
            }
            Code::InvalidArgument | Code::OutOfRange => (Applied::No, Hope::Nowhere),
            _ => (Applied::Unknown, Hope::Later),
        };
        Self {
            message,
            applied,
            hope,
            code: Some(code),
            reason: None,
            silent: false,
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        if let Some(detail) = detail(&status) {
            return Self::typed(
                status.code(),
                words(status.code(), status.message()),
                detail,
            );
        }
        let Some(error) = status.source() else {
            return Self::untyped(status.code(), words(status.code(), status.message()));
        };
        // The status was made here, of what the transport said.
        if find::<ConnectError>(error).is_some() {
            Self::unreachable(error)
        } else if find::<TimeoutExpired>(error).is_some() {
            Self::silence()
        } else {
            Self::broken(&root_cause(error))
        }
    }
}

impl From<PipelineError> for Fault {
    fn from(error: PipelineError) -> Self {
        let PipelineError {
            code,
            message,
            detail,
        } = error;
        let code = Code::from(i32::try_from(code).unwrap_or_default());
        let message = words(code, &message);
        match detail {
            Some(detail) => Self::typed(code, message, detail),
            None => Self::untyped(code, message),
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
        .find(|any| any.type_url.rsplit('/').next() == Some(DETAIL))?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// What a status says, on one line.
fn words(code: Code, message: &str) -> String {
    match message {
        "" => code.description().to_owned(),
        message => printable(message),
    }
}

/// Text of another machine, without anything that would steer a terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error at the bottom: those above it only say that there is one.
fn root_cause(error: &(dyn StdError + 'static)) -> String {
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
