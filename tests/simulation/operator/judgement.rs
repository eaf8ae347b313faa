//! The status and the refusals that a node gives the operator, by the same judgement as its services:
//! `seshat::cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use seshat::cluster::recovery::{Order, Way, known};
use seshat::cluster::{Answer, ClusterView, MemberState, Survey, costs_nothing};
use seshat::error::Refusal;
use seshat::kv::Command;
use seshat::node::Replica;
use seshat::types::{Answering, ClusterId, ClusterMembership, NodeId, NodeStatus, RaftId};

/// The content of a status.
#[derive(Debug)]
pub(super) struct View {
    pub(super) asked: NodeId,
    /// Its summary.
    #[expect(dead_code, reason = "shown in the trace")]
    words: String,
    pub(super) healthy: bool,
    pub(super) forming: bool,
    /// The running cluster, as far as the asked node knows.
    pub(super) cluster: Option<ClusterId>,
    pub(super) leader: Option<NodeId>,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) silent: BTreeSet<NodeId>,
    /// Those of them that nothing answers for, so that they may be gone.
    pub(super) gone: BTreeSet<NodeId>,
    pub(super) elsewhere: Vec<NodeId>,
    /// Nodes with an older version than the cluster accepts.
    pub(super) old: Vec<NodeId>,
    /// Nodes that block a new cluster, and have no state of an old one.
    pub(super) left_over: Vec<NodeId>,
    /// A node whose file names other initial members than that of another one.
    pub(super) differ: Option<(NodeId, NodeId)>,
    /// The recovery of a halted cluster.
    pub(super) way: Option<Way>,
}

/// The finding of `asked`, which has heard these `answers` and took part in the cluster `begun_in` when
/// it began to ask.
pub(super) fn survey<W>(
    asked: &Replica<W>,
    answers: BTreeMap<NodeId, Answer>,
    begun_in: Option<ClusterId>,
) -> Survey {
    Survey::new(asked.status(), Arc::clone(asked.members()), answers)
        .begun_in(begun_in)
        .with_nodes(asked.nodes())
}

/// The status that `survey` gives.
pub(super) fn look(survey: &Survey) -> View {
    let cluster_view = ClusterView::new(survey);
    let members = survey.members();
    let those = |which: fn(MemberState) -> bool| -> Vec<NodeId> {
        let ids = members.ids();
        ids.filter(|id| which(cluster_view.member_state(*id)))
            .collect()
    };
    View {
        asked: survey.own(),
        words: cluster_view.sum_up().1,
        healthy: cluster_view.is_healed(),
        forming: cluster_view.cluster().is_none(),
        cluster: cluster_view.cluster(),
        leader: cluster_view.leader().map(RaftId::node_id),
        members: members.ids().collect(),
        silent: those(|it| matches!(it, MemberState::Absent(_)))
            .into_iter()
            .collect(),
        gone: those(|it| it == MemberState::Absent(Answering::Silent))
            .into_iter()
            .collect(),
        elsewhere: those(|it| it == MemberState::Elsewhere),
        old: those(|it| it == MemberState::TooOld),
        left_over: cluster_view.left_over(),
        differ: survey
            .views()
            .find_map(|view| Some((view.raft_id.node_id(), view.differs_from?))),
        way: cluster_view.halt(),
    }
}

/// Whether status allows to restart any one member.
pub(crate) fn is_healed(
    own: &NodeStatus,
    members: &Arc<ClusterMembership>,
    views: &BTreeMap<NodeId, NodeStatus>,
) -> bool {
    let answers = views.iter().map(|(node, view)| (*node, Ok(view.clone())));
    ClusterView::new(&Survey::new(own.clone(), Arc::clone(members), answers)).is_healed()
}

/// Whether the asked node may put the change into the log, given `survey`.
pub(super) fn may_change(survey: &Survey, command: &Command) -> Result<(), Refusal> {
    match command {
        Command::AddMember(info) => survey.may_add(info),
        Command::RemoveMember(id) => {
            survey.may_remove(*id)?;
            // The operator refuses a cluster that can lose no member.
            costs_nothing(survey.members(), *id)
        }
        _ => Ok(()),
    }
}
