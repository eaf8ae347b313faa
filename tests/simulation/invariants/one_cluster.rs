//! All processes that take part in a cluster take part in the same one: no second cluster ever forms
//! beside the first.

use seshat::node::Replica;

use super::{Verdict, safe};

pub(crate) fn check<'a, W: 'a>(members: impl Iterator<Item = &'a Replica<W>>) -> Verdict {
    let mut clusters = members.filter_map(Replica::raft).map(|raft| {
        let (raft_id, cluster_id) = (raft.raft_id(), raft.cluster_id());
        (cluster_id, raft_id)
    });
    let Some((first, one)) = clusters.next() else {
        return Ok(());
    };
    let other = clusters.find(|(cluster_id, _)| *cluster_id != first);
    safe(other.is_none(), "one_cluster", || {
        format!("{one} takes part in {first}, and {other:?} elsewhere")
    })
}
