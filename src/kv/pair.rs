//! A key and what it is bound to, in one allocation.

use std::fmt;

use triomphe::ThinArc;

use crate::types::{Revision, Value};

/// Maximum revision that is stored.
pub const MAX_REVISION: Revision = LIMITED - 1;
/// The bit of the revision that says that the lifetime of the key is limited. Revisions are below 2^53.
const LIMITED: Revision = 1 << 63;
/// Bytes up to which key and value are put together without an allocation.
const SMALL: usize = 256;

/// A key and its value, with the stored revision. A clone shares them.
///
/// All of it is one allocation with its reference count, and a pair is one pointer to it. So a look-up finds
/// what it compares, counts and returns side by side in memory, and the entries of a shard share a cache line.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair(ThinArc<Header, u8>);

/// What stands before the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Header {
    /// The stored revision and [`LIMITED`].
    revision: Revision,
    /// Bytes of the key. The value follows it.
    key: usize,
}

impl Pair {
    /// A copy of `key` and `value`, with the revision that [`Revisions`](super::Revisions) interprets.
    /// `is_limited`: the key has a limit among the [`Lifetimes`](super::Lifetimes).
    pub fn new(key: &[u8], value: &[u8], revision: Revision, is_limited: bool) -> Self {
        let header = Header {
            revision: match is_limited {
                true => revision | LIMITED,
                false => revision & MAX_REVISION,
            },
            key: key.len(),
        };
        let mut small = [0; SMALL];
        Self(
            match small.get_mut(..key.len().saturating_add(value.len())) {
                Some(bytes) => {
                    let (head, tail) = bytes.split_at_mut(key.len());
                    head.copy_from_slice(key);
                    tail.copy_from_slice(value);
                    ThinArc::from_header_and_slice(header, bytes)
                }
                None => ThinArc::from_header_and_slice(header, &[key, value].concat()),
            },
        )
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.0.slice.get(..self.header().key).unwrap_or_default()
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.0.slice.get(self.header().key..).unwrap_or_default()
    }

    /// The value as bytes of their own, which share the allocation, and so keep the key in memory.
    pub fn into_value(self) -> Value {
        Value::from_owner(ValueOf(self))
    }

    /// The revision that [`Revisions`](super::Revisions) interprets.
    pub fn revision(&self) -> Revision {
        self.header().revision & MAX_REVISION
    }

    /// Whether the lifetime of the key is limited.
    pub fn is_limited(&self) -> bool {
        self.header().revision & LIMITED != 0
    }

    #[inline]
    fn header(&self) -> &Header {
        &self.0.header.header
    }
}

/// A pair that is read as its value.
struct ValueOf(Pair);

impl AsRef<[u8]> for ValueOf {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("key", &bytes::Bytes::copy_from_slice(self.key()))
            .field("value", &bytes::Bytes::copy_from_slice(self.value()))
            .field("revision", &self.revision())
            .field("is_limited", &self.is_limited())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_as_it_was_made() {
        let large = [b'v'; 2 * SMALL];
        let values = [&b""[..], b"v", b"value", &large[..SMALL - 3], &large];
        for (value, revision) in values.into_iter().zip([0, 1, 2, 3, (1 << 53) - 1]) {
            let pair = Pair::new(b"key", value, revision, false);
            let limited = Pair::new(b"key", value, revision, true);
            for pair in [&pair, &limited] {
                assert_eq!((pair.key(), pair.value()), (&b"key"[..], value));
                assert_eq!(pair.clone().into_value(), value);
                assert_eq!(pair.revision(), revision);
            }
            assert!(limited.is_limited() && !pair.is_limited());
            assert_ne!(pair, limited);
            assert_ne!(pair, Pair::new(b"key", value, revision + 1, false));
            assert_ne!(pair, Pair::new(b"key", b"another", revision, false));
            assert_ne!(pair, Pair::new(b"another", value, revision, false));
        }
        assert_ne!(
            Pair::new(b"ab", b"c", 7, false),
            Pair::new(b"a", b"bc", 7, false)
        );
        let shown = format!("{:?}", Pair::new(b"k", b"v", 7, false));
        assert_eq!(
            shown,
            r#"Pair { key: b"k", value: b"v", revision: 7, is_limited: false }"#
        );
    }

    #[test]
    fn a_value_shares_the_allocation_and_outlives_the_pair() {
        let pair = Pair::new(b"key", b"value", 7, false);
        let value = pair.clone().into_value();
        assert_eq!(value.as_ptr(), pair.value().as_ptr());
        drop(pair);
        assert_eq!(value, "value");
    }

    #[test]
    fn eight_pairs_have_the_size_of_a_cache_line() {
        assert_eq!(8 * size_of::<Pair>(), 64);
    }
}
