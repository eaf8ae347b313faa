//! A client's request, checked against the limits, from a single call or a pipeline.

use super::ServiceOptions;
use crate::error::{Reason, Refusal};
use crate::kv::{
    Command, KeyRange, MAX_OUTSTANDING, MAX_PART_BYTES, Query, Scan, Stamp, Txn, Write,
};
use crate::proto::kv;
use crate::types::{ClientId, Key};
use crate::wire;

/// Bytes that each condition and operation of a transaction counts for beside its key and value: its part
/// of a list, and the reference counts of its bytes.
const TXN_PART_BYTES: usize = 128;

/// Maximum number of sessions in a page of `ListSessions`.
const MAX_PAGE_SESSIONS: usize = 1000;

/// The operation of a request.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A command, which goes into the log.
    Command(Command),
    /// A read.
    Query(Query),
}

impl Operation {
    /// The operation of `request`.
    ///
    /// # Errors
    ///
    /// Why it is refused, surely not applied. The same holds for the constructors below.
    pub(super) fn set(request: kv::SetRequest, options: &ServiceOptions) -> Result<Self, Refusal> {
        let kv::SetRequest {
            key,
            value,
            session,
            cluster_id: _,
        } = request;
        check_key(&key, options)?;
        within("value", value.len(), options.max_value_bytes)?;
        write(Write::Set { key, value }, session)
    }

    pub(super) fn delete(
        request: kv::DeleteRequest,
        options: &ServiceOptions,
    ) -> Result<Self, Refusal> {
        let kv::DeleteRequest {
            key,
            session,
            cluster_id: _,
        } = request;
        check_key(&key, options)?;
        write(Write::Delete { key }, session)
    }

    pub(super) fn get(request: kv::GetRequest, options: &ServiceOptions) -> Result<Self, Refusal> {
        let kv::GetRequest { key, cluster_id: _ } = request;
        check_key(&key, options)?;
        Ok(Self::Query(Query::Get(key)))
    }

    pub(super) fn txn(request: kv::TxnRequest, options: &ServiceOptions) -> Result<Self, Refusal> {
        let kv::TxnRequest {
            conditions,
            success,
            failure,
            session,
            cluster_id: _,
        } = request;
        let txn = kv::TxnCommand {
            conditions,
            success,
            failure,
            session: None,
        };
        let txn = Txn::try_from(txn).map_err(|error| {
            Refusal::invalid("txn", format!("{}: {}", error.field, error.reason))
        })?;
        for (key, value) in txn.parts() {
            within("key", key.len(), options.max_key_bytes)?;
            within("value", value, options.max_value_bytes)?;
        }
        let limit = options
            .max_key_bytes
            .saturating_add(options.max_value_bytes);
        within("transaction", txn.bytes(), limit)?;
        let txn = Box::new(txn);
        match txn.writes() {
            true => write(Write::Txn(txn), session),
            // Safe to repeat, so its number has no meaning.
            false => Ok(Self::Query(Query::Txn(txn))),
        }
    }

    /// `keeps` is whether the state is to be kept if the range does not fit into one part.
    pub(super) fn scan(
        request: kv::ScanRequest,
        options: &ServiceOptions,
        keeps: bool,
    ) -> Result<Self, Refusal> {
        let kv::ScanRequest {
            range,
            limit,
            keys_only,
            count_only,
            cluster_id: _,
        } = request;
        let scan = Scan {
            range: key_range(range, options)?,
            limit: match limit {
                0 => u64::MAX,
                limit => limit,
            },
            keys_only,
            count_only,
            part_bytes: MAX_PART_BYTES.min(options.max_grpc_message_bytes / 2),
        };
        let scan = Box::new(scan);
        Ok(Self::Query(Query::Scan { scan, keeps }))
    }

    pub(super) fn open_session(request: kv::OpenSessionRequest) -> Result<Self, Refusal> {
        let kv::OpenSessionRequest {
            client_id,
            cluster_id: _,
            ttl,
        } = request;
        let client_id = session_id(client_id)?;
        let Some(ttl) = ttl else {
            return Ok(Self::Command(Command::OpenSession(client_id)));
        };
        let ttl = wire::session_ttl(ttl).map_err(|error| Refusal::invalid("ttl", error.reason))?;
        Ok(Self::Command(Command::OpenLivingSession { client_id, ttl }))
    }

    pub(super) fn close_session(request: kv::CloseSessionRequest) -> Result<Self, Refusal> {
        let kv::CloseSessionRequest {
            client_id,
            cluster_id: _,
        } = request;
        let client_id = session_id(client_id)?;
        Ok(Self::Command(Command::CloseSession(client_id)))
    }

    pub(super) fn list_sessions(request: kv::ListSessionsRequest) -> Result<Self, Refusal> {
        let kv::ListSessionsRequest {
            after_client_id,
            limit,
            cluster_id: _,
        } = request;
        let limit = match limit {
            0 => MAX_PAGE_SESSIONS,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        if limit > MAX_PAGE_SESSIONS {
            let rule = format!("at most {MAX_PAGE_SESSIONS}");
            return Err(Refusal::invalid("limit", rule));
        }
        let after = ClientId(after_client_id);
        Ok(Self::Query(Query::Sessions { after, limit }))
    }

    /// The number of keys that it reads.
    pub(super) fn reads(&self) -> usize {
        match self {
            Self::Query(Query::Gets(keys)) => keys.len(),
            Self::Query(
                Query::Get(_)
                | Query::Scan { .. }
                | Query::Sessions { .. }
                | Query::Claim { .. }
                | Query::Lock(_)
                | Query::Locks { .. },
            ) => 1,
            Self::Query(Query::Txn(txn))
            | Self::Command(Command::Write {
                write: Write::Txn(txn),
                ..
            }) => txn.operations().filter(|it| !it.writes()).count(),
            Self::Command(_) => 0,
        }
    }

    /// Bytes of its keys and values.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Command(Command::Write {
                write: Write::Set { key, value },
                ..
            }) => key.len().saturating_add(value.len()),
            Self::Command(Command::Write {
                write: Write::Delete { key },
                ..
            }) => key.len(),
            Self::Command(Command::Write {
                write: Write::Txn(txn),
                ..
            })
            | Self::Query(Query::Txn(txn)) => counted(txn),
            Self::Command(Command::Write {
                write: Write::Acquire(acquire),
                ..
            }) => acquire.name.len().saturating_add(acquire.value.len()),
            Self::Query(query) => query.bytes(),
            Self::Command(_) => 0,
        }
    }
}

/// The range of a request.
pub(super) fn key_range(
    range: Option<kv::KeyRange>,
    options: &ServiceOptions,
) -> Result<KeyRange, Refusal> {
    let range = range.ok_or_else(|| Refusal::invalid("range", "one is needed"))?;
    let range = KeyRange::try_from(range)
        .map_err(|error| Refusal::invalid("range", format!("{}: {}", error.field, error.reason)))?;
    if let Some(key) = range.as_key() {
        within("key", key.len(), options.max_key_bytes)?;
    }
    // A range behind the longest key begins with that key and one byte more.
    let longest = options.max_key_bytes.saturating_add(1);
    within("key", range.longest(), longest)?;
    Ok(range)
}

/// Bytes that a transaction counts for while it waits.
fn counted(txn: &Txn) -> usize {
    let parts = txn.parts().count().saturating_mul(TXN_PART_BYTES);
    txn.bytes().saturating_add(parts)
}

fn write(write: Write, session: Option<kv::Session>) -> Result<Operation, Refusal> {
    let stamp = session.map(stamp).transpose()?;
    Ok(Operation::Command(Command::Write { write, stamp }))
}

pub(super) fn stamp(session: kv::Session) -> Result<Stamp, Refusal> {
    let kv::Session {
        client_id,
        sequence,
        first_outstanding,
    } = session;
    let stamp = Stamp {
        client_id: ClientId(client_id),
        sequence,
        first_outstanding,
    };
    if stamp.is_valid() {
        return Ok(stamp);
    }
    let rule = format!(
        "1 ≤ first_outstanding ≤ sequence < first_outstanding + {MAX_OUTSTANDING}; \
         not {first_outstanding} and {sequence}"
    );
    Err(Refusal::invalid("session", rule))
}

/// The refusal of a write whose session has used its number for a write of another kind: the session
/// remembers the answer to that one.
pub(super) fn numbered_twice() -> Refusal {
    let rule = "its sequence was given to a write of another kind before".to_owned();
    Refusal::invalid("session", rule)
}

/// The id of a session in a request.
///
/// # Errors
///
/// A refusal of 0, which is none.
pub(super) fn session_id(client_id: u64) -> Result<ClientId, Refusal> {
    match client_id {
        0 => Err(Refusal::invalid("client_id", "not 0")),
        client_id => Ok(ClientId(client_id)),
    }
}

fn check_key(key: &Key, options: &ServiceOptions) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::invalid(
            "key",
            "a key has at least 1 byte".to_owned(),
        ));
    }
    within("key", key.len(), options.max_key_bytes)
}

fn within(what: &'static str, bytes: usize, limit: usize) -> Result<(), Refusal> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Refusal::not_applied(Reason::TooLarge {
        what,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
        node_id: None,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    const OPTIONS: ServiceOptions = ServiceOptions {
        max_key_bytes: 8,
        max_value_bytes: 12,
        max_grpc_message_bytes: 1 << 20,
        max_unread_bytes: 1 << 20,
        request_timeout: Duration::from_secs(1),
        transfer_timeout: Duration::from_secs(1),
        member_timeout: Duration::from_secs(1),
    };

    /// A request as it arrives.
    fn carried<M: Message + Default>(message: M) -> M {
        M::decode(Bytes::from(message.encode_to_vec())).expect("our own bytes")
    }

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..=most).prop_map(Bytes::from)
    }

    /// Numbers that make sense, and some that do not.
    fn session() -> impl Strategy<Value = Option<kv::Session>> {
        let near = (any::<u64>(), 0..4u64, 0..2 * MAX_OUTSTANDING);
        let session = near.prop_map(|(client_id, first_outstanding, more)| kv::Session {
            client_id,
            sequence: more,
            first_outstanding,
        });
        prop::option::of(session)
    }

    /// What is wrong with a request, by the name of the field at fault: the first that is.
    fn fault(key: &Bytes, value: &Bytes, session: Option<kv::Session>) -> Option<&'static str> {
        let numbers = session.is_none_or(|session| {
            let kv::Session {
                sequence,
                first_outstanding,
                ..
            } = session;
            (1..=sequence).contains(&first_outstanding) && sequence - first_outstanding < 1024
        });
        match (key.len(), value.len()) {
            (0 | 9.., _) => Some("key"),
            (_, 13..) => Some("value"),
            _ if !numbers => Some("session"),
            _ => None,
        }
    }

    fn refused(refusal: Refusal) -> &'static str {
        assert_eq!(refusal.applied, crate::error::Applied::No);
        match refusal.reason {
            Reason::InvalidRequest { field, .. } => field,
            Reason::TooLarge { what, .. } => what,
            other => panic!("{other}"),
        }
    }

    /// The command that is asked for, or the field at fault.
    fn command(asked: Result<Operation, Refusal>) -> Result<Command, &'static str> {
        match asked.map_err(refused)? {
            Operation::Command(command) => Ok(command),
            other => panic!("no command: {other:?}"),
        }
    }

    fn command_of(write: Write, session: Option<kv::Session>) -> Command {
        let stamp = session.map(|session| Stamp {
            client_id: ClientId(session.client_id),
            sequence: session.sequence,
            first_outstanding: session.first_outstanding,
        });
        Command::Write { write, stamp }
    }

    #[test]
    fn a_range_of_one_key_has_the_limit_of_a_key() {
        let limit = |start: &'static [u8], end: &'static [u8]| {
            let range = kv::key_range::Range::Interval(kv::Interval {
                start: start.into(),
                end: Some(end.into()),
            });
            let range = Some(kv::KeyRange { range: Some(range) });
            match key_range(range, &OPTIONS).map_err(|refusal| refusal.reason) {
                Ok(_) => None,
                Err(Reason::TooLarge {
                    what: "key", limit, ..
                }) => Some(limit),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(limit(b"12345678", b"12345678\0"), None);
        assert_eq!(limit(b"123456789", b"123456789\0"), Some(8));
        // The end of a range may be the first key behind the longest one.
        assert_eq!(limit(b"1", b"123456789"), None);
        assert_eq!(limit(b"1", b"1234567890"), Some(9));
    }

    proptest! {
        #[test]
        fn a_request_becomes_its_command_or_a_refusal(
            key in bytes(10),
            value in bytes(14),
            session in session(),
            cluster_id in any::<Option<u64>>(),
        ) {
            let set = kv::SetRequest { key: key.clone(), value: value.clone(), session, cluster_id };
            let write = Write::Set { key: key.clone(), value: value.clone() };
            let expected = fault(&key, &value, session).map_or(Ok(command_of(write, session)), Err);
            prop_assert_eq!(command(Operation::set(carried(set), &OPTIONS)), expected);

            let delete = kv::DeleteRequest { key: key.clone(), session, cluster_id };
            let write = Write::Delete { key: key.clone() };
            let none = Bytes::new();
            let expected = fault(&key, &none, session).map_or(Ok(command_of(write, session)), Err);
            prop_assert_eq!(command(Operation::delete(carried(delete), &OPTIONS)), expected);

            let get = Operation::get(carried(kv::GetRequest { key: key.clone(), cluster_id }), &OPTIONS);
            match (get, fault(&key, &none, None)) {
                (Ok(Operation::Query(read)), None) => prop_assert_eq!(read, Query::Get(key)),
                (Err(refusal), Some(field)) => prop_assert_eq!(refused(refusal), field),
                (other, _) => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn a_session_is_opened_under_the_id_that_the_client_names(
            client_id in prop_oneof![Just(0), any::<u64>()],
            ttl in prop::option::of((prop_oneof![-1..5i64, 3598..3602i64], 0..=1i32)),
            cluster_id in any::<Option<u64>>(),
        ) {
            let request = kv::OpenSessionRequest {
                client_id,
                cluster_id,
                ttl: ttl.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
            };
            let expected = match (client_id, ttl) {
                (0, _) => Err("client_id"),
                (id, None) => Ok(Command::OpenSession(ClientId(id))),
                (id, Some((seconds @ 2..3600, nanos))) => Ok(Command::OpenLivingSession {
                    client_id: ClientId(id),
                    ttl: u64::try_from(seconds).unwrap() * 1000 + u64::from(nanos > 0),
                }),
                (id, Some((3600, 0))) => Ok(Command::OpenLivingSession {
                    client_id: ClientId(id),
                    ttl: 3_600_000,
                }),
                (_, Some(_)) => Err("ttl"),
            };
            prop_assert_eq!(command(Operation::open_session(carried(request))), expected);
        }
    }
}
