//! The errors of calls between nodes.

use crate::types::{Answering, ClusterId, NodeId, RaftId};

/// A message that reached the wrong process or cluster.
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
        /// The error of the transport.
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
    /// Another process than the called one answers there, or it belongs to another cluster.
    #[error("node {node}: {not_me}")]
    NotMe {
        /// The called node.
        node: NodeId,
        /// The process that answers.
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
        /// Its reason.
        reason: String,
    },
    /// Something else answers at the address of the node, or it hangs.
    #[error("node {node} ({addr}) {answering}")]
    Misdirected {
        /// The called node.
        node: NodeId,
        /// Its address.
        addr: String,
        /// The thing that answers.
        answering: Answering,
    },
}

impl RpcError {
    /// What answers at the address of the called node.
    pub fn answering(&self) -> Answering {
        match self {
            Self::Unreachable { .. } => Answering::Silent,
            // If no connection can be made, that is known before the timeout.
            Self::Timeout { .. } | Self::Unanswered { .. } => Answering::Hung,
            Self::NotMe { node, not_me } => match not_me.raft_id.node_id() {
                other if other != *node => Answering::OtherNode(other),
                _ => Answering::Refusing,
            },
            Self::Refused { .. } => Answering::Refusing,
            Self::Misdirected { answering, .. } => *answering,
        }
    }
}
