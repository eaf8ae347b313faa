//! Whether the protocol of Seshat carries everything that raft-rs says, and nothing else.
//!
//! `seshat::wire` stands between raft-rs and the network: for every message that a node can emit,
//! eraftpb → typed message → bytes → typed message → eraftpb has to be the identity, and what a
//! peer sends must not be able to panic raft-rs. What the tests of this crate need for that is
//! here, the tests are in `tests/`:
//!
//! | test | claim |
//! |---|---|
//! | `round_trip` | a generated message of every [`Kind`] survives the wire |
//! | `survival` | so does whatever a process says in our own types: who it is, offers, commands, refusals |
//! | `emitted` | so does everything that real raft-rs nodes emit in a [`Cluster`](cluster::Cluster), and every kind is among it |
//! | `fuzz` | no bytes panic the conversion, and what it accepts does not panic a node |
//! | `golden` | another language's protobuf writes and reads the same bytes, and the same JSON |
//! | `typed` | what another language wrote into a field is in the field of our type that means it |
//! | `drift` | `eraftpb` has exactly the fields that the conversion knows |
//!
//! The rules by which the conversion refuses a message are tested one by one where they stand, in
//! `seshat::wire`.

pub mod any;
pub mod cluster;
pub mod generate;
pub mod golden;
mod kind;
mod wire;

pub use kind::{Census, Kind};
pub use wire::{decode, encode, survives};

/// How proptest runs `cases` cases of a test in `tests/`: what fails once is kept beside the test
/// and tried first ever after.
pub fn config(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, FileFailurePersistence};
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    }
}
