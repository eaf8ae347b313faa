//! State machine safety (paper, figure 3): no two nodes apply different entries at one index, and
//! equal indices mean equal maps.

use std::collections::BTreeMap;

use bytes::Bytes;
use seshat::kv::{Command, Write};
use seshat::node::{MemoryStorage, RaftNode};
use seshat::types::{EntryPayload, LogIndex, RaftId, Term};
use seshat::wire;

/// The one log that all nodes must agree on, as far as somebody has applied it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: BTreeMap<LogIndex, (Term, EntryPayload)>,
    /// Up to where each process has been checked.
    checked: BTreeMap<RaftId, LogIndex>,
}

impl Log {
    /// Compares what `raft` has applied since the last call, and its whole map whenever it skipped
    /// entries because a snapshot brought them.
    pub(crate) fn check<W>(&mut self, raft: &RaftNode<W>) {
        let storage = raft.storage();
        let checked = self.checked.entry(raft.raft_id()).or_insert(1);
        let mut skipped = false;
        for index in *checked + 1..=storage.applied() {
            let Some(entry) = storage.entry(index) else {
                skipped = true;
                continue;
            };
            let seen = (entry.term, entry.payload);
            let known = self.entries.entry(index).or_insert_with(|| seen.clone());
            assert_eq!(*known, seen, "{} differs at index {index}", raft.raft_id());
        }
        *checked = storage.applied();
        if skipped {
            self.check_map(storage);
        }
    }

    /// Compares the whole map with the one that the agreed log makes.
    pub(crate) fn check_map(&self, storage: &MemoryStorage) {
        let mut map = BTreeMap::new();
        for (_, payload) in self
            .entries
            .range(..=storage.applied())
            .map(|(_, entry)| entry)
        {
            if let EntryPayload::Command(data) = payload {
                let command = wire::decode_command(data.clone()).expect("it was applied");
                let Command::Write { write, .. } = command else {
                    continue;
                };
                match write {
                    Write::Set { key, value } => map.insert(key, value),
                    Write::Delete { key } => map.remove(&key),
                };
            }
        }
        let pairs: Vec<_> = map.iter().collect();
        assert_eq!(
            storage.state_machine().sorted_pairs(),
            pairs,
            "the map at index {} is not what the log makes",
            storage.applied()
        );
    }

    /// The command that was applied at `index`.
    pub(crate) fn command(&self, index: LogIndex) -> Option<&Bytes> {
        match self.entries.get(&index) {
            Some((_, EntryPayload::Command(data))) => Some(data),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
