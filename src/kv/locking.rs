//! What claims, releases and grants locks: commands, the end of a session, and the clock.
//!
//! A lock that becomes free is granted in the same revision. If several claims and sessions end in one
//! command, all of them end before any lock is granted, so no lock goes to a claim that ends with them.

use std::collections::BTreeSet;

use super::clock::Mortal;
use super::living::MAX_OWNED_KEYS;
use super::locks::{Claim, ClaimId, ClaimState, Holder, LockName, Locks, MAX_CLAIMS, claim_memory};
use super::{Changes, Effect, Stamp, StateMachine, Verdict, Write, Written};
use crate::types::{ClientId, LogIndex, Millis, Revision, Value};

/// The maximum time for which a claim waits by its own wish: 10 years.
pub const MAX_CLAIM_WAIT: Millis = 3_650 * 24 * 3_600_000;

/// A claim that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    /// The lock.
    pub name: LockName,
    /// The value of the claim.
    pub value: Value,
    /// How long it waits at most. 0: it does not wait. `None`: as long as its session lives.
    pub max_wait: Option<Millis>,
}

/// The state of a lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockState {
    /// Its holder. `None`: it is free.
    pub holder: Option<Holder>,
    /// The number of claims that wait.
    pub waiting: u64,
}

/// Some of the locks that are held, in ascending order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockPage {
    /// The locks.
    pub locks: Vec<(LockName, LockState)>,
    /// Whether there are more behind them.
    pub more: bool,
}

impl LockPage {
    /// Bytes of the names and values.
    pub fn bytes(&self) -> usize {
        let locks = self.locks.iter();
        locks.map(|(name, state)| bytes_of(name, state)).sum()
    }
}

fn bytes_of(name: &LockName, state: &LockState) -> usize {
    let value = state.holder.as_ref().map_or(0, |holder| holder.value.len());
    name.len().saturating_add(value)
}

/// A claim that has begun to hold its lock, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockChange {
    /// The lock.
    pub name: LockName,
    /// The claim.
    pub claim: ClaimId,
    /// Whether the lock has another holder than before, or none.
    pub of_holder: bool,
}

impl From<&Stamp> for ClaimId {
    fn from(stamp: &Stamp) -> Self {
        Self {
            client_id: stamp.client_id,
            sequence: stamp.sequence,
        }
    }
}

/// The locks that are free now, and have to be granted.
pub(super) type Freed = BTreeSet<LockName>;

impl StateMachine {
    /// All locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// The holder of a lock. Not one whose session is over, although it has not been removed yet.
    pub fn holder(&self, name: &str) -> Option<Holder> {
        let holder = self.locks.holder(name)?;
        let lives = self.session_ttl(holder.claim.client_id).is_some();
        lives.then_some(holder)
    }

    /// The state of a lock.
    pub fn lock_state(&self, name: &str) -> LockState {
        LockState {
            holder: self.holder(name),
            waiting: self.locks.waiting(name),
        }
    }

    /// At most `limit` of the locks that are held, behind `after`, with at most `bytes` of names and values,
    /// or one with more.
    pub fn lock_page(&self, after: Option<&LockName>, limit: usize, bytes: usize) -> LockPage {
        let mut page = LockPage::default();
        let mut taken = 0;
        for name in self.locks.names(after) {
            let state = self.lock_state(name);
            let more = bytes_of(name, &state);
            if page.locks.len() >= limit || (taken + more > bytes && !page.locks.is_empty()) {
                page.more = true;
                break;
            }
            taken += more;
            page.locks.push((LockName::clone(name), state));
        }
        page
    }

    /// The state of a claim.
    pub fn claim_state(&self, name: &str, id: ClaimId) -> ClaimState {
        match self.session_ttl(id.client_id) {
            Some(_) => self.locks.state(name, id),
            None => ClaimState::Gone,
        }
    }

    /// The token of the claim that holds a lock.
    pub(super) fn token(&self, name: &str) -> Option<Revision> {
        self.holder(name).map(|holder| holder.token)
    }

    /// The state of the write with the number `stamp`.
    pub(super) fn verdict(&self, stamp: &Stamp) -> Verdict {
        self.sessions.check(stamp, self.clock.now())
    }

    /// The answer to a write that has been applied before, as `written`: for an Acquire, the present state of
    /// the claim.
    pub(super) fn again(
        &self,
        index: LogIndex,
        write: &Write,
        stamp: &Stamp,
        written: Written,
    ) -> Written {
        match (write, &written.effect) {
            (Write::Acquire(acquire), Effect::Claimed(_)) => {
                let state = self.claim_state(&acquire.name, stamp.into());
                self.written(index, Effect::Claimed(state))
            }
            _ => written,
        }
    }

    /// Claims a lock with the command at `index`, under the number `stamp`, which is new.
    pub(super) fn acquire(
        &mut self,
        index: LogIndex,
        acquire: &Acquire,
        stamp: Option<&Stamp>,
        changes: &mut Changes,
    ) -> Effect {
        let Acquire {
            name,
            value,
            max_wait,
        } = acquire;
        let living = self.sessions.living();
        let Some(stamp) = stamp.filter(|stamp| living.get(stamp.client_id).is_some()) else {
            return Effect::SessionDoesNotLive;
        };
        if *max_wait == Some(0)
            && let Some(holder) = self.locks.holder(name)
        {
            return self.sessions.with_room(Effect::Occupied(Box::new(holder)));
        }
        if self.owned_by(stamp.client_id) >= MAX_OWNED_KEYS {
            return Effect::TooManyOwned;
        }
        if self.locks.len() >= MAX_CLAIMS {
            return Effect::TooManyClaims;
        }
        let (id, revision) = (ClaimId::from(stamp), self.revisions().at(index));
        let deadline = max_wait.map(|wait| self.clock.deadline(wait));
        let claim = Claim {
            id,
            // A copy: the value of a command keeps the entry of the log in memory.
            value: Value::copy_from_slice(value),
            deadline,
        };
        self.restore_claim(name, revision, claim, None);
        self.grant(name, revision, changes);
        Effect::Claimed(self.locks.state(name, id))
    }

    /// Adds a claim that began at `revision`, and its deadline if it waits.
    pub fn restore_claim(
        &mut self,
        name: &LockName,
        began: Revision,
        claim: Claim,
        token: Option<Revision>,
    ) {
        if let (Some(deadline), None) = (claim.deadline, token) {
            self.clock.set(deadline, Mortal::Claim(claim.id));
        }
        self.locks.restore(name, began, claim, token);
    }

    /// The number of keys and claims of a living session.
    pub(super) fn owned_by(&self, client_id: ClientId) -> usize {
        let session = self.sessions.living().get(client_id);
        let keys = session.map_or(0, |session| session.owned.len());
        keys.saturating_add(self.locks.claims_of(client_id).count())
    }

    /// Grants a free lock, with the command of `revision`.
    fn grant(&mut self, name: &LockName, revision: Revision, changes: &mut Changes) {
        let (clock, living) = (&self.clock, self.sessions.living());
        let may_hold = |claim: &Claim| {
            let in_time = claim.deadline.is_none_or(|deadline| clock.now() < deadline);
            in_time && living.alive(claim.id.client_id, clock.now()).is_some()
        };
        let granted = self.locks.grant(name, revision, may_hold);
        let Some(claim) = granted else {
            return;
        };
        if let Some(deadline) = claim.deadline {
            self.clock.clear(deadline, Mortal::Claim(claim.id));
        }
        changes.push_lock(LockChange {
            name: LockName::clone(name),
            claim: claim.id,
            of_holder: true,
        });
    }

    /// Grants all locks that are free now.
    pub(super) fn grant_all(&mut self, freed: &Freed, index: LogIndex, changes: &mut Changes) {
        let revision = self.revisions().at(index);
        for name in freed {
            self.grant(name, revision, changes);
        }
    }

    /// Ends a claim, if it has not ended. Its lock may be free then.
    pub(super) fn end_claim(&mut self, id: ClaimId, freed: &mut Freed, changes: &mut Changes) {
        let ended = self.locks.end(id);
        let Some(ended) = ended else { return };
        if let (Some(deadline), false) = (ended.claim.deadline, ended.held) {
            self.clock.clear(deadline, Mortal::Claim(id));
        }
        changes.push_lock(LockChange {
            name: LockName::clone(&ended.name),
            claim: id,
            of_holder: ended.held,
        });
        if ended.held {
            freed.insert(ended.name);
        }
    }

    /// Ends the claim `stamp` with the command at `index`, and uses up its number.
    pub(super) fn release(
        &mut self,
        index: LogIndex,
        name: &LockName,
        stamp: &Stamp,
        changes: &mut Changes,
    ) -> Written {
        let verdict = self.verdict(stamp);
        let is_forgotten = verdict == Verdict::Expired;
        let effect = match verdict {
            // The number belongs to another write.
            Verdict::Applied(written) if !written.effect.is_of_a_claim() => return written,
            Verdict::Expired if self.session_ttl(stamp.client_id).is_none() => {
                Effect::SessionExpired
            }
            Verdict::New if !self.sessions.has_room(stamp.client_id) => Effect::AnswersFull,
            Verdict::Applied(_) | Verdict::New | Verdict::Expired => {
                if self.locks.state(name, ClaimId::from(stamp)) != ClaimState::Gone {
                    let mut freed = Freed::new();
                    self.end_claim(ClaimId::from(stamp), &mut freed, changes);
                    self.grant_all(&freed, index, changes);
                }
                Effect::Released
            }
        };
        let written = self.written(index, effect);
        if written.effect == Effect::Released {
            self.sessions.acknowledge(stamp, index);
            if !is_forgotten {
                self.sessions.remember(stamp, index, written.clone());
            }
        }
        written
    }

    /// Upper bound of the additional memory that a claim takes.
    pub(super) fn growth_by_claim(acquire: &Acquire) -> usize {
        claim_memory(acquire.name.len(), acquire.value.len())
    }
}

#[cfg(test)]
#[path = "locking_tests.rs"]
mod tests;
