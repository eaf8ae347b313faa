//! A client's request, checked against the limits, from a single call or a pipeline.

use super::ServiceOptions;
use crate::error::{Reason, Refusal};
use crate::kv::{Command, MAX_OUTSTANDING, Stamp, Write};
use crate::proto::kv;
use crate::types::{ClientId, Key};

/// The operation of a request.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A command, which goes into the log.
    Command(Command),
    /// A read of a key.
    Get(Key),
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
        Ok(Self::Get(key))
    }

    pub(super) fn open_session(request: kv::OpenSessionRequest) -> Result<Self, Refusal> {
        let kv::OpenSessionRequest {
            client_id,
            cluster_id: _,
        } = request;
        if client_id == 0 {
            return Err(Refusal::invalid("client_id", "not 0".to_owned()));
        }
        Ok(Self::Command(Command::OpenSession(ClientId(client_id))))
    }

    /// Bytes of the key and the value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Command(Command::Write {
                write: Write::Set { key, value },
                ..
            }) => key.len().saturating_add(value.len()),
            Self::Command(Command::Write {
                write: Write::Delete { key },
                ..
            })
            | Self::Get(key) => key.len(),
            Self::Command(_) => 0,
        }
    }
}

fn write(write: Write, session: Option<kv::Session>) -> Result<Operation, Refusal> {
    let stamp = session.map(stamp).transpose()?;
    Ok(Operation::Command(Command::Write { write, stamp }))
}

fn stamp(session: kv::Session) -> Result<Stamp, Refusal> {
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
