//! The types that all modules share: ids, positions in the log, and the status of a node.
//!
//! They have no behaviour. Separate types keep a node id from being passed as a raft id. In a store that
//! forgets its state on restart, that mistake loses data.

mod answering;
mod formation;
mod level;
mod limits;
mod log;
mod membership;
mod reach;
mod recovery;
mod status;
mod wall_time;

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;

pub use answering::Answering;
pub use level::ProtocolLevel;
pub use limits::NodeLimits;
pub use reach::{Missed, Reach};
pub use status::{
    Conf, Following, NodeState, NodeStatus, RecoveryAttempt, Role, SnapshotId, SnapshotProgress,
};
pub use wall_time::{MAX_CLOCK_DIFFERENCE, WallTime};

// Only nodes among themselves use these.
#[cfg(not(feature = "internals"))]
pub(crate) use internal::*;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use internal::*;

mod internal {
    pub use super::formation::{Introduction, Offer};
    pub use super::log::{
        EntryPayload, FORMAT_VERSION, RaftHardState, SnapshotMetadata, VersionedLogEntry,
    };
    pub use super::membership::{ClusterMembership, NodeInfo};
    pub use super::recovery::{Rank, RecoveryClaim};
}

/// A key of the map. At least 1 byte; the upper bound is
/// [`Limits::max_key_bytes`](crate::config::Limits).
pub type Key = Bytes;

/// A value of the map. May be empty; the upper bound is
/// [`Limits::max_value_bytes`](crate::config::Limits).
pub type Value = Bytes;

/// The configured identity of a machine: 1 to 65 535, the same through every restart.
///
/// Addresses belong to node ids. Raft never sees a node id: it sees [`RaftId`]s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU16);

impl NodeId {
    /// The node id `id`, or `None` for 0.
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The id as a number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(id: u32) -> Result<Self, InvalidNodeId> {
        u16::try_from(id)
            .ok()
            .and_then(Self::new)
            .ok_or(InvalidNodeId(id))
    }
}

impl From<NodeId> for u32 {
    fn from(id: NodeId) -> u32 {
        id.get().into()
    }
}

/// A number that is no node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no node id: node ids are 1 to 65535")]
pub struct InvalidNodeId(pub u32);

/// The identity of one incarnation of a node, and the only identity that Raft sees.
///
/// `node id << 48 | incarnation`, with 48 random bits drawn when the process starts. A restarted process
/// has forgotten its log and its vote. Under a new raft id it is a new Raft server, which no promise of
/// its earlier incarnation binds.
///
/// Displayed as `NODE.INCARNATION`, the incarnation in hexadecimal: `2.3fa94c01b2d7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftId(u64);

impl RaftId {
    /// Number of bits of an incarnation.
    pub const INCARNATION_BITS: u32 = 48;

    /// The raft id of `node` with `incarnation`, of which only the lower 48 bits count.
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        let mask = (1 << Self::INCARNATION_BITS) - 1;
        Self(u64::from(node.get()) << Self::INCARNATION_BITS | (incarnation & mask))
    }

    /// The raft id as raft-rs and the wire carry it. Never 0.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The node that this is an incarnation of.
    pub fn node_id(self) -> NodeId {
        let node = u16::try_from(self.0 >> Self::INCARNATION_BITS).unwrap_or(u16::MAX);
        NodeId::new(node).unwrap_or(NodeId(NonZeroU16::MAX))
    }

    /// The random bits of the process.
    pub const fn incarnation(self) -> u64 {
        self.0 & ((1 << Self::INCARNATION_BITS) - 1)
    }
}

impl TryFrom<u64> for RaftId {
    type Error = InvalidRaftId;

    fn try_from(id: u64) -> Result<Self, InvalidRaftId> {
        match id >> Self::INCARNATION_BITS {
            0 => Err(InvalidRaftId(id)),
            _ => Ok(Self(id)),
        }
    }
}

impl From<RaftId> for u64 {
    fn from(id: RaftId) -> u64 {
        id.0
    }
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:012x}", self.node_id(), self.incarnation())
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number that is no raft id: its node id would be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0:#x} is no raft id: its upper 16 bits, the node id, are 0")]
pub struct InvalidRaftId(pub u64);

/// The random identity of a cluster, drawn when it forms. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The random identity of a client's session. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Raft term (paper, section 5.1). A term has at most one leader.
pub type Term = u64;

/// A position in the replicated log. The first is 1. 0 means none.
pub type LogIndex = u64;

/// The number of a write for clients: later writes have higher ones, in all clusters that follow one
/// another. See `docs/GLOSSARY.md`.
pub type Revision = u64;

/// Milliseconds: a span, or a time of the replicated clock.
pub type Millis = u64;
#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    #[test]
    fn a_raft_id_holds_its_node_id_and_48_bits_of_incarnation() {
        for id in [1, 2, 255, 256, u16::MAX] {
            let raft_id = RaftId::new(node(id), u64::MAX);
            assert_eq!(raft_id.node_id(), node(id));
            assert_eq!(raft_id.incarnation(), (1 << 48) - 1);
            assert_eq!(RaftId::try_from(raft_id.get()), Ok(raft_id));
        }
        assert_eq!(RaftId::try_from(42), Err(InvalidRaftId(42)));
    }

    #[test]
    fn ids_read_well() {
        assert_eq!(
            RaftId::new(node(2), 0x3fa9_4c01_b2d7).to_string(),
            "2.3fa94c01b2d7"
        );
        assert_eq!(RaftId::new(node(7), 1).to_string(), "7.000000000001");
        assert_eq!(ClusterId(0xab).to_string(), "00000000000000ab");
    }

    #[test]
    fn node_ids_are_1_to_65535() {
        assert_eq!(NodeId::try_from(0), Err(InvalidNodeId(0)));
        assert_eq!(NodeId::try_from(65_536), Err(InvalidNodeId(65_536)));
        assert_eq!(NodeId::try_from(65_535), Ok(node(65_535)));
        assert_eq!(
            InvalidNodeId(0).to_string(),
            "0 is no node id: node ids are 1 to 65535"
        );
    }
}
