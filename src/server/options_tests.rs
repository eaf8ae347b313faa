//! Each field of the configuration reaches the place where it acts.

use super::*;
use crate::config::Overrides;
use crate::server::Server;
use crate::types::NodeId;

const MEMBERS: &str = "1=a:7379/a:6379,2=b:7379/b:6379,3=c:7379/c:6379";

/// The options of each part that follow from a configuration, and the server that is made of it.
struct Told {
    replica: ReplicaOptions,
    driver: DriverOptions,
    transport: TransportOptions,
    service: ServiceOptions,
    clients: ListenOptions,
    nodes: ListenOptions,
    server: Server,
}

impl Told {
    /// The options that follow from a configuration with these assignments, as a flag makes them.
    async fn of(assignments: &[&str]) -> Self {
        let overrides = Overrides {
            id: Some("2".to_owned()),
            initial_members: Some(MEMBERS.to_owned()),
            set: assignments.iter().map(|&text| text.to_owned()).collect(),
            ..Overrides::default()
        };
        let config = Config::load(None, std::iter::empty(), &overrides).expect("valid");
        let raft_id = RaftId::new(config.node.id, 9);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let transport = transport(&config, &config.membership(), 8);
        let port = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        Self {
            replica: replica(&config, ClusterMembership::default(), raft_id, 7, logger),
            driver: driver(&config, Workers::Threads),
            service: service(&config),
            clients: client_listener(&config),
            nodes: internal_listener(config.node.id, &transport),
            transport,
            server: Server::seeded(config, port(), port(), || 6)
                .await
                .expect("a server"),
        }
    }

    fn gate_has(&self, text: &str) -> bool {
        format!("{:?}", self.server.ends.admission).contains(text)
    }
}

type Case = (&'static str, fn(&Told) -> bool);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Every number of the configuration, and where its value must show.
const NUMBERS: [Case; 29] = [
    ("raft.heartbeat_interval_ms=50", |told| {
        let raft = &told.replica.raft;
        let ticks = (raft.heartbeat_ticks, raft.election_min_ticks);
        told.driver.tick == millis(50) && ticks == (1, 10)
    }),
    ("raft.election_timeout_min_ms=400", |told| {
        told.replica.raft.election_min_ticks == 4 && told.transport.vote_timeout == millis(400)
    }),
    ("raft.election_timeout_max_ms=3000", |told| {
        let (transport, service) = (&told.transport, &told.service);
        told.replica.raft.election_max_ticks == 30
            // 30, ANNOUNCE_TICKS, and the longest pause of 500 ms.
            && told.replica.formation_wait_ticks == 30 + ANNOUNCE_TICKS + 5
            && transport.connect_timeout == millis(3000)
            && transport.keepalive_interval == millis(3000)
            && transport.keepalive_timeout == millis(6000)
            && service.transfer_timeout == millis(3000)
            && service.member_timeout == millis(3000)
            && told.server.ends.transfer_timeout == millis(3000)
    }),
    ("raft.raft_rpc_timeout_secs=7", |told| {
        told.transport.rpc_timeout == millis(7000)
            && told.transport.bulk_timeout == millis(28_000)
            && told.nodes.keepalive_timeout == millis(28_000)
    }),
    ("limits.max_key_bytes=1000", |told| {
        told.service.max_key_bytes == 1000
            && told.replica.raft.limits.key == 1000
            && told.clients.stream_window_bytes == 1000 + (1 << 20) + (64 << 10)
    }),
    ("limits.max_value_bytes=2000", |told| {
        told.service.max_value_bytes == 2000
            && told.replica.raft.limits.value == 2000
            && told.clients.stream_window_bytes == 4096 + 2000 + (64 << 10)
            // Small frames of all streams have to fit as well: 4096 of 512 bytes.
            && told.clients.connection_window_bytes == 2 << 20
    }),
    ("limits.max_state_bytes=5000000", |told| {
        told.replica.raft.max_state_bytes == 5_000_000
            && told.transport.max_snapshot_bytes == 5_000_000 + (128 << 20) + MAX_SESSION_MEMORY
    }),
    ("limits.max_append_bytes=400000", |told| {
        told.replica.raft.max_append_bytes == 400_000 && told.replica.raft.limits.append == 400_000
    }),
    ("limits.max_grpc_message_bytes=5000000", |told| {
        told.service.max_grpc_message_bytes == 5_000_000
            && told.transport.max_message_bytes == 5_000_000
            && told.transport.window_bytes == 5_000_000
            && told.nodes.stream_window_bytes == 5_000_000
            && told.nodes.connection_window_bytes == 5_000_000
            && told.replica.raft.limits.message == 5_000_000
    }),
    ("limits.snapshot_chunk_bytes=9000", |told| {
        told.transport.snapshot_chunk_bytes == 9000
    }),
    ("limits.max_inflight_appends=17", |told| {
        told.replica.raft.max_inflight_appends == 17
    }),
    ("limits.peer_queue_bytes=80000000", |told| {
        told.transport.peer_queue_bytes == 80_000_000
    }),
    ("limits.peer_inbox_messages=65", |told| {
        told.driver.peer_inbox_messages == 65
    }),
    ("limits.max_uncommitted_bytes=50000000", |told| {
        let overhead = told.replica.raft.max_state_bytes + MAX_SESSION_MEMORY;
        told.replica.raft.max_uncommitted_bytes == 50_000_000
            && told.transport.max_snapshot_bytes == 100_000_000 + overhead
    }),
    ("limits.max_pending_requests=7000", |told| {
        told.driver.max_pending_requests == 7000
            && told.clients.max_calls == 7000
            && told.gate_has("max_requests: 7000,")
    }),
    ("limits.max_pending_bytes=90000000", |told| {
        told.gate_has("max_bytes: 90000000,")
    }),
    ("limits.max_inflight_requests=3000", |told| {
        told.replica.raft.max_pending_requests == 3000
    }),
    ("limits.max_unread_bytes=9000000", |told| {
        told.service.max_unread_bytes == 9_000_000
    }),
    ("limits.max_batch_requests=300", |told| {
        told.driver.max_batch_requests == 300
    }),
    ("limits.max_batch_bytes=200000", |told| {
        told.driver.max_batch_bytes == 200_000
    }),
    ("limits.max_read_batch=100", |told| {
        told.replica.raft.max_read_batch == 100
    }),
    ("limits.compact_after_entries=9999", |told| {
        told.replica.raft.compact_after_entries == 9999
    }),
    ("limits.compact_after_bytes=70000000", |told| {
        told.replica.raft.compact_after_bytes == 70_000_000
    }),
    ("limits.compact_keep_entries=99", |told| {
        told.replica.raft.compact_keep_entries == 99
    }),
    ("limits.max_connections=50", |told| {
        told.clients.max_connections == 50
    }),
    ("limits.max_concurrent_streams=100", |told| {
        told.clients.max_concurrent_streams == 100
    }),
    ("limits.request_timeout_ms=6000", |told| {
        told.service.request_timeout == millis(6000)
    }),
    ("limits.shutdown_timeout_ms=11000", |told| {
        told.server.ends.shutdown_timeout == millis(11_000)
    }),
    // Not a number, but tested in the same way.
    ("cluster.wait_for_survivors=false", |told| {
        told.replica.formation_wait_ticks == 0
    }),
];

#[tokio::test]
async fn every_number_reaches_the_place_where_it_acts() {
    let defaults = Told::of(&[]).await;
    let (mut tried, mut lost) = (Vec::new(), Vec::new());
    for (assignment, acts) in NUMBERS {
        assert!(!acts(&defaults), "{assignment}: the default looks alike");
        if !acts(&Told::of(&[assignment]).await) {
            lost.push(assignment);
        }
        tried.extend(assignment.split('=').next());
    }
    assert!(lost.is_empty(), "without effect: {lost:?}");
    tried.retain(|field| !field.starts_with("cluster."));
    let (raft, limits) = (crate::config::RaftConfig::FIELDS, Limits::FIELDS);
    assert_eq!(tried, [raft, limits].concat());
}

/// There is one set of defaults: a core that runs without a configuration has them too.
#[tokio::test]
async fn the_core_has_the_defaults_of_the_configuration() {
    let told = Told::of(&[]).await.replica.raft;
    let defaults = RaftOptions {
        limits: told.limits,
        max_state_bytes: told.max_state_bytes,
        ..RaftOptions::default()
    };
    assert_eq!(told, defaults);
}

#[tokio::test]
async fn a_node_gets_its_id_and_the_members() {
    let told = Told::of(&["cluster.bootstrap=false"]).await;
    assert!(!told.replica.bootstrap);
    assert!(Told::of(&[]).await.replica.bootstrap);
    let node = |id| NodeId::new(id).expect("a node id");
    assert_eq!(told.replica.raft_id, RaftId::new(node(2), 9));
    assert_eq!(told.server.raft_id(), RaftId::new(node(2), 6));
    let members: Vec<_> = told.replica.members.iter().collect();
    let [_, second, _] = members.as_slice() else {
        panic!("three members");
    };
    assert_eq!(second.addr, "b:7379");
    assert_eq!(second.client_addr, "b:6379");
    let peers: Vec<_> = told.transport.peers.iter().collect();
    let peers = peers.iter().map(|peer| (peer.id, peer.addr.as_str()));
    assert!(peers.eq([(node(1), "a:7379"), (node(3), "c:7379")]));
    let seeds = (told.replica.seed, told.transport.seed);
    assert_eq!(seeds, (7, 8));
}

/// The largest window of HTTP/2 (RFC 9113, section 6.9.1).
#[test]
fn no_window_is_larger_than_http_2_allows() {
    assert_eq!(window(1000), 1000);
    for bytes in [0x7fff_ffff, 0x8000_0000, usize::MAX] {
        assert_eq!(window(bytes), 0x7fff_ffff, "{bytes}");
    }
}
