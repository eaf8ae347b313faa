//! Runs many seeds at once, and collects the results.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::invariants::{Promise, Violation, no_replica_fails};
use crate::summary::Summary;
use crate::world::{HowMany, Plan, World};

/// The results of many seeds.
#[derive(Debug)]
pub(crate) struct Report {
    plan: Plan,
    pub(crate) summary: Summary,
    /// The seeds that broke a promise, in order.
    pub(crate) failures: Vec<(u64, Violation)>,
    pub(crate) took: Duration,
}

/// Runs the seeds from `first` on, as many threads at once as there are cores.
pub(crate) fn run_seeds(first: u64, count: u64, plan: Plan) -> Report {
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let report = Mutex::new(Report {
        plan,
        summary: Summary::default(),
        failures: Vec::new(),
        took: Duration::ZERO,
    });
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let result = run_seed(seed, plan);
            let mut report = report.lock().expect("not poisoned");
            match result {
                Ok(summary) => report.summary.add(summary),
                Err(violation) => report.failures.push((seed, violation)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
    let mut report = report.into_inner().expect("not poisoned");
    report.failures.sort_by_key(|(seed, _)| *seed);
    report.took = began.elapsed();
    report
}

/// Runs one seed. raft-rs panics where our nodes must not let it: that is a violation too.
pub(crate) fn run_seed(seed: u64, plan: Plan) -> Result<Summary, Violation> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !keep_location(info) {
                usual(info);
            }
        }));
    });
    LOCATION.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, plan).run()));
    let location = LOCATION.take().unwrap_or_default();
    result.unwrap_or_else(|payload| {
        let message = format!("{} at {location}", text(payload.as_ref()));
        Err(no_replica_fails::panicked(&message))
    })
}

thread_local! {
    /// The location of a panic of this thread, if it runs a seed, so that the panic is caught.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn keep_location(info: &PanicHookInfo<'_>) -> bool {
    LOCATION.with_borrow_mut(|location| match location {
        Some(location) => {
            *location = info.location().map(ToString::to_string).unwrap_or_default();
            true
        }
        None => false,
    })
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("something")
}

/// The command that shows the trace of a seed.
fn replay_command(seed: u64, plan: Plan) -> String {
    let Plan {
        show: _,
        scope,
        sabotage,
        troubles,
        disasters,
    } = plan;
    let sabotage = sabotage.map(|it| format!("SABOTAGE={it:?} "));
    let unusual = |name: &str, how_many: HowMany| match how_many {
        HowMany::Drawn => String::new(),
        _ => format!("{name}={how_many:?} "),
    };
    format!(
        "SEED={seed} WORLD={scope:?} {}{}{}cargo test --test simulation replay -- --nocapture",
        sabotage.unwrap_or_default(),
        unusual("TROUBLES", troubles),
        unusual("DISASTERS", disasters),
    )
}

impl Report {
    /// The failures that broke a promise of this kind.
    pub(crate) fn broke(&self, promise: Promise) -> Vec<&(u64, Violation)> {
        let broke = |failure: &&(u64, Violation)| failure.1.promise == promise;
        self.failures.iter().filter(broke).collect()
    }

    /// The number of seeds that failed by each invariant, as text.
    pub(crate) fn by_invariant(&self) -> String {
        let mut counts = BTreeMap::<_, u64>::new();
        for (_, violation) in &self.failures {
            *counts.entry(violation.invariant).or_default() += 1;
        }
        let words = counts.iter().map(|(name, count)| format!("{name} {count}"));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (seed, violation) in &self.failures {
            writeln!(
                f,
                "seed {seed} failed: {violation}\n  {}",
                replay_command(*seed, self.plan)
            )?;
        }
        let seeds = u32::try_from(self.summary.seeds).unwrap_or(u32::MAX);
        let failed = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{}\n{failed} failed; {seconds:.1} s, {:.1} seeds a second",
            self.summary,
            (f64::from(seeds) + f64::from(failed)) / seconds
        )
    }
}
