//! Known failures: the cases that a client does not pass, each with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::case::Case;

/// The reasons, by the names of the cases.
pub(crate) type Known = BTreeMap<String, String>;

/// Reads them from a file: a line `name: reason` for each, and lines with `#`.
///
/// # Errors
///
/// A line is not of that form, or names no case.
pub(crate) fn read(path: &Path, cases: &[Case]) -> Result<Known> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let known = parse(&text).with_context(|| path.display().to_string())?;
    for name in known.keys() {
        if !cases.iter().any(|it| it.name == *name) {
            bail!("{}: there is no case {name:?}", path.display());
        }
    }
    Ok(known)
}

fn parse(text: &str) -> Result<Known> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let known = lines.map(|line| {
        let parts = line
            .split_once(':')
            .map(|(name, reason)| (name.trim(), reason.trim()));
        let (name, reason) = parts
            .filter(|(_, reason)| !reason.is_empty())
            .with_context(|| format!("{line:?} is not of the form \"name: reason\""))?;
        Ok((name.to_owned(), reason.to_owned()))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_names_a_case_and_a_reason() {
        let known = parse("# none yet\n\nleader/hint: it has no hints\n").unwrap();
        assert_eq!(
            known,
            Known::from([("leader/hint".to_owned(), "it has no hints".to_owned())])
        );
        assert!(parse("leader/hint").is_err());
        assert!(parse("leader/hint:").is_err());
    }
}
