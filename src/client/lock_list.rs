//! Who holds locks, as the cluster shows it.

use bytes::Bytes;
use tracing::{Instrument as _, debug_span};

use super::call::Repeat;
use super::call_error::or_older;
use super::claim::OLDER_VERSION;
use super::nodes::Node;
use super::{Client, Error};
use crate::proto::lock;

/// The claim that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its session: [`Session::id`](super::Session::id).
    pub client_id: u64,
    /// Its number in the session.
    pub claim: u64,
    /// The fencing token: later holders have higher ones.
    pub token: u64,
    /// What the holder tells of itself: see [`Acquire::value`](super::Acquire::value).
    pub value: Bytes,
}

/// A lock, as the cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockInfo {
    /// Its name.
    pub name: String,
    /// The claim that holds it. `None`: it is free.
    pub holder: Option<Holder>,
    /// Number of claims that wait for it.
    pub waiting: u64,
}

impl Client {
    /// Reads who holds the lock `name`. Linearizable like [`get`](Self::get); the lock may have another holder when
    /// the answer arrives.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// if let Some(holder) = client.inspect_lock("indexer").await?.holder {
    ///     println!("{:?} leads, under token {}", holder.value, holder.token);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The lock could not be read.
    pub async fn inspect_lock(&self, name: impl Into<String>) -> Result<LockInfo, Error> {
        let name = name.into();
        let inspect = |node: Node| {
            let request = node.request(lock::InspectRequest {
                name: name.clone(),
                cluster_id: node.cluster,
            });
            async move {
                let answer = node.locks().inspect(request).await;
                answer.map_err(|status| or_older(status, OLDER_VERSION))
            }
        };
        let call = self.call(self.deadline(), Repeat::Read, inspect);
        let state = call.instrument(debug_span!("inspect_lock")).await?;
        Ok(LockInfo {
            name,
            holder: state.holder.map(Holder::from),
            waiting: state.waiting,
        })
    }

    /// The locks that are held, in ascending order of their names. Linearizable like [`get`](Self::get). They are
    /// read in pages of 1000: a lock that is acquired or released meanwhile may be missing or not.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// for lock in client.locks().await? {
    ///     println!("{}: {} wait", lock.name, lock.waiting);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The locks could not be read.
    pub async fn locks(&self) -> Result<Vec<LockInfo>, Error> {
        let deadline = self.deadline();
        let mut locks: Vec<LockInfo> = Vec::new();
        loop {
            let after = locks.last().map(|it| it.name.clone()).unwrap_or_default();
            let page = |node: Node| {
                let request = node.request(lock::ListLocksRequest {
                    after: after.clone(),
                    limit: 0,
                    cluster_id: node.cluster,
                });
                async move {
                    let page = node.locks().list_locks(request).await;
                    page.map_err(|status| or_older(status, OLDER_VERSION))
                }
            };
            let call = self.call(deadline, Repeat::Read, page);
            let page = call.instrument(debug_span!("list_locks")).await?;
            let before = locks.len();
            locks.extend(page.locks.into_iter().map(LockInfo::from));
            // A page that says nothing new has nothing behind it.
            if !page.more || locks.len() == before {
                return Ok(locks);
            }
        }
    }
}

impl From<lock::Holder> for Holder {
    fn from(holder: lock::Holder) -> Self {
        let lock::Holder {
            client_id,
            claim,
            token,
            value,
        } = holder;
        Self {
            client_id,
            claim,
            token,
            value,
        }
    }
}

impl From<lock::Lock> for LockInfo {
    fn from(lock: lock::Lock) -> Self {
        let lock::Lock {
            name,
            holder,
            waiting,
        } = lock;
        Self {
            name,
            holder: holder.map(Holder::from),
            waiting,
        }
    }
}
