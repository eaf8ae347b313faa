//! A plain model of the state machine: every version of every key, and how revisions follow from log
//! indices. It shares no code with the core, remembers everything, and answers for any index.

pub(crate) mod locks;
pub(crate) mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use seshat::kv::{
    Condition, Effect, Entry, KeyTest, Lifetime, Operation, OperationResult, Revisions,
    SetLifetime, Txn, TxnOutcome, Write,
};
use seshat::types::{ClientId, LogIndex, Revision};

use locks::Locks;
use time::{Ended, Time};

/// The revision of a command minus its index, from some index on.
type Base = (LogIndex, Revision);

type Version = (Bytes, Lifetime);

/// The state after each entry of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// In ascending order. Before the first the base is 0.
    bases: Vec<Base>,
    /// The value of each key and its lifetime, and the index from which on it has them.
    versions: BTreeMap<Bytes, Vec<(LogIndex, Option<Version>)>>,
    /// After the last entry.
    pub(crate) time: Time,
    pub(crate) locks: Locks,
    tail: Option<Tail>,
}

/// The entries behind the commit index of the survivor from which a cluster was recovered.
#[derive(Debug, Clone)]
struct Tail {
    indices: RangeInclusive<LogIndex>,
    /// The base that their authors knew, and in which their conditions name revisions.
    former: Vec<Base>,
    /// The base of the recovered cluster.
    base: Revision,
}

impl Model {
    /// The state of a cluster that has formed.
    pub(crate) fn formed(revisions: Revisions) -> Self {
        let bases = match revisions.base {
            0 => Vec::new(),
            base => vec![(0, base)],
        };
        Self {
            bases,
            ..Self::default()
        }
    }

    /// The state, still empty, of a cluster that was recovered from one with the agreed bases of `self`, by
    /// a survivor that knew the entries up to `committed` of `last` to be committed, and that has
    /// `revisions` now.
    pub(crate) fn recovered(
        &self,
        (committed, last): (LogIndex, LogIndex),
        revisions: Revisions,
    ) -> Self {
        let kept = self.bases.iter().filter(|(from, _)| *from <= committed);
        let mut bases: Vec<_> = kept.copied().collect();
        if !bases.is_empty() {
            bases.push((committed + 1, revisions.base));
        }
        Self {
            bases,
            versions: BTreeMap::new(),
            time: Time::default(),
            locks: Locks::default(),
            tail: Some(Tail {
                indices: committed + 1..=last,
                former: self.bases.clone(),
                base: revisions.base,
            }),
        }
    }

    /// Revisions begin with the entry at `index`, unless there are some.
    pub(crate) fn begin(&mut self, index: LogIndex, first: Revision) {
        if self.bases.is_empty() && first > index {
            let tail = self.tail.as_ref();
            let tail = tail.filter(|tail| tail.indices.contains(&index));
            let base = tail.map_or(first - index, |tail| tail.base);
            self.bases.push((index, base));
        }
    }

    /// The revision of the entry at `index`.
    pub(crate) fn revision(&self, index: LogIndex) -> Revision {
        base(&self.bases, index) + index
    }

    /// The revision of the entry at `index`, if no recovery skipped any.
    pub(crate) fn unskipped(&self, index: LogIndex) -> Revision {
        let first = self.bases.first().filter(|(from, _)| *from <= index);
        first.map_or(0, |(_, base)| *base) + index
    }

    /// The index that a revision in an answer names.
    pub(crate) fn index(&self, revision: Revision) -> LogIndex {
        index(&self.bases, revision)
    }

    /// How revisions follow from indices when the entry at `index` has been applied.
    pub(crate) fn revisions(&self, index: LogIndex) -> Revisions {
        let begun = self.bases.first().filter(|(from, _)| *from <= index);
        Revisions {
            base: base(&self.bases, index),
            // A cluster that has revisions from its formation on has no older keys.
            oldest: begun.map_or(0, |(from, base)| if *from == 0 { 0 } else { from + base }),
        }
    }

    /// The keys that were ever bound.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.versions.keys()
    }

    /// The value of `key` and its lifetime after the entry at `index`, and the index of the write that has bound
    /// it.
    fn version(&self, key: &[u8], index: LogIndex) -> Option<(LogIndex, &Version)> {
        let versions = self.versions.get(key)?;
        let after = versions.partition_point(|&(at, _)| at <= index);
        let (at, value) = versions.get(after.checked_sub(1)?)?;
        Some((*at, value.as_ref()?))
    }

    /// The value of `key` after the entry at `index`.
    pub(crate) fn bound(&self, key: &[u8], index: LogIndex) -> Option<&Bytes> {
        self.version(key, index).map(|(_, (value, _))| value)
    }

    /// The entry of `key` after the entry at `index`.
    pub(crate) fn entry(&self, key: &[u8], index: LogIndex) -> Option<Entry> {
        let (at, (value, lifetime)) = self.version(key, index)?;
        let begun = self.bases.first().map(|(from, _)| *from);
        let revision = match begun {
            Some(from) if from <= index => self.revision(at.max(from)),
            _ => 0,
        };
        Some(Entry {
            key: key.to_vec().into(),
            value: value.clone(),
            revision,
            lifetime: *lifetime,
        })
    }

    /// The effect of `write` at `index`.
    pub(crate) fn effect(&self, index: LogIndex, write: &Write) -> Effect {
        let before = index.saturating_sub(1);
        match write {
            Write::Set { .. } => Effect::Set,
            Write::Delete { key } => Effect::Deleted {
                existed: self.bound(key, before).is_some(),
            },
            Write::Txn(txn) => {
                let outcome = self.outcome(txn, before, index);
                match self.expired_owner(txn.branch(outcome.succeeded)) {
                    Some(owner) => Effect::OwnerExpired(owner),
                    None => Effect::Txn(outcome.into()),
                }
            }
            Write::Acquire(_) | Write::Release(_) => panic!("see `claim`"),
        }
    }

    /// The first owner in `operations`, the next to be carried out, that does not live.
    fn expired_owner(&self, operations: &[Operation]) -> Option<ClientId> {
        let mut owners = operations.iter().filter_map(|operation| match operation {
            Operation::Set {
                lifetime: SetLifetime::To(Lifetime::Owner(owner)),
                ..
            } => Some(*owner),
            _ => None,
        });
        owners.find(|owner| !self.time.lives(owner.0))
    }

    /// The outcome of `txn` as the entry `index`, when the keys are as after the entry `before`.
    pub(crate) fn outcome(&self, txn: &Txn, before: LogIndex, index: LogIndex) -> TxnOutcome {
        let holds = |condition: &Condition| self.holds(condition, before, index);
        let succeeded = txn.conditions.iter().all(holds);
        let mut written = BTreeMap::<&Bytes, Option<Entry>>::new();
        let mut results = Vec::new();
        for operation in txn.branch(succeeded) {
            let key = operation.key();
            let entry = match written.get(key) {
                Some(written) => written.clone(),
                None => self.entry(key, before),
            };
            results.push(match operation {
                Operation::Set {
                    value, lifetime, ..
                } => {
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        revision: self.revision(index),
                        lifetime: begun(*lifetime, self.entry(key, before)),
                    };
                    written.insert(key, Some(entry));
                    OperationResult::Set
                }
                Operation::Get(_) => OperationResult::Got(entry),
                Operation::Delete(_) => {
                    written.insert(key, None);
                    let existed = entry.is_some();
                    OperationResult::Deleted { existed }
                }
            });
        }
        TxnOutcome { succeeded, results }
    }

    fn holds(&self, condition: &Condition, before: LogIndex, index: LogIndex) -> bool {
        let (key, test) = match condition {
            Condition::Key { key, test } => (key, test),
            Condition::Held { name, token } => {
                let held = self.locks.lock(name, before).held();
                return held.is_some_and(|(_, held)| held == self.meant(*token, index));
            }
        };
        let entry = self.entry(key, before);
        match test {
            KeyTest::Exists(exists) => entry.is_some() == *exists,
            KeyTest::Value(value) => entry.is_some_and(|it| it.value == *value),
            KeyTest::Revision(0) => entry.is_none(),
            KeyTest::Revision(revision) => {
                let meant = self.meant(*revision, index);
                entry.is_some_and(|it| it.revision == meant)
            }
        }
    }

    /// The revision that the entry at `index` means by `named`: an entry of the tail names others by the
    /// revisions that they had when it was proposed.
    fn meant(&self, named: Revision, at: LogIndex) -> Revision {
        let tail = self.tail.as_ref();
        let Some(tail) = tail.filter(|tail| tail.indices.contains(&at)) else {
            return named;
        };
        let other = index(&tail.former, named);
        let exact = base(&tail.former, other) + other == named && named != other;
        match exact && tail.indices.contains(&other) {
            true => tail.base + other,
            false => named,
        }
    }

    /// Carries out `write` at `index`, which has this effect.
    pub(crate) fn apply(&mut self, index: LogIndex, write: &Write, effect: &Effect) {
        match (write, effect) {
            (Write::Set { key, value }, _) => self.bind(index, key, value, SetLifetime::default()),
            (Write::Delete { key }, _) => self.unbind(index, key),
            (Write::Txn(txn), Effect::Txn(outcome)) => {
                for operation in txn.branch(outcome.succeeded) {
                    match operation {
                        Operation::Set {
                            key,
                            value,
                            lifetime,
                        } => self.bind(index, key, value, *lifetime),
                        Operation::Delete(key) => self.unbind(index, key),
                        Operation::Get(_) => {}
                    }
                }
            }
            (Write::Txn(_) | Write::Acquire(_) | Write::Release(_), _) => {}
        }
    }

    /// The session `client_id` is closed by the entry at `index`. Returns what has ended.
    pub(crate) fn close(&mut self, index: LogIndex, client_id: ClientId) -> Vec<Ended> {
        let ended = self.time.close(client_id.0);
        self.remove(index, &ended);
        self.end_claims(index, &ended);
        ended
    }

    /// The clock is advanced by the entry at `index`, and sessions are renewed. Returns what has ended.
    pub(crate) fn step(&mut self, index: LogIndex, step: u64, renewed: &[ClientId]) -> Vec<Ended> {
        let renewed = renewed.iter().map(|client_id| client_id.0);
        let ended = self.time.step(step, renewed);
        self.remove(index, &ended);
        self.end_claims(index, &ended);
        ended
    }

    fn end_claims(&mut self, index: LogIndex, ended: &[Ended]) {
        let over = ended.iter().filter_map(|ended| match ended {
            Ended::Session(session) => Some(*session),
            Ended::Key(_) => None,
        });
        let over: BTreeSet<_> = over.collect();
        let at = (index, self.revision(index));
        self.locks.end(at, &over, self.time.now);
    }

    fn remove(&mut self, index: LogIndex, ended: &[Ended]) {
        for ended in ended {
            if let Ended::Key(key) = ended {
                self.push(index, key, None);
            }
        }
    }

    fn bind(&mut self, index: LogIndex, key: &Bytes, value: &Bytes, lifetime: SetLifetime) {
        let before = self.entry(key, index.saturating_sub(1));
        if let SetLifetime::To(lifetime) = lifetime {
            self.time.bind(key, lifetime);
        }
        let version = (value.clone(), begun(lifetime, before));
        self.push(index, key, Some(version));
    }

    fn unbind(&mut self, index: LogIndex, key: &Bytes) {
        self.time.unbind(key);
        self.push(index, key, None);
    }

    fn push(&mut self, index: LogIndex, key: &Bytes, version: Option<Version>) {
        let versions = self.versions.entry(key.clone()).or_default();
        versions.push((index, version));
    }
}

/// The lifetime of a key that a write binds, and that was bound as `before` says.
fn begun(lifetime: SetLifetime, before: Option<Entry>) -> Lifetime {
    match (lifetime, before) {
        (SetLifetime::To(lifetime), _) => lifetime,
        (SetLifetime::Keep, Some(entry)) => entry.lifetime,
        (SetLifetime::Keep, None) => Lifetime::Unlimited,
    }
}

/// The base at `index`.
fn base(bases: &[Base], index: LogIndex) -> Revision {
    let base = bases.iter().rev().find(|(from, _)| *from <= index);
    base.map_or(0, |(_, base)| *base)
}

/// The index with this revision. A read may have looked before the entry with which revisions begin, and
/// been answered after it: so the first base counts for all indices.
fn index(bases: &[Base], revision: Revision) -> LogIndex {
    let later = bases.iter().skip(1).rev();
    let mut later = later.filter(|(from, base)| base + from <= revision);
    let first = bases.first().filter(|(_, base)| *base <= revision);
    let base = later.next().or(first);
    revision - base.map_or(0, |(_, base)| *base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_has_one_revision_across_a_raised_level_and_a_recovery() {
        let mut model = Model::default();
        model.begin(5, 1_000_005);
        model.begin(6, 2_000_005);
        let now = Revisions {
            base: 3_000_000,
            oldest: 1_000_005,
        };
        let model = model.recovered((8, 9), now);
        let revisions = [1, 4, 5, 8, 9, 10].map(|index| model.revision(index));
        assert_eq!(
            revisions,
            [1, 4, 1_000_005, 1_000_008, 3_000_009, 3_000_010]
        );
        let indices = revisions.map(|revision| model.index(revision));
        assert_eq!(indices, [1, 4, 5, 8, 9, 10]);
        assert_eq!(model.revisions(9), now);
    }
}
