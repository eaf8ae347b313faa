//! The pure core: one node of a Raft group, without clock, randomness, sockets or threads.
//!
//! All decisions are made here, and everything here is a plain function over owned state: the shell
//! ([`driver`](crate::driver) and above) reports that a tick has passed or that a message came, and
//! carries out the output. The same inputs in the same order give the same outputs, byte for byte, so a
//! simulation runs the same code as production.
//!
//! * [`Replica`] is a process from its start to its end: it finds the other initial members
//!   ([`Formation`]), then takes part in the cluster ([`RaftNode`]), and while it leads it brings the
//!   Raft group in line with the desired members.
//! * [`RaftNode`] wraps raft-rs's `RawNode`: it proposes, reads, applies, and owes every caller exactly
//!   one answer.
//! * [`MemoryStorage`] holds the log and the snapshots for raft-rs.
//!
//! A caller is represented by a *waiter* `W`, an opaque value that goes in with a request and comes out
//! with its answer. It is moved, never cloned: the type system ensures that no caller is answered twice,
//! and [`RaftNode`] ensures that every caller is answered.
//!
//! raft-rs types stay in this module. Its outputs are the library's own types and the generated messages
//! of the protocol.

mod agreed;
#[cfg(test)]
mod agreed_tests;
mod call;
mod departure;
mod directory;
mod doubles;
mod event;
mod formation;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod level_tests;
mod options;
mod output;
mod questions;
mod raft_node;
mod reach;
#[cfg(test)]
mod reach_tests;
mod reconcile;
mod replica;
#[cfg(test)]
mod replica_storm_tests;
mod seed;
#[cfg(test)]
mod steady_tests;
mod storage;
mod validate;
mod waiters;
mod waiting;

pub use call::{Call, CallId, Reply};
pub use departure::ANNOUNCE_TICKS;
pub use event::Event;
pub use formation::Formation;
pub use options::RaftOptions;
pub use output::{
    Answer, Input, NodeError, Outcome, OutgoingSnapshot, Output, Proposal, RaftError, Recovery,
    Retired, Room, StepError, StorageError,
};

pub use raft_node::{CLOCK_INTERVAL, RaftNode};
pub use replica::{Replica, ReplicaOptions};
pub use storage::{CutEntries, MemoryStorage};

pub use crate::wire::{InstallSnapshotHeader, PeerMessage};
