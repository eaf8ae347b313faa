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

mod types {
    pub(crate) use seshat::types::*;
}
mod accidents;
mod asking;
mod checker;
mod clients;
mod clusters;
mod controls;
mod delivery;
mod exam;
mod faults;
mod invariants;
mod network;
mod numbered;
mod operator;
mod process;
mod restarts;
mod runner;
mod sabotage;
mod setting;
mod snapshots;
mod summary;
mod trace;
mod truth;
mod turns;
mod world;

use runner::{run_seed, run_seeds};
use sabotage::Sabotage;
use setting::Scope;
use trace::Show;
use world::{HowMany, Plan};

/// Seeds of each world that an ordinary test run covers.
const NARROW_SEEDS: u64 = 100;
const WIDE_SEEDS: u64 = 60;

fn env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")),
    )
}

/// Every fault, unless `SABOTAGE` or `TROUBLES` make it a plan of a negative control.
fn plan(scope: Scope, show: Show) -> Plan {
    let troubles = [HowMany::Never, HowMany::Drawn, HowMany::Often];
    Plan {
        sabotage: one_of("SABOTAGE", &Sabotage::ALL),
        troubles: one_of("TROUBLES", &troubles).unwrap_or(HowMany::Drawn),
        ..Plan::new(scope, show)
    }
}

/// Which of `all` the environment variable `name` says.
fn one_of<T: Copy + std::fmt::Debug>(name: &str, all: &[T]) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let found = all.iter().find(|it| format!("{it:?}") == value);
    Some(*found.unwrap_or_else(|| panic!("{name} is one of {all:?}, not {value:?}")))
}

fn every_seed_keeps_every_promise(scope: Scope, default: u64) {
    let first = env("FIRST_SEED").unwrap_or(0);
    let count = env("SEEDS").unwrap_or(default);
    let report = run_seeds(first, count, plan(scope, Show::Nothing));
    println!("{scope:?} seeds {first} to {}: {report}", first + count - 1);
    assert!(report.failures.is_empty(), "some seeds failed: see above");
}

#[test]
fn seeds() {
    every_seed_keeps_every_promise(Scope::Narrow, NARROW_SEEDS);
}

#[test]
fn seeds_of_the_wide_world() {
    every_seed_keeps_every_promise(Scope::Wide, WIDE_SEEDS);
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
    let scope = one_of("WORLD", &[Scope::Narrow, Scope::Wide]).unwrap_or(Scope::Narrow);
    match run_seed(seed, plan(scope, show)) {
        Ok(summary) => println!("seed {seed}: {summary}"),
        Err(violation) => panic!("seed {seed} failed: {violation}"),
    }
}

/// The same seed gives the same run, byte for byte.
#[test]
fn the_same_seed_twice_is_the_same_run() {
    for scope in [Scope::Narrow, Scope::Wide] {
        for seed in 0..3 {
            let run = || run_seed(seed, Plan::new(scope, Show::Digest)).map(|it| it.trace);
            let trace = run();
            assert!(trace.as_ref().is_ok_and(|&(bytes, _)| bytes > 0));
            assert_eq!(trace, run(), "seed {seed}");
        }
    }
}
