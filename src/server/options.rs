//! The options of each part of the server, made from one configuration.

use std::time::Duration;

use super::listen_options::ListenOptions;
use crate::config::{Config, Limits, MESSAGE_OVERHEAD_BYTES};
use crate::driver::{DriverOptions, Workers};
use crate::kv::MAX_SESSION_MEMORY;
use crate::node::{ANNOUNCE_TICKS, RaftOptions, ReplicaOptions};
use crate::service::ServiceOptions;
use crate::transport::TransportOptions;
use crate::types::{ClusterMembership, NodeId, NodeLimits, ProtocolLevel, RaftId};
use crate::watch::WatchBounds;

/// Interval of pings on a client connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A client connection that leaves a ping unanswered for so long is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that the listener for nodes holds at once: three from each other node, if it is sent a
/// snapshot, and lost ones that have not been noticed yet.
pub(super) const INTERNAL_CONNECTIONS: usize = 128;

/// A node that has not heard of a leader for so long, or for an election timeout, ends its watches.
const WATCH_PATIENCE: Duration = Duration::from_secs(10);

/// Shortest timeout of a question to another node about its status.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many requests of the largest size fit into the window of one client connection.
const REQUESTS_IN_WINDOW: u32 = 4;

/// Bytes of a connection's window for each stream that it may have. h2 counts every small frame that was
/// not read yet as 256 bytes, and closes a connection whose frames take more than half of its window
/// ("too_many_data_frames"), with every write on it.
const WINDOW_PER_STREAM_BYTES: u32 = 512;

/// The largest window of HTTP/2.
const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;

pub(super) fn replica(
    config: &Config,
    remembered: ClusterMembership,
    raft_id: RaftId,
    seed: u64,
    logger: slog::Logger,
) -> ReplicaOptions {
    ReplicaOptions {
        raft_id,
        members: config.membership(),
        remembered,
        bootstrap: config.cluster.bootstrap,
        formation_wait_ticks: formation_wait_ticks(config),
        time: None,
        raft: raft(config),
        seed,
        logger,
    }
}

/// How long a fresh process waits for a survivor to ask it: as long as that survivor may still believe in
/// its leader, and then needs to reach this process, including the pause after a failed attempt.
fn formation_wait_ticks(config: &Config) -> u64 {
    if !config.cluster.wait_for_survivors {
        return 0;
    }
    let (_, election_max_ticks) = config.raft.election_ticks();
    let tick = config.raft.heartbeat_interval().as_millis().max(1);
    let pause = TransportOptions::default().backoff_max.as_millis();
    let ticks = |ticks| u64::try_from(ticks).unwrap_or(u64::MAX);
    u64::try_from(election_max_ticks)
        .unwrap_or(u64::MAX)
        .saturating_add(ANNOUNCE_TICKS)
        .saturating_add(ticks(pause.div_ceil(tick)))
}

fn node_limits(limits: &Limits) -> NodeLimits {
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    NodeLimits {
        key: bytes(limits.max_key_bytes),
        value: bytes(limits.max_value_bytes),
        append: limits.max_append_bytes,
        message: bytes(limits.max_grpc_message_bytes),
    }
}

fn raft(config: &Config) -> RaftOptions {
    let limits = &config.limits;
    let (election_min_ticks, election_max_ticks) = config.raft.election_ticks();
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    RaftOptions {
        level: ProtocolLevel::CURRENT,
        limits: node_limits(limits),
        heartbeat_ticks: 1,
        election_min_ticks,
        election_max_ticks,
        max_append_bytes: limits.max_append_bytes,
        max_inflight_appends: limits.max_inflight_appends,
        max_uncommitted_bytes: bytes(limits.max_uncommitted_bytes),
        max_state_bytes: limits.max_state_bytes,
        max_pending_requests: limits.max_inflight_requests,
        max_read_batch: limits.max_read_batch,
        compact_after_entries: bytes(limits.compact_after_entries),
        compact_after_bytes: bytes(limits.compact_after_bytes),
        compact_keep_entries: bytes(limits.compact_keep_entries),
        watch: watch(config),
    }
}

fn watch(config: &Config) -> WatchBounds {
    let defaults = WatchBounds::default();
    let patience = WATCH_PATIENCE.max(config.raft.election_timeout_max());
    let tick = config.raft.heartbeat_interval().as_millis().max(1);
    let ticks = patience.as_millis().div_ceil(tick);
    WatchBounds {
        part_bytes: defaults
            .part_bytes
            .min(config.limits.max_grpc_message_bytes / 2),
        patience_ticks: u64::try_from(ticks).unwrap_or(u64::MAX),
        ..defaults
    }
}

pub(super) fn driver(config: &Config, workers: Workers) -> DriverOptions {
    DriverOptions {
        tick: config.raft.heartbeat_interval(),
        max_pending_requests: config.limits.max_pending_requests,
        peer_inbox_messages: config.limits.peer_inbox_messages,
        max_batch_requests: config.limits.max_batch_requests,
        max_batch_bytes: config.limits.max_batch_bytes,
        workers,
    }
}

/// The options of the transport. `known` are the nodes that must be reached from the beginning.
pub(super) fn transport(config: &Config, known: &ClusterMembership, seed: u64) -> TransportOptions {
    let limits = &config.limits;
    let defaults = TransportOptions::default();
    // A cluster with distant nodes has longer Raft timeouts. The other timeouts follow them.
    let longest = config.raft.election_timeout_max();
    TransportOptions {
        peers: known
            .iter()
            .filter(|info| info.id != config.node.id)
            .cloned()
            .collect(),
        seed,
        peer_queue_bytes: limits.peer_queue_bytes,
        max_message_bytes: limits.max_grpc_message_bytes,
        snapshot_chunk_bytes: limits.snapshot_chunk_bytes,
        max_snapshot_bytes: max_snapshot_bytes(limits),
        window_bytes: window(limits.max_grpc_message_bytes),
        rpc_timeout: config.raft.rpc_timeout(),
        bulk_timeout: TransportOptions::bulk_timeout(config.raft.rpc_timeout()),
        connect_timeout: defaults.connect_timeout.max(longest),
        keepalive_interval: defaults.keepalive_interval.max(longest),
        keepalive_timeout: defaults.keepalive_timeout.max(longest.saturating_mul(2)),
        vote_timeout: config.raft.election_timeout_min(),
        ..defaults
    }
}

/// Most bytes of a snapshot: the bound of the state, the commands that may be in flight when the state
/// reaches it, and the bound of the sessions.
fn max_snapshot_bytes(limits: &Limits) -> usize {
    let under_way = usize::try_from(limits.max_uncommitted_bytes).unwrap_or(usize::MAX);
    limits
        .max_state_bytes
        .saturating_add(under_way.saturating_mul(2))
        .saturating_add(MAX_SESSION_MEMORY)
}

pub(super) fn service(config: &Config) -> ServiceOptions {
    ServiceOptions {
        max_key_bytes: config.limits.max_key_bytes,
        max_value_bytes: config.limits.max_value_bytes,
        max_grpc_message_bytes: config.limits.max_grpc_message_bytes,
        max_unread_bytes: config.limits.max_unread_bytes,
        request_timeout: config.limits.request_timeout(),
        transfer_timeout: config.raft.election_timeout_max(),
        member_timeout: MEMBER_TIMEOUT.max(config.raft.election_timeout_max()),
    }
}

/// The listener for clients. The window of a connection holds a few requests of the largest size.
pub(super) fn client_listener(config: &Config) -> ListenOptions {
    let limits = &config.limits;
    let largest = limits
        .max_key_bytes
        .saturating_add(limits.max_value_bytes)
        .saturating_add(MESSAGE_OVERHEAD_BYTES);
    let stream_window_bytes = window(largest);
    ListenOptions {
        node: config.node.id,
        name: "client_addr",
        words: "This is Seshat. It speaks gRPC, which is HTTP/2 without TLS: use the command seshat, or \
                a gRPC client.",
        max_connections: limits.max_connections,
        unserved_are_idle: false,
        max_concurrent_streams: limits.max_concurrent_streams,
        max_calls: limits.max_pending_requests,
        stream_window_bytes,
        connection_window_bytes: stream_window_bytes
            .saturating_mul(REQUESTS_IN_WINDOW)
            .max(
                limits
                    .max_concurrent_streams
                    .saturating_mul(WINDOW_PER_STREAM_BYTES),
            )
            .min(MAX_WINDOW_BYTES),
        keepalive_interval: KEEPALIVE_INTERVAL,
        keepalive_timeout: KEEPALIVE_TIMEOUT,
    }
}

/// The listener for nodes: the counterpart of the transport's connections.
pub(super) fn internal_listener(node: NodeId, transport: &TransportOptions) -> ListenOptions {
    ListenOptions {
        node,
        name: "internal_addr",
        words: "This is the internal_addr of a Seshat node, which is for nodes: clients use its \
                client_addr, with the command seshat or a gRPC client.",
        max_connections: INTERNAL_CONNECTIONS,
        unserved_are_idle: true,
        max_concurrent_streams: transport.max_streams,
        max_calls: usize::MAX,
        stream_window_bytes: transport.window_bytes,
        connection_window_bytes: transport.window_bytes,
        keepalive_interval: transport.keepalive_interval,
        // A connection for a snapshot cannot be told from the others here, so a dead one is kept for as
        // long as a snapshot may stand still. It blocks no other: a new connection gets the slot of an
        // idle one.
        keepalive_timeout: transport.bulk_timeout,
    }
}

fn window(bytes: usize) -> u32 {
    u32::try_from(bytes).map_or(MAX_WINDOW_BYTES, |bytes| bytes.min(MAX_WINDOW_BYTES))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
