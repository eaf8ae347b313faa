//! Transactions: conditions, operations, and the outcome.

use std::time::Duration;

use bytes::Bytes;

use super::{Condition, Lifetime, LivingSession, Written};
use crate::proto::kv;
use crate::proto::kv::operation::Operation as Asked;
use crate::proto::kv::operation_result::Result as Done;

/// The message of the refusal of a node that does not know transactions.
pub(super) const OLDER_VERSION: &str =
    "this node runs an older version, which knows no transactions (not applied)";

/// One operation of a transaction. It sees the effects of those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnOperation {
    /// Binds a key.
    #[non_exhaustive]
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// How long the key stays bound.
        lifetime: Lifetime,
    },
    /// Reads a key.
    #[non_exhaustive]
    Get {
        /// The key.
        key: Bytes,
    },
    /// Removes a key.
    #[non_exhaustive]
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl TxnOperation {
    /// Binds `key` to `value`, for ever unless it gets another lifetime: [`ttl`](Self::ttl),
    /// [`owned_by`](Self::owned_by), [`keep_lifetime`](Self::keep_lifetime).
    pub fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Set {
            key: key.into(),
            value: value.into(),
            lifetime: Lifetime::Unlimited,
        }
    }

    /// The same operation, whose key stays bound for `ttl`: see [`Lifetime::Ttl`]. Only for `set`; the other
    /// operations stay as they are.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use seshat::client::{Condition, TxnOperation};
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let token = TxnOperation::set("token/7", "ada").ttl(Duration::from_secs(60));
    /// client.txn().when(Condition::missing("token/7")).then(token).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.lifetime(Lifetime::Ttl(ttl))
    }

    /// The same operation, whose key stays bound as long as `session` lives: see [`Lifetime::Owner`]. Only
    /// for `set`; the other operations stay as they are.
    #[must_use]
    pub fn owned_by(self, session: &LivingSession) -> Self {
        self.lifetime(Lifetime::Owner(session.id()))
    }

    /// The same operation, whose key stays bound as long as before: see [`Lifetime::Keep`]. Only for `set`;
    /// the other operations stay as they are.
    #[must_use]
    pub fn keep_lifetime(self) -> Self {
        self.lifetime(Lifetime::Keep)
    }

    /// The same operation with this lifetime. Only for `set`; the other operations stay as they are.
    #[must_use]
    pub fn lifetime(mut self, new: Lifetime) -> Self {
        if let Self::Set { lifetime, .. } = &mut self {
            *lifetime = new;
        }
        self
    }

    /// Reads `key`.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Removes `key`. A missing key is no error.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Whether it changes anything.
    fn is_write(&self) -> bool {
        !matches!(self, Self::Get { .. })
    }
}

/// A transaction: `success` is carried out if all `conditions` hold, otherwise `failure`. It is atomic, and
/// has one revision.
///
/// Conditions and operations together are at most 128, and their keys and values at most as large as the
/// largest key and the largest value that the nodes accept. Neither `success` nor `failure` writes a key
/// twice. What the operations read is at most 2 MiB, and 64 KiB for a write in a session. A node refuses a
/// transaction that breaks a bound, surely not applied.
///
/// For a [`Pipeline`](super::Pipeline); [`Client::txn`](super::Client::txn) carries one out by itself.
///
/// ```no_run
/// use seshat::client::{Condition, Operation, PipelineOptions, Reply, Txn, TxnOperation};
///
/// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
/// let claim = Txn::default()
///     .when(Condition::missing("owner"))
///     .then(TxnOperation::set("owner", "node 1"))
///     .otherwise(TxnOperation::get("owner"));
/// let pipeline = client.pipeline(PipelineOptions::default()).await?;
/// for answer in pipeline.submit([Operation::Txn(claim)]).await?.await {
///     if let Reply::Txn(outcome) = answer? {
///         println!("claimed: {}", outcome.succeeded);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Txn {
    /// The conditions. None: `success` is carried out.
    pub conditions: Vec<Condition>,
    /// The operations that are carried out if all conditions hold.
    pub success: Vec<TxnOperation>,
    /// The operations that are carried out if a condition does not hold.
    pub failure: Vec<TxnOperation>,
}

impl Txn {
    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Adds an operation for the case that all conditions hold.
    #[must_use]
    pub fn then(mut self, operation: TxnOperation) -> Self {
        self.success.push(operation);
        self
    }

    /// Adds an operation for the case that a condition does not hold.
    #[must_use]
    pub fn otherwise(mut self, operation: TxnOperation) -> Self {
        self.failure.push(operation);
        self
    }

    /// Whether it may change anything. Otherwise it is a read.
    pub(super) fn is_write(&self) -> bool {
        let operations = self.success.iter().chain(&self.failure);
        operations.into_iter().any(TxnOperation::is_write)
    }

    /// The request, with the number of its write and for `cluster_id`.
    pub(super) fn request(
        &self,
        session: Option<kv::Session>,
        cluster_id: Option<u64>,
    ) -> kv::TxnRequest {
        let operations = |all: &[TxnOperation]| all.iter().cloned().map(Into::into).collect();
        kv::TxnRequest {
            conditions: self.conditions.iter().cloned().map(Into::into).collect(),
            success: operations(&self.success),
            failure: operations(&self.failure),
            session,
            cluster_id,
        }
    }

    /// The outcome that `response` tells. `None` if it is no answer to this transaction.
    pub(super) fn outcome(&self, response: kv::TxnResponse) -> Option<TxnOutcome> {
        let kv::TxnResponse {
            succeeded,
            results,
            revision,
            cluster_id: _,
        } = response;
        let operations = match succeeded {
            true => &self.success,
            false => &self.failure,
        };
        if operations.len() != results.len() {
            return None;
        }
        let results = operations.iter().zip(results);
        let results = results.map(|(operation, result)| match (operation, result.result?) {
            (TxnOperation::Set { .. }, Done::Set(_)) => Some(TxnResult::Written),
            (TxnOperation::Get { .. }, Done::Get(got)) => {
                Some(TxnResult::Found(got.entry.map(Into::into)))
            }
            (TxnOperation::Delete { .. }, Done::Delete(deleted)) => Some(TxnResult::Deleted {
                existed: deleted.existed,
            }),
            _ => None,
        });
        Some(TxnOutcome {
            succeeded,
            results: results.collect::<Option<_>>()?,
            revision,
        })
    }
}

/// The outcome of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxnOutcome {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation of `success`, or of `failure` if a condition did not hold, in order.
    pub results: Vec<TxnResult>,
    /// Revision of the transaction, and of every key that it has bound. If it writes nothing: the revision
    /// up to which the answering node had applied the writes.
    pub revision: u64,
}

impl TxnOutcome {
    /// What it has written.
    pub(super) fn written(&self) -> Written {
        Written {
            applied_index: self.revision,
        }
    }
}

/// The result of one operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnResult {
    /// The key was bound.
    Written,
    /// The key was read. `None`: it is missing.
    Found(Option<Entry>),
    /// The key was removed, or was not there.
    Deleted {
        /// Whether the key was bound before.
        existed: bool,
    },
}

/// A key that is bound, and the write that has bound it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision of the write.
    pub revision: u64,
    /// The TTL of the key, as it was set. `None`: it has none.
    pub ttl: Option<Duration>,
    /// The id of the living session that owns the key. `None`: it has no owner.
    pub owner: Option<u64>,
}

impl From<TxnOperation> for kv::Operation {
    fn from(operation: TxnOperation) -> Self {
        let operation = match operation {
            TxnOperation::Set {
                key,
                value,
                lifetime,
            } => Asked::Set(kv::SetOperation {
                key,
                value,
                lifetime: lifetime.into(),
            }),
            TxnOperation::Get { key } => Asked::Get(kv::GetOperation { key }),
            TxnOperation::Delete { key } => Asked::Delete(kv::DeleteOperation { key }),
        };
        Self {
            operation: Some(operation),
        }
    }
}

impl From<kv::Entry> for Entry {
    fn from(entry: kv::Entry) -> Self {
        let kv::Entry {
            key,
            value,
            revision,
            ttl,
            owner,
        } = entry;
        Self {
            key,
            value,
            revision,
            ttl: ttl.and_then(|ttl| ttl.try_into().ok()),
            owner: Some(owner).filter(|owner| *owner != 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to an operation that was carried out.
    fn result(done: Done) -> kv::OperationResult {
        kv::OperationResult { result: Some(done) }
    }

    #[test]
    fn an_answer_counts_only_if_it_fits_the_operations_that_were_carried_out() {
        let txn = Txn::default()
            .then(TxnOperation::set("k", "v"))
            .then(TxnOperation::delete("k"))
            .otherwise(TxnOperation::get("k"));
        let answer = |succeeded, results: &[Done]| {
            txn.outcome(kv::TxnResponse {
                succeeded,
                results: results.iter().cloned().map(result).collect(),
                revision: 7,
                cluster_id: None,
            })
        };
        let set = Done::Set(kv::SetResult {});
        let get = Done::Get(kv::GetResult { entry: None });
        let delete = Done::Delete(kv::DeleteResult { existed: true });

        let succeeded = answer(true, &[set.clone(), delete.clone()]).unwrap();
        let existed = TxnResult::Deleted { existed: true };
        assert!(succeeded.succeeded && succeeded.revision == 7);
        assert_eq!(succeeded.results, [TxnResult::Written, existed]);
        let failed = answer(false, std::slice::from_ref(&get)).unwrap();
        assert_eq!(failed.results, [TxnResult::Found(None)]);

        for (succeeded, results) in [
            (true, &[][..]),
            (true, std::slice::from_ref(&set)),
            (true, &[set.clone(), delete.clone(), get.clone()]),
            (true, &[delete.clone(), delete]),
            (true, &[get.clone(), get.clone()]),
            (true, &[set.clone(), set.clone()]),
            (false, std::slice::from_ref(&set)),
            (false, &[]),
        ] {
            assert_eq!(answer(succeeded, results), None, "{succeeded} {results:?}");
        }
        let nothing = kv::OperationResult { result: None };
        let results = vec![nothing];
        let response = kv::TxnResponse {
            results,
            ..kv::TxnResponse::default()
        };
        assert_eq!(txn.outcome(response), None);
    }
}
