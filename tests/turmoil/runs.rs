//! Runs of seeds, each in a process of its own.

use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::report::Report;
use crate::world::Flaw;

/// The variable that names the flaw of a run.
pub(crate) const FLAW: &str = "TURMOIL_FLAW";

/// The variable that keeps a run from printing its story.
pub(crate) const QUIET: &str = "TURMOIL_QUIET";

/// Begins the line with the digest of a run's story.
pub(crate) const DIGEST: &str = "digest of a seed: ";

/// Real time for one moment of the simulated time, on the most loaded machine.
const STUCK: Duration = Duration::from_secs(120);

/// Moments that have passed in the run of this process.
static MOMENTS: AtomicU64 = AtomicU64::new(0);

/// The bytes that are kept of the output of a failed run.
const TAIL_BYTES: usize = 4_000;

/// The number in the environment variable `name`.
pub(crate) fn env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

/// Ends this process if its run gets stuck within one moment of the simulated time.
pub(crate) fn give_up_in_time() {
    std::thread::spawn(|| {
        let mut before = None;
        loop {
            let now = Some(MOMENTS.load(Ordering::Relaxed));
            if now == before {
                eprintln!("stuck: one moment takes longer than {STUCK:?}");
                std::process::exit(3);
            }
            before = now;
            std::thread::sleep(STUCK);
        }
    });
}

/// A moment of the simulated time has passed.
pub(crate) fn moment_passed() {
    MOMENTS.fetch_add(1, Ordering::Relaxed);
}

/// Runs one seed. Returns the events and the digest of the story, or the last output of a failed run.
pub(crate) fn run(seed: u64, flaw: Flaw) -> Result<(Report, String), String> {
    let this = std::env::current_exe().expect("a path");
    let output = Command::new(this)
        .args(["replay", "--exact", "--nocapture"])
        .env("SEED", seed.to_string())
        .env(FLAW, format!("{flaw:?}"))
        .env(QUIET, "1")
        .output()
        .expect("a process");
    let printed = String::from_utf8_lossy(&output.stdout);
    let digest = printed.lines().find_map(|line| line.strip_prefix(DIGEST));
    match (Report::find(&printed), digest) {
        (Some(report), Some(digest)) if output.status.success() => Ok((report, digest.to_owned())),
        _ => {
            let complaints = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}\n{}", tail(&printed), tail(&complaints)))
        }
    }
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(TAIL_BYTES);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(0)..]
}

/// Runs all `seeds`, as many at once as there are cores. Returns the events in the good ones together,
/// and the failures.
pub(crate) fn all(seeds: Range<u64>) -> (Report, Vec<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let done = Mutex::new((Report::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(seed, Flaw::None);
            let mut done = done.lock().expect("not poisoned");
            match outcome {
                Ok((report, _)) => done.0.add_all(&report),
                Err(failure) => done.1.push((seed, failure)),
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    done.into_inner().expect("not poisoned")
}
