//! The store for callers in the process of a node: no connection, no encoding.

use std::time::Duration;

use bytes::Bytes;

use super::Host;
use super::kv::KvService;
use super::operation::{Operation, numbered_twice};
use crate::deadline::after;
use crate::driver::Answer;
use crate::error::{Applied, Reason, Refusal};
use crate::proto::kv;
use crate::types::{Key, NodeStatus, Revision, Value};
use crate::wire;

/// The store, as the node in this process serves it.
///
/// Reads are linearizable and writes are acknowledged by a majority, as over gRPC; limits, refusals and
/// deadlines are the same. Only the leader serves: elsewhere a call ends with
/// [`Reason::NotLeader`](crate::error::Reason::NotLeader), which names the leader once there is one, and
/// is surely not applied. The feature `client` has a client that finds the leader by itself.
///
/// Cheap to clone; clones share their turns with one another as one connection does. A dropped future
/// leaves it open whether its write is applied.
///
/// ```no_run
/// # async fn example(server: seshat::server::Server) -> Result<(), Box<dyn std::error::Error>> {
/// let local = server.local();
/// tokio::spawn(server.run(std::future::pending()));
/// local.set("city", "Uruk").await?;
/// assert_eq!(local.get("city").await?.as_deref(), Some(&b"Uruk"[..]));
/// assert!(local.delete("city").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Local {
    kv: KvService,
    timeout: Duration,
}

impl Local {
    /// The store of `host`.
    pub(crate) fn new(host: Host) -> Self {
        Self {
            timeout: host.options.request_timeout,
            kv: KvService::new(host),
        }
    }

    /// The same store with another deadline for each call; `limits.request_timeout_ms` is the default and
    /// the longest.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout: timeout.min(self.kv.host().options.request_timeout),
            ..self.clone()
        }
    }

    /// The value of `key`; `None` if it has none. The read is linearizable.
    ///
    /// # Errors
    ///
    /// The node refuses the read.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Value>, Refusal> {
        let found = self.get_with_revision(key).await?;
        Ok(found.map(|(value, _)| value))
    }

    /// The value of `key`, and the revision of the write that has bound it; `None` if it has no value. The
    /// read is linearizable. The revision is 0 while a process takes part that runs a version without
    /// revisions.
    ///
    /// # Errors
    ///
    /// The node refuses the read.
    pub async fn get_with_revision(
        &self,
        key: impl Into<Key>,
    ) -> Result<Option<(Value, Revision)>, Refusal> {
        let request = kv::GetRequest {
            key: key.into(),
            cluster_id: None,
        };
        let operation = Operation::get(request, &self.kv.host().options)?;
        match self.execute(&operation).await? {
            Answer::Got { found, .. } => {
                Ok(found.map(|(value, revision)| (value.into_value(), revision)))
            }
            _ => Err(astray(Applied::No)),
        }
    }

    /// Binds `key` to `value`. Returns the revision of the write: writes take effect in ascending order
    /// of it.
    ///
    /// # Errors
    ///
    /// The node refuses the write; [`Refusal::applied`] says whether it may be applied all the same.
    pub async fn set(
        &self,
        key: impl Into<Key>,
        value: impl Into<Value>,
    ) -> Result<Revision, Refusal> {
        let request = kv::SetRequest {
            key: key.into(),
            value: value.into(),
            session: None,
            cluster_id: None,
        };
        let operation = Operation::set(request, &self.kv.host().options)?;
        match self.execute(&operation).await? {
            Answer::Set { applied_index } => Ok(applied_index),
            _ => Err(astray(Applied::Unknown)),
        }
    }

    /// Removes `key`. Returns whether it had a value.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    pub async fn delete(&self, key: impl Into<Key>) -> Result<bool, Refusal> {
        let request = kv::DeleteRequest {
            key: key.into(),
            session: None,
            cluster_id: None,
        };
        let operation = Operation::delete(request, &self.kv.host().options)?;
        match self.execute(&operation).await? {
            Answer::Deleted { existed, .. } => Ok(existed),
            _ => Err(astray(Applied::Unknown)),
        }
    }

    /// Tests conditions, and reads and writes several keys, atomically. The messages are those of the
    /// protocol; the answer names no cluster. If the answer is lost to a dropped future, only a request
    /// with a number in a session is safe to repeat.
    ///
    /// ```no_run
    /// use seshat::proto::kv::{
    ///     Condition, KeyCondition, Operation, SetOperation, TxnRequest, condition, key_condition, operation,
    /// };
    ///
    /// # async fn example(local: seshat::server::Local) -> Result<(), Box<dyn std::error::Error>> {
    /// let missing = KeyCondition {
    ///     key: "owner".into(),
    ///     test: Some(key_condition::Test::Exists(false)),
    /// };
    /// let set = SetOperation {
    ///     key: "owner".into(),
    ///     value: "node 1".into(),
    ///     ..SetOperation::default()
    /// };
    /// let claim = TxnRequest {
    ///     conditions: vec![Condition { condition: Some(condition::Condition::Key(missing)) }],
    ///     success: vec![Operation { operation: Some(operation::Operation::Set(set)) }],
    ///     ..TxnRequest::default()
    /// };
    /// println!("claimed: {}", local.txn(claim).await?.succeeded);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The node refuses the transaction; [`Refusal::applied`] says whether it may be applied all the same.
    pub async fn txn(&self, request: kv::TxnRequest) -> Result<kv::TxnResponse, Refusal> {
        let cluster = request.cluster_id;
        let operation = Operation::txn(request, &self.kv.host().options)?;
        match (self.execute_for(cluster, &operation).await?, operation) {
            (Answer::Txn { outcome, revision }, _) => Ok(wire::txn_response(outcome, revision)),
            (_, Operation::Command(_)) => Err(numbered_twice()),
            (_, Operation::Query(_)) => Err(astray(Applied::No)),
        }
    }

    /// The node's own view of itself and of its cluster.
    pub fn status(&self) -> NodeStatus {
        self.kv.host().driver.status()
    }

    async fn execute(&self, operation: &Operation) -> Result<Answer, Refusal> {
        self.execute_for(None, operation).await
    }

    async fn execute_for(
        &self,
        cluster: Option<u64>,
        operation: &Operation,
    ) -> Result<Answer, Refusal> {
        let deadline = after(self.timeout);
        self.kv
            .execute(cluster, operation, &Bytes::new(), deadline)
            .await
    }
}

/// The core answers the operation that it was given, but the types do not show that.
fn astray(applied: Applied) -> Refusal {
    let reason = Reason::InvalidRequest {
        field: "answer",
        rule: "it belongs to another operation than this one".to_owned(),
    };
    Refusal { reason, applied }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Detached;

    /// The refusal of `call` when the driver answers with `answer`.
    async fn refused<T>(
        driver: &mut Detached,
        answer: Answer,
        call: impl Future<Output = Result<T, Refusal>>,
    ) -> Refusal {
        let outcome = Ok(answer);
        let drive = async {
            while driver.answer_all(&outcome) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let (called, ()) = tokio::join!(call, drive);
        called.err().expect("a refusal")
    }

    #[tokio::test]
    async fn an_answer_that_is_astray_is_at_fault_and_not_the_key() {
        let (host, mut driver) = Host::detached();
        let local = Local::new(host);
        let (applied_index, existed) = (1, true);
        let (set, deleted) = (
            Answer::Set { applied_index },
            Answer::Deleted {
                existed,
                applied_index,
            },
        );
        for (refusal, applied) in [
            (
                refused(&mut driver, set.clone(), local.get("k")).await,
                Applied::No,
            ),
            (
                refused(&mut driver, deleted, local.set("k", "v")).await,
                Applied::Unknown,
            ),
            (
                refused(&mut driver, set, local.delete("k")).await,
                Applied::Unknown,
            ),
        ] {
            assert_eq!(
                refusal.reason.to_string(),
                "answer: it belongs to another operation than this one"
            );
            assert_eq!(refusal.applied, applied);
        }
    }
}
