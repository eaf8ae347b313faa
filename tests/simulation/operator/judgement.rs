//! What a node tells the operator, judged as its services judge it.

use std::collections::{BTreeMap, BTreeSet};

use seshat::cluster::recovery::{Obstacle, Survey};
use seshat::kv::Command;
use seshat::types::{ClusterMembership, LogIndex, NodeId, NodeState, NodeStatus, RaftId, Role};

#[path = "../../../src/service/standing.rs"]
#[allow(dead_code)]
mod standing;

pub(super) use seshat::cluster::recovery::{Order, Way, known};
use standing::{Picture, Standing};

/// What status shows.
#[derive(Debug)]
pub(super) struct View {
    pub(super) asked: NodeId,
    pub(super) healthy: bool,
    pub(super) forming: bool,
    pub(super) leader: Option<NodeId>,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) silent: BTreeSet<NodeId>,
    pub(super) elsewhere: Vec<NodeId>,
    pub(super) way: Option<Way>,
}

pub(super) fn look(
    own: &NodeStatus,
    membership: &ClusterMembership,
    others: BTreeMap<NodeId, NodeStatus>,
) -> View {
    let mut views = others;
    views.insert(own.raft_id.node_id(), own.clone());
    let picture = Picture::new(own, membership, &views);
    let those = |standing| -> Vec<NodeId> {
        let ids = membership.ids();
        ids.filter(|id| picture.standing(*id) == standing).collect()
    };
    let way = picture
        .cluster
        .and_then(|cluster| Survey::new(cluster, &views).way().ok())
        .filter(|way| way.halted);
    View {
        asked: own.raft_id.node_id(),
        healthy: picture.is_healed() && membership.len() >= 3,
        forming: picture.cluster.is_none(),
        leader: picture.leader.map(RaftId::node_id),
        members: membership.ids().collect(),
        silent: those(Standing::Silent).into_iter().collect(),
        elsewhere: those(Standing::Elsewhere),
        way,
    }
}

pub(crate) fn is_healed(
    own: &NodeStatus,
    membership: &ClusterMembership,
    views: &BTreeMap<NodeId, NodeStatus>,
) -> bool {
    Picture::new(own, membership, views).is_healed()
}

const CAUGHT_UP_SLACK: LogIndex = 64;

pub(super) fn may_change(
    own: &NodeStatus,
    members: &ClusterMembership,
    others: &BTreeMap<NodeId, NodeStatus>,
    command: &Command,
) -> Result<(), String> {
    if own.role != Some(Role::Leader) {
        return Err("does not lead".to_owned());
    }
    let conf = &own.conf;
    let besides = match command {
        Command::RemoveMember(id) => Some(*id),
        Command::AddMember(_) if own.members_known => None,
        _ => return Err("not finished".to_owned()),
    };
    let counts = |node: &NodeId| Some(*node) != besides;
    let voters: BTreeSet<_> = conf.voters.iter().map(|id| id.node_id()).collect();
    let ids: BTreeSet<RaftId> = conf.voters.iter().copied().collect();
    let learning = conf
        .learners
        .iter()
        .map(|id| id.node_id())
        .any(|it| counts(&it));
    let missing = members.ids().any(|it| !voters.contains(&it) && counts(&it));
    let leaving = voters.iter().any(|it| !members.contains(*it) && counts(it));
    let ignorant = others.iter().any(|(node, view)| {
        let theirs: BTreeSet<RaftId> = view.conf.voters.iter().copied().collect();
        counts(node) && ids.contains(&view.raft_id) && theirs != ids
    });
    if learning || missing || leaving || ignorant {
        return Err("an earlier change is not finished".to_owned());
    }
    let Command::RemoveMember(id) = command else {
        return Ok(());
    };
    let left: Vec<_> = members.ids().filter(|left| left != id).collect();
    let able = |member: &&NodeId| {
        **member == own.raft_id.node_id()
            || others.get(member).is_some_and(|view| {
                view.state == NodeState::Started
                    && view.cluster_id == own.cluster_id
                    && ids.contains(&view.raft_id)
                    && view.last_index + CAUGHT_UP_SLACK >= own.commit_index
            })
    };
    match members.contains(*id) && left.iter().filter(able).count() > left.len() / 2 {
        true => Ok(()),
        false => Err("no majority".to_owned()),
    }
}

/// Whether the asked node may carry out the order.
pub(super) fn may_recover(
    own: &NodeStatus,
    mut views: BTreeMap<NodeId, NodeStatus>,
    order: &Order,
) -> Result<Way, Obstacle> {
    let me = own.raft_id.node_id();
    views.insert(me, own.clone());
    Survey::new(order.cluster_id, &views).may_recover(me, order)
}
