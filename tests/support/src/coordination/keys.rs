//! The keys that actors share, and their values.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::accounts;
use super::record::Version;
use super::request::Entry;

/// Keys of each kind: few, so that actors meet.
const KEPT: u64 = 6;
const REMOVABLE: u64 = 3;
const BRIEF: u64 = 3;
const ACCOUNTS: u64 = 4;

/// The names of the keys that actors share.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Keys that are never removed.
    pub kept: Vec<String>,
    /// Keys that are removed now and then.
    pub removable: Vec<String>,
    /// Keys that are bound for a time alone, and only while they are missing: each value ends by itself.
    pub brief: Vec<String>,
    /// Accounts, of which the sum of the balances never changes.
    pub accounts: Vec<String>,
    /// A counter, and the lock that guards it.
    pub counter: String,
    pub lock: String,
    /// The beginning of keys that belong to sessions.
    pub(super) owned: String,
    prefix: String,
}

impl Keys {
    /// Keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let names = |kind, count| (0..count).map(|it| format!("{prefix}{kind}{it}")).collect();
        Self {
            kept: names('k', KEPT),
            removable: names('d', REMOVABLE),
            brief: names('e', BRIEF),
            accounts: names('a', ACCOUNTS),
            counter: format!("{prefix}c"),
            lock: format!("{prefix}lock"),
            owned: format!("{prefix}owned/"),
            prefix: prefix.to_owned(),
        }
    }

    /// All keys, in their order.
    pub(super) fn all(&self) -> Vec<String> {
        let counter = std::slice::from_ref(&self.counter);
        [
            &self.accounts[..],
            counter,
            &self.removable,
            &self.brief,
            &self.kept,
        ]
        .concat()
    }

    /// Their names with their first and their last letter, as a range.
    pub(super) fn range(&self) -> std::ops::Range<String> {
        format!("{}a", self.prefix)..format!("{}l", self.prefix)
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.all().iter().any(|it| it == key)
    }

    /// The version of `key` that an entry shows. Panics unless its value is exactly as written.
    pub(super) fn version(&self, key: &str, entry: &Entry, max_padding: u64) -> Version {
        let value = match key {
            _ if self.accounts.iter().any(|it| it == key) => accounts::decode(&entry.bytes).0,
            _ if self.counter == key => decode(&entry.bytes, 0),
            _ => decode(&entry.bytes, max_padding),
        };
        Version {
            value,
            revision: entry.revision,
        }
    }
}

/// `value` as bytes, with padding that follows from it.
pub fn encode(value: u64, max_padding: u64) -> Bytes {
    let scattered = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let padding = usize::try_from(scattered % (max_padding + 1)).expect("a small number");
    let mut bytes = BytesMut::new();
    bytes.put_u64(value);
    bytes.put_bytes(value.to_be_bytes()[7], padding);
    bytes.freeze()
}

/// The value in `bytes`. Panics unless they are exactly as written.
pub fn decode(bytes: &Bytes, max_padding: u64) -> u64 {
    let value = bytes.first_chunk().map(|value| u64::from_be_bytes(*value));
    let value = value.expect("a value begins with its number");
    assert!(
        *bytes == encode(value, max_padding),
        "value {value} was changed on its way"
    );
    value
}
