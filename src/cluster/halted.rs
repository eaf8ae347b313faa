//! Whether a cluster can never elect a leader again.

use std::collections::BTreeSet;

use super::Picture;
use crate::types::{NodeId, NodeStatus, RaftId};

/// A cluster that can never elect a leader again.
#[derive(Debug, PartialEq, Eq)]
pub struct Halt {
    /// Voters that have lost their memory, in ascending order.
    pub lost: Vec<NodeId>,
    /// The number of voters.
    pub voters: usize,
    /// The voter that still has most; `None` if only processes are left that never voted.
    pub survivor: Option<NodeId>,
}

impl Picture<'_> {
    /// Whether no leader can ever be elected again, even if everybody who is silent came back: in
    /// the eyes of everybody who takes part, too many voters are surely lost. A voter is, once
    /// another life answers in its place.
    ///
    /// While a voter is silent, it may know of later voters than those who answer. A voter's own word
    /// is enough nevertheless: who took a lost voter's place meanwhile answers as well, or is silent
    /// and counts as able. A learner's word is not: it may have been promoted without having heard.
    pub fn halt(&self) -> Option<Halt> {
        if self.leader.is_some() {
            return None;
        }
        let views: Vec<_> = self.parts().collect();
        let voters = || views.iter().flat_map(|view| &view.conf.voters);
        let silent = voters().any(|voter| self.view(voter.node_id()).is_none());
        let hopeless = |view: &&NodeStatus| {
            let voters = &view.conf.voters;
            let able = voters.iter().filter(|voter| !self.is_lost(**voter)).count();
            let knows = !silent || voters.contains(&view.raft_id);
            knows && able <= voters.len() / 2
        };
        if !views.iter().all(hopeless) {
            return None;
        }
        let votes = |view: &NodeStatus| view.conf.voters.contains(&view.raft_id);
        let knowing = views.iter().filter(|view| !view.conf.voters.is_empty());
        let most = knowing.max_by_key(|view| {
            // What is known to be committed goes before what may be.
            (votes(view), view.commit_index, view.last_index)
        })?;
        let lost = most.conf.voters.iter().filter(|id| self.is_lost(**id));
        let lost: BTreeSet<_> = lost.map(|id| id.node_id()).collect();
        Some(Halt {
            lost: lost.into_iter().collect(),
            voters: most.conf.voters.len(),
            survivor: votes(most).then_some(most.raft_id.node_id()),
        })
    }

    /// Whether the process has surely ended, or has left this cluster for another one.
    fn is_lost(&self, voter: RaftId) -> bool {
        self.view(voter.node_id())
            .is_some_and(|view| view.raft_id != voter || !self.takes_part(view))
    }
}
