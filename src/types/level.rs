//! The protocol level of a process, and of a cluster.

use std::fmt;
use std::num::NonZeroU32;

/// How much of the protocol a process or a cluster speaks. Each level includes all lower ones.
///
/// The level of a cluster is part of its replicated state and never decreases. Its log and its snapshots
/// hold nothing of a higher level. A process of a lower level than its cluster takes no part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolLevel(NonZeroU32);

impl ProtocolLevel {
    /// The first level: of processes and clusters that state no level.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The second level: transactions and revisions.
    pub const SECOND: Self = Self(NonZeroU32::MIN.saturating_add(1));

    /// The level that this version speaks.
    pub const CURRENT: Self = Self::SECOND;

    /// The level with this number. 0 means the first.
    pub fn new(number: u32) -> Self {
        NonZeroU32::new(number).map_or(Self::FIRST, Self)
    }

    /// The number of the level: 1 or more.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// A missing level is the first.
impl Default for ProtocolLevel {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for ProtocolLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
