//! The core under a simulated network and clock.
//!
//! A seed decides everything: what is lost, delayed, doubled, reordered and cut off, which node is
//! slow or frozen, whose clock stands still, which one is started again, what the clients ask and
//! when. A seed that fails prints how to run it alone, with a trace that can be read as a story:
//!
//! ```text
//! SEED=17 cargo test --test simulation replay -- --nocapture
//! ```
//!
//! `SEEDS=10000 cargo test --release --test simulation seeds -- --nocapture` runs more of them, and
//! `FIRST_SEED` says where to begin.
//!
//! * [`world`]: the agenda, the clients' requests, and what is checked after each step;
//!   [`process`]: one process and its machine.
//! * [`network`], [`faults`], [`restarts`]: what goes wrong. [`delivery`]: how messages, snapshots
//!   and calls travel.
//! * [`clients`], [`numbered`], [`checker`], [`invariants`]: what must hold nevertheless.
//! * [`sabotage`], [`controls`]: rules broken on purpose, to see that somebody notices.
//! * [`runner`], [`summary`], [`trace`]: many seeds, and what is said of them.

#![cfg(test)]

mod checker;
mod clients;
mod controls;
mod delivery;
mod faults;
mod invariants;
mod network;
mod numbered;
mod process;
mod restarts;
mod runner;
mod sabotage;
mod summary;
mod trace;
mod world;

use runner::{run_seed, run_seeds};
use sabotage::Sabotage;
use trace::Show;
use world::{HowMany, Plan};

/// Seeds that an ordinary test run covers.
const DEFAULT_SEEDS: u64 = 100;

fn env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")),
    )
}

/// Every fault, unless `SABOTAGE` or `TROUBLES` make it a plan of a negative control.
fn plan(show: Show) -> Plan {
    let troubles = [HowMany::Never, HowMany::Drawn, HowMany::Often];
    Plan {
        sabotage: one_of("SABOTAGE", &Sabotage::ALL),
        troubles: one_of("TROUBLES", &troubles).unwrap_or(HowMany::Drawn),
        ..Plan::new(show)
    }
}

/// Which of `all` the environment variable `name` says.
fn one_of<T: Copy + std::fmt::Debug>(name: &str, all: &[T]) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let found = all.iter().find(|it| format!("{it:?}") == value);
    Some(*found.unwrap_or_else(|| panic!("{name} is one of {all:?}, not {value:?}")))
}

/// Every seed keeps every promise.
#[test]
fn seeds() {
    let first = env("FIRST_SEED").unwrap_or(0);
    let count = env("SEEDS").unwrap_or(DEFAULT_SEEDS);
    let report = run_seeds(first, count, plan(Show::Nothing));
    println!("seeds {first} to {}: {report}", first + count - 1);
    assert!(report.failures.is_empty(), "some seeds failed: see above");
}

/// Runs the seed `SEED` with its trace; without one, the first.
#[test]
fn replay() {
    let seed = env("SEED");
    let show = if seed.is_some() {
        Show::Print
    } else {
        Show::Nothing
    };
    let seed = seed.unwrap_or(0);
    match run_seed(seed, plan(show)) {
        Ok(summary) => println!("seed {seed}: {summary}"),
        Err(violation) => panic!("seed {seed} failed: {violation}"),
    }
}

/// The same seed gives the same run, byte for byte.
#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in 0..3 {
        let run = || run_seed(seed, Plan::new(Show::Digest)).map(|summary| summary.trace);
        let trace = run();
        assert!(trace.as_ref().is_ok_and(|&(bytes, _)| bytes > 0));
        assert_eq!(trace, run(), "seed {seed}");
    }
}
