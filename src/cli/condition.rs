//! Writes on a condition that did not hold.

use std::process::ExitCode;

use serde_json::{Map, Value};
use seshat::client::Found;

use super::entry::{Json, insert};
use super::failure::{Failure, UNMET};
use super::options::{ClientOptions, lock_name};
use super::word::Word;

/// The lock of a condition, and the token.
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) token: u64,
}

impl Held {
    /// The condition in the values of `--if-held`.
    pub(crate) fn new(values: &[String]) -> Result<Self, Failure> {
        let [name, token] = values else {
            return Err(Failure::usage("--if-held takes a lock and a token"));
        };
        let fault = |fault| Failure::usage(format!("--if-held: {fault}"));
        Ok(Self {
            name: lock_name(name).map_err(fault)?,
            token: token.parse().map_err(|_| fault("no token"))?,
        })
    }
}

/// Prints that `key` is not `written`, and why: what it is bound to instead, or that the lock of its condition is not
/// held.
pub(crate) fn print_unmet(
    client: &ClientOptions,
    written: &str,
    key: &[u8],
    lock: Option<&Held>,
    found: &Found,
) -> Result<ExitCode, Failure> {
    let printed = match (client.json, lock) {
        (true, _) => client.print(Json(&json(key, found))),
        (false, Some(Held { name, token })) => client.print(format_args!(
            "not {written}: the lock {} is not held under token {token}",
            Word(name.as_bytes())
        )),
        (false, None) => match found.value {
            Some(_) => client.print(format_args!(
                "not {written}: the key is bound, by revision {}",
                found.revision
            )),
            None => client.print(format_args!("not {written}: no such key")),
        },
    };
    printed.map_err(Failure::unmet)?;
    Ok(ExitCode::from(UNMET))
}

fn json(key: &[u8], found: &Found) -> Value {
    let mut object = Map::new();
    object.insert("succeeded".to_owned(), false.into());
    insert(&mut object, "key", key);
    if let Some(value) = &found.value {
        insert(&mut object, "value", value);
    }
    object.insert("revision".to_owned(), found.revision.into());
    object.insert("applied_index".to_owned(), found.applied_index.into());
    Value::Object(object)
}
