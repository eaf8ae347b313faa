//! The records of sessions in a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::{Effect, Session, Written};
use crate::proto::kv as proto;
use crate::proto::kv::remembered_answer::Effect as Remembered;
use crate::types::ClientId;
use crate::wire::WireError;

/// The record of a session.
pub(super) fn session_record(client_id: ClientId, session: &Session) -> proto::SessionRecord {
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
            // Only writes are remembered.
            Effect::MembersDecided
            | Effect::LevelRaised
            | Effect::SessionOpened
            | Effect::SessionExpired => return None,
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
    }
}

/// The session of a record, and its id.
///
/// # Errors
///
/// If the answers are not in ascending order of their number, or one has no effect.
pub(super) fn session(record: proto::SessionRecord) -> Result<(ClientId, Session), WireError> {
    let proto::SessionRecord {
        client_id,
        last_used,
        first_outstanding,
        answers,
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
    Ok((ClientId(client_id), session))
}
