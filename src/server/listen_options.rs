//! Bounds of a listener, and how it serves a connection.

use std::time::Duration;

use crate::types::NodeId;

/// Connections beyond `max_connections` that get one call each: an operator's is served, a client's is
/// refused because the node is full.
pub(super) const SPARE_CONNECTIONS: usize = 32;

/// Connections that have given up their slot and are about to end; one more is cut at once.
pub(super) const LEAVING_CONNECTIONS: usize = 16;

/// Fewest calls that a client may cancel within a second, even if it may have few streams.
const MIN_RESETS: u32 = 1_024;

/// Bounds of a listener and of each of its connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListenOptions {
    /// The node of the listener, for log lines.
    pub(super) node: NodeId,
    /// The purpose of the listener, in log lines.
    pub(super) name: &'static str,
    /// The purpose of the listener, as the answer to a peer that speaks another protocol.
    pub(super) words: &'static str,
    /// Connections at once. One more gets the slot of a connection that does not use it; if there is
    /// none, it is one of [`SPARE_CONNECTIONS`].
    pub(super) max_connections: usize,
    /// Whether a connection that never got a good answer may lose its slot even while calls are in
    /// flight on it.
    pub(super) unserved_are_idle: bool,
    /// Calls and streams at once on one connection.
    pub(super) max_concurrent_streams: u32,
    /// Calls, over all connections, whose answers have not been sent.
    pub(super) max_calls: usize,
    /// Bytes that a client may send on one stream, and on the whole connection, before a handler reads
    /// them.
    pub(super) stream_window_bytes: u32,
    pub(super) connection_window_bytes: u32,
    /// Interval of pings on a connection, and how long one may stay unanswered until the connection is
    /// closed.
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_timeout: Duration,
}

impl ListenOptions {
    /// Most calls of a connection that may be cancelled within a second: all that it may have at once.
    pub(super) fn max_resets(&self) -> u32 {
        self.max_concurrent_streams.max(MIN_RESETS)
    }

    pub(super) fn max_tasks(&self) -> usize {
        self.max_connections
            .saturating_add(SPARE_CONNECTIONS)
            .saturating_add(LEAVING_CONNECTIONS)
    }
}

/// How a connection is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotKind {
    /// It has a slot.
    Regular,
    /// All slots are in use: it gets one call.
    Spare,
}
