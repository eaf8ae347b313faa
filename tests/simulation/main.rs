//! The core under a simulated network and clock.
//!
//! A seed decides everything: what is lost, delayed, doubled, reordered and cut off, which node is
//! started again, what the clients ask and when. A seed that fails prints how to run it alone, with
//! a trace that can be read as a story:
//!
//! ```text
//! SEED=17 cargo test --test simulation replay -- --nocapture
//! ```
//!
//! `SEEDS=10000 cargo test --release --test simulation` runs more of them.

#![cfg(test)]

mod checker;
mod clients;
mod invariants;
mod network;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Summary, World};

/// Seeds that an ordinary test run covers.
const DEFAULT_SEEDS: u64 = 400;

fn env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")),
    )
}

/// Every seed keeps every promise.
#[test]
fn seeds() {
    let (first, count) = (
        env("FIRST_SEED").unwrap_or(0),
        env("SEEDS").unwrap_or(DEFAULT_SEEDS),
    );
    let next = AtomicU64::new(first);
    let total = Mutex::new(Summary::default());
    let failures = Mutex::new(Vec::new());
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run())) {
                Ok(summary) => total.lock().expect("not poisoned").add(&summary),
                Err(_) => failures.lock().expect("not poisoned").push(seed),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
    println!(
        "seeds {first} to {}: {}",
        first + count - 1,
        total.lock().expect("not poisoned")
    );
    let failures = failures.into_inner().expect("not poisoned");
    assert!(
        failures.is_empty(),
        "seeds {failures:?} failed; replay one with\n  \
         SEED={} cargo test --test simulation replay -- --nocapture",
        failures[0]
    );
}

/// Runs the seed `SEED` with its trace; without one, the first.
#[test]
fn replay() {
    let seed = env("SEED").unwrap_or(0);
    let world = World::new(seed, env("SEED").is_some());
    println!("seed {seed}: {}", world.run());
}

/// The same seed gives the same run, byte for byte.
#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in 0..10 {
        let (one, other) = (World::new(seed, false).run(), World::new(seed, false).run());
        assert!(one.trace_bytes > 0);
        assert_eq!(
            (one.trace_digest, one.trace_bytes),
            (other.trace_digest, other.trace_bytes),
            "seed {seed}"
        );
    }
}
