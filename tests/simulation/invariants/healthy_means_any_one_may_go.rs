//! While status says that the cluster is healthy, any one process may be restarted: most of the voters
//! still run afterwards, in the view of every process. And after losses that the cluster bears, status
//! does not say that it has halted.

use seshat::types::NodeId;

use super::{Verdict, safe};

const NAME: &str = "healthy_means_any_one_may_go";

/// Status was `healthy`, and the cluster `bears` the loss of `node` or not.
pub(crate) fn check(node: NodeId, bears: bool) -> Verdict {
    safe(bears, NAME, || {
        format!("status says healthy, and without node {node} no leader can be elected")
    })
}

/// Status says that the cluster has halted, after so many losses that it could not bear.
pub(crate) fn halted(disasters: u64, by: NodeId) -> Verdict {
    safe(disasters > 0, NAME, || {
        format!("node {by} says that the cluster has halted, and each loss was borne")
    })
}
