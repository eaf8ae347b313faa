//! The faults of a configuration, each with its problem, its place and the expected value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Every fault of a configuration, in the order of its fields. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", report(faults))]
pub struct ConfigError {
    /// The faults: at least one.
    pub faults: Vec<Problem>,
}

fn report(faults: &[Problem]) -> String {
    let plural = if faults.len() == 1 { "" } else { "s" };
    let mut text = format!("{} fault{plural} in the configuration:", faults.len());
    for fault in faults {
        text.push_str(&format!("\n  {fault}"));
    }
    text
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The faulty field, for example `cluster.initial_members[1].addr`; `file` for a file that cannot be
    /// read, `syntax` for a file that is not TOML.
    pub field: String,
    /// The problem with its value.
    pub problem: String,
    /// The expected value.
    pub expected: String,
    /// The place where the value was written; `None` if no value was written.
    pub origin: Option<Origin>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            problem,
            expected,
            origin,
        } = self;
        write!(f, "{field}: {problem}; expected {expected}")?;
        match origin {
            Some(origin) => write!(f, " [{origin}]"),
            None => Ok(()),
        }
    }
}

/// The place where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the file. Displayed as `path:line:column`.
    File {
        /// Path of the file, as it was given.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// In the environment variable of this name.
    Env(String),
    /// In this flag, for example `--id`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    /// Fields without a value that a rule could check.
    unusable: BTreeSet<String>,
    /// The place where each field was written.
    origins: BTreeMap<String, Origin>,
}

impl Problems {
    /// Remembers where `field` was written.
    pub(super) fn found_at(&mut self, field: &str, origin: Origin) {
        self.origins.insert(field.to_owned(), origin);
    }

    /// Notes a fault of `field`, whose value can still be checked by rules.
    pub(super) fn add(
        &mut self,
        field: &str,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.list.push(Problem {
            field: field.to_owned(),
            problem: problem.into(),
            expected: expected.into(),
            origin: self.origin(field).cloned(),
        });
    }

    /// Notes a fault that leaves `field` without a value: rules about the field are skipped.
    pub(super) fn unusable(
        &mut self,
        field: &str,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.add(field, problem, expected);
        self.unusable.insert(field.to_owned());
    }

    /// Notes a name that is not a field.
    pub(super) fn unknown(&mut self, field: String, origin: Origin, expected: String) {
        self.list.push(Problem {
            field,
            problem: "unknown".to_owned(),
            expected,
            origin: Some(origin),
        });
    }

    /// Notes that `value` is not within `range`.
    pub(super) fn out_of_range<T: fmt::Display>(
        &mut self,
        field: &str,
        value: impl fmt::Display,
        range: &RangeInclusive<T>,
    ) {
        self.unusable(
            field,
            format!("{value} is out of range"),
            whole_number(range),
        );
    }

    /// Whether all these fields have values that a rule can check.
    pub(super) fn usable(&self, fields: &[&str]) -> bool {
        let mut parts = fields.iter().flat_map(|field| self_and_parents(field));
        parts.all(|part| !self.unusable.contains(part))
    }

    /// `Ok` unless a fault was found.
    pub(super) fn into_result<T>(
        self,
        value: T,
        position: impl Fn(&str) -> usize,
    ) -> Result<T, ConfigError> {
        let mut faults = self.list;
        if faults.is_empty() {
            return Ok(value);
        }
        faults.sort_by_key(|fault| position(&fault.field));
        Err(ConfigError { faults })
    }

    /// Whether a value was written for `field`.
    pub(super) fn is_written(&self, field: &str) -> bool {
        self.origins.contains_key(field)
    }

    /// The place where `field` was written, or else the value that contains it.
    fn origin(&self, field: &str) -> Option<&Origin> {
        self_and_parents(field).find_map(|part| self.origins.get(part))
    }
}

/// `a.b[0].c`, `a.b[0]`, `a.b`, `a`.
pub(super) fn self_and_parents(field: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(field), |part| part.get(..part.rfind(['.', '['])?))
}

/// "a whole number from … to …".
pub(super) fn whole_number<T: fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}
