//! Calls whose answers have not been sent, over all connections of a listener.
//!
//! An answer that its client does not read keeps some ten kilobytes, however small it is: its stream, its
//! task and the buffer that it was written into. So each call counts until the bytes of its answer are
//! sent. No connection may have more calls than it leaves free for the others; beyond that its next calls
//! are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The calls of all connections.
#[derive(Debug)]
pub(super) struct Unsent {
    max: usize,
    all: AtomicUsize,
}

impl Unsent {
    /// Room for `max` calls.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            all: AtomicUsize::new(0),
        })
    }

    /// The calls of one connection.
    pub(super) fn connection(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share {
            all: Arc::clone(self),
            own: AtomicUsize::new(0),
        })
    }
}

/// The calls of one connection.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<Unsent>,
    own: AtomicUsize,
}

impl Share {
    /// One more call; `None` if there is no room for it.
    pub(super) fn one(self: &Arc<Self>) -> Option<One> {
        let own = self.own.fetch_add(1, Ordering::Relaxed);
        let all = self.all.all.fetch_add(1, Ordering::Relaxed);
        let one = One(Arc::clone(self));
        (own < self.all.max.saturating_sub(all)).then_some(one)
    }

    /// Most calls over all connections.
    pub(super) fn max(&self) -> usize {
        self.all.max
    }
}

/// A call, until it is dropped.
#[derive(Debug)]
pub(super) struct One(Arc<Share>);

impl Drop for One {
    fn drop(&mut self) {
        let Self(share) = self;
        share.own.fetch_sub(1, Ordering::Relaxed);
        share.all.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_no_more_calls_than_it_leaves_free() {
        let all = Unsent::new(12);
        let (hog, other) = (all.connection(), all.connection());
        let held: Vec<_> = std::iter::from_fn(|| hog.one()).collect();
        assert_eq!(held.len(), 6);
        let one = other.one().expect("there is room for another connection");
        let used = || all.all.load(Ordering::Relaxed);
        assert_eq!(used(), 7);
        drop(one);
        drop(held);
        assert_eq!(used(), 0);
        assert!(hog.one().is_some());
    }
}
