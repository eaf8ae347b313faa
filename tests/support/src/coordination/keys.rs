//! The keys that actors share, and their values.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Keys of each kind: few, so that actors meet.
const KEPT: u64 = 6;
const REMOVABLE: u64 = 3;
const ACCOUNTS: u64 = 4;

/// The names of the keys that actors share.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Keys that are never removed.
    pub kept: Vec<String>,
    /// Keys that are removed now and then.
    pub removable: Vec<String>,
    /// Accounts, of which the sum of the balances never changes.
    pub accounts: Vec<String>,
    prefix: String,
}

impl Keys {
    /// Keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let names = |kind, count| (0..count).map(|it| format!("{prefix}{kind}{it}")).collect();
        Self {
            kept: names('k', KEPT),
            removable: names('d', REMOVABLE),
            accounts: names('a', ACCOUNTS),
            prefix: prefix.to_owned(),
        }
    }

    /// All keys, in their order.
    pub(super) fn all(&self) -> Vec<String> {
        [&self.accounts[..], &self.removable, &self.kept].concat()
    }

    /// Their names with their first and their last letter, as a range.
    pub(super) fn range(&self) -> std::ops::Range<String> {
        format!("{}a", self.prefix)..format!("{}l", self.prefix)
    }

    pub(super) fn is_account(&self, key: &str) -> bool {
        self.accounts.iter().any(|it| it == key)
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
