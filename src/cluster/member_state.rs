//! The state of each member in the running cluster.

use super::ClusterView;
use super::view::is_of;
use crate::types::{Answering, LogIndex, NodeId, NodeState, NodeStatus, Role};

/// Share of the snapshot in the progress of catching up, in percent: nearly all of the work.
const SNAPSHOT_SHARE: u64 = 90;

/// Share of the log behind the snapshot, in percent. With the snapshot that makes 99. The last percent
/// means caught up.
const LOG_SHARE: u64 = 9;

/// The state of a member in the running cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// Does not answer. Something else may answer at its address.
    Absent(Answering),
    /// Runs, but has not found its cluster yet, or waits for its start.
    Forming,
    /// Belongs to another cluster.
    Elsewhere,
    /// Runs, but is not added: it does not speak the protocol level of the cluster.
    TooOld,
    /// Runs, but takes no part: it has lost its memory, or is new.
    Waiting,
    /// Receives the state or the log, and has this much of it, in percent: 0 to 99.
    CatchingUp(u32),
    /// Has caught up and does not vote yet.
    BecomingVoter,
    /// Takes part but does not follow the leader, or there is none.
    Leaderless,
    /// Takes part, but cannot read the leader's log from this entry on: it runs an older version.
    CannotRead(LogIndex),
    /// Votes and follows the leader, but its log does not follow.
    Behind,
    /// Votes and follows the leader, or leads.
    Whole,
}

impl ClusterView<'_> {
    /// The state of the member `node`.
    pub fn member_state(&self, node: NodeId) -> MemberState {
        let Some(view) = self.view(node) else {
            return MemberState::Absent(self.survey.answering(node));
        };
        let Some(cluster) = self.cluster else {
            return MemberState::Forming;
        };
        match view.state {
            // It may have answered before it was elected, or before it recovered this cluster from another.
            NodeState::Started if self.leader == Some(view.raft_id) => MemberState::Whole,
            NodeState::Started if !is_of(view, cluster) => MemberState::Elsewhere,
            // This includes an earlier offer: a process that waits for a start belongs to no cluster yet.
            NodeState::Prepared => MemberState::Forming,
            _ if view.receiving.is_some() => self.catching_up(view),
            NodeState::Fresh | NodeState::Outside if self.is_learner(view) => {
                self.catching_up(view)
            }
            NodeState::Fresh | NodeState::Outside if view.level < self.level() => {
                MemberState::TooOld
            }
            NodeState::Fresh | NodeState::Outside => MemberState::Waiting,
            NodeState::Started if let Some(index) = view.unreadable => {
                MemberState::CannotRead(index)
            }
            NodeState::Started if self.is_learner(view) => self.catching_up(view),
            NodeState::Started if self.is_unknown(view) => MemberState::Waiting,
            NodeState::Started if self.leader.is_none() || view.leader != self.leader => {
                MemberState::Leaderless
            }
            NodeState::Started if self.is_behind(view) => MemberState::Behind,
            NodeState::Started => MemberState::Whole,
        }
    }

    /// The members in these states, in ascending order.
    pub(super) fn those(&self, which: impl Fn(MemberState) -> bool) -> Vec<NodeId> {
        let members = self.survey.members().ids();
        members.filter(|id| which(self.member_state(*id))).collect()
    }

    /// Whether the leader lists the process as a learner, or the process itself does.
    fn is_learner(&self, view: &NodeStatus) -> bool {
        let listed = |leader: &NodeStatus| leader.conf.learners.contains(&view.raft_id);
        view.role == Some(Role::Learner) || self.leader_view().is_some_and(listed)
    }

    /// Whether the leader lists the process neither as a voter nor as a learner.
    fn is_unknown(&self, view: &NodeStatus) -> bool {
        let listed = |leader: &NodeStatus| {
            let conf = &leader.conf;
            conf.voters.contains(&view.raft_id) || conf.learners.contains(&view.raft_id)
        };
        self.leader_view().is_some_and(|leader| !listed(leader))
    }

    /// Whether the leader says that the process's log lacks entries that its own held one election
    /// timeout ago, or the process has not applied entries that were committed then.
    fn is_behind(&self, view: &NodeStatus) -> bool {
        let following = self.leader_view().and_then(|it| it.following.as_deref());
        following.is_some_and(|following| {
            !following.acknowledged_by.contains(&view.raft_id)
                || view.applied_index < following.commit_index
        })
    }

    /// The progress of a process that receives the state and then the log.
    ///
    /// The two have no common unit: the state comes in bytes, the log in entries. So each has a share of the
    /// progress. While a snapshot arrives, its bytes count. Afterwards the entries count that the process has
    /// applied, relative to the leader's commit index. That never reaches 100. It goes back only if the
    /// process has to begin again with another snapshot, or if clients write faster than it applies.
    fn catching_up(&self, view: &NodeStatus) -> MemberState {
        let goal = self.leader_view().unwrap_or(view).commit_index;
        let percent = match view.receiving {
            Some(progress) => SNAPSHOT_SHARE * part(progress.received, progress.total, 100) / 100,
            None if view.applied_index == 0 => 0,
            None if view.state == NodeState::Started && view.applied_index >= goal => {
                return MemberState::BecomingVoter;
            }
            None => SNAPSHOT_SHARE + part(view.applied_index, goal, LOG_SHARE),
        };
        MemberState::CatchingUp(u32::try_from(percent).unwrap_or(0))
    }
}

/// The part of `share` that `some` is of `whole`. 0 if `whole` is 0.
fn part(some: LogIndex, whole: LogIndex, share: u64) -> u64 {
    let part = u128::from(some.min(whole)) * u128::from(share) / u128::from(whole.max(1));
    u64::try_from(part).unwrap_or(share)
}
