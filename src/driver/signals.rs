//! Signals: a task waits for the next change of a thing by its name, and no change of another wakes it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::DriverHandle;
use crate::kv::{ClaimId, LockChange, LockName};

/// The signals of all things that tasks wait for. Cheap to clone.
#[derive(Debug)]
pub struct Signals<K>(Arc<Mutex<HashMap<K, watch::Sender<()>>>>);

impl<K> Clone for Signals<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Signals<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Signals<K> {
    fn all(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Signals<K> {
    /// The signal of `key`, for changes from now on.
    pub fn subscribe(&self, key: K) -> Signal<K> {
        let mut all = self.all();
        let sender = all.entry(key.clone()).or_default();
        Signal {
            changes: Some(sender.subscribe()),
            key,
            signals: self.clone(),
        }
    }

    /// Wakes the tasks that wait for a change of `key`.
    pub(super) fn raise(&self, key: &K) {
        if let Some(sender) = self.all().get(key) {
            sender.send_replace(());
        }
    }
}

/// The signal of one thing, for one task.
#[derive(Debug)]
pub struct Signal<K: Hash + Eq + Clone> {
    key: K,
    /// `None` only while it is dropped.
    changes: Option<watch::Receiver<()>>,
    signals: Signals<K>,
}

impl<K: Hash + Eq + Clone> Signal<K> {
    /// Waits until there has been a change since the last call, or since it was subscribed.
    pub async fn changed(&mut self) {
        let changed = match &mut self.changes {
            Some(changes) => changes.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Signal<K> {
    fn drop(&mut self) {
        self.changes = None;
        let mut all = self.signals.all();
        let unused = |sender: &watch::Sender<()>| sender.receiver_count() == 0;
        if all.get(&self.key).is_some_and(unused) {
            all.remove(&self.key);
        }
    }
}

/// The signals of locks and claims.
#[derive(Debug, Clone, Default)]
pub struct LockSignals {
    /// A claim holds its lock, or has ended.
    pub claims: Signals<ClaimId>,
    /// A lock has another holder, or none.
    pub locks: Signals<LockName>,
}

impl LockSignals {
    pub(super) fn raise(&self, change: &LockChange) {
        self.claims.raise(&change.claim);
        if change.of_holder {
            self.locks.raise(&change.name);
        }
    }
}

impl DriverHandle {
    /// The signals of locks and claims.
    pub fn lock_signals(&self) -> &LockSignals {
        &self.locks
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_change_wakes_those_that_wait_for_it() {
        let signals = Signals::default();
        let (mut one, mut other) = (signals.subscribe(1), signals.subscribe(2));
        let mut same = signals.subscribe(1);
        signals.raise(&1);
        assert!(one.changed().now_or_never().is_some());
        assert!(one.changed().now_or_never().is_none(), "once");
        assert!(same.changed().now_or_never().is_some());
        assert!(other.changed().now_or_never().is_none());
        signals.raise(&2);
        assert!(other.changed().now_or_never().is_some());
    }

    #[test]
    fn nothing_stays_of_a_signal_that_is_dropped() {
        let signals = Signals::default();
        let one = signals.subscribe(1);
        let other = signals.subscribe(1);
        drop(one);
        assert_eq!(signals.all().len(), 1);
        drop(other);
        assert!(signals.all().is_empty());
        signals.raise(&1);
    }

    #[test]
    fn a_lock_is_signalled_only_for_a_change_of_its_holder() {
        let signals = LockSignals::default();
        let claim = ClaimId {
            client_id: crate::types::ClientId(7),
            sequence: 1,
        };
        let mut of_claim = signals.claims.subscribe(claim);
        let mut of_lock = signals.locks.subscribe("a".into());
        let mut change = LockChange {
            name: "a".into(),
            claim,
            of_holder: false,
        };
        signals.raise(&change);
        assert!(of_claim.changed().now_or_never().is_some());
        assert!(of_lock.changed().now_or_never().is_none());
        change.of_holder = true;
        signals.raise(&change);
        assert!(of_lock.changed().now_or_never().is_some());
    }
}
