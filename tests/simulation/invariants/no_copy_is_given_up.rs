//! An operator who follows status and refusals loses no acknowledged write that a process holds which
//! answers.

use seshat::types::{NodeId, RaftId};

use super::{Verdict, safe};
use crate::clients::Acknowledged;

/// A recovery from `survivor` lacks this write, which `holder` has, a process that answers.
pub(crate) fn lost(survivor: RaftId, write: &Acknowledged, holder: RaftId) -> Verdict {
    safe(false, "no_copy_is_given_up", || {
        format!("{survivor} recovers a cluster without {write:?}, which {holder} has")
    })
}

/// The operator has followed an instruction for `node`, and no process has any state left.
pub(crate) fn last(node: NodeId, left: usize) -> Verdict {
    safe(left > 0, "no_copy_is_given_up", || {
        format!("the operator has started node {node} again, which had the last copy")
    })
}
