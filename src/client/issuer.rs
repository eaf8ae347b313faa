//! Writes and transactions, of a client or within a session.

use bytes::Bytes;
use tonic::{Code, Response, Status};
use tracing::{Instrument as _, debug_span};

use super::call::Repeat;
use super::nodes::{Answer, Node};
use super::txn::{OLDER_VERSION, Txn, TxnOutcome};
use super::{Client, Deleted, Error, Session, Written};
use crate::proto::kv;

/// The client or the session that makes a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Issuer<'a> {
    /// A write without a number, which is not repeated if it may have been applied.
    Client(&'a Client),
    /// A write with a number, which is repeated until it is answered.
    Session(&'a Session),
}

impl Issuer<'_> {
    pub(super) async fn set(self, key: Bytes, value: Bytes) -> Result<Written, Error> {
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
                let answer = node.kv().txn(request).await.map_err(older)?;
                let (metadata, response, extensions) = answer.into_parts();
                // Nothing is known of a write whose answer makes no sense.
                let outcome = txn.outcome(response);
                let outcome = outcome.ok_or_else(|| Status::internal(ASTRAY))?;
                Ok(Response::from_parts(metadata, outcome, extensions))
            }
        };
        let call = async {
            match txn.is_write() {
                true => self.write(carry_out).await,
                false => self.read(|node| carry_out(node, None)).await,
            }
        };
        call.instrument(debug_span!("txn")).await
    }

    async fn write<T, F, Fut>(self, make: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn(Node, Option<kv::Session>) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        match self {
            Self::Client(client) => {
                let make = |node| make(node, None);
                client.call(client.deadline(), Repeat::Unsafe, make).await
            }
            Self::Session(session) => session.write(make).await,
        }
    }

    async fn read<T, F, Fut>(self, make: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        let client = match self {
            Self::Client(client) => client,
            Self::Session(session) => session.client(),
        };
        client.call(client.deadline(), Repeat::Read, make).await
    }
}

const ASTRAY: &str = "the node answered another transaction than the one it was asked for";

/// The status of a call of `Txn`: a node that does not know the method runs an older version.
fn older(status: Status) -> Status {
    match status.code() {
        Code::Unimplemented => {
            let details = Bytes::copy_from_slice(status.details());
            Status::with_details(status.code(), OLDER_VERSION, details)
        }
        _ => status,
    }
}
