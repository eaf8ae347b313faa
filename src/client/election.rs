//! Elections: locks whose holder leads.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::{Acquire, Client, Error, LivingSession, Lock};

impl LivingSession {
    /// Stands for election under `name`, and waits until this client leads. `value` is what
    /// [`observers`](Client::observe) see then: an address, for example.
    ///
    /// An election is the [lock](Self::lock) of that name, and its leader is the holder: the same is promised, and
    /// the same ends the wait.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn lead(token: u64) {}
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let session = client.session().ttl(Duration::from_secs(10)).await?;
    /// let leadership = session.elect("indexer", "10.0.0.7:80").await?;
    /// tokio::select! {
    ///     () = lead(leadership.token()) => leadership.resign().await?,
    ///     why = leadership.lost() => eprintln!("leads no more: {why}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// This client does not lead: see [`lock`](Self::lock).
    pub fn elect(&self, name: impl Into<String>, value: impl Into<Bytes>) -> Campaign {
        Campaign(self.lock(name).value(value))
    }
}

impl Client {
    /// Stands for election with a living session of its own, which ends with the leadership: see
    /// [`LivingSession::elect`].
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let leadership = client.elect("indexer", "10.0.0.7:80").await?;
    /// client.set("indexer/state", "begun").if_held(&leadership).await?;
    /// leadership.resign().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`LivingSession::elect`].
    pub fn elect(&self, name: impl Into<String>, value: impl Into<Bytes>) -> Campaign {
        Campaign(self.lock(name).value(value))
    }
}

/// A call that stands for election: see [`LivingSession::elect`].
///
/// A future, which begins when it is polled. If it is dropped after that, the candidate withdraws in the background.
#[derive(Debug)]
#[must_use = "nothing begins before it is awaited"]
pub struct Campaign(Acquire);

impl Campaign {
    /// The TTL of the session that [`Client::elect`] opens: see [`Acquire::ttl`].
    pub fn ttl(self, ttl: Duration) -> Self {
        Self(self.0.ttl(ttl))
    }
}

impl Future for Campaign {
    type Output = Result<Leadership, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_ok(Leadership)
    }
}

/// The leadership of this client, until it resigns or its session is lost.
///
/// It is the [`Lock`] of the election, with all that holds for locks: what must never be done by two leaders needs
/// the [`token`](Lock::token). Dropping it resigns in the background.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Leadership(Lock);

impl Leadership {
    /// Ends the leadership: see [`Lock::release`]. The next candidate leads when this returns.
    ///
    /// # Errors
    ///
    /// It was lost before, or its end was not acknowledged in time.
    pub async fn resign(self) -> Result<(), Error> {
        self.0.release().await
    }
}

impl Deref for Leadership {
    type Target = Lock;

    fn deref(&self) -> &Lock {
        &self.0
    }
}
