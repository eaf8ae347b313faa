//! Living sessions: sessions with a TTL, which only its end or their client ends.
//!
//! Other sessions make room for new ones, so none of them can stand for a client that lives. A living
//! session is never evicted. Instead there is a bound on their number, and one on the memory of their
//! answers, and a command that would exceed a bound is not carried out.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::Session;
use crate::types::{ClientId, Key, Millis};

/// The TTLs that a session may have: 2 seconds to 1 hour.
pub const SESSION_TTL: std::ops::RangeInclusive<Millis> = 2_000..=3_600_000;
/// Maximum number of living sessions.
pub const MAX_LIVING_SESSIONS: usize = 100_000;
/// Maximum bytes that the remembered answers of all living sessions count for.
pub const MAX_LIVING_ANSWER_BYTES: usize = 32 << 20;
/// Maximum number of keys that a session owns.
pub const MAX_OWNED_KEYS: usize = 1024;
/// Memory of a living session without its answers and its keys: its parts of two sparsely filled nodes, one
/// among the sessions and one among the deadlines, and a node of answers.
pub const LIVING_SESSION_MEMORY: usize = 768;

/// A living session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LivingSession {
    /// One of [`SESSION_TTL`].
    pub ttl: Millis,
    /// When it ends, by the replicated clock.
    pub deadline: Millis,
    /// The keys that it owns, at most [`MAX_OWNED_KEYS`].
    pub owned: OrdSet<Key>,
    /// Its answers.
    pub session: Session,
}

/// What a client or an operator may know of a living session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub client_id: ClientId,
    /// Its TTL.
    pub ttl: Millis,
    /// How much of that is left.
    pub remaining: Millis,
    /// The number of keys that it owns.
    pub owned_keys: usize,
}

/// All living sessions. A clone shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LivingSessions {
    sessions: OrdMap<ClientId, Arc<LivingSession>>,
    /// Bytes that their answers count for.
    pub(super) answer_bytes: usize,
}

impl LivingSessions {
    /// The session, whether or not it is over.
    pub fn get(&self, client_id: ClientId) -> Option<&LivingSession> {
        self.sessions.get(&client_id).map(Arc::as_ref)
    }

    /// The session, if it lives at the time `now`: it is over as soon as its deadline has come, also while it
    /// has not been removed.
    pub fn alive(&self, client_id: ClientId, now: Millis) -> Option<&LivingSession> {
        self.get(client_id).filter(|it| now < it.deadline)
    }

    pub(super) fn get_mut(&mut self, client_id: ClientId) -> Option<&mut LivingSession> {
        self.sessions.get_mut(&client_id).map(Arc::make_mut)
    }

    /// Adds a session. Its answers count.
    pub(super) fn insert(&mut self, client_id: ClientId, session: LivingSession) {
        self.answer_bytes += session.session.answer_bytes();
        self.sessions.insert(client_id, Arc::new(session));
    }

    /// Removes a session, which is returned.
    pub(super) fn remove(&mut self, client_id: ClientId) -> Option<Arc<LivingSession>> {
        let removed = self.sessions.remove(&client_id)?;
        self.answer_bytes -= removed.session.answer_bytes();
        Some(removed)
    }

    /// Whether another session would be one too many.
    pub fn is_full(&self) -> bool {
        self.sessions.len() >= MAX_LIVING_SESSIONS
    }

    /// Whether an answer that counts for `bytes` may be remembered.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.answer_bytes.saturating_add(bytes) <= MAX_LIVING_ANSWER_BYTES
    }

    /// At most `limit` of the sessions behind `after` that live at the time `now`, in ascending order of their
    /// ids, and whether there are more.
    pub(super) fn page(
        &self,
        after: ClientId,
        limit: usize,
        now: Millis,
    ) -> (Vec<SessionInfo>, bool) {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let sessions = self.sessions.range(behind);
        let mut alive = sessions.filter(|(_, session)| now < session.deadline);
        let infos = alive.by_ref().take(limit).map(|(client_id, session)| {
            let LivingSession {
                ttl,
                deadline,
                ref owned,
                session: _,
            } = **session;
            SessionInfo {
                client_id: *client_id,
                ttl,
                remaining: deadline - now,
                owned_keys: owned.len(),
            }
        });
        let infos = infos.collect();
        (infos, alive.next().is_some())
    }

    /// All of them, in ascending order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&ClientId, &Arc<LivingSession>)> {
        self.sessions.iter()
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Memory of all of them without their keys, in bytes. An estimate, rather too high than too low.
    pub fn memory(&self) -> usize {
        self.sessions
            .len()
            .saturating_mul(LIVING_SESSION_MEMORY)
            .saturating_add(self.answer_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Effect, Written};

    #[test]
    fn each_session_counts_with_its_answers() {
        let answer = Written {
            effect: Effect::Released,
            revision: 9,
        };
        let session = LivingSession {
            session: Session {
                answers: [(1, answer)].into(),
                ..Session::opened(9)
            },
            ..LivingSession::default()
        };
        let bytes = session.session.answer_bytes();
        let mut sessions = LivingSessions::default();
        assert!(bytes > 0 && sessions.is_empty());
        for count in 1..=3 {
            sessions.insert(ClientId(9 + 7 * count), session.clone());
            let number = usize::try_from(count).unwrap();
            assert_eq!((sessions.len(), sessions.is_empty()), (number, false));
            assert_eq!(sessions.memory(), number * (LIVING_SESSION_MEMORY + bytes));
        }
        assert!(sessions.remove(ClientId(16)).is_some());
        assert_eq!(sessions.memory(), 2 * (LIVING_SESSION_MEMORY + bytes));
    }
}
