//! The requests that have come to the made-up nodes.

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, Kind, ReflectMessage as _, Value};
use serde::Deserialize;
use toml::{Table, Value as Toml};

use crate::expect::matches;
use crate::schema::shown;
use crate::values::{Names, bytes};

/// One request.
#[derive(Debug)]
pub(crate) struct Record {
    /// The node.
    pub(crate) node: String,
    /// The method.
    pub(crate) method: String,
    /// The request.
    pub(crate) message: DynamicMessage,
    /// Its keys, and the name of its lock.
    pub(crate) keys: Vec<Bytes>,
    /// Whether it names its deadline.
    pub(crate) has_deadline: bool,
    /// Whether the true cluster has answered it.
    pub(crate) answered: bool,
    /// The revision of the write, if it was applied.
    pub(crate) revisions: Vec<u64>,
}

/// What requests a step is about, and what it expects of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arrivals {
    /// The method.
    method: String,
    /// The node; absent: all.
    node: Option<String>,
    /// A key of the request, or the name of its lock; absent: any.
    key: Option<Toml>,
    /// What the requests contain; others do not count.
    with: Option<Table>,
    /// How many have come.
    count: Option<usize>,
    /// Fewest that have come.
    at_least: Option<usize>,
    /// How many the true cluster has answered, if they are waited for.
    answered: Option<usize>,
    /// How many writes were applied.
    applied: Option<usize>,
    /// Whether each names its deadline.
    deadlines: Option<bool>,
    /// Each of the requests, in order.
    requests: Option<Vec<Table>>,
}

impl Arrivals {
    fn concerns(&self, record: &Record, names: &Names) -> Result<bool> {
        let key = self.key.as_ref().map(bytes).transpose()?;
        let with = |it: &Table| matches(&record.message, it, &mut names.clone()).is_ok();
        Ok(record.method == self.method
            && self.node.as_ref().is_none_or(|it| *it == record.node)
            && key.is_none_or(|key| record.keys.contains(&key))
            && self.with.as_ref().is_none_or(with))
    }

    /// Checks what has come so far.
    pub(crate) fn check(&self, records: &[Record], names: &mut Names) -> Result<()> {
        let mut come = Vec::new();
        for record in records {
            if self.concerns(record, names)? {
                come.push(record);
            }
        }
        let list = || -> String {
            let lines = records
                .iter()
                .map(|it| format!("\n      {}: {}", it.node, shown(&it.message)));
            lines.collect()
        };
        let of = come.len();
        let method = &self.method;
        if self.count.is_some_and(|count| of != count) || self.at_least.is_some_and(|it| of < it) {
            bail!(
                "{of} such requests {method} have come; all that have come:{}",
                list()
            );
        }
        for record in &come {
            let has = record.has_deadline;
            ensure!(
                self.deadlines.is_none_or(|it| it == has),
                "a deadline: {has} in {}",
                shown(&record.message)
            );
        }
        let mut revisions: Vec<_> = come.iter().flat_map(|it| &it.revisions).collect();
        revisions.sort_unstable();
        revisions.dedup();
        if self
            .applied
            .is_some_and(|applied| applied != revisions.len())
        {
            bail!(
                "{} such writes {method} were applied, at {revisions:?}",
                revisions.len()
            );
        }
        let Some(requests) = &self.requests else {
            return Ok(());
        };
        ensure!(
            of == requests.len(),
            "{of} requests {method} have come:{}",
            list()
        );
        for (record, expected) in come.iter().zip(requests) {
            matches(&record.message, expected, names).map_err(|error| {
                error.context(format!("the request {}", shown(&record.message)))
            })?;
        }
        Ok(())
    }

    /// Whether so many have come as are waited for.
    pub(crate) fn have_come(&self, records: &[Record], names: &Names) -> Result<bool> {
        let (mut come, mut answered) = (0, 0);
        for record in records {
            let concerns = self.concerns(record, names)?;
            come += usize::from(concerns);
            answered += usize::from(concerns && record.answered);
        }
        let wanted = self.at_least.or(self.count).unwrap_or(1);
        Ok(come >= wanted && answered >= self.answered.unwrap_or(0))
    }
}

/// The keys in a request, and the name of its lock.
pub(crate) fn keys_of(message: &DynamicMessage) -> Vec<Bytes> {
    let mut keys = Vec::new();
    collect(message, &mut keys);
    keys
}

fn collect(message: &DynamicMessage, keys: &mut Vec<Bytes>) {
    for (field, value) in message.fields() {
        match (field.name(), field.kind(), value) {
            ("key", Kind::Bytes, Value::Bytes(key)) => keys.push(key.clone()),
            ("name", Kind::String, Value::String(name)) => keys.push(Bytes::from(name.clone())),
            (_, _, Value::Message(inner)) => collect(inner, keys),
            (_, _, Value::List(values)) => {
                let inner = values.iter().filter_map(Value::as_message);
                inner.for_each(|it| collect(it, keys));
            }
            _ => {}
        }
    }
}

/// The revisions of the writes that an answer says were applied.
pub(crate) fn applied_by(answer: &DynamicMessage) -> Vec<u64> {
    let number = |name: &str| answer.get_field_by_name(name).and_then(|it| it.as_u64());
    match answer.descriptor().name() {
        "SetResponse" | "DeleteResponse" => number("applied_index").into_iter().collect(),
        "TxnResponse" => {
            let held = answer
                .get_field_by_name("succeeded")
                .and_then(|it| it.as_bool());
            let revision = number("revision").filter(|_| held == Some(true));
            revision.into_iter().collect()
        }
        "PipelineResponse" | "PipelineResult" => {
            let mut revisions = Vec::new();
            for (_, value) in answer.fields() {
                let inner = match value {
                    Value::List(values) => values.iter().filter_map(Value::as_message).collect(),
                    Value::Message(message) => vec![message],
                    _ => Vec::new(),
                };
                revisions.extend(inner.into_iter().flat_map(applied_by));
            }
            revisions
        }
        _ => Vec::new(),
    }
}
