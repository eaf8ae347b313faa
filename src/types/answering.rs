//! The answers at the address of a node that does not answer itself.

use std::fmt;

use super::NodeId;

/// What answers at the address of a node when the node itself does not. A wrong address and a process
/// that hangs both look like a dead node, but need a different remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// Nothing: no connection can be made, or it is closed. Only this answer can mean a dead node.
    Silent,
    /// A process that accepts connections and does not answer, or a node about which nothing better is
    /// known. A process that hangs may continue later with all its state.
    Hung,
    /// A node that refuses the question, or answers it with nonsense.
    Refusing,
    /// Something that does not speak gRPC.
    NotGrpc,
    /// The client port of a Seshat node. Nodes are asked at their internal address.
    ClientPort,
    /// A gRPC server that is no Seshat node.
    OtherService,
    /// A process of another node.
    OtherNode(NodeId),
}

impl Answering {
    /// Whether an operator may state that the node is gone for good. Any other answer may come from the
    /// node itself or lead to it, and the node may hold the last copy. Only a peer that speaks no gRPC is
    /// surely no node.
    pub fn may_be_gone(self) -> bool {
        matches!(self, Self::Silent | Self::NotGrpc)
    }
}

/// What the address leads to, as text: `leads to node 2`.
impl fmt::Display for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "does not answer",
            Self::Hung => "accepts connections and does not answer",
            Self::Refusing => "refuses to say how it is",
            Self::NotGrpc => "leads to something that does not speak gRPC",
            Self::ClientPort => "leads to the client port of a node",
            Self::OtherService => "leads to a gRPC server that is no node",
            Self::OtherNode(node) => return write!(f, "leads to node {node}"),
        })
    }
}
