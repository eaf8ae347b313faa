//! Election safety (paper, figure 3): at most one leader a term.

use std::collections::BTreeMap;

use seshat::node::Member;
use seshat::types::{RaftId, Role, Term};

/// Who led in which term.
#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<Term, RaftId>);

impl Leaders {
    pub(crate) fn check<W>(&mut self, member: &Member<W>) {
        let status = member.status();
        if status.role != Some(Role::Leader) {
            return;
        }
        let leader = *self.0.entry(status.term).or_insert(status.raft_id);
        assert_eq!(
            leader, status.raft_id,
            "two leaders in term {}",
            status.term
        );
    }

    pub(crate) fn terms(&self) -> usize {
        self.0.len()
    }
}
