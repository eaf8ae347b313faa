//! The log lines about a dead peer: one line when it goes, one when it is back.
//!
//! Alone in its process: `tracing` can lose a line for good that two threads reach for the first time at
//! once, and then a count of lines proves nothing.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use seshat::driver::{Driver, DriverHandle, DriverOptions, Network as _, Probe as _};
use seshat::node::{RaftOptions, Replica, ReplicaOptions};
use seshat::proto::raft::HeartbeatRequest;
use seshat::telemetry;
use seshat::transport::{Connector, Transport, TransportOptions};
use seshat::types::{ClusterMembership, NodeId, NodeInfo, RaftId, WallTime};
use seshat::wire::PeerMessage;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;
use tower::service_fn;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// The transport's lines that an operator reads.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with("seshat::transport")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Message<'a>(&'a Mutex<Vec<String>>);

        impl Visit for Message<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0.lock().unwrap().push(format!("{value:?}"));
                }
            }
        }

        event.record(&mut Message(&self.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn raft_id_of(id: u16, incarnation: u64) -> RaftId {
    RaftId::new(NodeId::new(id).unwrap(), incarnation)
}

fn info(id: NodeId) -> NodeInfo {
    NodeInfo {
        id,
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    }
}

/// A driver that is never run, and its handle.
fn idle(raft_id: RaftId) -> (Driver, DriverHandle) {
    let replica = Replica::new(ReplicaOptions {
        raft_id,
        members: (1..=3).filter_map(NodeId::new).map(info).collect(),
        bootstrap: true,
        remembered: ClusterMembership::default(),
        formation_wait_ticks: 0,
        time: Some(WallTime::FIRST),
        raft: RaftOptions::default(),
        seed: 1,
        logger: telemetry::raft_logger(1, |id| id.to_string()),
    });
    let options = DriverOptions {
        workers: seshat::driver::Workers::default(),
        tick: Duration::from_millis(100),
        max_pending_requests: 1,
        // All reports of the transport find room.
        peer_inbox_messages: 100_000,
        max_batch_requests: 1,
        max_batch_bytes: 1,
    };
    Driver::new(replica, options)
}

/// Leads for a minute, with a heartbeat to `to` each 100 ms.
async fn lead_for_a_minute(transport: &mut Transport, to: RaftId) {
    transport.network.set_leading(true);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..600 {
        ticks.tick().await;
        transport
            .network
            .send(PeerMessage::Heartbeat(HeartbeatRequest {
                term: 1,
                leader_id: raft_id_of(1, 1).get(),
                to: to.get(),
                ..HeartbeatRequest::default()
            }));
    }
    transport.network.set_leading(false);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_and_comes_back_is_two_lines_in_the_log() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());

    // Node 2 listens on pipes, while it runs.
    let alive = Arc::new(AtomicBool::new(false));
    let (connections, incoming) = mpsc::unbounded_channel();
    let (_driver, handle) = idle(raft_id_of(2, 2));
    let peer = Transport::new(TransportOptions::default(), handle, &Connector::tcp()).unwrap();
    let incoming = UnboundedReceiverStream::new(incoming).map(Ok::<_, io::Error>);
    let server = Server::builder().add_service(peer.service);
    tokio::spawn(server.serve_with_incoming(incoming));

    let is_alive = Arc::clone(&alive);
    let connector = Connector::new(move |endpoint| {
        let (is_alive, connections) = (Arc::clone(&is_alive), connections.clone());
        endpoint.connect_with_connector_lazy(service_fn(move |_| {
            let connected = if is_alive.load(Ordering::Relaxed) {
                let (near, far) = tokio::io::duplex(1 << 16);
                connections
                    .send(far)
                    .map_err(io::Error::other)
                    .map(|()| TokioIo::new(near))
            } else {
                Err(ErrorKind::ConnectionRefused.into())
            };
            std::future::ready(connected)
        }))
    });
    let options = TransportOptions {
        peers: vec![NodeInfo {
            addr: "kvstore-2:7379".to_owned(),
            ..NodeInfo::nowhere(NodeId::new(2).unwrap())
        }],
        ..TransportOptions::default()
    };
    let (_driver, handle) = idle(raft_id_of(1, 1));
    let mut leader = Transport::new(options, handle, &connector).unwrap();

    lead_for_a_minute(&mut leader, raft_id_of(2, 2)).await;
    assert_eq!(lines.take(), ["peer is down"]);

    alive.store(true, Ordering::Relaxed);
    // Longer than any wait after a failure.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let node = NodeId::new(2).unwrap();
    let status = leader.prober.identify(node, Duration::from_secs(1)).await;
    assert_eq!(status.unwrap().raft_id, raft_id_of(2, 2));
    assert_eq!(lines.take(), ["peer is up"]);

    // A leader addresses an earlier incarnation until the members have changed.
    lead_for_a_minute(&mut leader, raft_id_of(2, 1)).await;
    assert_eq!(lines.take(), ["peer is not the process that was addressed"]);
}
