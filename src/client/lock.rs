//! Locks that this client holds.

use super::claim::Claim;
use super::{Error, LivingSession, Lost};

/// A lock that this client holds, until it is released or its session is lost.
///
/// Dropping it releases it in the background, repeatedly if need be. [`release`](Self::release) waits until that is
/// done: call it before the program ends, because otherwise the others wait until the TTL has passed.
///
/// # What may be believed
///
/// While [`is_lost`](Self::is_lost) is false, no other claim holds the lock, as long as the rates of the clocks differ
/// by at most 5 %: see [`LivingSession`]. But a program may be stopped at any moment, also between that question
/// and what it does next, and a message may be on its way for long. So what must never be done by two holders needs
/// the [`token`](Self::token):
///
/// * a write to Seshat: [`Set::if_held`](super::Set::if_held), [`Condition::held`](super::Condition::held). It takes
///   effect only if the lock is held at that very place in the order of all writes;
/// * a request to another resource: pass the token, and let the resource refuse one that is lower than the highest
///   that it has seen.
///
/// With tokens nothing has to be believed of any clock.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    claim: Claim,
    token: u64,
}

impl Lock {
    /// # Errors
    ///
    /// The session was lost meanwhile.
    pub(super) fn new(claim: Claim, token: u64) -> Result<Self, Error> {
        claim.session().numbers().holds()?;
        Ok(Self { claim, token })
    }

    /// The name of the lock.
    pub fn name(&self) -> &str {
        self.claim.name()
    }

    /// The fencing token: the revision at which the claim began to hold the lock. Every later holder of the lock has
    /// a higher one, also after a loss of all data.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The session that holds the lock.
    pub fn session(&self) -> &LivingSession {
        self.claim.session()
    }

    /// Whether the lock is lost: its session is. Reads the clocks, so it is right also when the program has just
    /// been stopped.
    pub fn is_lost(&self) -> bool {
        self.session().is_lost()
    }

    /// Waits until the lock is lost, because its session is. Dropping this future does no harm.
    ///
    /// ```no_run
    /// # async fn work() {}
    /// # async fn example(lock: seshat::client::Lock) {
    /// tokio::select! {
    ///     () = work() => {}
    ///     why = lock.lost() => eprintln!("the lock is lost: {why}"),
    /// }
    /// # }
    /// ```
    pub async fn lost(&self) -> Lost {
        self.session().lost().await
    }

    /// Releases the lock. The next claim holds it when this returns.
    ///
    /// If this future is dropped, or the release is not acknowledged in time, it goes on in the background.
    ///
    /// ```no_run
    /// # async fn example(lock: seshat::client::Lock) -> Result<(), seshat::client::Error> {
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The lock was lost before, see [`Error::is_session_expired`], or the release was not acknowledged in time.
    pub async fn release(self) -> Result<(), Error> {
        self.claim.release().await
    }
}
