//! The whole server under a simulated network and clock.
//!
//! Where `tests/simulation/` runs the core alone, this runs everything above it as well: gRPC,
//! HTTP/2, streams, reconnects, backoff, snapshots in chunks, on simulated TCP
//! ([turmoil](https://docs.rs/turmoil)). A seed decides what is cut off, stalled, slowed down and
//! lost, which node ends how and when it starts again, and what the clients ask. The history of
//! every key has to be linearizable, and the cluster has to heal once the network has.
//!
//! Each seed has a process of its own, as two runs in one process may differ. A seed that fails
//! prints how to run it alone, with a trace that can be read as a story:
//!
//! ```text
//! SEED=17 cargo test --test turmoil replay -- --nocapture
//! ```
//!
//! `SEEDS=1000 FIRST_SEED=1000 cargo test --test turmoil` runs more of them.

#![cfg(test)]

#[path = "../simulation/checker.rs"]
mod checker;
mod clients;
mod health;
mod logs;
mod network;
mod node;
mod operator;
mod report;
mod runs;
mod shared;
mod weather;
mod world;

use std::rc::Rc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use logs::Logs;
use runs::{all, env, run};
use shared::Shared;
use world::{Flaw, World};

/// Seeds that an ordinary test run covers.
const DEFAULT_SEEDS: u64 = 16;

/// Every seed keeps every promise.
#[test]
fn seeds() {
    let first = env("FIRST_SEED").unwrap_or(0);
    let count = env("SEEDS").unwrap_or(DEFAULT_SEEDS);
    let (report, failures) = all(first..first + count);
    println!("{count} seeds from {first}: {report}");
    for (seed, failure) in &failures {
        println!("seed {seed} failed:\n{failure}\n");
    }
    let seeds: Vec<_> = failures.iter().map(|(seed, _)| seed).collect();
    assert!(
        failures.is_empty(),
        "seeds {seeds:?} failed; replay one with\n  \
         SEED={} cargo test --test turmoil replay -- --nocapture",
        seeds[0]
    );
    assert!(report.get("reads") > 0 && report.get("snapshots installed") > 0);
}

/// Runs the seed `SEED` with its trace. Every run of every seed is this test, in a process of its
/// own; without a `SEED` there is nothing to replay.
#[test]
fn replay() {
    let Some(seed) = env("SEED") else {
        return;
    };
    let flaw = match std::env::var(runs::FLAW).as_deref() {
        Ok("Repeats") => Flaw::Repeats,
        Ok("KeptIds") => Flaw::KeptIds,
        _ => Flaw::None,
    };
    let loud = std::env::var_os(runs::QUIET).is_none();
    runs::give_up_in_time();
    repeatable::seed(seed);
    let run = std::thread::spawn(move || one(seed, flaw, loud));
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

fn one(seed: u64, flaw: Flaw, loud: bool) {
    let limits = node::limits(&mut StdRng::seed_from_u64(seed));
    let logs = Logs::watch(loud);
    let shared = Rc::new(Shared::new(loud));
    World::new(seed, flaw, &limits, &shared).run();
    logs.check();
    let mut report = shared.report.borrow().clone();
    report.add_all(&logs.report());
    println!("\nseed {seed}: {report}");
    println!("\n{}{}", runs::DIGEST, shared.digest());
    report.hand_over();
}

/// The same seed gives the same run, to the last answer. On Linux alone: elsewhere nobody keeps hash
/// maps and tokio from asking the system for randomness.
#[cfg(target_os = "linux")]
#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in 0..2 {
        let [one, other] = [(); 2].map(|()| run(seed, Flaw::None).expect("a good run"));
        assert_eq!(one, other, "seed {seed}");
    }
}

/// The checker sees a write that took effect twice, so it would see one of ours.
#[test]
fn a_write_that_is_delivered_twice_is_found() {
    let found = |seed| {
        run(seed, Flaw::Repeats).is_err_and(|failure| failure.contains("is not linearizable"))
    };
    assert!((0..5).any(found));
}

/// Raft ids that outlive the memory of their process break the cluster in two runs of five, and that
/// is seen as well.
#[test]
fn a_node_that_comes_back_under_its_old_raft_id_is_found() {
    let found = |seed| {
        run(seed, Flaw::KeptIds).is_err_and(|failure| {
            ["is not linearizable", "two leaders", "it does not heal"]
                .iter()
                .any(|complaint| failure.contains(complaint))
        })
    };
    assert!((0..20).any(found));
}
