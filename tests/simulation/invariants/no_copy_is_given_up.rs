//! Whoever does what status and the refusals say loses nothing that was acknowledged and that a
//! process holds who answers.

use seshat::types::{NodeId, RaftId};

use super::{Verdict, safe};
use crate::clients::Acknowledged;

/// `survivor` is made a new cluster without this write, which `holder` has, who answers.
pub(crate) fn lost(survivor: RaftId, write: &Acknowledged, holder: RaftId) -> Verdict {
    safe(false, "no_copy_is_given_up", || {
        format!("{survivor} recovers a cluster without {write:?}, which {holder} has")
    })
}

/// The operator has done what it was told to `node`, and nobody has anything any more.
pub(crate) fn last(node: NodeId, left: usize) -> Verdict {
    safe(left > 0, "no_copy_is_given_up", || {
        format!("the operator has started node {node} again, which had the last copy")
    })
}
