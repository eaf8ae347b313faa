//! The records of sessions in a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::{
    ClaimState, Effect, Holder, LivingSession, MAX_OWNED_KEYS, Session, Sessions, Written,
};
use crate::proto::kv as proto;
use crate::proto::kv::remembered_answer::Effect as Remembered;
use crate::types::ClientId;
use crate::wire::{WireError, time};

/// The record of a session that does not live.
fn session_record(client_id: ClientId, session: &Session) -> proto::SessionRecord {
    let Session {
        last_used,
        first_outstanding,
        answers,
    } = session;
    let answers = answers.iter().filter_map(|(&sequence, written)| {
        let effect = match &written.effect {
            Effect::Set => Remembered::Set(true),
            Effect::Deleted { existed } => Remembered::Existed(*existed),
            Effect::Txn(outcome) => {
                Remembered::Txn(Arc::unwrap_or_clone(Arc::clone(outcome)).into())
            }
            Effect::AnswerTooLarge { limit } => {
                Remembered::AnswerLimit(u64::try_from(*limit).unwrap_or(u64::MAX))
            }
            Effect::OwnerExpired(owner) => Remembered::ExpiredOwner(owner.0),
            Effect::TooManyOwned => {
                Remembered::OwnedLimit(u64::try_from(MAX_OWNED_KEYS).unwrap_or(u64::MAX))
            }
            Effect::Claimed(_) => Remembered::Claimed(true),
            Effect::Occupied(holder) => Remembered::Occupied(Holder::clone(holder).into()),
            Effect::Released => Remembered::Released(true),
            // Only writes are remembered, and none that may yet be carried out.
            Effect::MembersDecided
            | Effect::LevelRaised
            | Effect::SessionOpened { .. }
            | Effect::SessionClosed { .. }
            | Effect::ClockAdvanced
            | Effect::SessionExpired
            | Effect::TooManySessions
            | Effect::SessionDoesNotLive
            | Effect::TooManyClaims
            | Effect::AnswersFull => return None,
        };
        Some(proto::RememberedAnswer {
            sequence,
            applied_index: written.revision,
            effect: Some(effect),
        })
    });
    proto::SessionRecord {
        client_id: client_id.0,
        last_used: *last_used,
        first_outstanding: *first_outstanding,
        answers: answers.collect(),
        ttl_ms: 0,
        deadline_ms: 0,
    }
}

/// The record of a living session.
fn living_record(client_id: ClientId, living: &LivingSession) -> proto::SessionRecord {
    let LivingSession {
        ttl,
        deadline,
        // Each pair names its owner.
        owned: _,
        session,
    } = living;
    proto::SessionRecord {
        ttl_ms: u32::try_from(*ttl).unwrap_or(u32::MAX),
        deadline_ms: *deadline,
        ..session_record(client_id, session)
    }
}

/// A session to be written, without a copy.
#[derive(Debug)]
pub(super) enum Unwritten {
    Usual(Arc<Session>),
    Living(Arc<LivingSession>),
}

impl Unwritten {
    /// Its record.
    pub(super) fn record(&self, client_id: ClientId) -> proto::SessionRecord {
        match self {
            Self::Usual(session) => session_record(client_id, session),
            Self::Living(session) => living_record(client_id, session),
        }
    }
}

/// Every session, in ascending order of its id.
pub(super) fn unwritten(sessions: &Sessions) -> Vec<(ClientId, Unwritten)> {
    let usual = sessions.sorted().into_iter();
    let usual = usual.map(|(id, session)| (id, Unwritten::Usual(session)));
    let living = sessions.living().iter();
    let living = living.map(|(id, session)| (*id, Unwritten::Living(Arc::clone(session))));
    let mut all: Vec<_> = usual.chain(living).collect();
    all.sort_unstable_by_key(|(id, _)| *id);
    all
}

/// A session that was read.
pub(super) enum Restored {
    Usual(Session),
    Living(LivingSession),
}

/// The session of a record, and its id.
///
/// # Errors
///
/// If the answers are not in ascending order of their number, or one has no effect; if its TTL is not one of a
/// session.
pub(super) fn session(record: proto::SessionRecord) -> Result<(ClientId, Restored), WireError> {
    let proto::SessionRecord {
        client_id,
        last_used,
        first_outstanding,
        answers,
        ttl_ms,
        deadline_ms,
    } = record;
    let fault = |field, reason: &str| WireError::new("SessionRecord", field, reason);
    let mut session = Session {
        last_used,
        first_outstanding,
        answers: BTreeMap::new(),
    };
    for answer in answers {
        let proto::RememberedAnswer {
            sequence,
            applied_index: revision,
            effect,
        } = answer;
        let effect = match effect {
            Some(Remembered::Set(_)) => Effect::Set,
            Some(Remembered::Existed(existed)) => Effect::Deleted { existed },
            Some(Remembered::Txn(outcome)) => Effect::Txn(Arc::new(outcome.try_into()?)),
            Some(Remembered::AnswerLimit(limit)) => Effect::AnswerTooLarge {
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            Some(Remembered::ExpiredOwner(owner)) => Effect::OwnerExpired(ClientId(owner)),
            Some(Remembered::OwnedLimit(_)) => Effect::TooManyOwned,
            // The state of the claim is found when it is asked for.
            Some(Remembered::Claimed(_)) => Effect::Claimed(ClaimState::Gone),
            Some(Remembered::Occupied(holder)) => Effect::Occupied(Box::new(holder.into())),
            Some(Remembered::Released(_)) => Effect::Released,
            None => return Err(fault("answers", "one without an effect")),
        };
        let last = session.answers.last_key_value().map(|(&last, _)| last);
        if sequence < first_outstanding || last.is_some_and(|last| sequence <= last) {
            return Err(fault("answers", "not in ascending order of their number"));
        }
        session
            .answers
            .insert(sequence, Written { effect, revision });
    }
    let restored = match time::living_ttl("SessionRecord", ttl_ms)? {
        None if deadline_ms > 0 => return Err(fault("deadline_ms", "without a TTL")),
        None => Restored::Usual(session),
        Some(ttl) => Restored::Living(LivingSession {
            ttl,
            deadline: deadline_ms,
            session,
            ..LivingSession::default()
        }),
    };
    Ok((ClientId(client_id), restored))
}
