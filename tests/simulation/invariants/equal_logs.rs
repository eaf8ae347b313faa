//! State machine safety (paper, figure 3): no two nodes apply different entries at one index, and
//! equal indices mean equal maps, with equal revisions.

use std::collections::BTreeMap;

use bytes::Bytes;
use seshat::kv::{Command, Limit, Revisions, Write};
use seshat::node::{MemoryStorage, RaftNode};
use seshat::types::{EntryPayload, LogIndex, RaftId, Revision, Term};
use seshat::wire;

use super::numbered_writes_apply_once::Once;
use super::{Verdict, Violation, one_holder_a_lock, safe};
use crate::model::Model;
use crate::model::locks::Notice;
use crate::model::time::{Ended, Until};

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
    /// The state that the log makes.
    pub(crate) model: Model,
    pub(crate) once: Once,
    /// What has ended since it was taken last.
    ended: Vec<Ending>,
    /// The index up to which each process has been checked.
    checked: BTreeMap<RaftId, LogIndex>,
}

/// A session that has ended, or a key with the value that it had.
#[derive(Debug)]
pub(crate) enum Ending {
    Session(u64),
    Key(Bytes),
}

fn position(index: LogIndex) -> Option<usize> {
    usize::try_from(index.checked_sub(FIRST)?).ok()
}

/// The log that a cluster begins with which is recovered from a survivor.
#[derive(Debug)]
pub(crate) struct Continuation {
    entries: Vec<(Term, EntryPayload)>,
    /// The last entry that the survivor knows to be committed.
    committed: LogIndex,
    /// The index up to which the log is that of the old cluster.
    pub(crate) common: LogIndex,
}

impl Log {
    /// The log of a cluster that has formed with these revisions.
    pub(crate) fn formed(revisions: Revisions) -> Self {
        Self {
            model: Model::formed(revisions),
            ..Self::default()
        }
    }

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
        self.check_revisions(raft.raft_id(), storage)?;
        self.check_time(raft.raft_id(), storage)?;
        one_holder_a_lock::check(raft.raft_id(), storage, &self.model)?;
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

    /// The whole log of `survivor`, applied or not, as the beginning of another log.
    pub(crate) fn continued_by<W>(&self, survivor: &RaftNode<W>) -> Result<Continuation, String> {
        let storage = survivor.storage();
        let mut entries = Vec::new();
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
            entries.push((term, payload));
        }
        Ok(Continuation {
            entries,
            committed: survivor.commit_index(),
            common,
        })
    }

    /// The log of a cluster that was recovered from the one of this log, and that has these revisions.
    pub(crate) fn recovered(
        &self,
        continuation: Continuation,
        revisions: Revisions,
    ) -> Result<Self, String> {
        let Continuation {
            entries, committed, ..
        } = continuation;
        let last = FIRST - 1 + u64::try_from(entries.len()).expect("small");
        let mut log = Self {
            model: self.model.recovered((committed, last), revisions),
            ..Self::default()
        };
        for (index, (term, payload)) in (FIRST..).zip(entries) {
            log.push(index, term, payload)?;
        }
        Ok(log)
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

    /// The effect of `command`, at `index`, on the state.
    fn change(&mut self, index: LogIndex, command: &Command) {
        match command {
            Command::Write {
                write: write @ (Write::Acquire(_) | Write::Release(_)),
                stamp: Some(stamp),
            } => self.model.claim(index, write, stamp),
            Command::Write { write, stamp } => {
                let effect = self.model.effect(index, write);
                if self.once.changes(index, write, *stamp, &effect) {
                    self.model.apply(index, write, &effect);
                }
            }
            Command::OpenSession(client_id) => self.once.open(*client_id),
            Command::RaiseLevel { revision, .. } => self.model.begin(index, *revision),
            Command::OpenLivingSession { client_id, ttl } => {
                self.model.time.open(client_id.0, *ttl);
            }
            Command::CloseSession(client_id) => {
                let ended = self.model.close(index, *client_id);
                self.note(index, ended);
            }
            Command::Clock { step, renewed } => {
                let ended = self.model.step(index, *step, renewed);
                self.note(index, ended);
            }
            Command::AddMember(_) | Command::RemoveMember(_) => {}
        }
    }

    /// This has ended by the command at `index`.
    fn note(&mut self, index: LogIndex, ended: Vec<Ended>) {
        let ended = ended.into_iter().filter_map(|ended| match ended {
            Ended::Session(session) => Some(Ending::Session(session)),
            Ended::Key(key) => {
                let value = self.model.bound(&key, index.saturating_sub(1));
                value.cloned().map(Ending::Key)
            }
        });
        self.ended.extend(ended);
    }

    /// Compares how `by` makes revisions.
    fn check_revisions(&self, by: RaftId, storage: &MemoryStorage) -> Verdict {
        let (applied, has) = (storage.applied(), storage.state_machine().revisions());
        let expected = self.model.revisions(applied);
        safe(applied < FIRST || has == expected, NAME, || {
            format!("{by} has {has:?} at index {applied}, and the log makes {expected:?}")
        })
    }

    /// Compares the clock of `by`, and all that ends by it, if it has applied the whole agreed log.
    fn check_time(&self, by: RaftId, storage: &MemoryStorage) -> Verdict {
        if storage.applied() != self.last_index() {
            return Ok(());
        }
        let (state, time) = (storage.state_machine(), &self.model.time);
        let until = |limit: &Limit| match limit {
            Limit::Ttl { deadline, .. } => Until::Deadline(*deadline),
            Limit::Owner(owner) => Until::EndOf(owner.0),
        };
        let keys = state.lifetimes().iter();
        let keys = keys.map(|(key, limit)| (key, until(limit)));
        let sessions = state.sessions().living().iter();
        let sessions = sessions.map(|(id, it)| (id.0, (it.ttl, it.deadline)));
        let same =
            state.clock().now() == time.now && keys.eq(time.keys()) && sessions.eq(time.sessions());
        safe(same, NAME, || {
            let (clock, lifetimes) = (state.clock(), state.lifetimes());
            format!("{by} has {clock:?} and {lifetimes:?}, and the log makes {time:?}")
        })
    }

    /// Takes what has become of claims since the last call.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        self.model.locks.take_notices()
    }

    /// Takes what has ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<Ending> {
        std::mem::take(&mut self.ended)
    }

    /// Compares the whole map of `by` with the map that results from the agreed log.
    pub(crate) fn check_map(&self, by: RaftId, storage: &MemoryStorage) -> Verdict {
        let applied = storage.applied();
        let keys = self.model.keys();
        let expected = keys.filter_map(|key| self.model.entry(key, applied));
        let state = storage.state_machine();
        let keys = state.sorted_pairs().into_iter().map(|(key, _)| key);
        let same = expected.eq(keys.filter_map(|key| state.entry(&key)));
        safe(same && applied <= self.last_index(), NAME, || {
            format!("the map of {by} at index {applied} is not what the log makes")
        })
    }

    /// [`check_map`](Self::check_map) without a check for further keys in the map, which takes longer.
    fn check_keys(&self, by: RaftId, storage: &MemoryStorage) -> Verdict {
        let (applied, map) = (storage.applied(), storage.state_machine());
        let mut keys = self.model.keys();
        let other = keys.find(|key| map.entry(key) != self.model.entry(key, applied));
        safe(other.is_none(), NAME, || {
            format!("what {by} binds {other:?} to at index {applied} is not what the log makes")
        })
    }

    /// Every command, with its index and its revision.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (LogIndex, Revision, &Command)> {
        let entries = (FIRST..).zip(&self.entries);
        entries.filter_map(|(index, entry)| {
            let command = entry.command.as_ref()?;
            Some((index, self.model.revision(index), command))
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

    /// Index of the last entry that any process has applied, and that is no step of the clock.
    pub(crate) fn last_but_steps(&self) -> LogIndex {
        let steps = self.entries.iter().rev();
        let steps = steps.take_while(|it| matches!(it.command, Some(Command::Clock { .. })));
        self.last_index() - u64::try_from(steps.count()).expect("small")
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
