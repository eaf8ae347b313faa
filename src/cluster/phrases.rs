//! Phrases that more than one message needs.

use crate::types::{Answering, NodeId};

/// `node` accepts connections and does not answer. It may hold the last copy.
pub(crate) fn hung(node: NodeId) -> String {
    format!(
        "node {node} {}: it may hang, and hold the last copy; let it go on, or, if what it holds may be lost, \
         end it or disconnect it",
        Answering::Hung
    )
}

/// `node 3`, `nodes 2 and 3`, `nodes 1, 2 and 3`.
pub(crate) fn nodes(ids: &[NodeId]) -> String {
    match ids {
        [] => "no node".to_owned(),
        [one] => format!("node {one}"),
        [all @ .., last] => {
            let all: Vec<_> = all.iter().map(NodeId::to_string).collect();
            format!("nodes {} and {last}", all.join(", "))
        }
    }
}
