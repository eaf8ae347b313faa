//! The lease of a living session: until when its client may rely on it.
//!
//! The cluster counts the TTL from when it applies a renewal, the client from when it sent it. So the client
//! counts first, and it gives up at 90 % of the TTL: before the cluster ends the session, as long as the
//! rates of their clocks differ by at most 5 %.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::clock::{Clock, Moment};
use crate::deadline::since;

/// Longest sleep before the clocks are read again: timers do not count suspended time.
const LOOK: Duration = Duration::from_secs(1);

/// Why a living session is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// No renewal was answered for 90 % of its TTL. The cluster ends it when none has come for the TTL.
    NotRenewed,
    /// The cluster has ended it, or an operator has recovered another cluster from its own. That one keeps its
    /// keys until its TTL has passed.
    Ended,
    /// [`LivingSession::close`](super::LivingSession::close) was called.
    Closed,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRenewed => "it could not be renewed in time",
            Self::Ended => "the cluster has ended it",
            Self::Closed => "it was closed",
        })
    }
}

/// The lease. Once it is lost, it stays lost.
#[derive(Debug)]
pub(super) struct Lease {
    ttl: Duration,
    clock: Clock,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    /// When the last renewal that was answered was sent.
    renewed: Moment,
    lost: Option<Lost>,
}

impl Lease {
    /// A lease that was granted for a request that was sent at `renewed`.
    pub(super) fn new(ttl: Duration, clock: Clock, renewed: Moment) -> Self {
        let lost = None;
        Self {
            ttl,
            clock,
            state: watch::Sender::new(State { renewed, lost }),
        }
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) fn now(&self) -> Moment {
        Moment::now(self.clock)
    }

    /// How long it holds after a renewal.
    fn holds(&self) -> Duration {
        (self.ttl / 10).saturating_mul(9)
    }

    /// When it is lost at the latest, unless it is renewed.
    pub(super) fn end(&self) -> Instant {
        since(self.state.borrow().renewed.instant, self.holds())
    }

    /// A renewal that was sent at `sent` was answered.
    pub(super) fn renew(&self, sent: Moment) {
        self.state.send_if_modified(|state| {
            if sent.instant > state.renewed.instant {
                state.renewed = sent;
            }
            false
        });
    }

    /// Ends it.
    pub(super) fn lose(&self, why: Lost) {
        self.state.send_if_modified(|state| {
            let news = state.lost.is_none();
            state.lost = state.lost.or(Some(why));
            news
        });
    }

    /// Why it is lost, if it is.
    pub(super) fn is_lost(&self) -> Option<Lost> {
        let age = self.state.borrow().renewed.elapsed(self.clock);
        if age >= self.holds() {
            self.expire();
        }
        self.noted()
    }

    /// Why it is lost, if that was noted before.
    pub(super) fn noted(&self) -> Option<Lost> {
        self.state.borrow().lost
    }

    /// Loses it if no renewal came meanwhile.
    fn expire(&self) {
        let holds = self.holds();
        self.state.send_if_modified(|state| {
            let expires = state.lost.is_none() && state.renewed.elapsed(self.clock) >= holds;
            if expires {
                state.lost = Some(Lost::NotRenewed);
            }
            expires
        });
    }

    /// Waits until it is lost.
    pub(super) async fn lost(&self) -> Lost {
        let mut states = self.state.subscribe();
        loop {
            if let Some(lost) = self.is_lost() {
                return lost;
            }
            let age = self.state.borrow().renewed.elapsed(self.clock);
            let pause = self.holds().saturating_sub(age).min(LOOK);
            tokio::select! {
                _ = states.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Waits until the last renewal is `age` old.
    pub(super) async fn aged(&self, age: Duration) {
        loop {
            let left = age.saturating_sub(self.state.borrow().renewed.elapsed(self.clock));
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::advance;

    use super::*;

    thread_local! {
        /// The time on a clock that counts suspended time.
        static BOOT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    const TTL: Duration = Duration::from_secs(10);

    fn boot() -> Duration {
        BOOT.get()
    }

    fn lease() -> Lease {
        BOOT.set(Duration::ZERO);
        Lease::new(TTL, boot, Moment::now(boot))
    }

    #[tokio::test(start_paused = true)]
    async fn it_holds_for_nine_tenths_of_its_ttl_after_the_last_renewal_was_sent() {
        let lease = lease();
        advance(Duration::from_millis(8_999)).await;
        assert_eq!(lease.is_lost(), None);
        let sent = lease.now();
        advance(Duration::from_millis(1)).await;
        lease.renew(sent);
        assert_eq!(lease.is_lost(), None);
        advance(Duration::from_millis(8_998)).await;
        assert_eq!(lease.is_lost(), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(lease.is_lost(), Some(Lost::NotRenewed));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_renewal_takes_nothing_away_and_none_brings_it_back() {
        let lease = lease();
        let older = lease.now();
        advance(Duration::from_secs(5)).await;
        lease.renew(lease.now());
        lease.renew(older);
        advance(Duration::from_secs(5)).await;
        assert_eq!(lease.is_lost(), None);
        lease.lose(Lost::Ended);
        lease.renew(lease.now());
        lease.lose(Lost::Closed);
        assert_eq!(lease.is_lost(), Some(Lost::Ended));
    }

    #[tokio::test(start_paused = true)]
    async fn suspended_time_counts() {
        let lease = lease();
        advance(Duration::from_secs(1)).await;
        BOOT.set(Duration::from_millis(8_999));
        assert_eq!(lease.is_lost(), None);
        BOOT.set(Duration::from_secs(9));
        assert_eq!(lease.is_lost(), Some(Lost::NotRenewed));
        assert_eq!(lease.lost().await, Lost::NotRenewed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_waiting_learn_of_the_loss_when_it_comes() {
        let begun = Instant::now();
        let lease = lease();
        let renewal = async {
            sleep(Duration::from_secs(3)).await;
            lease.renew(lease.now());
        };
        let (lost, ()) = tokio::join!(lease.lost(), renewal);
        assert_eq!((lost, begun.elapsed()), (Lost::NotRenewed, TTL / 10 * 12));

        let lease = self::lease();
        let end = async {
            sleep(Duration::from_secs(2)).await;
            lease.lose(Lost::Ended);
            Instant::now()
        };
        let lost = async { (lease.lost().await, Instant::now()) };
        let ((lost, told), ended) = tokio::join!(lost, end);
        assert_eq!((lost, told), (Lost::Ended, ended));
    }

    /// The timer that the waiting set before the machine was suspended has not run meanwhile.
    #[tokio::test(start_paused = true)]
    async fn the_waiting_learn_of_a_suspension_soon_after_it() {
        let lease = lease();
        let suspended = async {
            sleep(Duration::from_millis(2_500)).await;
            BOOT.set(Duration::from_secs(60));
            Instant::now()
        };
        let lost = async { (lease.lost().await, Instant::now()) };
        let ((lost, told), resumed) = tokio::join!(lost, suspended);
        assert_eq!(lost, Lost::NotRenewed);
        assert!(told - resumed <= LOOK, "{:?}", told - resumed);
    }
}
