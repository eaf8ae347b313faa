//! A map of bytes to bytes with cheap copies.
//!
//! A snapshot needs a stable state while writes go on. So the map consists of [`SHARDS`] hash maps, and a
//! copy shares them all. A copy costs one reference count a shard, some tens of microseconds however many
//! keys there are. The first write to a shard after that copies this one small shard, once. No operation
//! takes time in proportion to the whole map, not even growth: only one shard is rehashed at a time.
//!
//! Why not a crate of persistent maps: with a million keys a read of this map costs half of a read of
//! `imbl`'s hash map and a tenth of a read of its ordered map, and a write half (measured). The order of
//! the keys stands beside the shards, in `imbl`'s ordered set, for reads of ranges. Only a key that comes or
//! goes touches it. It has copies of the keys, so that a new value of a key does not touch it.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use foldhash::fast::RandomState;
use imbl::OrdSet;

use super::{KeyRange, Pair};
use crate::types::Revision;

/// Number of shards. Part of the snapshot format, which has its pairs in the order of the shards.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 12;

/// Memory of a pair beside its bytes: its part of a half-empty table and of a node of the order, and the overhead of
/// an allocator, a header and reference counts for two allocations. 600 000 to 1 500 000 pairs with keys of 20 to
/// 40 bytes and values of 0 to 100 bytes took 107 to 128 bytes each, and up to 225 once all had been written again
/// beside a copy of the map.
const PAIR_MEMORY: usize = 232;

/// Memory of a pair in bytes: the order has a copy of the key. An estimate, rather too high than too low.
pub const fn pair_memory(key: usize, value: usize) -> usize {
    key.saturating_mul(2)
        .saturating_add(value)
        .saturating_add(PAIR_MEMORY)
}

type Shard = HashSet<ByKey, RandomState>;

/// A pair, found by its key.
#[derive(Debug, Clone)]
struct ByKey(Pair);

impl Borrow<[u8]> for ByKey {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

/// The shard of `key`: the upper 12 bits of its CRC-32, as the snapshot format defines.
pub fn shard_of(key: &[u8]) -> usize {
    let shard = crc32fast::hash(key) >> (u32::BITS - SHARD_BITS);
    usize::try_from(shard).unwrap_or(0)
}

/// A map of bytes to bytes. A clone shares all shards that neither copy has changed since.
#[derive(Clone)]
pub struct Map {
    shards: Vec<Arc<Shard>>,
    /// All keys.
    order: OrdSet<Arc<[u8]>>,
    len: usize,
    /// Memory of all pairs in bytes.
    memory: usize,
}

impl Default for Map {
    fn default() -> Self {
        Self {
            shards: vec![Arc::default(); SHARDS],
            order: OrdSet::new(),
            len: 0,
            memory: 0,
        }
    }
}

/// Shows the pairs only: thousands of shards would hide them.
impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.iter().map(|pair| {
            (
                Bytes::copy_from_slice(pair.key()),
                Bytes::copy_from_slice(pair.value()),
            )
        });
        f.debug_map().entries(pairs).finish()
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|pair| other.pair(pair.key()) == Some(pair))
    }
}

impl Eq for Map {}

impl Map {
    fn shard(&self, key: &[u8]) -> Option<&Arc<Shard>> {
        self.shards.get(shard_of(key))
    }

    fn shard_mut(&mut self, key: &[u8]) -> Option<&mut Shard> {
        self.shards.get_mut(shard_of(key)).map(Arc::make_mut)
    }

    /// Binds `key` to `value`, by the write of the stored `revision`; `is_limited` says whether its lifetime is.
    /// Returns what it replaces. Keeps copies of both: a key or value from the network is a slice of its message,
    /// and would keep the whole message in memory.
    pub fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        revision: Revision,
        is_limited: bool,
    ) -> Option<Pair> {
        let pair = ByKey(Pair::new(key, value, revision, is_limited));
        let replaced = self.shard_mut(key)?.replace(pair);
        if let Some(ByKey(replaced)) = &replaced {
            self.memory = self.memory - replaced.value().len() + value.len();
        } else {
            self.len += 1;
            self.memory += pair_memory(key.len(), value.len());
            self.order.insert(key.into());
        }
        replaced.map(|it| it.0)
    }

    /// Removes `key`. Returns what it was bound to.
    pub fn remove(&mut self, key: &[u8]) -> Option<Pair> {
        // A miss must not copy a shard.
        self.pair(key)?;
        let ByKey(removed) = self.shard_mut(key)?.take(key)?;
        self.len -= 1;
        self.memory -= pair_memory(key.len(), removed.value().len());
        self.order.remove(key);
        Some(removed)
    }

    /// The pair of `key`.
    pub fn pair(&self, key: &[u8]) -> Option<&Pair> {
        Some(&self.shard(key)?.get(key)?.0)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of the pairs in bytes. An estimate, rather too high than too low. Equal pairs give the same
    /// number on every node.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Every pair, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Pair> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| shard.iter()).map(|it| &it.0)
    }

    /// The pairs of a range in ascending order of their keys.
    pub fn range(&self, range: &KeyRange) -> impl Iterator<Item = &Pair> {
        let keys = (!range.is_empty()).then(|| self.order.range::<_, [u8]>(range.bounds()));
        let keys = keys.into_iter().flatten();
        keys.filter_map(|key| self.pair(key))
    }

    /// The address of each shard in memory. A copied shard has another address.
    #[cfg(test)]
    pub(crate) fn places(&self) -> Vec<*const ()> {
        let places = self.shards.iter().map(Arc::as_ptr);
        places.map(<*const Shard>::cast).collect()
    }

    /// The pairs, shard by shard. Each shard is released with its pairs, so a caller that works through a
    /// copy frees it on the way.
    pub fn into_shards(self) -> Shards {
        Shards(self.shards.into_iter())
    }
}

/// The shards of a [`Map`], in order. Each item holds the pairs of one shard, in ascending order of their
/// keys.
#[derive(Debug)]
pub struct Shards(vec::IntoIter<Arc<Shard>>);

impl Iterator for Shards {
    type Item = Vec<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut pairs: Vec<_> = match Arc::try_unwrap(self.0.next()?) {
            Ok(shard) => shard.into_iter().map(|it| it.0).collect(),
            Err(shared) => shared.iter().map(|it| it.0.clone()).collect(),
        };
        pairs.sort_unstable_by(|one: &Pair, other| one.key().cmp(other.key()));
        Some(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(keys: std::ops::Range<u32>) -> Map {
        let mut map = Map::default();
        for key in keys {
            map.set(&key.to_be_bytes(), b"v", 7, false);
        }
        map
    }

    #[test]
    fn a_map_shows_its_pairs_and_not_its_shards() {
        let mut map = Map::default();
        map.set(b"k", b"v", 7, false);
        assert_eq!(format!("{map:?}"), r#"{b"k": b"v"}"#);
    }

    #[test]
    fn a_copy_holds_still_while_the_original_changes() {
        let mut map = numbered(0..10_000);
        let copy = map.clone();
        for key in 0..5_000u32 {
            map.set(&key.to_be_bytes(), b"new", 8, false);
        }
        for key in 5_000..10_000u32 {
            assert!(map.remove(&key.to_be_bytes()).is_some());
        }
        assert_eq!(copy, numbered(0..10_000));
        assert_eq!((copy.len(), map.len()), (10_000, 5_000));
    }

    #[test]
    fn a_copy_shares_what_does_not_change() {
        let mut map = numbered(0..10_000);
        let copy = map.clone();
        map.set(b"one key", b"", 8, false);
        assert!(map.remove(b"missing").is_none());
        let shared = map
            .shards
            .iter()
            .zip(&copy.shards)
            .filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), SHARDS - 1);
    }

    #[test]
    fn the_size_of_a_map_is_the_size_of_its_pairs() {
        let mut map = Map::default();
        let mut takes = |key: &[u8], value: Option<&[u8]>| {
            match value {
                Some(value) => drop(map.set(key, value, 7, false)),
                None => assert_eq!(map.remove(key).is_some(), key != b"missing"),
            }
            let pairs = map.iter();
            let pairs = pairs.map(|pair| pair_memory(pair.key().len(), pair.value().len()));
            assert_eq!(map.memory(), pairs.sum::<usize>());
            map.memory()
        };
        let one = takes(b"key", Some(b"value"));
        assert!(one > b"keyvalue".len());
        assert_eq!(takes(b"key", Some(b"")), one - b"value".len());
        assert_eq!(takes(b"key", Some(b"value of 12")), one + 6);
        takes(b"another", Some(b"value"));
        takes(b"missing", None);
        takes(b"key", None);
        assert_eq!(takes(b"another", None), 0);
    }

    #[test]
    fn shards_come_in_order_and_their_pairs_too() {
        let map = numbered(0..10_000);
        let expected = map.len();
        let pairs: Vec<_> = map.into_shards().flatten().collect();
        assert_eq!(pairs.len(), expected);
        let place = |pair: &Pair| (shard_of(pair.key()), pair.key().to_vec());
        assert!(pairs.windows(2).all(|two| place(&two[0]) < place(&two[1])));
    }

    /// The format of snapshots depends on this: CRC-32 of "123456789" is 0xCBF43926 on every platform.
    #[test]
    fn the_shard_of_a_key_is_the_same_everywhere() {
        assert_eq!(shard_of(b"123456789"), 0xCBF);
    }

    #[test]
    fn a_stored_value_does_not_hold_its_message() {
        let message = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        let mut map = Map::default();
        map.set(&message.slice(..1), &message.slice(..2), 7, false);
        map.set(&message.slice(..1), &message.slice(..3), 8, false);
        assert!(message.is_unique(), "no other value holds a part of it");
        assert_eq!(map.pair(b"x"), Some(&Pair::new(b"x", b"xxx", 8, false)));
    }
}
