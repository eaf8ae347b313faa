//! The bounds of the driver.

use std::time::Duration;

use super::workers::Workers;

/// Bounds of the driver's queues and turns, from [`Limits`](crate::config::Limits).
#[derive(Debug, Clone, Copy)]
pub struct DriverOptions {
    /// Length of one Raft tick: the heartbeat interval.
    pub tick: Duration,
    /// Maximum number of client requests that wait for a turn. One more is refused as overloaded.
    pub max_pending_requests: usize,
    /// Maximum number of peer messages that wait for a turn. The stream of one more is held back.
    pub peer_inbox_messages: usize,
    /// Maximum number of client requests in one turn.
    pub max_batch_requests: usize,
    /// Bytes of commands at which a turn takes no more client requests.
    pub max_batch_bytes: usize,
    /// The threads that free large states.
    pub workers: Workers,
}
