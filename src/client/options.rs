//! The options of a client, as a builder sets them.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};

use super::clock::{Clock, boot_time};

/// Largest message that a client accepts: the upper bound of `limits.max_grpc_message_bytes`.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// Most claims whose state a client asks for at once. A node takes 4096 calls of one connection by default, and scans
/// and observers use the same one. A question without a place there would have no answer in time, as if its node were
/// gone.
const MAX_AWAITS: usize = 3072;

/// The settings of a client.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    /// Longest first wait for one node.
    pub(super) attempt_timeout: Duration,
    /// How long an answer of the leader counts as proof that it leads, before a write that may not be
    /// sent twice.
    pub(super) trust: Duration,
    pub(super) connections: usize,
    /// Claims whose state is asked for at once.
    pub(super) awaits: usize,
    /// The cluster whose answers count. `None`: the cluster of the first answer.
    pub(super) cluster: Option<u64>,
    /// Whether a cluster that was recovered from that one takes its place.
    pub(super) follows: bool,
    pub(super) backoff: Backoff,
    /// Makes a channel that connects when it is first used.
    pub(super) connect: fn(&Endpoint) -> Channel,
    /// Counts suspended time.
    pub(super) clock: Clock,
    /// Resolves a name.
    pub(super) resolve: Resolve,
    /// The seed of all randomness. `None`: the system's entropy.
    pub(super) seed: Option<u64>,
}

/// Returns the addresses of a `host:port`.
pub(super) type Resolve = fn(String) -> BoxFuture<'static, Vec<SocketAddr>>;

/// Resolves by the system.
fn look_up(address: String) -> BoxFuture<'static, Vec<SocketAddr>> {
    Box::pin(async move {
        let found = tokio::net::lookup_host(address).await;
        found.map(Iterator::collect).unwrap_or_default()
    })
}

/// Pauses between attempts. Each is twice as long as the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(1),
            trust: Duration::from_secs(1),
            connections: 1,
            awaits: MAX_AWAITS,
            cluster: None,
            follows: true,
            backoff: Backoff {
                min: Duration::from_millis(20),
                max: Duration::from_millis(500),
            },
            connect: Endpoint::connect_lazy,
            clock: boot_time,
            resolve: look_up,
            seed: None,
        }
    }
}
