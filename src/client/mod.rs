//! The Rust client: endpoints in, answers out.
//!
//! A [`Client`] finds the leader and follows it. Every call has one deadline for everything that it does.
//! A call without an answer ends with a typed [`Error`], which always says whether a write [may have been
//! applied](Error::applied).
//!
//! ```no_run
//! use seshat::client::Client;
//!
//! # async fn example() -> Result<(), seshat::client::Error> {
//! let client = Client::connect(["kvstore-1:6379", "kvstore-2:6379", "kvstore-3:6379"])?;
//! client.set("city", "Uruk").await?;
//! assert_eq!(client.get("city").await?.as_deref(), Some(&b"Uruk"[..]));
//! assert!(client.delete("city").await?.existed);
//! # Ok(())
//! # }
//! ```
//!
//! # What is repeated
//!
//! An answer can be lost on its way. A read is then sent again, to the current leader. A write that may
//! have been applied is not: it ends with [`Applied::Unknown`]. In a [`Session`] it is sent again under
//! the same number until the deadline, and applied once however often it arrives.
//!
//! ```no_run
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! let session = client.session().await?;
//! // Whether this call deleted the key, even if the leader dies in the middle of it.
//! let mine = session.delete("lock").await?.existed;
//! # Ok(())
//! # }
//! ```
//!
//! # On a condition
//!
//! Every write has a *revision*, a number that later writes exceed. A write may depend on what its key is
//! bound to; a [transaction](Client::txn) tests, reads and writes several keys at once. A condition that
//! does not hold is an outcome, and no error.
//!
//! ```no_run
//! use seshat::client::{Condition, Conditional, TxnOperation};
//!
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! if let Conditional::Failed(found) = client.set("owner", "node 1").if_absent().await? {
//!     println!("owned by {:?} since revision {}", found.value, found.revision);
//! }
//! let moved = client
//!     .txn()
//!     .when(Condition::value("owner", "node 1"))
//!     .then(TxnOperation::set("owner", "node 2"))
//!     .then(TxnOperation::delete("lease"))
//!     .await?;
//! println!("moved: {}, at revision {}", moved.succeeded, moved.revision);
//! # Ok(())
//! # }
//! ```
//!
//! # What ends by itself
//!
//! A key may have a [TTL](Set::ttl). A [living session](OpenSession::ttl) ends when its client is gone, and the
//! keys that it owns end with it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! client.set("token/7", "ada").ttl(Duration::from_secs(60)).await?;
//! let session = client.session().ttl(Duration::from_secs(10)).await?;
//! session.set("service/web/1", "10.0.0.7:80").owned_by(&session).await?;
//! println!("the session is lost: {}", session.lost().await);
//! # Ok(())
//! # }
//! ```
//!
//! # Locks, and the election of a leader
//!
//! A [lock](Client::lock) is held by one claim at a time, and an [election](Client::elect) is a lock whose holder
//! leads. Each has a [token](Lock::token), by which a resource refuses a former holder: see [`Lock`].
//!
//! ```no_run
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! let lock = client.lock("backup").await?;
//! client.set("backup/state", "begun").if_held(&lock).await?;
//! lock.release().await?;
//!
//! let mut leaders = client.observe("indexer");
//! while let Some(leader) = leaders.next().await {
//!     println!("now leads: {:?}", leader?.map(|leader| leader.value));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A range of keys
//!
//! A [scan](Client::scan) reads keys in order, one by one or at once, and all of one moment. Scans use
//! connections of their own, so a slow one delays no other call.
//!
//! ```no_run
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! let mut users = client.scan("user/").stream();
//! while let Some(entry) = users.next().await {
//!     let entry = entry?;
//!     println!("{:?}: {:?}", entry.key, entry.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [watch](Client::watch) tells every change of a range, as it comes; a [`Mirror`] is the range as a map that
//! follows its changes.
//!
//! ```no_run
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! let mut config = client.watch("config/").mirror().await?;
//! loop {
//!     println!("limits: {:?}", config.get("config/limits").map(|entry| &entry.value));
//!     config.changed().await?;
//! }
//! # }
//! ```
//!
//! # One cluster
//!
//! A client belongs to the cluster that answered it first. If its endpoints lead to a second cluster,
//! answers of that one are not accepted. If an operator recovers the first cluster from the state of one
//! node, the client logs a warning and follows; sessions and pipelines end. Watch
//! [`Client::watch_cluster`] to learn of it. A cluster that forms anew after a loss of all data is
//! unrelated to the earlier one: calls end with [`Error::is_other_cluster`], until a new client is made.
//! A program that makes few calls and ends should first check that all endpoints are of [one
//! cluster](Client::one_cluster), or name its cluster ([`Builder::only_cluster`]).
//!
//! # Many at once
//!
//! A [`Pipeline`] keeps many commands in flight on one stream, and they take effect in order.
//!
//! ```no_run
//! use seshat::client::{Operation, PipelineOptions};
//!
//! # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
//! let pipeline = client.pipeline(PipelineOptions::default().window(128)).await?;
//! let batch = [Operation::set("city", "Ur"), Operation::get("city")];
//! for answer in pipeline.submit(batch).await?.await {
//!     println!("{:?}", answer?);
//! }
//! # Ok(())
//! # }
//! ```

mod acquire;
mod admin;
mod batch;
mod builder;
mod call;
mod call_error;
mod claim;
mod clock;
mod condition;
mod conditional;
mod election;
mod error;
mod issuer;
mod key_range;
mod lease;
mod lifetime;
mod living_session;
mod lock;
mod lock_list;
mod nodes;
mod numbers;
mod observe;
mod one_cluster;
mod open_session;
mod operation;
mod options;
mod parts;
mod pipeline;
mod renewal;
mod results;
mod running;
mod scan;
mod search;
mod session;
mod session_list;
mod stream;
mod txn;
mod watch;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};

pub use acquire::{Acquire, LockAttempt, TryAcquire};
pub use admin::{Admin, AdminNode};
pub use builder::{Builder, endpoint, endpoints};
pub use condition::Condition;
pub use conditional::{Conditional, ConditionalWrite};
pub use election::{Campaign, Leadership};
pub use error::{Applied, Error, Reason, Refusal};
pub use key_range::KeyRange;
pub use lease::Lost;
pub use lifetime::Lifetime;
pub use living_session::LivingSession;
pub use lock::Lock;
pub use lock_list::{Holder, LockInfo};
pub use observe::Holders;
pub use open_session::{OpenLivingSession, OpenSession};
pub use operation::{Operation, Reply};
pub use options::MAX_MESSAGE_BYTES;
pub use pipeline::{Answers, Pipeline, PipelineOptions};
pub use results::{Deleted, Found, Written};
pub use scan::{Entries, Scan};
pub use session::Session;
pub use session_list::{ClosedSession, SessionInfo};
pub use txn::{Entry, Txn, TxnOperation, TxnOutcome, TxnResult};
pub use watch::{Event, Mirror, Position, Removal, Update, Updates, Watch};
pub use write::{Delete, Set, TxnCall};

use call::Repeat;
use issuer::Issuer;
use nodes::{Purpose, Shared, TraceParent};

use crate::deadline::{after, since};
use crate::proto::kv::GetRequest;
use crate::traceparent;

/// A client of one cluster.
///
/// Cheap to clone: clones share the connections and the knowledge of the cluster. It must be used within
/// one tokio runtime, for as long as it exists. Any of its futures may be dropped: a write that was sent
/// may then be applied or not.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limit: Limit,
    /// The cluster that calls name, if it differs from the one that `shared` knows.
    cluster: Option<u64>,
    /// The connections that calls use.
    purpose: Purpose,
    traceparent: Option<TraceParent>,
}

/// The time limit of calls.
#[derive(Debug, Clone, Copy)]
struct Limit {
    timeout: Duration,
    /// The end of all calls together, instead of a timeout for each.
    deadline: Option<Instant>,
}

impl Client {
    /// A builder, for a client with more settings than its endpoints.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A client of the cluster that has nodes at `endpoints`, each `host:port`. It connects on first use.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: there is no endpoint, or one is not of the form `host:port`.
    pub fn connect(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, Error> {
        Self::builder().endpoints(endpoints).build()
    }

    /// The same client, with `timeout` for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let limit = Limit {
            timeout,
            deadline: None,
        };
        Self {
            limit,
            ..self.clone()
        }
    }

    /// The same client, with `timeout` from now on for all of its calls together.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        self.within_since(Instant::now(), timeout)
    }

    /// The same client, with `timeout` since `begun` for all of its calls together.
    #[must_use]
    pub fn within_since(&self, begun: Instant, timeout: Duration) -> Self {
        let limit = Limit {
            timeout,
            deadline: Some(since(begun, timeout)),
        };
        Self {
            limit,
            ..self.clone()
        }
    }

    /// The same client, whose calls carry the trace context `traceparent`: the value of the W3C header of
    /// that name. Nodes that log `seshat::trace` at level debug then log where a write of the client is
    /// applied. A malformed `traceparent` is ignored.
    #[must_use]
    pub fn traced(&self, traceparent: &str) -> Self {
        let valid = Some(traceparent).filter(|text| traceparent::is_valid(text.as_bytes()));
        Self {
            traceparent: valid.and_then(|text| text.parse().ok()),
            ..self.clone()
        }
    }

    /// The id of the cluster that this client belongs to, once a node of it has answered. A change means
    /// that an operator has recovered another cluster from it: writes that were acknowledged before may
    /// be lost.
    pub fn watch_cluster(&self) -> tokio::sync::watch::Receiver<Option<u64>> {
        self.shared.watch_cluster()
    }

    /// The same client, whose calls name `cluster` even if another one takes its place.
    fn bound_to(&self, cluster: Option<u64>) -> Self {
        Self {
            cluster,
            ..self.clone()
        }
    }

    /// The same client, whose calls have answers of many parts.
    fn for_streams(&self) -> Self {
        Self {
            purpose: Purpose::Streams,
            ..self.clone()
        }
    }

    /// The deadline of a call that begins now.
    fn deadline(&self) -> Instant {
        self.limit
            .deadline
            .unwrap_or_else(|| after(self.limit.timeout))
    }

    /// Binds `key` to `value`. Returns once a majority holds the write and the leader has applied it.
    ///
    /// Nothing is sent before the call is awaited. Until then it may get a condition, such as
    /// [`Set::if_absent`].
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let written = client.set("city", "Uruk").await?;
    /// println!("revision {}", written.applied_index);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The write may have been applied if the error says [`Applied::Unknown`].
    pub fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Set<'_> {
        Set::new(Issuer::new(self), key.into(), value.into())
    }

    /// Reads `key`. The answer reflects every write that was acknowledged before the call began.
    ///
    /// # Errors
    ///
    /// Nothing was read.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        Ok(self.get_with_index(key).await?.value)
    }

    /// Reads `key`, and returns its revision and the one that the answer reflects.
    ///
    /// # Errors
    ///
    /// Nothing was read.
    pub async fn get_with_index(&self, key: impl Into<Bytes>) -> Result<Found, Error> {
        let key = key.into();
        let get = |node: nodes::Node| {
            let request = node.request(GetRequest {
                key: key.clone(),
                cluster_id: node.cluster,
            });
            async move { node.kv().get(request).await }
        };
        let call = self.call(self.deadline(), Repeat::Read, get);
        Ok(call.instrument(debug_span!("get")).await?.into())
    }

    /// Removes `key`. Acknowledged like [`set`](Self::set), and may get a condition as well:
    /// [`Delete::if_revision`].
    ///
    /// # Errors
    ///
    /// The removal may have been applied if the error says [`Applied::Unknown`].
    pub fn delete(&self, key: impl Into<Bytes>) -> Delete<'_> {
        Delete::new(Issuer::new(self), key.into())
    }

    /// Waits until a leader serves requests, which is the case once the cluster has formed.
    ///
    /// # Errors
    ///
    /// No leader served in time.
    pub async fn ready(&self) -> Result<(), Error> {
        let ready = self.call(self.deadline(), Repeat::Read, call::probe);
        ready.instrument(debug_span!("ready")).await.map(drop)
    }

    /// Opens a stream that keeps many commands in flight.
    ///
    /// # Errors
    ///
    /// No leader was found in time.
    pub async fn pipeline(&self, options: PipelineOptions) -> Result<Pipeline, Error> {
        Pipeline::open(self.clone(), None, options).await
    }

    /// The API for operators.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }
}
