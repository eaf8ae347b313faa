//! A restarted node votes again within a limited time, even while clients write.

use seshat::types::NodeId;

use super::{Verdict, live};

/// `node` has been healing for so many milliseconds.
pub(crate) fn check(
    node: NodeId,
    since: u64,
    within: u64,
    state: impl FnOnce() -> String,
) -> Verdict {
    live(since <= within, "healing_ends_under_load", || {
        format!("node {node} has not healed in {since} ms: {}", state())
    })
}
