//! What a process asks another one outside of Raft, and what comes back.

use crate::types::{
    Answering, ClusterId, Introduction, NodeId, NodeStatus, Offer, RaftId, RecoveryClaim,
};

/// A call that is made, and which its reply has to name: a reply answers one question and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The node that is called.
    pub to: NodeId,
    /// The number of the call; no other call of the process has it.
    pub number: u64,
}

/// A call to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Who are you? The caller says who it is.
    Identify(Introduction),
    /// Will you be part of this cluster? The receiver is the offer's member of that node.
    Offer(Offer),
    /// The cluster starts. The receiver is the offer's member of that node.
    Start(Offer),
    /// Will you leave the recovery of the cluster to me?
    Yield {
        /// The claim.
        claim: RecoveryClaim,
        /// The receiver.
        to: RaftId,
    },
}

/// What came back from a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Who the node is.
    Identified(Box<NodeStatus>),
    /// Whether it accepted the offer of this cluster.
    Offered {
        /// The offered cluster.
        cluster_id: ClusterId,
        /// Whether it accepted.
        accepted: bool,
    },
    /// It heard that the cluster starts.
    Started,
    /// Whether it leaves the recovery of the cluster to this process.
    Yielded {
        /// Which attempt of this process it answers.
        attempt: u64,
        /// Why it does not, in words that follow its name; or that nobody knows.
        answer: Result<(), String>,
    },
    /// No answer, or none that makes sense.
    Failed,
    /// Something else answers at the address of the node.
    Stranger(Answering),
}
