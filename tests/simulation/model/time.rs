//! What ends by the replicated clock, as plainly as possible: all deadlines, of which each step removes those
//! that have come.

use std::collections::BTreeMap;

use bytes::Bytes;
use seshat::kv::Lifetime;

/// By how much a lifetime that begins outside of a step ends later, and the most that a step counts.
pub(super) const MOST: u64 = 500;

/// The lifetime of a key that ends, as the log leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// At this time.
    Deadline(u64),
    /// With this session.
    EndOf(u64),
}

/// What has ended by a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Session(u64),
    Key(Bytes),
}

/// The time after the last entry of a log, and what ends later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time {
    pub(crate) now: u64,
    keys: BTreeMap<Bytes, Until>,
    /// TTL and deadline.
    sessions: BTreeMap<u64, (u64, u64)>,
}

impl Time {
    /// Whether the session lives.
    pub(crate) fn lives(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The keys that end.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&Bytes, Until)> {
        self.keys.iter().map(|(key, until)| (key, *until))
    }

    /// The sessions that live, each with its TTL and its deadline.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = (u64, (u64, u64))> {
        self.sessions.iter().map(|(id, it)| (*id, *it))
    }

    /// A write binds `key`, for this lifetime.
    pub(crate) fn bind(&mut self, key: &Bytes, lifetime: Lifetime) {
        let until = match lifetime {
            Lifetime::Unlimited => {
                self.keys.remove(key);
                return;
            }
            Lifetime::Ttl(ttl) => Until::Deadline(self.now + MOST + ttl),
            Lifetime::Owner(owner) => Until::EndOf(owner.0),
        };
        self.keys.insert(key.clone(), until);
    }

    /// A write removes `key`.
    pub(crate) fn unbind(&mut self, key: &Bytes) {
        self.keys.remove(key);
    }

    /// Opens a session, unless it lives.
    pub(crate) fn open(&mut self, session: u64, ttl: u64) {
        let deadline = self.now + MOST + ttl;
        self.sessions.entry(session).or_insert((ttl, deadline));
    }

    /// Ends a session. Returns what has ended.
    pub(crate) fn close(&mut self, session: u64) -> Vec<Ended> {
        match self.sessions.remove(&session) {
            Some(_) => self.end(session),
            None => Vec::new(),
        }
    }

    /// A step of the clock, which renews these sessions. Returns what has ended. There is never so much that
    /// the rest would be left to another step.
    pub(crate) fn step(&mut self, step: u64, renewed: impl Iterator<Item = u64>) -> Vec<Ended> {
        self.now += step.min(MOST);
        for session in renewed {
            if let Some((ttl, deadline)) = self.sessions.get_mut(&session) {
                *deadline = (self.now + *ttl).max(*deadline);
            }
        }
        let now = self.now;
        let due = |deadline: u64| deadline <= now;
        let over: Vec<_> = self
            .sessions
            .extract_if(.., |_, (_, deadline)| due(*deadline))
            .map(|(session, _)| session)
            .collect();
        let mut ended = Vec::new();
        for session in over {
            ended.extend(self.end(session));
        }
        let due = |until: &Until| matches!(until, Until::Deadline(deadline) if due(*deadline));
        let keys = self.keys.extract_if(.., |_, until| due(until));
        ended.extend(keys.map(|(key, _)| Ended::Key(key)));
        ended
    }

    fn end(&mut self, session: u64) -> Vec<Ended> {
        let owned = self
            .keys
            .extract_if(.., |_, until| *until == Until::EndOf(session));
        let owned = owned.map(|(key, _)| Ended::Key(key));
        owned.chain([Ended::Session(session)]).collect()
    }
}
