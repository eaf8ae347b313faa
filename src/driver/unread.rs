//! Answers that their clients have not read yet.
//!
//! A value that is read is shared with the map, and costs nothing until the map replaces it. From then on
//! the answer alone keeps it in memory. So an answer counts with all the bytes that it holds, from its
//! creation until it is sent. Each stream has an account. The accounts of a connection belong to one
//! *reader*, and all readers together have a bound. No reader may hold more than it leaves free (a
//! dynamic threshold: Choudhury and Hahne, 1998), so a single reader never has more than half.
//!
//! Even so, many readers that do not read can leave too little for a large value. So each reader records
//! for how long it has taken nothing, and [`Unread::short`] reports when another one finds no room: the
//! server then closes the connection that holds most of those without progress (`server/listen.rs`).
//!
//! Room is reserved before the commands are submitted, by the expected size of their answers. A reader
//! without room waits, and its commands with it. An answer that is larger than expected takes more room.
//! If there is none it is refused, and the read can be retried.

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

    /// The bound in bytes.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Waits until an answer has been refused for want of room.
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

    /// A reader: the answers of one connection.
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

/// The unread answers of one connection.
#[derive(Debug)]
pub struct Reader {
    all: Arc<Unread>,
    held: AtomicUsize,
    /// When it last took a part, or began to hold bytes, in milliseconds since `Unread::began`.
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

    /// Bytes that it holds now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// For how long it has taken nothing of what it holds. Zero if it holds nothing.
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

    /// Whether it would leave as many bytes free as it holds, with `bytes` more.
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

/// The unread answers of one stream, or of the single calls of a connection.
#[derive(Debug)]
pub struct Account {
    reader: Arc<Reader>,
    max: usize,
    held: AtomicUsize,
    less: Notify,
}

impl Account {
    /// Waits until there is room for `bytes`, and for the `values` that are expected beside them. An account
    /// that holds nothing does not wait: without room, the values get room when they come, or are refused.
    pub async fn reserve(self: &Arc<Self>, bytes: usize, values: usize) -> (Held, Held) {
        let both = bytes.saturating_add(values);
        loop {
            // Registers before the check, so that no notification is missed.
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

    /// Bytes that it holds now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Holds `bytes` of an existing answer.
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

/// Bytes of an account, released on drop.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Held {
    /// The number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that the client has taken a part of them.
    pub fn progresses(&self) {
        self.account.reader.progresses();
    }

    /// Grows to `bytes`. Returns `false`, and stays as it is, if there is no room.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        if !self.account.reader.leaves_as_much(more) {
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
    /// The room `held` for the values, which are at most `max` bytes together: more does not fit into one
    /// answer and is refused. A single value always fits.
    pub fn new(held: Held, max: usize) -> Self {
        Self {
            held,
            max,
            values: 0,
        }
    }

    /// Takes room for one more value of `bytes`.
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

    /// Ends the batch: returns the bytes that its values hold until they are sent.
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
    fn no_connection_holds_more_than_it_leaves_free() {
        let all = Unread::new(1000);
        let hogs: Vec<_> = (0..9).map(|_| account(&all, 1000)).collect();
        let mut held = Vec::new();
        // Each takes as much as it can get, in turns.
        loop {
            let before = held.len();
            held.extend(hogs.iter().filter_map(|hog| reserve(hog, 10)));
            if held.len() == before {
                break;
            }
        }
        assert!(all.held() <= 900, "{}", all.held());
        assert!(hogs.iter().all(|hog| hog.held() >= 90));
        // A new reader still has room for a part of its own.
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
    async fn a_connection_that_takes_none_of_its_answers_is_stalled() {
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
