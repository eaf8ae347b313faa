//! The golden messages, as bytes and as JSON: a client reads both, and writes what it has read.

use anyhow::{Context as _, Result, ensure};
use prost_reflect::{DynamicMessage, Value};
use seshat_conformance::golden::{directory, golden};

use crate::case::{Case, Kind};
use crate::program::Program;
use crate::schema::{Schema, shown};

/// The packages that clients use.
const PACKAGES: [&str; 2] = ["seshat.kv.v1.", "seshat.lock.v1."];

/// A case for each type of message.
pub(crate) fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(directory())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(message) = name.strip_suffix(".json") else {
            continue;
        };
        if PACKAGES.iter().any(|it| message.starts_with(it)) {
            cases.push(Case {
                name: format!("golden/{message}"),
                kind: Kind::Golden(message.to_owned()),
            });
        }
    }
    Ok(cases)
}

/// Checks that the program reads and writes all golden messages of a type.
pub(crate) async fn check(name: &str, program: &mut Program, schema: &Schema) -> Result<()> {
    let descriptor = schema.message(name)?;
    for vector in golden(name).vectors {
        let about = || format!("{:?}", vector.name);
        let expected = DynamicMessage::decode(descriptor.clone(), vector.bytes())?;
        let as_bytes = Value::Bytes(vector.bytes());
        let as_json = Value::String(vector.json.to_string());
        for (field, content) in [("binary", as_bytes), ("json", as_json)] {
            let echoed = echo(name, field, content, program, schema).await;
            let echoed = echoed.with_context(|| format!("{} as {field}", about()))?;
            let written = |field: &str| echoed.get_field_by_name(field).context("an echo");
            let written_bytes = written("binary")?;
            let bytes = written_bytes.as_bytes().cloned().unwrap_or_default();
            let read = DynamicMessage::decode(descriptor.clone(), bytes)?;
            ensure!(
                read == expected,
                "{} as {field}: the bytes are {}",
                about(),
                shown(&read)
            );
            let written_json = written("json")?;
            let json = written_json.as_str().unwrap_or_default();
            let json: serde_json::Value =
                serde_json::from_str(json).with_context(|| json.to_owned())?;
            ensure!(
                json == vector.json,
                "{} as {field}: the JSON is {json}",
                about()
            );
        }
    }
    Ok(())
}

async fn echo(
    name: &str,
    field: &str,
    content: Value,
    program: &mut Program,
    schema: &Schema,
) -> Result<DynamicMessage> {
    let echo = schema.request.get_field_by_name("echo").context("echo")?;
    let of = echo.kind();
    let mut message = DynamicMessage::new(of.as_message().context("a message")?.clone());
    message.set_field_by_name("type", Value::String(name.to_owned()));
    message.set_field_by_name(field, content);
    let mut request = DynamicMessage::new(schema.request.clone());
    request.set_field(&echo, Value::Message(message));
    let response = program.ask(&request)?.response().await?;
    let echoed = response
        .get_field_by_name("echoed")
        .filter(|_| response.has_field_by_name("echoed"));
    let echoed = echoed.and_then(|it| it.as_message().cloned());
    echoed.with_context(|| shown(&response))
}
