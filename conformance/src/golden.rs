//! The golden vectors: Seshat's messages as another language's protobuf encodes them.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

/// One file of vectors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    message: String,
    /// The vectors.
    pub vectors: Vec<Vector>,
}

/// One message, as bytes and as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The description of the message.
    pub name: String,
    hex: String,
    /// Its canonical JSON.
    pub json: serde_json::Value,
    /// Whether a node or a client sends such a message.
    #[serde(default)]
    pub real: bool,
}

impl Vector {
    /// The bytes of the message.
    ///
    /// # Panics
    ///
    /// If the file is not as `make.py` writes it.
    pub fn bytes(&self) -> Bytes {
        let digits = self.hex.as_bytes().chunks(2);
        let bytes = digits.map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(pair, 16).unwrap()
        });
        bytes.collect()
    }
}

/// The directory of the files.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The vectors of a message type, by its full name.
///
/// # Panics
///
/// If there are none.
pub fn golden(message: &str) -> Golden {
    let path = directory().join(format!("{message}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let golden: Golden = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.message, message);
    golden
}
