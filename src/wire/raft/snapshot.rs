//! Snapshots for followers that are too far behind (paper, section 7).

use std::mem;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType, Snapshot, SnapshotMetadata};

use super::{Envelope, PeerMessage, conf, is_empty, not_carried};
use crate::proto::raft::{AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse};
use crate::types::{ClusterId, LogIndex};
use crate::wire::WireError;
use crate::wire::check::Check;

pub(super) const REQUEST: Check = Check("InstallSnapshotRequest");
const RESPONSE: Check = Check("InstallSnapshotResponse");

/// A snapshot without its data: its sender, its receiver, and what it replaces. Every chunk repeats it.
/// The state machine travels beside it, never inside.
#[derive(Debug, Clone, PartialEq)]
pub struct InstallSnapshotHeader(InstallSnapshotRequest);

/// The header in `chunk`.
impl From<InstallSnapshotRequest> for InstallSnapshotHeader {
    fn from(chunk: InstallSnapshotRequest) -> Self {
        // The header of a whole snapshot without data, which is the form that raft-rs gets.
        Self(InstallSnapshotRequest {
            data: Bytes::new(),
            done: true,
            offset: 0,
            total_size: 0,
            crc32: 0,
            ..chunk
        })
    }
}

impl From<InstallSnapshotHeader> for InstallSnapshotRequest {
    fn from(InstallSnapshotHeader(request): InstallSnapshotHeader) -> Self {
        request
    }
}

impl InstallSnapshotHeader {
    /// The snapshot replaces all entries up through and including this index.
    pub fn last_included_index(&self) -> LogIndex {
        self.0.last_included_index
    }

    /// The header of the snapshot that our own raft-rs sends with `message`.
    ///
    /// # Errors
    ///
    /// As for [`PeerMessage::from_raft`], and if `message` sends no snapshot.
    pub fn from_raft(message: Message, cluster_id: ClusterId) -> Result<Self, WireError> {
        match PeerMessage::from_raft(message, cluster_id)? {
            PeerMessage::InstallSnapshot(request) => Ok(request.into()),
            other => {
                let reason = format!("{} is no InstallSnapshot", other.name());
                Err(not_carried("msg_type", reason))
            }
        }
    }

    /// The message for raft-rs.
    ///
    /// # Errors
    ///
    /// As for [`PeerMessage::into_raft`].
    pub fn into_raft(self) -> Result<Message, WireError> {
        PeerMessage::InstallSnapshot(self.0).into_raft()
    }

    /// The envelope of the snapshot.
    ///
    /// # Errors
    ///
    /// As for [`PeerMessage::envelope`].
    pub fn envelope(&self) -> Result<Envelope, WireError> {
        // This copies the members' ids, once for each snapshot.
        PeerMessage::InstallSnapshot(self.0.clone()).envelope()
    }

    /// The message on the wire, without data.
    pub fn request(&self) -> &InstallSnapshotRequest {
        &self.0
    }
}

/// The output of `RaftCore::prepare_send_snapshot`.
pub(super) fn request_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
) -> Result<InstallSnapshotRequest, WireError> {
    let Some(snapshot) = mem::take(&mut message.snapshot).into_option() else {
        return Err(not_carried("snapshot", "a MsgSnapshot needs one"));
    };
    let Snapshot {
        data,
        metadata,
        unknown_fields,
        cached_size: _,
    } = snapshot;
    let known = is_empty(&unknown_fields);
    let Some(metadata) = metadata.into_option() else {
        return Err(not_carried("snapshot", "a MsgSnapshot needs its metadata"));
    };
    let SnapshotMetadata {
        conf_state,
        index,
        term,
        unknown_fields,
        cached_size: _,
    } = metadata;
    Check("eraftpb.Snapshot").that(
        known && is_empty(&unknown_fields),
        "unknown_fields",
        format_args!("there are some"),
    )?;
    Ok(InstallSnapshotRequest {
        term: mem::take(&mut message.term),
        leader_id: mem::take(&mut message.from),
        last_included_index: index,
        last_included_term: term,
        done: true,
        offset: 0,
        total_size: size(data.len()),
        crc32: crc32fast::hash(&data),
        data,
        conf_state: conf_state
            .into_option()
            .map(conf::state_from_raft)
            .transpose()?,
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    })
}

/// The input of `Raft::handle_snapshot`: a whole snapshot, not one of its chunks.
pub(super) fn request_into_raft(request: InstallSnapshotRequest) -> Result<Message, WireError> {
    let InstallSnapshotRequest {
        term,
        leader_id,
        last_included_index,
        last_included_term,
        data,
        done,
        offset,
        total_size,
        conf_state,
        cluster_id: _,
        to,
        crc32,
    } = request;
    let last = ("last_included_index", last_included_index);
    REQUEST.log_position(last, ("last_included_term", last_included_term), term)?;
    REQUEST.that(
        last_included_index >= 1,
        "last_included_index",
        format_args!("the snapshot holds nothing"),
    )?;
    REQUEST.that(
        offset == 0,
        "offset",
        format_args!("{offset}: the beginning of the snapshot is missing"),
    )?;
    REQUEST.that(
        done,
        "done",
        format_args!("the end of the snapshot is missing"),
    )?;
    REQUEST.that(
        total_size == size(data.len()),
        "total_size",
        format_args!("{total_size} bytes announced, {} there", data.len()),
    )?;
    REQUEST.that(
        crc32 == crc32fast::hash(&data),
        "crc32",
        format_args!("the snapshot is damaged"),
    )?;
    let Some(conf_state) = conf_state else {
        return Err(WireError::new(REQUEST.0, "conf_state", "missing"));
    };
    let metadata = SnapshotMetadata {
        conf_state: Some(conf::state_into_raft(conf_state)?).into(),
        index: last_included_index,
        term: last_included_term,
        ..SnapshotMetadata::default()
    };
    let snapshot = Snapshot {
        data,
        metadata: Some(metadata).into(),
        ..Snapshot::default()
    };
    Ok(Message {
        msg_type: MessageType::MsgSnapshot,
        to,
        from: leader_id,
        term,
        snapshot: Some(snapshot).into(),
        ..Message::default()
    })
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The answer of an `InstallSnapshot` call: in Raft, a follower answers a snapshot as it answers an
/// append (`Raft::handle_snapshot`).
pub fn install_snapshot_response(log: AppendEntriesResponse) -> InstallSnapshotResponse {
    InstallSnapshotResponse {
        term: log.term,
        log: Some(log),
    }
}

/// The follower's state of its log, in the answer of an `InstallSnapshot` call.
impl TryFrom<InstallSnapshotResponse> for PeerMessage {
    type Error = WireError;

    fn try_from(response: InstallSnapshotResponse) -> Result<Self, WireError> {
        let InstallSnapshotResponse { term, log } = response;
        let Some(log) = log else {
            return Err(WireError::new(RESPONSE.0, "log", "missing"));
        };
        RESPONSE.that(
            term == log.term,
            "term",
            format_args!("{term}, but {} in the answer", log.term),
        )?;
        Ok(Self::AppendEntriesReply(log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::raft::ConfState;
    use crate::wire::MAX_INDEX;

    const CLUSTER: ClusterId = ClusterId(0xC0FFEE);

    fn whole() -> InstallSnapshotRequest {
        InstallSnapshotRequest {
            term: 9,
            leader_id: 1 << 48,
            last_included_index: 100,
            last_included_term: 8,
            data: Bytes::from_static(b"state"),
            done: true,
            offset: 0,
            total_size: 5,
            conf_state: Some(ConfState {
                voters: vec![1 << 48, 2 << 48],
                ..ConfState::default()
            }),
            cluster_id: CLUSTER.0,
            to: 2 << 48,
            crc32: crc32fast::hash(b"state"),
        }
    }

    #[test]
    fn a_snapshot_travels_with_its_place_and_its_members_and_is_not_copied() {
        let sent = whole();
        let data = sent.data.as_ptr();
        let message = request_into_raft(sent).unwrap();
        let snapshot = message.get_snapshot();
        assert_eq!(snapshot.data.as_ptr(), data);
        assert_eq!(snapshot.get_metadata().index, 100);
        assert_eq!(snapshot.get_metadata().term, 8);
        assert_eq!(
            PeerMessage::from_raft(message, CLUSTER),
            Ok(PeerMessage::InstallSnapshot(whole()))
        );
    }

    #[test]
    fn a_snapshot_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut InstallSnapshotRequest);
        let spoils: [(&str, Spoil); 10] = [
            ("last_included_index", |r| {
                (r.last_included_index, r.last_included_term) = (0, 0);
            }),
            ("last_included_index", |r| {
                r.last_included_index = MAX_INDEX + 1;
            }),
            ("last_included_term", |r| r.last_included_term = 0),
            ("last_included_term", |r| r.last_included_term = r.term + 1),
            ("offset", |r| r.offset = 1),
            ("done", |r| r.done = false),
            ("total_size", |r| r.total_size += 1),
            ("total_size", |r| r.data = Bytes::new()),
            ("conf_state", |r| r.conf_state = None),
            ("voters", |r| r.conf_state = Some(ConfState::default())),
        ];
        for (field, spoil) in spoils {
            let mut request = whole();
            spoil(&mut request);
            assert_eq!(request_into_raft(request).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_message_without_its_snapshot_has_no_typed_form() {
        let mut message = Message {
            msg_type: MessageType::MsgSnapshot,
            ..Message::default()
        };
        let error = PeerMessage::from_raft(message.clone(), CLUSTER).unwrap_err();
        assert_eq!(error.field, "snapshot");
        message.set_snapshot(Snapshot::default());
        let error = PeerMessage::from_raft(message, CLUSTER).unwrap_err();
        assert_eq!(error.field, "snapshot");
    }

    #[test]
    fn a_snapshot_field_that_raft_rs_does_not_know_is_an_error() {
        for in_metadata in [false, true] {
            let mut message = request_into_raft(whole()).unwrap();
            let snapshot = message.mut_snapshot();
            let unknown = match in_metadata {
                true => &mut snapshot.mut_metadata().unknown_fields,
                false => &mut snapshot.unknown_fields,
            };
            unknown.add_varint(99, 1);
            let error = PeerMessage::from_raft(message, CLUSTER).unwrap_err();
            assert_eq!(error.field, "unknown_fields");
        }
    }

    #[test]
    fn a_header_is_all_but_the_data_and_goes_through_raft_unchanged() {
        let chunk = InstallSnapshotRequest {
            done: false,
            offset: 3,
            total_size: 20,
            ..whole()
        };
        let header = InstallSnapshotHeader::from(chunk);
        let of_nothing = InstallSnapshotRequest {
            data: Bytes::new(),
            total_size: 0,
            crc32: 0,
            ..whole()
        };
        assert_eq!(header.request(), &of_nothing);
        assert_eq!(header.last_included_index(), 100);
        assert_eq!(header.envelope().unwrap().to.get(), 2 << 48);
        let message = header.clone().into_raft().unwrap();
        assert_eq!(message.get_snapshot().get_metadata().index, 100);
        assert_eq!(
            InstallSnapshotHeader::from_raft(message, CLUSTER),
            Ok(header)
        );
        let other = Message {
            msg_type: MessageType::MsgTimeoutNow,
            ..Message::default()
        };
        assert!(InstallSnapshotHeader::from_raft(other, CLUSTER).is_err());
    }

    #[test]
    fn a_snapshot_is_answered_like_an_append() {
        let log = AppendEntriesResponse {
            term: 9,
            success: true,
            index: 100,
            ..AppendEntriesResponse::default()
        };
        let answer = install_snapshot_response(log);
        assert_eq!(answer.term, 9);
        assert_eq!(
            PeerMessage::try_from(answer),
            Ok(PeerMessage::AppendEntriesReply(log))
        );
        let spoilt = InstallSnapshotResponse { term: 8, ..answer };
        assert_eq!(PeerMessage::try_from(spoilt).unwrap_err().field, "term");
        let spoilt = InstallSnapshotResponse {
            log: None,
            ..answer
        };
        assert_eq!(PeerMessage::try_from(spoilt).unwrap_err().field, "log");
    }
}
