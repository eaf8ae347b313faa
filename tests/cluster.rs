//! Three whole nodes over real sockets: the guarantees for a user of a cluster.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use seshat::client::Client;
use seshat::config::{ConfigError, Limits};
use seshat::error;
use seshat::proto::admin::{ClusterState, StatusRequest, TransferLeadershipRequest};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::key_range::Range;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::watch_response::Message;
use seshat::proto::kv::{
    Applied, Condition, GetRequest, KeyCondition, KeyRange, NoQuorum, NotLeader, Operation,
    Overloaded, SetOperation, SetRequest, TooLarge, TxnRequest, WatchRequest, WatchResponse,
    condition, key_condition, operation,
};
use seshat::server::{Server, ServerError};
use seshat::types::Role;
use seshat_test_support::cluster::{Cluster, channel};
use seshat_test_support::{InTime as _, eventually, refused};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::metadata::MetadataKey;
use tonic::{Code, Request, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const HEALED: &str = "healthy: every member takes part, and the cluster may lose any one of them";

fn set(key: &str, value: &str) -> SetRequest {
    SetRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        session: None,
        ..SetRequest::default()
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned().into(),
        ..GetRequest::default()
    }
}

#[tokio::test]
async fn three_nodes_elect_a_leader_and_all_of_them_apply_every_write() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let mut applied = 0;
    for number in 0..100 {
        let answer = kv
            .set(set(&format!("k{number}"), "v"))
            .await
            .unwrap()
            .into_inner();
        assert!(answer.applied_index > applied);
        applied = answer.applied_index;
    }
    for (_, node) in cluster.running() {
        eventually("every write on every node", async || {
            let status = node.status();
            (status.keys == 100).then_some(())
        })
        .await;
    }
    let answer = kv.get(get("k99")).await.unwrap().into_inner();
    assert_eq!(answer.value.as_deref(), Some(&b"v"[..]));

    let status = cluster.status(leader, HEALED).await;
    assert_eq!(status.state(), ClusterState::Healthy);
    assert_eq!(status.members.len(), 3);
    for (index, member) in status.members.iter().enumerate() {
        assert!(member.reachable);
        assert!(member.joined_at.is_some());
        assert_eq!(member.client_addr, cluster.client_addr(index));
        assert_eq!(member.addr, cluster.internal_addr(index));
    }
}

/// Applies the messages of a watch to `map` until it is that of `revision`. Returns the number of events.
async fn follow(
    watch: &mut Streaming<WatchResponse>,
    map: &mut BTreeMap<Bytes, Bytes>,
    revision: u64,
) -> usize {
    let mut events = 0;
    loop {
        let message = watch.message().in_time("a message of a watch").await;
        let at = match message.unwrap().unwrap().message.unwrap() {
            Message::Reset(_) => {
                map.clear();
                0
            }
            Message::State(state) => {
                map.extend(state.entries.into_iter().map(|it| (it.key, it.value)));
                0
            }
            Message::Synced(synced) => synced.revision,
            Message::Events(of) => {
                events += of.events.len();
                let entries = of.events.into_iter().filter_map(|event| event.entry);
                map.extend(entries.map(|it| (it.key, it.value)));
                of.revision
            }
            Message::Progress(progress) => progress.revision,
        };
        if at >= revision {
            return events;
        }
    }
}

#[tokio::test]
async fn a_watch_that_is_not_read_delays_neither_writes_nor_another_watch() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let watch = async || {
        let range = Some(Range::Prefix("k".into()));
        let request = WatchRequest {
            range: Some(KeyRange { range }),
            ..WatchRequest::default()
        };
        let watch = cluster.kv(follower).watch(request).await;
        watch.unwrap().into_inner()
    };
    let (mut slow, mut fast) = (watch().await, watch().await);
    let (mut map, mut events, mut last) = (BTreeMap::new(), 0, 0);
    let mut kv = cluster.kv(leader);
    // More than connections and queues hold.
    let writes = 400;
    for number in 0..writes {
        let request = SetRequest {
            key: format!("k{}", number % 20).into(),
            value: vec![u8::try_from(number % 251).unwrap(); 32 << 10].into(),
            ..SetRequest::default()
        };
        let set = kv.set(request).in_time("a write").await;
        last = set.unwrap().into_inner().applied_index;
        events += follow(&mut fast, &mut map, last).await;
    }
    assert_eq!((map.len(), events), (20, writes));
    let mut read_late = BTreeMap::new();
    let events = follow(&mut slow, &mut read_late, last).await;
    assert!(events < writes, "it got the keys that have changed");
    assert_eq!(read_late, map);
}

#[tokio::test]
async fn a_client_that_asks_a_follower_is_led_to_the_leader() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    for follower in (0..3).filter(|index| *index != leader) {
        let status = cluster.kv(follower).set(set("k", "v")).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let (applied, reason) = refused(&status);
        assert_eq!(applied, Applied::No);
        let Some(Reason::NotLeader(NotLeader {
            leader_addr: Some(addr),
            ..
        })) = reason
        else {
            panic!("{reason:?}");
        };
        let mut kv = seshat::proto::kv::kv_service_client::KvServiceClient::new(channel(&addr));
        kv.set(set("k", "v")).await.unwrap();
    }
}

#[tokio::test]
async fn the_first_write_succeeds_although_it_came_before_the_cluster() {
    let mut cluster = Cluster::new(3);
    cluster.start(0);
    let mut kv = cluster.kv(0);
    let write = tokio::spawn(async move { kv.set(set("k", "v")).await });
    let status = cluster
        .status(0, "forming: waiting for nodes 2 and 3")
        .await;
    assert_eq!(status.state(), ClusterState::Forming);
    cluster.start(1);
    cluster.start(2);
    match write.in_time("a write").await.unwrap() {
        Ok(answer) => assert!(answer.into_inner().applied_index > 0),
        // On a slow machine another node may win the first election.
        Err(status) => assert!(matches!(refused(&status).1, Some(Reason::NotLeader(_)))),
    }
}

#[tokio::test]
async fn after_the_leader_was_killed_writes_go_on_within_two_seconds() {
    let mut cluster = Cluster::started(3).await;
    cluster.set("before", "1").await;
    let leader = cluster.leader().await;
    let node = cluster.take(leader);
    let killed = Instant::now();
    node.kill();
    cluster.set("after", "2").await;
    let gap = killed.elapsed();
    assert!(gap < Duration::from_secs(2), "no write for {gap:?}");
    assert_eq!(cluster.get("before").await.as_deref(), Some("1"));
    assert_eq!(cluster.get("after").await.as_deref(), Some("2"));

    let transferee = cluster.leader().await;
    let degraded = format!("degraded: node {} does not answer", leader + 1);
    let status = cluster.status(transferee, &degraded).await;
    assert_eq!(status.state(), ClusterState::Degraded);
}

/// Every node is killed and restarted, the leader first, while a client keeps writing.
#[tokio::test]
async fn a_node_that_forgot_everything_comes_back() {
    let mut cluster = Cluster::started(3).await;
    let first = cluster.leader().await;
    for round in 0..3 {
        let lost = (first + round) % 3;
        let former = cluster.node(lost).status().raft_id;
        let written = round.to_string();
        cluster.set("k", &written).await;
        cluster.take(lost).kill();
        cluster.start(lost);
        let mut status = cluster.node(lost).handle.watch();
        let back = status
            .wait_for(|status| status.role == Some(Role::Follower) && status.leader.is_some())
            .in_time("that status")
            .await
            .unwrap()
            .clone();
        assert_ne!(back.raft_id, former);
        assert_eq!(cluster.get("k").await.as_deref(), Some(&*written));
        let leader = cluster.leader().await;
        let response = cluster.status(leader, HEALED).await;
        assert!(response.members.iter().all(|member| member.keys == 1));
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_served_and_status_says_so() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.take(one).kill();
    cluster.take(other).kill();
    let mut status = cluster.node(leader).handle.watch();
    status
        .wait_for(|status| status.leader.is_none())
        .in_time("that status")
        .await
        .unwrap();

    let mut request = Request::new(set("k", "v"));
    request.set_timeout(Duration::from_millis(500));
    let refusal = cluster.kv(leader).set(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(
        refused(&refusal),
        (
            Applied::No,
            Some(Reason::NoQuorum(NoQuorum { cut_off: false }))
        )
    );
    let (low, high) = (one.min(other) + 1, one.max(other) + 1);
    let no_quorum = format!("no quorum: nodes {low} and {high} do not answer");
    let status = cluster.status(leader, &no_quorum).await;
    assert_eq!(status.state(), ClusterState::NoQuorum);
}

#[tokio::test]
async fn an_operator_moves_leadership() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let transferee = (leader + 1) % 3;
    let request = TransferLeadershipRequest {
        to: Some(u32::try_from(transferee).unwrap() + 1),
        timeout: None,
        ..TransferLeadershipRequest::default()
    };
    let answer = cluster
        .admin(leader)
        .transfer_leadership(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.leader_id, u32::try_from(transferee).unwrap() + 1);
    assert_eq!(cluster.leader().await, transferee);
}

#[tokio::test]
async fn a_leader_that_shuts_down_transfers_leadership_first() {
    let mut cluster = Cluster::started(3).await;
    cluster.set("before", "1").await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().term;
    // A stream without an end of its own must not delay the shutdown.
    let mut health = HealthClient::new(cluster.channel(leader));
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = watch
        .next()
        .in_time("a change of health")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);

    let began = Instant::now();
    let old = cluster.take(leader);
    let old_id = old.status().raft_id;
    old.shutdown().await.unwrap();
    // At once, not after the silence of an election timeout: the leader transfers before it ends.
    let mut led = 0;
    for (_, node) in cluster.running() {
        let status = node.status();
        assert_ne!(status.leader, Some(old_id));
        assert_eq!(status.term, term + 1, "one election, and no more");
        led += usize::from(status.role == Some(Role::Leader));
    }
    assert_eq!(led, 1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "the shutdown took {took:?}");
    let last = watch
        .next()
        .in_time("a change of health")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    cluster.set("after", "2").await;
    assert_eq!(cluster.get("before").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn no_write_is_left_in_the_dark_when_the_leader_shuts_down() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let mut kv = cluster.kv(leader);
            tokio::spawn(async move {
                let mut accepted = 0;
                loop {
                    match kv
                        .set(set(&format!("k{writer}"), &accepted.to_string()))
                        .await
                    {
                        Ok(_) => accepted += 1,
                        Err(status) => return (accepted, status),
                    }
                }
            })
        })
        .collect();
    eventually("some writes", async || {
        (cluster.node(leader).status().applied_index > 100).then_some(())
    })
    .await;
    cluster.take(leader).shutdown().await.unwrap();
    for (writer, task) in writers.into_iter().enumerate() {
        let (accepted, status) = task.in_time("a writer").await.unwrap();
        assert!(accepted > 0);
        // Either refused, or the connection was closed before the request was taken.
        if !status.details().is_empty() {
            assert_eq!(refused(&status).0, Applied::No, "{status:?}");
        }
        let last = cluster.get(&format!("k{writer}")).await;
        assert_eq!(last, Some((accepted - 1).to_string()), "{status:?}");
    }
}

#[tokio::test]
async fn health_goes_over_the_wire() {
    let mut cluster = Cluster::new(3);
    cluster.start(0);
    let mut health = HealthClient::new(cluster.channel(0));
    let request = || HealthCheckRequest {
        service: "seshat.kv.v1.KvService".to_owned(),
    };
    let alone = health.check(request()).await.unwrap().into_inner();
    assert_eq!(alone.status(), ServingStatus::NotServing);
    let mut watch = health.watch(request()).await.unwrap().into_inner();
    cluster.start(1);
    cluster.start(2);
    while watch
        .next()
        .in_time("a change of health")
        .await
        .unwrap()
        .unwrap()
        .status()
        != ServingStatus::Serving
    {}
}

#[tokio::test]
async fn each_listener_reflects_what_it_serves() {
    let cluster = Cluster::started(3).await;
    for (addr, expected) in [
        (
            cluster.client_addr(0),
            &[
                "grpc.health.v1.Health",
                "seshat.admin.v1.AdminService",
                "seshat.kv.v1.KvService",
                "seshat.lock.v1.LockService",
            ][..],
        ),
        (cluster.internal_addr(0), &["seshat.raft.v1.RaftService"]),
    ] {
        // The two versions of the protocol differ only in their names.
        macro_rules! reflected {
            ($version:ident, $package:literal) => {{
                use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
                use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
                use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
                use tonic_reflection::pb::$version::ServerReflectionRequest;
                let ask = async |question| {
                    let request = ServerReflectionRequest {
                        host: String::new(),
                        message_request: Some(question),
                    };
                    let mut client = ServerReflectionClient::new(channel(addr));
                    let answers = client.server_reflection_info(tokio_stream::once(request)).await;
                    let mut answers = answers.unwrap().into_inner();
                    answers.next().in_time("an answer").await.unwrap().unwrap().message_response.unwrap()
                };
                let services = ask(MessageRequest::ListServices(String::new())).await;
                let MessageResponse::ListServicesResponse(services) = services else {
                    panic!("{services:?}");
                };
                let names = services.service.into_iter().map(|service| service.name);
                let own = concat!($package, ".ServerReflection");
                let mut names: Vec<_> = names.filter(|name| name != own).collect();
                names.sort();
                assert_eq!(names, expected);
                for name in names {
                    let file = ask(MessageRequest::FileContainingSymbol(name)).await;
                    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)));
                }
            }};
        }
        reflected!(v1, "grpc.reflection.v1");
        reflected!(v1alpha, "grpc.reflection.v1alpha");
    }
}

#[tokio::test]
async fn a_message_beyond_every_limit_is_refused_with_the_limit() {
    let cluster = Cluster::started(3).await;
    let limits = Limits::default();
    let mut kv = cluster.kv(cluster.leader().await);
    for (bytes, what, limit) in [
        (limits.max_value_bytes + 1, "value", limits.max_value_bytes),
        (
            limits.max_grpc_message_bytes,
            "message",
            limits.max_grpc_message_bytes,
        ),
    ] {
        let large = SetRequest {
            key: "k".into(),
            value: vec![0; bytes].into(),
            session: None,
            ..SetRequest::default()
        };
        let status = kv.set(large).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let reason = Reason::TooLarge(TooLarge {
            what: what.to_owned(),
            limit: u64::try_from(limit).unwrap(),
            node_id: None,
        });
        assert_eq!(refused(&status), (Applied::No, Some(reason)));
    }
    let largest = SetRequest {
        key: vec![b'k'; limits.max_key_bytes].into(),
        value: vec![b'v'; limits.max_value_bytes].into(),
        session: None,
        ..SetRequest::default()
    };
    let read = GetRequest {
        key: largest.key.clone(),
        ..GetRequest::default()
    };
    kv.set(largest.clone()).await.unwrap();
    assert_eq!(
        kv.get(read).await.unwrap().into_inner().value,
        Some(largest.value)
    );
}

/// Before, the value went into the log, no follower could be sent it, and every later write waited for
/// ever while status reported healthy.
#[tokio::test]
async fn a_leader_takes_no_value_that_the_others_could_not_take() {
    let mut cluster = Cluster::new(3);
    let larger = Limits {
        max_value_bytes: 8 << 20,
        max_grpc_message_bytes: 16 << 20,
        ..Limits::default()
    };
    // The lowest node forms the cluster and leads it.
    cluster.limit(0, larger);
    cluster.start_all().await;
    assert_eq!(cluster.leader().await, 0);
    let set = |value: Vec<u8>| SetRequest {
        key: "k".into(),
        value: value.into(),
        session: None,
        cluster_id: None,
    };
    let mut kv = cluster.kv(0).max_encoding_message_size(16 << 20);
    let status = kv.set(set(vec![0; 5 << 20])).await.unwrap_err();
    let limit = u64::try_from(Limits::default().max_value_bytes).unwrap();
    let reason = Reason::TooLarge(TooLarge {
        what: "value".to_owned(),
        limit,
        node_id: Some(2),
    });
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(refused(&status), (Applied::No, Some(reason)));
    kv.set(set(b"v".to_vec())).await.unwrap();
    let mut admin = cluster.admin(1);
    let named = eventually("a word about the limits", async || {
        let status = admin.status(StatusRequest::default()).await;
        let summary = status.unwrap().into_inner().summary;
        summary
            .contains("limits.max_value_bytes")
            .then_some(summary)
    });
    let named = named.await;
    assert!(named.contains("on nodes 2 and 3"), "{named}");
}

#[tokio::test]
async fn metadata_is_ignored_or_refused_and_never_leaves_a_write_in_the_dark() {
    let cluster = Cluster::started(3).await;
    let mut kv = cluster.kv(cluster.leader().await);
    let mut set = async |metadata: Vec<(String, String)>| {
        let mut request = Request::new(set("k", "v"));
        for (name, value) in metadata {
            let name = MetadataKey::from_bytes(name.as_bytes()).unwrap();
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        kv.set(request).await
    };
    let one = |name: &str, bytes| vec![(name.to_owned(), "x".repeat(bytes))];
    let many = |count| (0..count).map(|n| (format!("x-key-{n}"), "value".to_owned()));
    for small in [
        one("traceparent", 100),
        one("x", 10_000),
        many(100).collect(),
    ] {
        assert!(set(small).await.is_ok());
    }
    for large in [
        one("traceparent", 20_000),
        one("x", 20_000),
        one("x", 200_000),
        many(1_000).collect(),
        many(4_000).collect(),
    ] {
        let status = set(large).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let reason = Reason::TooLarge(TooLarge {
            what: "metadata".to_owned(),
            limit: 16 << 10,
            node_id: None,
        });
        assert_eq!(refused(&status), (Applied::No, Some(reason)));
    }
}

/// The node stands still while a client asks and gives up: then it reads both at once.
#[tokio::test]
async fn writes_beside_calls_that_are_given_up_by_the_hundred_lose_nothing() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.client_addr(cluster.leader().await).to_owned();
    let (hold_on, held) = std::sync::mpsc::sync_channel::<std::sync::mpsc::Receiver<()>>(0);
    let client = async move {
        let kv = KvServiceClient::new(channel(&leader));
        for _ in 0..20 {
            let set = |n| {
                let mut kv = kv.clone();
                async move { kv.set(set(&format!("k{n}"), "v")).await }
            };
            let sets = JoinSet::from_iter((0..20).map(set));
            let (go_on, goes_on) = std::sync::mpsc::channel();
            // Returns when the nodes stand still.
            hold_on.send(goes_on).unwrap();
            let given_up = |_| {
                let mut kv = kv.clone();
                async move { kv.get(get("k")).await.is_ok() }
            };
            let mut given_up = JoinSet::from_iter((0..200).map(given_up));
            // They are sent, because this thread has nothing else to do.
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            given_up.abort_all();
            while given_up.join_next().await.is_some() {}
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            go_on.send(()).unwrap();
            for written in sets.join_all().await {
                written.unwrap();
            }
        }
    };
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(client);
    });
    while !client.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let Ok(goes_on) = held.try_recv() {
            let _ = goes_on.recv();
        }
    }
    client.join().unwrap();
}

#[tokio::test]
async fn a_full_node_has_room_for_one_more_client_and_for_operators() {
    let limits = Limits {
        max_connections: 16,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.start_all().await;
    let full = cluster.leader().await;
    // They hold all slots and send no calls.
    let mut idle: Vec<_> = (0..16)
        .map(|_| TcpStream::connect(cluster.client_addr(full)).unwrap())
        .collect();
    for (index, stream) in idle.iter_mut().enumerate() {
        let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        // Every other one never completes its preface.
        let length = if index % 2 == 0 { 1 } else { preface.len() };
        stream.write_all(&preface[..length]).unwrap();
    }
    let watch = async || {
        let mut health = HealthClient::new(channel(cluster.client_addr(full)));
        let request = HealthCheckRequest::default();
        health.watch(request).await.map(tonic::Response::into_inner)
    };
    let mut busy = Vec::new();
    for _ in 0..16 {
        let mut watched = watch().await.unwrap();
        assert!(
            watched
                .next()
                .in_time("a state of health")
                .await
                .unwrap()
                .is_ok()
        );
        busy.push(watched);
    }
    // All are in use: a client is told so, and an operator is served.
    let status = cluster.kv(full).set(set("k", "v")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let reason = Reason::Overloaded(Overloaded {
        what: "max_connections".to_owned(),
        limit: 16,
    });
    assert_eq!(refused(&status), (Applied::No, Some(reason)));
    for _ in 0..100 {
        let status = cluster
            .admin(0)
            .status(StatusRequest::default())
            .await
            .unwrap();
        assert_eq!(status.into_inner().members.len(), 3);
    }
    // A read finds the leader for them.
    let client = Client::connect([cluster.client_addr(full)]).unwrap();
    client.get("k").await.unwrap();
    drop(busy.pop());
    eventually("a place for one more", async || {
        cluster.kv(full).set(set("k", "v")).await.ok()
    })
    .await;
    busy.push(watch().await.unwrap());
    let taken = client.admin().transfer_leadership(None).await.unwrap();
    assert_ne!(taken.leader_id, u32::try_from(full + 1).unwrap());
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let cluster = Cluster::new(3);
    let mut config = cluster.config(0).clone();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    config.node.client_addr = taken.local_addr().unwrap().to_string();
    let error = Server::bind(config.clone()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ServerError::Bind {
                field: "client_addr",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains(&config.node.client_addr),
        "{error}"
    );

    config.cluster.initial_members.pop();
    let error = Server::bind(config).await.unwrap_err();
    let ServerError::Config(ConfigError { faults }) = error else {
        panic!("{error}");
    };
    assert!(!faults.is_empty());
}

fn missing(key: &str) -> Condition {
    let key = KeyCondition {
        key: key.to_owned().into(),
        test: Some(key_condition::Test::Exists(false)),
    };
    Condition {
        condition: Some(condition::Condition::Key(key)),
    }
}

fn bind(key: &str, value: &str) -> Operation {
    let set = SetOperation {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..SetOperation::default()
    };
    Operation {
        operation: Some(operation::Operation::Set(set)),
    }
}

/// A caller in the process of a node gets the same as a client over gRPC: answers of the leader,
/// refusals of the others, and the same limits.
#[tokio::test]
async fn the_store_of_the_leader_serves_callers_in_its_process() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let store = cluster.local(leader);
    assert_eq!(store.get("k").await, Ok(None));
    let first = store.set("k", "v").await.unwrap();
    assert!(store.set("k", "w").await.unwrap() > first);
    assert_eq!(store.get("k").await.unwrap().as_deref(), Some(&b"w"[..]));
    assert_eq!(store.delete("k").await, Ok(true));
    assert_eq!(store.delete("k").await, Ok(false));
    assert_eq!(store.get_with_revision("k").await, Ok(None));

    let claim = TxnRequest {
        conditions: vec![missing("owner")],
        success: vec![bind("owner", "me")],
        ..TxnRequest::default()
    };
    let claimed = store.txn(claim.clone()).await.unwrap();
    assert!(claimed.succeeded);
    let owner = ("me".into(), claimed.revision);
    assert_eq!(store.get_with_revision("owner").await, Ok(Some(owner)));
    assert!(!store.txn(claim).await.unwrap().succeeded);
    // A transaction that writes nothing is a read.
    let read = TxnRequest {
        conditions: vec![missing("owner")],
        ..TxnRequest::default()
    };
    assert!(!store.txn(read).await.unwrap().succeeded);
    let nothing = TxnRequest {
        success: vec![bind("", "v")],
        ..TxnRequest::default()
    };
    let refusal = store.txn(nothing).await.unwrap_err();
    assert_eq!(refusal.applied, error::Applied::No);

    let refusal = store.set("", "v").await.unwrap_err();
    assert_eq!(refusal.applied, error::Applied::No);
    assert!(matches!(
        refusal.reason,
        error::Reason::InvalidRequest { field: "key", .. }
    ));

    let follower = cluster.local((leader + 1) % 3);
    let refusal = follower.set("k", "v").await.unwrap_err();
    assert_eq!(refusal.applied, error::Applied::No);
    let leader_id = Some(store.status().raft_id.node_id());
    assert_eq!(refusal.reason, error::Reason::NotLeader { leader_id });
}
