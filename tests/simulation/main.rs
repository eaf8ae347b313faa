//! The core under a simulated network and clock.
//!
//! A seed decides everything: which messages are lost, delayed, duplicated, reordered and cut off, which
//! node is slow or frozen, whose clock stands still, which one is restarted, what the clients ask and
//! when. A seed that fails prints the command that runs it alone, with a readable trace:
//!
//! ```text
//! SEED=17 WORLD=Wide cargo test --test simulation replay -- --nocapture
//! ```
//!
//! `SEEDS=10000 cargo test --release --test simulation seeds -- --nocapture` runs more of them, and
//! `FIRST_SEED` is the first.
//!
//! There are two worlds ([`setting`]). The *narrow* one has three nodes at equal distances and one loss
//! of memory at a time, and strict checks. The *wide* one has three to seven nodes, near and far, with
//! bounds that are reached, overload, losses of whole groups, and an operator who adds, removes, forms,
//! recovers and restarts, and follows the status.
//!
//! * [`world`]: the agenda; [`turns`]: one turn of a process, and the checks after it;
//!   [`process`]: one process and its machine; [`truth`]: the state that no process in the world can
//!   know.
//! * [`network`], [`faults`], [`restarts`], [`accidents`]: the faults. [`delivery`], [`snapshots`]: the
//!   transport of messages, calls and snapshots.
//! * [`operator`]: reads the status, and follows it. [`final_check`]: the final check in the wide world.
//! * [`asking`], [`clients`], [`numbered`], [`transactions`], [`scans`], [`living`], [`locks`], [`watches`]: the
//!   requests of clients. [`clusters`], [`model`], [`revisions`], [`invariants`]: the invariants, one property a
//!   file.
//! * [`sabotage`], [`controls`]: rules broken on purpose, to see that the checks notice.
//! * [`runner`], [`summary`], [`trace`]: many seeds, and their results.

#![cfg(test)]

mod accidents;
mod asking;
mod clients;
mod clusters;
mod controls;
mod delivery;
mod faults;
mod final_check;
mod invariants;
mod living;
mod locks;
mod model;
mod network;
mod numbered;
mod operator;
mod process;
mod restarts;
mod revisions;
mod runner;
mod runs;
mod sabotage;
mod scans;
mod setting;
mod snapshots;
mod summary;
mod trace;
mod transactions;
mod truth;
mod turns;
mod watches;
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

/// Every fault, unless `SABOTAGE`, `TROUBLES` or `DISASTERS` make it a plan of a negative control.
fn plan(scope: Scope, show: Show) -> Plan {
    let how_many = [HowMany::Never, HowMany::Drawn, HowMany::Often];
    Plan {
        sabotage: one_of("SABOTAGE", &Sabotage::ALL),
        troubles: one_of("TROUBLES", &how_many).unwrap_or(HowMany::Drawn),
        disasters: one_of("DISASTERS", &how_many).unwrap_or(HowMany::Drawn),
        ..Plan::new(scope, show)
    }
}

/// The member of `all` that the environment variable `name` names.
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
