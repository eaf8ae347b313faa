//! The messages of formation: the processes that form a cluster introduce themselves, and one makes an offer.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ClusterId, ClusterMembership, NodeId, NodeLimits, NodeState, ProtocolLevel, RaftId};

/// A new cluster, as its coordinator offers it to the initial members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Random id of the cluster.
    pub cluster_id: ClusterId,
    /// The initial member with the lowest node id: it makes the offer.
    pub coordinator: RaftId,
    /// The initial members that take part from the beginning, including the coordinator. They are the
    /// first voters.
    pub members: Vec<RaftId>,
    /// All initial members. A member that is not in `members` is missing, and an operator has stated that
    /// it is fresh.
    pub membership: ClusterMembership,
    /// Other nodes, perhaps members of an earlier cluster, that are gone for good, as an operator has stated.
    pub absent: BTreeSet<NodeId>,
    /// The highest level that all `members` speak: the level of the cluster.
    pub level: ProtocolLevel,
    /// The limits of the coordinator. `None` from versions that do not report them.
    pub limits: Option<NodeLimits>,
}

/// The identity of a process that asks another one, together with what the other one may need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The asking process.
    pub raft_id: RaftId,
    /// Its state.
    pub state: NodeState,
    /// The cluster that it is prepared for or takes part in.
    pub cluster_id: Option<ClusterId>,
    /// The members of that cluster. Before it takes part in one: all nodes that may take part, as far as
    /// it knows.
    pub members: Arc<ClusterMembership>,
}
