//! The cluster view: the running cluster and its leader, derived from answers that may contradict one
//! another.

use super::Survey;
use super::recovery::{self, Obstacle, Way};
use crate::types::{ClusterId, NodeId, NodeState, NodeStatus, ProtocolLevel, RaftId, Role};

/// The view of a cluster that results from the answers of its members.
#[derive(Debug)]
pub struct ClusterView<'a> {
    pub(super) survey: &'a Survey,
    pub(super) cluster: Option<ClusterId>,
    pub(super) leader: Option<RaftId>,
}

impl<'a> ClusterView<'a> {
    /// The view that `survey` gives.
    pub fn new(survey: &'a Survey) -> Self {
        let mut cluster_view = Self {
            survey,
            cluster: running_cluster(survey),
            leader: None,
        };
        cluster_view.leader = cluster_view.find_leader();
        cluster_view
    }

    /// The running cluster. `None` while one forms.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Its leader.
    pub fn leader(&self) -> Option<RaftId> {
        self.leader
    }

    /// The status of the node, if it answers.
    pub fn view(&self, node: NodeId) -> Option<&'a NodeStatus> {
        self.survey.view(node)
    }

    /// The answering processes that take part in the running cluster.
    pub(super) fn parts(&self) -> impl Iterator<Item = &'a NodeStatus> {
        self.survey.views().filter(|view| self.takes_part(view))
    }

    pub(super) fn takes_part(&self, view: &NodeStatus) -> bool {
        view.state == NodeState::Started && self.cluster.is_some_and(|id| is_of(view, id))
    }

    /// The leader according to the answer of the highest term, and of two such answers according to the
    /// leader's own. `None` if another incarnation answers at the leader's address, or the leader says
    /// that it no longer leads.
    fn find_leader(&self) -> Option<RaftId> {
        let named = self
            .parts()
            .filter(|view| view.leader.is_some())
            .max_by_key(|view| (view.term, view.role == Some(Role::Leader)))?;
        let leader = named.leader?;
        let leads = self.view(leader.node_id()).is_none_or(|view| {
            // A candidate may have been elected since it answered.
            let may_lead = matches!(view.role, Some(Role::Leader | Role::Candidate));
            view.raft_id == leader && (may_lead || view.term < named.term)
        });
        leads.then_some(leader)
    }

    /// The leader's own status, if it answers and knows that it leads.
    pub(super) fn leader_view(&self) -> Option<&'a NodeStatus> {
        self.leader
            .and_then(|leader| self.view(leader.node_id()))
            .filter(|view| self.takes_part(view) && view.role == Some(Role::Leader))
    }

    /// How the cluster can be recovered, if no leader can ever be elected again, even if all silent nodes
    /// came back.
    pub fn halt(&self) -> Option<Way> {
        self.way()?.ok().filter(|way| way.halted)
    }

    /// The nodes to restart because nothing is left of their cluster: they had been added to it and had
    /// received nothing yet when all others lost their memory. While they wait for it, no new cluster
    /// forms. Empty unless every member answers.
    pub fn left_over(&self) -> Vec<NodeId> {
        let nothing = matches!(self.way(), Some(Err(Obstacle::Nothing)));
        let mut members = self.survey.members().ids();
        match nothing && members.all(|id| self.view(id).is_some()) {
            true => self.parts().map(|view| view.raft_id.node_id()).collect(),
            false => Vec::new(),
        }
    }

    /// How the cluster can be recovered, or why not. `None` while it has a leader.
    pub(super) fn way(&self) -> Option<Result<Way, Obstacle>> {
        let cluster = self.cluster.filter(|_| self.leader.is_none())?;
        Some(recovery::Remains::new(cluster, &self.survey.answers).way())
    }

    /// The protocol level of the running cluster.
    pub(super) fn level(&self) -> ProtocolLevel {
        let levels = self.parts().map(|view| view.cluster_level);
        levels.max().unwrap_or_default()
    }

    /// The statuses of the answering members.
    pub(super) fn members_views(&self) -> impl Iterator<Item = &'a NodeStatus> {
        let members = self.survey.members().ids();
        members.filter_map(|id| self.view(id))
    }

    /// The process that the cluster knows as the current incarnation of the node.
    pub fn known_as(&self, node: NodeId) -> Option<RaftId> {
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

/// The running cluster: the one that the asking node takes part in or waits for, or else the one that
/// others take part in. A waiting node may wait for a cluster that no longer exists.
fn running_cluster(survey: &Survey) -> Option<ClusterId> {
    let own = survey.view(survey.own())?;
    let started = || {
        survey
            .views()
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
        NodeState::Fresh | NodeState::Prepared => others(),
    }
}

pub(super) fn is_of(view: &NodeStatus, cluster: ClusterId) -> bool {
    view.cluster_id == Some(cluster)
}
