//! Calls and streams that wait for a reply, by key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most registrations under one key. A peer whose connections break repeatedly has a few, until the
/// broken ones are noticed.
const MAX_BESIDE: usize = 16;

/// Pending replies, by key.
#[derive(Debug)]
pub(super) struct PendingReplies<K, V> {
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    /// In the order of registration; each key has at least one entry.
    entries: BTreeMap<K, Vec<(u64, V)>>,
    entered: u64,
}

impl<K, V> Default for PendingReplies<K, V> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                entries: BTreeMap::new(),
                entered: 0,
            }),
        }
    }
}

impl<K: Ord + Copy, V> PendingReplies<K, V> {
    /// Registers `value` under `key` until the registration is dropped. Earlier entries under `key` are
    /// dropped, so that their owners learn that their replies will not come.
    pub(super) fn enter(self: &Arc<Self>, key: K, value: V) -> Registration<K, V> {
        self.state().entries.remove(&key);
        self.put(key, value)
    }

    /// Registers `value` besides the entries that exist: a peer that uses the id of another one takes no
    /// replies from it. `None` if there are [`MAX_BESIDE`] already.
    pub(super) fn enter_beside(self: &Arc<Self>, key: K, value: V) -> Option<Registration<K, V>> {
        let there = self.state().entries.get(&key).map_or(0, Vec::len);
        (there < MAX_BESIDE).then(|| self.put(key, value))
    }

    fn put(self: &Arc<Self>, key: K, value: V) -> Registration<K, V> {
        let mut state = self.state();
        state.entered = state.entered.wrapping_add(1);
        let number = state.entered;
        state.entries.entry(key).or_default().push((number, value));
        Registration {
            pending_replies: Arc::clone(self),
            key,
            number,
        }
    }

    /// Takes the entries under `key`.
    pub(super) fn take(&self, key: K) -> impl Iterator<Item = V> {
        let taken = self.state().entries.remove(&key).unwrap_or_default();
        taken.into_iter().map(|(_, value)| value)
    }

    /// Calls `look` with the first entry under `key`. The lock is held meanwhile: `look` must be quick.
    pub(super) fn with<T>(&self, key: K, look: impl FnOnce(&V) -> T) -> Option<T> {
        let state = self.state();
        let (_, value) = state.entries.get(&key)?.first()?;
        Some(look(value))
    }

    /// Calls `look` with every entry under `key`; the last one gets `item` itself, the others clones. The
    /// lock is held meanwhile: `look` must be quick.
    pub(super) fn each<T: Clone>(&self, key: K, item: T, mut look: impl FnMut(&V, T)) {
        let state = self.state();
        let entries = state.entries.get(&key).and_then(|all| all.split_last());
        if let Some(((_, last), others)) = entries {
            for (_, value) in others {
                look(value, item.clone());
            }
            look(last, item);
        }
    }
}

impl<K, V> PendingReplies<K, V> {
    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registration: dropping it removes the entry.
#[derive(Debug)]
#[must_use = "the entry is gone with its registration"]
pub(super) struct Registration<K: Ord, V> {
    pending_replies: Arc<PendingReplies<K, V>>,
    key: K,
    number: u64,
}

impl<K: Ord, V> Drop for Registration<K, V> {
    fn drop(&mut self) {
        let mut state = self.pending_replies.state();
        if let Some(entries) = state.entries.get_mut(&self.key) {
            entries.retain(|(number, _)| *number != self.number);
            if entries.is_empty() {
                state.entries.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lasts_as_long_as_its_registration_or_until_a_newer_one() {
        let pending_replies = Arc::new(PendingReplies::default());
        let first = pending_replies.enter(1, 'a');
        let other = pending_replies.enter(2, 'b');
        let second = pending_replies.enter(1, 'c');
        drop(first);
        assert_eq!(pending_replies.with(1, |value| *value), Some('c'));
        drop(second);
        assert_eq!(pending_replies.with(1, |value| *value), None);
        assert!(pending_replies.take(2).eq(['b']));
        assert_eq!(pending_replies.take(2).count(), 0);
        drop(other);
    }

    #[test]
    fn entries_beside_one_another_take_nothing_from_one_another() {
        let pending_replies = Arc::new(PendingReplies::default());
        let registrations: Vec<_> = (0..MAX_BESIDE)
            .map(|n| pending_replies.enter_beside(1, n))
            .collect();
        assert!(pending_replies.enter_beside(1, 99).is_none(), "too many");
        let mut seen = Vec::new();
        pending_replies.each(1, "item", |value, _| seen.push(*value));
        assert!(seen.into_iter().eq(0..MAX_BESIDE));
        drop(registrations);
        pending_replies.each(1, "item", |_, _| panic!("no call waits"));
    }
}
