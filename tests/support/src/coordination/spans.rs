//! What watches have promised: no change is left out.

use std::collections::BTreeSet;

use super::record::{Moment, Record};

/// All changes of some keys behind one revision and up to another one, as a watch has shown them.
#[derive(Debug, Clone)]
pub struct Span {
    pub start: Moment,
    pub end: Moment,
    pub keys: Vec<String>,
    pub behind: u64,
    pub up_to: u64,
    /// The revision of each change, and its key.
    pub changes: BTreeSet<(u64, String)>,
}

impl Span {
    /// Whether `record`, which has this revision and was carried out, was shown with all of its writes; or why
    /// not.
    pub(super) fn shows(&self, record: &Record, revision: u64) -> Result<(), String> {
        if revision <= self.behind || revision > self.up_to {
            return Ok(());
        }
        for (key, _) in &record.writes {
            let change = (revision, key.clone());
            if self.keys.contains(key) && !self.changes.contains(&change) {
                return Err(format!(
                    "a watch has not shown {key} of {record:?}: {self:?}"
                ));
            }
        }
        Ok(())
    }
}
