//! Calls that write: futures that take conditions before they are polled.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::conditional::{ConditionalWrite, deleted};
use super::issuer::Issuer;
use super::running::Running;
use super::txn::{Txn, TxnOperation, TxnOutcome};
use super::{Client, Condition, Deleted, Error, Lifetime, LivingSession, Lock, Written};

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

    /// Writes only if `lock` is still held: see [`Condition::held`].
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let lock = client.lock("backup").await?;
    /// let write = client.set("backup/state", "done").if_held(&lock);
    /// if !write.await?.succeeded() {
    ///     println!("the lock was lost");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_held(self, lock: &Lock) -> ConditionalWrite<'a, Written> {
        self.on(Condition::held(lock))
    }

    /// Writes only if the lock `name` is held under `token`: see [`Condition::token`].
    pub fn if_token(self, name: impl Into<String>, token: u64) -> ConditionalWrite<'a, Written> {
        self.on(Condition::token(name, token))
    }

    fn on(self, condition: Condition) -> ConditionalWrite<'a, Written> {
        let read = TxnOperation::get(self.key.clone());
        let write = TxnOperation::Set {
            key: self.key,
            value: self.value,
            lifetime: self.lifetime,
        };
        let txn = Txn::default().when(condition).then(write).otherwise(read);
        ConditionalWrite::new(self.issuer, txn, TxnOutcome::written)
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

    /// Removes the key only if `lock` is still held: see [`Condition::held`].
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let lock = client.lock("backup").await?;
    /// let removal = client.delete("backup/next").if_held(&lock);
    /// println!("the lock was held: {}", removal.await?.succeeded());
    /// # Ok(())
    /// # }
    /// ```
    pub fn if_held(self, lock: &Lock) -> ConditionalWrite<'a, Deleted> {
        self.on(Condition::held(lock))
    }

    /// Removes the key only if the lock `name` is held under `token`: see [`Condition::token`].
    pub fn if_token(self, name: impl Into<String>, token: u64) -> ConditionalWrite<'a, Deleted> {
        self.on(Condition::token(name, token))
    }

    fn on(self, condition: Condition) -> ConditionalWrite<'a, Deleted> {
        let read = TxnOperation::get(self.key.clone());
        let removal = TxnOperation::delete(self.key);
        let txn = Txn::default().when(condition).then(removal).otherwise(read);
        ConditionalWrite::new(self.issuer, txn, deleted)
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

impl Client {
    /// Tests conditions, and reads and writes several keys, atomically. The operations of
    /// [`then`](TxnCall::then) are carried out if all conditions hold, otherwise those of
    /// [`otherwise`](TxnCall::otherwise). Acknowledged like [`set`](Self::set). A transaction that writes
    /// nothing is a read of several keys at once. [`Txn`] has the bounds.
    ///
    /// ```no_run
    /// use seshat::client::{Condition, TxnOperation};
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let outcome = client
    ///     .txn()
    ///     .when(Condition::exists("city"))
    ///     .then(TxnOperation::set("city", "Ur"))
    ///     .then(TxnOperation::delete("town"))
    ///     .otherwise(TxnOperation::get("town"))
    ///     .await?;
    /// println!("{}: {:?}", outcome.succeeded, outcome.results);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The transaction may have been applied if the error says [`Applied::Unknown`](super::Applied::Unknown); it is not repeated
    /// then. One that writes nothing is repeated like a read. Every member has to run version 0.2.0 or
    /// later: the error names a node that does not, with
    /// [`Reason::FailedPrecondition`](super::Reason::FailedPrecondition) or
    /// [`Code::Unimplemented`](tonic::Code::Unimplemented).
    pub fn txn(&self) -> TxnCall<'_> {
        TxnCall::new(Issuer::new(self))
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
