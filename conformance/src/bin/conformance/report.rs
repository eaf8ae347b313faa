//! The report of a run: a line a case, and a summary.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::known::Known;

/// The outcome of a case.
#[derive(Debug)]
pub(crate) struct Verdict {
    outcome: Result<()>,
    took: Duration,
}

impl Verdict {
    /// The outcome of a case that took so long.
    pub(crate) fn new(outcome: Result<()>, took: Duration) -> Self {
        Self { outcome, took }
    }

    /// Fails also for the reason in `other`.
    pub(crate) fn and(self, other: Result<()>) -> Self {
        let outcome = self.outcome.and(other);
        Self { outcome, ..self }
    }
}

/// The report.
#[derive(Debug)]
pub(crate) struct Report {
    known: Known,
    began: Instant,
    passed: usize,
    known_failures: usize,
    failed: Vec<String>,
    passed_though_known: Vec<String>,
}

impl Report {
    /// A report of a run that begins now.
    pub(crate) fn new(known: Known) -> Self {
        Self {
            known,
            began: Instant::now(),
            passed: 0,
            known_failures: 0,
            failed: Vec::new(),
            passed_though_known: Vec::new(),
        }
    }

    /// Prints the line of a case.
    pub(crate) fn add(&mut self, name: &str, verdict: Verdict) {
        let Verdict { outcome, took } = verdict;
        let took = took.as_secs_f32();
        match (outcome, self.known.get(name)) {
            (Ok(()), None) => {
                self.passed += 1;
                println!("ok      {name} ({took:.1} s)");
            }
            (Ok(()), Some(_)) => {
                self.passed_though_known.push(name.to_owned());
                println!("PASSED  {name} ({took:.1} s), although it is a known failure");
            }
            (Err(_), Some(reason)) => {
                self.known_failures += 1;
                println!("known   {name} ({took:.1} s): {reason}");
            }
            (Err(error), None) => {
                self.failed.push(name.to_owned());
                println!("FAILED  {name} ({took:.1} s): {error:#}");
            }
        }
    }

    /// Prints the summary. Returns whether all is as it should be.
    pub(crate) fn end(&self) -> bool {
        let Self {
            passed,
            known_failures,
            failed,
            passed_though_known,
            began,
            ..
        } = self;
        println!(
            "\n{passed} passed, {} failed, {known_failures} known failures, in {:.0} s",
            failed.len(),
            began.elapsed().as_secs_f32(),
        );
        for name in failed {
            println!("  failed: {name}");
        }
        for name in passed_though_known {
            println!("  passes, so remove it from the known failures: {name}");
        }
        failed.is_empty() && passed_though_known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_run_is_right_if_exactly_the_known_failures_fail() {
        let ran = |outcomes: &[(&str, bool)]| {
            let mut report = Report::new(Known::from([("a/known".to_owned(), "why".to_owned())]));
            for (name, passes) in outcomes {
                let outcome = passes.then_some(()).ok_or_else(|| anyhow!("it fails"));
                report.add(name, Verdict::new(outcome, Duration::ZERO));
            }
            report.end()
        };
        assert!(ran(&[("a/other", true), ("a/known", false)]));
        assert!(!ran(&[("a/other", false), ("a/known", false)]));
        assert!(!ran(&[("a/other", true), ("a/known", true)]));
    }
}
