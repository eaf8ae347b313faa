//! What a node tells the operator, judged as its services judge it: by the one room that judges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use seshat::cluster::recovery::{Order, Way, known};
use seshat::cluster::{Picture, Standing, Survey, costs_nothing};
use seshat::error::Refusal;
use seshat::kv::Command;
use seshat::types::{ClusterId, ClusterMembership, NodeId, NodeStatus, RaftId};

/// What status shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) asked: NodeId,
    /// What it says in a sentence.
    #[expect(dead_code, reason = "shown in the trace")]
    words: String,
    pub(super) healthy: bool,
    pub(super) forming: bool,
    /// The cluster that runs, as far as the asked node knows.
    pub(super) cluster: Option<ClusterId>,
    pub(super) leader: Option<NodeId>,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) silent: BTreeSet<NodeId>,
    pub(super) elsewhere: Vec<NodeId>,
    /// Nodes that hold up a new cluster, and have nothing of an old one.
    pub(super) left_over: Vec<NodeId>,
    /// How a halted cluster is to be recovered.
    pub(super) way: Option<Way>,
}

fn survey(
    own: &NodeStatus,
    members: &Arc<ClusterMembership>,
    others: &BTreeMap<NodeId, NodeStatus>,
    begun_in: Option<ClusterId>,
) -> Survey {
    let answers = others.iter().map(|(node, view)| (*node, Ok(view.clone())));
    Survey::new(own.clone(), Arc::clone(members), answers).begun_in(begun_in)
}

/// What the asked node shows, which says `own` of itself and has heard the others; it took part in the
/// cluster `begun_in` when it began to ask.
pub(super) fn look(
    own: &NodeStatus,
    members: &Arc<ClusterMembership>,
    others: &BTreeMap<NodeId, NodeStatus>,
    begun_in: Option<ClusterId>,
) -> View {
    let survey = survey(own, members, others, begun_in);
    let picture = Picture::new(&survey);
    let those = |which: fn(Standing) -> bool| -> Vec<NodeId> {
        let ids = members.ids();
        ids.filter(|id| which(picture.standing(*id))).collect()
    };
    View {
        asked: own.raft_id.node_id(),
        words: picture.sum_up().1,
        healthy: picture.is_healed(),
        forming: picture.cluster().is_none(),
        cluster: picture.cluster(),
        leader: picture.leader().map(RaftId::node_id),
        members: members.ids().collect(),
        silent: those(|it| matches!(it, Standing::Absent(_)))
            .into_iter()
            .collect(),
        elsewhere: those(|it| it == Standing::Elsewhere),
        left_over: picture.left_over(),
        way: picture.halt(),
    }
}

/// Whether status says that any one member may be restarted.
pub(crate) fn is_healed(
    own: &NodeStatus,
    members: &Arc<ClusterMembership>,
    views: &BTreeMap<NodeId, NodeStatus>,
) -> bool {
    Picture::new(&survey(own, members, views, own.cluster_id)).is_healed()
}

/// Whether the asked node may put the change into the log.
pub(super) fn may_change(
    own: &NodeStatus,
    members: &Arc<ClusterMembership>,
    others: &BTreeMap<NodeId, NodeStatus>,
    begun_in: Option<ClusterId>,
    command: &Command,
) -> Result<(), Refusal> {
    let survey = survey(own, members, others, begun_in);
    match command {
        Command::AddMember(info) => survey.may_add(info),
        Command::RemoveMember(id) => {
            survey.may_remove(*id)?;
            // The operator does not accept that nobody is left to spare.
            costs_nothing(members, *id)
        }
        Command::Write { .. } | Command::OpenSession(_) | Command::RaiseLevel(_) => Ok(()),
    }
}
