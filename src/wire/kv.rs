//! What the log and the snapshots hold.

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;

use crate::kv::{Command, StateMachine};
use crate::proto::kv as proto;
use crate::proto::kv::command::Operation;
use crate::proto::kv::snapshot_record::Record;
use crate::types::{Key, Value};
use crate::wire::WireError;

/// Version of the snapshot format that this node writes, and the only one that it reads.
const SNAPSHOT_VERSION: u32 = 1;

impl From<Command> for proto::Command {
    fn from(command: Command) -> Self {
        let operation = match command {
            Command::Set { key, value } => Operation::Set(proto::SetCommand { key, value }),
            Command::Delete { key } => Operation::Delete(proto::DeleteCommand { key }),
        };
        Self {
            operation: Some(operation),
        }
    }
}

impl TryFrom<proto::Command> for Command {
    type Error = WireError;

    fn try_from(command: proto::Command) -> Result<Self, WireError> {
        let proto::Command { operation } = command;
        let not_empty = |message, key: Key| {
            if key.is_empty() {
                Err(WireError::new(message, "key", "empty"))
            } else {
                Ok(key)
            }
        };
        match operation {
            Some(Operation::Set(proto::SetCommand { key, value })) => Ok(Self::Set {
                key: not_empty("SetCommand", key)?,
                value,
            }),
            Some(Operation::Delete(proto::DeleteCommand { key })) => Ok(Self::Delete {
                key: not_empty("DeleteCommand", key)?,
            }),
            None => Err(WireError::new("Command", "operation", "missing or unknown")),
        }
    }
}

/// The data of the log entry that holds `command`. Equal commands are equal bytes.
pub fn encode_command(command: &Command) -> Bytes {
    proto::Command::from(command.clone()).encode_to_vec().into()
}

/// The command that a log entry holds. Key and value are not copied: they share `data`.
///
/// # Errors
///
/// If `data` is no command, or one that this node does not know *all* of. A field that a later
/// version added would otherwise be ignored here and obeyed there, and two nodes would apply one
/// entry differently.
pub fn decode_command(data: Bytes) -> Result<Command, WireError> {
    let size = data.len();
    let command = proto::Command::decode(data)
        .map_err(|error| WireError::new("Command", "operation", error.to_string()))?;
    // What was understood takes fewer bytes if there was anything else in them.
    let understood = command.encoded_len();
    if understood < size {
        let reason = format!("only {understood} of {size} bytes are understood");
        return Err(WireError::new("Command", "operation", reason));
    }
    command.try_into()
}

/// The snapshot of `state_machine`: equal maps are equal bytes.
pub fn encode_snapshot(state_machine: &StateMachine) -> Bytes {
    let pairs = state_machine.sorted_pairs();
    let header = record(Record::Header(proto::SnapshotHeader {
        version: SNAPSHOT_VERSION,
        pairs: u64::try_from(pairs.len()).unwrap_or(u64::MAX),
    }));
    let records = || {
        let pairs = pairs.iter().map(|&(key, value)| {
            record(Record::Pair(proto::KeyValue {
                key: key.clone(),
                value: value.clone(),
            }))
        });
        std::iter::once(header.clone()).chain(pairs)
    };
    // Measured before it is written, because a buffer that grows copies what it holds.
    let size = records()
        .map(|record| {
            let size = record.encoded_len();
            prost::length_delimiter_len(size) + size
        })
        .sum();
    let mut snapshot = BytesMut::with_capacity(size);
    for record in records() {
        let written = record.encode_length_delimited(&mut snapshot);
        debug_assert!(
            written.is_ok(),
            "only a full buffer fails, and this one grows"
        );
    }
    snapshot.freeze()
}

fn record(record: Record) -> proto::SnapshotRecord {
    proto::SnapshotRecord {
        record: Some(record),
    }
}

/// The map that a snapshot holds. Nothing in it keeps `data` in memory.
///
/// # Errors
///
/// If `data` is no snapshot of a version that this node knows, or not all of one. No length that
/// stands in it is believed before there are bytes for it.
pub fn decode_snapshot(mut data: Bytes) -> Result<StateMachine, WireError> {
    let header = match next_record(&mut data)? {
        Some(Record::Header(header)) => header,
        Some(Record::Pair(_)) => return Err(fault("record", "a pair before the header")),
        None => return Err(fault("record", "the header is missing")),
    };
    let proto::SnapshotHeader { version, pairs } = header;
    if version != SNAPSHOT_VERSION {
        let reason = format!("{version} is not {SNAPSHOT_VERSION}, the one that this node knows");
        return Err(WireError::new("SnapshotHeader", "version", reason));
    }
    Pairs {
        data,
        announced: pairs,
        found: 0,
        last_key: Key::new(),
    }
    .collect()
}

/// The pairs of a snapshot behind its header, until the first fault.
struct Pairs {
    data: Bytes,
    announced: u64,
    found: u64,
    /// The greatest key so far. Before the first pair it is empty, so no key of a pair can be.
    last_key: Key,
}

impl Pairs {
    fn next_pair(&mut self) -> Result<Option<(Key, Value)>, WireError> {
        let proto::KeyValue { key, value } = match next_record(&mut self.data)? {
            Some(Record::Pair(pair)) => pair,
            Some(Record::Header(_)) => return Err(fault("record", "a second header")),
            None if self.found == self.announced => return Ok(None),
            None => {
                let (found, announced) = (self.found, self.announced);
                let reason = format!("{announced} announced, {found} there");
                return Err(WireError::new("SnapshotHeader", "pairs", reason));
            }
        };
        self.found += 1;
        if self.found > self.announced {
            let reason = format!("{} announced, and more there", self.announced);
            return Err(WireError::new("SnapshotHeader", "pairs", reason));
        }
        if key <= self.last_key {
            let reason = "empty, or not in ascending order";
            return Err(WireError::new("KeyValue", "key", reason));
        }
        self.last_key = key.clone();
        Ok(Some((key, value)))
    }
}

impl Iterator for Pairs {
    type Item = Result<(Key, Value), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_pair().transpose()
    }
}

/// Takes the next record off `data`, or `None` at its end.
fn next_record(data: &mut Bytes) -> Result<Option<Record>, WireError> {
    if !data.has_remaining() {
        return Ok(None);
    }
    let proto::SnapshotRecord { record } = proto::SnapshotRecord::decode_length_delimited(data)
        .map_err(|error| fault("record", error.to_string()))?;
    match record {
        Some(record) => Ok(Some(record)),
        None => Err(fault("record", "missing or unknown")),
    }
}

fn fault(field: &'static str, reason: impl Into<String>) -> WireError {
    WireError::new("SnapshotRecord", field, reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(key: &'static str, value: &'static str) -> Command {
        Command::Set {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> StateMachine {
        pairs
            .iter()
            .map(|&(key, value)| (Bytes::from(key), Bytes::from(value)))
            .collect()
    }

    fn pair(key: &'static str) -> Record {
        Record::Pair(proto::KeyValue {
            key: Bytes::from(key),
            value: Bytes::from("v"),
        })
    }

    fn header(version: u32, pairs: u64) -> Record {
        Record::Header(proto::SnapshotHeader { version, pairs })
    }

    fn snapshot(records: impl IntoIterator<Item = Record>) -> Bytes {
        records
            .into_iter()
            .flat_map(|r| record(r).encode_length_delimited_to_vec())
            .collect()
    }

    #[test]
    fn commands_survive() {
        let delete = Command::Delete {
            key: Bytes::from_static(b"k"),
        };
        for command in [set("k", "v"), set("k", ""), delete] {
            assert_eq!(decode_command(encode_command(&command)), Ok(command));
        }
    }

    #[test]
    fn a_decoded_command_shares_the_entry() {
        let data = encode_command(&set("key", "value"));
        let Ok(Command::Set { key, value }) = decode_command(data.clone()) else {
            panic!("a Set");
        };
        let entry = data.as_ptr_range();
        assert!(entry.contains(&key.as_ptr()) && entry.contains(&value.as_ptr()));
    }

    #[test]
    fn what_is_no_known_command_is_refused() {
        let operation = |operation| proto::Command { operation }.encode_to_vec();
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
        for (data, message, field) in [
            (operation(None), "Command", "operation"),
            (b"\x1a\x01k".to_vec(), "Command", "operation"),
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

    #[test]
    fn a_snapshot_is_a_header_and_the_pairs_in_order() {
        let encoded = encode_snapshot(&map(&[("b", "v"), ("a", "v")]));
        let expected = snapshot([header(1, 2), pair("a"), pair("b")]);
        assert_eq!(encoded, expected);
        assert_eq!(decode_snapshot(encoded), Ok(map(&[("a", "v"), ("b", "v")])));
    }

    #[test]
    fn the_snapshot_of_nothing_is_a_header() {
        let empty = encode_snapshot(&StateMachine::default());
        assert_eq!(empty, snapshot([header(1, 0)]));
        assert_eq!(decode_snapshot(empty), Ok(StateMachine::default()));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        let cases = [
            (snapshot([]), "SnapshotRecord", "record"),
            (snapshot([pair("a")]), "SnapshotRecord", "record"),
            (
                snapshot([pair("a"), header(1, 1)]),
                "SnapshotRecord",
                "record",
            ),
            (snapshot([header(0, 0)]), "SnapshotHeader", "version"),
            (snapshot([header(2, 0)]), "SnapshotHeader", "version"),
            (
                snapshot([header(1, 1), header(1, 1), pair("a")]),
                "SnapshotRecord",
                "record",
            ),
            (snapshot([header(1, 1)]), "SnapshotHeader", "pairs"),
            (
                snapshot([header(1, u64::MAX), pair("a")]),
                "SnapshotHeader",
                "pairs",
            ),
            (
                snapshot([header(1, 0), pair("a")]),
                "SnapshotHeader",
                "pairs",
            ),
            (snapshot([header(1, 1), pair("")]), "KeyValue", "key"),
            (
                snapshot([header(1, 2), pair("b"), pair("a")]),
                "KeyValue",
                "key",
            ),
            (
                snapshot([header(1, 2), pair("a"), pair("a")]),
                "KeyValue",
                "key",
            ),
            // A record of a later version, and a length without its bytes.
            (
                Bytes::from_static(b"\x03\x1a\x01x"),
                "SnapshotRecord",
                "record",
            ),
            (
                Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x0a"),
                "SnapshotRecord",
                "record",
            ),
        ];
        for (data, message, field) in cases {
            let error = decode_snapshot(data.clone()).unwrap_err();
            assert_eq!((error.message, error.field), (message, field), "{data:?}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let whole = encode_snapshot(&map(&[("a", "1"), ("b", ""), ("c", "3")]));
        for size in 0..whole.len() {
            assert!(decode_snapshot(whole.slice(..size)).is_err(), "{size}");
        }
    }

    proptest! {
        #[test]
        fn every_map_survives(pairs in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..6),
            prop::collection::vec(any::<u8>(), 0..6),
            0..50,
        )) {
            let map: StateMachine = pairs
                .into_iter()
                .map(|(key, value)| (Bytes::from(key), Bytes::from(value)))
                .collect();
            prop_assert_eq!(decode_snapshot(encode_snapshot(&map)), Ok(map));
        }

        /// Whatever is accepted is one encoding of its value, so no two bytes mean one state.
        #[test]
        fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_snapshot(data.clone().into());
            if let Ok(command) = decode_command(data.clone().into()) {
                prop_assert_eq!(decode_command(encode_command(&command)), Ok(command));
            }
        }
    }
}
