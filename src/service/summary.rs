//! What the views of single nodes say of the cluster as a whole, in numbers and in words.
//!
//! A pure function, [`describe`]. [`Picture`] judges, this module only tells.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::standing::{Chore, Halt, Picture, Standing};
use crate::proto::admin::{ClusterState, MemberRole, MemberStatus, StatusResponse};
use crate::types::{ClusterMembership, NodeId, NodeInfo, NodeState, NodeStatus, RaftId, Role};

/// With fewer members than this, the loss of one leaves no majority.
const CAN_LOSE_ONE: usize = 3;

/// Describes the cluster from what the asked node (`own`) and those that answered it say of
/// themselves.
pub(super) fn describe(
    own: &NodeStatus,
    membership: &ClusterMembership,
    others: BTreeMap<NodeId, NodeStatus>,
) -> StatusResponse {
    let mut views = others;
    views.insert(own.raft_id.node_id(), own.clone());
    let picture = Picture::new(own, membership, &views);
    let (state, summary) = sum_up(&picture, membership);
    StatusResponse {
        cluster_id: picture.cluster.or(own.cluster_id).map(|id| id.0),
        leader_id: picture.leader.map(|leader| leader.node_id().into()),
        term: own.term,
        state: state.into(),
        summary,
        healed: picture.is_healed(),
        answered_by: own.raft_id.node_id().into(),
        members: membership
            .iter()
            .map(|info| member(info, &picture))
            .collect(),
    }
}

fn member(info: &NodeInfo, picture: &Picture<'_>) -> MemberStatus {
    let known = MemberStatus {
        id: info.id.into(),
        addr: info.addr.clone(),
        client_addr: info.client_addr.clone(),
        ..MemberStatus::default()
    };
    let Some(view) = picture.view(info.id) else {
        return MemberStatus {
            raft_id: picture.known_as(info.id).map_or(0, RaftId::get),
            ..known
        };
    };
    let standing = picture.standing(info.id);
    MemberStatus {
        raft_id: view.raft_id.get(),
        role: role(view, standing).into(),
        term: view.term,
        commit_index: view.commit_index,
        applied_index: view.applied_index,
        keys: view.keys,
        reachable: true,
        joined_at: view.joined_at.and_then(timestamp),
        caught_up_percent: match standing {
            Standing::CatchingUp(percent) => Some(percent),
            _ => None,
        },
        ..known
    }
}

fn role(view: &NodeStatus, standing: Standing) -> MemberRole {
    match (standing, view.state, view.role) {
        (Standing::Silent, _, _) => MemberRole::Unspecified,
        (Standing::Forming, _, _) => MemberRole::Forming,
        (Standing::Elsewhere, _, _) => MemberRole::Outside,
        (_, NodeState::Fresh | NodeState::Outside, _) => MemberRole::Outside,
        (_, _, None) => MemberRole::Forming,
        (_, _, Some(Role::Learner)) => MemberRole::Learner,
        (_, _, Some(Role::Follower)) => MemberRole::Follower,
        (_, _, Some(Role::PreCandidate | Role::Candidate)) => MemberRole::Candidate,
        (_, _, Some(Role::Leader)) => MemberRole::Leader,
    }
}

fn timestamp(at: SystemTime) -> Option<prost_types::Timestamp> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: i32::try_from(since.subsec_nanos()).ok()?,
    })
}

fn sum_up(picture: &Picture<'_>, membership: &ClusterMembership) -> (ClusterState, String) {
    if picture.cluster.is_none() {
        return (ClusterState::Forming, forming(picture, membership));
    }
    if let Some(halt) = picture.halt() {
        return (ClusterState::Halted, halted(&halt));
    }
    let those = |standing| -> Vec<NodeId> {
        let those = membership.ids();
        those
            .filter(|id| picture.standing(*id) == standing)
            .collect()
    };
    let absent = [
        troubled(&those(Standing::Silent), "does not answer", "do not answer"),
        troubled(
            &those(Standing::Elsewhere),
            "belongs to another cluster",
            "belong to another cluster",
        ),
    ];
    let absent: Vec<_> = absent.into_iter().flatten().collect();
    let steps = steps(picture, membership);
    let chores = chores(picture, absent.is_empty() && steps.is_empty());
    let all = [absent.as_slice(), &steps, &chores].concat().join("; ");
    if picture.leader.is_none() {
        let summary = match all.is_empty() {
            true => "no quorum: no leader yet, an election is under way".to_owned(),
            false => format!("no quorum: {all}"),
        };
        return (ClusterState::NoQuorum, summary);
    }
    if !absent.is_empty() {
        return (ClusterState::Degraded, format!("degraded: {all}"));
    }
    if picture.is_healed() {
        return (ClusterState::Healthy, healed(membership.len()));
    }
    let summary = match (steps.is_empty(), chores.is_empty()) {
        (false, _) => format!("healing {all}"),
        (true, false) => format!("healing: {all}"),
        (true, true) => "healing: the leader has just been elected".to_owned(),
    };
    (ClusterState::Healing, summary)
}

fn healed(members: usize) -> String {
    let healed = "healthy: every member takes part".to_owned();
    match members {
        CAN_LOSE_ONE.. => healed + ", and the cluster may lose any one of them",
        _ => healed,
    }
}

fn forming(picture: &Picture<'_>, membership: &ClusterMembership) -> String {
    let (here, missing): (Vec<_>, Vec<_>) =
        membership.ids().partition(|id| picture.view(*id).is_some());
    if missing.is_empty() {
        return "forming: every initial member is there, the cluster is about to start".to_owned();
    }
    let waiting = format!("forming: waiting for {}", nodes(&missing));
    if here.len() <= missing.len() {
        return waiting;
    }
    let ids: Vec<_> = missing.iter().map(NodeId::to_string).collect();
    let whom = if ids.len() == 1 { "it" } else { "them" };
    format!(
        "{waiting} (to form without {whom}: seshat form --without {})",
        ids.join(",")
    )
}

fn halted(halt: &Halt) -> String {
    let Halt {
        lost,
        voters,
        survivor,
    } = halt;
    format!(
        "halted: {} of {voters} lost their memory ({}); what node {survivor} still has can be \
         recovered: seshat recover --from {survivor}",
        lost.len(),
        nodes(lost)
    )
}

/// What is being done to whom of the living members.
fn steps(picture: &Picture<'_>, membership: &ClusterMembership) -> Vec<String> {
    let step = |id: NodeId| {
        let what = match picture.standing(id) {
            Standing::Silent | Standing::Elsewhere | Standing::Whole => return None,
            Standing::Forming => "has not started yet".to_owned(),
            Standing::Waiting => "waits to be let in".to_owned(),
            Standing::CatchingUp(percent) => format!("catching up {percent} %"),
            Standing::BecomingVoter => "being made a voter".to_owned(),
            Standing::Leaderless => {
                format!("does not follow node {} yet", picture.leader?.node_id())
            }
        };
        Some(format!("node {id}: {what}"))
    };
    membership.ids().filter_map(step).collect()
}

/// What else the leader is about to do. That not everybody knows of the last change goes without
/// saying unless it is all that is left.
fn chores(picture: &Picture<'_>, all_that_is_left: bool) -> Vec<String> {
    let chore = |chore| match chore {
        Chore::LetIn(id) => Some(format!("letting node {id} in")),
        Chore::Remove(id) => Some(format!("removing node {id}")),
        Chore::Forget(id) => Some(format!("removing a former life of node {id}")),
        Chore::MakeKnown => {
            all_that_is_left.then(|| "every voter is being told who the others are".to_owned())
        }
    };
    picture.chores().into_iter().filter_map(chore).collect()
}

fn troubled(those: &[NodeId], one: &str, many: &str) -> Option<String> {
    match those {
        [] => None,
        [_] => Some(format!("{} {one}", nodes(those))),
        _ => Some(format!("{} {many}", nodes(those))),
    }
}

/// `node 3`, `nodes 2 and 3`, `nodes 1, 2 and 3`.
fn nodes(ids: &[NodeId]) -> String {
    match ids {
        [] => "no node".to_owned(),
        [one] => format!("node {one}"),
        [all @ .., last] => {
            let all: Vec<_> = all.iter().map(NodeId::to_string).collect();
            format!("nodes {} and {last}", all.join(", "))
        }
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
