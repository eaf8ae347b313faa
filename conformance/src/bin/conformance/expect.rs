//! What a step expects of a message.
//!
//! A table names some fields of the message, and those must be so. `"any"` is any value that is set, `"absent"` is a
//! field that is not set. `{ save = "name" }` saves a number, and `{ above = N }` is a larger number than N. A list has
//! exactly as many elements, unless it is written as `{ count = N }`. A list in place of a value of an enum has all that
//! are right.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};
use toml::Table;
use toml::Value as Toml;

use crate::values::{Names, bytes, duration, enum_value, field, number};

/// Checks that `message` is as `expected` says, and saves what is to be saved.
pub(crate) fn matches(message: &DynamicMessage, expected: &Table, names: &mut Names) -> Result<()> {
    let descriptor = message.descriptor();
    // What is saved may be used beside it.
    let saves = |value: &Toml| value.get("save").is_some();
    let (first, rest): (Vec<_>, Vec<_>) = expected.iter().partition(|(_, value)| saves(value));
    for (name, expected) in first.into_iter().chain(rest) {
        let field = field(&descriptor, name)?;
        if expected.as_str() == Some("absent") {
            ensure!(!message.has_field(&field), "{name} is set");
            continue;
        }
        if field.supports_presence() || expected.as_str() == Some("any") {
            ensure!(message.has_field(&field), "{name} is not set");
        }
        content(&field, &message.get_field(&field), expected, names)
            .with_context(|| name.clone())?;
    }
    Ok(())
}

fn content(
    field: &FieldDescriptor,
    value: &Value,
    expected: &Toml,
    names: &mut Names,
) -> Result<()> {
    if expected.as_str() == Some("any") {
        return Ok(());
    }
    let Value::List(values) = value else {
        return single(field, value, expected, names);
    };
    if let Some(count) = expected.as_table().and_then(|it| it.get("count")) {
        let count = usize::try_from(number(count, names)?)?;
        ensure!(
            values.len() == count,
            "{} and not {count} elements",
            values.len()
        );
        return Ok(());
    }
    let expected = expected.as_array().context("a list is needed")?;
    ensure!(
        values.len() == expected.len(),
        "{} and not {} elements",
        values.len(),
        expected.len()
    );
    for (at, (value, expected)) in values.iter().zip(expected).enumerate() {
        single(field, value, expected, names).with_context(|| format!("[{at}]"))?;
    }
    Ok(())
}

fn single(
    field: &FieldDescriptor,
    value: &Value,
    expected: &Toml,
    names: &mut Names,
) -> Result<()> {
    match (value, expected) {
        (Value::Message(message), Toml::Table(expected)) => matches(message, expected, names),
        (Value::Message(message), Toml::String(expected)) => {
            same(&duration_of(message)?, &duration(expected)?)
        }
        (Value::U64(value), Toml::Table(table)) => number_is(*value, table, names),
        (Value::U64(value), _) => same(value, &number(expected, names)?),
        (Value::U32(value), _) => same(&u64::from(*value), &number(expected, names)?),
        (Value::Bool(value), Toml::Boolean(expected)) => same(value, expected),
        (Value::String(value), Toml::String(expected)) => same(value, expected),
        (Value::Bytes(value), _) => {
            let expected = bytes(expected)?;
            ensure!(
                *value == expected,
                "{} and not {}",
                shown(value),
                shown(&expected)
            );
            Ok(())
        }
        (Value::EnumNumber(_), Toml::Array(any)) => {
            let is_right = |it: &Toml| single(field, value, it, &mut names.clone()).is_ok();
            ensure!(any.iter().any(is_right), "{value:?} and none of {any:?}");
            Ok(())
        }
        (Value::EnumNumber(value), Toml::String(expected)) => {
            let Kind::Enum(of) = field.kind() else {
                bail!("{field:?}");
            };
            let name = of
                .get_value(*value)
                .map_or_else(|| value.to_string(), |it| it.name().to_owned());
            ensure!(
                *value == enum_value(&of, expected)?,
                "{name} and not {expected}"
            );
            Ok(())
        }
        (value, expected) => Err(anyhow!("{expected:?} is nothing to compare {value:?} with")),
    }
}

fn duration_of(message: &DynamicMessage) -> Result<Duration> {
    let duration: prost_types::Duration = message.transcode_to()?;
    Ok(duration.try_into()?)
}

fn number_is(value: u64, expected: &Table, names: &mut Names) -> Result<()> {
    if let Some(name) = expected.get("save").and_then(Toml::as_str) {
        names.saved.insert(name.to_owned(), value);
    }
    for (relation, with) in expected {
        match relation.as_str() {
            "save" => {}
            "above" => {
                let least = number(with, names)?;
                ensure!(value > least, "{value} is not above {least}");
            }
            "not" => ensure!(value != number(with, names)?, "it is {value}"),
            _ => bail!("a number is saved, above or not another one: {relation:?}"),
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(value: &T, expected: &T) -> Result<()> {
    ensure!(value == expected, "{value:?} and not {expected:?}");
    Ok(())
}

fn shown(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=100 => format!("\"{}\"", bytes.escape_ascii()),
        length => format!("{length} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use crate::values;

    fn checked(message: &str, expected: &str) -> Result<Names> {
        let response = Schema::new()?.response;
        let mut names = Names::default();
        let message = values::message(&response, &message.parse()?, &names)?;
        matches(&message, &expected.parse()?, &mut names)?;
        Ok(names)
    }

    const GOT: &str = r#"got = { entry = { key = "k", value = "", revision = 9007199254740993 } }"#;

    #[test]
    fn what_is_named_must_be_so_and_nothing_else() {
        assert!(checked(GOT, "got = { entry = { key = \"k\" } }").is_ok());
        assert!(checked(GOT, "got = \"any\"").is_ok());
        assert!(checked("got = {}", "got = { entry = \"absent\" }").is_ok());
        for other in [
            "got = { entry = \"absent\" }",
            "got = { entry = { key = \"l\" } }",
            "got = { entry = { revision = 9007199254740992 } }",
            "got = { entry = { revision = { above = 9007199254740993 } } }",
            "written = \"any\"",
            "written = {}",
            "gott = {}",
        ] {
            assert!(checked(GOT, other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_empty_value_is_equal_only_to_an_empty_value() {
        assert!(checked(GOT, "got = { entry = { value = \"\" } }").is_ok());
        assert!(checked(GOT, "got = { entry = { value = \"v\" } }").is_err());
    }

    #[test]
    fn a_list_has_as_many_elements() {
        let scanned = "scanned = { entries = [{ key = \"a\" }, { key = \"b\" }] }";
        assert!(checked(scanned, scanned).is_ok());
        assert!(checked(scanned, "scanned = { entries = { count = 2 } }").is_ok());
        assert!(checked(scanned, "scanned = { entries = [{ key = \"a\" }] }").is_err());
        assert!(checked(scanned, "scanned = { entries = { count = 1 } }").is_err());
    }

    #[test]
    fn a_number_is_saved_exactly() {
        let saved = "got = { entry = { revision = { save = \"r\", above = 9007199254740992 } } }";
        assert!(
            checked(
                GOT,
                "got = { entry = { key = \"k\", revision = { save = \"a\", not = \"$a+1\" } } }"
            )
            .is_ok()
        );
        assert_eq!(
            checked(GOT, saved).unwrap().saved["r"],
            9_007_199_254_740_993
        );
    }

    #[test]
    fn a_value_of_an_enum_is_compared_by_its_whole_name() {
        let failure = "failure = { applied = \"unknown\", kind = \"deadline\" }";
        assert!(checked(failure, failure).is_ok());
        assert!(checked(failure, "failure = { applied = \"no\" }").is_err());
        assert!(checked(failure, "failure = { kind = [\"refused\", \"deadline\"] }").is_ok());
        assert!(checked(failure, "failure = { kind = [\"refused\"] }").is_err());
    }
}
