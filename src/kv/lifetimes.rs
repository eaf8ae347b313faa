//! Lifetimes of keys.
//!
//! Few keys have a limited one, so the limits stand in a table of their own. The header of a value tells whether its
//! key is there, so other keys cost neither memory nor a look.

use imbl::OrdMap;

use super::Pair;
use crate::types::{ClientId, Key, Millis};

/// The TTLs that a key may have: 1 second to 10 years.
pub const KEY_TTL: std::ops::RangeInclusive<Millis> = 1_000..=3_650 * 24 * 3_600_000;
/// Memory of the lifetime of a key beside the key: its parts of two sparsely filled nodes, one in the table and one
/// among the deadlines or the keys of its owner.
const LIFETIME_MEMORY: usize = 256;

/// Memory of the lifetime of a key with so many bytes: it has a copy of the key. An estimate, rather too high than
/// too low.
pub const fn lifetime_memory(key: usize) -> usize {
    key.saturating_add(LIFETIME_MEMORY)
}

/// How long a key stays bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is removed.
    #[default]
    Unlimited,
    /// As long after the write: one of [`KEY_TTL`].
    Ttl(Millis),
    /// As long as this living session.
    Owner(ClientId),
}

/// What a write does to the lifetime of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetLifetime {
    /// It begins this one.
    To(Lifetime),
    /// None: the lifetime goes on. A missing key is bound without a limit.
    Keep,
}

impl Default for SetLifetime {
    fn default() -> Self {
        Self::To(Lifetime::Unlimited)
    }
}

/// The limited lifetime of a key, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It ends by the clock.
    Ttl {
        /// The TTL as it was set.
        ttl: Millis,
        /// When the key is removed.
        deadline: Millis,
    },
    /// It ends with a living session.
    Owner(ClientId),
}

impl From<Limit> for Lifetime {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Ttl { ttl, .. } => Self::Ttl(ttl),
            Limit::Owner(owner) => Self::Owner(owner),
        }
    }
}

/// The keys whose lifetime is limited. A clone shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes {
    limits: OrdMap<Key, Limit>,
    /// Memory of all of them in bytes.
    memory: usize,
}

impl Lifetimes {
    /// The limit of the lifetime of the key of `pair`. `None`: it has none.
    pub fn limit(&self, pair: &Pair) -> Option<Limit> {
        let is_limited = pair.is_limited();
        is_limited
            .then(|| self.limits.get(pair.key()).copied())
            .flatten()
    }

    pub(super) fn insert(&mut self, key: Key, limit: Limit) {
        let memory = lifetime_memory(key.len());
        if self.limits.insert(key, limit).is_none() {
            self.memory += memory;
        }
    }

    /// Removes the limit of `key`, and returns it with the key as it is stored.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<(Key, Limit)> {
        let removed = self.limits.remove_with_key(key)?;
        self.memory -= lifetime_memory(key.len());
        Some(removed)
    }

    /// All of them, in ascending order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Limit)> {
        self.limits.iter()
    }

    /// Memory in bytes. An estimate, rather too high than too low.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }
}
