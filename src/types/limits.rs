//! The limits of a process.

/// The largest sizes that a process accepts, in bytes. Every member should have the same limits. Where
/// they differ, the smallest counts for the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Longest key.
    pub key: u64,
    /// Longest value.
    pub value: u64,
    /// All entries of one append together, except that a single entry may be larger.
    pub append: u64,
    /// Largest message.
    pub message: u64,
}

impl NodeLimits {
    /// No limits, for tests.
    pub const NONE: Self = Self {
        key: u64::MAX,
        value: u64::MAX,
        append: u64::MAX,
        message: u64::MAX,
    };

    /// Each limit with the name of its setting.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("limits.max_key_bytes", self.key),
            ("limits.max_value_bytes", self.value),
            ("limits.max_append_bytes", self.append),
            ("limits.max_grpc_message_bytes", self.message),
        ]
    }
}
