//! What a process waits for before it takes part in a cluster, as text for operators.

use crate::types::{Answering, ClusterId, NodeId, ProtocolLevel};

/// `cluster_id` runs without the process. `is_member` is whether its node is a member there. Unless
/// `confirmed`, none of the nodes that it was told to ask takes part there.
pub(super) fn outside(
    cluster_id: ClusterId,
    is_member: bool,
    confirmed: bool,
    bootstrap: bool,
) -> String {
    if !confirmed {
        format!(
            "cluster {cluster_id} runs, but none of the nodes that this node is told to ask takes \
             part in it: list its present members in cluster.initial_members"
        )
    } else if !is_member {
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

/// `cluster_id` runs without the process, and speaks `level`. The process only speaks `own`.
pub(super) fn too_old(cluster_id: ClusterId, level: ProtocolLevel, own: ProtocolLevel) -> String {
    format!(
        "this version is too old for cluster {cluster_id}, which has been raised to protocol level \
         {level}, and is not let in: it speaks level {own} only. Start a newer version of this node"
    )
}

/// The node `other` offers a cluster with other initial members than this process has configured.
pub(super) fn differing(other: NodeId) -> String {
    format!(
        "cluster.initial_members of this node and of node {other} differ: make them the same on every node"
    )
}

/// The clock of the process is not credible.
pub(super) fn no_clock() -> String {
    "the clock of this node is wrong: it is before 2026, or after 2199. Set it".to_owned()
}

/// The clocks of the nodes `differing`, which are not empty, differ from that of the process.
pub(super) fn clocks(differing: &[NodeId]) -> String {
    let clocks = match differing {
        [one] => format!("the clock of node {one} differs"),
        all => format!("the clocks of {} differ", list(all)),
    };
    format!("{clocks} from that of this node by more than an hour: set the wrong one")
}

/// The ids of several nodes, as text.
fn list(nodes: &[NodeId]) -> String {
    let ids: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
    match ids.as_slice() {
        [all @ .., last] if !all.is_empty() => format!("nodes {} and {last}", all.join(", ")),
        one => format!("node {}", one.concat()),
    }
}

/// No cluster has been found, and the nodes `missing` have not answered. Something else answers at the
/// addresses of some. `waits` is whether the process waits before it forms a cluster.
pub(super) fn fresh(
    missing: &[(NodeId, Option<(Answering, &str)>)],
    bootstrap: bool,
    waits: bool,
) -> String {
    let silent = missing.iter().filter(|(_, found)| found.is_none());
    let silent: Vec<_> = silent.map(|(id, _)| *id).collect();
    let mut words: Vec<_> = missing
        .iter()
        .filter_map(|(id, found)| {
            let (found, addr) = (*found)?;
            Some(format!("the address of node {id}, {addr}, {found}"))
        })
        .collect();
    match silent.as_slice() {
        [] if !words.is_empty() => {}
        [] if bootstrap && waits => words.push(
            "all members have been found; this node waits a moment longer, as a process of a former \
             cluster may ask"
                .to_owned(),
        ),
        [] if bootstrap => words.push("the initial members are finding one another".to_owned()),
        [] => words.push(
            "this node joins a running cluster (cluster.bootstrap is false), and none of the \
             nodes that it asks takes part in one yet"
                .to_owned(),
        ),
        [one] => words.push(format!("node {one} has not been found yet")),
        all => words.push(format!("{} have not been found yet", list(all))),
    }
    words.join("; ")
}
