//! Answers in JSON: keys, values and lifetimes.

use std::fmt::{self, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use seshat::client::Entry;
use seshat::types::ClientId;

use super::word::is_shown;

/// JSON on one line. What would steer a terminal or fool its reader is escaped, as in `\u202e`.
pub(crate) struct Json<'a>(pub(crate) &'a Value);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only strings have such characters.
        for char in self.0.to_string().chars() {
            if is_shown(char) {
                f.write_char(char)?;
                continue;
            }
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(f, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_steers_a_terminal_or_fools_its_reader_is_escaped() {
        let shown = |text: &str| Json(&text.into()).to_string();
        assert_eq!(
            shown("Zürich e\u{301} 城 \"'\\"),
            "\"Zürich e\u{301} 城 \\\"'\\\\\""
        );
        // Controls, turned text, separators of lines, and a tag, which is two units of UTF-16.
        assert_eq!(
            shown("\u{1b}\u{7f}\u{9b}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{2029}\u{e0041}"),
            r#""\u001b\u007f\u009b\u202e\u2066\u200b\ufeff\u2028\u2029\udb40\udc41""#
        );
        let key = json!({ "\u{202e}": ["\u{85}"] });
        assert_eq!(Json(&key).to_string(), r#"{"\u202e":["\u0085"]}"#);
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text: String) {
            let value = Value::from(text);
            let shown = Json(&value).to_string();
            prop_assert!(shown.chars().all(is_shown), "{}", shown);
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
    }
}
