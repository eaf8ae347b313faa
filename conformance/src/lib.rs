//! Checks that the protocol of Seshat carries every message of raft-rs, and nothing else.
//!
//! `seshat::wire` is between raft-rs and the network: for every message that a node can emit, eraftpb →
//! typed message → bytes → typed message → eraftpb has to be the identity, and no message of a peer may
//! panic raft-rs. This crate has the tools for that, the tests are in `tests/`:
//!
//! | test | claim |
//! |---|---|
//! | `round_trip` | a generated message of every [`Kind`] survives the wire |
//! | `survival` | so does everything that a process sends in our own types: its identity, offers,
//! commands, refusals |
//! | `emitted` | so does everything that real raft-rs nodes emit in a [`Cluster`](cluster::Cluster), and every kind is among it |
//! | `refused` | conf changes that raft-rs knows and no node proposes are errors in both directions |
//! | `unknown` | a node refuses a request with an unknown field anywhere, and reads every encoding of the known ones |
//! | `fuzz` | no bytes panic the conversion, and what it accepts does not panic a node |
//! | `golden` | another language's protobuf writes and reads the same bytes, and the same JSON |
//! | `typed` | the content of each field, as another language wrote it, is in the right field of our
//! type |
//! | `drift` | `eraftpb` has exactly the fields that the conversion knows |
//! | `runner` | the conformance runner finds what is wrong with a client |
//!
//! The binary `conformance` is that runner, `conformance-client` the client program for Rust, and `conformance-wrong`
//! one that is wrong, for the tests: they speak [`protocol`].
//!
//! The rules by which the conversion refuses a message are tested one by one beside the code, in
//! `seshat::wire`.

pub mod any;
pub mod cluster;
pub mod generate;
pub mod golden;
mod kind;
pub mod protocol;
mod wire;

pub use kind::{Census, Kind};
pub use wire::{decode, encode, survives};

/// How proptest runs `cases` cases of a test in `tests/`: a case that fails is stored beside the test
/// and tried first from then on.
pub fn config(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, FileFailurePersistence};
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    }
}
