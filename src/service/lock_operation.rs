//! A client's request about locks, checked against the limits.

use super::operation::{Operation, stamp};
use crate::error::Refusal;
use crate::kv::{
    Acquire, ClaimId, Command, LockName, MAX_CLAIM_VALUE_BYTES, MAX_CLAIM_WAIT, Query, Stamp, Write,
};
use crate::proto::{kv, lock};
use crate::types::ClientId;
use crate::wire::{self, WireError};

/// Maximum number of locks in one answer.
const MAX_LISTED: usize = 1000;
/// Maximum bytes of the names and values in one answer.
const MAX_LISTED_BYTES: usize = 1 << 20;

fn invalid(error: WireError) -> Refusal {
    let WireError { field, reason, .. } = error;
    Refusal::invalid(field, reason)
}

fn numbered(session: Option<kv::Session>) -> Result<Stamp, Refusal> {
    let missing = || Refusal::invalid("session", "a claim is a number of a session");
    stamp(session.ok_or_else(missing)?)
}

impl Operation {
    /// The name of a lock in the request `message`.
    ///
    /// # Errors
    ///
    /// Why it is refused, surely not applied. The same holds for the constructors below.
    pub(super) fn lock_name(message: &'static str, name: &str) -> Result<LockName, Refusal> {
        wire::lock_name(message, name).map_err(invalid)
    }

    pub(super) fn acquire(request: lock::AcquireRequest) -> Result<Self, Refusal> {
        let lock::AcquireRequest {
            name,
            session,
            value,
            max_wait,
            cluster_id: _,
        } = request;
        let name = Self::lock_name("AcquireRequest", &name)?;
        if value.len() > MAX_CLAIM_VALUE_BYTES {
            let rule = format!("at most {MAX_CLAIM_VALUE_BYTES} bytes");
            return Err(Refusal::invalid("value", rule));
        }
        let max_wait = match max_wait.map(wire::millis) {
            None => None,
            Some(Some(wait)) if wait <= MAX_CLAIM_WAIT => Some(wait),
            Some(_) => return Err(Refusal::invalid("max_wait", "0 to 3650 days")),
        };
        let acquire = Box::new(Acquire {
            name,
            value,
            max_wait,
        });
        Ok(Self::Command(Command::Write {
            write: Write::Acquire(acquire),
            stamp: Some(numbered(session)?),
        }))
    }

    pub(super) fn release(request: lock::ReleaseRequest) -> Result<Self, Refusal> {
        let lock::ReleaseRequest {
            name,
            session,
            cluster_id: _,
        } = request;
        let name = Self::lock_name("ReleaseRequest", &name)?;
        Ok(Self::Command(Command::Write {
            write: Write::Release(name),
            stamp: Some(numbered(session)?),
        }))
    }

    /// The claim that an Await is about.
    pub(super) fn claim(request: lock::AwaitRequest) -> Result<(LockName, ClaimId), Refusal> {
        let lock::AwaitRequest {
            name,
            client_id,
            claim: sequence,
            cluster_id: _,
        } = request;
        let name = Self::lock_name("AwaitRequest", &name)?;
        let client_id = ClientId(client_id);
        let id = ClaimId {
            client_id,
            sequence,
        };
        Ok((name, id))
    }

    pub(super) fn lock(message: &'static str, name: &str) -> Result<Self, Refusal> {
        let name = Self::lock_name(message, name)?;
        Ok(Self::Query(Query::Lock(name)))
    }

    /// The locks of one answer, which is a message of at most `max_message` bytes.
    pub(super) fn locks(
        request: &lock::ListLocksRequest,
        max_message: usize,
    ) -> Result<Self, Refusal> {
        let lock::ListLocksRequest {
            after,
            limit,
            cluster_id: _,
        } = request;
        let after = match after.as_str() {
            "" => None,
            after => Some(Self::lock_name("ListLocksRequest", after)?),
        };
        let limit = match *limit {
            0 => MAX_LISTED,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        if limit > MAX_LISTED {
            let rule = format!("at most {MAX_LISTED}");
            return Err(Refusal::invalid("limit", rule));
        }
        let bytes = MAX_LISTED_BYTES.min(max_message / 2);
        Ok(Self::Query(Query::Locks {
            after,
            limit,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    fn request() -> lock::AcquireRequest {
        lock::AcquireRequest {
            name: "a".to_owned(),
            session: Some(kv::Session {
                client_id: 7,
                sequence: 1,
                first_outstanding: 1,
            }),
            ..lock::AcquireRequest::default()
        }
    }

    fn wait(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn a_claim_keeps_to_the_limits_of_the_protocol() {
        let longest = lock::AcquireRequest {
            name: "n".repeat(256),
            value: vec![0; 4096].into(),
            max_wait: wait(3_650 * 24 * 3_600, 0),
            ..request()
        };
        assert!(Operation::acquire(longest.clone()).is_ok());
        let more = [
            (
                "name",
                lock::AcquireRequest {
                    name: "n".repeat(257),
                    ..longest.clone()
                },
            ),
            (
                "value",
                lock::AcquireRequest {
                    value: vec![0; 4097].into(),
                    ..longest.clone()
                },
            ),
            (
                "max_wait",
                lock::AcquireRequest {
                    max_wait: wait(3_650 * 24 * 3_600, 1),
                    ..longest
                },
            ),
            (
                "max_wait",
                lock::AcquireRequest {
                    max_wait: wait(-1, 0),
                    ..request()
                },
            ),
            (
                "session",
                lock::AcquireRequest {
                    session: None,
                    ..request()
                },
            ),
        ];
        for (field, request) in more {
            let refusal = Operation::acquire(request).expect_err("too much");
            let Reason::InvalidRequest { field: named, .. } = &refusal.reason else {
                panic!("{refusal:?}");
            };
            assert_eq!(*named, field);
        }
    }

    #[test]
    fn a_list_begins_behind_a_name_and_has_a_limit() {
        let limit_of = |limit| {
            let request = lock::ListLocksRequest {
                limit,
                ..lock::ListLocksRequest::default()
            };
            match Operation::locks(&request, 1 << 20) {
                Ok(Operation::Query(Query::Locks {
                    after: None, limit, ..
                })) => Some(limit),
                _ => None,
            }
        };
        assert_eq!(
            [0, 1, 1000, 1001].map(limit_of),
            [Some(1000), Some(1), Some(1000), None]
        );
    }
}
