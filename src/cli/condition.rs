//! Writes on a condition that did not hold.

use std::process::ExitCode;

use serde_json::{Map, Value};
use seshat::client::Found;

use super::entry::insert;
use super::failure::{Failure, UNMET};
use super::options::ClientOptions;

/// Prints that `key` is not `written`, and what it is bound to instead.
pub(crate) fn print_unmet(
    client: &ClientOptions,
    written: &str,
    key: &[u8],
    found: &Found,
) -> Result<ExitCode, Failure> {
    let printed = match client.json {
        true => client.print(json(key, found)),
        false => match found.value {
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
