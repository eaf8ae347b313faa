//! The state of a cluster, and the operations that are safe in it: the one judgement, made from the
//! statuses that its members report at about the same moment.
//!
//! Healed, halted, the state of each member, whether a node may be added, removed, restarted or recovered
//! from: services, health, the command line and the simulation all ask here, so they cannot contradict
//! one another. Nothing here does I/O: a [`Survey`] holds the asked nodes and their answers, a
//! [`ClusterView`] is the cluster view that results.
//!
//! Answers contradict one another now and then: a node that was cut off still names a leader that has
//! been replaced. So the answer of the highest term is right about the leader, the voters and learners
//! are those that this leader has applied, and the running processes are those that answer. In doubt the
//! worse state is assumed, in both directions: an operator is never told to go on before it is safe, and
//! never told that all is lost while it is not.

mod change;
mod clocks;
mod elsewhere;
mod healed;
mod member_state;
mod paths;
mod phrases;
pub mod recovery;
mod single;
mod view;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{
    Answering, ClusterId, ClusterMembership, NodeId, NodeInfo, NodeState, NodeStatus,
};

pub use change::{costs_nothing, decides};
pub use elsewhere::Elsewhere;
pub use member_state::MemberState;
pub(crate) use phrases::{hung, nodes};
pub use single::{is_full_member, serves};
pub use view::ClusterView;
pub use words::State;

/// With fewer voters than this, the loss of one leaves no majority.
const CAN_LOSE_ONE: usize = 3;

/// Maximum number of members of a cluster. Each additional member costs every write another copy, and
/// nine survive four failures.
pub const MAX_MEMBERS: usize = 9;

/// The status that a node reported, or what answered at its address instead.
pub type Answer = Result<NodeStatus, Answering>;

/// The answers of the nodes that were asked.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Statuses of the nodes that answered.
    views: BTreeMap<NodeId, NodeStatus>,
    /// What answered at the addresses of the others.
    others: BTreeMap<NodeId, Answering>,
}

impl Answers {
    /// Records the answer of `node`. The status of another node means that the address is wrong.
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

    /// The same answers with the status `own` of the asking node.
    #[must_use]
    pub fn with(mut self, own: NodeStatus) -> Self {
        self.views.insert(own.raft_id.node_id(), own);
        self
    }

    /// The statuses of the nodes that answered.
    pub fn views(&self) -> impl Iterator<Item = &NodeStatus> {
        self.views.values()
    }

    /// What answered at the address of a node that did not answer itself.
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

/// All other nodes are silent.
impl From<BTreeMap<NodeId, NodeStatus>> for Answers {
    fn from(views: BTreeMap<NodeId, NodeStatus>) -> Self {
        let others = BTreeMap::new();
        Self { views, others }
    }
}

/// The result of a survey: the members of a cluster were asked for their status, at about the same moment.
#[derive(Debug, Clone)]
pub struct Survey {
    own: NodeId,
    members: Arc<ClusterMembership>,
    /// Includes the asking node's own status.
    answers: Answers,
}

impl Survey {
    /// A survey by the node with the status `own`, of `members` as it knows them. A member without an
    /// entry in `answers` has not answered.
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

    /// Takes into account that the node took part in `cluster` when it began to ask. If a recovery has
    /// replaced that cluster meanwhile, a node that answered as a part of the old one may have joined the
    /// new one since. Such an answer says nothing, and counts as none.
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

    /// A node that takes part in no cluster knows the members by its configuration, which may be out of
    /// date. If a cluster runs, the answering process that has applied most of its log determines the
    /// members. Their addresses come from `nodes`, as far as the node knows them.
    #[must_use]
    pub fn with_nodes(mut self, nodes: &ClusterMembership) -> Self {
        let takes_part = |view: &NodeStatus| view.state == NodeState::Started;
        if self.view(self.own).is_some_and(takes_part) {
            return self;
        }
        let cluster = ClusterView::new(&self).cluster();
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

    /// Whether the asking node, whose status now is `own`, is still in the state that it was in. If not,
    /// the survey is out of date.
    pub fn is_current(&self, own: &NodeStatus) -> bool {
        let position = |it: &NodeStatus| {
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
            .is_some_and(|then| position(then) == position(own) && then.conf == own.conf)
    }

    /// The members of the cluster, as far as the asking node knows.
    pub fn members(&self) -> &ClusterMembership {
        &self.members
    }

    /// The status of the node, if it answered.
    pub fn view(&self, node: NodeId) -> Option<&NodeStatus> {
        self.answers.views.get(&node)
    }

    /// The statuses of the nodes that answered.
    pub fn views(&self) -> impl Iterator<Item = &NodeStatus> {
        self.answers.views()
    }

    /// What answered at the address of a node that did not answer itself.
    fn answering(&self, node: NodeId) -> Answering {
        self.answers.answering(node)
    }
}

#[cfg(test)]
mod paths_tests;
#[cfg(test)]
mod tests;
