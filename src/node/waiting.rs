//! What a process waits for before it takes part in a cluster, in words for operators.

use crate::types::{ClusterId, NodeId};

/// `cluster_id` runs without the process, whose node is a member there or not.
pub(super) fn outside(cluster_id: ClusterId, is_member: bool, bootstrap: bool) -> String {
    if !is_member {
        format!(
            "this node is no member of cluster {cluster_id}, which runs without it; \
             it waits until an operator adds it"
        )
    } else if bootstrap {
        format!(
            "this node was started again and has lost its memory; \
             it waits until the leader of cluster {cluster_id} takes it back"
        )
    } else {
        format!(
            "this node holds nothing yet; \
             it waits until the leader of cluster {cluster_id} lets it in"
        )
    }
}

/// No cluster has been found, and the nodes `silent` have not answered.
pub(super) fn fresh(silent: &[NodeId], bootstrap: bool) -> String {
    match silent {
        [] if bootstrap => "the initial members are finding one another".to_owned(),
        [] => "this node joins a running cluster (cluster.bootstrap is false), and none of the \
               nodes that it asks runs in one yet"
            .to_owned(),
        [one] => format!("node {one} has not been found yet"),
        [all @ .., last] => {
            let all: Vec<_> = all.iter().map(NodeId::to_string).collect();
            let all = all.join(", ");
            format!("nodes {all} and {last} have not been found yet")
        }
    }
}
