//! Changes of members: what the leader knows of them, and how it proposes one.

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};
use raft::{ProgressState, StateRole};

use super::RaftNode;
use crate::node::reconcile::{Change, Members};
use crate::types::{LogIndex, RaftId};

/// Entries by which a learner may be behind and still count as caught up.
const CAUGHT_UP_SLACK: LogIndex = 64;

impl<W> RaftNode<W> {
    /// The committed members as the leader sees them; `None` while no change of members may be
    /// proposed: this node does not lead, has not applied an entry of its term, hands leadership
    /// over, or a change is under way.
    pub(in crate::node) fn members(&self) -> Option<Members> {
        let raft = &self.raw.raft;
        let ready = raft.state == StateRole::Leader
            && raft.apply_to_current_term()
            && !raft.has_pending_conf()
            && raft.lead_transferee.is_none();
        if !ready {
            return None;
        }
        // raft-rs counts a member that was just added as active. One that has acknowledged nothing
        // may be a life that has ended.
        let caught_up = |id: RaftId| {
            raft.prs().get(id.get()).is_some_and(|progress| {
                progress.recent_active
                    && progress.matched > 0
                    && progress.state != ProgressState::Snapshot
                    && progress.matched + CAUGHT_UP_SLACK >= raft.raft_log.committed
            })
        };
        let conf_state = raft.prs().conf().to_conf_state();
        let ids = |ids: Vec<u64>| ids.into_iter().filter_map(|id| RaftId::try_from(id).ok());
        Some(Members {
            voters: ids(conf_state.voters).collect(),
            learners: ids(conf_state.learners)
                .map(|id| (id, caught_up(id)))
                .collect(),
        })
    }

    /// Whether every voter knows the last change of members to be committed.
    pub(in crate::node) fn members_are_known(&self) -> bool {
        if self.raw.raft.state != StateRole::Leader {
            return false;
        }
        let tracker = self.raw.raft.prs();
        self.voters().into_iter().all(|voter| {
            voter == self.raft_id
                || tracker
                    .get(voter.get())
                    .is_some_and(|progress| progress.committed_index >= self.conf_index)
        })
    }

    /// Proposes one change of members.
    pub(in crate::node) fn change_members(&mut self, change: Change) {
        let (change_type, raft_id) = match change {
            Change::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
            Change::Promote(id) => (ConfChangeType::AddNode, id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = ConfChangeSingle {
            node_id: raft_id.get(),
            ..ConfChangeSingle::default()
        };
        single.set_change_type(change_type);
        let conf_change = ConfChangeV2 {
            changes: vec![single].into(),
            ..ConfChangeV2::default()
        };
        // A change that is dropped is planned again.
        let _ = self.raw.propose_conf_change(Vec::new(), conf_change);
        self.settle();
    }
}
