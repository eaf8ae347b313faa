//! Conversions between the generated types and the library's own types.
//!
//! The protocol is the source of truth, but neither raft-rs nor the state machine uses it: raft-rs has
//! `eraftpb` (one message type for everything), the state machine has [`Command`](crate::kv::Command).
//! This module is the only place where one becomes the other, and the only way for bytes of a peer to
//! reach raft-rs. raft-rs panics on many messages that a peer could send. So every rule that depends on
//! the message alone is checked here, and [`RaftNode::step`](crate::node::RaftNode::step) checks the
//! rules that depend on the log.
//!
//! Rules: domain to wire is `From` (or a `Result`, if raft-rs could produce a value that our types cannot
//! carry). Wire to domain is `TryFrom`, and its error names message, field and reason. Structs are
//! destructured field by field, so that a new field breaks the build instead of being lost.

mod check;
mod chunks;
mod claim;
mod error;
mod identity;
mod introduction;
mod kv;
mod limits;
mod locks;
mod raft;
mod snapshot;
mod time;
mod txn;
mod watch;

pub use check::{MAX_INDEX, MAX_TERM};
pub use chunks::{SnapshotAssembly, SnapshotChunks};
pub use claim::{claim_from_request, yield_request, yield_response, yielded};
pub use error::{error_detail, find_detail, pack_detail};
pub use identity::{offer_from_request, offer_request};
pub use kv::{decode_command, encode_command, is_of_first_level, level_of_command};
pub use locks::{
    acquire_response, await_response, list_locks_response, lock_name, occupied_response,
};
pub use raft::{Envelope, InstallSnapshotHeader, PeerMessage, install_snapshot_response};
pub use snapshot::{SnapshotReader, SnapshotWriter, decode_snapshot, encode_snapshot};
pub use time::{duration, millis, session_ttl};
pub use txn::{get_response, list_sessions_response, scan_response, txn_response};
pub use watch::watch_response;

/// Bytes of a peer or of a client that are no valid message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {reason}")]
pub struct WireError {
    /// The message, as the `.proto` files name it.
    pub message: &'static str,
    /// The field at fault.
    pub field: &'static str,
    /// The reason.
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
