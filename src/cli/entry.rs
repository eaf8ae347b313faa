//! Keys, values and lifetimes in JSON.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use seshat::client::Entry;
use seshat::types::ClientId;

/// Adds bytes to `object`: as a string if they are UTF-8, otherwise in base64.
pub(crate) fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Adds the lifetime of `entry` to `object`, if it has one.
pub(crate) fn insert_lifetime(object: &mut Map<String, Value>, entry: &Entry) {
    if let Some(ttl) = entry.ttl {
        object.insert("ttl_ms".to_owned(), millis(ttl).into());
    }
    if let Some(owner) = entry.owner {
        object.insert("owner".to_owned(), ClientId(owner).to_string().into());
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
