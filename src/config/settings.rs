//! Settings as they were written, before any field gives them a type.

use std::collections::BTreeMap;

use super::fault::Origin;

/// A value as it was written, and where.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// From a variable or a flag: the field decides the type.
    Untyped(String),
    /// A TOML string.
    String(String),
    /// A TOML integer.
    Integer(i128),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    Array(Vec<Setting>),
    /// A TOML table.
    Table(Vec<(String, Setting)>),
    /// A TOML float or date: no field holds one.
    Other(String),
}

/// The settings of all sources, field by field.
#[derive(Debug, Default)]
pub(super) struct Settings {
    by_field: BTreeMap<String, Setting>,
}

impl Settings {
    pub(super) fn take(&mut self, field: &str) -> Option<Setting> {
        self.by_field.remove(field)
    }

    pub(super) fn contains(&self, field: &str) -> bool {
        self.by_field.contains_key(field)
    }

    pub(super) fn insert(&mut self, field: impl Into<String>, setting: Setting) {
        self.by_field.insert(field.into(), setting);
    }
}

/// The closest candidate to `name`, if one is close enough.
pub(super) fn did_you_mean(
    name: &str,
    candidates: impl IntoIterator<Item = impl AsRef<str>>,
) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate.as_ref()), candidate))
        .filter(|(likeness, _)| *likeness > 0.9)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate.as_ref().to_owned())
}
