//! Answers that their clients have not taken yet.
//!
//! A value that is read is shared with the map, and costs nothing until the map replaces it: from
//! then on the answer alone keeps it in memory. So an answer counts with all that it holds from the
//! moment it is there until it is sent. Each reader, a stream, has an account, and all accounts
//! together a bound. No reader may hold more than it leaves free (a dynamic threshold: Choudhury and
//! Hahne, 1998): however many do not read, there is always room for one that does.
//!
//! Room is taken before the commands are submitted, by what their answers are expected to be. A
//! reader that has no room waits, and with it what it wants to submit. An answer that is larger than
//! expected grows, or where there is no room for that it is refused: a read may be asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Reason, Refusal};

/// The bound of all accounts together.
#[derive(Debug)]
pub struct Unread {
    max: usize,
    held: AtomicUsize,
}

impl Unread {
    /// Room for `max` bytes of answers.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            held: AtomicUsize::new(0),
        })
    }

    /// Bytes that are held at the moment.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    fn full(&self) -> Refusal {
        Refusal::not_applied(Reason::Overloaded {
            what: "max_unread_bytes",
            limit: u64::try_from(self.max).unwrap_or(u64::MAX),
        })
    }

    /// The account of one reader, which holds at most `max` bytes of expected answers.
    pub fn account(self: &Arc<Self>, max: usize) -> Arc<Account> {
        Arc::new(Account {
            all: Arc::clone(self),
            max,
            held: AtomicUsize::new(0),
            less: Notify::new(),
        })
    }
}

/// What one reader holds.
#[derive(Debug)]
pub struct Account {
    all: Arc<Unread>,
    max: usize,
    held: AtomicUsize,
    less: Notify,
}

impl Account {
    /// Waits until there is room for answers of `bytes`. A reader that holds nothing always has some.
    pub async fn reserve(self: &Arc<Self>, bytes: usize) -> Held {
        loop {
            // Listens before it looks, so that nothing falls between.
            let less = self.less.notified();
            let own = self.held.load(Ordering::SeqCst);
            if own == 0 || (own.saturating_add(bytes) <= self.max && self.leaves_as_much(bytes)) {
                return self.hold(bytes);
            }
            less.await;
        }
    }

    /// Bytes that it holds at the moment.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Holds `bytes` of an answer that is there.
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`]: there is no room.
    pub fn try_hold(self: &Arc<Self>, bytes: usize) -> Result<Held, Refusal> {
        if self.leaves_as_much(bytes) {
            return Ok(self.hold(bytes));
        }
        Err(self.all.full())
    }

    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::SeqCst);
        self.all.held.fetch_add(bytes, Ordering::SeqCst);
        Held {
            account: Arc::clone(self),
            bytes,
        }
    }

    /// Whether this reader would leave as much free as it held, with `bytes` more.
    fn leaves_as_much(&self, bytes: usize) -> bool {
        let own = self.held.load(Ordering::SeqCst).saturating_add(bytes);
        let all = self.all.held().saturating_add(bytes);
        all.saturating_add(own) <= self.all.max
    }
}

/// Bytes of an account, until they are dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Held {
    /// How many.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same bytes in two parts, of which the second has `bytes`.
    #[must_use]
    pub fn split(mut self, bytes: usize) -> (Self, Self) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let part = Self {
            account: Arc::clone(&self.account),
            bytes,
        };
        (self, part)
    }

    /// Becomes `bytes`, or stays as it is if there is no room for so many.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.account.leaves_as_much(more) {
            return false;
        }
        self.bytes += more;
        self.account.held.fetch_add(more, Ordering::SeqCst);
        self.account.all.held.fetch_add(more, Ordering::SeqCst);
        true
    }

    fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.let_go(less);
    }

    fn let_go(&self, bytes: usize) {
        if bytes > 0 {
            self.account.held.fetch_sub(bytes, Ordering::SeqCst);
            self.account.all.held.fetch_sub(bytes, Ordering::SeqCst);
            self.account.less.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go(self.bytes);
    }
}

/// Room for the values that a batch reads.
#[derive(Debug)]
pub struct ValueRoom {
    held: Held,
    max: usize,
    values: usize,
}

impl ValueRoom {
    /// What is `held` for the values, which are at most `max` bytes together: what does not fit into
    /// one answer is refused. A single value always fits.
    pub fn new(held: Held, max: usize) -> Self {
        Self {
            held,
            max,
            values: 0,
        }
    }

    /// One more value of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Reason::TooLarge`] or [`Reason::Overloaded`]: it has no room.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        let values = self.values.saturating_add(bytes);
        if self.values > 0 && values > self.max {
            let what = "response";
            let limit = u64::try_from(self.max).unwrap_or(u64::MAX);
            return Err(Refusal::not_applied(Reason::TooLarge {
                what,
                limit,
                node_id: None,
            }));
        }
        if !self.held.grow_to(values) {
            return Err(self.held.account.all.full());
        }
        self.values = values;
        Ok(())
    }

    /// All values are there: what they hold, until they are sent.
    pub(super) fn close(mut self) -> Held {
        self.held.shrink_to(self.values);
        self.held
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn reserve(account: &Arc<Account>, bytes: usize) -> Option<Held> {
        account.reserve(bytes).now_or_never()
    }

    #[test]
    fn a_reader_that_holds_nothing_has_room_and_one_that_does_waits_at_its_bound() {
        let all = Unread::new(1000);
        let account = all.account(10);
        let first = reserve(&account, 50).expect("it holds nothing");
        assert!(reserve(&account, 1).is_none());
        drop(first);
        let _some = reserve(&account, 6).unwrap();
        let _more = reserve(&account, 4).unwrap();
        assert!(reserve(&account, 1).is_none());
        assert_eq!((account.held(), all.held()), (10, 10));
    }

    #[test]
    fn nobody_holds_more_than_it_leaves_free() {
        let all = Unread::new(1000);
        let hogs: Vec<_> = (0..9).map(|_| all.account(1000)).collect();
        let mut held = Vec::new();
        // Each takes as much as it gets, in turns.
        loop {
            let before = held.len();
            held.extend(hogs.iter().filter_map(|hog| reserve(hog, 10)));
            if held.len() == before {
                break;
            }
        }
        assert!(all.held() <= 900, "{}", all.held());
        assert!(hogs.iter().all(|hog| hog.held() >= 90));
        // Whoever comes now has room for a part of its own.
        let reader = all.account(1000);
        let _first = reserve(&reader, 10).unwrap();
        assert!(reserve(&reader, 10).is_some());
    }

    #[tokio::test]
    async fn a_reader_that_waits_goes_on_when_it_has_read() {
        let all = Unread::new(1000);
        let account = all.account(10);
        let held = reserve(&account, 10).unwrap();
        let waits = tokio::spawn({
            let account = Arc::clone(&account);
            async move { account.reserve(5).await.bytes() }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(held);
        assert_eq!(waits.await.unwrap(), 5);
        assert_eq!(all.held(), 0);
    }

    #[test]
    fn values_grow_what_was_expected_and_give_back_what_was_not_needed() {
        let all = Unread::new(100);
        let account = all.account(100);
        let (fixed, values) = reserve(&account, 30).unwrap().split(20);
        assert_eq!((fixed.bytes(), values.bytes()), (10, 20));
        let mut room = ValueRoom::new(values, 1000);
        room.take(5).unwrap();
        assert_eq!(all.held(), 30, "as expected");
        room.take(35).unwrap();
        assert_eq!(all.held(), 50, "more than expected");
        let refusal = room.take(1).unwrap_err();
        let expected = Reason::Overloaded {
            what: "max_unread_bytes",
            limit: 100,
        };
        assert_eq!(refusal, Refusal::not_applied(expected));
        let held = room.close();
        assert_eq!(held.bytes(), 40);
        drop((held, fixed));

        let room = ValueRoom::new(reserve(&account, 30).unwrap(), 1000);
        assert_eq!(room.close().bytes(), 0);
        assert_eq!((account.held(), all.held()), (0, 0));
    }
}
