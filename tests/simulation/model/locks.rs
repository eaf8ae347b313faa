//! Locks, as plainly as possible: each is the list of its claims in the order of the log, and the first claim
//! holds it.

use std::collections::{BTreeMap, BTreeSet};

use seshat::kv::{Acquire, ClaimId, ClaimState, Effect, Holder, LockName, LockState, Stamp, Write};
use seshat::types::{LogIndex, Revision, Value};

use super::Model;
use super::time::MOST;

/// An entry of the log: its index and its revision.
type At = (LogIndex, Revision);

/// A claim that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: ClaimId,
    pub(crate) value: Value,
    /// The revision of its entry.
    pub(crate) began: Revision,
    /// When it ends if it still waits.
    pub(crate) deadline: Option<u64>,
}

/// One lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lock {
    /// The first one holds the lock.
    pub(crate) claims: Vec<Claim>,
    /// The revision at which it became the first. 0: there is none.
    token: Revision,
}

impl Lock {
    fn first(&self) -> Option<ClaimId> {
        self.claims.first().map(|claim| claim.id)
    }

    /// The claim that holds the lock, and its token.
    pub(crate) fn held(&self) -> Option<(ClaimId, Revision)> {
        self.first().map(|id| (id, self.token))
    }

    /// The holder as a client sees it.
    fn holder(&self) -> Option<Holder> {
        self.claims.first().map(|claim| Holder {
            claim: claim.id,
            token: self.token,
            value: claim.value.clone(),
        })
    }

    /// The state of a claim.
    pub(crate) fn state(&self, id: ClaimId) -> ClaimState {
        match self.claims.iter().position(|claim| claim.id == id) {
            Some(0) => ClaimState::Held(self.token),
            Some(ahead) => ClaimState::Waiting(u64::try_from(ahead).expect("small")),
            None => ClaimState::Gone,
        }
    }

    /// The lock as a client sees it.
    pub(crate) fn seen(&self) -> LockState {
        LockState {
            holder: self.holder(),
            waiting: u64::try_from(self.claims.len().saturating_sub(1)).expect("small"),
        }
    }
}

/// What has become of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It holds the lock, under this token.
    Granted(LockName, ClaimId, Revision),
    Ended(ClaimId),
}

/// All locks, after each entry of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locks {
    /// Each lock, and the index from which on it is so.
    versions: BTreeMap<LockName, Vec<(LogIndex, Lock)>>,
    /// The effect of the last command of each claim that had one.
    last: BTreeMap<ClaimId, Effect>,
    /// The claim and the effect of each command that had one.
    effects: BTreeMap<LogIndex, (ClaimId, Effect)>,
    /// The lowest number for which the client of each session may still wait.
    first_outstanding: BTreeMap<u64, u64>,
    notices: Vec<Notice>,
}

impl Locks {
    /// The lock `name` after the entry at `index`.
    pub(crate) fn lock(&self, name: &str, index: LogIndex) -> Lock {
        self.version(name, index).cloned().unwrap_or_default()
    }

    fn version(&self, name: &str, index: LogIndex) -> Option<&Lock> {
        let versions = self.versions.get(name)?;
        let after = versions.partition_point(|&(at, _)| at <= index);
        versions.get(after.checked_sub(1)?).map(|(_, lock)| lock)
    }

    /// All locks after the entry at `index`, also those that are free.
    pub(crate) fn all(&self, index: LogIndex) -> impl Iterator<Item = (&LockName, &Lock)> {
        let names = self.versions.keys();
        names.filter_map(move |name| Some((name, self.version(name, index)?)))
    }

    /// The claim and the effect of the command at `index`.
    pub(crate) fn effect(&self, index: LogIndex) -> Option<&(ClaimId, Effect)> {
        self.effects.get(&index)
    }

    /// Takes what has happened since the last call.
    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn change(&mut self, name: &LockName, at: At, change: impl FnOnce(&mut Vec<Claim>)) {
        let former = self.lock(name, LogIndex::MAX);
        let mut lock = former.clone();
        change(&mut lock.claims);
        if lock.first() != former.first() {
            lock.token = lock.first().map_or(0, |_| at.1);
            let granted = lock.held();
            let granted = granted.map(|(id, token)| Notice::Granted(name.clone(), id, token));
            self.notices.extend(granted);
        }
        let ended = former.claims.iter().map(|claim| claim.id);
        let ended = ended.filter(|id| lock.state(*id) == ClaimState::Gone);
        self.notices.extend(ended.map(Notice::Ended));
        if lock != former {
            let versions = self.versions.entry(name.clone()).or_default();
            versions.push((at.0, lock));
        }
    }

    /// The log holds a command with the number `stamp`. Returns whether its client had stated before that it no
    /// longer waits for that number.
    fn acknowledge(&mut self, stamp: &Stamp) -> bool {
        let session = stamp.client_id.0;
        let first = self.first_outstanding.entry(session).or_default();
        let is_late = stamp.sequence < *first;
        *first = stamp.first_outstanding.max(*first);
        is_late
    }

    fn acquire(&mut self, at: At, acquire: &Acquire, stamp: &Stamp, now: u64) {
        let id = id(stamp);
        if self.acknowledge(stamp) {
            return;
        }
        let lock = self.lock(&acquire.name, LogIndex::MAX);
        let effect = match (self.last.get(&id), lock.holder()) {
            (Some(Effect::Claimed(_)), _) => Effect::Claimed(lock.state(id)),
            // It is answered as before.
            (Some(_), _) => return,
            (None, Some(holder)) if acquire.max_wait == Some(0) => Effect::Occupied(holder.into()),
            (None, _) => {
                let claim = Claim {
                    id,
                    value: acquire.value.clone(),
                    began: at.1,
                    deadline: acquire.max_wait.map(|wait| now + MOST + wait),
                };
                self.change(&acquire.name, at, |claims| claims.push(claim));
                Effect::Claimed(self.lock(&acquire.name, LogIndex::MAX).state(id))
            }
        };
        self.last.insert(id, effect.clone());
        self.effects.insert(at.0, (id, effect));
    }

    fn release(&mut self, at: At, name: &LockName, stamp: &Stamp) {
        let id = id(stamp);
        let is_late = self.acknowledge(stamp);
        self.change(name, at, |claims| claims.retain(|claim| claim.id != id));
        self.effects.insert(at.0, (id, Effect::Released));
        if !is_late {
            self.last.insert(id, Effect::Released);
        }
    }

    /// These sessions are over with the entry `at`, and it is `now`.
    pub(super) fn end(&mut self, at: At, over: &BTreeSet<u64>, now: u64) {
        let names: Vec<_> = self.versions.keys().cloned().collect();
        for name in names {
            let holder = self.lock(&name, LogIndex::MAX).first();
            self.change(&name, at, |claims| {
                claims.retain(|claim| {
                    let holds = Some(claim.id) == holder;
                    let in_time = claim.deadline.is_none_or(|deadline| now < deadline);
                    !over.contains(&claim.id.client_id.0) && (holds || in_time)
                });
            });
        }
    }
}

fn id(stamp: &Stamp) -> ClaimId {
    ClaimId {
        client_id: stamp.client_id,
        sequence: stamp.sequence,
    }
}

impl Model {
    /// The entry at `index` claims or releases a lock under the number `stamp`.
    pub(crate) fn claim(&mut self, index: LogIndex, write: &Write, stamp: &Stamp) {
        if !self.time.lives(stamp.client_id.0) {
            return;
        }
        let at = (index, self.revision(index));
        match write {
            Write::Acquire(acquire) => self.locks.acquire(at, acquire, stamp, self.time.now),
            Write::Release(name) => self.locks.release(at, name, stamp),
            Write::Set { .. } | Write::Delete { .. } | Write::Txn(_) => {}
        }
    }
}
