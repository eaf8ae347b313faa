//! Calls that acquire a lock.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::claim::{Asked, Claim, Outcome};
use super::open_session::open_living;
use super::running::Running;
use super::{Client, Error, Holder, LivingSession, Lock, Lost};

/// The TTL of the session that a lock has for itself, unless the program wants another one.
const TTL: Duration = Duration::from_secs(10);

impl LivingSession {
    /// Acquires the lock `name`: 1 to 256 bytes. One claim holds it at a time, and the others wait in the order in
    /// which they came. Each call is a claim of its own: a session that acquires a lock twice waits for itself.
    ///
    /// [`Lock`] says what may be believed. The call waits as long as the session lives, whatever the timeout of its
    /// calls; a deadline of [`Client::within`] ends it, and so do [`max_wait`](Acquire::max_wait) and
    /// [`no_wait`](Acquire::no_wait). Changes of the leader cost nothing but time.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn back_up() {}
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let session = client.session().ttl(Duration::from_secs(10)).await?;
    /// let lock = session.lock("backup").await?;
    /// tokio::select! {
    ///     () = back_up() => lock.release().await?,
    ///     why = lock.lost() => eprintln!("the lock is lost: {why}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The lock is not held: the session is lost, the cluster could not be reached or refused the claim, or the
    /// deadline has passed. What may have been claimed is released in the background. A session has at most 1024
    /// claims and owned keys together.
    pub fn lock(&self, name: impl Into<String>) -> Acquire {
        Acquire::new(Source::Session(self.clone()), name.into())
    }
}

impl Client {
    /// Acquires the lock `name` with a living session of its own, which ends with the lock: see
    /// [`LivingSession::lock`]. To hold several locks, or to own keys, open one
    /// [session](super::OpenSession::ttl) for all of them.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let lock = client.lock("backup").await?;
    /// client.set("backup/state", "begun").if_held(&lock).await?;
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`LivingSession::lock`]. Every member has to run version 0.2.0 or later: otherwise the error names a
    /// node that does not.
    pub fn lock(&self, name: impl Into<String>) -> Acquire {
        let client = self.clone();
        Acquire::new(Source::Client { client, ttl: TTL }, name.into())
    }
}

/// The session of a claim, or what opens it.
#[derive(Debug, Clone)]
enum Source {
    Session(LivingSession),
    Client { client: Client, ttl: Duration },
}

impl Source {
    async fn claim(self, asked: &Asked) -> Result<(Claim, Outcome), Error> {
        match self {
            Self::Session(session) => Claim::make(session, false, asked).await,
            Self::Client { client, ttl } => {
                let session = open_living(&client, ttl).await?;
                Claim::make(session, true, asked).await
            }
        }
    }
}

/// A call that acquires a lock: see [`LivingSession::lock`].
///
/// A future, which begins when it is polled. If it is dropped after that, the claim is released in the background,
/// whether it has got the lock already or not.
#[derive(Debug)]
#[must_use = "nothing is acquired before it is awaited"]
pub struct Acquire {
    source: Source,
    asked: Asked,
    running: Running<'static, Lock>,
}

impl Acquire {
    fn new(source: Source, name: String) -> Self {
        let asked = Asked {
            name,
            value: Bytes::new(),
            max_wait: None,
        };
        Self {
            source,
            asked,
            running: Running::default(),
        }
    }

    /// What others see of the holder, as [`Holder::value`]: at most 4096 bytes, such as the name of this machine.
    /// Default: nothing.
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.asked.value = value.into();
        self
    }

    /// The TTL of the session that [`Client::lock`] opens: 2 s to 1 h, 10 s by default. A lock of a session has
    /// that of the session.
    pub fn ttl(mut self, new: Duration) -> Self {
        if let Source::Client { ttl, .. } = &mut self.source {
            *ttl = new;
        }
        self
    }

    /// Gives up after `max_wait`, at most 10 years. Time in which the cluster has no leader does not count.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use seshat::client::LockAttempt;
    ///
    /// # async fn example(session: seshat::client::LivingSession) -> Result<(), seshat::client::Error> {
    /// match session.lock("backup").max_wait(Duration::from_secs(30)).await? {
    ///     LockAttempt::Acquired(lock) => println!("held under token {}", lock.token()),
    ///     _ => println!("it was not free within 30 s"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_wait(mut self, max_wait: Duration) -> TryAcquire {
        self.asked.max_wait = Some(max_wait);
        TryAcquire {
            source: self.source,
            asked: self.asked,
            running: Running::default(),
        }
    }

    /// Does not wait if the lock is held.
    ///
    /// ```no_run
    /// use seshat::client::LockAttempt;
    ///
    /// # async fn example(session: seshat::client::LivingSession) -> Result<(), seshat::client::Error> {
    /// match session.lock("backup").no_wait().await? {
    ///     LockAttempt::Acquired(lock) => println!("held under token {}", lock.token()),
    ///     LockAttempt::Occupied(holder) => println!("held by {:?}", holder.value),
    ///     LockAttempt::TimedOut => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn no_wait(self) -> TryAcquire {
        self.max_wait(Duration::ZERO)
    }
}

impl Future for Acquire {
    type Output = Result<Lock, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            source,
            asked,
            running,
        } = &mut *self;
        running.poll(context, || {
            let (source, asked) = (source.clone(), asked.clone());
            async move {
                let lock = attempt(source, asked).await?.acquired();
                // Only the end of the session ends a claim that waits for as long.
                lock.ok_or(Error::SessionLost { why: Lost::Ended })
            }
        })
    }
}

/// A call that acquires a lock if it gets free in time: see [`Acquire::max_wait`].
///
/// A future, which begins when it is polled. If it is dropped after that, the claim is released in the background,
/// whether it has got the lock already or not.
#[derive(Debug)]
#[must_use = "nothing is acquired before it is awaited"]
pub struct TryAcquire {
    source: Source,
    asked: Asked,
    running: Running<'static, LockAttempt>,
}

impl Future for TryAcquire {
    type Output = Result<LockAttempt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            source,
            asked,
            running,
        } = &mut *self;
        running.poll(context, || attempt(source.clone(), asked.clone()))
    }
}

async fn attempt(source: Source, asked: Asked) -> Result<LockAttempt, Error> {
    let (claim, outcome) = source.claim(&asked).await?;
    Ok(match outcome {
        Outcome::Held(token) => LockAttempt::Acquired(Lock::new(claim, token)?),
        Outcome::Occupied(holder) => LockAttempt::Occupied(holder),
        Outcome::Gone => LockAttempt::TimedOut,
    })
}

/// What has come of an attempt to acquire a lock. Not to get it is an outcome, and no error.
#[derive(Debug)]
pub enum LockAttempt {
    /// This call holds the lock.
    Acquired(Lock),
    /// Another claim holds the lock, and this call was not to wait.
    Occupied(Holder),
    /// The lock was not free in time. [`Client::inspect_lock`] tells who holds it.
    TimedOut,
}

impl LockAttempt {
    /// The lock, if this call holds it.
    pub fn acquired(self) -> Option<Lock> {
        match self {
            Self::Acquired(lock) => Some(lock),
            Self::Occupied(_) | Self::TimedOut => None,
        }
    }
}
