//! The commands of a pipeline, and their answers.

use bytes::Bytes;

use super::{Deleted, Found, Txn, TxnOutcome, Written};

/// One command of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Binds a key.
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Carries out a transaction.
    Txn(Txn),
}

impl Operation {
    /// Binds `key` to `value`, for ever. A set with a lifetime, or on a condition, is a [transaction](Self::Txn):
    /// `SetRequest` has neither, because a node of version 0.1.0 would ignore them.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use seshat::client::{Operation, Txn, TxnOperation};
    ///
    /// let token = TxnOperation::set("token/7", "ada").ttl(Duration::from_secs(60));
    /// let set = Operation::Txn(Txn::default().then(token));
    /// ```
    pub fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Set {
            key: key.into(),
            value: value.into(),
        }
    }

    /// Reads `key`.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Removes `key`.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Whether it changes anything.
    pub(super) fn is_write(&self) -> bool {
        match self {
            Self::Set { .. } | Self::Delete { .. } => true,
            Self::Get { .. } => false,
            Self::Txn(txn) => txn.is_write(),
        }
    }
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The key was bound.
    Written(Written),
    /// The key was read.
    Found(Found),
    /// The key was removed.
    Deleted(Deleted),
    /// The transaction was carried out.
    Txn(TxnOutcome),
}
