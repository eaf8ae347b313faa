//! `eraftpb` has exactly the fields that the conversion knows.
//!
//! A conversion loses a field that a later raft-rs adds and that it does not know. This is the list of
//! known fields; if it has to change, `seshat::wire` has to change with it.

use protobuf::descriptor::{DescriptorProto, EnumDescriptorProto};
use raft::eraftpb::file_descriptor_proto;

/// Every field of every message, by name and number.
const MESSAGES: [(&str, &[(&str, i32)]); 9] = [
    (
        "Entry",
        &[
            ("entry_type", 1),
            ("term", 2),
            ("index", 3),
            ("data", 4),
            ("context", 6),
            // Refused: it is deprecated, and no code sets it.
            ("sync_log", 5),
        ],
    ),
    (
        "SnapshotMetadata",
        &[("conf_state", 1), ("index", 2), ("term", 3)],
    ),
    ("Snapshot", &[("data", 1), ("metadata", 2)]),
    (
        "Message",
        &[
            ("msg_type", 1),
            ("to", 2),
            ("from", 3),
            ("term", 4),
            ("log_term", 5),
            ("index", 6),
            ("entries", 7),
            ("commit", 8),
            ("commit_term", 15),
            ("snapshot", 9),
            ("request_snapshot", 13),
            ("reject", 10),
            ("reject_hint", 11),
            ("context", 12),
            ("deprecated_priority", 14),
            ("priority", 16),
        ],
    ),
    // Never leaves a node.
    ("HardState", &[("term", 1), ("vote", 2), ("commit", 3)]),
    (
        "ConfState",
        &[
            ("voters", 1),
            ("learners", 2),
            ("voters_outgoing", 3),
            ("learners_next", 4),
            ("auto_leave", 5),
        ],
    ),
    (
        "ConfChange",
        &[
            ("change_type", 2),
            ("node_id", 3),
            ("context", 4),
            ("id", 1),
        ],
    ),
    ("ConfChangeSingle", &[("change_type", 1), ("node_id", 2)]),
    (
        "ConfChangeV2",
        &[("transition", 1), ("changes", 2), ("context", 3)],
    ),
];

/// Every value of every enum, in the order of its numbers.
const ENUMS: [(&str, &[&str]); 4] = [
    (
        "EntryType",
        &["EntryNormal", "EntryConfChange", "EntryConfChangeV2"],
    ),
    (
        "MessageType",
        &[
            "MsgHup",
            "MsgBeat",
            "MsgPropose",
            "MsgAppend",
            "MsgAppendResponse",
            "MsgRequestVote",
            "MsgRequestVoteResponse",
            "MsgSnapshot",
            "MsgHeartbeat",
            "MsgHeartbeatResponse",
            "MsgUnreachable",
            "MsgSnapStatus",
            "MsgCheckQuorum",
            "MsgTransferLeader",
            "MsgTimeoutNow",
            "MsgReadIndex",
            "MsgReadIndexResp",
            "MsgRequestPreVote",
            "MsgRequestPreVoteResponse",
        ],
    ),
    ("ConfChangeTransition", &["Auto", "Implicit", "Explicit"]),
    (
        "ConfChangeType",
        &["AddNode", "RemoveNode", "AddLearnerNode"],
    ),
];

fn fields(message: &DescriptorProto) -> Vec<(&str, i32)> {
    let fields = message.get_field().iter();
    fields.map(|f| (f.get_name(), f.get_number())).collect()
}

fn values(values: &EnumDescriptorProto) -> Vec<&str> {
    let values = values.get_value().iter().enumerate();
    values
        .map(|(at, value)| {
            assert_eq!(usize::try_from(value.get_number()), Ok(at));
            value.get_name()
        })
        .collect()
}

#[test]
fn every_field_of_eraftpb_is_known() {
    let file = file_descriptor_proto();
    let there: Vec<_> = file.get_message_type().iter().collect();
    let names: Vec<_> = there.iter().map(|message| message.get_name()).collect();
    assert_eq!(names, MESSAGES.map(|(name, _)| name));
    for (message, (name, known)) in there.into_iter().zip(MESSAGES) {
        assert_eq!(fields(message), known, "{name}");
    }
}

#[test]
fn every_enum_of_eraftpb_is_known() {
    let file = file_descriptor_proto();
    let there: Vec<_> = file.get_enum_type().iter().collect();
    let names: Vec<_> = there.iter().map(|values| values.get_name()).collect();
    assert_eq!(names, ENUMS.map(|(name, _)| name));
    for (there, (name, known)) in there.into_iter().zip(ENUMS) {
        assert_eq!(values(there), known, "{name}");
    }
}
