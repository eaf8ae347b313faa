//! Everything that a process sends in its own types survives the wire: our type → message → bytes →
//! message → our type is the identity.
//!
//! `round_trip` does this for the messages of raft-rs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use prost::Message;
use seshat::error::{Applied, NotMe, Reason, Refusal};
use seshat::kv::{
    Acquire, Command, Condition, KEY_TTL, KeyTest, Lifetime, LockName, MAX_CLAIM_WAIT, MAX_STEP,
    Operation, SESSION_TTL, SetLifetime, Stamp, Txn, Write,
};
use seshat::types::{
    Answering, ClientId, ClusterId, ClusterMembership, Conf, Following, Introduction, Missed,
    NodeId, NodeInfo, NodeLimits, NodeState, NodeStatus, Offer, ProtocolLevel, RaftId, Rank, Reach,
    RecoveryAttempt, RecoveryClaim, Role, SnapshotId, SnapshotProgress, WallTime,
};
use seshat::wire::{
    MAX_INDEX, MAX_TERM, claim_from_request, decode_command, encode_command, error_detail,
    find_detail, level_of_command, offer_from_request, offer_request, pack_detail, yield_request,
    yield_response, yielded,
};
use seshat_conformance::config;
use seshat_proto::{kv, raft as proto};

/// A message as it arrives.
fn carried<M: Message + Default>(message: M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).expect("our own bytes")
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u16::MAX).prop_map(|id| NodeId::new(id).unwrap())
}

fn raft_id_of() -> impl Strategy<Value = RaftId> {
    (node(), any::<u64>()).prop_map(|(node, incarnation)| RaftId::new(node, incarnation))
}

fn incarnations() -> impl Strategy<Value = Vec<RaftId>> {
    vec(raft_id_of(), 0..5)
}

fn cluster() -> impl Strategy<Value = ClusterId> {
    any::<u64>().prop_map(ClusterId)
}

fn level() -> impl Strategy<Value = ProtocolLevel> {
    prop_oneof![0..4u32, any::<u32>()].prop_map(ProtocolLevel::new)
}

fn info() -> impl Strategy<Value = NodeInfo> {
    (node(), any::<String>(), any::<String>()).prop_map(|(id, addr, client_addr)| NodeInfo {
        id,
        addr,
        client_addr,
    })
}

fn membership(least: usize) -> impl Strategy<Value = ClusterMembership> {
    let addrs = (any::<String>(), any::<String>());
    btree_map(node(), addrs, least..least + 4).prop_map(|members| {
        let info = |(id, (addr, client_addr))| NodeInfo {
            id,
            addr,
            client_addr,
        };
        members.into_iter().map(info).collect()
    })
}

fn limits() -> impl Strategy<Value = NodeLimits> {
    any::<[u64; 4]>().prop_map(|[key, value, append, message]| NodeLimits {
        key,
        value,
        append,
        message,
    })
}

/// The state of a process that belongs to a cluster, or to none. An outside process belongs to none in
/// the view of others, so that state does not survive.
fn membership_state() -> impl Strategy<Value = (NodeState, Option<ClusterId>)> {
    let of_a_cluster = (any::<bool>(), cluster()).prop_map(|(started, cluster_id)| {
        let states = [NodeState::Prepared, NodeState::Started];
        (states[usize::from(started)], Some(cluster_id))
    });
    prop_oneof![1 => Just((NodeState::Fresh, None)), 4 => of_a_cluster]
}

fn introduction() -> impl Strategy<Value = Introduction> {
    (raft_id_of(), membership_state(), membership(0)).prop_map(
        |(raft_id, (state, cluster_id), members)| Introduction {
            raft_id,
            state,
            cluster_id,
            members: Arc::new(members),
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![
        Role::Learner,
        Role::Follower,
        Role::PreCandidate,
        Role::Candidate,
        Role::Leader,
    ])
}

/// Numbers in descending order, as those of a log are: last, committed, applied.
fn positions() -> impl Strategy<Value = [u64; 3]> {
    any::<[u64; 3]>().prop_map(|mut positions| {
        positions = positions.map(|position| position % (MAX_INDEX + 1));
        positions.sort_unstable();
        positions.reverse();
        positions
    })
}

fn following() -> impl Strategy<Value = Arc<Following>> {
    (positions(), incarnations()).prop_map(|([last_index, commit_index, _], acknowledged_by)| {
        Arc::new(Following {
            last_index,
            commit_index,
            acknowledged_by,
        })
    })
}

fn receiving() -> impl Strategy<Value = SnapshotProgress> {
    any::<[u64; 5]>().prop_map(|[received, total, leader, term, index]| SnapshotProgress {
        received,
        total,
        id: SnapshotId {
            leader,
            term,
            index,
        },
    })
}

fn answering() -> impl Strategy<Value = Answering> {
    prop_oneof![
        Just(Answering::Silent),
        Just(Answering::Hung),
        Just(Answering::Refusing),
        Just(Answering::NotGrpc),
        Just(Answering::ClientPort),
        Just(Answering::OtherService),
        node().prop_map(Answering::OtherNode),
    ]
}

fn reach() -> impl Strategy<Value = Arc<Reach>> {
    let missed = (node(), answering(), any::<bool>());
    let missed = missed.prop_map(|(node, answering, asks)| Missed {
        node,
        answering,
        asks,
    });
    (0..=MAX_INDEX, incarnations(), vec(missed, 0..4)).prop_map(|(as_of, reached, missed)| {
        Arc::new(Reach {
            as_of,
            reached,
            missed,
        })
    })
}

fn time() -> impl Strategy<Value = WallTime> {
    let first = WallTime::FIRST.micros();
    (first..4 * first).prop_map(|micros| WallTime::new(micros).expect("a credible time"))
}

fn status() -> impl Strategy<Value = NodeStatus> {
    let identity = (
        raft_id_of(),
        membership_state(),
        role(),
        option::of(raft_id_of()),
    );
    let terms = (0..=MAX_TERM, 0..=MAX_TERM);
    let numbers = (positions(), any::<[u64; 3]>(), terms);
    let joined = option::of((0..1u64 << 40, 0..1_000_000_000u32));
    let members = (
        incarnations(),
        incarnations(),
        vec(node(), 0..5),
        any::<bool>(),
    );
    let progress = (
        option::of(receiving()),
        any::<(u64, bool)>(),
        option::of(following()),
        vec([raft_id_of(), raft_id_of()], 0..3),
    );
    let versions = (
        level(),
        level(),
        option::of(1..=u64::MAX),
        option::of(limits()),
    );
    let rest = (
        any::<bool>(),
        option::of(node()),
        option::of(reach()),
        option::of(time()),
    );
    let all = (identity, numbers, joined, members, progress, versions, rest);
    all.prop_map(
        |(identity, numbers, joined, members, progress, versions, rest)| {
            let (raft_id, (state, cluster_id), role, leader) = identity;
            let (positions, [keys, state_bytes, max_state_bytes], terms) = numbers;
            let [last_index, commit_index, applied_index] = positions;
            let (voters, learners, members, members_known) = members;
            let (receiving, (number, under_way), following, doubled) = progress;
            let (level, cluster_level, unreadable, limits) = versions;
            let (unconfirmed, differs_from, reach, time) = rest;
            NodeStatus {
                raft_id,
                state,
                cluster_id,
                recovered_from: Arc::default(),
                role: (state == NodeState::Started).then_some(role),
                term: terms.0.max(terms.1),
                leader,
                commit_index,
                applied_index,
                keys,
                state_bytes,
                max_state_bytes,
                joined_at: joined.map(|(secs, nanos)| UNIX_EPOCH + Duration::new(secs, nanos)),
                last_index,
                last_term: terms.0.min(terms.1),
                awaits: Vec::new(),
                conf: Arc::new(Conf {
                    voters,
                    learners,
                    members,
                }),
                members_known,
                receiving,
                recovery: RecoveryAttempt { number, under_way },
                following,
                doubled,
                level,
                cluster_level,
                unreadable,
                limits,
                unconfirmed,
                differs_from,
                reach,
                time,
            }
        },
    )
}

/// An offer to a majority of its initial members, by the first of them.
fn offer() -> impl Strategy<Value = (Offer, RaftId)> {
    let incarnations = vec(any::<u64>(), 8);
    let rest = (
        cluster(),
        btree_set(node(), 0..4),
        level(),
        option::of(limits()),
        time(),
    );
    (
        membership(3),
        incarnations,
        any::<bool>(),
        rest,
        raft_id_of(),
    )
        .prop_map(
            |(membership, incarnations, all, (cluster_id, absent, level, limits, time), to)| {
                let take = if all {
                    membership.len()
                } else {
                    membership.len() / 2 + 1
                };
                let incarnations = membership.ids().zip(incarnations).take(take);
                let members: Vec<_> = incarnations
                    .map(|(node, incarnation)| RaftId::new(node, incarnation))
                    .collect();
                let offer = Offer {
                    cluster_id,
                    coordinator: members[0],
                    members,
                    membership,
                    absent,
                    level,
                    limits,
                    time: (level > ProtocolLevel::FIRST).then_some(time),
                };
                (offer, to)
            },
        )
}

fn claim() -> impl Strategy<Value = (RecoveryClaim, RaftId)> {
    let rank = (0..=MAX_TERM, positions(), any::<bool>(), raft_id_of());
    (cluster(), 1..=u64::MAX, rank, raft_id_of()).prop_map(|(cluster_id, attempt, rank, to)| {
        let (last_term, [last_index, commit_index, _], votes, raft_id) = rank;
        let rank = Rank {
            last_term,
            last_index,
            votes,
            commit_index,
            raft_id,
        };
        let claim = RecoveryClaim {
            cluster_id,
            attempt,
            rank,
        };
        (claim, to)
    })
}

fn bytes(least: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), least..40).prop_map(Bytes::from)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), 1..=u64::MAX, 0..100u64).prop_map(|(client_id, sequence, behind)| Stamp {
        client_id: ClientId(client_id),
        sequence,
        first_outstanding: sequence.saturating_sub(behind).max(1),
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let test = prop_oneof![
        any::<bool>().prop_map(KeyTest::Exists),
        any::<u64>().prop_map(KeyTest::Revision),
        bytes(0).prop_map(KeyTest::Value),
    ];
    prop_oneof![
        4 => (bytes(1), test).prop_map(|(key, test)| Condition::Key { key, test }),
        1 => (lock_name(), any::<u64>()).prop_map(|(name, token)| Condition::Held { name, token }),
    ]
}

fn lifetime() -> impl Strategy<Value = SetLifetime> {
    prop_oneof![
        Just(SetLifetime::To(Lifetime::Unlimited)),
        KEY_TTL.prop_map(|ttl| SetLifetime::To(Lifetime::Ttl(ttl))),
        (1..=u64::MAX).prop_map(|id| SetLifetime::To(Lifetime::Owner(ClientId(id)))),
        Just(SetLifetime::Keep),
    ]
}

/// Operations that write no key twice.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        (bytes(1), bytes(0), lifetime()).prop_map(|(key, value, lifetime)| Operation::Set {
            key,
            value,
            lifetime
        }),
        bytes(1).prop_map(Operation::Get),
        bytes(1).prop_map(Operation::Delete),
    ];
    vec(operation, 0..6).prop_map(|mut operations| {
        let mut written = BTreeSet::new();
        operations.retain(|it| !it.writes() || written.insert(it.key().clone()));
        operations
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    (vec(condition(), 0..4), operations(), operations()).prop_map(
        |(conditions, success, failure)| Txn {
            conditions,
            success,
            failure,
        },
    )
}

fn lock_name() -> impl Strategy<Value = LockName> {
    ".{1,9}".prop_map(LockName::from)
}

/// What is a write only with a number.
fn of_a_lock() -> impl Strategy<Value = Write> {
    let max_wait = option::of(0..=MAX_CLAIM_WAIT);
    let acquire = (lock_name(), bytes(0), max_wait);
    let acquire = acquire.prop_map(|(name, value, max_wait)| Acquire {
        name,
        value,
        max_wait,
    });
    prop_oneof![
        acquire.prop_map(|acquire| Write::Acquire(Box::new(acquire))),
        lock_name().prop_map(Write::Release),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let write = prop_oneof![
        (bytes(1), bytes(0)).prop_map(|(key, value)| Write::Set { key, value }),
        bytes(1).prop_map(|key| Write::Delete { key }),
        txn().prop_map(|txn| Write::Txn(Box::new(txn))),
    ];
    let write =
        (write, option::of(stamp())).prop_map(|(write, stamp)| Command::Write { write, stamp });
    prop_oneof![
        4 => write,
        2 => (of_a_lock(), stamp()).prop_map(|(write, stamp)| Command::Write {
            write,
            stamp: Some(stamp),
        }),
        1 => any::<u64>().prop_map(|id| Command::OpenSession(ClientId(id))),
        1 => (any::<u64>(), SESSION_TTL).prop_map(|(id, ttl)| Command::OpenLivingSession {
            client_id: ClientId(id),
            ttl,
        }),
        1 => any::<u64>().prop_map(|id| Command::CloseSession(ClientId(id))),
        1 => (0..=MAX_STEP, vec(any::<u64>(), 0..5)).prop_map(|(step, renewed)| Command::Clock {
            step,
            renewed: renewed.into_iter().map(ClientId).collect(),
        }),
        1 => info().prop_map(Command::AddMember),
        1 => node().prop_map(Command::RemoveMember),
        1 => (2..=u32::MAX, any::<u64>()).prop_map(|(level, revision)| {
            let level = ProtocolLevel::new(level);
            Command::RaiseLevel { level, revision }
        }),
    ]
}

fn reason() -> impl Strategy<Value = Reason> {
    let bound = (prop::sample::select(vec!["key", "value"]), any::<u64>());
    prop_oneof![
        option::of(node()).prop_map(|leader_id| Reason::NotLeader { leader_id }),
        Just(Reason::NoQuorum),
        Just(Reason::CutOff),
        bound
            .clone()
            .prop_map(|(what, limit)| Reason::Overloaded { what, limit }),
        (bound.clone(), node()).prop_map(|((what, limit), node_id)| {
            Reason::Full {
                what,
                limit,
                node_id,
            }
        }),
        (bound.clone(), option::of(node())).prop_map(|((what, limit), node_id)| {
            Reason::TooLarge {
                what,
                limit,
                node_id,
            }
        }),
        any::<String>().prop_map(|waiting_for| Reason::Forming { waiting_for }),
        (bound, any::<String>())
            .prop_map(|((field, _), rule)| Reason::InvalidRequest { field, rule }),
        any::<String>().prop_map(|rule| Reason::FailedPrecondition { rule }),
        any::<u64>().prop_map(|id| Reason::SessionExpired {
            client_id: ClientId(id)
        }),
        (cluster(), any::<bool>()).prop_map(|(cluster_id, successor)| Reason::OtherCluster {
            cluster_id,
            successor
        }),
        Just(Reason::ShuttingDown),
    ]
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn introductions_survive(introduction in introduction()) {
        let request = proto::v1::IdentifyRequest::from(introduction.clone());
        prop_assert_eq!(Introduction::try_from(carried(request)), Ok(introduction));
    }

    #[test]
    fn statuses_survive(status in status()) {
        let response = proto::v1::IdentifyResponse::from(status.clone());
        prop_assert_eq!(NodeStatus::try_from(carried(response)), Ok(status));
    }

    #[test]
    fn offers_survive((offer, to) in offer()) {
        let request = offer_request(offer.clone(), to);
        prop_assert_eq!(offer_from_request(carried(request)), Ok((offer, to)));
    }

    #[test]
    fn claims_and_their_answers_survive(
        (claim, to) in claim(),
        answer in prop_oneof![Just(Ok(())), any::<String>().prop_map(Err)],
    ) {
        let request = yield_request(claim, to);
        prop_assert_eq!(claim_from_request(carried(request)), Ok((claim, to)));
        prop_assert_eq!(yielded(carried(yield_response(answer.clone()))), answer);
    }

    #[test]
    fn a_refusal_survives(raft_id in raft_id_of(), cluster_id in option::of(cluster())) {
        let not_me = NotMe { raft_id, cluster_id };
        prop_assert_eq!(NotMe::try_from(carried(proto::v1::NotMe::from(not_me))), Ok(not_me));
    }

    #[test]
    fn commands_survive(command in command()) {
        let data = encode_command(&command);
        prop_assert_eq!(level_of_command(&data), Ok(command.level()));
        prop_assert_eq!(decode_command(data), Ok(command));
    }

    /// A client finds the node's refusal in the details of a status, including the outcome of its write.
    #[test]
    fn refusals_survive(reason in reason(), unknown in any::<bool>(), addr in option::of(any::<String>())) {
        let refusal = if unknown { Refusal::unknown(reason) } else { Refusal::not_applied(reason) };
        let detail = error_detail(&refusal, addr.as_deref());
        let found = find_detail::<kv::v1::ErrorDetail>(&[carried(pack_detail(&detail))]);
        prop_assert_eq!(found.as_ref(), Some(&detail));
        prop_assert_eq!(Applied::from(detail.applied()), refusal.applied);
        prop_assert_eq!(detail.reason.map(|reason| variant(&reason)), Some(variant(&refusal.reason)));
    }
}

/// The name of a variant. A node that is cut off has no quorum, and the protocol has one name for both.
fn variant(reason: &impl std::fmt::Debug) -> String {
    let text = format!("{reason:?}");
    let name: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    if name == "CutOff" {
        "NoQuorum".to_owned()
    } else {
        name
    }
}

/// The strategies above would prove little if some kind were rare.
#[test]
fn every_kind_is_generated() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts = BTreeMap::<_, u32>::new();
    for _ in 0..2000 {
        let command = command().new_tree(&mut runner).unwrap().current();
        *counts.entry(variant(&command)).or_default() += 1;
        let reason = reason().new_tree(&mut runner).unwrap().current();
        *counts.entry(variant(&reason)).or_default() += 1;
    }
    println!("{counts:?}");
    // Eight kinds of commands, and eleven of refusals.
    assert_eq!(counts.len(), 8 + 11);
    assert!(counts.values().all(|&count| count > 50), "{counts:?}");
}
