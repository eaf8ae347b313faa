//! How much of the protocol a process speaks, and a cluster.

use std::fmt;
use std::num::NonZeroU32;

/// How much of the protocol a process or a cluster speaks. Each level knows all that the lower ones
/// know, and more.
///
/// The level of a cluster is part of its replicated state and never sinks; its log and its snapshots
/// hold nothing of a higher one. So a process of a lower level than its cluster's takes no part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolLevel(NonZeroU32);

impl ProtocolLevel {
    /// The first: of processes and clusters that do not say.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// What this version speaks.
    pub const CURRENT: Self = Self::FIRST;

    /// The level of this number; of 0, the first.
    pub fn new(number: u32) -> Self {
        NonZeroU32::new(number).map_or(Self::FIRST, Self)
    }

    /// Its number: 1 or more.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// What is not said, is the first.
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
