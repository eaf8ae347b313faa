//! Changes of voters and learners: what the leader knows of them, how it proposes one, and how a process
//! behaves whose node is no longer a member.

use raft::StateRole;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::RaftNode;
use crate::node::reconcile::{Change, Members};
use crate::node::seed::mix;
use crate::types::RaftId;

/// Shortest election timeouts for which a voter that is no member lets the members be candidates first.
const DEFER_TIMEOUTS: usize = 4;

impl<W> RaftNode<W> {
    /// The processes that take part, as the leader sees them. `None` while no change of voters or
    /// learners may be proposed: this node does not lead, has not applied an entry of its term, transfers
    /// leadership, or a change is under way, of voters and learners or of the level.
    pub(in crate::node) fn members(&self) -> Option<Members> {
        let raft = &self.raw.raft;
        let ready = raft.state == StateRole::Leader
            && raft.apply_to_current_term()
            && !raft.has_pending_conf()
            && !self.is_transferring()
            && !self.is_raising();
        if !ready {
            return None;
        }
        let conf_state = raft.prs().conf().to_conf_state();
        let ids = |ids: Vec<u64>| ids.into_iter().filter_map(|id| RaftId::try_from(id).ok());
        let caught_up = |id: RaftId| (id, self.has_caught_up(id));
        Some(Members {
            voters: ids(conf_state.voters).map(caught_up).collect(),
            learners: ids(conf_state.learners).map(caught_up).collect(),
        })
    }

    /// Whether every voter knows that the last change of voters and learners is committed, and none is
    /// under way.
    pub(in crate::node) fn members_are_known(&self) -> bool {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || raft.has_pending_conf() {
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

    /// Proposes one change of voters or learners.
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
        // A dropped change is planned again.
        let _ = self.raw.propose_conf_change(Vec::new(), conf_change);
        self.settle();
    }

    /// Whether this process's node is a member, as far as it has applied the log.
    pub(in crate::node) fn is_member(&self) -> bool {
        self.conf.members.contains(&self.raft_id.node_id())
    }

    /// Whether this process leads, or has heard of a leader within the longest election timeout.
    pub(in crate::node) fn is_led(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state == StateRole::Leader
            || (raft.leader_id != 0 && raft.election_elapsed + 1 < self.options.election_max_ticks)
    }

    /// Ends the leadership of a process that has just applied its own removal. raft-rs would let it go
    /// on, and panics at its next commit, because there is no progress of its own. It may even be elected
    /// with its removal in the log, if no other log reaches as far. The others no longer need it: a
    /// candidate learns from its refusal of a vote that the removal is committed.
    pub(super) fn step_down_if_no_voter(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower && !raft.promotable() {
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
    }

    /// Whether this tick is not counted, because it would make a voter a candidate whose node is no
    /// member, or that has just given leadership up: the others come first. It becomes a candidate in the
    /// end, because the others may not succeed without it: as long as it votes, its log may be the only
    /// one that reaches far enough.
    pub(super) fn defers(&mut self) -> bool {
        let raft = &self.raw.raft;
        let stands_next = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        let first = self.is_member() && !self.lets_others_stand();
        if raft.state == StateRole::Leader || first || !stands_next {
            self.deferred = 0;
            return false;
        }
        self.deferred += 1;
        self.deferred <= DEFER_TIMEOUTS.saturating_mul(self.options.election_min_ticks)
    }

    /// The election timeout in ticks. A voter whose node is no member has the longest.
    pub(super) fn election_timeout(&self) -> usize {
        let raft = &self.raw.raft;
        if self.is_member() {
            let draw = mix(&[self.seed, raft.id, raft.term]);
            self.options.election_timeout(draw)
        } else {
            self.options.longest_election_timeout()
        }
    }
}
