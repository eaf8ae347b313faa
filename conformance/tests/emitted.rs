//! Everything that real raft-rs nodes emit survives the wire.

use seshat_conformance::cluster::Cluster;
use seshat_conformance::{Census, Kind};

/// Histories that are run. Together they hold every kind of message.
const SEEDS: u64 = 100;
/// Length of one.
const ROUNDS: usize = 1500;

#[test]
fn everything_that_nodes_emit_survives_the_wire() {
    let mut total = Census::default();
    for seed in 0..SEEDS {
        // Named before it runs: a panic then belongs to the history of the last one.
        println!("seed {seed}");
        total.merge(&Cluster::new(seed).run(ROUNDS));
    }
    println!("{total}");
    assert_eq!(total.missing(), [] as [Kind; 0]);
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    let run = || Cluster::new(7).run(ROUNDS).to_string();
    assert_eq!(run(), run());
}
