//! Conditions of transactions.

use bytes::Bytes;

use super::Lock;
use crate::proto::kv;
use crate::proto::kv::condition::Condition as Tested;
use crate::proto::kv::key_condition::Test;

/// A condition of a transaction. It tests a key, or a lock, as it is before the transaction.
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
    /// The lock is held under exactly this token.
    Held {
        /// The lock.
        name: String,
        /// The fencing token.
        token: u64,
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

    /// `lock` is still held: the write of a client that has lost it does not take effect, whatever the client
    /// believes.
    ///
    /// ```no_run
    /// use seshat::client::{Condition, TxnOperation};
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let lock = client.lock("backup").await?;
    /// let done = client
    ///     .txn()
    ///     .when(Condition::held(&lock))
    ///     .then(TxnOperation::set("backup/state", "done"))
    ///     .then(TxnOperation::delete("backup/next"))
    ///     .await?;
    /// println!("written while the lock was held: {}", done.succeeded);
    /// # Ok(())
    /// # }
    /// ```
    pub fn held(lock: &Lock) -> Self {
        Self::token(lock.name(), lock.token())
    }

    /// The lock `name` is held under exactly `token`, which another process may have passed on.
    pub fn token(name: impl Into<String>, token: u64) -> Self {
        Self::Held {
            name: name.into(),
            token,
        }
    }
}

impl From<Condition> for kv::Condition {
    fn from(condition: Condition) -> Self {
        let (key, test) = match condition {
            Condition::Exists { key, exists } => (key, Test::Exists(exists)),
            Condition::Revision { key, revision } => (key, Test::Revision(revision)),
            Condition::Value { key, value } => (key, Test::Value(value)),
            Condition::Held { name, token } => {
                let held = Tested::Lock(kv::HeldLock { name, token });
                return Self {
                    condition: Some(held),
                };
            }
        };
        let test = Some(test);
        Self {
            condition: Some(Tested::Key(kv::KeyCondition { key, test })),
        }
    }
}
