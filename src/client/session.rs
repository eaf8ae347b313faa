//! Sessions: writes that are applied once, however often they have to be sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::issuer::Issuer;
use super::numbers::Numbers;
use super::pipeline::{Pipeline, PipelineOptions};
use super::{Client, Delete, Error, Found, Set, TxnCall};

/// A session: each write has a number. It is sent again under that number until it is answered or its
/// deadline has passed, and is applied once.
///
/// Cheap to clone; clones are the same session. Up to 1024 writes may be in flight; a further one waits.
/// Their order among one another is undefined, like that of any concurrent writes.
///
/// A [`LivingSession`](super::LivingSession) ends when it is not renewed. Any other one stays open; but when
/// the cluster holds too many sessions, it drops the least recently used ones. Then every write of
/// the session ends with `SessionExpired`, see [`Error::is_session_expired`]: open another one. A session
/// also ends with its cluster, if an operator recovers another cluster from it. The error says
/// [`Applied::Unknown`](super::Applied::Unknown) only if an earlier attempt at that very write may have been
/// applied.
#[derive(Debug, Clone)]
pub struct Session {
    client: Client,
    /// The cluster that has the session.
    cluster: Option<u64>,
    numbers: Arc<Numbers>,
}

impl Session {
    pub(super) fn new(client: Client, cluster: Option<u64>, numbers: Numbers) -> Self {
        let numbers = Arc::new(numbers);
        Self {
            client,
            cluster,
            numbers,
        }
    }

    /// The id of the session, which its client has drawn at random.
    pub fn id(&self) -> u64 {
        self.numbers.client_id()
    }

    /// The client of the session's cluster.
    pub(super) fn client(&self) -> Client {
        self.client.bound_to(self.cluster)
    }

    pub(super) fn numbers(&self) -> &Arc<Numbers> {
        &self.numbers
    }

    /// The deadline of a call that begins now.
    pub(super) fn deadline(&self) -> Instant {
        self.client.deadline()
    }

    /// Binds `key` to `value`, once. On a condition, as [`Set::if_absent`]: if the answer is lost, the call
    /// is repeated, and the outcome is that of the first attempt.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let session = client.session().await?;
    /// let claimed = session.set("owner", "node 1").if_absent().await?;
    /// println!("this call has claimed it: {}", claimed.succeeded());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The write may have been applied if the error says [`Applied::Unknown`](super::Applied::Unknown): the
    /// deadline passed before an answer came, or the session has expired in between.
    pub fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Set<'_> {
        Set::new(self.issuer(), key.into(), value.into())
    }

    /// Removes `key`, once: `existed` is the result of the first removal.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    pub fn delete(&self, key: impl Into<Bytes>) -> Delete<'_> {
        Delete::new(self.issuer(), key.into())
    }

    /// Carries out a transaction, once: see [`Client::txn`]. If the answer is lost, the call is repeated,
    /// and the outcome is that of the first attempt.
    ///
    /// ```no_run
    /// use seshat::client::{Condition, TxnOperation};
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let session = client.session().await?;
    /// let claimed = session
    ///     .txn()
    ///     .when(Condition::missing("owner"))
    ///     .then(TxnOperation::set("owner", "node 1"))
    ///     .await?;
    /// println!("this call has claimed it: {}", claimed.succeeded);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set). What it reads is at most 64 KiB if it may write, and 1 MiB in all
    /// transactions of the session that are in flight.
    pub fn txn(&self) -> TxnCall<'_> {
        TxnCall::new(self.issuer())
    }

    /// Reads `key`: see [`Client::get`].
    ///
    /// # Errors
    ///
    /// Nothing was read.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        self.numbers.holds()?;
        self.client.get(key).await
    }

    /// Reads `key`, and returns its revision and the one that the answer reflects.
    ///
    /// # Errors
    ///
    /// Nothing was read.
    pub async fn get_with_index(&self, key: impl Into<Bytes>) -> Result<Found, Error> {
        self.numbers.holds()?;
        self.client.get_with_index(key).await
    }

    /// Opens a pipeline whose writes belong to this session: it survives the loss of its connection and
    /// of the leader.
    ///
    /// # Errors
    ///
    /// No leader was found in time.
    pub async fn pipeline(&self, options: PipelineOptions) -> Result<Pipeline, Error> {
        self.numbers.holds()?;
        let numbers = Some(Arc::clone(&self.numbers));
        let client = self.client.bound_to(self.cluster);
        Pipeline::open(client, numbers, options).await
    }

    /// The same session, with `timeout` for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            client: self.client.with_timeout(timeout),
            cluster: self.cluster,
            numbers: Arc::clone(&self.numbers),
        }
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer::in_session(&self.client, &self.numbers, self.cluster)
    }
}
