//! What can go wrong, by kind.
//!
//! Three kinds that never mix. An *outcome* is a value: a missing key is `None`, not an error. A
//! *refusal* goes to the caller: [`Refusal`] says why, and whether the write was surely not applied
//! or its outcome is unknown. A *broken invariant* stops the node with a message. Beside them stand
//! the errors of the edges, where something comes in from outside. Each is defined where it arises,
//! but for those that several modules speak of, which are here. `tests/layers.rs` holds this table against
//! the code:
//!
//! | kind | where | what it is | what comes of it |
//! |---|---|---|---|
//! | [`Refusal`], [`Reason`] | here | the node does not do what it was asked | the caller is told, as a status |
//! | [`NotMe`] | here | a message for another process or cluster | its sender is told who is here |
//! | [`RpcError`] | here | a call to another node failed | it is asked again later |
//! | [`NodeError`](crate::node::NodeError) | `node` | a broken invariant | the node stops |
//! | [`RaftError`](crate::node::RaftError) | `node` | raft-rs refused what it must not refuse | a `NodeError` |
//! | [`StorageError`](crate::node::StorageError) | `node` | a change of the log that its rules forbid | a `NodeError` |
//! | [`StepError`](crate::node::StepError) | `node` | a peer's message that is not taken | it is dropped, and logged |
//! | [`WireError`](crate::wire::WireError) | `wire` | bytes that are no message of ours | the stream or call ends |
//! | [`InvalidNodeId`](crate::types::InvalidNodeId), [`InvalidRaftId`](crate::types::InvalidRaftId) | `types` | a number that is no id | a `WireError`, or a fault of the configuration |
//! | [`ConfigError`](crate::config::ConfigError) | `config` | a faulty configuration, with every fault | the process does not start |
//! | [`LogError`](crate::log::LogError) | `log` | the log cannot be written as it is asked for | the process does not start |
//! | [`InvalidAddress`](crate::transport::InvalidAddress) | `transport` | an address that leads nowhere | the process does not start, or the peer is not called |
//! | [`ServerError`](crate::server::ServerError) | `server` | a node that does not start, or that ended | the process ends |
//! | `NoPreface` | `server` | a connection that does not begin as HTTP/2 does | it is told what this is, and closed |
//! | [`Stopped`](crate::driver::Stopped) | `driver` | the driver has ended | whoever asks it gives up |
//! | `Obstacle` | `cluster` | why a cluster may not be recovered now | the operator is told |
//! | [`Error`](crate::client::Error) | `client` | a call of the Rust client failed | its user decides |
//! | `Failure` | `cli` | a command did not do what it was asked | the user is told, and an exit status says which kind |

use crate::types::{Answering, ClientId, ClusterId, NodeId, RaftId};

/// Why a node did not do what it was asked, and what became of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({applied})")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whether the refused write may have been applied.
    pub applied: Applied,
}

impl Refusal {
    /// A refusal of something that was surely not applied: asking again is safe.
    pub const fn not_applied(reason: Reason) -> Self {
        Self {
            reason,
            applied: Applied::No,
        }
    }

    /// A refusal of a write that may have been applied, or may yet be.
    pub const fn unknown(reason: Reason) -> Self {
        Self {
            reason,
            applied: Applied::Unknown,
        }
    }
}

/// What became of a refused write. A refused read is always [`Applied::No`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Surely not applied, now or later.
    No,
    /// It may have been applied, or may yet be.
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
    /// Only the leader serves, and this node does not lead.
    #[error("{}", match leader_id {
        Some(id) => format!("this node does not lead: node {id} does"),
        None => "this node does not lead".to_owned(),
    })]
    NotLeader {
        /// Who leads.
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
        /// Which bound was met.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The node holds as much as it may, and the write would make it more. Deleting makes room.
    #[error("full: it would take more memory than {what} ({limit}); deleting keys makes room")]
    Full {
        /// Which bound was met.
        what: &'static str,
        /// The bound in bytes.
        limit: u64,
    },
    /// A part of the request is too large.
    #[error("{what} is too large: at most {limit} bytes{}", match node_id {
        Some(id) => format!(", which is the limit of node {id}"),
        None => String::new(),
    })]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
        /// The member whose limit that is, if not of the node that refuses.
        node_id: Option<NodeId>,
    },
    /// The node takes no part in a running cluster.
    #[error("not part of a running cluster: {waiting_for}")]
    Forming {
        /// What it waits for.
        waiting_for: String,
    },
    /// The request breaks a rule of the protocol.
    #[error("{field}: {rule}")]
    InvalidRequest {
        /// The field at fault.
        field: &'static str,
        /// What would be right.
        rule: String,
    },
    /// The cluster is not in a state in which this may be done.
    #[error("not now: {rule}")]
    FailedPrecondition {
        /// What would have to hold.
        rule: String,
    },
    /// The session of a write is not there, or its number was forgotten.
    #[error(
        "session {client_id} has expired: whether an earlier attempt at this write was applied is not known"
    )]
    SessionExpired {
        /// The session.
        client_id: ClientId,
    },
    /// The request is for another cluster than the one that this node is of.
    #[error("{}", match successor {
        true => format!("this node takes part in cluster {cluster_id}, which was recovered from \
                         the one that is asked: writes that were acknowledged there may be lost"),
        false => format!("this node takes part in cluster {cluster_id}, not in the one that is asked"),
    })]
    OtherCluster {
        /// The cluster that this node takes part in.
        cluster_id: ClusterId,
        /// Whether that was recovered from the one that the request names.
        successor: bool,
    },
    /// The node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// A message that reached a process or a cluster for which it was not meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not for me: I am {raft_id}{}", match cluster_id {
    Some(id) => format!(" of cluster {id}"),
    None => " and belong to no cluster".to_owned(),
})]
pub struct NotMe {
    /// The process that refuses.
    pub raft_id: RaftId,
    /// The cluster that it belongs to.
    pub cluster_id: Option<ClusterId>,
}

/// A call to another node that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection, or it broke.
    #[error("node {node} ({addr}) cannot be reached: {reason}")]
    Unreachable {
        /// The called node.
        node: NodeId,
        /// Its address.
        addr: String,
        /// What the transport says.
        reason: String,
    },
    /// No answer in time.
    #[error("node {node} ({addr}) did not answer {rpc} within {millis} ms")]
    Timeout {
        /// The called node.
        node: NodeId,
        /// Its address.
        addr: String,
        /// The name of the call.
        rpc: &'static str,
        /// How long the caller waited.
        millis: u64,
    },
    /// It has not answered earlier calls, and no more are made meanwhile.
    #[error("node {node} ({addr}) has not answered {calls} such calls yet")]
    Unanswered {
        /// The called node.
        node: NodeId,
        /// Its address.
        addr: String,
        /// How many are under way.
        calls: usize,
    },
    /// Another process than the one meant answers there, or it belongs to another cluster.
    #[error("node {node}: {not_me}")]
    NotMe {
        /// The called node.
        node: NodeId,
        /// Who answers.
        not_me: NotMe,
    },
    /// The node refused the call or answered nonsense.
    #[error("node {node} ({addr}) refused {rpc}: {reason}")]
    Refused {
        /// The called node.
        node: NodeId,
        /// Its address.
        addr: String,
        /// The name of the call.
        rpc: &'static str,
        /// What it said.
        reason: String,
    },
    /// Something else answers at the address of the node, or it hangs.
    #[error("node {node} ({addr}) {answering}")]
    Stranger {
        /// The called node.
        node: NodeId,
        /// Its address.
        addr: String,
        /// What answers.
        answering: Answering,
    },
}

impl RpcError {
    /// What answers in place of the node that was asked.
    pub fn answering(&self) -> Answering {
        match self {
            Self::Unreachable { .. } => Answering::Silent,
            // Where no connection is made, that is known before.
            Self::Timeout { .. } | Self::Unanswered { .. } => Answering::Hung,
            Self::NotMe { node, not_me } => match not_me.raft_id.node_id() {
                other if other != *node => Answering::OtherNode(other),
                _ => Answering::Refusing,
            },
            Self::Refused { .. } => Answering::Refusing,
            Self::Stranger { answering, .. } => *answering,
        }
    }
}
