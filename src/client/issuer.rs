//! Writes and transactions, of a client or within a session.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status};
use tracing::{Instrument as _, debug_span};

use super::call::Repeat;
use super::call_error::or_older;
use super::nodes::{Answer, Node};
use super::numbers::{Number, Numbers};
use super::txn::{OLDER_VERSION, Txn, TxnOperation, TxnOutcome};
use super::{Applied, Client, Deleted, Error, Lifetime, Written};
use crate::proto::kv;

/// The client that makes a call, by itself or within a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Issuer<'a> {
    client: &'a Client,
    /// The numbers of the session, and the cluster that has it.
    session: Option<(&'a Arc<Numbers>, Option<u64>)>,
}

impl<'a> Issuer<'a> {
    /// A write has no number, and is not repeated if it may have been applied.
    pub(super) fn new(client: &'a Client) -> Self {
        let session = None;
        Self { client, session }
    }

    /// A write has a number, and is repeated until it is answered.
    pub(super) fn in_session(
        client: &'a Client,
        numbers: &'a Arc<Numbers>,
        cluster: Option<u64>,
    ) -> Self {
        let session = Some((numbers, cluster));
        Self { client, session }
    }

    pub(super) async fn set(
        self,
        key: Bytes,
        value: Bytes,
        lifetime: Lifetime,
    ) -> Result<Written, Error> {
        if lifetime != Lifetime::Unlimited {
            let set = TxnOperation::Set {
                key,
                value,
                lifetime,
            };
            let outcome = self.txn(Txn::default().then(set)).await?;
            return Ok(outcome.written());
        }
        let set = |node: Node, session| {
            let request = node.request(kv::SetRequest {
                key: key.clone(),
                value: value.clone(),
                session,
                cluster_id: node.cluster,
            });
            async move { node.kv().set(request).await }
        };
        let call = self.write(set).instrument(debug_span!("set"));
        Ok(call.await?.into())
    }

    pub(super) async fn delete(self, key: Bytes) -> Result<Deleted, Error> {
        let delete = |node: Node, session| {
            let request = node.request(kv::DeleteRequest {
                key: key.clone(),
                session,
                cluster_id: node.cluster,
            });
            async move { node.kv().delete(request).await }
        };
        let call = self.write(delete).instrument(debug_span!("delete"));
        Ok(call.await?.into())
    }

    pub(super) async fn txn(self, txn: Txn) -> Result<TxnOutcome, Error> {
        let carry_out = |node: Node, session| {
            let request = node.request(txn.request(session, node.cluster));
            let txn = &txn;
            async move {
                let answer = node.kv().txn(request).await;
                let answer = answer.map_err(|status| or_older(status, OLDER_VERSION))?;
                let (metadata, response, extensions) = answer.into_parts();
                // Nothing is known of a write whose answer makes no sense.
                let outcome = txn.outcome(response);
                let outcome = outcome.ok_or_else(|| Status::internal(ASTRAY))?;
                Ok(Response::from_parts(metadata, outcome, extensions))
            }
        };
        let call = async {
            if txn.is_write() {
                return self.write(carry_out).await;
            }
            if let Some((numbers, _)) = self.session {
                numbers.holds()?;
            }
            let read = |node| carry_out(node, None);
            let deadline = self.client.deadline();
            self.client.call(deadline, Repeat::Read, read).await
        };
        call.instrument(debug_span!("txn")).await
    }

    async fn write<T, F, Fut>(self, make: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn(Node, Option<kv::Session>) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        let deadline = self.client.deadline();
        let Some((numbers, cluster)) = self.session else {
            let make = |node| make(node, None);
            return self.client.call(deadline, Repeat::Unsafe, make).await;
        };
        let number = next(numbers, deadline).await?;
        let client = self.client.bound_to(cluster);
        let make = |node| make(node, Some(number.stamp()));
        client.call(deadline, Repeat::Safe, make).await
    }
}

/// The next number of a session.
pub(super) async fn next(numbers: &Arc<Numbers>, deadline: Instant) -> Result<Number, Error> {
    let numbers = timeout_at(deadline, numbers.next(1)).await;
    let number = numbers.ok().transpose()?;
    let number = number.and_then(|numbers| numbers.into_iter().next());
    number.ok_or_else(|| Error::Deadline {
        message: "too many writes of the session are outstanding".to_owned(),
        applied: Applied::No,
        last: None,
    })
}

const ASTRAY: &str = "the node answered another transaction than the one it was asked for";
