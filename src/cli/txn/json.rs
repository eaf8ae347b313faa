//! Transactions and their outcomes as protobuf writes them in JSON.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use seshat::client::{Condition, Entry, Lifetime, Txn, TxnOperation, TxnOutcome, TxnResult};

use super::super::options::lock_name;
use super::{LONGEST_SHOWN, MAX_OPERATIONS, size};

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The transaction in `input`, a `TxnRequest`.
///
/// # Errors
///
/// The fault, with its place.
pub(super) fn parse(input: &[u8]) -> Result<Txn, String> {
    let Unique(request) = serde_json::from_slice(input).map_err(|error| error.to_string())?;
    let mut request = Message::new(request, String::new())?;
    let conditions = request.list("conditions")?.into_iter().map(condition);
    let success = request.list("success")?.into_iter().map(operation);
    let failure = request.list("failure")?.into_iter().map(operation);
    request.end()?;
    let txn = Txn::default();
    let txn = conditions
        .into_iter()
        .try_fold(txn, |txn, it| Ok::<_, String>(txn.when(it?)))?;
    let txn = success
        .into_iter()
        .try_fold(txn, |txn, it| Ok::<_, String>(txn.then(it?)))?;
    let txn = failure
        .into_iter()
        .try_fold(txn, |txn, it| Ok::<_, String>(txn.otherwise(it?)))?;
    match size(&txn) {
        0 => Err("no condition and no operation".to_owned()),
        1..=MAX_OPERATIONS => Ok(txn),
        _ => Err(format!(
            "more than {MAX_OPERATIONS} conditions and operations"
        )),
    }
}

/// A value without an object that has a field twice: one of the two would be lost.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((field, Unique(value))) = fields.next_entry::<String, Unique>()? {
            if object.contains_key(&field) {
                return Err(A::Error::custom(format!("{field:?} is there twice")));
            }
            object.insert(field, value);
        }
        Ok(object.into())
    }
}

/// A message that is read field by field.
struct Message {
    fields: Map<String, Value>,
    /// Where it is in the input. Empty: it is the input.
    path: String,
}

impl Message {
    fn new(value: Value, path: String) -> Result<Self, String> {
        match value {
            Value::Object(mut fields) => {
                // In JSON of protobuf, null is the same as absent.
                fields.retain(|_, value| !value.is_null());
                Ok(Self { fields, path })
            }
            _ => Err(format!("{path}: not an object")),
        }
    }

    fn at(&self, field: &str) -> String {
        match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        }
    }

    /// Takes the message in `field`, if it is there.
    fn message(&mut self, field: &str) -> Result<Option<Self>, String> {
        let value = self.fields.remove(field);
        value.map(|it| Self::new(it, self.at(field))).transpose()
    }

    /// Takes the messages in `field`.
    fn list(&mut self, field: &str) -> Result<Vec<Self>, String> {
        let path = self.at(field);
        match self.fields.remove(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                let messages = values.into_iter().enumerate();
                let message = |(at, value)| Self::new(value, format!("{path}[{at}]"));
                messages.map(message).collect()
            }
            Some(_) => Err(format!("{path}: not an array")),
        }
    }

    /// Takes the bytes in `field`, if it is there.
    fn bytes(&mut self, field: &str) -> Result<Option<Bytes>, String> {
        let Some(value) = self.fields.remove(field) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .map(|text| text.replace('-', "+").replace('_', "/"));
        let bytes = text.and_then(|text| LENIENT.decode(text).ok());
        match bytes {
            Some(bytes) => Ok(Some(bytes.into())),
            None => Err(format!("{}: not base64", self.at(field))),
        }
    }

    /// Takes the number in `field`, if it is there.
    fn number(&mut self, field: &str, fault: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.fields.remove(field) else {
            return Ok(None);
        };
        // A number of 64 bits is a string in JSON of protobuf, and a number is accepted.
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let number = number.ok_or_else(|| format!("{}: {fault}", self.at(field)));
        number.map(Some)
    }

    /// Takes the key.
    fn key(&mut self) -> Result<Bytes, String> {
        let key = self.bytes("key")?.filter(|key| !key.is_empty());
        key.ok_or_else(|| format!("{}: a key has at least one byte", self.at("key")))
    }

    /// All fields are taken.
    fn end(self) -> Result<(), String> {
        let Some(field) = self.fields.keys().next() else {
            return Ok(());
        };
        let field: String = field.escape_debug().take(LONGEST_SHOWN).collect();
        Err(format!("{}: unknown, or one too many", self.at(&field)))
    }
}

fn condition(mut condition: Message) -> Result<Condition, String> {
    if let Some(lock) = condition.message("lock")? {
        condition.end()?;
        return held(lock);
    }
    let Some(mut tested) = condition.message("key")? else {
        return Err(format!("{}: key or lock is missing", condition.path));
    };
    condition.end()?;
    let key = tested.key()?;
    let found = if let Some(exists) = tested.fields.remove("exists") {
        match exists.as_bool() {
            Some(exists) => Condition::Exists { key, exists },
            None => return Err(format!("{}: neither true nor false", tested.at("exists"))),
        }
    } else if let Some(revision) = tested.number("revision", "no revision")? {
        Condition::revision(key, revision)
    } else if let Some(value) = tested.bytes("value")? {
        Condition::value(key, value)
    } else {
        return Err(format!(
            "{}: exists, revision or value is missing",
            tested.path
        ));
    };
    tested.end()?;
    Ok(found)
}

fn held(mut lock: Message) -> Result<Condition, String> {
    let name = lock.fields.remove("name");
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
    let name = lock_name(name).map_err(|fault| format!("{}: {fault}", lock.at("name")))?;
    let token = lock.number("token", "no token")?;
    lock.end()?;
    Ok(Condition::token(name, token.unwrap_or_default()))
}

fn operation(mut operation: Message) -> Result<TxnOperation, String> {
    let (message, found) = if let Some(mut set) = operation.message("set")? {
        let key = set.key()?;
        let value = set.bytes("value")?.unwrap_or_default();
        let lifetime = lifetime(&mut set)?;
        (set, TxnOperation::set(key, value).lifetime(lifetime))
    } else if let Some(mut get) = operation.message("get")? {
        let key = get.key()?;
        (get, TxnOperation::get(key))
    } else if let Some(mut delete) = operation.message("delete")? {
        let key = delete.key()?;
        (delete, TxnOperation::delete(key))
    } else {
        return Err(format!("{}: set, get or delete is missing", operation.path));
    };
    message.end()?;
    operation.end()?;
    Ok(found)
}

/// Takes the lifetime of a key.
fn lifetime(set: &mut Message) -> Result<Lifetime, String> {
    if let Some(value) = set.fields.remove("ttl") {
        let ttl = value.as_str().and_then(duration);
        let ttl = ttl.ok_or_else(|| format!("{}: not a duration such as 1.5s", set.at("ttl")))?;
        Ok(Lifetime::Ttl(ttl))
    } else if let Some(owner) = set.number("owner", "no session")? {
        Ok(Lifetime::Owner(owner))
    } else if let Some(keep) = set.message("keep")? {
        keep.end()?;
        Ok(Lifetime::Keep)
    } else {
        Ok(Lifetime::Unlimited)
    }
}

/// A duration as protobuf writes it: seconds with up to nine decimals, and `s`.
fn duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (seconds, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| {
        let are_digits = digits.bytes().all(|it| it.is_ascii_digit());
        (are_digits && !digits.is_empty()).then_some(())
    };
    is_number(seconds)?;
    is_number(decimals)?;
    let nanos = format!("{decimals:0<9}");
    let nanos = Some(nanos).filter(|nanos| nanos.len() == 9)?;
    Some(Duration::new(seconds.parse().ok()?, nanos.parse().ok()?))
}

/// The outcome as a `TxnResponse`.
pub(super) fn answer(outcome: &TxnOutcome) -> Value {
    let results = outcome.results.iter().map(|result| match result {
        TxnResult::Written => json!({ "set": {} }),
        TxnResult::Found(Some(entry)) => json!({ "get": { "entry": found(entry) } }),
        TxnResult::Found(None) => json!({ "get": {} }),
        TxnResult::Deleted { existed } => json!({ "delete": { "existed": existed } }),
        // This version asks for no other.
        _ => json!({}),
    });
    json!({
        "succeeded": outcome.succeeded,
        "results": results.collect::<Vec<_>>(),
        "revision": outcome.revision.to_string(),
    })
}

/// An entry as an `Entry`.
fn found(entry: &Entry) -> Value {
    let mut object = Map::new();
    let mut insert = |name: &str, value: String| object.insert(name.to_owned(), value.into());
    insert("key", STANDARD.encode(&entry.key));
    insert("value", STANDARD.encode(&entry.value));
    insert("revision", entry.revision.to_string());
    if let Some(ttl) = entry.ttl {
        // Nodes keep whole milliseconds.
        let decimals = match ttl.subsec_millis() {
            0 => String::new(),
            millis => format!(".{millis:03}"),
        };
        insert("ttl", format!("{}{decimals}s", ttl.as_secs()));
    }
    if let Some(owner) = entry.owner {
        insert("owner", owner.to_string());
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the first one would be lost, and with it perhaps a condition.
    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        for input in [
            r#"{"conditions": [{"key": {"key": "aw=="}}], "conditions": []}"#,
            r#"{"success": [{"get": {"key": "aw==", "key": "ag=="}}]}"#,
            r#"{"success": null, "success": [{"get": {"key": "aw=="}}]}"#,
        ] {
            let error = parse(input.as_bytes()).unwrap_err();
            assert!(error.contains("is there twice"), "{input}: {error}");
        }
    }

    #[test]
    fn the_fields_are_those_of_the_request() {
        let input = br#"{
            "conditions": [
                {"key": {"key": "aw==", "exists": false}},
                {"key": {"key": "aw", "revision": "9007199254740993"}},
                {"key": {"key": "aw==", "revision": 7}},
                {"key": {"key": "-_8", "value": ""}},
                {"lock": {"name": "l", "token": "9007199254740993"}}
            ],
            "success": [
                {"set": {"key": "aw==", "value": "dg=="}},
                {"set": {"key": "aw==", "value": null}},
                {"get": {"key": "aw=="}, "set": null},
                {"set": {"key": "aw==", "ttl": "90s"}},
                {"set": {"key": "aw==", "ttl": "1.5s", "owner": null}},
                {"set": {"key": "aw==", "owner": "18446744073709551615"}},
                {"set": {"key": "aw==", "keep": {}}}
            ],
            "failure": [{"delete": {"key": "aw=="}}]
        }"#;
        let expected = Txn::default()
            .when(Condition::missing("k"))
            .when(Condition::revision("k", 9_007_199_254_740_993))
            .when(Condition::revision("k", 7))
            .when(Condition::value(&b"\xfb\xff"[..], ""))
            .when(Condition::token("l", 9_007_199_254_740_993))
            .then(TxnOperation::set("k", "v"))
            .then(TxnOperation::set("k", ""))
            .then(TxnOperation::get("k"))
            .then(TxnOperation::set("k", "").ttl(Duration::from_secs(90)))
            .then(TxnOperation::set("k", "").ttl(Duration::from_millis(1_500)))
            .then(TxnOperation::set("k", "").lifetime(Lifetime::Owner(u64::MAX)))
            .then(TxnOperation::set("k", "").keep_lifetime())
            .otherwise(TxnOperation::delete("k"));
        assert_eq!(parse(input), Ok(expected));
    }

    #[test]
    fn durations_are_those_of_protobuf() {
        for (text, nanos) in [
            ("0s", 0),
            ("7s", 7_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0.000000001s", 1),
            ("1.050s", 1_050_000_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "s",
            "1",
            "-1s",
            "+1s",
            "1.s",
            ".5s",
            "1.+5s",
            "1.0000000001s",
            "1ms",
            "99999999999999999999s",
            "1.é1s",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        let many = format!(
            "{{\"success\":[{}{{}}]}}",
            "{\"get\":{\"key\":\"aw\"}},".repeat(200)
        );
        for (input, fault) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("{}", "no condition and no operation"),
            ("{\"succes\":[]}", "succes: unknown"),
            ("{\"\\u001b[2J\":[]}", "\\u{1b}[2J: unknown"),
            ("{\"session\":{}}", "session: unknown"),
            ("{\"success\":{}}", "success: not an array"),
            ("{\"success\":[7]}", "success[0]: not an object"),
            (
                "{\"success\":[{}]}",
                "success[0]: set, get or delete is missing",
            ),
            (&many, "success[200]: set, get or delete is missing"),
            (
                "{\"success\":[{\"get\":{}}]}",
                "success[0].get.key: a key has at least one byte",
            ),
            (
                "{\"failure\":[{\"get\":{\"key\":\"k\"}}]}",
                "failure[0].get.key: not base64",
            ),
            (
                "{\"failure\":[{\"get\":{\"key\":7}}]}",
                "failure[0].get.key: not base64",
            ),
            (
                "{\"success\":[{\"get\":{\"key\":\"aw\",\"value\":\"\"}}]}",
                "success[0].get.value: unknown",
            ),
            (
                "{\"success\":[{\"get\":{\"key\":\"aw\"},\"delete\":{\"key\":\"aw\"}}]}",
                "success[0].delete: unknown, or one too many",
            ),
            (
                "{\"success\":[{\"set\":{\"key\":\"aw\",\"ttl\":\"1s\",\"keep\":{}}}]}",
                "success[0].set.keep: unknown, or one too many",
            ),
            (
                "{\"success\":[{\"set\":{\"key\":\"aw\",\"ttl\":90}}]}",
                "success[0].set.ttl: not a duration such as 1.5s",
            ),
            (
                "{\"success\":[{\"set\":{\"key\":\"aw\",\"owner\":\"me\"}}]}",
                "success[0].set.owner: no session",
            ),
            (
                "{\"conditions\":[{}]}",
                "conditions[0]: key or lock is missing",
            ),
            (
                "{\"conditions\":[{\"lock\":{\"token\":7}}]}",
                "conditions[0].lock.name: a lock has a name of",
            ),
            (
                "{\"conditions\":[{\"lock\":{\"name\":\"l\",\"token\":\"x\"}}]}",
                "conditions[0].lock.token: no token",
            ),
            (
                "{\"conditions\":[{\"lock\":{\"name\":\"l\"},\"key\":{}}]}",
                "conditions[0].key: unknown, or one too many",
            ),
            (
                "{\"conditions\":[{\"key\":{\"key\":\"aw\"}}]}",
                "conditions[0].key: exists, revision or value is missing",
            ),
            (
                "{\"conditions\":[{\"key\":{\"key\":\"aw\",\"exists\":\"true\"}}]}",
                "conditions[0].key.exists: neither true nor false",
            ),
            (
                "{\"conditions\":[{\"key\":{\"key\":\"aw\",\"revision\":-1}}]}",
                "conditions[0].key.revision: no revision",
            ),
            (
                "{\"conditions\":[{\"key\":{\"key\":\"aw\",\"revision\":1,\"value\":\"\"}}]}",
                "conditions[0].key.value: unknown, or one too many",
            ),
        ] {
            let error = parse(input.as_bytes()).unwrap_err();
            assert!(error.starts_with(fault), "{input}: {error}");
        }
        let deep = "{\"success\":".repeat(100_000);
        assert!(
            parse(deep.as_bytes())
                .unwrap_err()
                .contains("recursion limit")
        );
        assert!(parse(b"{\"\xff\"").is_err());
    }
}
