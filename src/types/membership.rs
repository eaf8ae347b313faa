//! The members of a cluster.

use std::collections::BTreeMap;

use super::NodeId;

/// A member of a cluster: a machine and its addresses, independent of the process that runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its configured id.
    pub id: NodeId,
    /// Where other nodes reach it: `host:port`.
    pub addr: String,
    /// Where clients reach it: `host:port`.
    pub client_addr: String,
}

impl NodeInfo {
    /// The node `id` with unknown addresses.
    pub fn nowhere(id: NodeId) -> Self {
        Self {
            id,
            addr: String::new(),
            client_addr: String::new(),
        }
    }
}

/// The desired members of a cluster, by node id. The voters and learners of the Raft group are separate,
/// because processes come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterMembership {
    /// Every member, in ascending order of its id.
    pub members: BTreeMap<NodeId, NodeInfo>,
}

impl ClusterMembership {
    /// The member `id`.
    pub fn get(&self, id: NodeId) -> Option<&NodeInfo> {
        self.members.get(&id)
    }

    /// Whether `id` is a member.
    pub fn contains(&self, id: NodeId) -> bool {
        self.members.contains_key(&id)
    }

    /// Node ids, in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied()
    }

    /// Every member, in ascending order of its id.
    pub fn iter(&self) -> impl Iterator<Item = &NodeInfo> {
        self.members.values()
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Members whose addresses do not matter, for tests.
#[cfg(test)]
impl<const N: usize> From<[NodeId; N]> for ClusterMembership {
    fn from(ids: [NodeId; N]) -> Self {
        let info = |id: NodeId| NodeInfo {
            id,
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        };
        ids.into_iter().map(info).collect()
    }
}

impl FromIterator<NodeInfo> for ClusterMembership {
    fn from_iter<I: IntoIterator<Item = NodeInfo>>(members: I) -> Self {
        Self {
            members: members.into_iter().map(|info| (info.id, info)).collect(),
        }
    }
}
