//! The failure of one call to one node, derived from its gRPC status.
//!
//! The typed detail of a refusal says whether a write was applied. Without a detail, a write counts as
//! not applied only if it surely failed before anything was sent: no connection was made, or the status
//! code means that the request was not begun.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use bytes::Bytes;
use prost::{Message as _, Name as _};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::error::Refusal;
use crate::error::Applied;
use crate::proto::kv::error_detail::Reason;
use crate::proto::kv::{Applied as ProtoApplied, ErrorDetail, OtherCluster, PipelineError};

/// Whether a retry can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retryability {
    /// Possibly later: the cluster may recover.
    Later,
    /// Not at this endpoint, but possibly at another one.
    Elsewhere,
    /// Nowhere: the request itself is at fault.
    Nowhere,
}

/// How one call to one node failed.
#[derive(Debug, Clone)]
pub(super) struct CallError {
    pub(super) message: String,
    pub(super) applied: Applied,
    pub(super) retryability: Retryability,
    /// The status code, if a node gave one.
    pub(super) code: Option<Code>,
    pub(super) reason: Option<Reason>,
    /// Whether there was no answer in time.
    pub(super) silent: bool,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl CallError {
    /// No connection was made, so nothing was sent.
    fn unreachable(error: &(dyn StdError + 'static)) -> Self {
        Self {
            message: root_cause(error),
            applied: Applied::No,
            retryability: Retryability::Later,
            code: None,
            reason: None,
            silent: false,
        }
    }

    /// There was no answer in time.
    pub(super) fn silence() -> Self {
        Self {
            message: "no answer in time".to_owned(),
            applied: Applied::Unknown,
            retryability: Retryability::Later,
            code: None,
            reason: None,
            silent: true,
        }
    }

    /// The connection ended while a request was in flight.
    pub(super) fn broken(why: &str) -> Self {
        Self {
            message: format!("the connection broke: {why}"),
            silent: false,
            ..Self::silence()
        }
    }

    /// The end of a stream by `status`. What was sent on it counts as not applied only if a typed detail says so: the
    /// stream had begun, so that no code proves it.
    pub(super) fn of_stream(status: Status) -> Self {
        let is_typed = detail(&status).is_some();
        let fault = Self::from(status);
        match is_typed {
            true => fault,
            false => Self {
                applied: Applied::Unknown,
                ..fault
            },
        }
    }

    /// Whether the node itself answered: then the connection to it works.
    pub(super) fn answered(&self) -> bool {
        self.code.is_some()
    }

    /// The address of the leader, if the node names it.
    pub(super) fn leader_addr(&self) -> Option<&str> {
        match &self.reason {
            Some(Reason::NotLeader(not_leader)) => not_leader.leader_addr.as_deref(),
            _ => None,
        }
    }

    /// The cluster that answers, if it was recovered from the one that the request names.
    pub(super) fn successor(&self) -> Option<u64> {
        match self.reason {
            Some(Reason::OtherCluster(OtherCluster {
                cluster_id,
                successor: true,
            })) => Some(cluster_id),
            _ => None,
        }
    }

    /// The cluster that answers, if it is unrelated to the one that the request names.
    pub(super) fn unrelated_cluster(&self) -> Option<u64> {
        match self.reason {
            Some(Reason::OtherCluster(OtherCluster {
                cluster_id,
                successor: false,
            })) => Some(cluster_id),
            _ => None,
        }
    }

    /// Whether another cluster answers, related or not.
    pub(super) fn is_other_cluster(&self) -> bool {
        matches!(self.reason, Some(Reason::OtherCluster(_)))
    }

    /// Whether the next attempt has to go to another node.
    pub(super) fn ends_leadership(&self) -> bool {
        match &self.reason {
            // The leader is there, and asks to retry later.
            Some(Reason::Overloaded(_)) => false,
            _ => self.retryability != Retryability::Nowhere,
        }
    }

    /// Whether a node refused a request that another one may serve: then it helps to reach another node
    /// at the same address.
    pub(super) fn sends_elsewhere(&self) -> bool {
        self.answered() && self.retryability == Retryability::Later && self.ends_leadership()
    }

    /// The same fault for a read, which changes nothing.
    pub(super) fn of_read(self) -> Self {
        Self {
            applied: Applied::No,
            ..self
        }
    }

    /// The refusal that the caller gets, for a fault that `endpoint` answered with.
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
        let retryability = match reason {
            Some(
                Reason::NotLeader(_)
                | Reason::NoQuorum(_)
                | Reason::Overloaded(_)
                | Reason::Forming(_)
                | Reason::OtherCluster(_)
                | Reason::ShuttingDown(_),
            ) => Retryability::Later,
            Some(
                Reason::Full(_)
                | Reason::TooLarge(_)
                | Reason::InvalidRequest(_)
                | Reason::FailedPrecondition(_)
                | Reason::SessionExpired(_),
            ) => Retryability::Nowhere,
            // A reason of a newer version: its status code decides.
            None => match code {
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::DeadlineExceeded => Retryability::Later,
                _ => Retryability::Nowhere,
            },
        };
        Self {
            message,
            applied: match detail.applied() {
                ProtoApplied::No => Applied::No,
                ProtoApplied::Unknown | ProtoApplied::Unspecified => Applied::Unknown,
            },
            retryability,
            code: Some(code),
            reason: detail.reason,
            silent: false,
        }
    }

    /// A fault from a status without a detail, which a node or a proxy has sent.
    fn untyped(code: Code, message: String) -> Self {
        let (applied, retryability) = match code {
            // The meaning of these codes is that the request was not begun.
            Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => {
                (Applied::No, Retryability::Elsewhere)
            }
            Code::InvalidArgument | Code::OutOfRange => (Applied::No, Retryability::Nowhere),
            _ => (Applied::Unknown, Retryability::Later),
        };
        Self {
            message,
            applied,
            retryability,
            code: Some(code),
            reason: None,
            silent: false,
        }
    }
}

impl From<Status> for CallError {
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
        // The status was made locally, from an error of the transport.
        if find::<ConnectError>(error).is_some() {
            Self::unreachable(error)
        } else if find::<TimeoutExpired>(error).is_some() {
            Self::silence()
        } else {
            Self::broken(&root_cause(error))
        }
    }
}

impl From<PipelineError> for CallError {
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

/// The typed detail of a refusal, if it has one.
fn detail(status: &Status) -> Option<ErrorDetail> {
    let details = tonic_types::pb::Status::decode(status.details())
        .ok()?
        .details;
    let any = details
        .iter()
        .find(|any| any.type_url.rsplit('/').next() == Some(&ErrorDetail::full_name()))?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// The message of a status, on one line.
fn words(code: Code, message: &str) -> String {
    match message {
        "" => code.description().to_owned(),
        message => printable(message),
    }
}

/// Text from another machine, without control characters that would steer a terminal.
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

/// The innermost error: the errors above it only wrap it.
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
/// The status of a call that later versions have: a node that does not know it answers with `older`.
pub(super) fn or_older(status: Status, older: &str) -> Status {
    match status.code() {
        Code::Unimplemented => {
            let details = Bytes::copy_from_slice(status.details());
            Status::with_details(status.code(), older, details)
        }
        _ => status,
    }
}
