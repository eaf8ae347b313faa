//! What state a cluster is in, and what may be done to it: the one judgement, made from what its
//! members say of themselves at about the same moment.
//!
//! Healed, halted, who stands where, whether a node may be added, removed, restarted or recovered
//! from: services, health, the command line and the simulation all ask here, so they cannot
//! contradict one another. Nothing here asks anybody anything: a [`Survey`] holds who was asked and
//! what came back, a [`Picture`] is what that shows.
//!
//! Answers contradict one another now and then: a node that was cut off still names a leader that has
//! been replaced. So the answer of the highest term is right about who leads, who takes part is what
//! that leader has applied, and who lives is what answers. Where that leaves a doubt, the worse is
//! assumed: nobody is told to go on before it is safe, and nobody is told that all is over while it
//! is not.

mod change;
mod elsewhere;
mod healed;
mod paths;
mod picture;
pub mod recovery;
mod single;
mod standing;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{
    Answering, ClusterId, ClusterMembership, NodeId, NodeInfo, NodeState, NodeStatus,
};

pub use change::{costs_nothing, decides};
pub use elsewhere::Elsewhere;
pub use picture::Picture;
pub use single::{is_full_member, serves};
pub use standing::Standing;
pub use words::State;
pub(crate) use words::{hung, nodes};

/// With fewer voters than this, no majority is left when one of them is lost.
const CAN_LOSE_ONE: usize = 3;

/// Most members that a cluster may have. Each one more costs every write another copy, and nine
/// survive four failures.
pub const MAX_MEMBERS: usize = 9;

/// What a node said of itself, or what answered in its place.
pub type Answer = Result<NodeStatus, Answering>;

/// Who has answered what, of those who were asked.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// What nodes say of themselves.
    views: BTreeMap<NodeId, NodeStatus>,
    /// What answers in place of those who do not.
    others: BTreeMap<NodeId, Answering>,
}

impl Answers {
    /// `node` has answered so. A status of another node than the one that was asked says that the
    /// address is wrong.
    fn insert(&mut self, node: NodeId, answer: Answer) {
        match answer {
            Ok(view) if view.raft_id.node_id() == node => {
                self.views.insert(node, view);
            }
            Ok(view) => {
                let other = Answering::OtherNode(view.raft_id.node_id());
                self.others.insert(node, other);
            }
            Err(answering) => {
                self.others.insert(node, answering);
            }
        }
    }

    /// The same with what the asking node says `own` of itself.
    #[must_use]
    pub fn with(mut self, own: NodeStatus) -> Self {
        self.views.insert(own.raft_id.node_id(), own);
        self
    }

    /// What the nodes that answer say of themselves.
    pub fn views(&self) -> impl Iterator<Item = &NodeStatus> {
        self.views.values()
    }

    /// What answers in place of a node that does not.
    fn answering(&self, node: NodeId) -> Answering {
        let answering = self.others.get(&node).copied();
        answering.unwrap_or(Answering::Silent)
    }
}

impl FromIterator<(NodeId, Answer)> for Answers {
    fn from_iter<I: IntoIterator<Item = (NodeId, Answer)>>(answers: I) -> Self {
        let mut all = Self::default();
        for (node, answer) in answers {
            all.insert(node, answer);
        }
        all
    }
}

/// Everybody else is silent.
impl From<BTreeMap<NodeId, NodeStatus>> for Answers {
    fn from(views: BTreeMap<NodeId, NodeStatus>) -> Self {
        let others = BTreeMap::new();
        Self { views, others }
    }
}

/// What came back when the members of a cluster were asked, at about the same moment, how they are.
#[derive(Debug, Clone)]
pub struct Survey {
    own: NodeId,
    members: Arc<ClusterMembership>,
    /// The asking node's own among them.
    answers: Answers,
}

impl Survey {
    /// A survey by the node that says `own` of itself, of `members` as it knows them. Whoever is
    /// missing in `answers` has not answered.
    pub fn new(
        own: NodeStatus,
        members: Arc<ClusterMembership>,
        answers: impl IntoIterator<Item = (NodeId, Answer)>,
    ) -> Self {
        Self {
            own: own.raft_id.node_id(),
            members,
            answers: answers.into_iter().collect::<Answers>().with(own),
        }
    }

    /// The node took part in `cluster` when it began to ask. If a recovery has made another of that
    /// meanwhile, whoever answered as a part of the former may have joined the new one since: such an
    /// answer says nothing, and counts as none.
    #[must_use]
    pub fn begun_in(mut self, cluster: Option<ClusterId>) -> Self {
        let now = self.view(self.own).and_then(|own| own.cluster_id);
        if cluster.is_some() && cluster != now {
            self.answers
                .views
                .retain(|node, view| *node == self.own || view.cluster_id != cluster);
        }
        self
    }

    /// A node that takes part in nothing knows the members by its configuration, which may be out of
    /// date. Where a cluster runs, whoever has applied most of it says who they are, and `nodes` where
    /// they are, as far as the node knows.
    #[must_use]
    pub fn with_nodes(mut self, nodes: &ClusterMembership) -> Self {
        let takes_part = |view: &NodeStatus| view.state == NodeState::Started;
        if self.view(self.own).is_some_and(takes_part) {
            return self;
        }
        let cluster = Picture::new(&self).cluster();
        let parts = self.views().filter(|view| {
            takes_part(view) && view.cluster_id == cluster && !view.conf.members.is_empty()
        });
        let best = parts.max_by_key(|view| (view.applied_index, view.term));
        if let Some(conf) = best.map(|view| Arc::clone(&view.conf)) {
            let known = |id: NodeId| nodes.get(id).or_else(|| self.members.get(id)).cloned();
            let at = |id: &NodeId| known(*id).unwrap_or_else(|| NodeInfo::nowhere(*id));
            self.members = Arc::new(conf.members.iter().map(at).collect());
        }
        self
    }

    /// The node that asked.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Whether the node that asked still stands where it stood, now that it says `own` of itself. If
    /// not, the survey tells of the past.
    pub fn is_current(&self, own: &NodeStatus) -> bool {
        let place = |it: &NodeStatus| {
            (
                it.raft_id,
                it.state,
                it.cluster_id,
                it.role,
                it.leader,
                it.term,
            )
        };
        self.view(self.own)
            .is_some_and(|then| place(then) == place(own) && then.conf == own.conf)
    }

    /// The members of the cluster, as far as the node that asked knows.
    pub fn members(&self) -> &ClusterMembership {
        &self.members
    }

    /// What the node says of itself, if it answers.
    pub fn view(&self, node: NodeId) -> Option<&NodeStatus> {
        self.answers.views.get(&node)
    }

    /// What the nodes that answer say of themselves.
    pub fn views(&self) -> impl Iterator<Item = &NodeStatus> {
        self.answers.views()
    }

    /// What answers in place of a node that does not.
    fn answering(&self, node: NodeId) -> Answering {
        self.answers.answering(node)
    }
}

#[cfg(test)]
mod paths_tests;
#[cfg(test)]
mod tests;
