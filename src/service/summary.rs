//! What the views of single nodes say of the cluster as a whole.
//!
//! A pure function, [`describe`]. Views contradict one another now and then: a node that was cut off
//! still names a leader that has been replaced. The view of the highest term is right about who
//! leads, and only members of the same cluster are asked.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::proto::admin::{ClusterState, MemberRole, MemberStatus, StatusResponse};
use crate::types::{
    ClusterId, ClusterMembership, NodeId, NodeInfo, NodeState, NodeStatus, RaftId, Role,
};

/// Describes the cluster from what the asked node (`own`) and those that answered it say of
/// themselves.
pub(super) fn describe(
    own: &NodeStatus,
    membership: &ClusterMembership,
    others: BTreeMap<NodeId, NodeStatus>,
) -> StatusResponse {
    let mut views = others;
    views.insert(own.raft_id.node_id(), own.clone());
    let cluster = running_cluster(own, &views);
    let leader = cluster.and_then(|cluster| leader(cluster, &views));
    let standings: BTreeMap<_, _> = membership
        .iter()
        .map(|info| (info.id, standing(views.get(&info.id), cluster, leader)))
        .collect();
    let (state, summary) = sum_up(&standings, cluster, leader);
    StatusResponse {
        cluster_id: cluster.or(own.cluster_id).map(|id| id.0),
        leader_id: leader.map(|leader| leader.node_id().into()),
        term: own.term,
        state: state.into(),
        summary,
        healed: false,
        answered_by: own.raft_id.node_id().into(),
        members: membership
            .iter()
            .map(|info| member(info, views.get(&info.id), cluster, leader))
            .collect(),
    }
}

/// The cluster that runs: the one that the asked node belongs to, or else the one that others do.
fn running_cluster(own: &NodeStatus, views: &BTreeMap<NodeId, NodeStatus>) -> Option<ClusterId> {
    match own.state {
        NodeState::Started | NodeState::Outside => own.cluster_id,
        NodeState::Fresh | NodeState::Bound => views
            .values()
            .filter(|view| view.state == NodeState::Started)
            .max_by_key(|view| view.term)
            .and_then(|view| view.cluster_id),
    }
}

fn takes_part(view: &NodeStatus, cluster: ClusterId) -> bool {
    view.state == NodeState::Started && view.cluster_id == Some(cluster)
}

/// Who leads, as the view of the highest term has it; of two such views, the leader's own.
fn leader(cluster: ClusterId, views: &BTreeMap<NodeId, NodeStatus>) -> Option<RaftId> {
    views
        .values()
        .filter(|view| takes_part(view, cluster) && view.leader.is_some())
        .max_by_key(|view| (view.term, view.role == Some(Role::Leader)))
        .and_then(|view| view.leader)
}

/// How a member stands to the running cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Silent,
    /// Runs, but has not found its cluster yet, or waits for its start.
    Forming,
    /// Has lost its memory.
    Outside,
    /// Runs in another cluster.
    Elsewhere,
    CatchingUp,
    /// Takes part but does not follow the leader, or there is none.
    Leaderless,
    Whole,
}

fn standing(
    view: Option<&NodeStatus>,
    cluster: Option<ClusterId>,
    leader: Option<RaftId>,
) -> Standing {
    let Some(view) = view else {
        return Standing::Silent;
    };
    let Some(cluster) = cluster else {
        return Standing::Forming;
    };
    let same = view.cluster_id == Some(cluster);
    match view.state {
        NodeState::Outside | NodeState::Fresh => Standing::Outside,
        NodeState::Bound | NodeState::Started if !same => Standing::Elsewhere,
        NodeState::Bound => Standing::Forming,
        NodeState::Started if view.role == Some(Role::Learner) => Standing::CatchingUp,
        NodeState::Started if leader.is_none() || view.leader != leader => Standing::Leaderless,
        NodeState::Started => Standing::Whole,
    }
}

fn role(view: &NodeStatus, standing: Standing) -> MemberRole {
    match (standing, view.role) {
        (Standing::Silent, _) => MemberRole::Unspecified,
        (Standing::Outside | Standing::Elsewhere, _) => MemberRole::Outside,
        (Standing::Forming, _) | (_, None) => MemberRole::Forming,
        (_, Some(Role::Learner)) => MemberRole::Learner,
        (_, Some(Role::Follower)) => MemberRole::Follower,
        (_, Some(Role::PreCandidate | Role::Candidate)) => MemberRole::Candidate,
        (_, Some(Role::Leader)) => MemberRole::Leader,
    }
}

fn member(
    info: &NodeInfo,
    view: Option<&NodeStatus>,
    cluster: Option<ClusterId>,
    leader: Option<RaftId>,
) -> MemberStatus {
    let known = MemberStatus {
        id: info.id.into(),
        addr: info.addr.clone(),
        client_addr: info.client_addr.clone(),
        ..MemberStatus::default()
    };
    let Some(view) = view else {
        let raft_id = leader.filter(|leader| leader.node_id() == info.id);
        return MemberStatus {
            raft_id: raft_id.map_or(0, RaftId::get),
            ..known
        };
    };
    MemberStatus {
        raft_id: view.raft_id.get(),
        role: role(view, standing(Some(view), cluster, leader)).into(),
        term: view.term,
        commit_index: view.commit_index,
        applied_index: view.applied_index,
        keys: view.keys,
        reachable: true,
        joined_at: view.joined_at.and_then(timestamp),
        ..known
    }
}

fn timestamp(at: SystemTime) -> Option<prost_types::Timestamp> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: i32::try_from(since.subsec_nanos()).ok()?,
    })
}

fn sum_up(
    standings: &BTreeMap<NodeId, Standing>,
    cluster: Option<ClusterId>,
    leader: Option<RaftId>,
) -> (ClusterState, String) {
    let those = |standing| -> Vec<NodeId> {
        let those = standings.iter().filter(|(_, other)| **other == standing);
        those.map(|(id, _)| *id).collect()
    };
    if cluster.is_none() {
        let silent = those(Standing::Silent);
        let summary = match silent.is_empty() {
            true => {
                "forming: every initial member is there, the cluster is about to start".to_owned()
            }
            false => format!("forming: waiting for {}", nodes(&silent)),
        };
        return (ClusterState::Forming, summary);
    }
    let mut troubles = Vec::new();
    let mut trouble = |standing, one: &str, many: &str| {
        let those = those(standing);
        match those.as_slice() {
            [] => {}
            [_] => troubles.push(format!("{} {one}", nodes(&those))),
            _ => troubles.push(format!("{} {many}", nodes(&those))),
        }
    };
    trouble(Standing::Silent, "does not answer", "do not answer");
    trouble(
        Standing::Outside,
        "was started again without its memory and waits to be taken back",
        "were started again without their memory and wait to be taken back",
    );
    trouble(
        Standing::Elsewhere,
        "belongs to another cluster",
        "belong to another cluster",
    );
    trouble(
        Standing::Forming,
        "has not started yet",
        "have not started yet",
    );
    trouble(Standing::CatchingUp, "is catching up", "are catching up");
    let Some(leader) = leader else {
        let summary = match troubles.is_empty() {
            true => "no quorum: no leader yet, an election is under way".to_owned(),
            false => format!("no quorum: {}", troubles.join("; ")),
        };
        return (ClusterState::NoQuorum, summary);
    };
    let leader = leader.node_id();
    trouble(
        Standing::Leaderless,
        &format!("does not follow node {leader} yet"),
        &format!("do not follow node {leader} yet"),
    );
    match troubles.is_empty() {
        true => (
            ClusterState::Healthy,
            format!("healthy: node {leader} leads {} members", standings.len()),
        ),
        false => (
            ClusterState::Degraded,
            format!("degraded: {}", troubles.join("; ")),
        ),
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
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn raft_id(id: u16) -> RaftId {
        RaftId::new(node(id), 0xabc)
    }

    /// Takes part in the cluster in term 3 and follows node 2, or is node 2.
    fn view(id: u16) -> NodeStatus {
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(CLUSTER),
            role: Some(if id == 2 {
                Role::Leader
            } else {
                Role::Follower
            }),
            term: 3,
            leader: Some(raft_id(2)),
            commit_index: 9,
            applied_index: 8,
            keys: 4,
            joined_at: Some(UNIX_EPOCH + std::time::Duration::from_millis(1500)),
            ..NodeStatus::fresh(raft_id(id))
        }
    }

    /// Belongs to nothing yet.
    fn fresh(id: u16) -> NodeStatus {
        NodeStatus {
            state: NodeState::Fresh,
            cluster_id: None,
            role: None,
            term: 0,
            leader: None,
            joined_at: None,
            ..view(id)
        }
    }

    fn leaderless(id: u16) -> NodeStatus {
        NodeStatus {
            role: Some(Role::PreCandidate),
            leader: None,
            ..view(id)
        }
    }

    /// What the first of `views` says of a cluster of three.
    fn described(views: &[NodeStatus]) -> StatusResponse {
        let membership = (1..=3)
            .map(|id| NodeInfo {
                id: node(id),
                addr: format!("kvstore-{id}:7379"),
                client_addr: format!("kvstore-{id}:6379"),
            })
            .collect();
        let (own, others) = views.split_first().unwrap();
        let others = others
            .iter()
            .map(|view| (view.raft_id.node_id(), view.clone()));
        describe(own, &membership, others.collect())
    }

    fn roles(response: &StatusResponse) -> Vec<MemberRole> {
        response
            .members
            .iter()
            .map(|member| member.role())
            .collect()
    }

    #[test]
    fn a_healthy_cluster() {
        let response = described(&[view(1), view(2), view(3)]);
        assert_eq!(response.state(), ClusterState::Healthy);
        assert_eq!(response.summary, "healthy: node 2 leads 3 members");
        assert_eq!(response.cluster_id, Some(7));
        assert_eq!(response.leader_id, Some(2));
        assert_eq!((response.term, response.answered_by), (3, 1));
        assert_eq!(
            roles(&response),
            [
                MemberRole::Follower,
                MemberRole::Leader,
                MemberRole::Follower
            ]
        );
        let expected = MemberStatus {
            id: 3,
            raft_id: raft_id(3).get(),
            role: MemberRole::Follower.into(),
            term: 3,
            commit_index: 9,
            applied_index: 8,
            keys: 4,
            addr: "kvstore-3:7379".to_owned(),
            client_addr: "kvstore-3:6379".to_owned(),
            reachable: true,
            joined_at: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 500_000_000,
            }),
            caught_up_percent: None,
        };
        assert_eq!(response.members.last(), Some(&expected));
    }

    #[test]
    fn a_silent_member_degrades_the_cluster() {
        let response = described(&[view(1), view(2)]);
        assert_eq!(response.state(), ClusterState::Degraded);
        assert_eq!(response.summary, "degraded: node 3 does not answer");
        let silent = response.members.last().unwrap();
        assert_eq!(
            (silent.role(), silent.raft_id),
            (MemberRole::Unspecified, 0)
        );
        assert!(!silent.reachable);

        let response = described(&[view(1), view(3)]);
        assert_eq!(response.summary, "degraded: node 2 does not answer");
        assert_eq!(response.members.get(1).unwrap().raft_id, raft_id(2).get());
    }

    #[test]
    fn a_member_that_has_lost_its_memory_waits_outside() {
        let outside = NodeStatus {
            state: NodeState::Outside,
            cluster_id: Some(CLUSTER),
            ..fresh(3)
        };
        let words =
            "degraded: node 3 was started again without its memory and waits to be taken back";
        for (views, answered_by) in [
            ([view(1), view(2), outside.clone()], 1),
            ([view(1), view(2), fresh(3)], 1),
            ([outside, view(1), view(2)], 3),
            ([fresh(3), view(1), view(2)], 3),
        ] {
            let response = described(&views);
            assert_eq!(response.summary, words);
            assert_eq!(response.state(), ClusterState::Degraded);
            assert_eq!(response.cluster_id, Some(7));
            assert_eq!(response.leader_id, Some(2));
            assert_eq!(response.answered_by, answered_by);
            assert_eq!(response.members.last().unwrap().role(), MemberRole::Outside);
        }
    }

    #[test]
    fn a_member_of_another_cluster_is_outside() {
        let elsewhere = NodeStatus {
            cluster_id: Some(ClusterId(8)),
            term: 99,
            ..view(3)
        };
        let response = described(&[view(1), view(2), elsewhere]);
        assert_eq!(
            response.summary,
            "degraded: node 3 belongs to another cluster"
        );
        assert_eq!(response.leader_id, Some(2));
        assert_eq!(response.members.last().unwrap().role(), MemberRole::Outside);
    }

    #[test]
    fn a_cluster_that_forms() {
        let response = described(&[fresh(1)]);
        assert_eq!(response.state(), ClusterState::Forming);
        assert_eq!(response.summary, "forming: waiting for nodes 2 and 3");
        assert_eq!(response.cluster_id, None);
        let bound = |id| NodeStatus {
            state: NodeState::Bound,
            cluster_id: Some(CLUSTER),
            ..fresh(id)
        };
        let response = described(&[bound(1), bound(2), bound(3)]);
        assert_eq!(response.state(), ClusterState::Forming);
        assert_eq!(
            response.summary,
            "forming: every initial member is there, the cluster is about to start"
        );
        assert_eq!(roles(&response), [MemberRole::Forming; 3]);

        let response = described(&[view(1), view(2), bound(3)]);
        assert_eq!(response.summary, "degraded: node 3 has not started yet");
        assert_eq!(response.members.last().unwrap().role(), MemberRole::Forming);
    }

    #[test]
    fn without_a_leader_there_is_no_quorum() {
        let response = described(&[leaderless(1)]);
        assert_eq!(response.state(), ClusterState::NoQuorum);
        assert_eq!(response.summary, "no quorum: nodes 2 and 3 do not answer");
        assert_eq!(response.leader_id, None);
        let response = described(&[leaderless(1), leaderless(2), leaderless(3)]);
        assert_eq!(
            response.summary,
            "no quorum: no leader yet, an election is under way"
        );
        assert_eq!(roles(&response), [MemberRole::Candidate; 3]);
    }

    #[test]
    fn the_highest_term_knows_who_leads() {
        let replaced = NodeStatus {
            term: 2,
            leader: Some(raft_id(1)),
            role: Some(Role::Leader),
            ..view(1)
        };
        let response = described(&[replaced, view(2), view(3)]);
        assert_eq!(response.leader_id, Some(2));
        assert_eq!(
            response.summary,
            "degraded: node 1 does not follow node 2 yet"
        );

        let response = described(&[leaderless(1), view(2), view(3)]);
        assert_eq!(response.leader_id, Some(2));
    }

    #[test]
    fn a_learner_is_not_a_whole_member_yet() {
        let learner = NodeStatus {
            role: Some(Role::Learner),
            ..view(3)
        };
        let response = described(&[view(1), view(2), learner]);
        assert_eq!(response.summary, "degraded: node 3 is catching up");
        assert_eq!(response.members.last().unwrap().role(), MemberRole::Learner);
    }

    #[test]
    fn several_troubles_are_all_named() {
        let response = described(&[fresh(1), view(2)]);
        assert_eq!(
            response.summary,
            "degraded: node 3 does not answer; \
             node 1 was started again without its memory and waits to be taken back"
        );
        assert_eq!(nodes(&[node(1), node(2), node(3)]), "nodes 1, 2 and 3");
    }
}
