//! Who asks another node who it is, and the parts that this shares with what nodes say of themselves.

use std::sync::Arc;

use super::identity::visible;
use crate::proto::raft::{FormationState, IdentifyRequest, InitialMember};
use crate::types::{ClusterId, ClusterMembership, Introduction, NodeId, NodeInfo, NodeState};
use crate::wire::WireError;
use crate::wire::check::Check;

const INTRODUCTION: Check = Check("IdentifyRequest");

/// Most members that a process can introduce itself with.
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
            Ok(FormationState::Bound) => Ok(NodeState::Bound),
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
