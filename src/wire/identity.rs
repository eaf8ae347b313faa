//! The identity of a node, and the messages by which a cluster forms.

mod parts;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use prost_types::Timestamp;

use crate::proto::raft::{
    DoubledNode, FormationState, IdentifyResponse, OfferRequest, Role as ProtoRole,
};
use crate::types::{
    ClusterId, Conf, Following, NodeId, NodeState, NodeStatus, Offer, ProtocolLevel, RaftId, Reach,
    RecoveryAttempt, Role, WallTime,
};
use crate::wire::check::Check;
use crate::wire::{MAX_INDEX, MAX_TERM, WireError};

const STATUS: Check = Check("IdentifyResponse");
const OFFER: Check = Check("OfferRequest");

/// Minimum number of initial members of a cluster: with fewer, no majority survives a loss.
const MIN_MEMBERS: usize = 3;

/// The number of a level in a message. The first level is omitted.
pub(in crate::wire) fn said(level: ProtocolLevel) -> u32 {
    match level {
        ProtocolLevel::FIRST => 0,
        level => level.get(),
    }
}

/// The state of a process as others see it. An outside node belongs to no cluster: the cluster that it
/// waits for is not its own.
pub(super) fn visible(
    state: NodeState,
    cluster_id: Option<ClusterId>,
) -> (FormationState, Option<ClusterId>) {
    match state {
        NodeState::Fresh | NodeState::Outside => (FormationState::Fresh, None),
        NodeState::Prepared => (FormationState::Bound, cluster_id),
        NodeState::Started => (FormationState::Started, cluster_id),
    }
}

impl From<NodeStatus> for IdentifyResponse {
    fn from(status: NodeStatus) -> Self {
        let NodeStatus {
            raft_id,
            state,
            cluster_id,
            recovered_from: _,
            role,
            term,
            leader,
            commit_index,
            applied_index,
            keys,
            state_bytes,
            max_state_bytes,
            joined_at,
            last_index,
            last_term,
            awaits: _,
            conf,
            members_known,
            receiving,
            recovery,
            following,
            doubled,
            level,
            cluster_level,
            unreadable,
            limits,
            unconfirmed,
            differs_from,
            reach,
            time,
        } = status;
        let Conf {
            voters,
            learners,
            members,
        } = &*conf;
        let (state, cluster_id) = visible(state, cluster_id);
        Self {
            raft_id: raft_id.get(),
            state: state.into(),
            cluster_id: cluster_id.map(|id| id.0),
            term,
            role: role.map_or(ProtoRole::Unspecified, Into::into).into(),
            leader_id: leader.map_or(0, RaftId::get),
            commit_index,
            applied_index,
            keys,
            state_bytes,
            max_state_bytes,
            joined_at: joined_at.map(Timestamp::from),
            last_log_index: last_index,
            voters: voters.iter().map(|id| id.get()).collect(),
            learners: learners.iter().map(|id| id.get()).collect(),
            members: members.iter().map(|&id| id.into()).collect(),
            members_known,
            receiving: receiving.map(Into::into),
            last_log_term: last_term,
            recovery_attempt: recovery.number,
            recovering: recovery.under_way,
            following: following.map(|following| Arc::unwrap_or_clone(following).into()),
            doubled: doubled
                .into_iter()
                .map(|[one, other]| DoubledNode {
                    one: one.get(),
                    other: other.get(),
                })
                .collect(),
            protocol_level: said(level),
            cluster_protocol_level: said(cluster_level),
            unreadable_index: unreadable.unwrap_or(0),
            limits: limits.map(Into::into),
            unconfirmed,
            differs_from: differs_from.map_or(0, Into::into),
            reach: reach.map(|reach| Arc::unwrap_or_clone(reach).into()),
            time: time.map_or(0, WallTime::micros),
        }
    }
}

impl TryFrom<IdentifyResponse> for NodeStatus {
    type Error = WireError;

    fn try_from(response: IdentifyResponse) -> Result<Self, WireError> {
        let IdentifyResponse {
            raft_id,
            state,
            cluster_id,
            term,
            role,
            leader_id,
            commit_index,
            applied_index,
            keys,
            state_bytes,
            max_state_bytes,
            joined_at,
            last_log_index,
            voters,
            learners,
            members,
            members_known,
            receiving,
            last_log_term,
            recovery_attempt,
            recovering,
            following,
            doubled,
            protocol_level,
            cluster_protocol_level,
            unreadable_index,
            limits,
            unconfirmed,
            differs_from,
            reach,
            time,
        } = response;
        let fault = |field, reason| WireError::new(STATUS.0, field, reason);
        let state = STATUS.state(state)?;
        STATUS.that(
            cluster_id.is_some() != (state == NodeState::Fresh),
            "cluster_id",
            format_args!("{cluster_id:?} of a node that is {state}"),
        )?;
        let role = match ProtoRole::try_from(role) {
            Ok(ProtoRole::Unspecified) => None,
            Ok(ProtoRole::Follower) => Some(Role::Follower),
            Ok(ProtoRole::PreCandidate) => Some(Role::PreCandidate),
            Ok(ProtoRole::Candidate) => Some(Role::Candidate),
            Ok(ProtoRole::Leader) => Some(Role::Leader),
            Ok(ProtoRole::Learner) => Some(Role::Learner),
            Err(_) => return Err(fault("role", format!("unknown role {role}"))),
        };
        STATUS.that(
            role.is_some() == (state == NodeState::Started),
            "role",
            format_args!("{role:?} of a node that is {state}"),
        )?;
        for (field, value, limit) in [
            ("term", term, MAX_TERM),
            ("last_log_index", last_log_index, MAX_INDEX),
            ("commit_index", commit_index, last_log_index),
            ("applied_index", applied_index, commit_index),
            ("last_log_term", last_log_term, term),
        ] {
            STATUS.that(
                value <= limit,
                field,
                format_args!("{value} is past {limit}"),
            )?;
        }
        let conf = Conf {
            voters: raft_ids("voters", voters)?,
            learners: raft_ids("learners", learners)?,
            members: members
                .into_iter()
                .map(NodeId::try_from)
                .collect::<Result<_, _>>()
                .map_err(|error| fault("members", error.to_string()))?,
        };
        Ok(Self {
            raft_id: STATUS.raft_id("raft_id", raft_id)?,
            state,
            cluster_id: cluster_id.map(ClusterId),
            recovered_from: Arc::default(),
            role,
            term,
            leader: match leader_id {
                0 => None,
                leader => Some(STATUS.raft_id("leader_id", leader)?),
            },
            commit_index,
            applied_index,
            keys,
            state_bytes,
            max_state_bytes,
            joined_at: joined_at
                .map(SystemTime::try_from)
                .transpose()
                .map_err(|error| fault("joined_at", error.to_string()))?,
            last_index: last_log_index,
            last_term: last_log_term,
            awaits: Vec::new(),
            conf: Arc::new(conf),
            members_known,
            receiving: receiving.map(Into::into),
            recovery: RecoveryAttempt {
                number: recovery_attempt,
                under_way: recovering,
            },
            following: following
                .map(|following| Following::try_from(following).map(Arc::new))
                .transpose()?,
            doubled: doubled
                .into_iter()
                .map(|DoubledNode { one, other }| {
                    let id = |id| STATUS.raft_id("doubled", id);
                    Ok([id(one)?, id(other)?])
                })
                .collect::<Result<_, WireError>>()?,
            level: ProtocolLevel::new(protocol_level),
            cluster_level: ProtocolLevel::new(cluster_protocol_level),
            unreadable: (unreadable_index != 0).then_some(unreadable_index),
            limits: limits.map(Into::into),
            unconfirmed,
            differs_from: (differs_from != 0)
                .then(|| NodeId::try_from(differs_from))
                .transpose()
                .map_err(|error| fault("differs_from", error.to_string()))?,
            reach: reach
                .map(|reach| Reach::try_from(reach).map(Arc::new))
                .transpose()?,
            time: WallTime::new(time),
        })
    }
}

impl From<Role> for ProtoRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Learner => Self::Learner,
            Role::Follower => Self::Follower,
            Role::PreCandidate => Self::PreCandidate,
            Role::Candidate => Self::Candidate,
            Role::Leader => Self::Leader,
        }
    }
}

fn raft_ids(field: &'static str, ids: Vec<u64>) -> Result<Vec<RaftId>, WireError> {
    let ids = ids.into_iter();
    ids.map(|id| STATUS.raft_id(field, id)).collect()
}

/// `offer`, addressed to its member `to`.
pub fn offer_request(offer: Offer, to: RaftId) -> OfferRequest {
    let Offer {
        cluster_id,
        coordinator,
        members,
        membership,
        absent,
        level,
        limits,
        time,
    } = offer;
    let initial_members = membership.members.into_values();
    OfferRequest {
        cluster_id: cluster_id.0,
        coordinator_id: coordinator.get(),
        members: members.into_iter().map(RaftId::get).collect(),
        to: to.get(),
        initial_members: initial_members.map(Into::into).collect(),
        absent: absent.into_iter().map(Into::into).collect(),
        protocol_level: said(level),
        limits: limits.map(Into::into),
        revision_base: time.map_or(0, WallTime::micros),
    }
}

/// The offer in `request`, and its receiver.
///
/// # Errors
///
/// If the members cannot form a cluster, or if the coordinator may not offer one to them.
pub fn offer_from_request(request: OfferRequest) -> Result<(Offer, RaftId), WireError> {
    let OfferRequest {
        cluster_id,
        coordinator_id,
        members,
        to,
        initial_members,
        absent,
        protocol_level,
        limits,
        revision_base,
    } = request;
    OFFER.that(
        initial_members.len() >= MIN_MEMBERS,
        "initial_members",
        format_args!("{} are fewer than {MIN_MEMBERS}", initial_members.len()),
    )?;
    let membership = OFFER.membership("initial_members", initial_members)?;
    OFFER.that(
        members.len() > membership.len() / 2,
        "members",
        format_args!("{} are no majority of {}", members.len(), membership.len()),
    )?;
    let members = members
        .into_iter()
        .map(|member| OFFER.raft_id("members", member))
        .collect::<Result<Vec<_>, _>>()?;
    let mut nodes = BTreeSet::new();
    for node in members.iter().map(|member| member.node_id()) {
        OFFER.that(
            membership.contains(node),
            "members",
            format_args!("node {node} is no initial member"),
        )?;
        OFFER.that(
            nodes.insert(node),
            "members",
            format_args!("node {node} is listed twice"),
        )?;
    }
    let coordinator = OFFER.raft_id("coordinator_id", coordinator_id)?;
    // The lowest raft id is that of the lowest node id, which is its upper part.
    OFFER.that(
        members.iter().min() == Some(&coordinator),
        "coordinator_id",
        format_args!("{coordinator} is not the member with the lowest node id"),
    )?;
    let level = ProtocolLevel::new(protocol_level);
    let time = WallTime::new(revision_base);
    OFFER.that(
        time.is_some() == (level > ProtocolLevel::FIRST),
        "revision_base",
        format_args!("{revision_base} at protocol level {level}"),
    )?;
    let offer = Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator,
        members,
        membership,
        absent: absent
            .into_iter()
            .map(NodeId::try_from)
            .collect::<Result<_, _>>()
            .map_err(|error| WireError::new(OFFER.0, "absent", error.to_string()))?,
        level,
        limits: limits.map(Into::into),
        time,
    };
    Ok((offer, OFFER.raft_id("to", to)?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::proto::raft::Following as ProtoFollowing;
    use crate::types::{Answering, ClusterMembership, Missed, NodeInfo};
    use crate::types::{NodeLimits, SnapshotId, SnapshotProgress};

    fn raft_id_of(node: u64) -> RaftId {
        RaftId::try_from(node << 48 | 0xABC).unwrap()
    }

    fn every_answering() -> Vec<Missed> {
        let all = [
            Answering::Silent,
            Answering::Refusing,
            Answering::NotGrpc,
            Answering::ClientPort,
            Answering::OtherService,
            Answering::OtherNode(raft_id_of(2).node_id()),
        ];
        let missed = |answering| Missed {
            node: raft_id_of(3).node_id(),
            answering,
            asks: answering == Answering::Silent,
        };
        all.map(missed).to_vec()
    }

    fn leader() -> NodeStatus {
        NodeStatus {
            raft_id: raft_id_of(1),
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            recovered_from: Arc::default(),
            role: Some(Role::Leader),
            term: 5,
            leader: Some(raft_id_of(1)),
            commit_index: 30,
            applied_index: 29,
            keys: 12,
            state_bytes: 2_000,
            max_state_bytes: 3_000,
            joined_at: Some(UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)),
            last_index: 31,
            last_term: 4,
            awaits: Vec::new(),
            conf: Arc::new(Conf {
                voters: vec![raft_id_of(1), raft_id_of(2)],
                learners: vec![raft_id_of(3)],
                members: [1, 2, 3].map(|id| NodeId::new(id).unwrap()).to_vec(),
            }),
            members_known: true,
            receiving: Some(SnapshotProgress {
                received: 5,
                total: 8,
                id: SnapshotId {
                    leader: 9,
                    term: 7,
                    index: 6,
                },
            }),
            recovery: RecoveryAttempt {
                number: 2,
                under_way: true,
            },
            following: Some(Arc::new(Following {
                last_index: 30,
                commit_index: 29,
                acknowledged_by: vec![raft_id_of(1)],
            })),
            doubled: vec![[raft_id_of(2), RaftId::new(raft_id_of(2).node_id(), 9)]],
            level: ProtocolLevel::new(3),
            cluster_level: ProtocolLevel::new(2),
            unreadable: Some(32),
            limits: Some(NodeLimits {
                key: 1,
                value: 2,
                append: 3,
                message: 4,
            }),
            unconfirmed: true,
            differs_from: Some(raft_id_of(1).node_id()),
            reach: Some(Arc::new(Reach {
                as_of: 28,
                reached: vec![raft_id_of(2)],
                missed: every_answering(),
            })),
            time: WallTime::new(1_790_000_000_000_000),
        }
    }

    fn outside() -> NodeStatus {
        NodeStatus {
            state: NodeState::Outside,
            cluster_id: leader().cluster_id,
            ..NodeStatus::fresh(raft_id_of(1))
        }
    }

    #[test]
    fn a_status_survives() {
        for role in [
            Role::Learner,
            Role::Follower,
            Role::PreCandidate,
            Role::Candidate,
            Role::Leader,
        ] {
            let status = NodeStatus {
                role: Some(role),
                ..leader()
            };
            let response = IdentifyResponse::from(status.clone());
            assert_eq!(NodeStatus::try_from(response), Ok(status));
        }
        let bound = NodeStatus {
            state: NodeState::Prepared,
            ..outside()
        };
        let response = IdentifyResponse::from(bound.clone());
        assert_eq!(NodeStatus::try_from(response), Ok(bound));
    }

    #[test]
    fn an_outside_process_belongs_to_no_cluster() {
        let fresh = NodeStatus {
            state: NodeState::Fresh,
            cluster_id: None,
            ..outside()
        };
        let response = IdentifyResponse::from(outside());
        assert_eq!(response, IdentifyResponse::from(fresh.clone()));
        assert_eq!(NodeStatus::try_from(response), Ok(fresh));
    }

    fn following(response: &mut IdentifyResponse) -> &mut ProtoFollowing {
        response.following.as_mut().unwrap()
    }

    #[test]
    fn a_status_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut IdentifyResponse);
        let spoils: [(&str, Spoil); 19] = [
            ("raft_id", |r| r.raft_id = 1),
            ("state", |r| r.state = 0),
            ("state", |r| r.state = 4),
            ("cluster_id", |r| r.cluster_id = None),
            ("role", |r| r.role = 6),
            ("role", |r| r.role = 0),
            ("leader_id", |r| r.leader_id = 1),
            ("term", |r| r.term = MAX_TERM + 1),
            ("last_log_index", |r| r.last_log_index = MAX_INDEX + 1),
            ("commit_index", |r| r.commit_index = r.last_log_index + 1),
            ("voters", |r| r.voters.push(3)),
            ("learners", |r| r.learners.push(3)),
            ("members", |r| r.members.push(0)),
            ("following", |r| following(r).last_log_index = MAX_INDEX + 1),
            ("following", |r| following(r).acknowledged_by.push(3)),
            ("doubled", |r| r.doubled[0].other = 3),
            ("applied_index", |r| r.applied_index = r.commit_index + 1),
            ("last_log_term", |r| r.last_log_term = r.term + 1),
            ("joined_at", |r| {
                r.joined_at = Some(Timestamp {
                    seconds: i64::MIN,
                    nanos: i32::MIN,
                });
            }),
        ];
        for (field, spoil) in spoils {
            let mut response = IdentifyResponse::from(leader());
            spoil(&mut response);
            let error = NodeStatus::try_from(response).unwrap_err();
            assert_eq!((error.message, error.field), ("IdentifyResponse", field));
        }
        let spoils: [(&str, Spoil); 2] = [
            ("cluster_id", |r| r.cluster_id = Some(7)),
            ("role", |r| r.role = ProtoRole::Follower.into()),
        ];
        for (field, spoil) in spoils {
            let mut response = IdentifyResponse::from(outside());
            spoil(&mut response);
            assert_eq!(NodeStatus::try_from(response).unwrap_err().field, field);
        }
    }

    fn membership(ids: impl IntoIterator<Item = u16>) -> ClusterMembership {
        let info = |id| NodeInfo {
            id: NodeId::new(id).unwrap(),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        };
        ids.into_iter().map(info).collect()
    }

    fn offer() -> Offer {
        Offer {
            cluster_id: ClusterId(7),
            coordinator: raft_id_of(2),
            members: vec![raft_id_of(9), raft_id_of(2), raft_id_of(5)],
            membership: membership([2, 5, 9]),
            absent: BTreeSet::from([NodeId::new(4).expect("a node id")]),
            level: ProtocolLevel::FIRST,
            limits: None,
            time: None,
        }
    }

    #[test]
    fn an_offer_survives() {
        let without_one = Offer {
            membership: membership([1, 2, 5, 9]),
            ..offer()
        };
        for offer in [offer(), without_one] {
            let request = offer_request(offer.clone(), raft_id_of(5));
            assert_eq!(offer_from_request(request), Ok((offer, raft_id_of(5))));
        }
    }

    #[test]
    fn an_offer_of_every_node_id_is_the_largest() {
        let mut largest = Offer {
            coordinator: raft_id_of(1),
            members: (1..=65_535).map(raft_id_of).collect(),
            membership: membership(1..=65_535),
            ..offer()
        };
        let request = offer_request(largest.clone(), raft_id_of(5));
        assert!(offer_from_request(request).is_ok());
        largest.members.push(raft_id_of(1));
        let request = offer_request(largest, raft_id_of(5));
        assert_eq!(offer_from_request(request).unwrap_err().field, "members");
    }

    #[test]
    fn half_of_the_initial_members_are_no_majority() {
        let of_four = |members: &[u64]| Offer {
            membership: membership([2, 4, 5, 9]),
            members: members.iter().copied().map(raft_id_of).collect(),
            ..offer()
        };
        for (members, enough) in [(&[2, 5][..], false), (&[2, 5, 9], true)] {
            let request = offer_request(of_four(members), raft_id_of(5));
            assert_eq!(offer_from_request(request).is_ok(), enough);
        }
    }

    #[test]
    fn an_offer_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut OfferRequest);
        let spoils: [(&str, Spoil); 11] = [
            ("initial_members", |r| r.initial_members.truncate(2)),
            ("initial_members", |r| r.initial_members.swap(0, 1)),
            ("initial_members", |r| r.initial_members[0].id = 0),
            ("members", |r| r.members.truncate(1)),
            ("members", |r| r.members.push(3)),
            ("members", |r| r.members.push(raft_id_of(2).get())),
            ("members", |r| r.members.push(raft_id_of(2).get() + 1)),
            ("coordinator_id", |r| r.coordinator_id = 2),
            ("coordinator_id", |r| r.coordinator_id = raft_id_of(5).get()),
            ("coordinator_id", |r| r.coordinator_id -= 1),
            ("to", |r| r.to = 5),
        ];
        for (field, spoil) in spoils {
            let mut request = offer_request(offer(), raft_id_of(5));
            spoil(&mut request);
            let error = offer_from_request(request).unwrap_err();
            assert_eq!((error.message, error.field), ("OfferRequest", field));
        }
    }
}
