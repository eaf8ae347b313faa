//! Election safety (paper, figure 3): at most one leader a term.

use std::collections::BTreeMap;

use seshat::node::RaftNode;
use seshat::types::{ClusterId, RaftId, Role, Term};

use super::{Verdict, safe};

/// The leader of each term of each cluster.
#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<(ClusterId, Term), RaftId>);

impl Leaders {
    pub(crate) fn check<W>(&mut self, raft: &RaftNode<W>) -> Verdict {
        if raft.role() != Role::Leader {
            return Ok(());
        }
        let (term, me) = (raft.term(), raft.raft_id());
        let leader = *self.0.entry((raft.cluster_id(), term)).or_insert(me);
        safe(leader == me, "one_leader_a_term", || {
            format!("{leader} and {me} led in term {term}")
        })
    }

    pub(crate) fn terms(&self) -> usize {
        self.0.len()
    }
}
