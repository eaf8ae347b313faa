//! The log, the state machine, and the view of them that raft-rs reads.
//!
//! Everything is in memory by rule: "stable storage" is this struct, and is lost when the process ends.
//! So no snapshot is ever kept: the state machine at the applied index *is* the snapshot, cloned at the
//! moment when a follower needs one, and the log may be compacted up to the applied index without making
//! one first.
//!
//! raft-rs's own `MemStorage` is for its tests: its snapshots carry no data, it takes a lock at each
//! call, and it panics where this returns an error.

mod entries;

use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage};

use super::StorageError;
use crate::kv::{Changes, Command, StateMachine, Written};
pub use entries::CutEntries;
use entries::{Entries, memory_of};

use crate::types::{
    ClusterMembership, Conf, EntryPayload, FORMAT_VERSION, LogIndex, ProtocolLevel, RaftHardState,
    RaftId, SnapshotMetadata, Term, VersionedLogEntry, WallTime,
};

/// Maximum bytes of an entry in a message beside its data and context: index, term, type and framing.
const ENTRY_FRAMING: usize = 32;

/// The storage of one node for raft-rs: its log behind the last compaction, its hard state, its voters
/// and learners, and the state machine that the applied part of the log has produced.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    hard_state: RaftHardState,
    conf_state: ConfState,
    /// Index and term of the entry just before the first that the log holds.
    compacted: (LogIndex, Term),
    entries: Entries,
    applied: (LogIndex, Term),
    /// Memory of the applied entries of the log in bytes.
    applied_bytes: usize,
    state_machine: StateMachine,
}

/// Maximum bytes of an entry in a message.
fn size_in_message(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_FRAMING
}

impl MemoryStorage {
    /// The storage of a member that starts with its cluster: as if every member had installed one empty
    /// snapshot at index 1 and term 1. So a later joiner always begins from a snapshot, and no term is
    /// ever 0, on which raft-rs panics.
    pub fn bootstrap(voters: &[RaftId], members: ClusterMembership) -> Self {
        let conf_state = ConfState {
            voters: voters.iter().map(|id| id.get()).collect(),
            ..ConfState::default()
        };
        Self {
            hard_state: RaftHardState {
                term: 1,
                commit: 1,
                ..RaftHardState::default()
            },
            conf_state,
            compacted: (1, 1),
            applied: (1, 1),
            state_machine: StateMachine::new(members),
            ..Self::default()
        }
    }

    /// The same storage in a cluster that speaks `level`, and whose revisions begin at `time`.
    #[must_use]
    pub fn of_level(self, level: ProtocolLevel, time: Option<WallTime>) -> Self {
        let state_machine = self.state_machine.with_level(level);
        Self {
            state_machine: state_machine.with_revisions_from(time),
            ..self
        }
    }

    /// The storage of a process that joins a running cluster: it is empty, but begins at term 1, because
    /// raft-rs panics when it refuses a vote at term 0.
    pub fn empty() -> Self {
        Self {
            hard_state: RaftHardState {
                term: 1,
                ..RaftHardState::default()
            },
            ..Self::default()
        }
    }

    /// The storage of the only voter of a cluster that begins at index and term `at`, as if it had
    /// installed a snapshot there. [`begin_with`](Self::begin_with) sets its state. It has not voted in
    /// `term` yet.
    pub fn recovered(voter: RaftId, at: (LogIndex, Term), term: Term) -> Self {
        let mut storage = Self::bootstrap(&[voter], ClusterMembership::default());
        storage.hard_state.term = term;
        storage.hard_state.commit = at.0;
        storage.compacted = at;
        storage.applied = at;
        storage
    }

    /// Sets the state machine at the applied index.
    pub fn begin_with(&mut self, state_machine: StateMachine) {
        self.state_machine = state_machine;
    }

    /// The state machine, and the entries that are not applied to it. Each of these is freed when the
    /// caller drops it. The applied entries are freed at once.
    pub fn into_parts(self) -> (StateMachine, impl Iterator<Item = VersionedLogEntry>) {
        let applied = self.applied_entries();
        let mut entries = self.entries;
        drop(entries.cut(applied));
        (self.state_machine, entries.into_entries().map(versioned))
    }

    /// Index of the first entry that the log holds, or would hold.
    fn first(&self) -> LogIndex {
        self.compacted.0 + 1
    }

    /// Index of the last entry.
    pub fn last(&self) -> LogIndex {
        self.compacted.0 + u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    /// Position of `index` in `entries`. For a compacted index, the first position.
    fn position(&self, index: LogIndex) -> usize {
        usize::try_from(index.saturating_sub(self.first())).unwrap_or(usize::MAX)
    }

    /// Appends entries, replacing those from the first new index on (paper, figure 2,
    /// AppendEntries, steps 3 and 4).
    ///
    /// # Errors
    ///
    /// [`StorageError::Gap`] if they would leave a gap or replace what was compacted.
    pub fn append(&mut self, entries: Vec<Entry>) -> Result<(), StorageError> {
        let Some(index) = entries.first().map(|entry| entry.index) else {
            return Ok(());
        };
        if index < self.first() || index > self.last() + 1 {
            return Err(StorageError::Gap {
                index,
                first_index: self.first(),
                last_index: self.last(),
            });
        }
        self.entries.truncate(self.position(index));
        for entry in entries {
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Applies the entry at `index`; an entry without a command only moves the applied index. Adds the changes
    /// of keys to `changes`.
    ///
    /// # Errors
    ///
    /// [`StorageError::ApplyOutOfOrder`] unless it follows the last applied one.
    pub fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        command: Option<Command>,
        changes: &mut Changes,
    ) -> Result<Option<Written>, StorageError> {
        if index != self.applied.0 + 1 {
            return Err(StorageError::ApplyOutOfOrder {
                index,
                applied: self.applied.0,
            });
        }
        self.applied = (index, term);
        let entry = self.entries.get(self.position(index));
        self.applied_bytes += entry.map_or(0, memory_of);
        Ok(command.map(|command| self.state_machine.apply_noting(index, command, changes)))
    }

    /// Compacts the log up through and including `index`. Does nothing if it is compacted already. Takes
    /// no longer for many entries than for few: it returns the removed entries.
    ///
    /// # Errors
    ///
    /// [`StorageError::CompactUnapplied`] if `index` is past the applied index.
    pub fn compact(&mut self, index: LogIndex) -> Result<CutEntries, StorageError> {
        if index > self.applied.0 {
            return Err(StorageError::CompactUnapplied {
                index,
                applied: self.applied.0,
            });
        }
        if index < self.first() {
            return Ok(CutEntries::default());
        }
        let position = self.position(index);
        let term = self.entries.get(position).map(|entry| entry.term);
        let (bytes, cut) = self.entries.cut(position + 1);
        self.applied_bytes -= bytes;
        self.compacted = (index, term.unwrap_or(self.compacted.1));
        Ok(cut)
    }

    /// The index up to which the log would have to be compacted to hold at most `keep_entries` applied
    /// entries and `keep_bytes` bytes of them. `None` if no entry is in excess. Entries that are not applied
    /// do not count: they cannot be compacted, and must not displace the tail that followers need.
    pub fn excess(&self, keep_entries: usize, keep_bytes: usize) -> Option<LogIndex> {
        let entries = self.applied_entries().saturating_sub(keep_entries);
        let bytes = self.applied_bytes.saturating_sub(keep_bytes);
        let excess = self.entries.prefix(entries, bytes);
        let excess = u64::try_from(excess.min(self.applied_entries())).unwrap_or(0);
        (excess > 0).then_some(self.compacted.0 + excess)
    }

    /// Replaces everything by a snapshot of the leader (paper, figure 13, steps 7 and 8). Returns the
    /// former state machine and log.
    #[must_use = "freeing them may take long"]
    pub fn install(
        &mut self,
        snapshot: &Snapshot,
        state_machine: StateMachine,
    ) -> (StateMachine, CutEntries) {
        let metadata = snapshot.get_metadata();
        let at = (metadata.index, metadata.term);
        self.compacted = at;
        self.applied = at;
        let (_, cut) = self.entries.cut(self.entries.len());
        self.applied_bytes = 0;
        self.hard_state.commit = self.hard_state.commit.max(metadata.index);
        self.conf_state = metadata.get_conf_state().clone();
        let replaced = std::mem::replace(&mut self.state_machine, state_machine);
        (replaced, cut)
    }

    /// Keeps the hard state that raft-rs hands out.
    pub fn set_hard_state(&mut self, hard_state: &HardState) {
        self.hard_state = RaftHardState {
            version: FORMAT_VERSION,
            term: hard_state.term,
            vote: RaftId::try_from(hard_state.vote).ok(),
            commit: hard_state.commit,
        };
    }

    /// Keeps the commit index.
    pub fn set_commit(&mut self, commit: LogIndex) {
        self.hard_state.commit = commit;
    }

    /// Keeps the voters and learners of a committed conf change.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// The hard state.
    pub fn hard_state(&self) -> RaftHardState {
        self.hard_state
    }

    /// The state machine, at the applied index.
    pub fn state_machine(&self) -> &StateMachine {
        &self.state_machine
    }

    /// Index of the entry just before the first that the log holds.
    pub fn compacted(&self) -> LogIndex {
        self.compacted.0
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> LogIndex {
        self.applied.0
    }

    /// Number of entries that the log holds.
    pub fn log_entries(&self) -> usize {
        self.entries.len()
    }

    /// The entries that are not applied yet.
    pub fn unapplied(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter_from(self.applied_entries())
    }

    /// Number of applied entries that the log holds.
    pub fn applied_entries(&self) -> usize {
        self.position(self.applied.0 + 1)
    }

    /// Memory of the applied entries of the log in bytes. An estimate, rather too high than too low.
    pub fn applied_bytes(&self) -> usize {
        self.applied_bytes
    }

    /// The metadata of a snapshot made now.
    pub fn snapshot_metadata(&self) -> SnapshotMetadata {
        let ids = |ids: &[u64]| {
            ids.iter()
                .filter_map(|&id| RaftId::try_from(id).ok())
                .collect()
        };
        SnapshotMetadata {
            last_included_index: self.applied.0,
            last_included_term: self.applied.1,
            voters: ids(&self.conf_state.voters),
            learners: ids(&self.conf_state.learners),
        }
    }

    /// Sets the metadata of `snapshot` to those of the current state machine.
    pub fn describe(&self, snapshot: &mut Snapshot) {
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.0;
        metadata.term = self.applied.1;
        metadata.set_conf_state(self.conf_state.clone());
    }

    /// The voters, learners and desired members at the applied index.
    pub fn conf(&self) -> Conf {
        let SnapshotMetadata {
            voters, learners, ..
        } = self.snapshot_metadata();
        Conf {
            voters,
            learners,
            members: self.state_machine.members().ids().collect(),
        }
    }

    /// The entry at `index`, if the log holds it.
    pub fn entry(&self, index: LogIndex) -> Option<VersionedLogEntry> {
        if index < self.first() {
            return None;
        }
        let entry = self.entries.get(self.position(index))?;
        Some(versioned(entry.clone()))
    }

    /// Whether a process is a voter or learner at the applied index.
    pub fn is_member(&self, raft_id: u64) -> bool {
        self.conf_state.voters.contains(&raft_id) || self.conf_state.learners.contains(&raft_id)
    }
}

/// The entry as the library's own type.
fn versioned(entry: Entry) -> VersionedLogEntry {
    VersionedLogEntry {
        version: FORMAT_VERSION,
        index: entry.index,
        term: entry.term,
        payload: match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => EntryPayload::Empty,
            EntryType::EntryNormal => EntryPayload::Command(entry.data),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                EntryPayload::ConfChange(entry.data)
            }
        },
    }
}

/// The contract is `raft::Storage`'s: `Compacted` makes raft-rs send a snapshot, and `Unavailable` must
/// never reach it.
impl Storage for MemoryStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let RaftHardState {
            version: _,
            term,
            vote,
            commit,
        } = self.hard_state;
        let hard_state = HardState {
            term,
            vote: vote.map_or(raft::INVALID_ID, RaftId::get),
            commit,
            ..HardState::default()
        };
        Ok(RaftState::new(hard_state, self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        if high > self.last() + 1 || low > high {
            return Err(raft::Error::Store(raft::StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let mut entries = Vec::new();
        let all = usize::try_from(high - low).unwrap_or(usize::MAX);
        for entry in self.entries.iter_from(self.position(low)).take(all) {
            size = size.saturating_add(u64::try_from(size_in_message(entry)).unwrap_or(u64::MAX));
            if size > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let (compacted_index, compacted_term) = self.compacted;
        if index == compacted_index {
            return Ok(compacted_term);
        }
        if index < compacted_index {
            return Err(raft::Error::Store(raft::StorageError::Compacted));
        }
        self.entries
            .get(self.position(index))
            .map(|entry| entry.term)
            .ok_or(raft::Error::Store(raft::StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// The metadata of a snapshot made now, without data: the state machine travels beside the message.
    /// Temporarily unavailable while the applied index is before `request_index`, or while `to` is
    /// neither voter nor learner at it: raft-rs's receiver ignores, yet acknowledges, a snapshot that
    /// does not name it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        if self.applied.0 < request_index || !self.is_member(to) {
            return Err(raft::Error::Store(
                raft::StorageError::SnapshotTemporarilyUnavailable,
            ));
        }
        let mut snapshot = Snapshot::default();
        self.describe(&mut snapshot);
        Ok(snapshot)
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
