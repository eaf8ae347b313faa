//! The pure core: one node of a Raft group, without clock, randomness, sockets or threads.
//!
//! Everything that decides is here, and everything here is a plain function over owned state: the
//! shell ([`driver`](crate::driver) and above) tells it that a tick has passed or that a message
//! came, and carries out what it returns. The same inputs in the same order give the same outputs,
//! byte for byte, so a simulation runs the very code that production runs.
//!
//! * [`Member`] is a process's whole life: it finds the other initial members ([`Formation`]), then
//!   takes part in the cluster ([`RaftNode`]), and while it leads it sees to it that those take part
//!   who are meant to.
//! * [`RaftNode`] wraps raft-rs's `RawNode`: it proposes, reads, applies, and owes every caller
//!   exactly one answer.
//! * [`MemoryStorage`] is what raft-rs reads its log and its snapshots from.
//!
//! A caller is represented by a *waiter* `W`, an opaque value that goes in with a request and comes
//! out with its answer. It is moved, never cloned: the type system sees to it that nobody is
//! answered twice, and [`RaftNode`] sees to it that nobody is forgotten.
//!
//! raft-rs types stay below this line; what leaves are the library's own types and the generated
//! messages of the protocol.

mod agreed;
#[cfg(test)]
mod agreed_tests;
mod call;
mod departure;
mod directory;
mod doubles;
mod event;
mod formation;
mod judge;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod level_tests;
mod member;
#[cfg(test)]
mod member_storm_tests;
mod options;
mod output;
mod questions;
mod raft_node;
mod reach;
#[cfg(test)]
mod reach_tests;
mod reconcile;
mod seed;
#[cfg(test)]
mod steady_tests;
mod storage;
mod waiters;
mod waiting;

pub use call::{Call, CallId, Reply};
pub use departure::ANNOUNCE_TICKS;
pub use event::Event;
pub use formation::Formation;
pub use member::{Member, MemberOptions};
pub use options::RaftOptions;
pub use output::{
    Answer, Input, NodeError, Outcome, OutgoingSnapshot, Output, Proposal, RaftError, Recovery,
    Retired, Room, StepError, StorageError,
};
pub use raft_node::RaftNode;
pub use storage::{CutEntries, MemoryStorage};

pub use crate::wire::{PeerMessage, SnapshotHeader};
