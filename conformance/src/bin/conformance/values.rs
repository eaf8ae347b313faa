//! Messages as a case writes them, in TOML.
//!
//! A message is a table of its fields by their names in the schema. Bytes are text, or a table: `{ hex = "00ff" }`,
//! `{ base64 = "AP8=" }`, or `{ text = "x", times = 1000000 }`. A duration is text, such as `"2s"` or `"300ms"`. A
//! value of an enum has its name without the name of the enum, in lower case. A number may be text, because TOML ends
//! at 2^63; `"$name"`, `"$name+1"` and `"$name-1"` are what a step has saved.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use toml::Table;
use toml::Value as Toml;

/// Full name of the type of durations.
pub(crate) const DURATION: &str = "google.protobuf.Duration";

/// What the steps of a case have saved, and the names that they may use.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names {
    /// What was saved.
    pub(crate) saved: BTreeMap<String, u64>,
    /// The addresses of nodes.
    pub(crate) addresses: BTreeMap<String, String>,
    /// What every handle begins with, so that no two cases share one.
    pub(crate) prefix: String,
}

impl Names {
    /// The number `text`, which may be a saved one.
    pub(crate) fn number(&self, text: &str) -> Result<u64> {
        let Some(name) = text.strip_prefix('$') else {
            return text
                .parse()
                .with_context(|| format!("{text:?} is no number"));
        };
        let (name, offset) = match name.find(['+', '-']) {
            Some(at) => (&name[..at], name[at..].parse::<i64>()?),
            None => (name, 0),
        };
        let saved = self
            .saved
            .get(name)
            .ok_or_else(|| anyhow!("no step has saved ${name}"))?;
        saved
            .checked_add_signed(offset)
            .context("the number is out of range")
    }

    /// The address of a node, or `text` itself if it is one.
    fn address(&self, text: &str) -> Result<String> {
        match self.addresses.get(text) {
            Some(address) => Ok(address.clone()),
            None if text.contains(':') => Ok(text.to_owned()),
            None => bail!("there is no node {text:?}"),
        }
    }

    fn text(&self, field: &FieldDescriptor, text: &str) -> Result<String> {
        Ok(match field.name() {
            "endpoints" | "leader_addr" => self.address(text)?,
            "client" | "session" | "watch" | "lock" | "observation" | "handle" | "owner"
            | "held" => {
                format!("{}{text}", self.prefix)
            }
            _ => text.to_owned(),
        })
    }
}

/// The message of type `descriptor` that `table` writes.
pub(crate) fn message(
    descriptor: &MessageDescriptor,
    table: &Table,
    names: &Names,
) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in table {
        let field = field(descriptor, name)?;
        let value = content(&field, value, names)
            .with_context(|| format!("{}.{name}", descriptor.name()))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

/// The field of a message by its name.
pub(crate) fn field(descriptor: &MessageDescriptor, name: &str) -> Result<FieldDescriptor> {
    descriptor
        .get_field_by_name(name)
        .ok_or_else(|| anyhow!("{} has no field {name:?}", descriptor.full_name()))
}

fn content(field: &FieldDescriptor, value: &Toml, names: &Names) -> Result<Value> {
    if !field.is_list() {
        return single(field, value, names);
    }
    let values = value.as_array().context("a list is needed")?;
    let values = values.iter().map(|value| single(field, value, names));
    Ok(Value::List(values.collect::<Result<_>>()?))
}

fn single(field: &FieldDescriptor, value: &Toml, names: &Names) -> Result<Value> {
    Ok(match (field.kind(), value) {
        (Kind::Bool, Toml::Boolean(value)) => Value::Bool(*value),
        (Kind::Uint64 | Kind::Fixed64, value) => Value::U64(number(value, names)?),
        (Kind::Uint32 | Kind::Fixed32, value) => Value::U32(number(value, names)?.try_into()?),
        (Kind::String, Toml::String(text)) => Value::String(names.text(field, text)?),
        (Kind::Bytes, value) => Value::Bytes(bytes(value)?),
        (Kind::Enum(of), Toml::String(text)) => Value::EnumNumber(enum_value(&of, text)?),
        (Kind::Message(of), Toml::String(text)) if of.full_name() == DURATION => {
            Value::Message(duration_message(&of, duration(text)?)?)
        }
        (Kind::Message(of), Toml::Table(table)) => Value::Message(message(&of, table, names)?),
        (kind, value) => bail!("{value:?} is no {kind:?}"),
    })
}

/// A number that does not fall below 0.
pub(crate) fn number(value: &Toml, names: &Names) -> Result<u64> {
    match value {
        Toml::Integer(value) => Ok((*value).try_into()?),
        Toml::String(text) => names.number(text),
        other => bail!("{other:?} is no number"),
    }
}

/// Bytes.
pub(crate) fn bytes(value: &Toml) -> Result<Bytes> {
    let table = match value {
        Toml::String(text) => return Ok(Bytes::copy_from_slice(text.as_bytes())),
        Toml::Table(table) => table,
        other => bail!("{other:?} is neither text nor a table"),
    };
    let text = |name: &str| table.get(name).and_then(Toml::as_str);
    let once = match (text("text"), text("hex"), text("base64")) {
        (Some(text), None, None) => text.as_bytes().to_vec(),
        (None, Some(hex), None) => from_hex(hex)?,
        (None, None, Some(base64)) => BASE64_STANDARD.decode(base64)?,
        _ => bail!("bytes are text, or a table with one of text, hex and base64"),
    };
    let times = table.get("times").map_or(Some(1), Toml::as_integer);
    let times = times.context("times is a number")?.try_into()?;
    Ok(once.repeat(times).into())
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<_> = text
        .bytes()
        .filter(|it| !it.is_ascii_whitespace())
        .collect();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)?;
        Ok(u8::from_str_radix(pair, 16)?)
    });
    pairs.collect()
}

/// The number of a value of an enum.
pub(crate) fn enum_value(of: &EnumDescriptor, text: &str) -> Result<i32> {
    // The value that is not set has the name of the enum.
    let prefix = of
        .default_value()
        .name()
        .trim_end_matches("UNSPECIFIED")
        .to_owned();
    let name = format!("{prefix}{}", text.to_uppercase());
    let found = of.get_value_by_name(&name);
    let found = found.ok_or_else(|| anyhow!("{} has no value {text:?}", of.full_name()))?;
    Ok(found.number())
}

/// A duration, as `"2s"` or `"300ms"`.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    let units = [("ms", 1_u64), ("s", 1000), ("m", 60_000)];
    for (unit, millis) in units {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<u64>()
        {
            return Ok(Duration::from_millis(number * millis));
        }
    }
    bail!("{text:?} is no duration such as \"2s\" or \"300ms\"")
}

fn duration_message(of: &MessageDescriptor, duration: Duration) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(of.clone());
    let seconds = duration.as_secs().try_into()?;
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(duration.subsec_nanos().try_into()?));
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    fn parsed(text: &str, names: &Names) -> Result<DynamicMessage> {
        let request = Schema::new()?.request;
        message(&request, &text.parse::<Table>()?, names)
    }

    #[test]
    fn a_request_is_written_as_a_table() {
        let names = Names {
            saved: BTreeMap::from([("r".to_owned(), 1 << 60)]),
            prefix: "7.".to_owned(),
            ..Names::default()
        };
        let text = r#"
            [set]
            caller = { session = "s", timeout = "1500ms" }
            key = { hex = "00 ff" }
            value = { text = "ab", times = 3 }
            condition = { revision = "$r+1" }
        "#;
        let set = parsed(text, &names).unwrap();
        let expected = r#"{"set":{"caller":{"session":"7.s","timeout":"1.500s"},"key":"AP8=",
            "value":"YWJhYmFi","condition":{"revision":"1152921504606846977"}}}"#;
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::to_value(&set).unwrap(), expected);
    }

    #[test]
    fn what_the_schema_or_the_case_does_not_know_is_an_error() {
        for text in [
            "[sett]",
            "get = { kee = \"k\" }",
            "get = { key = 7 }",
            "get = { key = { hex = \"0g\" } }",
            "set = { condition = { revision = \"$r\" } }",
            "connect = { endpoints = [\"a\"] }",
            "lock = { max_wait = \"2 hours\" }",
        ] {
            assert!(parsed(text, &Names::default()).is_err(), "{text}");
        }
    }
}
