//! What a key is bound to, in one allocation.

use std::fmt;

use crate::types::{Revision, Value};

/// Bytes of the header: the revision, little-endian. Revisions are below 2^53, so its upper bits are free.
const HEADER: usize = size_of::<Revision>();
/// Maximum revision that is stored.
pub const MAX_REVISION: Revision = LIMITED - 1;
/// The bit of the header that says that the lifetime of the key is limited.
const LIMITED: Revision = 1 << 63;

/// The value that a key is bound to, behind a header with the stored revision.
///
/// The header is in the allocation of the value, so a pair of the map has 64 bytes. With the revision beside the
/// value it has 72, and more often spans two cache lines.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored(Value);

impl Stored {
    /// A copy of `value`, with the revision that [`Revisions`](super::Revisions) interprets. `is_limited`: the
    /// key has a limit among the [`Lifetimes`](super::Lifetimes).
    pub(super) fn new(value: &[u8], revision: Revision, is_limited: bool) -> Self {
        let header = match is_limited {
            true => revision | LIMITED,
            false => revision & MAX_REVISION,
        };
        let mut packed = Vec::with_capacity(HEADER.saturating_add(value.len()));
        packed.extend_from_slice(&header.to_le_bytes());
        packed.extend_from_slice(value);
        Self(packed.into())
    }

    /// The value. It shares the allocation.
    pub fn value(&self) -> Value {
        self.0.slice(HEADER..)
    }

    /// The bytes of the value.
    pub fn bytes(&self) -> &[u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }

    /// The revision that [`Revisions`](super::Revisions) interprets.
    pub fn revision(&self) -> Revision {
        self.header() & MAX_REVISION
    }

    /// Whether the lifetime of the key is limited.
    pub fn is_limited(&self) -> bool {
        self.header() & LIMITED != 0
    }

    fn header(&self) -> Revision {
        let header = self.0.first_chunk();
        header.map_or(0, |header| Revision::from_le_bytes(*header))
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("value", &self.value())
            .field("revision", &self.revision())
            .field("is_limited", &self.is_limited())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_and_revision_are_as_they_were_stored() {
        for (value, revision) in [(&b""[..], 0), (b"v", 1), (b"value", (1 << 53) - 1)] {
            let stored = Stored::new(value, revision, false);
            let limited = Stored::new(value, revision, true);
            for stored in [&stored, &limited] {
                assert_eq!(stored.value(), value);
                assert_eq!(stored.bytes(), value);
                assert_eq!(stored.revision(), revision);
            }
            assert!(limited.is_limited() && !stored.is_limited());
            assert_ne!(stored, limited);
            assert_ne!(stored, Stored::new(value, revision + 1, false));
            assert_ne!(stored, Stored::new(b"another", revision, false));
        }
        let shown = format!("{:?}", Stored::new(b"v", 7, false));
        assert_eq!(
            shown,
            r#"Stored { value: b"v", revision: 7, is_limited: false }"#
        );
    }

    #[test]
    fn a_value_shares_the_allocation_with_its_key_in_the_map() {
        let stored = Stored::new(b"value", 7, false);
        let value = stored.value();
        assert_eq!(value.as_ptr(), stored.bytes().as_ptr());
        drop(stored);
        assert_eq!(value, "value", "it outlives the key");
    }

    #[test]
    fn a_pair_has_the_size_of_a_cache_line() {
        assert_eq!(size_of::<(crate::types::Key, Stored)>(), 64);
    }
}
