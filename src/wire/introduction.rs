//! The introduction of a process that asks for an identity, and the parts that it shares with a status.

use std::sync::Arc;

use super::identity::visible;
use crate::proto::raft::{FormationState, IdentifyRequest, InitialMember};
use crate::types::{ClusterId, ClusterMembership, Introduction, NodeId, NodeInfo, NodeState};
use crate::wire::WireError;
use crate::wire::check::Check;

const INTRODUCTION: Check = Check("IdentifyRequest");

/// Maximum number of members in an introduction.
const MAX_INTRODUCED: usize = 1024;

impl From<Introduction> for IdentifyRequest {
    fn from(introduction: Introduction) -> Self {
        let Introduction {
            raft_id,
            state,
            cluster_id,
            members,
        } = introduction;
        let (state, cluster_id) = visible(state, cluster_id);
        Self {
            from: raft_id.get(),
            cluster_id: cluster_id.map(|id| id.0),
            state: state.into(),
            members: members.iter().cloned().map(Into::into).collect(),
        }
    }
}

impl TryFrom<IdentifyRequest> for Introduction {
    type Error = WireError;

    fn try_from(request: IdentifyRequest) -> Result<Self, WireError> {
        let IdentifyRequest {
            from,
            cluster_id,
            state,
            members,
        } = request;
        let state = INTRODUCTION.state(state)?;
        INTRODUCTION.that(
            cluster_id.is_some() != (state == NodeState::Fresh),
            "cluster_id",
            format_args!("{cluster_id:?} of a node that is {state}"),
        )?;
        INTRODUCTION.that(
            members.len() <= MAX_INTRODUCED,
            "members",
            format_args!("{} are more than {MAX_INTRODUCED}", members.len()),
        )?;
        Ok(Self {
            raft_id: INTRODUCTION.raft_id("from", from)?,
            state,
            cluster_id: cluster_id.map(ClusterId),
            members: Arc::new(INTRODUCTION.membership("members", members)?),
        })
    }
}

impl Check {
    pub(in crate::wire) fn state(self, state: i32) -> Result<NodeState, WireError> {
        match FormationState::try_from(state) {
            Ok(FormationState::Fresh) => Ok(NodeState::Fresh),
            Ok(FormationState::Bound) => Ok(NodeState::Prepared),
            Ok(FormationState::Started) => Ok(NodeState::Started),
            Ok(FormationState::Unspecified) | Err(_) => {
                let reason = format!("unknown state {state}");
                Err(WireError::new(self.0, "state", reason))
            }
        }
    }

    pub(in crate::wire) fn membership(
        self,
        field: &'static str,
        infos: Vec<InitialMember>,
    ) -> Result<ClusterMembership, WireError> {
        let mut membership = ClusterMembership::default();
        for InitialMember {
            id,
            addr,
            client_addr,
        } in infos
        {
            let id = NodeId::try_from(id)
                .map_err(|error| WireError::new(self.0, field, error.to_string()))?;
            let last = membership.members.last_key_value();
            self.that(
                last.is_none_or(|(&last, _)| last < id),
                field,
                format_args!("node {id} is not in ascending order"),
            )?;
            let info = NodeInfo {
                id,
                addr,
                client_addr,
            };
            membership.members.insert(id, info);
        }
        Ok(membership)
    }
}

impl From<NodeInfo> for InitialMember {
    fn from(info: NodeInfo) -> Self {
        let NodeInfo {
            id,
            addr,
            client_addr,
        } = info;
        Self {
            id: id.into(),
            addr,
            client_addr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RaftId;

    fn introduction(members: u16) -> Introduction {
        let info = |id| NodeInfo {
            id: NodeId::new(id).unwrap(),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        };
        Introduction {
            raft_id: RaftId::try_from(3 << 48 | 0xABC).unwrap(),
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            members: Arc::new((1..=members).map(info).collect()),
        }
    }

    #[test]
    fn an_introduction_survives() {
        let fresh = Introduction {
            state: NodeState::Fresh,
            cluster_id: None,
            ..introduction(3)
        };
        for introduction in [introduction(0), introduction(1024), fresh] {
            let request = IdentifyRequest::from(introduction.clone());
            assert_eq!(Introduction::try_from(request), Ok(introduction));
        }
    }

    #[test]
    fn an_introduction_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut IdentifyRequest);
        let spoils: [(&str, Spoil); 7] = [
            ("from", |r| r.from = 3),
            ("state", |r| r.state = 0),
            ("cluster_id", |r| r.cluster_id = None),
            ("cluster_id", |r| r.state = FormationState::Fresh.into()),
            ("members", |r| r.members[1].id = 0),
            ("members", |r| r.members[1].id = 1),
            ("members", |r| {
                r.members = introduction(1025)
                    .members
                    .iter()
                    .cloned()
                    .map(Into::into)
                    .collect()
            }),
        ];
        for (field, spoil) in spoils {
            let mut request = IdentifyRequest::from(introduction(3));
            spoil(&mut request);
            let error = Introduction::try_from(request).unwrap_err();
            assert_eq!((error.message, error.field), ("IdentifyRequest", field));
        }
    }
}
