//! Sessions: a write that is sent twice applies once (dissertation, section 6.3).
//!
//! A client opens a session and numbers its writes. The state machine remembers the answer to each number
//! that the client may still wait for, so a repeated write is answered from memory. With every write the
//! client says which numbers it no longer waits for, and the state machine forgets those.
//!
//! Memory is bounded, so sessions expire in the end, and every node must expire the same sessions at the
//! same entry. So the bounds are a part of the protocol, not of the configuration, and "least recently
//! used" counts log indices, not time. A write of an expired session is refused, because the state
//! machine no longer knows whether the write was applied.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::{Effect, LivingSessions, MAX_LIVING_ANSWER_BYTES, MAX_REMEMBERED_BYTES, TxnOutcome};
use crate::types::{ClientId, LogIndex, Millis, Revision};

/// Maximum number of sessions.
pub const MAX_SESSIONS: usize = 4096;
/// Maximum bytes that sessions and remembered answers count for.
pub const MAX_SESSION_BYTES: usize = 32 << 20;
/// Bytes that a session counts for.
const SESSION_BYTES: usize = 64;
/// Bytes that a remembered answer counts for.
const ANSWER_BYTES: usize = 48;
/// Bytes that each result of a remembered transaction counts for, beside the key and the value that were
/// read.
const RESULT_BYTES: usize = 128;
/// Bytes that the remembered holder of a lock counts for, beside its value.
const HOLDER_BYTES: usize = 64;
/// Maximum bytes that the answers to transactions count for in one session: their results, and the keys and
/// values that were read.
pub const MAX_SESSION_ANSWER_BYTES: usize = 1 << 20;
/// Memory of a session beyond the bytes that it counts for: its part of a half-empty table, and a
/// sparsely filled node of answers (measured: 386 bytes a session with one answer). It is not part of the
/// count, because the bounds must be the same on every node.
const SESSION_MEMORY: usize = 336;
/// Maximum memory, in bytes, of all sessions that the bound of the state does not count: those that do not
/// live, and the answers of those that do.
pub const MAX_SESSION_MEMORY: usize =
    MAX_SESSION_BYTES + MAX_SESSIONS * SESSION_MEMORY + MAX_LIVING_ANSWER_BYTES;
/// Maximum span of the outstanding numbers of one session.
pub const MAX_OUTSTANDING: u64 = 1024;

/// The number of a write within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The session.
    pub client_id: ClientId,
    /// The number: the first is 1.
    pub sequence: u64,
    /// The lowest number whose answer the client still waits for.
    pub first_outstanding: u64,
}

impl Stamp {
    /// Whether the numbers make sense: 1 ≤ `first_outstanding` ≤ `sequence` <
    /// `first_outstanding` + [`MAX_OUTSTANDING`].
    pub fn is_valid(&self) -> bool {
        let outstanding = self.sequence.checked_sub(self.first_outstanding);
        self.first_outstanding >= 1 && outstanding.is_some_and(|count| count < MAX_OUTSTANDING)
    }
}

/// The effect of a write, and its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The effect.
    pub effect: Effect,
    /// Its revision. At the first protocol level, the log index at which it was applied.
    pub revision: Revision,
}

impl Written {
    /// Bytes that it counts for when it is remembered.
    fn bytes(&self) -> usize {
        ANSWER_BYTES + effect_bytes(&self.effect)
    }

    /// The part of these bytes for the results of a transaction.
    fn txn_bytes(&self) -> usize {
        match &self.effect {
            Effect::Txn(outcome) => counted_bytes(outcome),
            _ => 0,
        }
    }
}

/// Bytes that an effect counts for.
fn effect_bytes(effect: &Effect) -> usize {
    match effect {
        Effect::Txn(outcome) => counted_bytes(outcome),
        Effect::Occupied(holder) => HOLDER_BYTES + holder.value.len(),
        _ => 0,
    }
}

/// Bytes that the results of a transaction count for.
fn counted_bytes(outcome: &TxnOutcome) -> usize {
    outcome.bytes() + outcome.results.len() * RESULT_BYTES
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Log index of its last command.
    pub last_used: LogIndex,
    /// The lowest number that the client may still wait for. Answers of lower numbers are forgotten.
    pub first_outstanding: u64,
    /// The answers, by number.
    pub answers: BTreeMap<u64, Written>,
}

impl Session {
    /// A session that the command at `index` opens.
    pub(super) fn opened(index: LogIndex) -> Self {
        Self {
            last_used: index,
            first_outstanding: 1,
            answers: BTreeMap::new(),
        }
    }

    fn bytes(&self) -> usize {
        SESSION_BYTES + self.answer_bytes()
    }

    /// Bytes that its answers count for.
    pub(super) fn answer_bytes(&self) -> usize {
        bytes_of(&self.answers)
    }

    /// Forgets the answers to numbers below `first_outstanding`. Returns the bytes that these counted for.
    fn forget(&mut self, first_outstanding: u64) -> usize {
        if self.first_outstanding >= first_outstanding {
            return 0;
        }
        self.first_outstanding = first_outstanding;
        let remembered = self.answers.split_off(&first_outstanding);
        bytes_of(&std::mem::replace(&mut self.answers, remembered))
    }
}

fn bytes_of(answers: &BTreeMap<u64, Written>) -> usize {
    answers.values().map(Written::bytes).sum()
}

/// The state of a write in its session before the command is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has not been applied: apply it, and [`remember`](Sessions::remember).
    New,
    /// It has been applied, with this result.
    Applied(Written),
    /// Unknown: its session does not exist, or its number has been forgotten.
    Expired,
}

/// All sessions: those that do not live, which make room for one another, and those that do. A clone shares
/// all sessions that neither copy changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    sessions: Arc<HashMap<ClientId, Arc<Session>, RandomState>>,
    /// Bytes that `sessions` count for.
    bytes: usize,
    living: LivingSessions,
}

impl Sessions {
    /// Opens a session with the command at `index`. An open session stays as it is, and counts as used.
    pub fn open(&mut self, client_id: ClientId, index: LogIndex) {
        if self.use_session(client_id, index).is_none() {
            self.insert(client_id, Session::opened(index));
        }
        self.give_up_excess(client_id);
    }

    /// Ends a session that does not live. Returns whether it was open.
    pub(super) fn close(&mut self, client_id: ClientId) -> bool {
        if !self.is_open(client_id) {
            return false;
        }
        let closed = Arc::make_mut(&mut self.sessions).remove(&client_id);
        self.bytes -= closed.map_or(0, |closed| closed.bytes());
        true
    }

    /// Whether a session that does not live is open.
    pub fn is_open(&self, client_id: ClientId) -> bool {
        self.sessions.contains_key(&client_id)
    }

    /// The living sessions.
    pub fn living(&self) -> &LivingSessions {
        &self.living
    }

    pub(super) fn living_mut(&mut self) -> &mut LivingSessions {
        &mut self.living
    }

    /// The session, living or not, if it exists. Marks it as used by the command at `index`.
    fn use_session(&mut self, client_id: ClientId, index: LogIndex) -> Option<&mut Session> {
        let session = if self.sessions.contains_key(&client_id) {
            let session = Arc::make_mut(&mut self.sessions).get_mut(&client_id)?;
            Arc::make_mut(session)
        } else {
            &mut self.living.get_mut(client_id)?.session
        };
        session.last_used = index;
        Some(session)
    }

    /// The count of the bytes of a session and others like it.
    fn bytes_beside(&mut self, client_id: ClientId) -> &mut usize {
        match self.is_open(client_id) {
            true => &mut self.bytes,
            false => &mut self.living.answer_bytes,
        }
    }

    /// The session, if it exists and, living, is not over at the time `now`.
    fn get(&self, client_id: ClientId, now: Millis) -> Option<&Session> {
        let living = || Some(&self.living.alive(client_id, now)?.session);
        let session = self.sessions.get(&client_id).map(Arc::as_ref);
        session.or_else(living)
    }

    /// The state of the write with the number `stamp` at the time `now` of the replicated clock.
    pub fn check(&self, stamp: &Stamp, now: Millis) -> Verdict {
        let Some(session) = self.get(stamp.client_id, now) else {
            return Verdict::Expired;
        };
        match session.answers.get(&stamp.sequence) {
            Some(written) => Verdict::Applied(written.clone()),
            None if stamp.sequence < session.first_outstanding => Verdict::Expired,
            None => Verdict::New,
        }
    }

    /// Records that the log holds the write with the number `stamp` at `index`: its session is in use,
    /// and the client no longer waits for the numbers below `stamp.first_outstanding`.
    pub fn acknowledge(&mut self, stamp: &Stamp, index: LogIndex) {
        if let Some(session) = self.use_session(stamp.client_id, index) {
            let forgotten = session.forget(stamp.first_outstanding);
            *self.bytes_beside(stamp.client_id) -= forgotten;
        }
    }

    /// Whether the answer to a write of this session other than a transaction may be remembered. Sessions
    /// that do not live make room for one another, so this is about the others.
    pub fn has_room(&self, client_id: ClientId) -> bool {
        self.is_open(client_id) || self.living.has_room(ANSWER_BYTES)
    }

    /// `effect`, of a write of a living session, if it may be remembered; [`Effect::AnswersFull`] otherwise.
    pub(super) fn with_room(&self, effect: Effect) -> Effect {
        match self.living.has_room(ANSWER_BYTES + effect_bytes(&effect)) {
            true => effect,
            false => Effect::AnswersFull,
        }
    }

    /// Whether the outcome of a transaction of this session fits among its remembered answers.
    ///
    /// # Errors
    ///
    /// The effect of the transaction otherwise: [`Effect::AnswerTooLarge`] if it exceeds
    /// [`MAX_REMEMBERED_BYTES`] that one answer may have read, or [`MAX_SESSION_ANSWER_BYTES`] that all of a
    /// session count for; [`Effect::AnswersFull`] if it exceeds [`MAX_LIVING_ANSWER_BYTES`].
    pub fn fits(
        &self,
        client_id: ClientId,
        now: Millis,
        outcome: &TxnOutcome,
    ) -> Result<(), Effect> {
        let too_large = |limit| Err(Effect::AnswerTooLarge { limit });
        if outcome.bytes() > MAX_REMEMBERED_BYTES {
            return too_large(MAX_REMEMBERED_BYTES);
        }
        let session = self.get(client_id, now);
        let answers = session.map(|session| session.answers.values().map(Written::txn_bytes).sum());
        let taken: usize = answers.unwrap_or(0);
        let bytes = counted_bytes(outcome);
        if taken + bytes > MAX_SESSION_ANSWER_BYTES {
            return too_large(MAX_SESSION_ANSWER_BYTES);
        }
        match self.is_open(client_id) || self.living.has_room(ANSWER_BYTES + bytes) {
            true => Ok(()),
            false => Err(Effect::AnswersFull),
        }
    }

    /// Remembers the result of a write, the command at `index`: of a [new](Verdict::New) one, or another result
    /// than before.
    pub fn remember(&mut self, stamp: &Stamp, index: LogIndex, written: Written) {
        let session = self.use_session(stamp.client_id, index);
        let Some(session) = session else { return };
        let bytes = written.bytes();
        let replaced = session.answers.insert(stamp.sequence, written);
        let beside = self.bytes_beside(stamp.client_id);
        *beside += bytes;
        *beside -= replaced.map_or(0, |replaced| replaced.bytes());
        self.give_up_excess(stamp.client_id);
    }

    /// Expires sessions that do not live, the least recently used first, until the rest keep within the bounds. The
    /// session `but`, whose command is being applied, stays: alone it is always within the bounds.
    fn give_up_excess(&mut self, but: ClientId) {
        while (self.sessions.len() > MAX_SESSIONS || self.bytes > MAX_SESSION_BYTES)
            && let Some(oldest) = self.oldest(but)
            && let Some(session) = Arc::make_mut(&mut self.sessions).remove(&oldest)
        {
            self.bytes -= session.bytes();
        }
    }

    /// The least recently used session except `but`. No two sessions were last used by the same command.
    fn oldest(&self, but: ClientId) -> Option<ClientId> {
        let others = self.sessions.iter().filter(|(id, _)| **id != but);
        let oldest = others.min_by_key(|(_, session)| session.last_used);
        oldest.map(|(id, _)| *id)
    }

    /// Restores a session from a snapshot, one that does not live.
    pub fn insert(&mut self, client_id: ClientId, session: Session) {
        self.bytes += session.bytes();
        let replaced = Arc::make_mut(&mut self.sessions).insert(client_id, Arc::new(session));
        self.bytes -= replaced.map_or(0, |replaced| replaced.bytes());
    }

    /// Every session that does not live, in ascending order of its id.
    pub fn sorted(&self) -> Vec<(ClientId, Arc<Session>)> {
        let sessions = self.sessions.iter();
        let mut sessions: Vec<_> = sessions
            .map(|(id, session)| (*id, Arc::clone(session)))
            .collect();
        sessions.sort_unstable_by_key(|(id, _)| *id);
        sessions
    }

    /// Memory of all sessions in bytes, without the keys that they own.
    pub fn memory(&self) -> usize {
        self.sessions.len() * SESSION_MEMORY + self.bytes + self.living.memory()
    }

    /// The number of sessions that do not live.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session that does not live.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

const _: () = assert!(
    SESSION_BYTES + 1024 * ANSWER_BYTES + MAX_SESSION_ANSWER_BYTES <= MAX_SESSION_BYTES,
    "one session must fit"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{ClaimId, Entry, Holder, Lifetime, OperationResult, TxnOutcome};
    use crate::types::Key;

    fn stamp(client: u64, sequence: u64, first_outstanding: u64) -> Stamp {
        Stamp {
            client_id: ClientId(client),
            sequence,
            first_outstanding,
        }
    }

    fn done(index: LogIndex) -> Written {
        Written {
            effect: Effect::Deleted { existed: true },
            revision: index,
        }
    }

    /// A write of a session: checked, and remembered if it is new.
    fn write(sessions: &mut Sessions, stamp: &Stamp, index: LogIndex) -> Verdict {
        let verdict = sessions.check(stamp, 0);
        sessions.acknowledge(stamp, index);
        if verdict == Verdict::New {
            sessions.remember(stamp, index, done(index));
        }
        verdict
    }

    fn counted(sessions: &Sessions) -> usize {
        let sessions = sessions.sorted().into_iter();
        sessions.map(|(_, session)| session.bytes()).sum()
    }

    #[test]
    fn the_memory_of_all_sessions_is_what_the_documentation_says() {
        assert_eq!(MAX_SESSION_MEMORY, (64 << 20) + 4096 * 336);
    }

    #[test]
    fn each_session_and_each_answer_counts_in_memory() {
        let mut sessions = Sessions::default();
        assert_eq!((sessions.memory(), sessions.is_empty()), (0, true));
        for (client, answers) in [(1, 2), (2, 1)] {
            sessions.open(ClientId(client), client);
            for sequence in 1..=answers {
                write(
                    &mut sessions,
                    &stamp(client, sequence, 1),
                    10 * client + sequence,
                );
            }
        }
        assert_eq!(sessions.memory(), 2 * (336 + 64) + 3 * 48);
        assert!(!sessions.is_empty());
    }

    #[test]
    fn a_session_that_takes_the_place_of_another_counts_once() {
        let mut sessions = Sessions::default();
        for _ in 0..2 {
            sessions.insert(ClientId(7), Session::default());
            assert_eq!(sessions.bytes, counted(&sessions));
        }
    }

    #[test]
    fn sessions_that_take_exactly_the_bound_stay() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(1), 1);
        sessions.open(ClientId(2), 2);
        sessions.bytes = MAX_SESSION_BYTES;
        sessions.give_up_excess(ClientId(2));
        assert_eq!(sessions.len(), 2);
        sessions.bytes += 1;
        sessions.give_up_excess(ClientId(2));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_write_that_comes_again_gets_the_first_answer() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(7), 2);
        for (sequence, index) in [(2, 3), (1, 4), (3, 5)] {
            let stamp = stamp(7, sequence, 1);
            assert_eq!(write(&mut sessions, &stamp, index), Verdict::New);
            let again = write(&mut sessions, &stamp, index + 10);
            assert_eq!(again, Verdict::Applied(done(index)));
        }
    }

    #[test]
    fn acknowledged_numbers_are_forgotten_and_never_new() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(7), 2);
        for sequence in 1..=4 {
            write(&mut sessions, &stamp(7, sequence, 1), 2 + sequence);
        }
        write(&mut sessions, &stamp(7, 5, 4), 9);
        assert_eq!(sessions.check(&stamp(7, 3, 3), 0), Verdict::Expired);
        assert_eq!(
            sessions.check(&stamp(7, 4, 4), 0),
            Verdict::Applied(done(6))
        );
        // A late duplicate does not restore forgotten answers.
        write(&mut sessions, &stamp(7, 4, 1), 10);
        assert_eq!(sessions.check(&stamp(7, 2, 1), 0), Verdict::Expired);
        assert_eq!(sessions.bytes, counted(&sessions));
    }

    #[test]
    fn a_session_that_is_not_there_has_expired() {
        let mut sessions = Sessions::default();
        assert_eq!(write(&mut sessions, &stamp(7, 1, 1), 2), Verdict::Expired);
        assert!(sessions.is_empty());
    }

    #[test]
    fn opening_again_changes_nothing_but_when_it_was_used() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(7), 2);
        write(&mut sessions, &stamp(7, 1, 1), 3);
        sessions.open(ClientId(7), 4);
        assert_eq!(
            sessions.check(&stamp(7, 1, 1), 0),
            Verdict::Applied(done(3))
        );
        assert_eq!(sessions.sorted()[0].1.last_used, 4);
    }

    #[test]
    fn too_many_sessions_cost_the_one_used_least_recently() {
        let mut sessions = Sessions::default();
        let max = u64::try_from(MAX_SESSIONS).unwrap();
        for client in 1..=max {
            sessions.open(ClientId(client), client);
        }
        write(&mut sessions, &stamp(1, 1, 1), max + 1);
        sessions.open(ClientId(max + 1), max + 2);
        assert_eq!(sessions.len(), MAX_SESSIONS);
        assert_eq!(sessions.check(&stamp(2, 1, 1), 0), Verdict::Expired);
        assert_ne!(sessions.check(&stamp(1, 1, 1), 0), Verdict::Expired);
        assert_eq!(sessions.bytes, counted(&sessions));
    }

    #[test]
    fn too_many_answers_cost_sessions_too_but_never_the_one_in_use() {
        let mut sessions = Sessions::default();
        let (mut index, clients) = (0, 800);
        for client in 1..=clients {
            index += 1;
            sessions.open(ClientId(client), index);
            for sequence in 1..=MAX_OUTSTANDING {
                index += 1;
                let verdict = write(&mut sessions, &stamp(client, sequence, 1), index);
                assert_eq!(verdict, Verdict::New);
            }
        }
        assert!(sessions.bytes <= MAX_SESSION_BYTES);
        assert!(sessions.bytes > MAX_SESSION_BYTES - 64 * 1024);
        assert_eq!(sessions.bytes, counted(&sessions));
        assert_eq!(sessions.check(&stamp(1, 1, 1), 0), Verdict::Expired);
        assert_ne!(sessions.check(&stamp(clients, 1, 1), 0), Verdict::Expired);
    }

    /// An outcome that counts for `bytes`.
    fn outcome(bytes: usize) -> TxnOutcome {
        let entry = Entry {
            key: Key::new(),
            value: vec![0; bytes - RESULT_BYTES].into(),
            revision: 1,
            lifetime: Lifetime::Unlimited,
        };
        TxnOutcome {
            succeeded: true,
            results: vec![OperationResult::Got(Some(entry))],
        }
    }

    #[test]
    fn the_answers_to_transactions_of_a_session_have_a_bound() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(7), 2);
        sessions.open(ClientId(8), 3);
        let (largest, all) = (
            MAX_REMEMBERED_BYTES + RESULT_BYTES,
            MAX_SESSION_ANSWER_BYTES,
        );
        let fits = |sessions: &Sessions, client, bytes| {
            sessions.fits(ClientId(client), 0, &outcome(bytes))
        };
        let too_large = |limit| Err(Effect::AnswerTooLarge { limit });
        assert_eq!(fits(&sessions, 7, largest), Ok(()));
        assert_eq!(
            fits(&sessions, 7, largest + 1),
            too_large(MAX_REMEMBERED_BYTES)
        );
        let carried_out = |bytes| Written {
            effect: Effect::Txn(outcome(bytes).into()),
            revision: 1,
        };
        write(&mut sessions, &stamp(7, 1, 1), 4);
        let count = all / MAX_REMEMBERED_BYTES - 1;
        for sequence in (2..).take(count) {
            sessions.remember(&stamp(7, sequence, 1), 5, carried_out(MAX_REMEMBERED_BYTES));
        }
        assert_eq!(
            fits(&sessions, 7, MAX_REMEMBERED_BYTES),
            Ok(()),
            "exactly one more"
        );
        assert_eq!(fits(&sessions, 7, MAX_REMEMBERED_BYTES + 1), too_large(all));
        let results = TxnOutcome {
            succeeded: true,
            results: vec![OperationResult::Set; MAX_REMEMBERED_BYTES / RESULT_BYTES + 1],
        };
        assert_eq!(
            sessions.fits(ClientId(7), 0, &results),
            too_large(all),
            "results count"
        );
        assert_eq!(fits(&sessions, 8, largest), Ok(()), "another session");
        assert_eq!(sessions.bytes, counted(&sessions));
        // What the client no longer waits for makes room.
        let last = u64::try_from(count).unwrap() + 1;
        sessions.acknowledge(&stamp(7, last, last), 8);
        assert_eq!(fits(&sessions, 7, largest), Ok(()));
        assert_eq!(sessions.bytes, counted(&sessions));
        assert_eq!(sessions.bytes, 2 * 64 + 48 + MAX_REMEMBERED_BYTES);
    }

    #[test]
    fn another_answer_to_the_same_number_takes_the_place_of_the_first() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(7), 2);
        for bytes in [RESULT_BYTES + 100, RESULT_BYTES + 50] {
            let written = Written {
                effect: Effect::Txn(outcome(bytes).into()),
                revision: 3,
            };
            sessions.remember(&stamp(7, 1, 1), 3, written);
            assert_eq!(sessions.bytes, counted(&sessions));
        }
    }

    #[test]
    fn the_answer_that_a_lock_is_held_counts_with_its_holder() {
        let mut sessions = Sessions::default();
        for bytes in [0, 100] {
            let occupied = Effect::Occupied(Box::new(Holder {
                claim: ClaimId {
                    client_id: ClientId(7),
                    sequence: 1,
                },
                token: 1,
                value: vec![0; bytes].into(),
            }));
            let counted = ANSWER_BYTES + HOLDER_BYTES + bytes;
            sessions.living.answer_bytes = MAX_LIVING_ANSWER_BYTES - counted;
            assert_eq!(sessions.with_room(occupied.clone()), occupied);
            sessions.living.answer_bytes += 1;
            assert_eq!(sessions.with_room(occupied), Effect::AnswersFull);
        }
    }

    #[test]
    fn a_copy_holds_still() {
        let mut sessions = Sessions::default();
        sessions.open(ClientId(7), 2);
        let copy = sessions.clone();
        write(&mut sessions, &stamp(7, 1, 1), 3);
        assert_eq!(copy.check(&stamp(7, 1, 1), 0), Verdict::New);
        assert_ne!(copy, sessions);
    }

    #[test]
    fn numbers_that_make_no_sense_are_known() {
        assert!(stamp(1, 1, 1).is_valid());
        assert!(stamp(1, MAX_OUTSTANDING, 1).is_valid());
        for (sequence, first) in [(0, 0), (1, 0), (1, 2), (MAX_OUTSTANDING + 1, 1)] {
            assert!(!stamp(1, sequence, first).is_valid(), "{sequence} {first}");
        }
    }
}
