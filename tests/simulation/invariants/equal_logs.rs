//! State machine safety (paper, figure 3): no two nodes apply different entries at one index, and
//! equal indices mean equal maps.

use std::collections::BTreeMap;

use bytes::Bytes;
use seshat::kv::{Command, Write};
use seshat::node::{MemoryStorage, RaftNode};
use seshat::types::{EntryPayload, LogIndex, RaftId, Term};
use seshat::wire;

use super::numbered_writes_apply_once::Once;
use super::{Verdict, Violation, safe};

const NAME: &str = "equal_logs";
/// Index of the first entry of a cluster: its log begins as after a snapshot at index 1.
const FIRST: LogIndex = 2;

/// An applied entry.
#[derive(Debug, Clone)]
struct Applied {
    term: Term,
    payload: EntryPayload,
    command: Option<Command>,
}

/// The one log that all nodes must agree on, as far as any process has applied it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Applied>,
    /// The value of each key according to the log, and the index from which on it has it.
    versions: BTreeMap<Bytes, Vec<(LogIndex, Option<Bytes>)>>,
    pub(crate) once: Once,
    /// The index up to which each process has been checked.
    checked: BTreeMap<RaftId, LogIndex>,
}

fn position(index: LogIndex) -> Option<usize> {
    usize::try_from(index.checked_sub(FIRST)?).ok()
}

impl Log {
    /// The process `raft_id` begins, with nothing applied.
    pub(crate) fn begins(&mut self, raft_id: RaftId) {
        self.checked.insert(raft_id, FIRST - 1);
    }

    /// Compares the entries that `raft` has applied since the last call, and its whole map whenever it
    /// skipped entries because of a snapshot, or met a numbered write again.
    pub(crate) fn check<W>(&mut self, raft: &RaftNode<W>) -> Verdict {
        let storage = raft.storage();
        let applied = storage.applied();
        let checked = self.checked.entry(raft.raft_id()).or_insert(FIRST - 1);
        let from = std::mem::replace(checked, applied);
        let mut skipped = false;
        for index in from + 1..=applied {
            let Some(entry) = storage.entry(index) else {
                skipped = true;
                continue;
            };
            self.agree(raft.raft_id(), index, entry.term, entry.payload)?;
        }
        if skipped {
            self.check_map(raft.raft_id(), storage)?;
        } else if self.once.again(from + 1, applied) {
            self.check_keys(raft.raft_id(), storage)?;
        }
        Ok(())
    }

    /// `by` has applied an entry: it is the one that others applied, or the first after them.
    fn agree(&mut self, by: RaftId, index: LogIndex, term: Term, payload: EntryPayload) -> Verdict {
        let position = position(index).filter(|&position| position <= self.entries.len());
        let Some(position) = position else {
            let reason =
                format!("{by} applied {index}, and no process applied the entry before it");
            return Err(Violation::safety(NAME, reason));
        };
        if let Some(known) = self.entries.get(position) {
            let same = known.term == term && known.payload == payload;
            return safe(same, NAME, || {
                format!("{by} applied {payload:?} of term {term} at {index}, others {known:?}")
            });
        }
        self.push(index, term, payload)
            .map_err(|reason| Violation::safety(NAME, reason))
    }

    /// Appends to the agreed log.
    fn push(&mut self, index: LogIndex, term: Term, payload: EntryPayload) -> Result<(), String> {
        let command = match &payload {
            EntryPayload::Command(data) => {
                let command = wire::decode_command(data.clone());
                Some(command.map_err(|error| error.to_string())?)
            }
            EntryPayload::Empty | EntryPayload::ConfChange(_) => None,
        };
        if let Some(command) = &command {
            self.change(index, command);
        }
        self.entries.push(Applied {
            term,
            payload,
            command,
        });
        Ok(())
    }

    /// The whole log of `survivor`, applied or not, as the beginning of another log; and the index up to
    /// which it agrees with this one.
    pub(crate) fn continued_by<W>(
        &self,
        survivor: &RaftNode<W>,
    ) -> Result<(Self, LogIndex), String> {
        let storage = survivor.storage();
        let mut log = Self::default();
        let mut common = FIRST - 1;
        for index in FIRST..=survivor.last_index() {
            let agreed = position(index).and_then(|at| self.entries.get(at));
            let held = storage.entry(index);
            let (term, payload) = match (agreed, held) {
                (agreed, Some(held)) => {
                    let same = agreed.is_some_and(|it| it.term == held.term);
                    if same && common + 1 == index {
                        common = index;
                    }
                    (held.term, held.payload)
                }
                (Some(agreed), None) => {
                    common = index;
                    (agreed.term, agreed.payload.clone())
                }
                (None, None) => return Err(format!("no process applied {index}")),
            };
            log.push(index, term, payload)?;
        }
        Ok((log, common))
    }

    /// Whether `raft` holds the agreed entry at `index`, applied or not.
    pub(crate) fn is_held<W>(&self, raft: &RaftNode<W>, index: LogIndex) -> bool {
        let storage = raft.storage();
        let agreed = position(index).and_then(|at| self.entries.get(at));
        index <= storage.applied()
            || agreed.is_some_and(|agreed| {
                storage
                    .entry(index)
                    .is_some_and(|it| it.term == agreed.term)
            })
    }

    /// The effect of `command`, at `index`, on its key.
    fn change(&mut self, index: LogIndex, command: &Command) {
        let version = match command {
            Command::Write { write, .. } => Some(match write {
                Write::Set { key, value } => (key.clone(), Some(value.clone())),
                Write::Delete { key } => (key.clone(), None),
            }),
            Command::OpenSession(_)
            | Command::AddMember(_)
            | Command::RemoveMember(_)
            | Command::RaiseLevel { .. } => None,
        };
        let key = version.as_ref().map(|(key, _)| key);
        let existed = key.is_some_and(|key| self.bound(key, index).is_some());
        let changes = self.once.changes(index, command, existed);
        if let Some((key, value)) = version.filter(|_| changes) {
            self.versions.entry(key).or_default().push((index, value));
        }
    }

    /// The value of `key` after the log up to `index`.
    pub(crate) fn bound(&self, key: &Bytes, index: LogIndex) -> Option<&Bytes> {
        let versions = self.versions.get(key)?;
        let after = versions.partition_point(|&(at, _)| at <= index);
        versions.get(after.checked_sub(1)?)?.1.as_ref()
    }

    /// Compares the whole map of `by` with the map that results from the agreed log.
    pub(crate) fn check_map(&self, by: RaftId, storage: &MemoryStorage) -> Verdict {
        let applied = storage.applied();
        let keys = self.versions.keys();
        let bound = keys.filter_map(|key| Some((key, self.bound(key, applied)?)));
        let same = bound.eq(storage.state_machine().sorted_pairs());
        safe(same && applied <= self.last_index(), NAME, || {
            format!("the map of {by} at index {applied} is not what the log makes")
        })
    }

    /// [`check_map`](Self::check_map) without a check for further keys in the map, which takes longer.
    fn check_keys(&self, by: RaftId, storage: &MemoryStorage) -> Verdict {
        let (applied, map) = (storage.applied(), storage.state_machine());
        let mut keys = self.versions.keys();
        let other = keys.find(|key| map.get(key) != self.bound(key, applied));
        safe(other.is_none(), NAME, || {
            format!("what {by} binds {other:?} to at index {applied} is not what the log makes")
        })
    }

    /// The command that was applied at `index`.
    pub(crate) fn command(&self, index: LogIndex) -> Option<&Command> {
        self.entries.get(position(index)?)?.command.as_ref()
    }

    /// Index of the last entry that any process has applied.
    pub(crate) fn last_index(&self) -> LogIndex {
        FIRST - 1 + u64::try_from(self.len()).expect("small")
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
