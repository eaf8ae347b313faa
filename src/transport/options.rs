//! The bounds and timeouts of the transport.

use std::time::Duration;

use tonic::transport::{Endpoint, Error};

use super::backoff::Backoff;
use crate::driver::Workers;
use crate::types::NodeInfo;

/// Longest duration of a call by default.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);

/// Bulk traffic may stand still for so many RPC timeouts.
const BULK_RPC_TIMEOUTS: u32 = 4;

/// The bounds and timeouts of the transport. The caller has checked them against one another.
///
/// The defaults suit [`Limits`](crate::config::Limits) and nodes in one data centre.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// The other nodes. The host of an address is an IP address or a name, which is resolved at every
    /// connect.
    pub peers: Vec<NodeInfo>,
    /// The seed of the jitter.
    pub seed: u64,
    /// The threads that encode and decode snapshots. The [`Connector`](super::Connector) decides.
    pub workers: Workers,
    /// Bytes of appends that may wait to be sent to one peer. An empty queue takes any message.
    pub peer_queue_bytes: usize,
    /// Replies to one leader that may wait to be sent. One more is dropped: the next reply supersedes it.
    pub reply_queue_messages: usize,
    /// Largest gRPC message in bytes, sent or received.
    pub max_message_bytes: usize,
    /// Bytes of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// Memory in bytes that the state in a snapshot may take. A larger one is refused.
    pub max_snapshot_bytes: usize,
    /// Unary calls to one peer that may be in flight: for elections, for formation and for reports, each.
    /// One more is refused.
    pub max_calls: usize,
    /// Bytes that may be in flight on one stream before the receiver has read them.
    pub window_bytes: u32,
    /// Streams and calls that one connection may have open. Nodes need a handful.
    pub max_streams: u32,
    /// Longest duration of a call, and of opening a stream.
    pub rpc_timeout: Duration,
    /// Longest time without progress for bulk traffic: for a snapshot, or for a snapshot's connection on
    /// which nothing is received. A whole window may be in the buffer of a slow link, and a ping waits
    /// behind it. A snapshot that is given up has to be sent again.
    pub bulk_timeout: Duration,
    /// Longest wait for a vote before the voter counts as silent: one minimal election timeout.
    pub vote_timeout: Duration,
    /// Longest time to make a connection.
    pub connect_timeout: Duration,
    /// Time between two pings on a connection.
    pub keepalive_interval: Duration,
    /// Longest time that a ping may stay unanswered before the connection counts as broken, unless it is
    /// a snapshot's.
    pub keepalive_timeout: Duration,
    /// TCP probes that may stay unacknowledged, one a `keepalive_interval`, before the host of a peer
    /// that does not answer counts as gone.
    pub keepalive_probes: u32,
    /// Longest wait of one question at a peer that accepts connections and does not answer, before a new
    /// connection shows whether it still accepts. The first waits for `rpc_timeout`, each further one
    /// twice as long: a process that hangs takes no connection from its kernel, which has room for some
    /// hundreds.
    pub max_hung_wait: Duration,
    /// Longest wait after a first failure. It doubles with each further failure.
    pub backoff_min: Duration,
    /// Longest wait after any failure. It is short because a node that comes back should be reached soon,
    /// and an attempt costs next to nothing.
    pub backoff_max: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            seed: 0,
            workers: Workers::Threads,
            peer_queue_bytes: 64 << 20,
            reply_queue_messages: 4096,
            max_message_bytes: 4 << 20,
            snapshot_chunk_bytes: 128 << 10,
            max_snapshot_bytes: 4 << 30,
            max_calls: 16,
            window_bytes: 4 << 20,
            max_streams: 256,
            rpc_timeout: RPC_TIMEOUT,
            bulk_timeout: Self::bulk_timeout(RPC_TIMEOUT),
            vote_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            keepalive_probes: 3,
            max_hung_wait: Duration::from_secs(300),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_millis(500),
        }
    }
}

impl TransportOptions {
    /// How long bulk traffic may stand still if a call may take `rpc_timeout`. It is never less than with
    /// the default timeout.
    pub fn bulk_timeout(rpc_timeout: Duration) -> Duration {
        rpc_timeout
            .max(RPC_TIMEOUT)
            .saturating_mul(BULK_RPC_TIMEOUTS)
    }

    /// A backoff with these waits.
    pub(super) fn backoff(&self, salt: u64) -> Backoff {
        Backoff::new(self.backoff_min, self.backoff_max, self.seed ^ salt)
    }

    /// The endpoint of connections for snapshots to `addr`.
    pub(super) fn bulk_endpoint(&self, addr: &str) -> Result<Endpoint, Error> {
        let endpoint = self.endpoint(addr)?;
        Ok(endpoint.keep_alive_timeout(self.bulk_timeout))
    }

    /// The endpoint of connections to `addr` on which a question may stay unanswered for as long as the
    /// kernel of the peer acknowledges the connection.
    pub(super) fn unhurried_endpoint(&self, addr: &str) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        Ok(endpoint
            .tcp_nodelay(true)
            .tcp_keepalive(Some(self.keepalive_interval))
            .tcp_keepalive_interval(Some(self.keepalive_interval))
            .tcp_keepalive_retries(Some(self.keepalive_probes))
            .connect_timeout(self.connect_timeout))
    }

    /// The endpoint of all other connections to `addr`.
    pub(super) fn endpoint(&self, addr: &str) -> Result<Endpoint, Error> {
        Ok(self
            .unhurried_endpoint(addr)?
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(self.window_bytes)
            .initial_connection_window_size(self.window_bytes)
            // Answers to cancelled calls must not break a connection, however many of them h2 has counted
            // over its lifetime.
            .http2_max_concurrent_reset_streams(0)
            .http2_max_local_error_reset_streams(None))
    }
}
