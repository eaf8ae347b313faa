//! The error of a call without an answer, and what a caller may conclude from it.

use std::fmt;

use tonic::Code;

use super::Lost;
pub use crate::error::Applied;
pub use crate::proto::kv::error_detail::Reason;

/// Why a call was not answered.
///
/// First ask [`applied`](Self::applied): whether the write may have taken effect. The variants say what
/// ended the call.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node refused the request, and a retry is useless or not safe.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No node could be reached in time, or the connection broke while the request was in flight.
    #[error("{}{message}", doubt(*applied))]
    Unreachable {
        /// Why each node was unreachable, for people.
        message: String,
        /// Whether the write may have been applied.
        applied: Applied,
    },
    /// The deadline has passed. Nodes answered, but none served the request, or none answered in time.
    #[error("{}{message}", doubt(*applied))]
    Deadline {
        /// The last answer of each node, for people.
        message: String,
        /// Whether the write may have been applied.
        applied: Applied,
        /// The last refusal, if a node refused.
        last: Option<Box<Refusal>>,
    },
    /// Every endpoint answered that it will never serve such a request: the endpoints are not nodes, or
    /// belong to another cluster than the client.
    #[error("{message}")]
    Unserved {
        /// The answer of each endpoint, for people.
        message: String,
        /// One of the refusals.
        last: Option<Box<Refusal>>,
    },
    /// A scan was cut off after its first entries, because the connection or the node was lost, or the entries
    /// were not taken within 60 s. What is left cannot be read at the same moment any more: begin the scan
    /// again, or let it [resume](super::Entries::resuming).
    #[error("{message}")]
    Interrupted {
        /// What cut it off, for people.
        message: String,
        /// The refusal that cut it off, if a node refused.
        last: Option<Box<Refusal>>,
    },
    /// The living session is lost: nothing was sent, or a lock that was waited for will not be held.
    #[error("the session is lost: {why}")]
    SessionLost {
        /// Why it is lost.
        why: Lost,
    },
    /// The call was invalid, and nothing was sent: a malformed address, or too large a batch.
    #[error("{message}")]
    Invalid {
        /// The fault, for people.
        message: String,
    },
}

impl Error {
    /// Whether the write may have been applied, or may be applied later. Always [`Applied::No`] for a
    /// read.
    pub fn applied(&self) -> Applied {
        match self {
            Self::Refused(refusal) => refusal.applied,
            Self::Unreachable { applied, .. } | Self::Deadline { applied, .. } => *applied,
            Self::Unserved { .. }
            | Self::Interrupted { .. }
            | Self::SessionLost { .. }
            | Self::Invalid { .. } => Applied::No,
        }
    }

    /// The typed reason, if a node gave one that this version knows.
    pub fn reason(&self) -> Option<&Reason> {
        self.refusal()?.reason.as_ref()
    }

    /// The refusal that ended the call, or the last one before the deadline.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Deadline { last, .. }
            | Self::Unserved { last, .. }
            | Self::Interrupted { last, .. } => last.as_deref(),
            Self::Unreachable { .. } | Self::SessionLost { .. } | Self::Invalid { .. } => None,
        }
    }

    /// The kind of the error in one word, for log lines and programs: the name of the reason, if there is
    /// one, otherwise `refused`, `timeout`, `unreachable` or `invalid`. `interrupted` for a scan that was cut off,
    /// `session_lost` for a call in a living session that is lost.
    pub fn kind(&self) -> &'static str {
        match (self, self.refusal()) {
            (Self::Interrupted { .. }, _) => "interrupted",
            (_, Some(refusal)) => refusal.kind(),
            (Self::Unreachable { .. }, None) => "unreachable",
            (Self::SessionLost { .. }, None) => "session_lost",
            (Self::Invalid { .. }, None) => "invalid",
            (Self::Deadline { .. }, None) => "timeout",
            (Self::Refused(_) | Self::Unserved { .. }, None) => "refused",
        }
    }

    /// Whether this ends a session: the cluster has dropped it, an operator has recovered another cluster
    /// from its own, or it is a living one that is [lost](Self::SessionLost). Open a new session then. Also
    /// true of a write whose [owner](super::Lifetime::Owner) does not live.
    pub fn is_session_expired(&self) -> bool {
        let expired = matches!(self.reason(), Some(Reason::SessionExpired(_)));
        expired || matches!(self, Self::SessionLost { .. }) || self.is_successor()
    }

    /// Whether a cluster answers that was recovered from the one of this client or session.
    pub(super) fn is_successor(&self) -> bool {
        matches!(self.reason(), Some(Reason::OtherCluster(other)) if other.successor)
    }

    /// Whether another cluster answers than the one that this client or session belongs to. A client does
    /// not accept the other cluster, unless it was recovered from its own. After a loss of all data, when
    /// the cluster has formed anew, make a new client.
    pub fn is_other_cluster(&self) -> bool {
        matches!(self.reason(), Some(Reason::OtherCluster(_)))
    }

    /// Whether no node served the call in time, so that the same call may succeed later.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Deadline { .. })
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
        }
    }

    /// The same error, for a write of which an earlier attempt may have been applied.
    pub(super) fn in_doubt(mut self) -> Self {
        match &mut self {
            Self::Refused(refusal) => refusal.applied = Applied::Unknown,
            Self::Unreachable { applied, .. } | Self::Deadline { applied, .. } => {
                *applied = Applied::Unknown;
            }
            // An earlier attempt was served.
            Self::Unserved { message, last } => {
                return Self::Deadline {
                    message: std::mem::take(message),
                    applied: Applied::Unknown,
                    last: last.take(),
                };
            }
            Self::Interrupted { .. } | Self::SessionLost { .. } | Self::Invalid { .. } => {}
        }
        self
    }
}

/// The answer of a node that refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refusal {
    /// The node, as `host:port`.
    pub endpoint: String,
    /// The gRPC status code.
    pub code: Code,
    /// The typed reason. `None` if it is from a later version, or from something that is not a node.
    pub reason: Option<Reason>,
    /// Whether the write may have been applied.
    pub applied: Applied,
    /// The message for people, on one line.
    pub message: String,
}

impl Refusal {
    fn kind(&self) -> &'static str {
        match self.reason {
            Some(Reason::NotLeader(_)) => "not_leader",
            Some(Reason::NoQuorum(_)) => "no_quorum",
            Some(Reason::Overloaded(_)) => "overloaded",
            Some(Reason::Full(_)) => "full",
            Some(Reason::TooLarge(_)) => "too_large",
            Some(Reason::Forming(_)) => "forming",
            Some(Reason::InvalidRequest(_)) => "invalid_request",
            Some(Reason::FailedPrecondition(_)) => "failed_precondition",
            Some(Reason::SessionExpired(_)) => "session_expired",
            Some(Reason::ShuttingDown(_)) => "shutting_down",
            Some(Reason::OtherCluster(_)) => "other_cluster",
            None => "refused",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            message,
            applied,
            ..
        } = self;
        write!(f, "{}{endpoint}: {message}", doubt(*applied))
    }
}

fn doubt(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "",
        Applied::Unknown => "outcome unknown: ",
    }
}
