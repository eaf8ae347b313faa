//! The progress of a run: one line on standard error, if that is a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::load::Run;

/// Interval between two redraws.
const INTERVAL: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

/// Shows the line until it is dropped, and then removes it.
#[derive(Debug)]
pub(super) struct Progress(Option<JoinHandle<()>>);

impl Progress {
    /// Shows an activity of unknown length.
    pub(super) fn of(what: &'static str) -> Self {
        if std::io::stderr().is_terminal() {
            draw(what);
        }
        Self(None)
    }

    /// Shows the progress of the run.
    pub(super) fn of_run(run: &Arc<Run>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let run = Arc::clone(run);
        Self(Some(tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            let (mut before, mut at) = (0, Instant::now());
            loop {
                interval.tick().await;
                let (over, now) = (run.over.load(Ordering::Relaxed), Instant::now());
                let speed = per_second(over - before, now.saturating_duration_since(at));
                (before, at) = (over, now);
                draw(&line(&run, now, speed));
            }
        })))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(drawing) = self.0.take() {
            drawing.abort();
        }
        if std::io::stderr().is_terminal() {
            draw("");
        }
    }
}

fn line(run: &Run, now: Instant, speed: u64) -> String {
    if now < run.start {
        return format!("warming up: {speed} ops/s");
    }
    let passed = now
        .saturating_duration_since(run.start)
        .min(run.plan.duration);
    format!("{} {speed} ops/s", bar(passed, run.plan.duration))
}

fn bar(passed: Duration, whole: Duration) -> String {
    let percent = passed.as_millis() * 100 / whole.as_millis().max(1);
    let percent = usize::try_from(percent).unwrap_or(100).min(100);
    let full = percent * WIDTH / 100;
    format!(
        "[{}{}] {percent:3}%",
        "#".repeat(full),
        ".".repeat(WIDTH - full)
    )
}

fn draw(line: &str) {
    // A failure to show it does not affect the run.
    let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
}

/// The rate a second of `count` in `time`.
pub(super) fn per_second(count: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        let bar = |millis| bar(Duration::from_millis(millis), Duration::from_secs(1));
        assert_eq!(bar(0), format!("[{}]   0%", ".".repeat(30)));
        assert_eq!(
            bar(500),
            format!("[{}{}]  50%", "#".repeat(15), ".".repeat(15))
        );
        assert_eq!(bar(2000), format!("[{}] 100%", "#".repeat(30)));
    }
}
