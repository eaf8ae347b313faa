//! The commands in the entries of the log.

use bytes::Bytes;
use prost::Message as _;

use crate::kv::{Command, MAX_RENEWED, Stamp, Write};
use crate::proto::kv as proto;
use crate::proto::kv::command::Operation;
use crate::types::{ClientId, Key, Millis, NodeId, NodeInfo, ProtocolLevel};
use crate::wire::{WireError, locks, time};

/// Operations with these numbers, and all between, are of the first protocol level.
const FIRST_OPERATION: u8 = 1;
const LAST_OPERATION_OF_FIRST_LEVEL: u8 = 4;

impl From<Command> for proto::Command {
    fn from(command: Command) -> Self {
        let mut session = None;
        let operation = match command {
            Command::Write { write, stamp } => {
                let stamp = stamp.map(Into::into);
                match write {
                    Write::Set { key, value } => {
                        session = stamp;
                        Operation::Set(proto::SetCommand { key, value })
                    }
                    Write::Delete { key } => {
                        session = stamp;
                        Operation::Delete(proto::DeleteCommand { key })
                    }
                    Write::Txn(txn) => Operation::Txn(proto::TxnCommand {
                        session: stamp,
                        ..(*txn).into()
                    }),
                    Write::Acquire(acquire) => {
                        Operation::Acquire(locks::acquire_command(*acquire, stamp))
                    }
                    Write::Release(name) => {
                        Operation::Release(locks::release_command(&name, stamp))
                    }
                }
            }
            Command::OpenSession(client_id) => open_session(client_id, 0),
            Command::OpenLivingSession { client_id, ttl } => open_session(client_id, ttl),
            Command::CloseSession(ClientId(client_id)) => {
                Operation::CloseSession(proto::CloseSessionCommand { client_id })
            }
            Command::Clock { step, renewed } => Operation::Clock(proto::ClockCommand {
                step_ms: u32::try_from(step).unwrap_or(u32::MAX),
                renewed: renewed.into_iter().map(|id| id.0).collect(),
            }),
            Command::AddMember(info) => Operation::AddMember(proto::AddMemberCommand {
                member: Some(info.into()),
            }),
            Command::RemoveMember(id) => {
                Operation::RemoveMember(proto::RemoveMemberCommand { id: id.into() })
            }
            Command::RaiseLevel { level, revision } => {
                let level = level.get();
                Operation::RaiseProtocolLevel(proto::RaiseProtocolLevelCommand { level, revision })
            }
        };
        Self {
            operation: Some(operation),
            session,
        }
    }
}

/// `ttl` 0: the session does not live.
fn open_session(client_id: ClientId, ttl: Millis) -> Operation {
    Operation::OpenSession(proto::OpenSessionCommand {
        client_id: client_id.0,
        ttl_ms: u32::try_from(ttl).unwrap_or(u32::MAX),
    })
}

impl TryFrom<proto::Command> for Command {
    type Error = WireError;

    fn try_from(command: proto::Command) -> Result<Self, WireError> {
        let proto::Command { operation, session } = command;
        let stamp = session.map(Stamp::try_from).transpose()?;
        let write = |write| Self::Write { write, stamp };
        let not_empty = |message, key: Key| {
            if key.is_empty() {
                Err(WireError::new(message, "key", "empty"))
            } else {
                Ok(key)
            }
        };
        match operation {
            Some(Operation::Set(proto::SetCommand { key, value })) => Ok(write(Write::Set {
                key: not_empty("SetCommand", key)?,
                value,
            })),
            Some(Operation::Delete(proto::DeleteCommand { key })) => Ok(write(Write::Delete {
                key: not_empty("DeleteCommand", key)?,
            })),
            Some(_) if stamp.is_some() => Err(WireError::new(
                "Command",
                "session",
                "of neither set nor delete",
            )),
            Some(Operation::Txn(mut txn)) => {
                let stamp = txn.session.take().map(Stamp::try_from).transpose()?;
                let write = Write::Txn(Box::new(txn.try_into()?));
                Ok(Self::Write { write, stamp })
            }
            Some(Operation::Acquire(command)) => {
                let (acquire, stamp) = locks::acquire(command)?;
                let write = Write::Acquire(Box::new(acquire));
                let stamp = Some(stamp);
                Ok(Self::Write { write, stamp })
            }
            Some(Operation::Release(command)) => {
                let (name, stamp) = locks::release(command)?;
                let (write, stamp) = (Write::Release(name), Some(stamp));
                Ok(Self::Write { write, stamp })
            }
            Some(Operation::OpenSession(proto::OpenSessionCommand { client_id, ttl_ms })) => {
                let client_id = ClientId(client_id);
                let ttl = time::living_ttl("OpenSessionCommand", ttl_ms)?;
                Ok(match ttl {
                    Some(ttl) => Self::OpenLivingSession { client_id, ttl },
                    None => Self::OpenSession(client_id),
                })
            }
            Some(Operation::CloseSession(proto::CloseSessionCommand { client_id })) => {
                Ok(Self::CloseSession(ClientId(client_id)))
            }
            Some(Operation::Clock(proto::ClockCommand { step_ms, renewed })) => {
                if renewed.len() > MAX_RENEWED {
                    let reason = format!("more than {MAX_RENEWED}");
                    return Err(WireError::new("ClockCommand", "renewed", reason));
                }
                Ok(Self::Clock {
                    step: step_ms.into(),
                    renewed: renewed.into_iter().map(ClientId).collect(),
                })
            }
            Some(Operation::AddMember(proto::AddMemberCommand { member })) => {
                let missing = || WireError::new("AddMemberCommand", "member", "missing");
                Ok(Self::AddMember(member.ok_or_else(missing)?.try_into()?))
            }
            Some(Operation::RemoveMember(proto::RemoveMemberCommand { id })) => {
                let id = NodeId::try_from(id);
                Ok(Self::RemoveMember(id.map_err(|error| {
                    WireError::new("RemoveMemberCommand", "id", error.to_string())
                })?))
            }
            Some(Operation::RaiseProtocolLevel(proto::RaiseProtocolLevelCommand {
                level,
                revision,
            })) => {
                let level = ProtocolLevel::new(level);
                if level == ProtocolLevel::FIRST {
                    let message = "RaiseProtocolLevelCommand";
                    return Err(WireError::new(message, "level", "not 2 or more"));
                }
                Ok(Self::RaiseLevel { level, revision })
            }
            None => Err(WireError::new("Command", "operation", "missing or unknown")),
        }
    }
}

/// The data of the log entry for `command`. Equal commands give equal bytes.
pub fn encode_command(command: &Command) -> Bytes {
    proto::Command::from(command.clone()).encode_to_vec().into()
}

/// The command of a log entry. Key and value are not copied: they share `data`.
///
/// # Errors
///
/// If `data` is no command, or one that this node does not know *completely*. Otherwise this node would
/// ignore a field of a later version that another node obeys, and two nodes would apply one entry
/// differently.
pub fn decode_command(data: Bytes) -> Result<Command, WireError> {
    let size = data.len();
    let command = proto::Command::decode(data)
        .map_err(|error| WireError::new("Command", "operation", error.to_string()))?;
    // The known fields take fewer bytes if there are unknown ones.
    let understood = command.encoded_len();
    if understood < size {
        let reason = format!("only {understood} of {size} bytes are understood");
        return Err(WireError::new("Command", "operation", reason));
    }
    command.try_into()
}

/// The protocol level that a process needs to apply the command of a log entry, see [`Command::level`].
///
/// # Errors
///
/// As for [`decode_command`], which is called only if the number of the operation does not determine the
/// level.
pub fn level_of_command(data: &Bytes) -> Result<ProtocolLevel, WireError> {
    match is_of_first_level(data) {
        true => Ok(ProtocolLevel::FIRST),
        false => decode_command(data.clone()).map(|command| command.level()),
    }
}

/// Whether the command of a log entry is of the first level, without decoding it.
pub fn is_of_first_level(data: &Bytes) -> bool {
    // The key of the first field, which is the operation.
    let operation = data.first().map(|key| key >> 3);
    matches!(
        operation,
        Some(FIRST_OPERATION..=LAST_OPERATION_OF_FIRST_LEVEL)
    )
}

impl From<Stamp> for proto::SessionStamp {
    fn from(stamp: Stamp) -> Self {
        let Stamp {
            client_id,
            sequence,
            first_outstanding,
        } = stamp;
        Self {
            client_id: client_id.0,
            sequence,
            first_outstanding,
        }
    }
}

impl TryFrom<proto::SessionStamp> for Stamp {
    type Error = WireError;

    fn try_from(stamp: proto::SessionStamp) -> Result<Self, WireError> {
        let proto::SessionStamp {
            client_id,
            sequence,
            first_outstanding,
        } = stamp;
        let stamp = Self {
            client_id: ClientId(client_id),
            sequence,
            first_outstanding,
        };
        if stamp.is_valid() {
            return Ok(stamp);
        }
        let reason = format!("{sequence}, with {first_outstanding} the first outstanding");
        Err(WireError::new("SessionStamp", "sequence", reason))
    }
}

impl From<NodeInfo> for proto::Member {
    fn from(info: NodeInfo) -> Self {
        let NodeInfo {
            id,
            addr,
            client_addr,
        } = info;
        Self {
            id: id.into(),
            addr,
            client_addr,
        }
    }
}

impl TryFrom<proto::Member> for NodeInfo {
    type Error = WireError;

    fn try_from(member: proto::Member) -> Result<Self, WireError> {
        let proto::Member {
            id,
            addr,
            client_addr,
        } = member;
        let id = NodeId::try_from(id);
        Ok(Self {
            id: id.map_err(|error| WireError::new("Member", "id", error.to_string()))?,
            addr,
            client_addr,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(key: &'static str, value: &'static str) -> Command {
        Command::from(Write::Set {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        })
    }

    #[test]
    fn commands_survive() {
        let delete = Write::Delete {
            key: Bytes::from_static(b"k"),
        };
        let numbered = Command::Write {
            write: delete.clone(),
            stamp: Some(Stamp {
                client_id: ClientId(7),
                sequence: 9,
                first_outstanding: 5,
            }),
        };
        let open = Command::OpenSession(ClientId(7));
        let opens_living = Command::OpenLivingSession {
            client_id: ClientId(7),
            ttl: 2_000,
        };
        let close = Command::CloseSession(ClientId(7));
        let clock = |renewed| Command::Clock { step: 250, renewed };
        let node = NodeId::new(4).unwrap();
        let add = Command::AddMember(NodeInfo {
            id: node,
            addr: "four:7379".to_owned(),
            client_addr: "four:6379".to_owned(),
        });
        let remove = Command::RemoveMember(node);
        let raise = Command::RaiseLevel {
            level: ProtocolLevel::new(2),
            revision: 9,
        };
        for command in [
            set("k", "v"),
            set("k", ""),
            delete.into(),
            numbered,
            open,
            opens_living,
            close,
            clock(vec![]),
            clock(vec![ClientId(7), ClientId(1)]),
            add,
            remove,
            raise,
        ] {
            let data = encode_command(&command);
            assert_eq!(level_of_command(&data), Ok(command.level()));
            assert_eq!(decode_command(data), Ok(command));
        }
    }

    /// Called for every entry of every append.
    #[test]
    fn the_level_of_common_commands_is_known_without_decoding_them() {
        for operation in [0x0a, 0x12, 0x1a, 0x22] {
            let data = Bytes::from(vec![operation, 0xff]);
            assert_eq!(level_of_command(&data), Ok(ProtocolLevel::FIRST));
        }
        for data in [&b"\x02\xff"[..], b"\x2a\xff", b"\x32\xff", b"\x3a\xff", b""] {
            assert!(level_of_command(&Bytes::copy_from_slice(data)).is_err());
        }
    }

    #[test]
    fn a_decoded_command_shares_the_entry() {
        let data = encode_command(&set("key", "value"));
        let Ok(Command::Write {
            write: Write::Set { key, value },
            ..
        }) = decode_command(data.clone())
        else {
            panic!("a Set");
        };
        let entry = data.as_ptr_range();
        assert!(entry.contains(&key.as_ptr()) && entry.contains(&value.as_ptr()));
    }

    #[test]
    fn an_unknown_command_is_refused() {
        let operation = |operation| {
            proto::Command {
                operation,
                session: None,
            }
            .encode_to_vec()
        };
        let key = Bytes::new();
        let empty_set = proto::SetCommand {
            key: key.clone(),
            value: Bytes::from_static(b"v"),
        };
        let with_unknown_field = |at: usize, field: &[u8]| {
            let mut command = encode_command(&set("k", "v")).to_vec();
            command.splice(at..at, field.iter().copied());
            command
        };
        let mut inner_unknown = with_unknown_field(8, b"\x18\x01");
        inner_unknown[1] += 2;
        let too_many_renewed = operation(Some(Operation::Clock(proto::ClockCommand {
            step_ms: 0,
            renewed: vec![1; MAX_RENEWED + 1],
        })));
        for (data, message, field) in [
            (operation(None), "Command", "operation"),
            (b"\x9a\x06\x01k".to_vec(), "Command", "operation"),
            (b"\x1a\x00".to_vec(), "AddMemberCommand", "member"),
            (b"\x1a\x02\x0a\x00".to_vec(), "Member", "id"),
            (b"\x22\x00".to_vec(), "RemoveMemberCommand", "id"),
            (
                b"\x3a\x02\x08\x01".to_vec(),
                "RaiseProtocolLevelCommand",
                "level",
            ),
            (
                b"\x2a\x00\x32\x04\x10\x01\x18\x01".to_vec(),
                "Command",
                "session",
            ),
            (
                b"\x12\x03\x0a\x01k\x32\x00".to_vec(),
                "SessionStamp",
                "sequence",
            ),
            // A TTL of 1999 ms.
            (
                b"\x2a\x03\x10\xcf\x0f".to_vec(),
                "OpenSessionCommand",
                "ttl",
            ),
            (too_many_renewed, "ClockCommand", "renewed"),
            (b"\x0a\x05k".to_vec(), "Command", "operation"),
            (
                operation(Some(Operation::Set(empty_set))),
                "SetCommand",
                "key",
            ),
            (
                operation(Some(Operation::Delete(proto::DeleteCommand { key }))),
                "DeleteCommand",
                "key",
            ),
            // A field of a later version beside the operation, and one in it.
            (
                with_unknown_field(8, b"\x98\x06\x01"),
                "Command",
                "operation",
            ),
            (inner_unknown, "Command", "operation"),
        ] {
            let error = decode_command(data.into()).unwrap_err();
            assert_eq!((error.message, error.field), (message, field), "{error}");
        }
    }

    proptest! {
        /// All accepted bytes are the one encoding of their value, so equal states have equal bytes.
        #[test]
        fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(command) = decode_command(data.clone().into()) {
                prop_assert_eq!(decode_command(encode_command(&command)), Ok(command));
            }
        }
    }
}
