//! What answers at a node's address although it is not the node.

use std::fmt;

use super::NodeId;

/// What answered at a node's address instead of the node: the address, or what listens there, is
/// wrong. Whoever only knows that a node is silent must not take this for silence: the node may run,
/// and be reached by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stranger {
    /// It speaks no gRPC: HTTP/1, say, or nothing that HTTP/2 knows.
    NoGrpc,
    /// It speaks gRPC, but does not serve nodes: the port of a node for clients, most likely.
    OtherService,
    /// The process of this other node.
    OtherNode(NodeId),
}

impl Stranger {
    /// Whether it may belong to Seshat: then the node that is looked for may run as well.
    pub const fn may_be_ours(self) -> bool {
        match self {
            Self::NoGrpc => false,
            Self::OtherService | Self::OtherNode(_) => true,
        }
    }

    /// The finding in words: `another service answers at kvstore-3:6379: is it the client port?`
    pub const fn at(self, addr: &str) -> impl fmt::Display {
        At {
            stranger: self,
            addr,
        }
    }
}

struct At<'a> {
    stranger: Stranger,
    addr: &'a str,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.addr;
        match self.stranger {
            Stranger::NoGrpc => write!(f, "something that speaks no gRPC answers at {addr}"),
            Stranger::OtherService => write!(
                f,
                "another service answers at {addr}: is it the client port?"
            ),
            Stranger::OtherNode(node) => write!(f, "node {node} answers at {addr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_well() {
        let words = |stranger: Stranger| stranger.at("kvstore-3:6379").to_string();
        let four = Stranger::OtherNode(NodeId::new(4).expect("a node id"));
        assert_eq!(words(four), "node 4 answers at kvstore-3:6379");
        assert_eq!(
            words(Stranger::OtherService),
            "another service answers at kvstore-3:6379: is it the client port?"
        );
        assert_eq!(
            words(Stranger::NoGrpc),
            "something that speaks no gRPC answers at kvstore-3:6379"
        );
    }
}
