//! Locks: in requests, in the log, in snapshots, and in answers.

use std::sync::Arc;

use crate::kv::{
    Acquire, Claim, ClaimId, ClaimState, Holder, LockName, LockPage, LockState, Locks,
    MAX_CLAIM_VALUE_BYTES, MAX_CLAIM_WAIT, MAX_LOCK_NAME_BYTES, Stamp,
};
use crate::proto::kv as proto;
use crate::proto::lock;
use crate::types::{ClientId, Revision};
use crate::wire::WireError;

/// The name of a lock in the message `message`.
///
/// # Errors
///
/// If it is empty, or too long.
pub fn lock_name(message: &'static str, name: &str) -> Result<LockName, WireError> {
    match name.len() {
        0 => Err(WireError::new(message, "name", "empty")),
        1..=MAX_LOCK_NAME_BYTES => Ok(name.into()),
        bytes => {
            let reason = format!("{bytes} bytes: at most {MAX_LOCK_NAME_BYTES}");
            Err(WireError::new(message, "name", reason))
        }
    }
}

/// The stamp of a command that has to have one.
fn stamp(message: &'static str, stamp: Option<proto::SessionStamp>) -> Result<Stamp, WireError> {
    let missing = || WireError::new(message, "session", "missing");
    stamp.ok_or_else(missing)?.try_into()
}

/// The command that claims a lock.
pub(super) fn acquire_command(
    acquire: Acquire,
    session: Option<proto::SessionStamp>,
) -> proto::AcquireCommand {
    let Acquire {
        name,
        value,
        max_wait,
    } = acquire;
    proto::AcquireCommand {
        name: name.to_string(),
        session,
        value,
        max_wait_ms: max_wait,
    }
}

/// The claim that a command makes, and its number.
///
/// # Errors
///
/// If the command breaks a rule of the protocol.
pub(super) fn acquire(command: proto::AcquireCommand) -> Result<(Acquire, Stamp), WireError> {
    let proto::AcquireCommand {
        name,
        session,
        value,
        max_wait_ms: max_wait,
    } = command;
    const NAME: &str = "AcquireCommand";
    if value.len() > MAX_CLAIM_VALUE_BYTES {
        let reason = format!("{} bytes: at most {MAX_CLAIM_VALUE_BYTES}", value.len());
        return Err(WireError::new(NAME, "value", reason));
    }
    if max_wait.is_some_and(|wait| wait > MAX_CLAIM_WAIT) {
        let reason = format!("more than {MAX_CLAIM_WAIT}");
        return Err(WireError::new(NAME, "max_wait_ms", reason));
    }
    let acquire = Acquire {
        name: lock_name(NAME, &name)?,
        value,
        max_wait,
    };
    Ok((acquire, stamp(NAME, session)?))
}

/// The command that ends a claim.
pub(super) fn release_command(
    name: &LockName,
    session: Option<proto::SessionStamp>,
) -> proto::ReleaseCommand {
    proto::ReleaseCommand {
        name: name.to_string(),
        session,
    }
}

/// The lock of a claim that a command ends, and the number of the claim.
///
/// # Errors
///
/// If the command breaks a rule of the protocol.
pub(super) fn release(command: proto::ReleaseCommand) -> Result<(LockName, Stamp), WireError> {
    let proto::ReleaseCommand { name, session } = command;
    const NAME: &str = "ReleaseCommand";
    Ok((lock_name(NAME, &name)?, stamp(NAME, session)?))
}

/// A claim to be written into a snapshot, without a copy: the lock, the revision at which it began, and its
/// token if it holds the lock.
pub(super) type UnwrittenClaim = (LockName, Revision, Arc<Claim>, Option<Revision>);

/// Every claim, in the order of its lock's name, then of its beginning.
pub(super) fn unwritten(locks: &Locks) -> Vec<UnwrittenClaim> {
    let all = locks.all();
    let all = all.map(|(name, began, claim, token)| {
        let (name, claim) = (LockName::clone(name), Arc::clone(claim));
        (name, began, claim, token)
    });
    all.collect()
}

/// The record of a claim.
pub(super) fn claim_record(claim: &UnwrittenClaim) -> proto::ClaimRecord {
    let (name, began, claim, token) = claim;
    let Claim {
        id: ClaimId {
            client_id,
            sequence,
        },
        value,
        deadline,
    } = &**claim;
    proto::ClaimRecord {
        name: name.to_string(),
        client_id: client_id.0,
        sequence: *sequence,
        revision: *began,
        token: token.unwrap_or(0),
        value: value.clone(),
        deadline_ms: *deadline,
    }
}

/// A claim of a snapshot: the lock, the revision at which it began, and its token if it holds the lock.
pub(super) type RestoredClaim = (LockName, Revision, Claim, Option<Revision>);

/// The claim of a record.
///
/// # Errors
///
/// If the record breaks a rule of the protocol.
pub(super) fn restored_claim(record: proto::ClaimRecord) -> Result<RestoredClaim, WireError> {
    let proto::ClaimRecord {
        name,
        client_id,
        sequence,
        revision,
        token,
        value,
        deadline_ms: deadline,
    } = record;
    let claim = Claim {
        id: ClaimId {
            client_id: ClientId(client_id),
            sequence,
        },
        // A copy: a slice would keep the bytes of the snapshot in memory.
        value: bytes::Bytes::copy_from_slice(&value),
        deadline,
    };
    let name = lock_name("ClaimRecord", &name)?;
    Ok((name, revision, claim, (token != 0).then_some(token)))
}

/// In a remembered answer.
impl From<Holder> for proto::LockHolder {
    fn from(holder: Holder) -> Self {
        let Holder {
            claim: ClaimId {
                client_id,
                sequence,
            },
            token,
            value,
        } = holder;
        Self {
            client_id: client_id.0,
            sequence,
            token,
            value,
        }
    }
}

impl From<proto::LockHolder> for Holder {
    fn from(holder: proto::LockHolder) -> Self {
        let proto::LockHolder {
            client_id,
            sequence,
            token,
            value,
        } = holder;
        Self {
            claim: ClaimId {
                client_id: ClientId(client_id),
                sequence,
            },
            token,
            value,
        }
    }
}

/// In an answer to a client.
impl From<Holder> for lock::Holder {
    fn from(holder: Holder) -> Self {
        let Holder {
            claim:
                ClaimId {
                    client_id,
                    sequence: claim,
                },
            token,
            value,
        } = holder;
        Self {
            client_id: client_id.0,
            claim,
            token,
            value,
        }
    }
}

/// The answer to an Acquire whose claim is in this state. Without the cluster.
pub fn acquire_response(state: ClaimState) -> lock::AcquireResponse {
    use lock::acquire_response::Result;
    lock::AcquireResponse {
        result: Some(match state {
            ClaimState::Held(token) => Result::Held(lock::Held { token }),
            ClaimState::Waiting(ahead) => Result::Waiting(lock::Waiting { ahead }),
            ClaimState::Gone => Result::Gone(lock::Gone {}),
        }),
        cluster_id: None,
    }
}

/// The answer to an Acquire that was not to wait. Without the cluster.
pub fn occupied_response(holder: Holder) -> lock::AcquireResponse {
    use lock::acquire_response::Result;
    let holder = Some(holder.into());
    lock::AcquireResponse {
        result: Some(Result::Occupied(lock::Occupied { holder })),
        cluster_id: None,
    }
}

/// The answer to an Await. Without the cluster.
pub fn await_response(state: ClaimState) -> lock::AwaitResponse {
    use lock::await_response::Result;
    lock::AwaitResponse {
        result: Some(match state {
            ClaimState::Held(token) => Result::Held(lock::Held { token }),
            ClaimState::Waiting(ahead) => Result::Waiting(lock::Waiting { ahead }),
            ClaimState::Gone => Result::Gone(lock::Gone {}),
        }),
        cluster_id: None,
    }
}

/// The answer to ListLocks. Without the revision and the cluster.
pub fn list_locks_response(page: LockPage) -> lock::ListLocksResponse {
    let LockPage { locks, more } = page;
    let locks = locks.into_iter().map(|(name, state)| {
        let LockState { holder, waiting } = state;
        lock::Lock {
            name: name.to_string(),
            holder: holder.map(Into::into),
            waiting,
        }
    });
    lock::ListLocksResponse {
        locks: locks.collect(),
        more,
        revision: 0,
        cluster_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> proto::AcquireCommand {
        proto::AcquireCommand {
            name: "a".to_owned(),
            session: Some(proto::SessionStamp {
                client_id: 7,
                sequence: 1,
                first_outstanding: 1,
            }),
            value: vec![0; MAX_CLAIM_VALUE_BYTES].into(),
            max_wait_ms: Some(MAX_CLAIM_WAIT),
        }
    }

    fn refused(change: impl FnOnce(&mut proto::AcquireCommand)) -> &'static str {
        let mut command = command();
        change(&mut command);
        acquire(command).unwrap_err().field
    }

    #[test]
    fn a_claim_keeps_within_its_bounds() {
        assert!(acquire(command()).is_ok());
        assert_eq!(refused(|it| it.name.clear()), "name");
        assert_eq!(refused(|it| it.session = None), "session");
        assert_eq!(
            refused(|it| it.value = vec![0; MAX_CLAIM_VALUE_BYTES + 1].into()),
            "value"
        );
        assert_eq!(
            refused(|it| it.max_wait_ms = Some(MAX_CLAIM_WAIT + 1)),
            "max_wait_ms"
        );
    }

    fn holder() -> Holder {
        Holder {
            claim: ClaimId {
                client_id: ClientId(7),
                sequence: 3,
            },
            token: 9,
            value: "v".into(),
        }
    }

    /// The holder of [`holder`] in an answer.
    fn told() -> lock::Holder {
        lock::Holder {
            client_id: 7,
            claim: 3,
            token: 9,
            value: "v".into(),
        }
    }

    #[test]
    fn an_answer_has_the_state_of_the_claim() {
        use lock::{acquire_response as acquired, await_response as awaited};
        let held = lock::Held { token: 9 };
        let waiting = lock::Waiting { ahead: 2 };
        let gone = lock::Gone {};
        for (state, acquired, awaited) in [
            (
                ClaimState::Held(9),
                acquired::Result::Held(held),
                awaited::Result::Held(held),
            ),
            (
                ClaimState::Waiting(2),
                acquired::Result::Waiting(waiting),
                awaited::Result::Waiting(waiting),
            ),
            (
                ClaimState::Gone,
                acquired::Result::Gone(gone),
                awaited::Result::Gone(gone),
            ),
        ] {
            assert_eq!(acquire_response(state).result, Some(acquired));
            assert_eq!(await_response(state).result, Some(awaited));
        }
        let holder = Some(told());
        assert_eq!(
            occupied_response(self::holder()).result,
            Some(acquired::Result::Occupied(lock::Occupied { holder }))
        );
    }

    #[test]
    fn a_list_has_each_lock_with_its_holder() {
        let state = LockState {
            holder: Some(holder()),
            waiting: 2,
        };
        let page = LockPage {
            locks: vec![("a".into(), state)],
            more: true,
        };
        let listed = list_locks_response(page);
        let expected = lock::Lock {
            name: "a".to_owned(),
            holder: Some(told()),
            waiting: 2,
        };
        assert_eq!((listed.locks, listed.more), (vec![expected], true));
    }
}
