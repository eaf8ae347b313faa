//! The whole server under a simulated network and clock.
//!
//! `tests/simulation/` runs the core alone. This suite also runs everything above it: gRPC, HTTP/2,
//! streams, reconnects, backoff, snapshots in chunks, on simulated TCP
//! ([turmoil](https://docs.rs/turmoil)). A seed decides which links are cut, stalled, slowed down and
//! lossy, which node ends, how, and when it restarts, and the requests of the clients. Some clients call the
//! protocol, others use the Rust client, with sessions and pipelines, and some of these coordinate: by
//! conditional writes, transactions, scans, watches and locks. An operator forms the cluster although a node
//! is missing, adds members and removes them, and recovers the cluster when most of its members have lost
//! their memory at once.
//!
//! The history of every key has to be linearizable, and all of it strictly serializable in the order of
//! revisions; after a recovery, from the state of the survivor on. Accounts keep their sum at every moment.
//! A numbered write is applied once. A watch leaves out no change. A living session that its client takes
//! for held lives. One client at a time is sure of a lock, and what is counted under it is not lost. One
//! cluster serves at a time. The cluster has to heal once the network has, and all clients are answered
//! then.
//!
//! Each seed has a process of its own, because two runs in one process may differ. A seed that fails
//! prints the command that runs it alone, with a readable trace:
//!
//! ```text
//! SEED=17 cargo test --test turmoil replay -- --nocapture
//! ```
//!
//! `SEEDS=1000 FIRST_SEED=1000 cargo test --test turmoil` runs more of them.

#![cfg(test)]

mod actors;
mod clients;
mod crew;
mod falls;
mod health;
mod history;
mod holders;
mod library;
mod logs;
mod nemesis;
mod network;
mod node;
mod operator;
mod plan;
mod report;
mod runs;
mod shared;
mod world;

use std::ops::Range;
use std::rc::Rc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use logs::Logs;
use runs::{all, env, run};
use shared::Shared;
use world::{Flaw, World};

/// Seeds that an ordinary test run covers.
const DEFAULT_SEEDS: u64 = 16;

/// The events of some of them.
const MUST_HAPPEN: [&str; 24] = [
    "reads",
    "numbered writes",
    "batches",
    "transactions that wrote",
    "transactions that failed",
    "transactions with unknown outcome",
    "reads of several keys",
    "scans",
    "keys removed: Expired",
    "watches begun",
    "changes shown",
    "states of mirrors",
    "living sessions lost",
    "locks held",
    "locks lost",
    "counts under a lock",
    "counts refused without the lock",
    "clients crashed",
    "snapshots installed",
    "snapshots torn",
    "clusters formed without a node",
    "members added",
    "members removed",
    "clusters recovered",
];

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
    for what in MUST_HAPPEN {
        assert!(report.get(what) > 0, "no {what}: the runs say little");
    }
}

/// Runs the seed `SEED` with its trace. Every run of every seed is this test, in a process of its
/// own; without a `SEED` there is nothing to replay.
#[test]
fn replay() {
    let Some(seed) = env("SEED") else {
        return;
    };
    let named = std::env::var(runs::FLAW).unwrap_or_default();
    let mut flaws = Flaw::ALL.into_iter();
    let flaw = flaws.find(|flaw| format!("{flaw:?}") == named);
    let flaw = flaw.unwrap_or(Flaw::None);
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
    World::new(seed, flaw, &limits, &logs, &shared).run();
    logs.check();
    let mut report = shared.report.borrow().clone();
    report.add_all(&logs.report());
    println!("\nseed {seed}: {report}");
    println!("\n{}{}", runs::DIGEST, shared.digest());
    report.publish();
}

/// The same seed gives the same run, to the last answer. On Linux alone: elsewhere hash maps and tokio
/// ask the system for randomness.
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

/// Raft ids that outlive the memory of their process break the cluster in two runs of five, and the
/// checks notice.
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

/// Whether one of the first seeds with this `flaw` ends in this `complaint`.
fn is_found(flaw: Flaw, complaint: &str) -> bool {
    is_found_in(0..20, flaw, complaint)
}

fn is_found_in(mut seeds: Range<u64>, flaw: Flaw, complaint: &str) -> bool {
    seeds.any(|seed| run(seed, flaw).is_err_and(|failure| failure.contains(complaint)))
}

/// A write that a session sends twice without a number is applied twice, and the checks notice.
#[test]
fn a_session_without_numbers_is_found() {
    assert!(is_found(Flaw::Unnumbered, "was not applied once"));
}

/// A compare-and-set that is sent again without a session fails against its own success, and the checks notice.
#[test]
fn a_conditional_write_that_is_sent_again_is_found() {
    assert!(is_found(Flaw::Resent, "the history"));
}

/// A client that does not ask whether its living session is lost takes a dead one for held, and the checks notice.
#[test]
fn a_client_that_trusts_in_its_session_is_found() {
    // Few seeds cut a client off for longer than its TTL while the others reach the cluster.
    let complaint = "holds a session whose key is gone";
    assert!(is_found_in(20..60, Flaw::Trusting, complaint));
}

/// A client that writes without its lock loses what others have counted, and the checks notice.
#[test]
fn a_count_without_the_lock_is_found() {
    assert!(is_found(Flaw::Unfenced, "the history"));
}

/// A second cluster is noticed as soon as it has a leader.
#[test]
fn a_cluster_beside_the_cluster_is_found() {
    assert!(is_found(Flaw::Apart, "two clusters serve"));
}

/// A recovery that loses a write which the survivor is believed to have is noticed.
#[test]
fn a_recovery_that_keeps_less_than_the_survivor_had_is_found() {
    assert!(is_found(Flaw::Overstated, "the survivor had the log up to"));
}
