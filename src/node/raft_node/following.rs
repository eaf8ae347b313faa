//! Whether the logs of the others follow the leader's.
//!
//! That a follower answers heartbeats does not show that it takes what is appended: the two travel on
//! streams of their own. So the leader remembers at each tick what its log held, and looks who has
//! acknowledged what it held one election timeout ago. That long an append may take on its way, so a
//! cluster under load is not mistaken for one that is stuck. It costs nothing between two ticks.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::StateRole;

use super::RaftNode;
use crate::types::{Following, LogIndex, RaftId};

/// What the leader's log held at its last ticks, and what that says of the others now.
#[derive(Debug, Default)]
pub(super) struct Lookback {
    /// Oldest first: the last index and the commit index, when leadership began or at a tick since.
    held: VecDeque<(LogIndex, LogIndex)>,
    following: Option<Arc<Following>>,
}

impl<W> RaftNode<W> {
    /// How the logs of the others follow this leader's; `None` until the first tick of its
    /// leadership, and for who does not lead.
    pub(in crate::node) fn following(&self) -> Option<&Arc<Following>> {
        self.lookback.following.as_ref()
    }

    /// Leadership has begun or ended.
    pub(super) fn look_back_anew(&mut self) {
        self.lookback = Lookback::default();
        if self.leads_in.is_some() {
            let now = (self.last_index(), self.commit_index());
            self.lookback.held.push_back(now);
        }
    }

    /// One tick has passed.
    pub(super) fn look_back(&mut self) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        let now = (self.last_index(), self.commit_index());
        let held = &mut self.lookback.held;
        held.push_back(now);
        while held.len() > self.options.election_max_ticks.saturating_add(1) {
            held.pop_front();
        }
        let (last_index, commit_index) = held.front().copied().unwrap_or(now);
        let acknowledged = |(id, matched): (u64, LogIndex)| {
            let id = RaftId::try_from(id).ok()?;
            (id == self.raft_id || matched >= last_index).then_some(id)
        };
        let progress = self.raw.raft.prs().iter();
        let mut acknowledged_by: Vec<_> = progress
            .filter_map(|(id, progress)| acknowledged((*id, progress.matched)))
            .collect();
        // raft-rs keeps them in no order, and the same inputs have to give the same outputs.
        acknowledged_by.sort_unstable();
        self.lookback.following = Some(Arc::new(Following {
            last_index,
            commit_index,
            acknowledged_by,
        }));
    }
}
