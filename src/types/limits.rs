//! What a process takes at most.

/// What a process takes at most, in bytes. Every member should be configured alike; where they differ,
/// the cluster takes what the smallest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Longest key.
    pub key: u64,
    /// Longest value.
    pub value: u64,
    /// Entries in one append, unless there is only one.
    pub append: u64,
    /// Largest message.
    pub message: u64,
}

impl NodeLimits {
    /// Anything, for tests.
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
