//! Where each member stands, and what that makes of the cluster.
//!
//! Judged from what the members say of themselves, at about the same moment. Views contradict one
//! another now and then: a node that was cut off still names a leader that has been replaced. So the
//! view of the highest term is right about who leads, who takes part is what that leader has
//! applied, and who lives is what answers. Where that leaves a doubt, the worse is assumed: nobody
//! is told to go on before it is safe, and nobody is told that all is over while it is not.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{
    ClusterId, ClusterMembership, LogIndex, NodeId, NodeState, NodeStatus, RaftId, Role,
};

/// What the snapshot counts of the way to being caught up, in percent: nearly all that there is to
/// do.
const SNAPSHOT_SHARE: u64 = 90;

/// What the log behind the snapshot counts, in percent. With the snapshot that makes 99: the last
/// one is for being caught up.
const LOG_SHARE: u64 = 9;

/// How a member stands to the running cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Does not answer.
    Silent,
    /// Runs, but has not found its cluster yet, or waits for its start.
    Forming,
    /// Belongs to another cluster.
    Elsewhere,
    /// Lives, but takes no part: it has lost its memory, or is new.
    Waiting,
    /// Receives the state or the log, and has this much of it in percent: 0 to 99.
    CatchingUp(u32),
    /// Has caught up and does not vote yet.
    BecomingVoter,
    /// Takes part but does not follow the leader, or there is none.
    Leaderless,
    /// Votes and follows the leader, or leads.
    Whole,
}

/// What a leader still has to do that no living member shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chore {
    /// Lets in a member that the asked node does not know of yet.
    LetIn(NodeId),
    /// Removes the process of a node that is a member no longer.
    Remove(NodeId),
    /// Removes a process of a member that is not the one which lives.
    Forget(NodeId),
    /// Makes the last change known to every voter.
    MakeKnown,
}

/// A cluster that can never elect a leader again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Halt {
    /// Voters that have lost their memory, in ascending order.
    pub(super) lost: Vec<NodeId>,
    /// The number of voters.
    pub(super) voters: usize,
    /// Who still has most.
    pub(super) survivor: NodeId,
}

/// The cluster as its members show it together.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    membership: &'a ClusterMembership,
    views: &'a BTreeMap<NodeId, NodeStatus>,
    /// The cluster that runs.
    pub(super) cluster: Option<ClusterId>,
    /// Who leads it.
    pub(super) leader: Option<RaftId>,
}

impl<'a> Picture<'a> {
    /// What `own`, the view of the asked node, and all `views`, `own` among them, make together.
    pub(super) fn new(
        own: &NodeStatus,
        membership: &'a ClusterMembership,
        views: &'a BTreeMap<NodeId, NodeStatus>,
    ) -> Self {
        let mut picture = Self {
            membership,
            views,
            cluster: running_cluster(own, views),
            leader: None,
        };
        picture.leader = picture.find_leader();
        picture
    }

    /// What the node says of itself.
    pub(super) fn view(&self, node: NodeId) -> Option<&'a NodeStatus> {
        self.views.get(&node)
    }

    /// Everybody who answers and takes part in the running cluster.
    fn parts(&self) -> impl Iterator<Item = &'a NodeStatus> {
        self.views.values().filter(|view| self.takes_part(view))
    }

    fn takes_part(&self, view: &NodeStatus) -> bool {
        view.state == NodeState::Started && self.cluster.is_some_and(|id| is_of(view, id))
    }

    /// Who leads, as the view of the highest term has it; of two such views, the leader's own.
    /// Nobody, where another life answers in the leader's place.
    fn find_leader(&self) -> Option<RaftId> {
        let leader = self
            .parts()
            .filter(|view| view.leader.is_some())
            .max_by_key(|view| (view.term, view.role == Some(Role::Leader)))
            .and_then(|view| view.leader)?;
        let lives = self
            .view(leader.node_id())
            .is_none_or(|view| view.raft_id == leader);
        lives.then_some(leader)
    }

    /// The leader's own view, if it answers and knows that it leads.
    fn leader_view(&self) -> Option<&'a NodeStatus> {
        self.leader
            .and_then(|leader| self.view(leader.node_id()))
            .filter(|view| self.takes_part(view) && view.role == Some(Role::Leader))
    }

    /// How the member `node` stands.
    pub(super) fn standing(&self, node: NodeId) -> Standing {
        let Some(view) = self.view(node) else {
            return Standing::Silent;
        };
        let Some(cluster) = self.cluster else {
            return Standing::Forming;
        };
        match view.state {
            NodeState::Bound | NodeState::Started if !is_of(view, cluster) => Standing::Elsewhere,
            NodeState::Bound => Standing::Forming,
            _ if view.receiving.is_some() => self.catching_up(view),
            NodeState::Fresh | NodeState::Outside if self.is_learner(view) => {
                self.catching_up(view)
            }
            NodeState::Fresh | NodeState::Outside => Standing::Waiting,
            NodeState::Started if self.is_learner(view) => self.catching_up(view),
            NodeState::Started if self.is_unknown(view) => Standing::Waiting,
            NodeState::Started if self.leader.is_none() || view.leader != self.leader => {
                Standing::Leaderless
            }
            NodeState::Started => Standing::Whole,
        }
    }

    /// Whether the leader has the process as a learner, or it has itself as one.
    fn is_learner(&self, view: &NodeStatus) -> bool {
        let listed = |leader: &NodeStatus| leader.conf.learners.contains(&view.raft_id);
        view.role == Some(Role::Learner) || self.leader_view().is_some_and(listed)
    }

    /// Whether the leader has the process neither as a voter nor as a learner.
    fn is_unknown(&self, view: &NodeStatus) -> bool {
        let listed = |leader: &NodeStatus| {
            let conf = &leader.conf;
            conf.voters.contains(&view.raft_id) || conf.learners.contains(&view.raft_id)
        };
        self.leader_view().is_some_and(|leader| !listed(leader))
    }

    /// How far a process is that receives the state and then the log.
    ///
    /// The two cannot be measured by one yardstick: the state comes in bytes, the log in entries. So
    /// each has a share of the way. While a snapshot arrives, its bytes count; afterwards the
    /// entries count that the process has applied of those which the leader has committed. That
    /// never reaches 100, and goes back only if the process has to begin again, with another
    /// snapshot, or if clients write faster than it applies.
    fn catching_up(&self, view: &NodeStatus) -> Standing {
        let goal = self.leader_view().unwrap_or(view).commit_index;
        let percent = match view.receiving {
            Some(progress) => SNAPSHOT_SHARE * part(progress.received, progress.total, 100) / 100,
            None if view.applied_index == 0 => 0,
            None if view.state == NodeState::Started && view.applied_index >= goal => {
                return Standing::BecomingVoter;
            }
            None => SNAPSHOT_SHARE + part(view.applied_index, goal, LOG_SHARE),
        };
        Standing::CatchingUp(u32::try_from(percent).unwrap_or(0))
    }

    /// Whether the voters are exactly the processes that live, one of each member, every one of
    /// them follows the leader, and every one knows the others to be voters.
    pub(super) fn is_healed(&self) -> bool {
        let Some(leader) = self.leader_view() else {
            return false;
        };
        let conf = &leader.conf;
        let living: BTreeSet<_> = self.members_views().map(|view| view.raft_id).collect();
        let follows = |view: &NodeStatus| {
            self.takes_part(view)
                && view.leader == self.leader
                && view.role.is_some_and(|role| role != Role::Learner)
        };
        leader.members_known
            && conf.learners.is_empty()
            && conf.voters.len() == self.membership.len()
            && conf.voters.iter().copied().collect::<BTreeSet<_>>() == living
            && conf.members.iter().copied().eq(self.membership.ids())
            && self.members_views().all(follows)
    }

    fn members_views(&self) -> impl Iterator<Item = &'a NodeStatus> {
        self.membership.ids().filter_map(|id| self.view(id))
    }

    /// What the leader has to do, besides what the standings of the members show.
    pub(super) fn chores(&self) -> Vec<Chore> {
        let Some(leader) = self.leader_view() else {
            return Vec::new();
        };
        let conf = &leader.conf;
        let mut chores: Vec<_> = conf
            .members
            .iter()
            .filter(|member| !self.membership.contains(**member))
            .map(|member| Chore::LetIn(*member))
            .collect();
        for id in conf.voters.iter().chain(&conf.learners) {
            let node = id.node_id();
            let lives = self.view(node).is_none_or(|view| view.raft_id == *id);
            if !conf.members.contains(&node) {
                chores.push(Chore::Remove(node));
            } else if !lives && self.standing(node) == Standing::Whole {
                chores.push(Chore::Forget(node));
            }
        }
        if chores.is_empty() && !leader.members_known {
            chores.push(Chore::MakeKnown);
        }
        chores
    }

    /// Whether no leader can ever be elected again, even if everybody who is silent came back: in
    /// the eyes of everybody who takes part, too many voters are surely lost. A voter is, once
    /// another life answers in its place.
    ///
    /// While a voter is silent, it may know of later voters than those who answer. A voter's own word
    /// is enough nevertheless: who took a lost voter's place meanwhile answers as well, or is silent
    /// and counts as able. A learner's word is not: it may have been promoted without having heard.
    pub(super) fn halt(&self) -> Option<Halt> {
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
        let survivors = views.iter().filter(|view| !view.conf.voters.is_empty());
        let survivor = survivors.max_by_key(|view| {
            let votes = view.conf.voters.contains(&view.raft_id);
            // What is known to be committed goes before what may be.
            (votes, view.commit_index, view.last_index)
        })?;
        let lost = survivor.conf.voters.iter().filter(|id| self.is_lost(**id));
        let lost: BTreeSet<_> = lost.map(|id| id.node_id()).collect();
        Some(Halt {
            lost: lost.into_iter().collect(),
            voters: survivor.conf.voters.len(),
            survivor: survivor.raft_id.node_id(),
        })
    }

    /// Whether the process has surely ended, or has left this cluster for another one.
    fn is_lost(&self, voter: RaftId) -> bool {
        self.view(voter.node_id())
            .is_some_and(|view| view.raft_id != voter || !self.takes_part(view))
    }

    /// The process that the cluster knows the node by.
    pub(super) fn known_as(&self, node: NodeId) -> Option<RaftId> {
        let newest = self
            .parts()
            .max_by_key(|view| (view.applied_index, view.term));
        let voters = newest.map(|view| view.conf.voters.iter());
        let voter = voters.into_iter().flatten().find(|id| id.node_id() == node);
        voter
            .copied()
            .or(self.leader.filter(|leader| leader.node_id() == node))
    }
}

/// The cluster that runs: the one that the asked node takes part in or waits for, or else the one
/// that others take part in. A node that waits may wait for a cluster that is no more.
fn running_cluster(own: &NodeStatus, views: &BTreeMap<NodeId, NodeStatus>) -> Option<ClusterId> {
    let started = || {
        views
            .values()
            .filter(|view| view.state == NodeState::Started)
    };
    let others = || {
        started()
            .max_by_key(|view| (view.leader.is_some(), view.term))
            .and_then(|view| view.cluster_id)
    };
    match own.state {
        NodeState::Started => own.cluster_id,
        NodeState::Outside => own
            .cluster_id
            .filter(|id| started().any(|view| is_of(view, *id)))
            .or_else(others)
            .or(own.cluster_id),
        NodeState::Fresh | NodeState::Bound => others(),
    }
}

fn is_of(view: &NodeStatus, cluster: ClusterId) -> bool {
    view.cluster_id == Some(cluster)
}

/// Which part of `whole` is `some`, if the whole counts `share`. Of nothing, nothing.
fn part(some: LogIndex, whole: LogIndex, share: u64) -> u64 {
    let part = u128::from(some.min(whole)) * u128::from(share) / u128::from(whole.max(1));
    u64::try_from(part).unwrap_or(share)
}
