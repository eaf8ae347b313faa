//! The records of Raft: its log, its hard state and its snapshots.

use bytes::Bytes;

use super::{LogIndex, RaftId, Term};

/// Version of [`RaftHardState`] and [`VersionedLogEntry`] that this library writes.
pub const FORMAT_VERSION: u32 = 1;

/// What a Raft server must not forget while it runs (paper, figure 2, "persistent state").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftHardState {
    /// Version of this record: [`FORMAT_VERSION`].
    pub version: u32,
    /// Latest term that the server has seen.
    pub term: Term,
    /// The server that got its vote in that term.
    pub vote: Option<RaftId>,
    /// Highest index that it knows to be committed.
    pub commit: LogIndex,
}

impl Default for RaftHardState {
    fn default() -> Self {
        Self {
            version: FORMAT_VERSION,
            term: 0,
            vote: None,
            commit: 0,
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedLogEntry {
    /// Version of this record: [`FORMAT_VERSION`].
    pub version: u32,
    /// Position in the log.
    pub index: LogIndex,
    /// Term in which a leader created it.
    pub term: Term,
    /// The payload.
    pub payload: EntryPayload,
}

/// The payload of a log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryPayload {
    /// No command: a leader's first entry of a term.
    Empty,
    /// An encoded command of the state machine.
    Command(Bytes),
    /// An encoded change of voters and learners.
    ConfChange(Bytes),
}

/// What a snapshot replaces (paper, figure 12).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The snapshot replaces all entries up through and including this index.
    pub last_included_index: LogIndex,
    /// Term of that entry.
    pub last_included_term: Term,
    /// Raft ids of the voters at that index.
    pub voters: Vec<RaftId>,
    /// Raft ids of the learners at that index.
    pub learners: Vec<RaftId>,
}
