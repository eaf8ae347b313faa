//! Where replies find whoever waits for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What waits, by what it waits for. A newer entry takes the place of an older one of the same key.
#[derive(Debug)]
pub(super) struct Desk<K, V> {
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    entered: u64,
}

impl<K, V> Default for Desk<K, V> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                entries: BTreeMap::new(),
                entered: 0,
            }),
        }
    }
}

impl<K: Ord + Copy, V> Desk<K, V> {
    /// Enters `value` under `key` for as long as the ticket lives. An earlier entry is dropped, so
    /// that whoever made it learns that it waits in vain.
    pub(super) fn enter(self: &Arc<Self>, key: K, value: V) -> Ticket<K, V> {
        let mut state = self.state();
        state.entered = state.entered.wrapping_add(1);
        let number = state.entered;
        state.entries.insert(key, (number, value));
        Ticket {
            desk: Arc::clone(self),
            key,
            number,
        }
    }

    /// Takes the entry under `key`.
    pub(super) fn take(&self, key: K) -> Option<V> {
        self.state().entries.remove(&key).map(|(_, value)| value)
    }

    /// Looks at the entry under `key`. No other entry can be reached meanwhile: be quick.
    pub(super) fn with<T>(&self, key: K, look: impl FnOnce(&V) -> T) -> Option<T> {
        self.state().entries.get(&key).map(|(_, value)| look(value))
    }
}

impl<K, V> Desk<K, V> {
    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an entry at a desk.
#[derive(Debug)]
#[must_use = "the entry is gone with its ticket"]
pub(super) struct Ticket<K: Ord, V> {
    desk: Arc<Desk<K, V>>,
    key: K,
    number: u64,
}

impl<K: Ord, V> Drop for Ticket<K, V> {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        // Whoever came later under the same key keeps the place.
        let mine = state
            .entries
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number);
        if mine {
            state.entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_as_long_as_its_ticket_or_until_a_newer_one() {
        let desk = Arc::new(Desk::default());
        let first = desk.enter(1, 'a');
        let other = desk.enter(2, 'b');
        let second = desk.enter(1, 'c');
        drop(first);
        assert_eq!(desk.with(1, |value| *value), Some('c'));
        drop(second);
        assert_eq!(desk.with(1, |value| *value), None);
        assert_eq!(desk.take(2), Some('b'));
        assert_eq!(desk.take(2), None);
        drop(other);
    }
}
