//! The calls between processes outside of Raft, and their replies.

use crate::types::{
    Answering, ClusterId, Introduction, NodeId, NodeStatus, Offer, RaftId, RecoveryClaim,
};

/// The identity of a call. Its reply has to name it, so that a reply answers this call and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The node that is called.
    pub to: NodeId,
    /// The number of the call. No other call of the process has it.
    pub number: u64,
}

/// A call to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Asks for the identity and status. The caller introduces itself.
    Identify(Introduction),
    /// Offers a part in a new cluster. The receiver is the offer's member of that node.
    Offer(Offer),
    /// The cluster starts. The receiver is the offer's member of that node.
    Start(Offer),
    /// Asks the receiver to leave the recovery of the cluster to this process.
    Yield {
        /// The claim.
        claim: RecoveryClaim,
        /// The receiver.
        to: RaftId,
    },
}

/// The reply to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The identity and status of the node.
    Identified(Box<NodeStatus>),
    /// Whether it accepted the offer of this cluster.
    Offered {
        /// The offered cluster.
        cluster_id: ClusterId,
        /// Whether it accepted.
        accepted: bool,
    },
    /// The node has taken note that the cluster starts.
    Started,
    /// Whether it leaves the recovery of the cluster to this process.
    Yielded {
        /// The attempt of this process that it answers.
        attempt: u64,
        /// If it does not yield: the reason, as text that follows the name of the node.
        answer: Result<(), String>,
    },
    /// No answer, or an invalid one.
    Failed,
    /// Something else answers at the address of the node.
    Misdirected(Answering),
}
