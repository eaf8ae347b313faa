//! A node that was started again votes again within a while, although clients go on writing.

use seshat::types::NodeId;

use super::{Verdict, live};

/// `node` heals for so many milliseconds already.
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
