//! The bounds and times of the transport.

use std::time::Duration;

use tonic::transport::{Endpoint, Error};

use super::gate::Gate;
use crate::driver::Workers;
use crate::types::NodeInfo;

/// Longest that a call may take by default.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);

/// Times that a call may take for which bulk may stand still.
const BULK_RPC_TIMEOUTS: u32 = 4;

/// The bounds and times of the transport. Whoever fills this has checked them against one another.
///
/// The defaults suit [`Limits`](crate::config::Limits) and nodes in one data centre.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// The other nodes. A host is an IP address or a name, which is resolved at every connect.
    pub peers: Vec<NodeInfo>,
    /// Where jitter comes from.
    pub seed: u64,
    /// Who encodes and decodes snapshots: what the [`Connector`](super::Connector) says.
    pub workers: Workers,
    /// Bytes of appends that may wait to be sent to one peer. An empty queue takes any message.
    pub peer_queue_bytes: usize,
    /// Replies to one leader that may wait to be sent. One more is dropped: the next says more.
    pub reply_queue_messages: usize,
    /// Largest gRPC message in bytes, sent or received.
    pub max_message_bytes: usize,
    /// Bytes of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// Memory in bytes that the state in a snapshot may take. A larger one is refused.
    pub max_snapshot_bytes: usize,
    /// Unary calls to one peer that may be under way: for elections, for formation and for reports,
    /// each. One more is refused.
    pub max_calls: usize,
    /// Bytes that may be under way on one stream before the receiver has taken them.
    pub window_bytes: u32,
    /// Streams and calls that one connection may have open. Nodes need a handful.
    pub max_streams: u32,
    /// Longest that a call may take, and that opening a stream may take.
    pub rpc_timeout: Duration,
    /// Longest that bulk may stand still: a snapshot, or a connection for one on which nothing is heard. A
    /// whole window may be on its way, in the buffer of a link that is slow, and a
    /// ping waits behind it; what is given up has to be sent anew.
    pub bulk_timeout: Duration,
    /// Longest that a vote is waited for before the voter counts as silent: one minimal election
    /// timeout.
    pub vote_patience: Duration,
    /// Longest that making a connection may take.
    pub connect_timeout: Duration,
    /// Time between two pings on a connection.
    pub keepalive_interval: Duration,
    /// Longest that a ping may stay unanswered before the connection counts as broken, if it is not
    /// for bulk.
    pub keepalive_timeout: Duration,
    /// Probes of TCP that may stay unacknowledged, one a `keepalive_interval`, before the host of a peer
    /// that does not answer counts as gone.
    pub keepalive_probes: u32,
    /// Longest that one question waits at a peer that accepts connections and does not answer, before a
    /// new connection shows whether it still does. The first waits for `rpc_timeout`, each further one
    /// twice as long: a process that hangs takes no connection from its kernel, which has room for some
    /// hundreds.
    pub max_hung_wait: Duration,
    /// Longest wait after a first failure; it doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait after any failure. As short as it is because a node that comes back should not
    /// have to wait for long, and an attempt costs next to nothing.
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
            vote_patience: Duration::from_millis(500),
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
    /// How long bulk may stand still where a call may take `rpc_timeout`, and where calls may take less
    /// than by default.
    pub fn bulk_timeout(rpc_timeout: Duration) -> Duration {
        rpc_timeout
            .max(RPC_TIMEOUT)
            .saturating_mul(BULK_RPC_TIMEOUTS)
    }

    /// A gate with these waits.
    pub(super) fn gate(&self, salt: u64) -> Gate {
        Gate::new(self.backoff_min, self.backoff_max, self.seed ^ salt)
    }

    /// How connections for bulk to `addr` are made and kept.
    pub(super) fn bulk_endpoint(&self, addr: &str) -> Result<Endpoint, Error> {
        let endpoint = self.endpoint(addr)?;
        Ok(endpoint.keep_alive_timeout(self.bulk_timeout))
    }

    /// How a connection to `addr` is made and kept on which a question may stay unanswered: for as long
    /// as the kernel of the other side acknowledges it.
    pub(super) fn patient_endpoint(&self, addr: &str) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        Ok(endpoint
            .tcp_nodelay(true)
            .tcp_keepalive(Some(self.keepalive_interval))
            .tcp_keepalive_interval(Some(self.keepalive_interval))
            .tcp_keepalive_retries(Some(self.keepalive_probes))
            .connect_timeout(self.connect_timeout))
    }

    /// How connections to `addr` are made and kept.
    pub(super) fn endpoint(&self, addr: &str) -> Result<Endpoint, Error> {
        Ok(self
            .patient_endpoint(addr)?
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(self.window_bytes)
            .initial_connection_window_size(self.window_bytes)
            // Answers to calls that were given up are no reason to break a connection, however many
            // h2 has counted in its life.
            .http2_max_concurrent_reset_streams(0)
            .http2_max_local_error_reset_streams(None))
    }
}
