//! What begins and ends by the replicated clock: lifetimes of keys, and living sessions with what is theirs.

use std::collections::BTreeMap;

use super::clock::Mortal;
use super::living::{MAX_OWNED_KEYS, SessionInfo};
use super::locking::Freed;
use super::{
    Cause, Change, Changes, Clock, Effect, Lifetime, Lifetimes, Limit, LivingSession, MAX_REMOVALS,
    Operation, Pair, Session, SetLifetime, StateMachine,
};
use crate::types::{ClientId, Key, LogIndex, Millis};

impl StateMachine {
    /// The replicated clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The keys whose lifetime is limited.
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// The TTL of the session, if it lives.
    pub fn session_ttl(&self, client_id: ClientId) -> Option<Millis> {
        let session = self.sessions.living().alive(client_id, self.clock.now());
        session.map(|session| session.ttl)
    }

    /// At most `limit` of the living sessions behind `after`, and whether there are more.
    pub(super) fn session_page(&self, after: ClientId, limit: usize) -> (Vec<SessionInfo>, bool) {
        let living = self.sessions.living();
        living.page(after, limit, self.clock.now())
    }

    /// The lifetime of `key`, which is bound to `stored`.
    pub(super) fn lifetime(&self, pair: &Pair) -> Lifetime {
        let limit = self.lifetimes.limit(pair);
        limit.map_or(Lifetime::Unlimited, Lifetime::from)
    }

    /// The limit of the lifetime of `key`, if it is bound and has one.
    pub(super) fn limit(&self, key: &[u8]) -> Option<Limit> {
        self.lifetimes.limit(self.map.pair(key)?)
    }

    /// Binds `key` to `value` with the command at `index`, with a lifetime.
    pub(super) fn bind(
        &mut self,
        index: LogIndex,
        (key, value): (&[u8], &[u8]),
        it: SetLifetime,
        changes: &mut Changes,
    ) {
        self.bind_for(index, (key, value), it);
        if changes.are_kept()
            && let Some(entry) = self.entry(key)
        {
            changes.push(Change {
                // At the first level, an entry has no revision.
                revision: self.revisions().at(index),
                key: entry.key,
                value: Some(entry.value),
                lifetime: entry.lifetime,
                cause: Cause::Set,
            });
        }
    }

    fn bind_for(&mut self, index: LogIndex, (key, value): (&[u8], &[u8]), it: SetLifetime) {
        let revision = self.revisions().stored(index);
        let SetLifetime::To(lifetime) = it else {
            let is_limited = self.map.pair(key).is_some_and(Pair::is_limited);
            self.map.set(key, value, revision, is_limited);
            return;
        };
        let is_limited = lifetime != Lifetime::Unlimited;
        let replaced = self.map.set(key, value, revision, is_limited);
        if replaced.is_some_and(|it| it.is_limited()) {
            self.end_lifetime(key);
        }
        let limit = match lifetime {
            Lifetime::Unlimited => return,
            Lifetime::Ttl(ttl) => {
                let deadline = self.clock.deadline(ttl);
                Limit::Ttl { ttl, deadline }
            }
            Lifetime::Owner(owner) => Limit::Owner(owner),
        };
        self.begin_lifetime(key, limit);
    }

    /// Removes `key` with the command at `index`, with its lifetime. Returns whether it was bound.
    pub(super) fn unbind(&mut self, index: LogIndex, key: &[u8], changes: &mut Changes) -> bool {
        let removed = self.remove(index, key, Cause::Deleted, changes);
        if removed.as_ref().is_some_and(Pair::is_limited) {
            self.end_lifetime(key);
        }
        removed.is_some()
    }

    /// Removes `key`, but not its lifetime.
    fn remove(
        &mut self,
        index: LogIndex,
        key: &[u8],
        cause: Cause,
        changes: &mut Changes,
    ) -> Option<Pair> {
        if changes.are_kept() && self.map.pair(key).is_some() {
            changes.push(Change {
                revision: self.revisions().at(index),
                key: Key::copy_from_slice(key),
                value: None,
                lifetime: Lifetime::Unlimited,
                cause,
            });
        }
        self.map.remove(key)
    }

    /// Limits the lifetime of `key`, which is bound and has no limit.
    pub(super) fn begin_lifetime(&mut self, key: &[u8], limit: Limit) {
        let key = Key::copy_from_slice(key);
        match limit {
            Limit::Ttl { deadline, .. } => self.clock.set(deadline, Mortal::Key(key.clone())),
            Limit::Owner(owner) => {
                if let Some(session) = self.sessions.living_mut().get_mut(owner) {
                    session.owned.insert(key.clone());
                }
            }
        }
        self.lifetimes.insert(key, limit);
    }

    fn end_lifetime(&mut self, key: &[u8]) {
        let Some((key, limit)) = self.lifetimes.remove(key) else {
            return;
        };
        match limit {
            Limit::Ttl { deadline, .. } => self.clock.clear(deadline, Mortal::Key(key)),
            Limit::Owner(owner) => {
                if let Some(session) = self.sessions.living_mut().get_mut(owner) {
                    session.owned.remove(&key);
                }
            }
        }
    }

    /// Whether `operations`, which write no key twice, may be carried out as far as lifetimes are concerned.
    ///
    /// # Errors
    ///
    /// The effect of the transaction otherwise.
    pub(super) fn owners_allow(&self, operations: &[Operation]) -> Result<(), Effect> {
        // Keys that each owner gets and loses.
        let mut changes: BTreeMap<ClientId, (usize, usize)> = BTreeMap::new();
        for operation in operations {
            let (key, next) = match operation {
                Operation::Set { key, lifetime, .. } => match lifetime {
                    SetLifetime::To(Lifetime::Owner(owner)) => (key, Some(*owner)),
                    SetLifetime::To(Lifetime::Unlimited | Lifetime::Ttl(_)) => (key, None),
                    SetLifetime::Keep => continue,
                },
                Operation::Delete(key) => (key, None),
                Operation::Get(_) => continue,
            };
            if let Some(owner) = next {
                if self.session_ttl(owner).is_none() {
                    return Err(Effect::OwnerExpired(owner));
                }
                changes.entry(owner).or_default().0 += 1;
            }
            if let Some(Limit::Owner(owner)) = self.limit(key) {
                changes.entry(owner).or_default().1 += 1;
            }
        }
        let too_many = changes.into_iter().any(|(owner, (gets, loses))| {
            let owned = self.owned_by(owner);
            gets > 0 && owned + gets > MAX_OWNED_KEYS + loses
        });
        match too_many {
            true => Err(Effect::TooManyOwned),
            false => Ok(()),
        }
    }

    /// Opens a living session with the command at `index`.
    pub(super) fn open_living(
        &mut self,
        client_id: ClientId,
        ttl: Millis,
        index: LogIndex,
    ) -> Effect {
        if let Some(open) = self.opens_living_again(client_id) {
            return open;
        }
        if self.sessions.is_open(client_id) {
            return Effect::SessionOpened { ttl: None };
        }
        if self.sessions.living().is_full() {
            return Effect::TooManySessions;
        }
        let session = LivingSession {
            ttl,
            deadline: self.clock.deadline(ttl),
            session: Session::opened(index),
            ..LivingSession::default()
        };
        self.restore_living_session(client_id, session);
        Effect::SessionOpened { ttl: Some(ttl) }
    }

    /// The effect of opening a living session again, if there is one.
    pub(super) fn opens_living_again(&self, client_id: ClientId) -> Option<Effect> {
        self.sessions.living().get(client_id)?;
        Some(match self.session_ttl(client_id) {
            None => Effect::SessionExpired,
            ttl => Effect::SessionOpened { ttl },
        })
    }

    /// Adds a living session, without its keys.
    pub fn restore_living_session(&mut self, client_id: ClientId, session: LivingSession) {
        self.clock.set(session.deadline, Mortal::Session(client_id));
        self.sessions.living_mut().insert(client_id, session);
    }

    /// Ends a session with the command at `index`, with its claims and the keys that it owns.
    pub(super) fn close_session(
        &mut self,
        index: LogIndex,
        client_id: ClientId,
        changes: &mut Changes,
    ) -> Effect {
        let mut freed = Freed::new();
        let existed = match self.end_living(index, client_id, &mut freed, changes) {
            Some(_) => true,
            None => self.sessions.close(client_id),
        };
        self.grant_all(&freed, index, changes);
        Effect::SessionClosed { existed }
    }

    /// Ends a living session, with its claims and the keys that it owns. Returns the number of these. `None` if
    /// it does not exist.
    fn end_living(
        &mut self,
        index: LogIndex,
        client_id: ClientId,
        freed: &mut Freed,
        changes: &mut Changes,
    ) -> Option<usize> {
        let session = self.sessions.living_mut().remove(client_id)?;
        self.clock
            .clear(session.deadline, Mortal::Session(client_id));
        for key in &session.owned {
            self.lifetimes.remove(key);
            self.remove(index, key, Cause::SessionEnded, changes);
        }
        let claims: Vec<_> = self.locks.claims_of(client_id).collect();
        for claim in &claims {
            self.end_claim(*claim, freed, changes);
        }
        Some(session.owned.len() + claims.len())
    }

    /// Advances the clock with the command at `index`, renews the sessions that lived until then, removes what is
    /// due, and grants the locks that are free then.
    pub(super) fn advance_clock(
        &mut self,
        index: LogIndex,
        (step, renewed): (Millis, &[ClientId]),
        changes: &mut Changes,
    ) -> Effect {
        let alive = |client_id: &&ClientId| self.session_ttl(**client_id).is_some();
        let alive: Vec<_> = renewed.iter().filter(alive).copied().collect();
        self.clock.advance(step);
        for client_id in alive {
            self.renew(client_id);
        }
        let (mut removed, mut freed) = (0, Freed::new());
        while removed < MAX_REMOVALS
            && let Some(due) = self.clock.take_due()
        {
            removed += match due {
                Mortal::Session(client_id) => {
                    let ended = self.end_living(index, client_id, &mut freed, changes);
                    1 + ended.unwrap_or(0)
                }
                Mortal::Claim(claim) => {
                    self.end_claim(claim, &mut freed, changes);
                    1
                }
                Mortal::Key(key) => {
                    self.lifetimes.remove(&key);
                    self.remove(index, &key, Cause::Expired, changes);
                    1
                }
            };
        }
        self.grant_all(&freed, index, changes);
        Effect::ClockAdvanced
    }

    /// The TTL of the session begins again, also if its deadline has just come.
    fn renew(&mut self, client_id: ClientId) {
        if let Some(session) = self.sessions.living_mut().get_mut(client_id)
            && let deadline = self.clock.renewed(session.ttl)
            && session.deadline < deadline
        {
            let former = std::mem::replace(&mut session.deadline, deadline);
            self.clock.clear(former, Mortal::Session(client_id));
            self.clock.set(deadline, Mortal::Session(client_id));
        }
    }
}

#[cfg(test)]
mod tests;
