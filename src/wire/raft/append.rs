//! Replication of the log (paper, section 5.3).

use std::mem;

use raft::eraftpb::{Message, MessageType};

use super::entry;
use crate::proto::raft::{AppendEntriesRequest, AppendEntriesResponse};
use crate::types::ClusterId;
use crate::wire::WireError;
use crate::wire::check::Check;

pub(super) const REQUEST: Check = Check("AppendEntriesRequest");
pub(super) const RESPONSE: Check = Check("AppendEntriesResponse");

/// The output of `RaftCore::prepare_send_entries` and `try_batching`.
pub(super) fn request_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
) -> Result<AppendEntriesRequest, WireError> {
    let entries = mem::take(&mut message.entries);
    Ok(AppendEntriesRequest {
        term: mem::take(&mut message.term),
        leader_id: mem::take(&mut message.from),
        prev_log_index: mem::take(&mut message.index),
        prev_log_term: mem::take(&mut message.log_term),
        entries: entries
            .into_iter()
            .map(entry::from_raft)
            .collect::<Result<_, _>>()?,
        leader_commit: mem::take(&mut message.commit),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    })
}

/// The input of `Raft::handle_append_entries`. It panics on gaps, and trusts that terms never decrease
/// along the log (paper, section 5.4.2: an entry is never newer than the leader that sends it).
pub(super) fn request_into_raft(request: AppendEntriesRequest) -> Result<Message, WireError> {
    let AppendEntriesRequest {
        term,
        leader_id,
        prev_log_index,
        prev_log_term,
        entries,
        leader_commit,
        cluster_id: _,
        to,
    } = request;
    let previous = ("prev_log_index", prev_log_index);
    REQUEST.log_position(previous, ("prev_log_term", prev_log_term), term)?;
    REQUEST.index("leader_commit", leader_commit)?;
    let (mut last_index, mut last_term) = (prev_log_index, prev_log_term);
    for entry in &entries {
        last_index += 1;
        REQUEST.that(
            entry.index == last_index,
            "entries",
            format_args!(
                "entry {} stands where entry {last_index} belongs",
                entry.index
            ),
        )?;
        REQUEST.that(
            (last_term.max(1)..=term).contains(&entry.term),
            "entries",
            format_args!(
                "entry {last_index} is of term {}, between term {last_term} and the leader's {term}",
                entry.term
            ),
        )?;
        last_term = entry.term;
    }
    REQUEST.index("entries", last_index)?;
    Ok(Message {
        msg_type: MessageType::MsgAppend,
        to,
        from: leader_id,
        term,
        log_term: prev_log_term,
        index: prev_log_index,
        entries: entries
            .into_iter()
            .map(entry::into_raft)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        commit: leader_commit,
        ..Message::default()
    })
}

/// The output of `Raft::handle_append_entries`, `handle_snapshot` and `send_request_snapshot`, and of
/// `step` for a leader of an earlier term: that answer holds only the newer term, so it is a success up
/// to index 0.
pub(super) fn response_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
) -> AppendEntriesResponse {
    AppendEntriesResponse {
        term: mem::take(&mut message.term),
        success: !mem::take(&mut message.reject),
        follower_id: mem::take(&mut message.from),
        index: mem::take(&mut message.index),
        reject_hint_index: mem::take(&mut message.reject_hint),
        reject_hint_term: mem::take(&mut message.log_term),
        commit_index: mem::take(&mut message.commit),
        request_snapshot: mem::take(&mut message.request_snapshot),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    }
}

/// The input of `Raft::handle_append_response`. It computes `index + 1` and `reject_hint + 1`.
pub(super) fn response_into_raft(response: AppendEntriesResponse) -> Result<Message, WireError> {
    let AppendEntriesResponse {
        term,
        success,
        follower_id,
        index,
        reject_hint_index,
        reject_hint_term,
        commit_index,
        request_snapshot,
        cluster_id: _,
        to,
    } = response;
    RESPONSE.index("index", index)?;
    RESPONSE.index("reject_hint_index", reject_hint_index)?;
    RESPONSE.index("commit_index", commit_index)?;
    RESPONSE.index("request_snapshot", request_snapshot)?;
    RESPONSE.that(
        reject_hint_term <= term,
        "reject_hint_term",
        format_args!("{reject_hint_term} is past the follower's term {term}"),
    )?;
    for (field, value) in [
        ("reject_hint_index", reject_hint_index),
        ("reject_hint_term", reject_hint_term),
        ("request_snapshot", request_snapshot),
    ] {
        RESPONSE.that(
            !success || value == 0,
            field,
            format_args!("{value} goes with a success"),
        )?;
    }
    Ok(Message {
        msg_type: MessageType::MsgAppendResponse,
        to,
        from: follower_id,
        term,
        log_term: reject_hint_term,
        index,
        commit: commit_index,
        request_snapshot,
        reject: !success,
        reject_hint: reject_hint_index,
        ..Message::default()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::eraftpb;

    use super::*;
    use crate::kv::{Command, Write};
    use crate::proto::raft::entry::Payload;
    use crate::wire::encode_command;
    use crate::wire::{MAX_INDEX, PeerMessage};

    const CLUSTER: ClusterId = ClusterId(0xC0FFEE);

    fn command() -> Bytes {
        encode_command(&Command::from(Write::Delete {
            key: Bytes::from_static(b"k"),
        }))
    }

    fn append() -> Message {
        let entry = |index, term, data| eraftpb::Entry {
            index,
            term,
            data,
            ..eraftpb::Entry::default()
        };
        Message {
            msg_type: MessageType::MsgAppend,
            from: 1 << 48,
            to: 2 << 48,
            term: 9,
            log_term: 5,
            index: 41,
            entries: vec![entry(42, 7, Bytes::new()), entry(43, 9, command())].into(),
            commit: 50,
            ..Message::default()
        }
    }

    fn typed() -> AppendEntriesRequest {
        match PeerMessage::from_raft(append(), CLUSTER).unwrap() {
            PeerMessage::AppendEntries(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn rejection() -> AppendEntriesResponse {
        AppendEntriesResponse {
            term: 9,
            success: false,
            follower_id: 2 << 48,
            index: 41,
            reject_hint_index: 30,
            reject_hint_term: 4,
            commit_index: 20,
            request_snapshot: 0,
            cluster_id: CLUSTER.0,
            to: 1 << 48,
        }
    }

    #[test]
    fn entries_travel_as_what_they_hold() {
        let request = typed();
        let payloads: Vec<_> = request.entries.iter().map(|e| e.payload.clone()).collect();
        assert_eq!(payloads, [None, Some(Payload::Command(command()))]);
        assert_eq!(request_into_raft(request).unwrap(), append());
    }

    #[test]
    fn payloads_are_not_copied() {
        let sent = append();
        let data = sent.entries[1].data.as_ptr();
        let typed = PeerMessage::from_raft(sent, CLUSTER).unwrap();
        let received = typed.into_raft().unwrap();
        assert_eq!(received.entries[1].data.as_ptr(), data);
    }

    #[test]
    fn a_probe_before_the_first_entry_is_well_formed() {
        let mut request = typed();
        request.entries.clear();
        (request.prev_log_index, request.prev_log_term) = (0, 0);
        assert!(request_into_raft(request).is_ok());
    }

    #[test]
    fn a_request_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut AppendEntriesRequest);
        let spoils: [(&str, Spoil); 13] = [
            ("prev_log_index", |r| r.prev_log_index = MAX_INDEX + 1),
            ("prev_log_term", |r| r.prev_log_index = 0),
            ("prev_log_term", |r| r.prev_log_term = 0),
            ("prev_log_term", |r| r.prev_log_term = r.term + 1),
            ("leader_commit", |r| r.leader_commit = MAX_INDEX + 1),
            ("entries", |r| r.prev_log_index += 1),
            ("entries", |r| r.entries[1].index += 1),
            ("entries", |r| r.entries.swap(0, 1)),
            ("entries", |r| r.entries[0].term = 4),
            ("entries", |r| r.entries[1].term = 6),
            ("entries", |r| r.entries[1].term = 10),
            ("entries", |r| {
                r.entries.truncate(1);
                r.prev_log_index = MAX_INDEX;
                r.entries[0].index = MAX_INDEX + 1;
            }),
            ("entries", |r| {
                (r.prev_log_index, r.prev_log_term) = (0, 0);
                (r.entries[0].index, r.entries[0].term) = (1, 0);
            }),
        ];
        for (field, spoil) in spoils {
            let mut request = typed();
            spoil(&mut request);
            let error = request_into_raft(request).unwrap_err();
            assert_eq!(
                (error.message, error.field),
                ("AppendEntriesRequest", field)
            );
        }
    }

    #[test]
    fn a_stale_leader_is_answered_with_the_newer_term_alone() {
        let message = Message {
            msg_type: MessageType::MsgAppendResponse,
            from: 2 << 48,
            to: 1 << 48,
            term: 9,
            ..Message::default()
        };
        let typed = PeerMessage::from_raft(message.clone(), CLUSTER).unwrap();
        assert_eq!(typed.into_raft().unwrap(), message);
    }

    #[test]
    fn a_response_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut AppendEntriesResponse);
        let spoils: [(&str, Spoil); 8] = [
            ("index", |r| r.index = MAX_INDEX + 1),
            ("reject_hint_index", |r| r.reject_hint_index = u64::MAX),
            ("reject_hint_term", |r| r.reject_hint_term = r.term + 1),
            ("commit_index", |r| r.commit_index = MAX_INDEX + 1),
            ("request_snapshot", |r| r.request_snapshot = MAX_INDEX + 1),
            ("reject_hint_index", |r| r.success = true),
            ("reject_hint_term", |r| {
                (r.success, r.reject_hint_index) = (true, 0);
            }),
            ("request_snapshot", |r| {
                (r.success, r.reject_hint_index, r.reject_hint_term) = (true, 0, 0);
                r.request_snapshot = 1;
            }),
        ];
        for (field, spoil) in spoils {
            let mut response = rejection();
            assert!(response_into_raft(response).is_ok());
            spoil(&mut response);
            let error = response_into_raft(response).unwrap_err();
            assert_eq!(
                (error.message, error.field),
                ("AppendEntriesResponse", field)
            );
        }
    }
}
