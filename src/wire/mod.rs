//! Between the generated types and the types that this library thinks in.
//!
//! The protocol is the source of truth, but neither raft-rs nor the state machine speaks it: raft-rs
//! has `eraftpb` (one message type for everything), the state machine has
//! [`Command`](crate::kv::Command). This module is the only place where one becomes the other, and
//! the only door through which bytes of a peer reach raft-rs. raft-rs panics on a good part of what
//! a peer could send, so whatever can be judged from a message alone is judged here; what depends on
//! the state of the log is judged by [`RaftNode::step`](crate::node::RaftNode::step).
//!
//! Rules: domain to wire is `From` (or, where raft-rs could produce what our types cannot carry, a
//! `Result`); wire to domain is `TryFrom`, and its error names message, field and reason. Structs
//! are destructured field by field, so that a new field breaks the build instead of being lost.

mod check;
mod chunks;
mod claim;
mod error;
mod identity;
mod introduction;
mod kv;
mod limits;
mod raft;
mod snapshot;

pub use check::{MAX_INDEX, MAX_TERM};
pub use chunks::{SnapshotAssembly, SnapshotChunks};
pub use claim::{claim_from_request, yield_request, yield_response, yielded};
pub use error::{StatusDetail, error_detail, find_detail, pack_detail};
pub use identity::{offer_from_request, offer_request};
pub use kv::{decode_command, encode_command, level_of_command};
pub use raft::{Envelope, PeerMessage, SnapshotHeader, install_snapshot_response};
pub use snapshot::{SnapshotReader, SnapshotWriter, decode_snapshot, encode_snapshot};

/// Bytes of a peer or of a client that are no message of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {reason}")]
pub struct WireError {
    /// The message, as the `.proto` files name it.
    pub message: &'static str,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl WireError {
    /// A fault in `message.field`.
    pub fn new(message: &'static str, field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            message,
            field,
            reason: reason.into(),
        }
    }
}
