//! All messages that peers could send, beyond those that they do send: no bytes panic the conversion,
//! and an accepted message does not panic a node.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use raft::Raft;
use raft::eraftpb::{Message, MessageType};
use seshat::kv::StateMachine;
use seshat::types::{Introduction, NodeStatus};
use seshat::wire::{
    MAX_INDEX, MAX_TERM, PeerMessage, decode_command, decode_snapshot, encode_snapshot,
    offer_from_request,
};
use seshat_conformance::cluster::{CLUSTER, Node, Store, raft_id};
use seshat_conformance::generate::{bytes, message};
use seshat_conformance::{config, decode, encode};
use seshat_proto::raft::v1::{
    AppendEntriesRequest, AppendEntriesResponse, ConfChange, ConfChangeSingle, ConfChangeV2,
    ConfState, Entry, HeartbeatRequest, HeartbeatResponse, IdentifyRequest, IdentifyResponse,
    InstallSnapshotRequest, InstallSnapshotResponse, NotMe, OfferRequest, RequestVoteRequest,
    RequestVoteResponse, TimeoutNowRequest, entry::Payload,
};

/// One message of each type.
fn types() -> [PeerMessage; 8] {
    [
        PeerMessage::RequestVote(RequestVoteRequest::default()),
        PeerMessage::RequestVoteReply(RequestVoteResponse::default()),
        PeerMessage::AppendEntries(AppendEntriesRequest::default()),
        PeerMessage::AppendEntriesReply(AppendEntriesResponse::default()),
        PeerMessage::Heartbeat(HeartbeatRequest::default()),
        PeerMessage::HeartbeatReply(HeartbeatResponse::default()),
        PeerMessage::InstallSnapshot(InstallSnapshotRequest::default()),
        PeerMessage::TimeoutNow(TimeoutNowRequest::default()),
    ]
}

/// An accepted message comes back unchanged, but for what raft-rs does not say.
fn validated(mut typed: PeerMessage) -> Result<Option<Message>, TestCaseError> {
    let Ok(envelope) = typed.envelope() else {
        prop_assert!(typed.into_raft().is_err());
        return Ok(None);
    };
    let Ok(message) = typed.clone().into_raft() else {
        return Ok(None);
    };
    let again = PeerMessage::from_raft(message.clone(), envelope.cluster_id);
    if let PeerMessage::HeartbeatReply(reply) = &mut typed {
        reply.watched = false;
    }
    prop_assert_eq!(again, Ok(typed));
    Ok(Some(message))
}

proptest! {
    #![proptest_config(config(2_000))]

    /// Random bytes.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in bytes(0..200)) {
        for like in types() {
            if let Ok(typed) = decode(&like, bytes.to_vec()) {
                validated(typed)?;
            }
        }
        use prost::Message as _;
        if let Ok(response) = InstallSnapshotResponse::decode(bytes.clone()) {
            let _ = PeerMessage::try_from(response);
        }
        if let Ok(request) = IdentifyRequest::decode(bytes.clone()) {
            let _ = Introduction::try_from(request);
        }
        if let Ok(response) = IdentifyResponse::decode(bytes.clone()) {
            let _ = NodeStatus::try_from(response);
        }
        if let Ok(request) = OfferRequest::decode(bytes.clone()) {
            let _ = offer_from_request(request);
        }
        if let Ok(not_me) = NotMe::decode(bytes.clone()) {
            let _ = seshat::error::NotMe::try_from(not_me);
        }
        let _ = decode_command(bytes.clone());
        let _ = decode_snapshot(&bytes);
    }

    /// Bytes of a real message, some of them replaced, or taken for another message.
    #[test]
    fn damaged_messages_never_panic(
        message in message(),
        damage in vec((any::<Index>(), 0..4usize, bytes(0..4)), 0..4),
        like in select(types().to_vec()),
    ) {
        let typed = PeerMessage::from_raft(message, CLUSTER).unwrap();
        let mut bytes = encode(&typed);
        for (at, removed, inserted) in damage {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted);
        }
        for like in [typed, like] {
            if let Ok(typed) = decode(&like, bytes.clone()) {
                validated(typed)?;
            }
        }
    }

    /// Histories of one node whose peers send anything. Messages that the conversion accepts do not
    /// panic it, and its own messages can be carried.
    #[test]
    fn accepted_messages_panic_no_node(seed in any::<u64>(), history in vec(event(), 1..60)) {
        let voters = (1..=3).map(raft_id).collect();
        let mut node = Node::new(raft_id(1), Store::with_voters(voters), 0, seed);
        for event in history {
            match event {
                Event::Tick => node.tick(),
                Event::Campaign => {
                    let _ = node.raw.campaign();
                }
                Event::Elect => elect(&mut node),
                Event::Acknowledge => acknowledge(&mut node),
                Event::Propose(data) if node.leads() => {
                    let _ = node.raw.propose(Vec::new(), data.to_vec());
                }
                Event::Read(context) if node.leads() => node.raw.read_index(context.to_vec()),
                Event::Transfer(to) if node.leads() => node.raw.transfer_leader(to),
                Event::Propose(_) | Event::Read(_) | Event::Transfer(_) => {}
                Event::Message(typed) => match validated(typed)? {
                    Some(message) if !contradicts(&node.raw.raft, &message) => node.step(message),
                    _ => {}
                },
            }
            for message in node.ready() {
                let typed = PeerMessage::from_raft(message, CLUSTER);
                prop_assert!(typed.is_ok(), "{typed:?}");
            }
        }
    }
}

/// Checks that only the node can make, because they depend on its log. It makes them before it steps a
/// message (`seshat::node`).
fn contradicts(raft: &Raft<Store>, message: &Message) -> bool {
    let last_index = raft.raft_log.last_index();
    match message.msg_type {
        // RaftLog::commit_to panics.
        MessageType::MsgHeartbeat => message.commit > last_index,
        // The leader would take entries for replicated that do not exist yet.
        MessageType::MsgAppendResponse => !message.reject && message.index > last_index,
        _ => false,
    }
}

/// Without this next to no history would make the node a leader.
fn elect(node: &mut Node) {
    let _ = node.raw.campaign();
    for msg_type in [
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgRequestVoteResponse,
    ] {
        let asked = node.ready();
        let Some(asked) = asked.iter().find(|message| message.commit_term > 0) else {
            return;
        };
        node.step(Message {
            msg_type,
            from: asked.to,
            to: asked.from,
            term: asked.term,
            ..Message::default()
        });
    }
}

fn acknowledge(node: &mut Node) {
    let _ = node.ready();
    if node.leads() {
        node.step(Message {
            msg_type: MessageType::MsgAppendResponse,
            from: raft_id(2),
            to: raft_id(1),
            term: node.raw.raft.term,
            index: node.raw.raft.raft_log.last_index(),
            ..Message::default()
        });
    }
}

/// An event of a node.
#[derive(Debug, Clone)]
enum Event {
    Tick,
    Campaign,
    /// It campaigns, and a peer gives it both votes.
    Elect,
    /// A peer acknowledges all entries.
    Acknowledge,
    Propose(Bytes),
    Read(Bytes),
    Transfer(u64),
    Message(PeerMessage),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Tick),
        1 => Just(Event::Campaign),
        1 => Just(Event::Elect),
        2 => Just(Event::Acknowledge),
        1 => command().prop_map(Event::Propose),
        1 => bytes(1..3).prop_map(Event::Read),
        1 => (1..5u64).prop_map(|node| Event::Transfer(raft_id(node))),
        16 => typed().prop_map(Event::Message),
    ]
}

/// A typed message with any numbers, most of them near those of a young cluster. Boxed, because the type
/// of the whole would not fit the stack of a test.
fn typed() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        3 => request_vote().prop_map(PeerMessage::RequestVote).boxed(),
        5 => request_vote_reply().prop_map(PeerMessage::RequestVoteReply).boxed(),
        6 => append_entries().prop_map(PeerMessage::AppendEntries).boxed(),
        4 => append_entries_reply().prop_map(PeerMessage::AppendEntriesReply).boxed(),
        2 => heartbeat().prop_map(PeerMessage::Heartbeat).boxed(),
        2 => heartbeat_reply().prop_map(PeerMessage::HeartbeatReply).boxed(),
        2 => install_snapshot().prop_map(PeerMessage::InstallSnapshot).boxed(),
        1 => timeout_now().prop_map(PeerMessage::TimeoutNow).boxed(),
    ]
}

fn odd() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(MAX_TERM - 1),
        Just(MAX_TERM),
        Just(MAX_INDEX + 1),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn term() -> impl Strategy<Value = u64> {
    prop_oneof![200 => 1..6u64, 1 => Just(0), 1 => odd()]
}

fn index() -> impl Strategy<Value = u64> {
    prop_oneof![200 => 0..9u64, 1 => odd()]
}

/// A position as every log has it, or anything.
fn log_position() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        4 => Just((0, 0)),
        6 => Just((1, 1)),
        20 => (1..9u64, 1..6u64),
        1 => (1..9u64, Just(0)),
        1 => (index(), term()),
    ]
}

fn peer() -> impl Strategy<Value = u64> {
    prop_oneof![200 => (2..5u64).prop_map(raft_id), 1 => (1..2u64).prop_map(raft_id), 1 => odd()]
}

fn me() -> impl Strategy<Value = u64> {
    prop_oneof![200 => Just(raft_id(1)), 1 => peer()]
}

fn mostly(usual: bool) -> impl Strategy<Value = bool> {
    prop_oneof![30 => Just(usual), 1 => Just(!usual)]
}

fn request_vote() -> impl Strategy<Value = RequestVoteRequest> {
    let campaign = prop_oneof![10 => Just(1), 10 => Just(2), 1 => any::<i32>()];
    let priority = prop_oneof![Just(0), any::<i64>()];
    (
        (
            term(),
            peer(),
            log_position(),
            any::<bool>(),
            log_position(),
        ),
        (priority, campaign, me()),
    )
        .prop_map(|((term, candidate_id, last, pre_vote, committed), rest)| {
            let (priority, campaign, to) = rest;
            RequestVoteRequest {
                term,
                candidate_id,
                last_log_index: last.0,
                last_log_term: last.1,
                pre_vote,
                commit_index: committed.0,
                commit_term: committed.1,
                priority,
                campaign,
                cluster_id: CLUSTER.0,
                to,
            }
        })
}

fn request_vote_reply() -> impl Strategy<Value = RequestVoteResponse> {
    (
        term(),
        any::<bool>(),
        any::<bool>(),
        peer(),
        log_position(),
        me(),
    )
        .prop_map(|(term, vote_granted, pre_vote, voter_id, committed, to)| {
            let committed = if vote_granted { (0, 0) } else { committed };
            RequestVoteResponse {
                term,
                vote_granted,
                pre_vote,
                voter_id,
                commit_index: committed.0,
                commit_term: committed.1,
                cluster_id: CLUSTER.0,
                to,
            }
        })
}

fn append_entries() -> impl Strategy<Value = AppendEntriesRequest> {
    let entries = vec((mostly(true), index(), 0..3u64, payload()), 0..5);
    (term(), peer(), log_position(), entries, index(), me()).prop_map(
        |(term, leader_id, previous, entries, leader_commit, to)| {
            let (mut at, mut of) = previous;
            let entries = entries.into_iter().map(|(in_order, index, step, payload)| {
                at = if in_order { at.wrapping_add(1) } else { index };
                of = of.max(1).wrapping_add(step / 2);
                Entry {
                    term: of.min(term),
                    index: at,
                    payload,
                    context: Bytes::new(),
                }
            });
            AppendEntriesRequest {
                term,
                leader_id,
                prev_log_index: previous.0,
                prev_log_term: previous.1,
                entries: entries.collect(),
                leader_commit,
                cluster_id: CLUSTER.0,
                to,
            }
        },
    )
}

fn command() -> impl Strategy<Value = Bytes> {
    select(vec![
        Bytes::from_static(b"\x12\x03\x0a\x01k"),
        Bytes::from_static(b"\x0a\x06\x0a\x01k\x12\x01v"),
    ])
}

fn payload() -> impl Strategy<Value = Option<Payload>> {
    // The node itself stays: raft-rs panics if a removed leader continues to lead.
    let other = || prop_oneof![200 => (2..6u64).prop_map(raft_id), 1 => odd()];
    let change_type = || prop_oneof![200 => 1..4i32, 1 => any::<i32>()];
    let transition = prop_oneof![30 => Just(1), 1 => 2..4i32, 1 => any::<i32>()];
    let context = || prop_oneof![30 => Just(Bytes::new()), 1 => bytes(1..3)];
    let change = (any::<u64>(), change_type(), other(), context()).prop_map(
        |(id, change_type, raft_id, context)| {
            Payload::ConfChange(ConfChange {
                id,
                change_type,
                raft_id,
                context,
            })
        },
    );
    let single = (change_type(), other())
        .prop_map(|(change_type, raft_id)| ConfChangeSingle {
            change_type,
            raft_id,
        })
        .boxed();
    let changes = prop_oneof![30 => vec(single.clone(), 1), 1 => vec(single, 0..4)];
    let change_v2 = (transition, changes, context()).prop_map(|(transition, changes, context)| {
        Payload::ConfChangeV2(ConfChangeV2 {
            transition,
            changes,
            context,
        })
    });
    prop_oneof![
        10 => Just(None),
        20 => command().prop_map(|command| Some(Payload::Command(command))),
        // An operation that this node does not know.
        1 => Just(Some(Payload::Command(Bytes::from_static(b"\x1a\x01k")))),
        10 => change_v2.prop_map(Some),
        // No node proposes it.
        1 => change.prop_map(Some),
    ]
}

fn append_entries_reply() -> impl Strategy<Value = AppendEntriesResponse> {
    let hint = prop_oneof![20 => (index(), term()), 1 => (odd(), term())];
    let request_snapshot = prop_oneof![6 => Just(0), 1 => index()];
    (
        (term(), any::<bool>(), mostly(true), peer()),
        (index(), hint, index(), request_snapshot, me()),
    )
        .prop_map(|((term, success, clean, follower_id), rest)| {
            let (index, hint, commit_index, request_snapshot, to) = rest;
            let none = success && clean;
            AppendEntriesResponse {
                term,
                success,
                follower_id,
                index,
                reject_hint_index: if none { 0 } else { hint.0 },
                reject_hint_term: if none { 0 } else { hint.1.min(term) },
                commit_index,
                request_snapshot: if none { 0 } else { request_snapshot },
                cluster_id: CLUSTER.0,
                to,
            }
        })
}

fn heartbeat() -> impl Strategy<Value = HeartbeatRequest> {
    (term(), peer(), index(), bytes(0..3), me()).prop_map(
        |(term, leader_id, leader_commit, read_context, to)| HeartbeatRequest {
            term,
            leader_id,
            leader_commit,
            read_context,
            cluster_id: CLUSTER.0,
            to,
        },
    )
}

fn heartbeat_reply() -> impl Strategy<Value = HeartbeatResponse> {
    (term(), peer(), index(), bytes(0..3), me(), any::<bool>()).prop_map(
        |(term, follower_id, commit_index, read_context, to, watched)| HeartbeatResponse {
            term,
            follower_id,
            commit_index,
            read_context,
            cluster_id: CLUSTER.0,
            to,
            watched,
        },
    )
}

fn install_snapshot() -> impl Strategy<Value = InstallSnapshotRequest> {
    // The node's own id is usually in it, and often nothing is wrong with it.
    let ids = |least: usize| vec((1..7u64).prop_map(raft_id), least..4);
    let joint = prop_oneof![
        8 => Just((Vec::new(), Vec::new(), false)),
        1 => (ids(0), ids(0), any::<bool>()),
    ];
    let conf_state = prop_oneof![
        3 => Just(ConfState {
            voters: (1..=3).map(raft_id).collect(),
            learners: vec![raft_id(4)],
            ..ConfState::default()
        }),
        2 => Just(ConfState {
            voters: vec![raft_id(4), raft_id(2)],
            learners: vec![raft_id(5), raft_id(1)],
            ..ConfState::default()
        }),
        5 => (ids(0), ids(0), joint).prop_map(
            |(voters, learners, (voters_outgoing, learners_next, auto_leave))| ConfState {
                voters,
                learners,
                voters_outgoing,
                learners_next,
                auto_leave,
            },
        ),
    ];
    let data = encode_snapshot(&StateMachine::default());
    (
        (term(), peer(), log_position(), mostly(true), mostly(true)),
        (prop::option::weighted(0.95, conf_state), me()),
    )
        .prop_map(move |((term, leader_id, last, done, whole), rest)| {
            let (conf_state, to) = rest;
            InstallSnapshotRequest {
                term,
                leader_id,
                last_included_index: last.0,
                last_included_term: last.1,
                crc32: crc32fast::hash(&data),
                data: data.clone(),
                done,
                offset: 0,
                total_size: data.len() as u64 + u64::from(!whole),
                conf_state,
                cluster_id: CLUSTER.0,
                to,
            }
        })
}

fn timeout_now() -> impl Strategy<Value = TimeoutNowRequest> {
    (term(), peer(), me()).prop_map(|(term, leader_id, to)| TimeoutNowRequest {
        term,
        leader_id,
        cluster_id: CLUSTER.0,
        to,
    })
}

/// The generators above would prove nothing if nearly all of their messages were refused, or accepted.
#[test]
fn of_the_wild_messages_some_are_refused_and_some_are_not() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts = std::collections::BTreeMap::<_, [u32; 2]>::new();
    for _ in 0..20_000 {
        let typed = typed().new_tree(&mut runner).unwrap().current();
        let count = counts.entry(typed.name()).or_default();
        count[usize::from(typed.into_raft().is_ok())] += 1;
    }
    for (name, [refused, accepted]) in &counts {
        println!("{name:>20}: {refused:>5} refused, {accepted:>5} accepted");
        assert!(*refused > 0 && *accepted > 100, "{name}");
    }
    assert_eq!(counts.len(), types().len());
}
