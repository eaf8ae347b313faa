//! The `Status` answer made from a survey. [`cluster`](crate::cluster) decides what the survey means.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::{ClusterView, MemberState, State, Survey};
use crate::proto::admin::{ClusterState, MemberRole, MemberStatus, StatusResponse};
use crate::types::{NodeInfo, NodeState, NodeStatus, RaftId, Role};

/// Describes the cluster according to `survey`.
pub(super) fn describe(survey: &Survey) -> StatusResponse {
    let cluster_view = ClusterView::new(survey);
    let (state, summary) = cluster_view.sum_up();
    let own = survey.view(survey.own());
    let own_cluster = own.and_then(|own| own.cluster_id);
    let members = survey.members().iter();
    StatusResponse {
        cluster_id: cluster_view.cluster().or(own_cluster).map(|id| id.0),
        leader_id: cluster_view.leader().map(|leader| leader.node_id().into()),
        term: own.map_or(0, |own| own.term),
        state: ClusterState::from(state).into(),
        summary,
        healed: cluster_view.is_healed(),
        answered_by: survey.own().into(),
        members: members.map(|info| member(info, &cluster_view)).collect(),
    }
}

fn member(info: &NodeInfo, cluster_view: &ClusterView<'_>) -> MemberStatus {
    let known = MemberStatus {
        id: info.id.into(),
        addr: info.addr.clone(),
        client_addr: info.client_addr.clone(),
        ..MemberStatus::default()
    };
    let Some(view) = cluster_view.view(info.id) else {
        return MemberStatus {
            raft_id: cluster_view.known_as(info.id).map_or(0, RaftId::get),
            ..known
        };
    };
    let member_state = cluster_view.member_state(info.id);
    MemberStatus {
        raft_id: view.raft_id.get(),
        role: role(view, member_state).into(),
        term: view.term,
        commit_index: view.commit_index,
        applied_index: view.applied_index,
        keys: view.keys,
        state_bytes: view.state_bytes,
        max_state_bytes: view.max_state_bytes,
        reachable: true,
        joined_at: view.joined_at.and_then(timestamp),
        unreached: unreached(view),
        caught_up_percent: match member_state {
            MemberState::CatchingUp(percent) => Some(percent),
            _ => None,
        },
        ..known
    }
}

/// The members that a member does not reach.
fn unreached(view: &NodeStatus) -> Vec<u32> {
    let missed = view.reach.iter().flat_map(|reach| &reach.missed);
    missed.map(|missed| missed.node.into()).collect()
}

fn role(view: &NodeStatus, member_state: MemberState) -> MemberRole {
    match (member_state, view.state, view.role) {
        (MemberState::Absent(_), _, _) => MemberRole::Unspecified,
        (MemberState::Forming, _, _) => MemberRole::Forming,
        (MemberState::Elsewhere, _, _) => MemberRole::Outside,
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

impl From<State> for ClusterState {
    fn from(state: State) -> Self {
        match state {
            State::Forming => Self::Forming,
            State::Healthy => Self::Healthy,
            State::NoSpare => Self::NoSpare,
            State::Healing => Self::Healing,
            State::Degraded => Self::Degraded,
            State::NoQuorum => Self::NoQuorum,
            State::Halted => Self::Halted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::option;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::cluster::Answer;
    use crate::types::{
        Answering, ClusterId, ClusterMembership, Conf, Following, Missed, NodeId, Reach,
    };

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn raft_id_of(id: u16) -> RaftId {
        RaftId::new(node(id), 0xabc)
    }

    /// The status of node `id`, which takes part in the cluster in term 3. It follows node 2, or is node
    /// 2.
    fn view(id: u16) -> NodeStatus {
        let leads = id == 2;
        let all = [1, 2, 3].map(raft_id_of).to_vec();
        let following = Following {
            last_index: 9,
            commit_index: 8,
            acknowledged_by: all.clone(),
        };
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            role: Some(if leads { Role::Leader } else { Role::Follower }),
            term: 3,
            leader: Some(raft_id_of(2)),
            commit_index: 9,
            applied_index: 8,
            last_index: 9,
            keys: 4,
            state_bytes: 900,
            max_state_bytes: 1000,
            joined_at: Some(UNIX_EPOCH + Duration::from_millis(1500)),
            conf: Arc::new(Conf {
                voters: all,
                learners: Vec::new(),
                members: [1, 2, 3].map(node).to_vec(),
            }),
            members_known: leads,
            following: leads.then(|| Arc::new(following)),
            ..NodeStatus::fresh(raft_id_of(id))
        }
    }

    fn described(own: NodeStatus, answers: [(u16, Answer); 2]) -> StatusResponse {
        let members: ClusterMembership = [1, 2, 3].map(node).into();
        let answers = answers.map(|(id, answer)| (node(id), answer));
        describe(&Survey::new(own, members.into(), answers))
    }

    fn roles(response: &StatusResponse) -> Vec<MemberRole> {
        let members = response.members.iter();
        members.map(|member| member.role()).collect()
    }

    #[test]
    fn a_healed_cluster() {
        let response = described(view(1), [(2, Ok(view(2))), (3, Ok(view(3)))]);
        assert_eq!(response.state(), ClusterState::Healthy);
        assert!(response.summary.starts_with("healthy: "));
        assert!(response.healed);
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
            raft_id: raft_id_of(3).get(),
            role: MemberRole::Follower.into(),
            term: 3,
            commit_index: 9,
            applied_index: 8,
            keys: 4,
            state_bytes: 900,
            max_state_bytes: 1000,
            addr: "kvstore-3:7379".to_owned(),
            client_addr: "kvstore-3:6379".to_owned(),
            reachable: true,
            joined_at: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 500_000_000,
            }),
            caught_up_percent: None,
            unreached: Vec::new(),
        };
        assert_eq!(response.members.last(), Some(&expected));
    }

    proptest! {
        /// Each number that a member says of itself is in the field that means it.
        #[test]
        fn the_status_of_a_member_is_shown(
            [term, commit_index, applied_index, keys, state_bytes, max_state_bytes] in any::<[u64; 6]>(),
            joined in option::of((0..1u64 << 40, 0..1_000_000_000u32)),
            missed in prop::collection::vec(1..=u16::MAX, 0..4),
        ) {
            let reach = Reach {
                missed: missed.iter().map(|&id| Missed {
                    node: node(id),
                    answering: Answering::Silent,
                    asks: false,
                }).collect(),
                ..Reach::default()
            };
            let says = NodeStatus {
                term,
                commit_index,
                applied_index,
                keys,
                state_bytes,
                max_state_bytes,
                joined_at: joined.map(|(secs, nanos)| UNIX_EPOCH + Duration::new(secs, nanos)),
                reach: Some(Arc::new(reach)),
                ..view(3)
            };
            let response = described(view(1), [(2, Ok(view(2))), (3, Ok(says))]);
            let sent = Bytes::from(response.encode_to_vec());
            let response = StatusResponse::decode(sent).expect("our own bytes");
            let told = &response.members[2];
            let numbers = [told.term, told.commit_index, told.applied_index, told.keys];
            prop_assert_eq!(numbers, [term, commit_index, applied_index, keys]);
            prop_assert_eq!((told.state_bytes, told.max_state_bytes), (state_bytes, max_state_bytes));
            let at = told.joined_at.map(|at| (at.seconds.unsigned_abs(), at.nanos.unsigned_abs()));
            prop_assert_eq!(at, joined);
            let missed: Vec<_> = missed.into_iter().map(u32::from).collect();
            prop_assert_eq!(&told.unreached, &missed);
            prop_assert_eq!((told.id, told.raft_id, told.reachable), (3, raft_id_of(3).get(), true));
        }
    }

    #[test]
    fn a_member_that_does_not_answer_is_listed_as_the_cluster_knows_it() {
        let response = described(view(1), [(2, Ok(view(2))), (3, Err(Answering::Silent))]);
        assert!(!response.healed);
        let silent = response.members.last().unwrap();
        assert_eq!(
            (silent.role(), silent.raft_id, silent.reachable),
            (MemberRole::Unspecified, raft_id_of(3).get(), false)
        );
    }

    #[test]
    fn the_roles_of_processes_that_take_no_part() {
        let fresh = |id| NodeStatus::fresh(RaftId::new(node(id), 0xdef));
        let bound = |id| NodeStatus {
            state: NodeState::Prepared,
            cluster_id: Some(ClusterId(7)),
            ..fresh(id)
        };
        let elsewhere = NodeStatus {
            cluster_id: Some(ClusterId(8)),
            ..view(3)
        };
        let learner = NodeStatus {
            role: Some(Role::Learner),
            ..view(3)
        };
        let candidate = NodeStatus {
            role: Some(Role::PreCandidate),
            leader: None,
            ..view(3)
        };
        for (third, role) in [
            (fresh(3), MemberRole::Outside),
            (bound(3), MemberRole::Forming),
            (elsewhere, MemberRole::Outside),
            (learner, MemberRole::Learner),
            (candidate, MemberRole::Candidate),
        ] {
            let response = described(view(1), [(2, Ok(view(2))), (3, Ok(third))]);
            assert_eq!(roles(&response)[2], role, "{response:?}");
        }
        let forming = described(bound(1), [(2, Ok(bound(2))), (3, Ok(fresh(3)))]);
        assert_eq!(roles(&forming), [MemberRole::Forming; 3]);
        assert_eq!(forming.cluster_id, Some(7), "the one that it is bound to");
    }

    #[test]
    fn a_process_that_catches_up_shows_its_progress() {
        let receiving = NodeStatus {
            receiving: Some(crate::types::SnapshotProgress {
                received: 5,
                total: 10,
                id: crate::types::SnapshotId::default(),
            }),
            ..NodeStatus::fresh(RaftId::new(node(3), 0xdef))
        };
        let response = described(view(1), [(2, Ok(view(2))), (3, Ok(receiving))]);
        assert_eq!(response.members[2].caught_up_percent, Some(45));
    }
}
