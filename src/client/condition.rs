//! Conditions of transactions.

use bytes::Bytes;

use crate::proto::kv;
use crate::proto::kv::condition::Condition as Tested;
use crate::proto::kv::key_condition::Test;

/// A condition of a transaction. It tests a key as it is before the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// The key is bound, or is missing.
    Exists {
        /// The key.
        key: Bytes,
        /// Whether the key has to be bound (`true`) or missing (`false`).
        exists: bool,
    },
    /// The key was bound by the write of this revision.
    Revision {
        /// The key.
        key: Bytes,
        /// The revision. 0: the key is missing.
        revision: u64,
    },
    /// The key is bound to exactly this value.
    Value {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
}

impl Condition {
    /// `key` is bound.
    pub fn exists(key: impl Into<Bytes>) -> Self {
        Self::Exists {
            key: key.into(),
            exists: true,
        }
    }

    /// `key` is missing.
    pub fn missing(key: impl Into<Bytes>) -> Self {
        Self::Exists {
            key: key.into(),
            exists: false,
        }
    }

    /// `key` was bound by the write of `revision`, and has not been written since. 0: `key` is missing.
    pub fn revision(key: impl Into<Bytes>, revision: u64) -> Self {
        Self::Revision {
            key: key.into(),
            revision,
        }
    }

    /// `key` is bound to exactly `value`.
    pub fn value(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Value {
            key: key.into(),
            value: value.into(),
        }
    }

    /// The key that is tested.
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Self::Exists { key, .. } | Self::Revision { key, .. } | Self::Value { key, .. } => key,
        }
    }
}

impl From<Condition> for kv::Condition {
    fn from(condition: Condition) -> Self {
        let (key, test) = match condition {
            Condition::Exists { key, exists } => (key, Test::Exists(exists)),
            Condition::Revision { key, revision } => (key, Test::Revision(revision)),
            Condition::Value { key, value } => (key, Test::Value(value)),
        };
        let test = Some(test);
        Self {
            condition: Some(Tested::Key(kv::KeyCondition { key, test })),
        }
    }
}
