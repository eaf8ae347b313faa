//! Calls that write: futures that take conditions before they are polled.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::issuer::Issuer;
use super::txn::{Txn, TxnOperation, TxnOutcome, TxnResult};
use super::{Condition, Deleted, Error, Found, Lifetime, LivingSession, Written};

/// A call that begins when it is first polled.
pub(super) struct Running<'a, T>(Option<BoxFuture<'a, Result<T, Error>>>);

impl<T> Default for Running<'_, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'a, T> Running<'a, T> {
    pub(super) fn poll<F>(
        &mut self,
        context: &mut Context<'_>,
        begin: impl FnOnce() -> F,
    ) -> Poll<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>> + Send + 'a,
    {
        let call = self.0.get_or_insert_with(|| Box::pin(begin()));
        call.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Running<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.0.is_some()).finish()
    }
}

/// A call that binds a key: see [`Client::set`](super::Client::set).
///
/// A future, which begins when it is polled. Before that it may get a lifetime, and then a condition; with
/// one of them the call is a transaction, which nodes from version 0.2.0 on carry out. If it is dropped after
/// it was polled, the write may be applied or not.
#[derive(Debug)]
#[must_use = "nothing is written before it is awaited"]
pub struct Set<'a> {
    issuer: Issuer<'a>,
    key: Bytes,
    value: Bytes,
    lifetime: Lifetime,
    running: Running<'a, Written>,
}

impl<'a> Set<'a> {
    pub(super) fn new(issuer: Issuer<'a>, key: Bytes, value: Bytes) -> Self {
        Self {
            issuer,
            key,
            value,
            lifetime: Lifetime::Unlimited,
            running: Running::default(),
        }
    }

    /// Binds the key for `ttl`, unless it is written again: see [`Lifetime::Ttl`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// client.set("token/7", "ada").ttl(Duration::from_secs(60)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl(self, ttl: Duration) -> Self {
        self.lifetime(Lifetime::Ttl(ttl))
    }

    /// Binds the key as long as `session` lives: see [`Lifetime::Owner`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let session = client.session().ttl(Duration::from_secs(10)).await?;
    /// session.set("service/web/1", "10.0.0.7:80").owned_by(&session).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn owned_by(self, session: &LivingSession) -> Self {
        self.lifetime(Lifetime::Owner(session.id()))
    }

    /// Changes the value and keeps the lifetime of the key: see [`Lifetime::Keep`].
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// client.set("token/7", "eve").keep_lifetime().if_value("ada").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_lifetime(self) -> Self {
        self.lifetime(Lifetime::Keep)
    }

    /// Binds the key for this lifetime.
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        Self { lifetime, ..self }
    }

    /// Writes only if the key is missing.
    ///
    /// ```no_run
    /// use seshat::client::Conditional;
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// match client.set("owner", "node 1").if_absent().await? {
    ///     Conditional::Succeeded(written) => println!("mine since {}", written.applied_index),
    ///     Conditional::Failed(found) => println!("owned by {:?}", found.value),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_absent(self) -> ConditionalWrite<'a, Written> {
        let condition = Condition::missing(self.key.clone());
        self.on(condition)
    }

    /// Writes only if the key was bound by the write of `revision`, and has not been written since. 0: if
    /// the key is missing.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let found = client.get_with_index("city").await?;
    /// let write = client.set("city", "Ur").if_revision(found.revision);
    /// if !write.await?.succeeded() {
    ///     println!("another client has written in between");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_revision(self, revision: u64) -> ConditionalWrite<'a, Written> {
        let condition = Condition::revision(self.key.clone(), revision);
        self.on(condition)
    }

    /// Writes only if the key is bound to exactly `value`.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let write = client.set("state", "done").if_value("running");
    /// println!("done: {}", write.await?.succeeded());
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_value(self, value: impl Into<Bytes>) -> ConditionalWrite<'a, Written> {
        let condition = Condition::value(self.key.clone(), value);
        self.on(condition)
    }

    fn on(self, condition: Condition) -> ConditionalWrite<'a, Written> {
        let write = TxnOperation::Set {
            key: self.key,
            value: self.value,
            lifetime: self.lifetime,
        };
        ConditionalWrite::new(self.issuer, condition, write, TxnOutcome::written)
    }
}

impl Future for Set<'_> {
    type Output = Result<Written, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            issuer,
            key,
            value,
            lifetime,
            running,
        } = &mut *self;
        running.poll(context, || {
            issuer.set(key.clone(), value.clone(), *lifetime)
        })
    }
}

/// A call that removes a key: see [`Client::delete`](super::Client::delete).
///
/// A future, which begins when it is polled. Before that it may get a condition; then the call is a
/// transaction, which nodes from version 0.2.0 on carry out. If it is dropped after it was polled, the
/// removal may be applied or not.
#[derive(Debug)]
#[must_use = "nothing is removed before it is awaited"]
pub struct Delete<'a> {
    issuer: Issuer<'a>,
    key: Bytes,
    running: Running<'a, Deleted>,
}

impl<'a> Delete<'a> {
    pub(super) fn new(issuer: Issuer<'a>, key: Bytes) -> Self {
        Self {
            issuer,
            key,
            running: Running::default(),
        }
    }

    /// Removes the key only if it was bound by the write of `revision`, and has not been written since.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let written = client.set("owner", "node 1").await?;
    /// let removal = client.delete("owner").if_revision(written.applied_index);
    /// println!("it was still mine: {}", removal.await?.succeeded());
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_revision(self, revision: u64) -> ConditionalWrite<'a, Deleted> {
        let condition = Condition::revision(self.key.clone(), revision);
        self.on(condition)
    }

    /// Removes the key only if it is bound to exactly `value`.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let removal = client.delete("owner").if_value("node 1");
    /// println!("it was still mine: {}", removal.await?.succeeded());
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_value(self, value: impl Into<Bytes>) -> ConditionalWrite<'a, Deleted> {
        let condition = Condition::value(self.key.clone(), value);
        self.on(condition)
    }

    fn on(self, condition: Condition) -> ConditionalWrite<'a, Deleted> {
        let removal = TxnOperation::delete(self.key);
        ConditionalWrite::new(self.issuer, condition, removal, deleted)
    }
}

impl Future for Delete<'_> {
    type Output = Result<Deleted, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            issuer,
            key,
            running,
        } = &mut *self;
        running.poll(context, || issuer.delete(key.clone()))
    }
}

/// The outcome of a write on a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conditional<T> {
    /// The condition held, and the write is done.
    Succeeded(T),
    /// The condition did not hold, and nothing is written: what the key was bound to instead, read in the
    /// same step.
    Failed(Found),
}

impl<T> Conditional<T> {
    /// Whether the condition held.
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }
}

/// A call that writes on one condition: see [`Set::if_absent`] and its siblings.
///
/// A future, which begins when it is polled. If it is dropped after it was polled, the write may be applied
/// or not.
///
/// An error says whether the write may have been applied. Without a session a call is not repeated then, as
/// a second attempt would fail against the success of the first; in a [`Session`](super::Session) it is,
/// and the outcome is that of the first attempt.
#[derive(Debug)]
#[must_use = "nothing is written before it is awaited"]
pub struct ConditionalWrite<'a, T> {
    issuer: Issuer<'a>,
    txn: Txn,
    /// The result of the write, from the outcome of a transaction that succeeded.
    done: fn(&TxnOutcome) -> T,
    running: Running<'a, TxnOutcome>,
}

impl<'a, T> ConditionalWrite<'a, T> {
    fn new(
        issuer: Issuer<'a>,
        condition: Condition,
        write: TxnOperation,
        done: fn(&TxnOutcome) -> T,
    ) -> Self {
        let read = TxnOperation::get(condition.key().clone());
        let txn = Txn::default().when(condition).then(write).otherwise(read);
        Self {
            issuer,
            txn,
            done,
            running: Running::default(),
        }
    }
}

impl<T> Future for ConditionalWrite<'_, T> {
    type Output = Result<Conditional<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            issuer,
            txn,
            done,
            running,
        } = &mut *self;
        let outcome = running.poll(context, || issuer.txn(txn.clone()));
        outcome.map_ok(|outcome| match outcome.succeeded {
            true => Conditional::Succeeded(done(&outcome)),
            false => Conditional::Failed(found(outcome)),
        })
    }
}

fn deleted(outcome: &TxnOutcome) -> Deleted {
    Deleted {
        existed: outcome.results == [TxnResult::Deleted { existed: true }],
        applied_index: outcome.revision,
    }
}

/// What the only operation of a transaction has read.
fn found(outcome: TxnOutcome) -> Found {
    let entry = match outcome.results.into_iter().next() {
        Some(TxnResult::Found(entry)) => entry,
        _ => None,
    };
    let (value, revision) = entry.map(|it| (it.value, it.revision)).unzip();
    Found {
        value,
        revision: revision.unwrap_or_default(),
        applied_index: outcome.revision,
    }
}

/// A call that carries out a transaction: see [`Client::txn`](super::Client::txn).
///
/// A future, which begins when it is polled; conditions and operations are added before that. If it is
/// dropped after it was polled, the transaction may be applied as a whole or not at all.
#[derive(Debug)]
#[must_use = "nothing is carried out before it is awaited"]
pub struct TxnCall<'a> {
    issuer: Issuer<'a>,
    txn: Txn,
    running: Running<'a, TxnOutcome>,
}

impl<'a> TxnCall<'a> {
    pub(super) fn new(issuer: Issuer<'a>) -> Self {
        Self {
            issuer,
            txn: Txn::default(),
            running: Running::default(),
        }
    }

    /// Adds a condition. Without one, the operations of [`then`](Self::then) are carried out.
    pub fn when(mut self, condition: Condition) -> Self {
        self.txn = self.txn.when(condition);
        self
    }

    /// Adds an operation for the case that all conditions hold.
    pub fn then(mut self, operation: TxnOperation) -> Self {
        self.txn = self.txn.then(operation);
        self
    }

    /// Adds an operation for the case that a condition does not hold.
    pub fn otherwise(mut self, operation: TxnOperation) -> Self {
        self.txn = self.txn.otherwise(operation);
        self
    }
}

impl Future for TxnCall<'_> {
    type Output = Result<TxnOutcome, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            issuer,
            txn,
            running,
        } = &mut *self;
        running.poll(context, || issuer.txn(txn.clone()))
    }
}
