//! Faults: what a made-up node does wrong, at an exact moment.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde::Deserialize;
use toml::{Table, Value as Toml};
use tonic::{Code, Status};

use crate::schema::Schema;
use crate::values::{Names, bytes, message};

/// Type URL of the detail of a refusal.
const DETAIL: &str = "seshat.kv.v1.ErrorDetail";

/// A fault as a case writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultSpec {
    /// The node; absent: any.
    node: Option<String>,
    /// The method.
    method: String,
    /// A key of the request, or the name of its lock; absent: any.
    key: Option<Toml>,
    /// How many requests meet it.
    #[serde(default = "once")]
    times: usize,
    /// After so many messages of the answer.
    #[serde(default)]
    after: usize,
    /// After the node has carried out what it does not answer.
    #[serde(default)]
    apply: bool,
    /// Messages that are sent in place of the true ones.
    #[serde(default)]
    answer: Vec<Table>,
    /// What then follows; absent: the call ends as if all were well.
    #[serde(default)]
    then: Then<Refuse>,
}

fn once() -> usize {
    1
}

/// The end of a call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Then<R> {
    /// It ends as if all were well.
    #[default]
    End,
    /// The connection is cut.
    Cut,
    /// Nothing more comes, until the node is released: then the call goes on as it would have.
    Hang,
    /// A message comes that is none.
    Garbage,
    /// It ends with a status.
    Refuse(R),
}

/// A refusal as a case writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refuse {
    /// The code of the status; absent: that of the reason.
    code: Option<String>,
    /// The `ErrorDetail`; absent: there is none.
    detail: Option<Toml>,
}

/// A fault that waits for its request.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    node: Option<String>,
    method: String,
    key: Option<Bytes>,
    times: usize,
    /// Messages of the true answer before it.
    pub(crate) after: usize,
    /// Whether the node carries out what it does not answer.
    pub(crate) apply: bool,
    /// Messages in place of the true ones.
    pub(crate) answer: Vec<Bytes>,
    /// The end.
    pub(crate) then: Then<Status>,
}

impl FaultSpec {
    /// The fault, with what the case has saved so far.
    pub(crate) fn fault(&self, schema: &Schema, names: &Names) -> Result<Fault> {
        let output = schema.method(&self.method)?.output();
        let answer = self.answer.iter().map(|table| {
            let message = message(&output, table, names)?;
            Ok(message.encode_to_vec().into())
        });
        Ok(Fault {
            node: self.node.clone(),
            method: self.method.clone(),
            key: self.key.as_ref().map(bytes).transpose()?,
            times: self.times,
            after: self.after,
            apply: self.apply,
            answer: answer.collect::<Result<_>>()?,
            then: match &self.then {
                Then::End => Then::End,
                Then::Cut => Then::Cut,
                Then::Hang => Then::Hang,
                Then::Garbage => Then::Garbage,
                Then::Refuse(refuse) => Then::Refuse(refuse.status(schema, names)?),
            },
        })
    }
}

impl Fault {
    /// Takes the fault that a request meets out of `faults`, if there is one.
    pub(crate) fn take(
        faults: &mut Vec<Self>,
        node: &str,
        method: &str,
        keys: &[Bytes],
    ) -> Option<Self> {
        let at = faults.iter().position(|it| {
            it.method == method
                && it.node.as_deref().is_none_or(|it| it == node)
                && it.key.as_ref().is_none_or(|key| keys.contains(key))
        })?;
        let fault = faults.get_mut(at)?;
        fault.times = fault.times.saturating_sub(1);
        match fault.times {
            0 => Some(faults.remove(at)),
            _ => Some(fault.clone()),
        }
    }
}

impl Refuse {
    /// The status.
    pub(crate) fn status(&self, schema: &Schema, names: &Names) -> Result<Status> {
        let detail = match &self.detail {
            None => None,
            Some(Toml::Table(table)) if !table.contains_key("hex") => {
                Some(message(&schema.message(DETAIL)?, table, names)?)
            }
            Some(other) => Some(DynamicMessage::decode(
                schema.message(DETAIL)?,
                bytes(other)?,
            )?),
        };
        let code = match (&self.code, &detail) {
            (Some(code), _) => code_named(code)?,
            (None, Some(detail)) => code_of(detail),
            (None, None) => bail!("a refusal without a detail has a code"),
        };
        Ok(status(code, detail.as_ref()))
    }
}

/// The status of a refusal.
pub(crate) fn status(code: Code, detail: Option<&DynamicMessage>) -> Status {
    let message = "a made-up node refuses".to_owned();
    let Some(detail) = detail else {
        return Status::new(code, message);
    };
    let packed = tonic_types::pb::Status {
        code: code.into(),
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: format!("type.googleapis.com/{DETAIL}"),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(code, message, packed.encode_to_vec().into())
}

/// The code with which a node refuses for such a reason.
fn code_of(detail: &DynamicMessage) -> Code {
    const UNKNOWN: i32 = 2;
    let is_unknown = detail
        .get_field_by_name("applied")
        .is_some_and(|it| it.as_enum_number() == Some(UNKNOWN));
    let has = |reasons: &[&str]| reasons.iter().any(|it| detail.has_field_by_name(it));
    match is_unknown {
        true if has(&["no_quorum"]) => Code::DeadlineExceeded,
        true => Code::Unknown,
        false if has(&["no_quorum", "forming", "shutting_down"]) => Code::Unavailable,
        false if has(&["overloaded", "full"]) => Code::ResourceExhausted,
        false if has(&["too_large", "invalid_request"]) => Code::InvalidArgument,
        false => Code::FailedPrecondition,
    }
}

fn code_named(name: &str) -> Result<Code> {
    let mut codes = (0..=16).map(Code::from_i32);
    let named = |code: &Code| format!("{code:?}").eq_ignore_ascii_case(&name.replace('_', ""));
    codes
        .find(named)
        .with_context(|| format!("{name:?} is no code of gRPC"))
}
