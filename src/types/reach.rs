//! Which members a process reaches.

use super::{Answering, LogIndex, NodeId, RaftId};

/// Which of the other members a process reaches, at the addresses that the cluster has agreed on. A
/// member in neither list has not been asked for long enough to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Highest index that the process had applied when it learned these addresses.
    pub as_of: LogIndex,
    /// The processes that have answered there recently.
    pub reached: Vec<RaftId>,
    /// The members from whose addresses no answer has come for a while.
    pub missed: Vec<Missed>,
}

/// A member that another member does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The member.
    pub node: NodeId,
    /// What answers at its address instead.
    pub answering: Answering,
    /// Whether it has recently asked the other member, and so is alive.
    pub asks: bool,
}
