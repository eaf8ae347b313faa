//! Whom a process reaches.

use super::{Answering, LogIndex, NodeId, RaftId};

/// How a process reaches the other members, at the addresses that the cluster has agreed on. A member
/// that is in neither list has not been asked for long enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Highest index that the process had applied when it learned these addresses.
    pub as_of: LogIndex,
    /// The processes that have lately answered there.
    pub reached: Vec<RaftId>,
    /// The members from which no answer has come from there for a while.
    pub missed: Vec<Missed>,
}

/// A member that another one does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The member.
    pub node: NodeId,
    /// What answers there in its place.
    pub answering: Answering,
    /// Whether it has lately asked the other one: so it lives.
    pub asks: bool,
}
