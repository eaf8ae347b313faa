//! Answers that their clients have not taken yet.
//!
//! A value that is read is shared with the map, and costs nothing until the map replaces it: from
//! then on the answer alone keeps it in memory. So an answer counts with all that it holds from the
//! moment it is there until it is sent. Each stream has an account, those of a connection belong to one
//! *reader*, and all readers together have a bound. No reader may hold more than it leaves free (a
//! dynamic threshold: Choudhury and Hahne, 1998): one alone never has more than half.
//!
//! Many that do not read can leave too little for a large value nevertheless. So it is known of each
//! reader for how long it has taken nothing, and somebody is told when another finds no room: the
//! connection that holds most of those that make no progress is closed (`server/listen.rs`).
//!
//! Room is taken before the commands are submitted, by what their answers are expected to be. A
//! reader that has no room waits, and with it what it wants to submit. An answer that is larger than
//! expected grows, or where there is no room for that it is refused: a read may be asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Reason, Refusal};

/// The bound of all readers together.
#[derive(Debug)]
pub struct Unread {
    max: usize,
    held: AtomicUsize,
    began: Instant,
    short: Notify,
}

impl Unread {
    /// Room for `max` bytes of answers.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            held: AtomicUsize::new(0),
            began: Instant::now(),
            short: Notify::new(),
        })
    }

    /// Bytes that there is room for.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Bytes that are held at the moment.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Waits until somebody has been refused for want of room.
    pub async fn short(&self) {
        self.short.notified().await;
    }

    fn full(&self) -> Refusal {
        self.short.notify_one();
        Refusal::not_applied(Reason::Overloaded {
            what: "max_unread_bytes",
            limit: u64::try_from(self.max).unwrap_or(u64::MAX),
        })
    }

    /// Whoever takes answers on a connection of its own.
    pub fn reader(self: &Arc<Self>) -> Arc<Reader> {
        Arc::new(Reader {
            all: Arc::clone(self),
            held: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What one connection holds.
#[derive(Debug)]
pub struct Reader {
    all: Arc<Unread>,
    held: AtomicUsize,
    /// When it last took something, or began to hold something, in milliseconds.
    progress: AtomicU64,
}

impl Reader {
    /// The account of one stream, which holds at most `max` bytes of expected answers.
    pub fn account(self: &Arc<Self>, max: usize) -> Arc<Account> {
        Arc::new(Account {
            reader: Arc::clone(self),
            max,
            held: AtomicUsize::new(0),
            less: Notify::new(),
        })
    }

    /// Bytes that it holds at the moment.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// For how long it has taken nothing of what it holds.
    pub fn stalled(&self) -> Duration {
        match self.held() {
            0 => Duration::ZERO,
            _ => {
                let progress = self.progress.load(Ordering::Relaxed);
                Duration::from_millis(self.all.now().saturating_sub(progress))
            }
        }
    }

    fn progresses(&self) {
        self.progress.store(self.all.now(), Ordering::Relaxed);
    }

    /// Whether it would leave as much free as it held, with `bytes` more.
    fn leaves_as_much(&self, bytes: usize) -> bool {
        let own = self.held().saturating_add(bytes);
        let all = self.all.held().saturating_add(bytes);
        all.saturating_add(own) <= self.all.max
    }

    fn add(&self, bytes: usize) {
        self.all.held.fetch_add(bytes, Ordering::SeqCst);
        if self.held.fetch_add(bytes, Ordering::SeqCst) == 0 && bytes > 0 {
            self.progresses();
        }
    }

    fn subtract(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.all.held.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// What one stream holds, or the single calls of a connection.
#[derive(Debug)]
pub struct Account {
    reader: Arc<Reader>,
    max: usize,
    held: AtomicUsize,
    less: Notify,
}

impl Account {
    /// Waits until there is room for `bytes`, and for `values` that are expected beside them. An account
    /// that holds nothing does not wait: where there is no room, values find some when they come, or
    /// are refused.
    pub async fn reserve(self: &Arc<Self>, bytes: usize, values: usize) -> (Held, Held) {
        let both = bytes.saturating_add(values);
        loop {
            // Listens before it looks, so that nothing falls between.
            let less = self.less.notified();
            let own = self.held();
            let fits = own == 0 || own.saturating_add(both) <= self.max;
            if fits && self.reader.leaves_as_much(both) {
                return (self.hold(bytes), self.hold(values));
            }
            if own == 0 {
                return (self.hold(bytes), self.hold(0));
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
        if self.reader.leaves_as_much(bytes) {
            return Ok(self.hold(bytes));
        }
        Err(self.reader.all.full())
    }

    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.add(bytes);
        Held {
            account: Arc::clone(self),
            bytes,
        }
    }

    fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::SeqCst);
        self.reader.add(bytes);
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

    /// A part of it has been taken.
    pub fn progresses(&self) {
        self.account.reader.progresses();
    }

    /// Becomes `bytes`, or stays as it is if there is no room for so many.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.account.reader.leaves_as_much(more) {
            return false;
        }
        self.bytes += more;
        self.account.add(more);
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
            self.account.reader.subtract(bytes);
            self.account.less.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go(self.bytes);
        if self.bytes > 0 {
            self.progresses();
        }
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
            return Err(self.held.account.reader.all.full());
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
        let (held, _) = account.reserve(bytes, 0).now_or_never()?;
        Some(held)
    }

    fn account(all: &Arc<Unread>, max: usize) -> Arc<Account> {
        all.reader().account(max)
    }

    #[test]
    fn a_reader_that_holds_nothing_has_room_and_one_that_does_waits_at_its_bound() {
        let all = Unread::new(1000);
        let account = account(&all, 10);
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
        let hogs: Vec<_> = (0..9).map(|_| account(&all, 1000)).collect();
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
        let reader = account(&all, 1000);
        let _first = reserve(&reader, 10).unwrap();
        assert!(reserve(&reader, 10).is_some());
    }

    #[test]
    fn a_connection_holds_no_more_than_half_however_many_streams_it_has() {
        let all = Unread::new(1000);
        let reader = all.reader();
        let streams = (0..100).map(|_| reader.account(1000));
        let held: Vec<_> = streams.map_while(|it| it.try_hold(10).ok()).collect();
        assert_eq!((held.len(), reader.held()), (50, 500));
        assert!(account(&all, 1000).try_hold(200).is_ok());
    }

    #[test]
    fn an_account_that_holds_nothing_finds_no_room_for_values_where_there_is_none() {
        let all = Unread::new(100);
        let _hog = account(&all, 100).hold(90);
        let stream = account(&all, 100);
        let (commands, values) = stream.reserve(10, 50).now_or_never().expect("no wait");
        assert_eq!((commands.bytes(), values.bytes()), (10, 0));
        let mut room = ValueRoom::new(values, 1000);
        room.take(1).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_of_what_it_holds_is_stalled() {
        use tokio::time::advance;
        const MOMENT: Duration = Duration::from_secs(1);
        let all = Unread::new(100);
        let reader = all.reader();
        let stream = reader.account(100);
        advance(MOMENT).await;
        assert_eq!(reader.stalled(), Duration::ZERO, "it holds nothing");
        let [first, second] = [10, 20].map(|bytes| stream.hold(bytes));
        assert_eq!(reader.stalled(), Duration::ZERO);
        advance(MOMENT).await;
        let more = stream.reserve(1, 1).now_or_never().unwrap();
        assert_eq!(reader.stalled(), MOMENT, "more is no progress");
        first.progresses();
        assert_eq!(reader.stalled(), Duration::ZERO);
        advance(MOMENT).await;
        drop(first);
        assert_eq!(reader.stalled(), Duration::ZERO);
        advance(MOMENT).await;
        assert_eq!(reader.stalled(), MOMENT);
        drop((second, more));
        assert_eq!(reader.stalled(), Duration::ZERO);

        assert!(all.short().now_or_never().is_none());
        stream.try_hold(90).unwrap_err();
        assert!(all.short().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_reader_that_waits_goes_on_when_it_has_read() {
        let all = Unread::new(1000);
        let account = account(&all, 10);
        let held = reserve(&account, 10).unwrap();
        let waits = tokio::spawn({
            let account = Arc::clone(&account);
            async move { account.reserve(5, 0).await.0.bytes() }
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
        let account = account(&all, 100);
        let (fixed, values) = account.reserve(10, 20).now_or_never().unwrap();
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
