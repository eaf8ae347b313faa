//! Messages as a raft-rs node could emit them, by kind.
//!
//! One generator for all of them would be useless: nearly all of its messages would be impossible. So
//! there is one for each [`Kind`], which fills in exactly the fields that raft-rs fills in, within the
//! bounds that hold in every Raft group: terms never fall along a log, and no log is ahead of its
//! server's term.

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use protobuf::Message as _;
use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, Message,
    MessageType, Snapshot, SnapshotMetadata,
};
use seshat::kv::Write;
use seshat::types::ClusterId;
use seshat::wire::{MAX_INDEX, MAX_TERM, encode_command};

use crate::Kind;

/// Most entries of a generated append.
const MAX_ENTRIES: usize = 6;

/// A message of any kind; all kinds are equally likely.
pub fn message() -> impl Strategy<Value = Message> {
    proptest::sample::select(Kind::ALL.to_vec()).prop_flat_map(message_of)
}

/// A message of `kind`.
pub fn message_of(kind: Kind) -> BoxedStrategy<Message> {
    match kind {
        Kind::PreVote => vote(MessageType::MsgRequestPreVote, b"").boxed(),
        Kind::Vote => vote(MessageType::MsgRequestVote, b"").boxed(),
        Kind::VoteOfTransfer => vote(MessageType::MsgRequestVote, CAMPAIGN_TRANSFER).boxed(),
        Kind::PreVoteGranted => envelope(MessageType::MsgRequestPreVoteResponse).boxed(),
        Kind::VoteGranted => envelope(MessageType::MsgRequestVoteResponse).boxed(),
        Kind::PreVoteRefused => refused(MessageType::MsgRequestPreVoteResponse).boxed(),
        Kind::VoteRefused => refused(MessageType::MsgRequestVoteResponse).boxed(),
        Kind::PreVoteOfStaleTermRefused => envelope(MessageType::MsgRequestPreVoteResponse)
            .prop_map(|envelope| Message {
                reject: true,
                ..envelope
            })
            .boxed(),
        Kind::Probe => append(None).boxed(),
        Kind::AppendOfFirstEntry => append(Some(payload(first_entry()))).boxed(),
        Kind::AppendOfCommands => append(Some(payload(command()))).boxed(),
        Kind::AppendOfConfChange => append(Some(payload(conf_change()))).boxed(),
        Kind::Appended => appended().boxed(),
        Kind::AppendRefused => append_refused().boxed(),
        Kind::SnapshotWanted => snapshot_wanted().boxed(),
        Kind::StaleLeader => envelope(MessageType::MsgAppendResponse).boxed(),
        Kind::Heartbeat => heartbeat(MessageType::MsgHeartbeat, 0..1).boxed(),
        Kind::HeartbeatForReads => heartbeat(MessageType::MsgHeartbeat, 1..40).boxed(),
        Kind::HeartbeatAnswered => heartbeat(MessageType::MsgHeartbeatResponse, 0..1).boxed(),
        Kind::HeartbeatForReadsAnswered => {
            heartbeat(MessageType::MsgHeartbeatResponse, 1..40).boxed()
        }
        Kind::Snapshot => snapshot(members(0..1)).boxed(),
        Kind::SnapshotWithLearners => snapshot(members(1..4)).boxed(),
        Kind::TimeoutNow => envelope(MessageType::MsgTimeoutNow).boxed(),
    }
}

/// The id of a cluster.
pub fn cluster_id() -> impl Strategy<Value = ClusterId> {
    any::<u64>().prop_map(ClusterId)
}

/// A valid raft id.
pub fn raft_id() -> impl Strategy<Value = u64> {
    let node = prop_oneof![1..8u64, 1..=65_535u64];
    let incarnation = prop_oneof![Just(0), Just((1 << 48) - 1), 0..1u64 << 48];
    (node, incarnation).prop_map(|(node, incarnation)| node << 48 | incarnation)
}

/// A number from 1 to `max`, often one of the ends.
fn number(max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => 1..=max.min(9),
        2 => 1..=max,
        1 => Just(max),
    ]
}

/// A position in a log: an index and its term, or the position before the log.
fn log_position(max_index: u64, max_term: u64) -> BoxedStrategy<(u64, u64)> {
    if max_index == 0 || max_term == 0 {
        return Just((0, 0)).boxed();
    }
    prop_oneof![
        1 => Just((0, 0)),
        6 => (number(max_index), number(max_term)),
    ]
    .boxed()
}

/// A message with only a sender, a receiver and a term.
fn envelope(msg_type: MessageType) -> impl Strategy<Value = Message> {
    let ids =
        (raft_id(), raft_id()).prop_filter("no process sends to itself", |(from, to)| from != to);
    (ids, number(MAX_TERM)).prop_map(move |((from, to), term)| Message {
        msg_type,
        from,
        to,
        term,
        ..Message::default()
    })
}

/// `Raft::campaign`.
fn vote(msg_type: MessageType, context: &'static [u8]) -> impl Strategy<Value = Message> {
    let priority = prop_oneof![Just(0), any::<i64>()];
    (envelope(msg_type), priority)
        .prop_flat_map(|(envelope, priority)| {
            (
                log_position(MAX_INDEX, envelope.term),
                Just((envelope, priority)),
            )
        })
        .prop_flat_map(|((index, log_term), envelope)| {
            (
                log_position(index, log_term),
                Just((envelope, index, log_term)),
            )
        })
        .prop_map(
            move |((commit, commit_term), ((envelope, priority), index, log_term))| Message {
                index,
                log_term,
                commit,
                commit_term,
                context: Bytes::from_static(context),
                priority,
                deprecated_priority: priority.max(0).try_into().unwrap(),
                ..envelope
            },
        )
}

/// `Raft::step`, when it refuses a vote.
fn refused(msg_type: MessageType) -> impl Strategy<Value = Message> {
    envelope(msg_type)
        .prop_flat_map(|envelope| (number(MAX_INDEX), number(envelope.term), Just(envelope)))
        .prop_map(|(commit, commit_term, envelope)| Message {
            commit,
            commit_term,
            reject: true,
            ..envelope
        })
}

/// `RaftCore::prepare_send_entries`: up to `MAX_ENTRIES` commands and first entries, then `last`.
fn append(last: Option<BoxedStrategy<Entry>>) -> impl Strategy<Value = Message> {
    let entries = match last {
        None => Just(Vec::new()).boxed(),
        Some(last) => {
            let before = vec(
                prop_oneof![payload(first_entry()), payload(command())],
                0..MAX_ENTRIES,
            );
            (before, last)
                .prop_map(|(mut entries, last)| {
                    if Kind::of_append(&last) == Kind::AppendOfFirstEntry {
                        entries.retain(|entry| entry.data.is_empty());
                    }
                    entries.push(last);
                    entries
                })
                .boxed()
        }
    };
    let steps = vec(
        prop_oneof![4 => Just(0u64), 1 => 1..4u64, 1 => any::<u64>()],
        MAX_ENTRIES,
    );
    (envelope(MessageType::MsgAppend), entries, steps)
        .prop_flat_map(|(envelope, entries, steps)| {
            let prev = log_position(MAX_INDEX - MAX_ENTRIES as u64, envelope.term);
            let commit = prop_oneof![Just(0), number(MAX_INDEX)];
            (prev, commit, Just((envelope, entries, steps)))
        })
        .prop_map(
            |((index, log_term), commit, (envelope, mut entries, steps))| {
                let (mut at, mut term) = (index, log_term.max(1));
                for (entry, step) in entries.iter_mut().zip(steps) {
                    at += 1;
                    term = term.saturating_add(step).min(envelope.term);
                    (entry.index, entry.term) = (at, term);
                }
                Message {
                    index,
                    log_term,
                    entries: entries.into(),
                    commit,
                    ..envelope
                }
            },
        )
}

/// An entry with this type and data, sometimes with a context.
fn payload(content: impl Strategy<Value = (EntryType, Bytes)> + 'static) -> BoxedStrategy<Entry> {
    let context = prop_oneof![3 => Just(Bytes::new()), 1 => bytes(1..20)];
    (content, context)
        .prop_map(|((entry_type, data), context)| Entry {
            entry_type,
            data,
            context,
            ..Entry::default()
        })
        .boxed()
}

fn first_entry() -> impl Strategy<Value = (EntryType, Bytes)> {
    Just((EntryType::EntryNormal, Bytes::new()))
}

fn command() -> impl Strategy<Value = (EntryType, Bytes)> {
    prop_oneof![
        (bytes(1..40), bytes(0..300)).prop_map(|(key, value)| Write::Set { key, value }),
        bytes(1..40).prop_map(|key| Write::Delete { key }),
    ]
    .prop_map(|write| (EntryType::EntryNormal, encode_command(&write.into())))
}

fn change_type() -> impl Strategy<Value = ConfChangeType> {
    prop_oneof![
        Just(ConfChangeType::AddNode),
        Just(ConfChangeType::RemoveNode),
        Just(ConfChangeType::AddLearnerNode),
    ]
}

/// `RawNode::propose_conf_change`, in the form that Seshat proposes.
fn conf_change() -> impl Strategy<Value = (EntryType, Bytes)> {
    (change_type(), raft_id()).prop_map(|(change_type, node_id)| {
        let single = ConfChangeSingle {
            change_type,
            node_id,
            ..ConfChangeSingle::default()
        };
        let change = ConfChangeV2 {
            changes: vec![single].into(),
            ..ConfChangeV2::default()
        };
        let data = change.write_to_bytes().unwrap();
        (EntryType::EntryConfChangeV2, data.into())
    })
}

/// `Raft::handle_append_entries` and `handle_snapshot`, when they succeed.
fn appended() -> impl Strategy<Value = Message> {
    (envelope(MessageType::MsgAppendResponse), number(MAX_INDEX))
        .prop_flat_map(|(envelope, index)| (0..=index, Just((envelope, index))))
        .prop_map(|(commit, (envelope, index))| Message {
            index,
            commit,
            ..envelope
        })
}

/// `Raft::handle_append_entries`, when it refuses.
fn append_refused() -> impl Strategy<Value = Message> {
    (envelope(MessageType::MsgAppendResponse), number(MAX_INDEX))
        .prop_flat_map(|(envelope, index)| {
            (
                log_position(index, envelope.term),
                0..=index,
                Just((envelope, index)),
            )
        })
        .prop_map(
            |((reject_hint, log_term), commit, (envelope, index))| Message {
                index,
                reject: true,
                reject_hint,
                log_term,
                commit,
                ..envelope
            },
        )
}

/// `Raft::send_request_snapshot`.
fn snapshot_wanted() -> impl Strategy<Value = Message> {
    (envelope(MessageType::MsgAppendResponse), number(MAX_INDEX))
        .prop_flat_map(|(envelope, last)| {
            (
                0..=last,
                number(last),
                number(envelope.term),
                Just((envelope, last)),
            )
        })
        .prop_map(
            |(index, request_snapshot, log_term, (envelope, last))| Message {
                index,
                reject: true,
                reject_hint: last,
                log_term,
                request_snapshot,
                ..envelope
            },
        )
}

/// `RaftCore::send_heartbeat` and `Raft::handle_heartbeat`.
fn heartbeat(
    msg_type: MessageType,
    context: std::ops::Range<usize>,
) -> impl Strategy<Value = Message> {
    (envelope(msg_type), 0..=MAX_INDEX, bytes(context)).prop_map(|(envelope, commit, context)| {
        Message {
            commit,
            context,
            ..envelope
        }
    })
}

/// `RaftCore::prepare_send_snapshot`.
fn snapshot(conf_state: impl Strategy<Value = ConfState>) -> impl Strategy<Value = Message> {
    (
        envelope(MessageType::MsgSnapshot),
        conf_state,
        bytes(0..300),
    )
        .prop_flat_map(|(envelope, conf_state, data)| {
            let position = (number(MAX_INDEX), number(envelope.term));
            (position, Just((envelope, conf_state, data)))
        })
        .prop_map(|((index, term), (envelope, conf_state, data))| {
            let metadata = SnapshotMetadata {
                conf_state: Some(conf_state).into(),
                index,
                term,
                ..SnapshotMetadata::default()
            };
            let snapshot = Snapshot {
                data,
                metadata: Some(metadata).into(),
                ..Snapshot::default()
            };
            Message {
                snapshot: Some(snapshot).into(),
                ..envelope
            }
        })
}

/// `Configuration::to_conf_state`, in any order: raft-rs lists members as its hash sets do.
fn members(learners: std::ops::Range<usize>) -> impl Strategy<Value = ConfState> {
    let ids = btree_set(raft_id(), 6)
        .prop_map(Vec::from_iter)
        .prop_shuffle();
    (ids, 1..4usize, learners).prop_map(|(mut ids, voters, learners)| {
        let mut take = |count: usize| ids.split_off(ids.len() - count);
        ConfState {
            voters: take(voters),
            learners: take(learners),
            ..ConfState::default()
        }
    })
}

/// Arbitrary bytes, of a length in `size`.
pub fn bytes(size: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), size).prop_map(Bytes::from)
}
