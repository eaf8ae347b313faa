//! What answers where a node should.

use std::fmt;

use super::NodeId;

/// What answers at the address of a node when the node itself does not: a wrong address and a process
/// that hangs look much like a dead node, and are cured otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// Nothing: no connection is made, or what is made is closed. Only this may be a node that is dead.
    Silent,
    /// Somebody who takes connections and does not answer, or nobody knows better yet: a process that
    /// hangs goes on when it is let, with all that it holds.
    Hung,
    /// A node that refuses the question, or answers it with nonsense.
    Refusing,
    /// Something that does not speak gRPC.
    NotGrpc,
    /// The client port of a Seshat node: nodes are asked at their internal address.
    ClientPort,
    /// A gRPC server that is no Seshat node.
    OtherService,
    /// A process of another node.
    OtherNode(NodeId),
}

impl Answering {
    /// Whether an operator may vouch that the node is gone for good. Whatever answers in its place may
    /// be the node, or lead to it, and hold the last copy; only what speaks no gRPC is surely no node.
    pub fn may_be_gone(self) -> bool {
        matches!(self, Self::Silent | Self::NotGrpc)
    }
}

/// What the address leads to, in words: `leads to node 2`.
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
