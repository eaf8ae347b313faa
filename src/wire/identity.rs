//! Who a node is, and how nodes that know nothing become a cluster.

use std::collections::BTreeSet;
use std::time::SystemTime;

use prost_types::Timestamp;

use crate::proto::raft::{FormationState, IdentifyResponse, OfferRequest, Role as ProtoRole};
use crate::types::{ClusterId, NodeState, NodeStatus, Offer, RaftId, Role};
use crate::wire::check::Check;
use crate::wire::{MAX_INDEX, MAX_TERM, WireError};

const STATUS: Check = Check("IdentifyResponse");
const OFFER: Check = Check("OfferRequest");

/// Fewest initial members of a cluster: with fewer, no majority survives a loss.
const MIN_MEMBERS: usize = 3;
/// Most initial members of a cluster: one of every node id.
const MAX_MEMBERS: usize = 65_535;

impl From<NodeStatus> for IdentifyResponse {
    fn from(status: NodeStatus) -> Self {
        let NodeStatus {
            raft_id,
            state,
            cluster_id,
            role,
            term,
            leader,
            commit_index,
            applied_index,
            keys,
            joined_at,
        } = status;
        // An outside node belongs to nothing, and the cluster that it waits for is not its own.
        let (state, cluster_id) = match state {
            NodeState::Fresh | NodeState::Outside => (FormationState::Fresh, None),
            NodeState::Bound => (FormationState::Bound, cluster_id),
            NodeState::Started => (FormationState::Started, cluster_id),
        };
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
            joined_at: joined_at.map(Timestamp::from),
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
            joined_at,
        } = response;
        let fault = |field, reason| WireError::new(STATUS.0, field, reason);
        let state = match FormationState::try_from(state) {
            Ok(FormationState::Fresh) => NodeState::Fresh,
            Ok(FormationState::Bound) => NodeState::Bound,
            Ok(FormationState::Started) => NodeState::Started,
            Ok(FormationState::Unspecified) | Err(_) => {
                return Err(fault("state", format!("unknown state {state}")));
            }
        };
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
            ("commit_index", commit_index, MAX_INDEX),
            ("applied_index", applied_index, commit_index),
        ] {
            STATUS.that(
                value <= limit,
                field,
                format_args!("{value} is past {limit}"),
            )?;
        }
        Ok(Self {
            raft_id: STATUS.raft_id("raft_id", raft_id)?,
            state,
            cluster_id: cluster_id.map(ClusterId),
            role,
            term,
            leader: match leader_id {
                0 => None,
                leader => Some(STATUS.raft_id("leader_id", leader)?),
            },
            commit_index,
            applied_index,
            keys,
            joined_at: joined_at
                .map(SystemTime::try_from)
                .transpose()
                .map_err(|error| fault("joined_at", error.to_string()))?,
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

/// `offer`, addressed to its member `to`.
pub fn offer_request(offer: Offer, to: RaftId) -> OfferRequest {
    let Offer {
        cluster_id,
        coordinator,
        members,
    } = offer;
    OfferRequest {
        cluster_id: cluster_id.0,
        coordinator_id: coordinator.get(),
        members: members.into_iter().map(RaftId::get).collect(),
        to: to.get(),
    }
}

/// The offer that `request` makes, and whom it is for.
///
/// # Errors
///
/// If no cluster could be made of the members, or if they are not the coordinator's to gather.
pub fn offer_from_request(request: OfferRequest) -> Result<(Offer, RaftId), WireError> {
    let OfferRequest {
        cluster_id,
        coordinator_id,
        members,
        to,
    } = request;
    OFFER.that(
        (MIN_MEMBERS..=MAX_MEMBERS).contains(&members.len()),
        "members",
        format_args!("{} are not {MIN_MEMBERS} to {MAX_MEMBERS}", members.len()),
    )?;
    let members = members
        .into_iter()
        .map(|member| OFFER.raft_id("members", member))
        .collect::<Result<Vec<_>, _>>()?;
    let mut nodes = BTreeSet::new();
    for node in members.iter().map(|member| member.node_id()) {
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
    let offer = Offer {
        cluster_id: ClusterId(cluster_id),
        coordinator,
        members,
    };
    Ok((offer, OFFER.raft_id("to", to)?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn life(node: u64) -> RaftId {
        RaftId::try_from(node << 48 | 0xABC).unwrap()
    }

    fn leader() -> NodeStatus {
        NodeStatus {
            raft_id: life(1),
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            role: Some(Role::Leader),
            term: 5,
            leader: Some(life(1)),
            commit_index: 30,
            applied_index: 29,
            keys: 12,
            joined_at: Some(UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)),
        }
    }

    fn outside() -> NodeStatus {
        NodeStatus {
            state: NodeState::Outside,
            role: None,
            term: 0,
            leader: None,
            commit_index: 0,
            applied_index: 0,
            keys: 0,
            joined_at: None,
            ..leader()
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
            state: NodeState::Bound,
            ..outside()
        };
        let response = IdentifyResponse::from(bound.clone());
        assert_eq!(NodeStatus::try_from(response), Ok(bound));
    }

    #[test]
    fn who_is_outside_belongs_to_nothing() {
        let fresh = NodeStatus {
            state: NodeState::Fresh,
            cluster_id: None,
            ..outside()
        };
        let response = IdentifyResponse::from(outside());
        assert_eq!(response, IdentifyResponse::from(fresh.clone()));
        assert_eq!(NodeStatus::try_from(response), Ok(fresh));
    }

    #[test]
    fn a_status_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut IdentifyResponse);
        let spoils: [(&str, Spoil); 11] = [
            ("raft_id", |r| r.raft_id = 1),
            ("state", |r| r.state = 0),
            ("state", |r| r.state = 4),
            ("cluster_id", |r| r.cluster_id = None),
            ("role", |r| r.role = 6),
            ("role", |r| r.role = 0),
            ("leader_id", |r| r.leader_id = 1),
            ("term", |r| r.term = MAX_TERM + 1),
            ("commit_index", |r| r.commit_index = MAX_INDEX + 1),
            ("applied_index", |r| r.applied_index = r.commit_index + 1),
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

    fn offer() -> Offer {
        Offer {
            cluster_id: ClusterId(7),
            coordinator: life(2),
            members: vec![life(9), life(2), life(5)],
        }
    }

    #[test]
    fn an_offer_survives() {
        let request = offer_request(offer(), life(5));
        assert_eq!(offer_from_request(request), Ok((offer(), life(5))));
    }

    #[test]
    fn an_offer_of_every_node_id_is_the_largest() {
        let mut largest = Offer {
            coordinator: life(1),
            members: (1..=65_535).map(life).collect(),
            ..offer()
        };
        let request = offer_request(largest.clone(), life(5));
        assert!(offer_from_request(request).is_ok());
        largest.members.push(life(1));
        let request = offer_request(largest, life(5));
        assert_eq!(offer_from_request(request).unwrap_err().field, "members");
    }

    #[test]
    fn an_offer_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut OfferRequest);
        let spoils: [(&str, Spoil); 8] = [
            ("members", |r| r.members.truncate(2)),
            ("members", |r| r.members.push(3)),
            ("members", |r| r.members.push(life(2).get())),
            ("members", |r| r.members.push(life(2).get() + 1)),
            ("coordinator_id", |r| r.coordinator_id = 2),
            ("coordinator_id", |r| r.coordinator_id = life(5).get()),
            ("coordinator_id", |r| r.coordinator_id -= 1),
            ("to", |r| r.to = 5),
        ];
        for (field, spoil) in spoils {
            let mut request = offer_request(offer(), life(5));
            spoil(&mut request);
            let error = offer_from_request(request).unwrap_err();
            assert_eq!((error.message, error.field), ("OfferRequest", field));
        }
    }
}
