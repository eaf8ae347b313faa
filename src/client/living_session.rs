//! Sessions that end when they are not renewed.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::lease::Lost;
use super::renewal::Renewal;
use super::{Error, Session};

/// A living session: a [`Session`] that the client renews, and that the cluster ends when no renewal has come
/// for its TTL. It may [own keys](super::Set::owned_by) and hold [locks](Self::lock), which end with it.
///
/// Cheap to clone; clones are the same session. A task renews it every third of the TTL, at whichever node
/// leads. When all clones, and all [`Session`]s and pipelines made of them, are dropped, the task tells the
/// cluster to end the session; [`close`](Self::close) waits until that is done.
///
/// # What may be believed
///
/// The session is lost for the client when 90 % of the TTL have passed since it sent the last renewal that was
/// answered. Until then it lives in the cluster, as long as the rates of the clocks differ by at most 5 %. From
/// then on every call of it ends with [`Error::SessionLost`], and nothing brings it back: end what relied on
/// it, and open another one. A call that began before may still be answered, and the answer is true.
///
/// Time counts while the machine is suspended, too, on Linux (`CLOCK_BOOTTIME`) and on Apple's systems. On
/// others it does not: there, do not rely on the session after a suspension. A program that blocks its runtime
/// for long renews nothing, and loses the session.
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
/// let session = client.session().ttl(Duration::from_secs(10)).await?;
/// session.set("online/ada", "").owned_by(&session).await?;
/// println!("{:016x} holds: {}", session.id(), !session.is_lost());
/// session.close().await?;
/// assert_eq!(client.get("online/ada").await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LivingSession {
    session: Session,
    renewal: Arc<Renewal>,
}

impl LivingSession {
    pub(super) fn new(session: Session, renewal: Arc<Renewal>) -> Self {
        Self { session, renewal }
    }

    /// The TTL, as the cluster has granted it.
    pub fn ttl(&self) -> Duration {
        self.renewal.lease().ttl()
    }

    /// Whether the session is lost. Reads the clocks: it is right also when the program has just been
    /// stopped or suspended.
    pub fn is_lost(&self) -> bool {
        self.renewal.lease().is_lost().is_some()
    }

    /// Whether the loss of the session has been noted, a second after it at the latest. Reads no clock.
    pub(super) fn is_noted_as_lost(&self) -> bool {
        self.renewal.lease().noted().is_some()
    }

    /// Waits until the session is lost. After a suspension of the machine it may take a second to tell.
    /// Dropping this future does no harm.
    ///
    /// ```no_run
    /// # async fn work() {}
    /// # async fn example(session: seshat::client::LivingSession) {
    /// tokio::select! {
    ///     () = work() => {}
    ///     why = session.lost() => eprintln!("the session is lost: {why}"),
    /// }
    /// # }
    /// ```
    pub async fn lost(&self) -> Lost {
        self.renewal.lease().lost().await
    }

    /// Ends the session, and removes the keys that it owns. It is lost at once, for all of its clones.
    ///
    /// If this future is dropped after it was polled, the session is still ended, as well as that can be done.
    ///
    /// ```no_run
    /// # async fn example(session: seshat::client::LivingSession) -> Result<(), seshat::client::Error> {
    /// session.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The session was lost before, or its end was not acknowledged in time. The cluster ends it at the latest
    /// when its TTL has passed.
    pub async fn close(&self) -> Result<(), Error> {
        self.renewal.close(self.session.deadline()).await
    }

    /// Ends the session in the background.
    pub(super) fn end(&self) {
        self.renewal.end();
    }

    /// The session is lost from now on.
    pub(super) fn lose(&self, why: Lost) {
        self.renewal.lease().lose(why);
    }

    /// The same session, with `timeout` for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            session: self.session.with_timeout(timeout),
            renewal: Arc::clone(&self.renewal),
        }
    }
}

impl Deref for LivingSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}
