//! The kinds of errors.
//!
//! There are three kinds, and they never mix. An *outcome* is a value: a missing key is `None`, not an
//! error. A *refusal* goes to the caller: [`Refusal`] says why, and whether the write was surely not
//! applied or its outcome is unknown. A *broken invariant* stops the node with a message. Beside these
//! three, each module at the edge of the system has errors for invalid input. An error is defined in the
//! module where it arises. Errors that several modules use are defined here.
//! `tests/layers` checks the table against the code:
//!
//! | kind | where | what it is | consequence |
//! |---|---|---|---|
//! | [`Refusal`], [`Reason`] | here | the node does not do what the caller asked | the caller gets it as a gRPC status |
//! | [`NotMe`] | here | a message for another process or cluster | the sender gets the raft id and the cluster of the receiver |
//! | [`RpcError`] | here | a call to another node failed | the caller asks again later |
//! | [`NodeError`](crate::node::NodeError) | `node` | a broken invariant | the node stops |
//! | [`RaftError`](crate::node::RaftError) | `node` | raft-rs refused an operation that it must accept | a `NodeError` |
//! | [`StorageError`](crate::node::StorageError) | `node` | a change of the log that its rules forbid | a `NodeError` |
//! | [`StepError`](crate::node::StepError) | `node` | an unacceptable message of a peer | it is dropped, and logged |
//! | [`WireError`](crate::wire::WireError) | `wire` | bytes that are no valid message | the stream or call ends |
//! | [`InvalidNodeId`](crate::types::InvalidNodeId), [`InvalidRaftId`](crate::types::InvalidRaftId) | `types` | a number that is no id | a `WireError`, or a fault of the configuration |
//! | [`ConfigError`](crate::config::ConfigError) | `config` | a faulty configuration, with every fault | the process does not start |
//! | [`LogError`](crate::telemetry::LogError) | `telemetry` | the log lines cannot be written as configured | the process does not start |
//! | [`InvalidAddress`](crate::transport::InvalidAddress) | `transport` | a malformed address | the process does not start, or the peer is not called |
//! | [`ServerError`](crate::server::ServerError) | `server` | a node that does not start, or that ended | the process ends |
//! | `NoPreface` | `server` | a connection that does not begin with the HTTP/2 preface | it gets a hint, and is closed |
//! | [`Stopped`](crate::driver::Stopped) | `driver` | the driver has ended | the caller gives up |
//! | `Obstacle` | `cluster` | the reason why a cluster may not be recovered now | the operator gets it |
//! | [`Error`](crate::client::Error) | `client` | a call of the Rust client failed | the application decides |
//! | `CallError` | `client` | one call to one node failed | the client retries, or an `Error` |
//! | `BenchError` | `bench` | a run of the bench tool has no figures | a `Failure` |
//! | `Failure` | `cli` | a command failed | the user gets a message and an exit code |

mod rpc;

use crate::types::{ClientId, ClusterId, NodeId};

// Only nodes among themselves use these.
#[cfg(not(feature = "internals"))]
pub(crate) use rpc::{NotMe, RpcError};
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use rpc::{NotMe, RpcError};

/// The part of a request that is too large when a session would own too many keys. Its limit is a number of
/// keys.
pub const OWNED_KEYS: &str = "owned keys";

/// The reason of a refusal, and the outcome of the refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({applied})")]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Whether the refused write may have been applied.
    pub applied: Applied,
}

impl Refusal {
    /// A refusal of a request that was surely not applied: a retry is safe.
    pub const fn not_applied(reason: Reason) -> Self {
        Self {
            reason,
            applied: Applied::No,
        }
    }

    /// A request whose `field` breaks a rule; surely not applied.
    pub fn invalid(field: &'static str, rule: impl Into<String>) -> Self {
        let rule = rule.into();
        Self::not_applied(Reason::InvalidRequest { field, rule })
    }

    /// A request that the cluster does not allow as it is now; surely not applied.
    pub fn precondition(rule: impl Into<String>) -> Self {
        let rule = rule.into();
        Self::not_applied(Reason::FailedPrecondition { rule })
    }

    /// A refusal of a write that may have been applied, or may still be applied later.
    pub const fn unknown(reason: Reason) -> Self {
        Self {
            reason,
            applied: Applied::Unknown,
        }
    }
}

/// The outcome of a refused write. A refused read is always [`Applied::No`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Surely not applied, now or later.
    No,
    /// It may have been applied, or may still be applied later.
    Unknown,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "not applied",
            Self::Unknown => "outcome unknown",
        })
    }
}

/// Why a node refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Only the leader serves requests, and this node does not lead.
    #[error("{}", match leader_id {
        Some(id) => format!("this node does not lead: node {id} does"),
        None => "this node does not lead".to_owned(),
    })]
    NotLeader {
        /// The leader, if this node knows it.
        leader_id: Option<NodeId>,
    },
    /// There is no leader, or it reaches no majority.
    #[error(
        "no leader with a majority right now: it is being elected or replaced, or half of the nodes cannot be reached"
    )]
    NoQuorum,
    /// This node knows no leader, and none of the other members answers it.
    #[error(
        "this node knows no leader and reaches none of the other members: if it alone is cut off, another node serves"
    )]
    CutOff,
    /// A queue of the node is full.
    #[error("overloaded: {what} is full ({limit})")]
    Overloaded {
        /// The exhausted bound, by name.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The cluster holds as much as it may, and the write needs more memory. Deletes make room.
    #[error(
        "full: it would take more memory than {what} of node {node_id} ({limit}); deleting keys makes room"
    )]
    Full {
        /// The exhausted bound, by name.
        what: &'static str,
        /// The bound in bytes.
        limit: u64,
        /// The member whose bound it is: no member has a smaller one.
        node_id: NodeId,
    },
    /// A part of the request is too large.
    #[error("{what} {}{}", match *what {
        OWNED_KEYS => format!("too many: at most {limit} of a session"),
        _ => format!("too large: at most {limit} bytes"),
    }, match node_id {
        Some(id) => format!(", which is the limit of node {id}"),
        None => String::new(),
    })]
    TooLarge {
        /// The part that is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
        /// The member whose limit this is, if it is not the refusing node's.
        node_id: Option<NodeId>,
    },
    /// The node takes no part in a running cluster.
    #[error("not part of a running cluster: {waiting_for}")]
    Forming {
        /// What the node waits for.
        waiting_for: String,
    },
    /// The request breaks a rule of the protocol.
    #[error("{field}: {rule}")]
    InvalidRequest {
        /// The field at fault.
        field: &'static str,
        /// The rule that the field breaks.
        rule: String,
    },
    /// The state of the cluster does not allow this now.
    #[error("not now: {rule}")]
    FailedPrecondition {
        /// The condition that does not hold.
        rule: String,
    },
    /// The session of a write does not exist, or the number of the write was forgotten.
    #[error(
        "session {client_id} has expired: whether an earlier attempt at this write was applied is not known"
    )]
    SessionExpired {
        /// The session.
        client_id: ClientId,
    },
    /// The session does not live: of a renewal, or of a key that it would own.
    #[error(
        "session {client_id} does not live: its TTL has passed, it was closed, or it was never opened"
    )]
    SessionNotLiving {
        /// The session.
        client_id: ClientId,
    },
    /// The request names another cluster than the one that this node takes part in.
    #[error("{}", match successor {
        true => format!("this node takes part in cluster {cluster_id}, which was recovered from \
                         the one that is asked: writes that were acknowledged there may be lost"),
        false => format!("this node takes part in cluster {cluster_id}, not in the one that is asked"),
    })]
    OtherCluster {
        /// The cluster that this node takes part in.
        cluster_id: ClusterId,
        /// Whether that cluster was recovered from the one that the request names.
        successor: bool,
    },
    /// The node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}
