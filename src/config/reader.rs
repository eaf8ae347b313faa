//! Text and TOML values become the fields of a [`Config`].
//!
//! A value that cannot be read is noted as a fault, and a placeholder takes its place so that reading
//! goes on. The placeholder has no effect: a rule about such a field is skipped, and a configuration with
//! a fault is not returned.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::InitialMember;
use super::fault::{Problems, whole_number};
use super::settings::{Setting, Settings, Value, did_you_mean};
use crate::telemetry::LogFormat;
use crate::types::NodeId;

pub(super) const MEMBERS: &str = "cluster.initial_members";
pub(super) const CLIENT_LISTENER: &str = "0.0.0.0:6379";
pub(super) const INTERNAL_LISTENER: &str = "0.0.0.0:7379";
pub(super) const MEMBER_ADDR: &str = "kvstore-1:7379";
pub(super) const MEMBER_CLIENT_ADDR: &str = "kvstore-1:6379";
const MEMBER: &str = r#"{ id = 1, addr = "kvstore-1:7379", client_addr = "kvstore-1:6379" }"#;
const MEMBER_IN_A_LINE: &str = "ID=ADDR/CLIENT_ADDR, e.g. 1=kvstore-1:7379/kvstore-1:6379";
const NODE_IDS: RangeInclusive<u16> = 1..=u16::MAX;
const STAND_IN: NodeId = NodeId::new(1).expect("1 is a node id");

/// Reads settings, field by field.
pub(super) struct Reader<'a> {
    settings: Settings,
    faults: &'a mut Problems,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: Settings, faults: &'a mut Problems) -> Self {
        Self { settings, faults }
    }

    /// The value that was written for `field`, if any.
    fn take(&mut self, field: &str) -> Option<Setting> {
        let setting = self.settings.take(field)?;
        self.faults.found_at(field, setting.origin.clone());
        Some(setting)
    }

    /// Notes that `value` has the wrong type or form for `field`.
    fn misfit(&mut self, field: &str, value: &Value, expected: impl Into<String>) {
        let problem = match value {
            Value::Untyped(text) => format!("{text:?} does not fit"),
            Value::String(text) => format!("{text:?} is a string"),
            Value::Integer(number) => format!("{number} is a number"),
            Value::Boolean(value) => format!("{value} is a boolean"),
            Value::Array(_) => "this is an array".to_owned(),
            Value::Table(_) => "this is a table".to_owned(),
            Value::Other(text) => format!("{text} does not fit"),
        };
        self.faults.unusable(field, problem, expected);
    }

    /// A whole number within `range`.
    pub(super) fn number<T>(&mut self, field: &str, default: T, range: &RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i128>,
    {
        let Some(Setting { value, .. }) = self.take(field) else {
            return default;
        };
        let number = match &value {
            Value::Integer(number) => Some(*number),
            // As in TOML, digits may be grouped: 1_000.
            Value::Untyped(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.misfit(field, &value, whole_number(range));
            return default;
        };
        match T::try_from(number) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.faults.out_of_range(field, number, range);
                default
            }
        }
    }

    pub(super) fn boolean(&mut self, field: &str, default: bool) -> bool {
        match self.take(field).map(|setting| setting.value) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(Value::Untyped(text)) if text == "true" => true,
            Some(Value::Untyped(text)) if text == "false" => false,
            Some(value) => {
                self.misfit(field, &value, "true or false");
                default
            }
        }
    }

    /// The text of an address, or `default`, which is also the example in the fault.
    pub(super) fn address(&mut self, field: &str, default: &str) -> String {
        match self.take(field).map(|setting| setting.value) {
            None => default.to_owned(),
            Some(Value::String(text) | Value::Untyped(text)) => text,
            Some(value) => {
                self.misfit(field, &value, host_and_port(default));
                default.to_owned()
            }
        }
    }

    pub(super) fn data_dir(&mut self) -> Option<PathBuf> {
        match self.take("node.data_dir")?.value {
            Value::String(path) | Value::Untyped(path) => Some(path.into()),
            value => {
                self.misfit("node.data_dir", &value, "a path");
                None
            }
        }
    }

    pub(super) fn log_format(&mut self) -> LogFormat {
        const FIELD: &str = "node.log_format";
        let Some(Setting { value, .. }) = self.take(FIELD) else {
            return LogFormat::default();
        };
        let format = match &value {
            Value::String(name) | Value::Untyped(name) => name.parse().ok(),
            _ => None,
        };
        format.unwrap_or_else(|| {
            self.misfit(FIELD, &value, "human or json");
            LogFormat::default()
        })
    }

    /// A node id that must be given.
    pub(super) fn node_id(&mut self, field: &str, expected: &str) -> NodeId {
        self.require(field, expected);
        let id = self.number(field, STAND_IN.get(), &NODE_IDS);
        NodeId::new(id).unwrap_or(STAND_IN)
    }

    pub(super) fn members(&mut self) -> Vec<InitialMember> {
        let expected = format!("an array of {MEMBER}");
        self.require(MEMBERS, &expected);
        let Some(Setting { value, origin }) = self.take(MEMBERS) else {
            return Vec::new();
        };
        let members = match value {
            Value::Array(members) => members,
            Value::Untyped(line) => line
                .split(',')
                .map(|member| Setting {
                    value: Value::Untyped(member.trim().to_owned()),
                    origin: origin.clone(),
                })
                .collect(),
            value => {
                self.misfit(MEMBERS, &value, expected);
                return Vec::new();
            }
        };
        let members = members.into_iter().enumerate();
        members
            .map(|(index, member)| self.member(&format!("{MEMBERS}[{index}]"), member))
            .collect()
    }

    fn member(&mut self, field: &str, Setting { value, origin }: Setting) -> InitialMember {
        self.faults.found_at(field, origin.clone());
        let [id, addr, client_addr] =
            ["id", "addr", "client_addr"].map(|key| format!("{field}.{key}"));
        match value {
            Value::Table(entries) => {
                for (key, setting) in entries {
                    let name = format!("{field}.{key}");
                    if [&id, &addr, &client_addr].contains(&&name) {
                        self.settings.insert(name, setting);
                    } else {
                        let expected = did_you_mean(&key, ["id", "addr", "client_addr"])
                            .unwrap_or_else(|| "id, addr or client_addr".to_owned());
                        self.faults.unknown(name, setting.origin, expected);
                    }
                }
            }
            Value::Untyped(text) => match in_a_line(&text) {
                Some(parts) => {
                    for (name, part) in [&id, &addr, &client_addr].into_iter().zip(parts) {
                        let value = Value::Untyped(part.trim().to_owned());
                        let origin = origin.clone();
                        self.settings
                            .insert(name.clone(), Setting { value, origin });
                    }
                }
                None => self.misfit(field, &Value::Untyped(text), MEMBER_IN_A_LINE),
            },
            value => self.misfit(field, &value, MEMBER),
        }
        self.require(&addr, &host_and_port(MEMBER_ADDR));
        self.require(&client_addr, &host_and_port(MEMBER_CLIENT_ADDR));
        InitialMember {
            id: self.node_id(&id, &whole_number(&NODE_IDS)),
            addr: self.address(&addr, MEMBER_ADDR),
            client_addr: self.address(&client_addr, MEMBER_CLIENT_ADDR),
        }
    }

    /// Notes a fault if no value was written for `field`, unless the value that contains it is faulty as
    /// a whole.
    fn require(&mut self, field: &str, expected: &str) {
        if !self.settings.contains(field) && self.faults.usable(&[field]) {
            self.faults.unusable(field, "missing", expected);
        }
    }
}

/// "host:port, e.g. …".
pub(super) fn host_and_port(example: &str) -> String {
    format!("host:port, e.g. {example}")
}

/// The parts of `ID=ADDR/CLIENT_ADDR`.
fn in_a_line(member: &str) -> Option<[&str; 3]> {
    let (id, addrs) = member.split_once('=')?;
    let (addr, client_addr) = addrs.split_once('/')?;
    Some([id, addr, client_addr])
}
