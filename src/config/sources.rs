//! The sources of settings: a TOML file, environment variables, flags.
//!
//! Each source becomes the same shape, a map from field to value, and reports names that are not fields.
//! A later source replaces the values of an earlier one.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, Origin, Problem, Problems};
use super::fields::fields;
use super::settings::{Setting, Settings, Value, did_you_mean};

const SECTIONS: &str = "[node], [cluster], [raft] or [limits]";

/// Fields of earlier versions, and their replacements.
const FORMER: &[(&str, &str)] = &[(
    "limits.max_snapshot_bytes",
    "limits.max_state_bytes, which bounds the state and so its snapshots",
)];

impl Settings {
    /// Adds the TOML `text` of the file at `path`.
    ///
    /// # Errors
    /// Every fault of its syntax. Its fields cannot be checked then.
    pub(super) fn add_file(
        &mut self,
        path: &Path,
        text: &str,
        faults: &mut Problems,
    ) -> Result<(), ConfigError> {
        let file = File { path, text };
        for (section, setting) in file.parse()? {
            let Value::Table(entries) = setting.value else {
                let expected = format!("a section, [{section}]");
                faults.found_at(&section, setting.origin);
                faults.add(&section, "this is no section", expected);
                continue;
            };
            if !fields().any(|field| in_section(field, &section)) {
                let expected = did_you_mean(&section, ["node", "cluster", "raft", "limits"])
                    .unwrap_or_else(|| SECTIONS.to_owned());
                faults.unknown(section, setting.origin, expected);
                continue;
            }
            for (key, setting) in entries {
                self.insert_known(format!("{section}.{key}"), setting, faults);
            }
        }
        Ok(())
    }

    /// Adds the variables of `env` that are configuration.
    pub(super) fn add_env(
        &mut self,
        env: impl Iterator<Item = (String, String)>,
        faults: &mut Problems,
    ) {
        let variables: BTreeMap<String, String> = env
            .filter(|(name, value)| name.starts_with("SESHAT_") && !value.is_empty())
            .collect();
        for (name, value) in variables {
            let origin = Origin::Env(name.clone());
            if let Some(field) = fields().find(|field| variable(field, "__") == name) {
                let value = Value::Untyped(value);
                self.insert(field, Setting { value, origin });
            } else if let Some(field) = fields().find(|field| variable(field, "_") == name) {
                // This mistake is common, so it is reported instead of ignored.
                faults.unknown(name, origin, variable(field, "__"));
            } else if name.contains("__") {
                let variables = fields().map(|field| variable(field, "__"));
                let expected = did_you_mean(&name, variables)
                    .unwrap_or_else(|| "SESHAT_<SECTION>__<FIELD>".to_owned());
                faults.unknown(name, origin, expected);
            }
        }
    }

    /// Adds the flags that were given.
    pub(super) fn add_flags(&mut self, flags: &Overrides, faults: &mut Problems) {
        let Overrides {
            id,
            client_addr,
            internal_addr,
            data_dir,
            log_format,
            bootstrap,
            initial_members,
            set,
        } = flags;
        for assignment in set {
            let origin = Origin::Flag(format!("--set {assignment}"));
            match assignment.split_once('=') {
                Some((field, value)) => {
                    let value = Value::Untyped(value.to_owned());
                    self.insert_known(field.trim().to_owned(), Setting { value, origin }, faults);
                }
                None => faults.unknown(assignment.clone(), origin, "FIELD=VALUE".to_owned()),
            }
        }
        let named = [
            ("node.id", "--id", id),
            ("node.client_addr", "--client-addr", client_addr),
            ("node.internal_addr", "--internal-addr", internal_addr),
            ("node.data_dir", "--data-dir", data_dir),
            ("node.log_format", "--log-format", log_format),
            ("cluster.bootstrap", "--bootstrap", bootstrap),
            (
                "cluster.initial_members",
                "--initial-members",
                initial_members,
            ),
        ];
        for (field, flag, value) in named {
            if let Some(value) = value {
                let value = Value::Untyped(value.clone());
                let origin = Origin::Flag(flag.to_owned());
                self.insert(field, Setting { value, origin });
            }
        }
    }

    /// Adds a setting whose name may not be a field.
    fn insert_known(&mut self, name: String, setting: Setting, faults: &mut Problems) {
        if fields().any(|field| field == name) {
            self.insert(name, setting);
            return;
        }
        let section = name.split('.').next().unwrap_or(&name);
        if let Some((_, instead)) = FORMER.iter().find(|(former, _)| *former == name) {
            faults.unknown(name, setting.origin, (*instead).to_owned());
            return;
        }
        let expected = did_you_mean(&name, fields()).unwrap_or_else(|| {
            let those = fields().filter(|field| in_section(field, section));
            match those.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => format!("a field of {SECTIONS}"),
                those => format!("one of {those}"),
            }
        });
        faults.unknown(name, setting.origin, expected);
    }
}

/// The flags of the command line. Values are text, as typed: they are checked together with the rest of
/// the configuration, so that all faults come in one report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--id`: replaces `node.id`.
    pub id: Option<String>,
    /// `--client-addr`: replaces `node.client_addr`.
    pub client_addr: Option<String>,
    /// `--internal-addr`: replaces `node.internal_addr`.
    pub internal_addr: Option<String>,
    /// `--data-dir`: replaces `node.data_dir`.
    pub data_dir: Option<String>,
    /// `--log-format human|json`: replaces `node.log_format`.
    pub log_format: Option<String>,
    /// `--bootstrap true|false`: replaces `cluster.bootstrap`.
    pub bootstrap: Option<String>,
    /// `--initial-members ID=ADDR/CLIENT_ADDR,…`: replaces `cluster.initial_members`.
    pub initial_members: Option<String>,
    /// `--set FIELD=VALUE`, any number of times: replaces any field, for example
    /// `raft.heartbeat_interval_ms=50`. A flag with its own name takes precedence.
    pub set: Vec<String>,
}

/// The environment of this process. Text that is not Unicode is kept with replacement characters, so that
/// it is refused instead of ignored.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

/// The text of the file at `path`.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError {
        faults: vec![Problem {
            field: "file".to_owned(),
            problem: format!("{} cannot be read: {error}", path.display()),
            expected: "a readable TOML file".to_owned(),
            origin: None,
        }],
    })
}

/// A TOML file and its text.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn parse(&self) -> Result<Vec<(String, Setting)>, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(self.entries(table.into_inner()));
        }
        let mut positions: Vec<_> = errors
            .iter()
            .map(|error| (error.span().map_or(0, |span| span.start), error.message()))
            .collect();
        positions.sort_unstable();
        let faults = positions
            .into_iter()
            .map(|(start, message)| Problem {
                field: "syntax".to_owned(),
                problem: message.lines().collect::<Vec<_>>().join(", "),
                expected: "valid TOML".to_owned(),
                origin: Some(self.origin(start)),
            })
            .collect();
        Err(ConfigError { faults })
    }

    fn entries(&self, table: DeTable<'_>) -> Vec<(String, Setting)> {
        let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, _)| {
            (key.into_inner().into_owned(), self.setting(value))
        };
        table.into_iter().map(entry).collect()
    }

    fn setting(&self, value: Spanned<DeValue<'_>>) -> Setting {
        let origin = self.origin(value.span().start);
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            // A number too large for any type is out of range.
            DeValue::Integer(digits) => Value::Integer(
                i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX),
            ),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.setting(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.entries(table)),
            DeValue::Float(float) => Value::Other(float.to_string()),
            DeValue::Datetime(date) => Value::Other(date.to_string()),
        };
        Setting { value, origin }
    }

    fn origin(&self, start: usize) -> Origin {
        let before = self.text.get(..start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let in_line = before.get(line_start..).unwrap_or("");
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: in_line.chars().count() + 1,
        }
    }
}

/// Whether `field` belongs to `section`.
fn in_section(field: &str, section: &str) -> bool {
    field
        .split_once('.')
        .is_some_and(|(name, _)| name == section)
}

/// The environment variable of `field`: `SESHAT_NODE__ID` for `node.id`.
fn variable(field: &str, separator: &str) -> String {
    format!("SESHAT_{}", field.replace('.', separator).to_uppercase())
}
