//! At most one cluster can serve: no second one forms while a process has state of the first, and no
//! recovery makes two.

use std::collections::BTreeSet;

use seshat::types::{ClusterId, RaftId};

use super::{Verdict, safe};

const NAME: &str = "one_serving_cluster";

/// These can serve.
pub(crate) fn check(able: &BTreeSet<ClusterId>) -> Verdict {
    safe(able.len() <= 1, NAME, || format!("{able:?} can serve"))
}

/// `by` has started a cluster that was formed of nothing, while these have state of others.
pub(crate) fn formed(by: RaftId, cluster: ClusterId, elsewhere: &[(RaftId, ClusterId)]) -> Verdict {
    safe(elsewhere.is_empty(), NAME, || {
        format!("{by} starts {cluster}, formed of nothing, while {elsewhere:?} live")
    })
}
