//! The messages that raft-rs emits and steps, and the typed messages that travel in their place.
//!
//! `eraftpb` has one message type whose fields mean different things for different kinds. [`PeerMessage`]
//! has a type for each kind, with the fields and the names of the Raft paper.
//!
//! The two directions differ. [`PeerMessage::from_raft`] takes a message of our own raft-rs: it trusts
//! the values, and ensures that none is lost. A field that is set but has no place in the typed message
//! is an error, so a raft-rs that begins to use a field which it does not use today is noticed at once.
//! [`PeerMessage::into_raft`] takes a message of a peer: it carries every field, and trusts none. It
//! refuses values on which raft-rs would panic, its arithmetic would overflow, or which it would misread,
//! as far as this can be checked without the log.
//!
//! | typed message | `eraftpb` | emitted by raft-rs in |
//! |---|---|---|
//! | [`RequestVoteRequest`] | `MsgRequestVote`, `MsgRequestPreVote` | `Raft::campaign` |
//! | [`RequestVoteResponse`] | `MsgRequestVoteResponse`, `MsgRequestPreVoteResponse` | `Raft::step` |
//! | [`AppendEntriesRequest`] | `MsgAppend` | `RaftCore::prepare_send_entries` |
//! | [`AppendEntriesResponse`] | `MsgAppendResponse` | `Raft::handle_append_entries`, `handle_snapshot`, `send_request_snapshot`, and `step` for a stale leader |
//! | [`HeartbeatRequest`] | `MsgHeartbeat` | `RaftCore::send_heartbeat` |
//! | [`HeartbeatResponse`] | `MsgHeartbeatResponse` | `Raft::handle_heartbeat` |
//! | [`InstallSnapshotRequest`] | `MsgSnapshot` | `RaftCore::prepare_send_snapshot` |
//! | [`TimeoutNowRequest`] | `MsgTimeoutNow` | `Raft::send_timeout_now` |
//!
//! Every other kind is either local to a node or forwards a caller's request to the leader, which Seshat
//! never does.

mod append;
mod conf;
mod entry;
mod heartbeat;
mod snapshot;
mod vote;

use std::mem;

use prost::Message as _;
use protobuf::UnknownFields;
use raft::eraftpb::{self, MessageType};

pub use self::snapshot::{InstallSnapshotHeader, install_snapshot_response};

use crate::proto::raft::{
    AppendEntriesRequest, AppendEntriesResponse, HeartbeatRequest, HeartbeatResponse,
    InstallSnapshotRequest, RequestVoteRequest, RequestVoteResponse, TimeoutNowRequest,
};
use crate::types::{ClusterId, RaftId, Term};
use crate::wire::WireError;
use crate::wire::check::Check;

/// One message between two nodes, in its generated type. The transport carries it, and the node steps it.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerMessage {
    /// A candidate, or a pre-candidate, asks for a vote.
    RequestVote(RequestVoteRequest),
    /// A voter answers.
    RequestVoteReply(RequestVoteResponse),
    /// The leader replicates entries, probes, or announces a commit.
    AppendEntries(AppendEntriesRequest),
    /// A follower answers an append, a snapshot, or a stale leader's heartbeat.
    AppendEntriesReply(AppendEntriesResponse),
    /// The leader keeps its leadership, or confirms it for reads.
    Heartbeat(HeartbeatRequest),
    /// A follower answers.
    HeartbeatReply(HeartbeatResponse),
    /// The leader replaces a follower's log. A whole snapshot (`offset` 0, `done`, all of `data`), as in
    /// raft-rs. Between nodes no snapshot travels like this: there a [`InstallSnapshotHeader`] goes with a state
    /// machine, in [`SnapshotChunks`](crate::wire::SnapshotChunks).
    InstallSnapshot(InstallSnapshotRequest),
    /// The leader tells a follower to campaign at once.
    TimeoutNow(TimeoutNowRequest),
}

/// The cluster, sender, receiver and term of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The cluster that the message belongs to.
    pub cluster_id: ClusterId,
    /// The process that sent it.
    pub from: RaftId,
    /// The process that it is for.
    pub to: RaftId,
    /// The sender's term. For a pre-vote and its grant, the term that the vote is about.
    pub term: Term,
}

/// The fields of an envelope as they arrived, and the name of the sender's field.
struct RawEnvelope {
    check: Check,
    from_field: &'static str,
    cluster_id: u64,
    from: u64,
    to: u64,
    term: Term,
}

impl PeerMessage {
    /// The typed form of `message`, which our own raft-rs emitted in the cluster `cluster_id`.
    ///
    /// # Errors
    ///
    /// If the typed form cannot carry all of `message`: it is local, or forwards a request, or sets
    /// a field that messages of its kind do not use.
    pub fn from_raft(
        mut message: eraftpb::Message,
        cluster_id: ClusterId,
    ) -> Result<Self, WireError> {
        let kind = mem::take(&mut message.msg_type);
        let taken = &mut message;
        // Each conversion takes its fields out of the message, so the remaining fields show a loss.
        let typed = match kind {
            MessageType::MsgRequestVote => {
                Self::RequestVote(vote::request_from_raft(taken, cluster_id, false)?)
            }
            MessageType::MsgRequestPreVote => {
                Self::RequestVote(vote::request_from_raft(taken, cluster_id, true)?)
            }
            MessageType::MsgRequestVoteResponse => {
                Self::RequestVoteReply(vote::response_from_raft(taken, cluster_id, false))
            }
            MessageType::MsgRequestPreVoteResponse => {
                Self::RequestVoteReply(vote::response_from_raft(taken, cluster_id, true))
            }
            MessageType::MsgAppend => {
                Self::AppendEntries(append::request_from_raft(taken, cluster_id)?)
            }
            MessageType::MsgAppendResponse => {
                Self::AppendEntriesReply(append::response_from_raft(taken, cluster_id))
            }
            MessageType::MsgHeartbeat => {
                Self::Heartbeat(heartbeat::request_from_raft(taken, cluster_id))
            }
            MessageType::MsgHeartbeatResponse => {
                Self::HeartbeatReply(heartbeat::response_from_raft(taken, cluster_id))
            }
            MessageType::MsgSnapshot => {
                Self::InstallSnapshot(snapshot::request_from_raft(taken, cluster_id)?)
            }
            MessageType::MsgTimeoutNow => {
                Self::TimeoutNow(heartbeat::timeout_now_from_raft(taken, cluster_id))
            }
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum => {
                return Err(not_carried("msg_type", format!("{kind:?} is local")));
            }
            MessageType::MsgPropose
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgTransferLeader => {
                let reason = format!("{kind:?} forwards a request, which nodes never do");
                return Err(not_carried("msg_type", reason));
            }
        };
        nothing_left(kind, &message)?;
        Ok(typed)
    }

    /// The message for raft-rs, after all checks that depend on the message alone.
    ///
    /// # Errors
    ///
    /// If the message is not well formed: the error names message, field and reason.
    pub fn into_raft(self) -> Result<eraftpb::Message, WireError> {
        self.envelope()?;
        match self {
            Self::RequestVote(request) => vote::request_into_raft(request),
            Self::RequestVoteReply(response) => vote::response_into_raft(response),
            Self::AppendEntries(request) => append::request_into_raft(request),
            Self::AppendEntriesReply(response) => append::response_into_raft(response),
            Self::Heartbeat(request) => heartbeat::request_into_raft(request),
            Self::HeartbeatReply(response) => heartbeat::response_into_raft(response),
            Self::InstallSnapshot(request) => snapshot::request_into_raft(request),
            Self::TimeoutNow(request) => Ok(heartbeat::timeout_now_into_raft(request)),
        }
    }

    /// The envelope of the message. Cheap: it reads no other field.
    ///
    /// # Errors
    ///
    /// If an id is no raft id, if a process wrote to itself, or if the term is not between 1 and
    /// [`MAX_TERM`](crate::wire::MAX_TERM).
    pub fn envelope(&self) -> Result<Envelope, WireError> {
        let RawEnvelope {
            check,
            from_field,
            cluster_id,
            from,
            to,
            term,
        } = self.raw_envelope();
        let envelope = Envelope {
            cluster_id: ClusterId(cluster_id),
            from: check.raft_id(from_field, from)?,
            to: check.raft_id("to", to)?,
            term,
        };
        check.that(
            envelope.from != envelope.to,
            "to",
            format_args!("{} writes to itself", envelope.to),
        )?;
        check.term("term", term)?;
        Ok(envelope)
    }

    /// The message's name, for log lines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RequestVote(_) => "RequestVote",
            Self::RequestVoteReply(_) => "RequestVoteReply",
            Self::AppendEntries(_) => "AppendEntries",
            Self::AppendEntriesReply(_) => "AppendEntriesReply",
            Self::Heartbeat(_) => "Heartbeat",
            Self::HeartbeatReply(_) => "HeartbeatReply",
            Self::InstallSnapshot(_) => "InstallSnapshot",
            Self::TimeoutNow(_) => "TimeoutNow",
        }
    }

    /// The number of bytes that the message takes when it is encoded, without the framing of gRPC.
    pub fn size_hint(&self) -> usize {
        match self {
            Self::RequestVote(message) => message.encoded_len(),
            Self::RequestVoteReply(message) => message.encoded_len(),
            Self::AppendEntries(message) => message.encoded_len(),
            Self::AppendEntriesReply(message) => message.encoded_len(),
            Self::Heartbeat(message) => message.encoded_len(),
            Self::HeartbeatReply(message) => message.encoded_len(),
            Self::InstallSnapshot(message) => message.encoded_len(),
            Self::TimeoutNow(message) => message.encoded_len(),
        }
    }

    fn raw_envelope(&self) -> RawEnvelope {
        let (check, from_field, cluster_id, from, to, term) = match self {
            Self::RequestVote(m) => (
                vote::REQUEST,
                "candidate_id",
                m.cluster_id,
                m.candidate_id,
                m.to,
                m.term,
            ),
            Self::RequestVoteReply(m) => (
                vote::RESPONSE,
                "voter_id",
                m.cluster_id,
                m.voter_id,
                m.to,
                m.term,
            ),
            Self::AppendEntries(m) => (
                append::REQUEST,
                "leader_id",
                m.cluster_id,
                m.leader_id,
                m.to,
                m.term,
            ),
            Self::AppendEntriesReply(m) => (
                append::RESPONSE,
                "follower_id",
                m.cluster_id,
                m.follower_id,
                m.to,
                m.term,
            ),
            Self::Heartbeat(m) => (
                heartbeat::REQUEST,
                "leader_id",
                m.cluster_id,
                m.leader_id,
                m.to,
                m.term,
            ),
            Self::HeartbeatReply(m) => (
                heartbeat::RESPONSE,
                "follower_id",
                m.cluster_id,
                m.follower_id,
                m.to,
                m.term,
            ),
            Self::InstallSnapshot(m) => (
                snapshot::REQUEST,
                "leader_id",
                m.cluster_id,
                m.leader_id,
                m.to,
                m.term,
            ),
            Self::TimeoutNow(m) => (
                heartbeat::TIMEOUT_NOW,
                "leader_id",
                m.cluster_id,
                m.leader_id,
                m.to,
                m.term,
            ),
        };
        RawEnvelope {
            check,
            from_field,
            cluster_id,
            from,
            to,
            term,
        }
    }
}

/// A message of raft-rs that has no typed form.
fn not_carried(field: &'static str, reason: impl Into<String>) -> WireError {
    WireError::new("eraftpb.Message", field, reason)
}

/// Refuses a message of `kind` with fields that its typed form has not taken.
fn nothing_left(kind: MessageType, rest: &eraftpb::Message) -> Result<(), WireError> {
    let eraftpb::Message {
        msg_type: _,
        to,
        from,
        term,
        log_term,
        index,
        entries,
        commit,
        commit_term,
        snapshot,
        request_snapshot,
        reject,
        reject_hint,
        context,
        deprecated_priority,
        priority,
        unknown_fields,
        cached_size: _,
    } = rest;
    let left = [
        ("to", *to != 0),
        ("from", *from != 0),
        ("term", *term != 0),
        ("log_term", *log_term != 0),
        ("index", *index != 0),
        ("entries", !entries.is_empty()),
        ("commit", *commit != 0),
        ("commit_term", *commit_term != 0),
        ("snapshot", snapshot.is_some()),
        ("request_snapshot", *request_snapshot != 0),
        ("reject", *reject),
        ("reject_hint", *reject_hint != 0),
        ("context", !context.is_empty()),
        ("deprecated_priority", *deprecated_priority != 0),
        ("priority", *priority != 0),
        ("unknown_fields", !is_empty(unknown_fields)),
    ];
    match left.iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((field, _)) => Err(not_carried(field, format!("{kind:?} does not carry it"))),
    }
}

/// Whether rust-protobuf found only fields that it knows.
fn is_empty(unknown: &UnknownFields) -> bool {
    unknown.fields.is_none()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::eraftpb::{Entry, Message, Snapshot};

    use super::*;
    use crate::wire::MAX_TERM;

    const CLUSTER: ClusterId = ClusterId(0xC0FFEE);
    const ONE: u64 = 1 << 48 | 0xA;
    const TWO: u64 = 2 << 48 | 0xB;

    fn message(msg_type: MessageType) -> Message {
        Message {
            msg_type,
            from: ONE,
            to: TWO,
            term: 7,
            ..Message::default()
        }
    }

    fn timeout_now() -> TimeoutNowRequest {
        TimeoutNowRequest {
            term: 7,
            leader_id: ONE,
            cluster_id: CLUSTER.0,
            to: TWO,
        }
    }

    #[test]
    fn local_and_forwarded_messages_have_no_typed_form() {
        for kind in [
            MessageType::MsgHup,
            MessageType::MsgBeat,
            MessageType::MsgUnreachable,
            MessageType::MsgSnapStatus,
            MessageType::MsgCheckQuorum,
            MessageType::MsgPropose,
            MessageType::MsgReadIndex,
            MessageType::MsgReadIndexResp,
            MessageType::MsgTransferLeader,
        ] {
            let error = PeerMessage::from_raft(message(kind), CLUSTER).unwrap_err();
            assert_eq!(error.field, "msg_type", "{kind:?}");
        }
    }

    /// `MsgTimeoutNow` carries only its envelope, so every other field is one too many.
    #[test]
    fn a_field_that_the_typed_form_cannot_carry_is_an_error() {
        type Set = fn(&mut Message);
        let sets: [(&str, Set); 12] = [
            ("log_term", |m| m.log_term = 1),
            ("index", |m| m.index = 1),
            ("entries", |m| m.entries = vec![Entry::default()].into()),
            ("commit", |m| m.commit = 1),
            ("commit_term", |m| m.commit_term = 1),
            ("snapshot", |m| m.set_snapshot(Snapshot::default())),
            ("request_snapshot", |m| m.request_snapshot = 1),
            ("reject", |m| m.reject = true),
            ("reject_hint", |m| m.reject_hint = 1),
            ("context", |m| m.context = Bytes::from_static(b"x")),
            ("deprecated_priority", |m| m.deprecated_priority = 1),
            ("priority", |m| m.priority = -1),
        ];
        for (field, set) in sets {
            let mut message = message(MessageType::MsgTimeoutNow);
            assert!(PeerMessage::from_raft(message.clone(), CLUSTER).is_ok());
            set(&mut message);
            let error = PeerMessage::from_raft(message, CLUSTER).unwrap_err();
            assert_eq!((error.message, error.field), ("eraftpb.Message", field));
        }
        let mut message = message(MessageType::MsgTimeoutNow);
        message.unknown_fields.add_varint(99, 1);
        let error = PeerMessage::from_raft(message, CLUSTER).unwrap_err();
        assert_eq!(error.field, "unknown_fields");
    }

    #[test]
    fn an_envelope_names_sender_receiver_cluster_and_term() {
        let typed = PeerMessage::TimeoutNow(timeout_now());
        let envelope = typed.envelope().unwrap();
        assert_eq!(envelope.cluster_id, CLUSTER);
        assert_eq!((envelope.from.get(), envelope.to.get()), (ONE, TWO));
        assert_eq!(envelope.term, 7);
        assert_eq!(typed.name(), "TimeoutNow");
        assert_eq!(
            typed.into_raft().unwrap(),
            message(MessageType::MsgTimeoutNow)
        );
    }

    #[test]
    fn an_envelope_with_a_bad_id_or_term_is_refused() {
        type Spoil = fn(&mut TimeoutNowRequest);
        let spoils: [(&str, Spoil); 5] = [
            ("leader_id", |m| m.leader_id = 1),
            ("to", |m| m.to = 0),
            ("to", |m| m.to = m.leader_id),
            ("term", |m| m.term = 0),
            ("term", |m| m.term = MAX_TERM + 1),
        ];
        for (field, spoil) in spoils {
            let mut request = timeout_now();
            spoil(&mut request);
            let error = PeerMessage::TimeoutNow(request).into_raft().unwrap_err();
            assert_eq!((error.message, error.field), ("TimeoutNowRequest", field));
        }
    }

    #[test]
    fn the_size_hint_is_the_encoded_size() {
        let typed = PeerMessage::InstallSnapshot(InstallSnapshotRequest {
            data: Bytes::from(vec![1; 100_000]),
            ..InstallSnapshotRequest::default()
        });
        assert_eq!(typed.size_hint(), 100_000 + 1 + 3);
    }
}
