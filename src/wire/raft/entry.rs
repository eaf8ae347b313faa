//! One entry of the log.

use bytes::Bytes;
use raft::eraftpb::{self, EntryType};

use super::{conf, is_empty};
use crate::proto::raft::Entry;
use crate::proto::raft::entry::Payload;
use crate::wire::WireError;
use crate::wire::check::Check;

const ENTRY: Check = Check("Entry");
const V1_IS_REFUSED: &str = "a change is a ConfChangeV2, never a ConfChange";

/// An entry of our own log.
pub(super) fn from_raft(entry: eraftpb::Entry) -> Result<Entry, WireError> {
    let eraftpb::Entry {
        entry_type,
        term,
        index,
        data,
        context,
        sync_log,
        unknown_fields,
        cached_size: _,
    } = entry;
    let lost = |field, lost: bool| {
        Check("eraftpb.Entry").that(!lost, field, format_args!("entry {index} has it"))
    };
    lost("sync_log", sync_log)?;
    lost("unknown_fields", !is_empty(&unknown_fields))?;
    let payload = match entry_type {
        // A leader's first entry of its term, or a conf change that raft-rs did not accept
        // (`Raft::step_leader`, MsgPropose).
        EntryType::EntryNormal if data.is_empty() => None,
        EntryType::EntryNormal => Some(Payload::Command(data)),
        EntryType::EntryConfChange => {
            let reason = format!("entry {index}: {V1_IS_REFUSED}");
            return Err(WireError::new("eraftpb.Entry", "entry_type", reason));
        }
        EntryType::EntryConfChangeV2 => Some(Payload::ConfChangeV2(conf::change_from_data(&data)?)),
    };
    Ok(Entry {
        term,
        index,
        context,
        payload,
    })
}

/// An entry of a peer. Its position in the log is checked with its message.
///
/// The core checks whether this node knows the command before it enters the log: a committed entry cannot
/// be skipped.
pub(super) fn into_raft(entry: Entry) -> Result<eraftpb::Entry, WireError> {
    let Entry {
        term,
        index,
        context,
        payload,
    } = entry;
    let (entry_type, data) = match payload {
        None => (EntryType::EntryNormal, Bytes::new()),
        Some(Payload::Command(command)) => {
            // An encoded command is never empty, so no command is confused with an empty entry.
            ENTRY.that(
                !command.is_empty(),
                "command",
                format_args!("of entry {index}: empty"),
            )?;
            (EntryType::EntryNormal, command)
        }
        Some(Payload::ConfChange(_)) => {
            let reason = format!("of entry {index}: {V1_IS_REFUSED}");
            return Err(WireError::new(ENTRY.0, "conf_change", reason));
        }
        Some(Payload::ConfChangeV2(change)) => (
            EntryType::EntryConfChangeV2,
            conf::change_into_data(change)?,
        ),
    };
    Ok(eraftpb::Entry {
        entry_type,
        term,
        index,
        data,
        context,
        ..eraftpb::Entry::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::raft::ConfChange;

    fn entry(payload: Option<Payload>) -> Entry {
        Entry {
            term: 3,
            index: 12,
            context: Bytes::from_static(b"context"),
            payload,
        }
    }

    #[test]
    fn an_empty_entry_keeps_its_context() {
        let raft = into_raft(entry(None)).unwrap();
        assert_eq!(raft.entry_type, EntryType::EntryNormal);
        assert!(raft.data.is_empty());
        assert_eq!(from_raft(raft), Ok(entry(None)));
    }

    #[test]
    fn a_command_that_is_none_is_refused_at_the_door() {
        let payload = Payload::Command(Bytes::new());
        let error = into_raft(entry(Some(payload))).unwrap_err();
        assert_eq!((error.message, error.field), ("Entry", "command"));
    }

    #[test]
    fn a_conf_change_of_the_older_form_is_refused_in_both_directions() {
        let payload = Payload::ConfChange(ConfChange::default());
        let error = into_raft(entry(Some(payload))).unwrap_err();
        let reason = "of entry 12: a change is a ConfChangeV2, never a ConfChange";
        assert_eq!(error, WireError::new("Entry", "conf_change", reason));
        let error = from_raft(eraftpb::Entry {
            entry_type: EntryType::EntryConfChange,
            index: 12,
            ..eraftpb::Entry::default()
        })
        .unwrap_err();
        let reason = "entry 12: a change is a ConfChangeV2, never a ConfChange";
        assert_eq!(error, WireError::new("eraftpb.Entry", "entry_type", reason));
    }

    #[test]
    fn a_field_that_has_no_place_is_an_error() {
        let mut raft = eraftpb::Entry {
            sync_log: true,
            ..eraftpb::Entry::default()
        };
        assert_eq!(from_raft(raft.clone()).unwrap_err().field, "sync_log");
        raft.sync_log = false;
        raft.unknown_fields.add_varint(99, 1);
        assert_eq!(from_raft(raft).unwrap_err().field, "unknown_fields");
    }
}
