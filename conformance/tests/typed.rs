//! A field that another language wrote is in the field of our type with the same meaning, and a field of
//! our type is written into the field from which another language reads it.
//!
//! A round trip cannot see two fields that are swapped on both ways, and neither can vectors that
//! are only decoded and encoded again. So the golden vectors stand beside the values that they mean,
//! written by hand, and any two fields of one type differ in one of the vectors at least.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value,
};
use protobuf::Message as _;
use raft::eraftpb::{self, ConfChangeSingle, ConfChangeType, EntryType, MessageType};
use seshat::error::{Applied, NotMe, Reason, Refusal};
use seshat::kv::{
    Acquire, Claim, ClaimId, ClaimState, Command, Condition, Effect, Entry, Holder, KeyTest,
    Lifetime, Limit, LivingSession, Operation, OperationResult, Revisions, Session, SetLifetime,
    Stamp, StateMachine, Txn, TxnOutcome, Write, Written,
};
use seshat::types::{
    Answering, ClientId, ClusterId, ClusterMembership, Conf, Following, Introduction, Missed,
    NodeId, NodeInfo, NodeLimits, NodeState, NodeStatus, Offer, ProtocolLevel, RaftId, Rank, Reach,
    RecoveryAttempt, RecoveryClaim, Revision, Role, SnapshotId, SnapshotProgress, WallTime,
};
use seshat::wire::{
    PeerMessage, WireError, claim_from_request, decode_command, decode_snapshot, encode_command,
    encode_snapshot, error_detail, get_response, install_snapshot_response, offer_from_request,
    offer_request, txn_response, yield_request, yield_response, yielded,
};
use seshat_conformance::encode;
use seshat_conformance::golden::golden;
use seshat_proto::{FILE_DESCRIPTOR_SET, kv, raft as proto};

static SCHEMA: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap());

const BASE: Revision = 1_790_000_000_000_000;
const CLUSTER: ClusterId = ClusterId(0xFEED_FACE_CAFE_BEEF);

fn node(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

fn raft_id_of(id: u16) -> RaftId {
    RaftId::new(node(id), 0xA1B2_C3D4_E5F0 + u64::from(id))
}

fn id(node: u16) -> u64 {
    raft_id_of(node).get()
}

fn info(id: u16) -> NodeInfo {
    NodeInfo {
        id: node(id),
        addr: format!("node-{id}.example:7379"),
        client_addr: format!("node-{id}.example:6379"),
    }
}

fn members() -> ClusterMembership {
    [1, 2, 3].map(info).into_iter().collect()
}

const LIMITS: NodeLimits = NodeLimits {
    key: 4096,
    value: 1_048_576,
    append: 524_288,
    message: 4_194_304,
};

/// The vectors with a value here.
#[derive(Default)]
struct Compared(Vec<DynamicMessage>);

impl Compared {
    /// The bytes of a vector of the message type `name`.
    fn vector(&mut self, name: &str, vector: &str) -> Bytes {
        let vectors = golden(name).vectors;
        let found = vectors.iter().find(|found| found.name == vector);
        let bytes = found.unwrap_or_else(|| panic!("{name}: {vector}")).bytes();
        let message = SCHEMA.get_message_by_name(name).unwrap();
        self.0
            .push(DynamicMessage::decode(message, bytes.clone()).unwrap());
        bytes
    }

    /// `vector` is read as `value`, and `value` is written as `vector`.
    fn means<M: Message + Default + PartialEq, T: Debug + PartialEq + Clone>(
        &mut self,
        name: &str,
        vector: &str,
        value: &T,
        read: impl Fn(M) -> Result<T, WireError>,
        write: impl Fn(T) -> M,
    ) {
        let bytes = self.vector(name, vector);
        let typed = M::decode(bytes.clone()).unwrap();
        assert_eq!(read(typed).as_ref(), Ok(value), "{name}: {vector}");
        let written = write(value.clone());
        assert_eq!(written.encode_to_vec(), bytes, "{name}: {vector}");
    }

    /// The same of a message between nodes, with its raft-rs value.
    fn peer<M: Message + Default>(
        &mut self,
        name: &str,
        vector: &str,
        wrap: fn(M) -> PeerMessage,
        message: &eraftpb::Message,
    ) {
        let bytes = self.vector(name, vector);
        let typed = wrap(M::decode(bytes.clone()).unwrap());
        assert_eq!(typed.into_raft().as_ref(), Ok(message), "{name}: {vector}");
        let typed = PeerMessage::from_raft(message.clone(), CLUSTER).unwrap();
        assert_eq!(encode(&typed), bytes, "{name}: {vector}");
    }
}

fn message(kind: MessageType, from: u16, to: u16, term: u64) -> eraftpb::Message {
    eraftpb::Message {
        msg_type: kind,
        from: id(from),
        to: id(to),
        term,
        ..eraftpb::Message::default()
    }
}

fn votes(compared: &mut Compared) {
    let campaign = |kind| eraftpb::Message {
        index: 1042,
        log_term: 7,
        commit: 1040,
        commit_term: 6,
        ..message(kind, 1, 2, 8)
    };
    compared.peer(
        "seshat.raft.v1.RequestVoteRequest",
        "a candidate asks for a vote",
        PeerMessage::RequestVote,
        &campaign(MessageType::MsgRequestVote),
    );
    compared.peer(
        "seshat.raft.v1.RequestVoteRequest",
        "a node asks how a vote would go",
        PeerMessage::RequestVote,
        &eraftpb::Message {
            to: id(3),
            commit_term: 7,
            ..campaign(MessageType::MsgRequestPreVote)
        },
    );
    compared.peer(
        "seshat.raft.v1.RequestVoteRequest",
        "the leader has asked the candidate to take over",
        PeerMessage::RequestVote,
        &eraftpb::Message {
            index: 1,
            log_term: 1,
            commit: 1,
            commit_term: 1,
            context: Bytes::from_static(b"CampaignTransfer"),
            priority: -3,
            ..message(MessageType::MsgRequestVote, 3, 2, 2)
        },
    );
    let reply = "seshat.raft.v1.RequestVoteResponse";
    let pre_vote = MessageType::MsgRequestPreVoteResponse;
    let vote = MessageType::MsgRequestVoteResponse;
    let wrap = PeerMessage::RequestVoteReply;
    compared.peer(reply, "a vote", wrap, &message(vote, 2, 1, 8));
    compared.peer(reply, "a pre-vote", wrap, &message(pre_vote, 2, 1, 8));
    let refusal = eraftpb::Message {
        reject: true,
        commit: 1041,
        commit_term: 8,
        ..message(vote, 3, 1, 9)
    };
    compared.peer(reply, "no vote", wrap, &refusal);
    let refusal = eraftpb::Message {
        reject: true,
        ..message(pre_vote, 3, 1, 9)
    };
    let stale = "no pre-vote for a candidate of an earlier term";
    compared.peer(reply, stale, wrap, &refusal);
}

const CHANGES: [(ConfChangeType, u16); 3] = [
    (ConfChangeType::AddNode, 3),
    (ConfChangeType::RemoveNode, 2),
    (ConfChangeType::AddLearnerNode, 4),
];

fn appends(compared: &mut Compared) {
    let entry = |kind, index, term, data| eraftpb::Entry {
        entry_type: kind,
        index,
        term,
        data,
        context: Bytes::from_static(b"outer"),
        ..eraftpb::Entry::default()
    };
    let mut entries = vec![eraftpb::Entry {
        context: Bytes::from_static(b"no"),
        ..entry(
            EntryType::EntryNormal,
            1049,
            8,
            Bytes::from_static(b"\x12\x05\x0a\x03key"),
        )
    }];
    for (at, (change_type, raft_id)) in (0..).zip(CHANGES) {
        let single = ConfChangeSingle {
            change_type,
            node_id: id(raft_id),
            ..ConfChangeSingle::default()
        };
        let change = eraftpb::ConfChangeV2 {
            changes: vec![single].into(),
            ..eraftpb::ConfChangeV2::default()
        };
        let data = change.write_to_bytes().unwrap().into();
        entries.push(entry(EntryType::EntryConfChangeV2, 1050 + at, 9, data));
    }
    compared.peer(
        "seshat.raft.v1.AppendEntriesRequest",
        "every change that there is",
        PeerMessage::AppendEntries,
        &eraftpb::Message {
            index: 1048,
            log_term: 8,
            commit: 1047,
            entries: entries.into(),
            ..message(MessageType::MsgAppend, 1, 2, 9)
        },
    );
    let response = "seshat.raft.v1.AppendEntriesResponse";
    let there = eraftpb::Message {
        index: 1045,
        commit: 1043,
        ..message(MessageType::MsgAppendResponse, 2, 1, 8)
    };
    let wrap = PeerMessage::AppendEntriesReply;
    compared.peer(response, "the entries are there", wrap, &there);
    let refusal = eraftpb::Message {
        reject: true,
        index: 1043,
        reject_hint: 1040,
        log_term: 6,
        commit: 1030,
        request_snapshot: 1035,
        ..message(MessageType::MsgAppendResponse, 2, 1, 8)
    };
    let vector = "the logs differ, and a snapshot is wanted";
    compared.peer(response, vector, wrap, &refusal);
}

fn heartbeats(compared: &mut Compared) {
    let context = Bytes::from_static(b"\x00\x01\x02");
    compared.peer(
        "seshat.raft.v1.HeartbeatRequest",
        "reads wait",
        PeerMessage::Heartbeat,
        &eraftpb::Message {
            commit: 1045,
            context: context.clone(),
            ..message(MessageType::MsgHeartbeat, 1, 2, 8)
        },
    );
    compared.peer(
        "seshat.raft.v1.HeartbeatResponse",
        "reads may go on",
        PeerMessage::HeartbeatReply,
        &eraftpb::Message {
            commit: 1045,
            context,
            ..message(MessageType::MsgHeartbeatResponse, 2, 1, 8)
        },
    );
    compared.peer(
        "seshat.raft.v1.TimeoutNowRequest",
        "take over",
        PeerMessage::TimeoutNow,
        &message(MessageType::MsgTimeoutNow, 1, 2, 8),
    );
}

/// A state of which no two parts are alike.
fn whole_state() -> StateMachine {
    let pairs = [
        ("city", "Uruk"),
        ("empty", ""),
        ("goddess", "Nisaba"),
        ("key", "value"),
    ];
    let mut state = StateMachine::default().with_clock(76_543);
    let living = LivingSession {
        ttl: 10_000,
        deadline: 87_000,
        session: Session {
            last_used: 1042,
            first_outstanding: 1,
            ..Session::default()
        },
        ..LivingSession::default()
    };
    state.restore_living_session(ClientId(8), living);
    let claims = [
        (3, "value", None, 1029, Some(BASE + 1030)),
        (4, "", Some(88_000), 1031, None),
    ];
    let waiting = (5..10).map(|sequence| (sequence, "", None, 1027 + sequence, None));
    for (sequence, value, deadline, began, token) in claims.into_iter().chain(waiting) {
        let claim = Claim {
            id: claim(sequence),
            value: value.into(),
            deadline,
        };
        state.restore_claim(&"lock".into(), BASE + began, claim, token);
    }
    for (key, value) in pairs {
        let revision = if key == "key" { BASE + 1043 } else { 0 };
        let limit = match key {
            "city" => Some(Limit::Ttl {
                ttl: 5_000,
                deadline: 77_000,
            }),
            "goddess" => Some(Limit::Owner(ClientId(8))),
            _ => None,
        };
        state.restore(key.as_bytes(), value.as_bytes(), revision, limit);
    }
    state.restore_recovered_from([ClusterId(77), ClusterId(66)]);
    let set = (Effect::Set, 1038);
    let deleted = (Effect::Deleted { existed: true }, 1040);
    let missing = (Effect::Deleted { existed: false }, 1041);
    let outcome = TxnOutcome {
        succeeded: true,
        results: results(),
    };
    let carried_out = (Effect::Txn(Arc::new(outcome)), 1042);
    let occupied = Holder {
        claim: claim(3),
        token: BASE + 1030,
        value: "value".into(),
    };
    let refused = (Effect::AnswerTooLarge { limit: 65_536 }, 1043);
    let answers = [
        (6, set),
        (8, deleted),
        (9, missing),
        (10, carried_out),
        (11, refused),
        (12, (Effect::OwnerExpired(ClientId(9)), 1044)),
        (13, (Effect::TooManyOwned, 1045)),
        (14, (Effect::Claimed(ClaimState::Gone), 1046)),
        (15, (Effect::Released, 1047)),
        (16, (Effect::Occupied(Box::new(occupied)), 1048)),
    ];
    let answers = answers.map(|(at, (effect, revision))| (at, Written { effect, revision }));
    let session = Session {
        last_used: 1041,
        first_outstanding: 5,
        answers: answers.into_iter().collect(),
    };
    state.restore_session(ClientId(7), session);
    for client_id in 9..13 {
        let idle = Session {
            last_used: 1045,
            first_outstanding: 4,
            ..Session::default()
        };
        state.restore_session(ClientId(client_id), idle);
    }
    state
        .with_members(members())
        .with_level(ProtocolLevel::new(5))
        .with_revisions(Revisions {
            base: BASE,
            oldest: BASE + 500,
        })
}

/// A claim of session 8.
fn claim(sequence: u64) -> ClaimId {
    ClaimId {
        client_id: ClientId(8),
        sequence,
    }
}

/// One result of every kind.
fn results() -> Vec<OperationResult> {
    let entry = |key: &'static str, value: &'static str, revision, lifetime| Entry {
        key: key.into(),
        value: value.into(),
        revision: BASE + revision,
        lifetime,
    };
    let entries = [
        entry("key", "value", 1043, Lifetime::Unlimited),
        entry("city", "", 1042, Lifetime::Ttl(5_000)),
        entry("goddess", "", 1041, Lifetime::Owner(ClientId(8))),
    ];
    let [one, two, three] = entries.map(|entry| OperationResult::Got(Some(entry)));
    vec![
        OperationResult::Set,
        OperationResult::Got(None),
        one,
        two,
        three,
        OperationResult::Deleted { existed: true },
        OperationResult::Deleted { existed: false },
    ]
}

/// The vector "carries out a transaction".
fn txn() -> Txn {
    let condition = |key: &'static str, test| Condition::Key {
        key: key.into(),
        test,
    };
    let set = |key: &'static str, value: &'static str| Operation::Set {
        key: key.into(),
        value: value.into(),
        lifetime: SetLifetime::default(),
    };
    Txn {
        conditions: vec![
            condition("one", KeyTest::Exists(true)),
            condition("two", KeyTest::Exists(false)),
            condition("three", KeyTest::Revision(BASE + 1043)),
            condition("four", KeyTest::Revision(0)),
            condition("five", KeyTest::Value("value".into())),
            condition("six", KeyTest::Value("".into())),
            Condition::Held {
                name: "seven".into(),
                token: BASE + 1042,
            },
        ],
        success: vec![
            set("one", "uno"),
            Operation::Get("two".into()),
            Operation::Delete("three".into()),
        ],
        failure: vec![Operation::Get("one".into()), set("two", "")],
    }
}

/// The answers of the service, which have no type of ours.
#[test]
fn golden_answers_are_those_of_the_service() {
    let vector = |name, vector| {
        let vectors = golden(name).vectors.into_iter();
        vectors
            .filter(|it| it.name == vector)
            .map(|it| it.bytes())
            .next()
            .expect(vector)
    };
    let name = "seshat.kv.v1.GetResponse";
    let bytes = vector(name, "bound by a write");
    let found = get_response(Some(("value".into(), BASE + 1043)), BASE + 1045);
    assert_eq!(found.encode_to_vec(), bytes, "{name}");
    let name = "seshat.kv.v1.TxnResponse";
    let bytes = vector(name, "every kind of result");
    let outcome = TxnOutcome {
        succeeded: true,
        results: results(),
    };
    let answer = txn_response(Arc::new(outcome), BASE + 1043);
    assert_eq!(answer.encode_to_vec(), bytes, "{name}");
}

fn snapshots(compared: &mut Compared) {
    let conf_state = eraftpb::ConfState {
        voters: vec![id(1), id(2)],
        learners: vec![id(5)],
        ..eraftpb::ConfState::default()
    };
    let mut snapshot = eraftpb::Snapshot {
        data: encode_snapshot(&whole_state()),
        ..eraftpb::Snapshot::default()
    };
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (1045, 7);
    metadata.set_conf_state(conf_state);
    let name = "seshat.raft.v1.InstallSnapshotRequest";
    let vector = "a state with members, sessions and pairs";
    let mut message = message(MessageType::MsgSnapshot, 1, 3, 8);
    message.set_snapshot(snapshot);
    // Its records are in it, in the order that kv.proto demands, as another language wrote them.
    compared.peer(name, vector, PeerMessage::InstallSnapshot, &message);
    let bytes = compared.vector(name, vector);
    let chunk = proto::v1::InstallSnapshotRequest::decode(bytes).unwrap();
    assert_eq!(decode_snapshot(&chunk.data), Ok(whole_state()));
    let record = SCHEMA.get_message_by_name("seshat.kv.v1.SnapshotRecord");
    let (record, mut rest) = (record.unwrap(), chunk.data);
    while !rest.is_empty() {
        let size = prost::decode_length_delimiter(&mut rest).unwrap();
        let next = DynamicMessage::decode(record.clone(), rest.split_to(size));
        compared.0.push(next.unwrap());
    }

    let reply = proto::v1::AppendEntriesResponse {
        term: 8,
        success: true,
        follower_id: id(3),
        index: 1045,
        cluster_id: CLUSTER.0,
        to: id(1),
        ..proto::v1::AppendEntriesResponse::default()
    };
    compared.means(
        "seshat.raft.v1.InstallSnapshotResponse",
        "the state is there",
        &PeerMessage::AppendEntriesReply(reply),
        PeerMessage::try_from,
        |reply| match reply {
            PeerMessage::AppendEntriesReply(reply) => install_snapshot_response(reply),
            other => panic!("{other:?}"),
        },
    );
}

fn introductions(compared: &mut Compared) {
    let name = "seshat.raft.v1.IdentifyRequest";
    let fresh = Introduction {
        raft_id: raft_id_of(1),
        state: NodeState::Fresh,
        cluster_id: None,
        members: Arc::new(members()),
    };
    let (read, write) = (Introduction::try_from, proto::v1::IdentifyRequest::from);
    compared.means(name, "a fresh process", &fresh, read, write);
    let survivor = Introduction {
        raft_id: raft_id_of(2),
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        ..fresh
    };
    compared.means(name, "a survivor", &survivor, read, write);
}

/// The vector "all that a process can say". It names every field, so that none is forgotten.
fn status() -> NodeStatus {
    NodeStatus {
        raft_id: raft_id_of(2),
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        recovered_from: Arc::default(),
        role: Some(Role::Follower),
        term: 8,
        leader: Some(raft_id_of(1)),
        commit_index: 1045,
        applied_index: 1044,
        keys: 12,
        state_bytes: 2000,
        max_state_bytes: 3000,
        joined_at: Some(UNIX_EPOCH + Duration::from_millis(1_767_323_045_006)),
        last_index: 1047,
        last_term: 7,
        awaits: Vec::new(),
        conf: Arc::new(Conf {
            voters: vec![raft_id_of(1), raft_id_of(2)],
            learners: vec![raft_id_of(3)],
            members: vec![node(1), node(2), node(3)],
        }),
        members_known: true,
        receiving: Some(SnapshotProgress {
            received: 1_048_576,
            total: 5_000_000,
            id: SnapshotId {
                leader: raft_id_of(1).get(),
                term: 8,
                index: 1040,
            },
        }),
        recovery: RecoveryAttempt {
            number: 4,
            under_way: true,
        },
        following: Some(Arc::new(Following {
            last_index: 1046,
            commit_index: 1040,
            acknowledged_by: vec![raft_id_of(1), raft_id_of(2)],
        })),
        doubled: vec![[raft_id_of(3), raft_id_of(4)]],
        level: ProtocolLevel::new(6),
        cluster_level: ProtocolLevel::new(5),
        unreadable: Some(1048),
        limits: Some(LIMITS),
        unconfirmed: true,
        differs_from: Some(node(3)),
        reach: Some(Arc::new(reach())),
        time: WallTime::new(1_790_000_000_000_001),
    }
}

fn reach() -> Reach {
    let missed = |(id, answering)| Missed {
        node: node(id),
        answering,
        asks: id == 3,
    };
    let missed = [
        (3, Answering::Silent),
        (4, Answering::Refusing),
        (5, Answering::NotGrpc),
        (6, Answering::ClientPort),
        (7, Answering::OtherService),
        (8, Answering::OtherNode(node(3))),
        (9, Answering::Hung),
    ]
    .map(missed);
    Reach {
        as_of: 1001,
        reached: vec![raft_id_of(1)],
        missed: missed.to_vec(),
    }
}

fn statuses(compared: &mut Compared) {
    let mut is = |vector: &str, status: NodeStatus| {
        let (read, write) = (NodeStatus::try_from, proto::v1::IdentifyResponse::from);
        let name = "seshat.raft.v1.IdentifyResponse";
        compared.means(name, vector, &status, read, write);
    };
    is("all that a process can say", status());
    is("a fresh process", NodeStatus::fresh(raft_id_of(1)));
    let bound = NodeStatus {
        state: NodeState::Prepared,
        cluster_id: Some(CLUSTER),
        ..NodeStatus::fresh(raft_id_of(2))
    };
    let known = NodeStatus {
        members_known: true,
        ..bound.clone()
    };
    is("only the members are known", known);
    let recovering = NodeStatus {
        recovery: RecoveryAttempt {
            number: 0,
            under_way: true,
        },
        ..bound
    };
    is("only a recovery is under way", recovering);
    let unconfirmed = NodeStatus {
        unconfirmed: true,
        ..NodeStatus::fresh(raft_id_of(3))
    };
    is("outside, without a member that it knows", unconfirmed);
}

fn formation(compared: &mut Compared) {
    compared.means(
        "seshat.raft.v1.OfferRequest",
        "members of a former cluster are gone",
        &(
            Offer {
                cluster_id: CLUSTER,
                coordinator: raft_id_of(1),
                members: vec![raft_id_of(1), raft_id_of(2), raft_id_of(3)],
                membership: members(),
                absent: BTreeSet::from([node(4), node(5)]),
                level: ProtocolLevel::new(6),
                limits: Some(LIMITS),
                time: WallTime::new(1_790_000_000_000_000),
            },
            raft_id_of(2),
        ),
        offer_from_request,
        |(offer, to)| offer_request(offer, to),
    );
    compared.means(
        "seshat.raft.v1.YieldRecoveryRequest",
        "the first attempt",
        &(
            RecoveryClaim {
                cluster_id: CLUSTER,
                attempt: 1,
                rank: Rank {
                    last_term: 8,
                    last_index: 1047,
                    votes: true,
                    commit_index: 1045,
                    raft_id: raft_id_of(1),
                },
            },
            raft_id_of(2),
        ),
        claim_from_request,
        |(claim, to)| yield_request(claim, to),
    );
    let answer = "seshat.raft.v1.YieldRecoveryResponse";
    let read = |response| Ok(yielded(response));
    compared.means(answer, "yields", &Ok(()), read, yield_response);
    let no = Err("has more".to_owned());
    compared.means(answer, "does not", &no, read, yield_response);
    let (read, write) = (NotMe::try_from, proto::v1::NotMe::from);
    let mut not_me = NotMe {
        raft_id: raft_id_of(2),
        cluster_id: Some(CLUSTER),
    };
    let name = "seshat.raft.v1.NotMe";
    compared.means(name, "another incarnation", &not_me, read, write);
    not_me.cluster_id = None;
    compared.means(name, "no cluster yet", &not_me, read, write);
}

/// The vector "binds with every lifetime".
fn lasting() -> Txn {
    let set = |key: &'static str, lifetime| Operation::Set {
        key: key.into(),
        value: Bytes::new(),
        lifetime,
    };
    Txn {
        conditions: Vec::new(),
        success: vec![
            set("one", SetLifetime::To(Lifetime::Ttl(1_500))),
            set("two", SetLifetime::To(Lifetime::Owner(ClientId(7)))),
            set("three", SetLifetime::Keep),
        ],
        failure: Vec::new(),
    }
}

fn commands(compared: &mut Compared) {
    let key = Bytes::from_static(b"key");
    let set = Write::Set {
        key: key.clone(),
        value: Bytes::from_static(b"value"),
    };
    let delete = Write::Delete { key };
    let stamp = Some(Stamp {
        client_id: ClientId(7),
        sequence: 9,
        first_outstanding: 5,
    });
    let numbered = |write| Command::Write { write, stamp };
    let acquire = |value: &'static str, max_wait| {
        Write::Acquire(Box::new(Acquire {
            name: "lock".into(),
            value: value.into(),
            max_wait,
        }))
    };
    for (vector, command) in [
        ("binds", set.clone().into()),
        ("binds once", numbered(set)),
        ("removes", delete.clone().into()),
        ("removes once", numbered(delete)),
        ("adds a member", Command::AddMember(info(3))),
        ("removes a member", Command::RemoveMember(node(3))),
        ("opens a session", Command::OpenSession(ClientId(7))),
        (
            "opens a living session",
            Command::OpenLivingSession {
                client_id: ClientId(7),
                ttl: 10_000,
            },
        ),
        ("closes a session", Command::CloseSession(ClientId(7))),
        (
            "advances the clock",
            Command::Clock {
                step: 250,
                renewed: Vec::new(),
            },
        ),
        (
            "advances the clock and renews",
            Command::Clock {
                step: 500,
                renewed: vec![ClientId(7), ClientId(8)],
            },
        ),
        ("claims a lock", numbered(acquire("value", None))),
        (
            "claims a lock and waits a minute",
            numbered(acquire("", Some(60_000))),
        ),
        ("releases a lock", numbered(Write::Release("lock".into()))),
        (
            "binds with every lifetime",
            Write::Txn(Box::new(lasting())).into(),
        ),
        (
            "raises the level",
            Command::RaiseLevel {
                level: ProtocolLevel::new(6),
                revision: 0,
            },
        ),
        (
            "raises the level from the first",
            Command::RaiseLevel {
                level: ProtocolLevel::SECOND,
                revision: BASE + 7,
            },
        ),
        (
            "carries out a transaction",
            Write::Txn(Box::new(txn())).into(),
        ),
        (
            "carries out a transaction once",
            numbered(Write::Txn(Box::new(Txn {
                conditions: Vec::new(),
                success: vec![Operation::Delete("key".into())],
                failure: Vec::new(),
            }))),
        ),
    ] {
        let bytes = compared.vector("seshat.kv.v1.Command", vector);
        assert_eq!(encode_command(&command), bytes, "{vector}");
        assert_eq!(decode_command(bytes), Ok(command), "{vector}");
    }
}

fn refusals(compared: &mut Compared) {
    let refusals = [
        (
            "ask the leader",
            Reason::NotLeader {
                leader_id: Some(node(2)),
            },
        ),
        ("no node leads", Reason::NotLeader { leader_id: None }),
        ("it may have happened", Reason::NoQuorum),
        ("cut off", Reason::CutOff),
        (
            "overloaded",
            Reason::Overloaded {
                what: "max_pending_requests",
                limit: 7,
            },
        ),
        (
            "full",
            Reason::Full {
                what: "max_state_bytes",
                limit: 8,
                node_id: node(3),
            },
        ),
        (
            "too large for a member",
            Reason::TooLarge {
                what: "key",
                limit: 4096,
                node_id: Some(node(3)),
            },
        ),
        (
            "forming",
            Reason::Forming {
                waiting_for: "node 2".to_owned(),
            },
        ),
        (
            "invalid",
            Reason::InvalidRequest {
                field: "key",
                rule: "not empty".to_owned(),
            },
        ),
        (
            "not now",
            Reason::FailedPrecondition {
                rule: "heal first".to_owned(),
            },
        ),
        (
            "no such session",
            Reason::SessionExpired {
                client_id: ClientId(7),
            },
        ),
        (
            "of another cluster",
            Reason::OtherCluster {
                cluster_id: CLUSTER,
                successor: true,
            },
        ),
        ("shutting down", Reason::ShuttingDown),
    ];
    let unknown = ["it may have happened", "no such session"];
    for (vector, reason) in refusals {
        let refusal = match unknown.contains(&vector) {
            true => Refusal::unknown(reason),
            false => Refusal::not_applied(reason),
        };
        let bytes = compared.vector("seshat.kv.v1.ErrorDetail", vector);
        let detail = error_detail(&refusal, Some("node-2.example:6379"));
        assert_eq!(detail.encode_to_vec(), bytes, "{vector}");
        let detail = kv::v1::ErrorDetail::decode(bytes).unwrap();
        assert_eq!(Applied::from(detail.applied()), refusal.applied, "{vector}");
    }
}

#[test]
fn golden_messages_mean_what_they_say() {
    let compared = &mut Compared::default();
    votes(compared);
    appends(compared);
    heartbeats(compared);
    snapshots(compared);
    introductions(compared);
    statuses(compared);
    formation(compared);
    commands(compared);
    refusals(compared);
    every_like_pair_differs(&compared.0);
}

/// Fields that our type has no place for.
const NEVER_SET: [&str; 7] = [
    // Beside what raft-rs says.
    "seshat.raft.v1.HeartbeatResponse.watched",
    // Of a whole snapshot, which is all that raft-rs has; `seshat::wire` tests chunks.
    "seshat.raft.v1.InstallSnapshotRequest.offset",
    // Of changes that no node proposes: refused.
    "seshat.raft.v1.Entry.conf_change",
    "seshat.raft.v1.ConfChangeV2.context",
    "seshat.raft.v1.ConfState.voters_outgoing",
    "seshat.raft.v1.ConfState.learners_next",
    "seshat.raft.v1.ConfState.auto_leave",
];

/// Two fields of one type that are never set differently could be swapped unseen.
fn every_like_pair_differs(compared: &[DynamicMessage]) {
    let mut all = Vec::new();
    compared
        .iter()
        .for_each(|message| collect(message, &mut all));
    let mut pairs = 0;
    for message in &all {
        let descriptor = message.descriptor();
        let alike = all.iter().filter(|other| other.descriptor() == descriptor);
        let alike: Vec<_> = alike.collect();
        let set = |field: &FieldDescriptor| !NEVER_SET.contains(&field.full_name());
        let fields: Vec<_> = descriptor.fields().filter(set).collect();
        for (at, one) in fields.iter().enumerate() {
            let said = alike.iter().any(|message| message.has_field(one));
            assert!(said, "{} is in no vector", one.full_name());
            for other in fields.iter().take(at).filter(|other| like(one, other)) {
                let differ =
                    |message: &&&DynamicMessage| value(message, one) != value(message, other);
                let differ = alike.iter().any(|message| differ(&message));
                assert!(differ, "{} and {}", one.full_name(), other.full_name());
                pairs += 1;
            }
        }
    }
    assert!(pairs > 200, "{pairs}");
}

/// `message` and all that are in it.
fn collect(message: &DynamicMessage, all: &mut Vec<DynamicMessage>) {
    all.push(message.clone());
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => collect(inner, all),
            Value::List(list) => {
                let inner = list.iter().filter_map(Value::as_message);
                inner.for_each(|inner| collect(inner, all));
            }
            _ => {}
        }
    }
}

/// Whether two fields could be swapped without an error of the compiler. Numbers of all kinds can: they
/// are u64 on our side.
fn like(one: &FieldDescriptor, other: &FieldDescriptor) -> bool {
    let number = |kind: &Kind| {
        matches!(
            kind,
            Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 | Kind::Int64
        )
    };
    let (a, b) = (one.kind(), other.kind());
    one.is_list() == other.is_list() && (a == b || number(&a) && number(&b))
}

/// The content of a field; numbers of all kinds compare by value.
fn value(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let present = message.has_field(field);
    present.then(|| match message.get_field(field).into_owned() {
        Value::U32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        other => format!("{other:?}"),
    })
}
