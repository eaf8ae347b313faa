//! The events of a run, in numbers that can be added up and passed from process to process.

use std::collections::BTreeMap;
use std::fmt;

/// Begins the line with the report of a process.
const MARK: &str = "report of a seed: ";

/// The number of each event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report(BTreeMap<String, u64>);

impl Report {
    pub(crate) fn add(&mut self, what: &str, times: u64) {
        *self.0.entry(what.to_owned()).or_default() += times;
    }

    pub(crate) fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }

    /// Prints the report for the process that waits for it. The test harness may have begun a line.
    pub(crate) fn publish(&self) {
        let report = serde_json::to_string(&self.0).expect("numbers");
        println!("\n{MARK}{report}");
    }

    /// The report in the output of a process.
    pub(crate) fn find(printed: &str) -> Option<Self> {
        let mut lines = printed.lines();
        let report = lines.find_map(|line| line.strip_prefix(MARK))?;
        serde_json::from_str(report).ok().map(Self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, times)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{times} {what}")?;
        }
        Ok(())
    }
}
