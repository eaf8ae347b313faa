//! Who is inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Reason, Refusal};

/// Counts the requests in flight and the bytes that they hold, refuses what would be too much, and
/// closes for good when the node shuts down: then nobody comes in, and one can wait until all have
/// left. Cheap to clone; a request costs it a few additions.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_requests: usize,
    max_bytes: usize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    changed: Notify,
}

impl Gate {
    /// A gate that lets in at most `max_requests` at once, which hold at most `max_bytes`.
    pub fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            max_requests,
            max_bytes,
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// Lets in a request that holds `bytes`, until the pass is dropped.
    ///
    /// # Errors
    ///
    /// [`Reason::ShuttingDown`] or [`Reason::Overloaded`].
    pub fn enter(&self, bytes: usize) -> Result<Pass, Refusal> {
        // Counts first and judges then, so that requests which come at once see one another. The
        // pass takes back what a refused request has counted.
        let inner = &self.0;
        let requests = inner.requests.fetch_add(1, Ordering::SeqCst);
        let held = inner.bytes.fetch_add(bytes, Ordering::SeqCst);
        let pass = Pass {
            gate: self.clone(),
            bytes,
        };
        let overloaded = |what, limit| {
            Refusal::not_applied(Reason::Overloaded {
                what,
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            })
        };
        if self.is_closed() {
            Err(Refusal::not_applied(Reason::ShuttingDown))
        } else if requests >= inner.max_requests {
            Err(overloaded("max_pending_requests", inner.max_requests))
        } else if held.saturating_add(bytes) > inner.max_bytes {
            Err(overloaded("max_pending_bytes", inner.max_bytes))
        } else {
            Ok(pass)
        }
    }

    /// Lets nobody in from now on.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    /// Waits until the gate is closed.
    pub async fn closed(&self) {
        self.until(|| self.is_closed()).await;
    }

    /// Waits until the gate is closed and nobody is inside.
    pub async fn drained(&self) {
        self.until(|| self.is_closed() && self.0.requests.load(Ordering::SeqCst) == 0)
            .await;
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        loop {
            // Listens before it looks, so that no change falls between.
            let changed = self.0.changed.notified();
            if reached() {
                return;
            }
            changed.await;
        }
    }
}

/// Leave to be inside.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    bytes: usize,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let inner = &self.gate.0;
        inner.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        if inner.requests.fetch_sub(1, Ordering::SeqCst) == 1 && self.gate.is_closed() {
            inner.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overloaded(refused: Result<Pass, Refusal>) -> (&'static str, u64) {
        match refused.unwrap_err().reason {
            Reason::Overloaded { what, limit } => (what, limit),
            reason => panic!("{reason}"),
        }
    }

    #[test]
    fn requests_and_bytes_are_bounded() {
        let gate = Gate::new(2, 10);
        let one = gate.enter(4).unwrap();
        assert_eq!(overloaded(gate.enter(7)), ("max_pending_bytes", 10));
        let two = gate.enter(6).unwrap();
        assert_eq!(overloaded(gate.enter(0)), ("max_pending_requests", 2));
        drop(one);
        assert_eq!(overloaded(gate.enter(5)), ("max_pending_bytes", 10));
        drop((gate.enter(4).unwrap(), two));
        gate.enter(10).unwrap();
    }

    #[tokio::test]
    async fn a_closed_gate_drains() {
        let gate = Gate::new(2, 10);
        let inside = gate.enter(1).unwrap();
        let drained = tokio::spawn({
            let gate = gate.clone();
            async move { gate.drained().await }
        });
        tokio::task::yield_now().await;
        gate.close();
        gate.closed().await;
        assert_eq!(gate.enter(1).unwrap_err().reason, Reason::ShuttingDown);
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        drop(inside);
        drained.await.unwrap();
    }
}
