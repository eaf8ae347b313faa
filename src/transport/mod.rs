//! How nodes reach one another: the typed messages of the core over gRPC.
//!
//! **Connections.** Each other node has one HTTP/2 connection for urgent traffic: the `Heartbeat` stream
//! and every unary call. The `AppendEntries` stream of a leader has a connection of its own for as long
//! as it is open, and so has a snapshot, so bulk traffic can never delay urgent traffic. Connections are
//! made on first use and resolve the peer's name anew each time. HTTP/2 pings detect a peer that is
//! frozen or cut off silently, and end the streams. For appends they do so soon too, as writes wait for
//! them. A ping on a snapshot's connection waits behind all bytes in the buffers of a slow link, so it
//! gets the time that this may take.
//!
//! **Outgoing messages** go through [`Network`](crate::driver::Network), which the driver calls and which
//! never waits. A leader has *peer streams* (`peer_streams`) to each raft id that it addresses: `AppendEntries`
//! and `Heartbeat`, each fed by a queue that is bounded in bytes. Both open together with the first
//! message and close together when the node stops leading, because a follower may answer a heartbeat on
//! the other stream. When one breaks, both close: the core is told that the peer is unreachable, messages
//! are refused at once, and the first message after the wait of the backoff (`backoff`) opens the streams
//! again. No task runs for a peer that is down, so it costs nothing but those attempts. Peer streams
//! belong to a raft id and not to a node, because a leader that heals a cluster talks to the earlier and
//! the present incarnation of one node at the same time, and the earlier one refuses every message.
//!
//! **Incoming messages** have their addressee checked and go to the driver, in order, one task a stream.
//! When the driver is busy its inbox fills, the task waits, and HTTP/2's flow control holds the sender
//! back. Raft answers with messages, not with return values: a reply leaves through
//! [`Network`](crate::driver::Network) like any other message. The pending replies (`pending_replies`) lead it to
//! the stream or call that waits for it. A reply without a waiting stream or call is dropped, which Raft
//! allows.
//!
//! **Delivery** is at most once and in order on each stream, and never promised: Raft sends lost messages
//! again. The core alone validates what a message means.
//!
//! **Peers** are the members of the replicated state, as soon as the node has applied some: the driver
//! tells `peers` whenever they change. Streams and connections to a removed node, or to an earlier
//! address, end.
//!
//! Time comes from tokio, jitter from a seed, connections from a [`Connector`]: a simulation can replace
//! all three.

mod backoff;
mod broken;
mod budgets;
mod call_errors;
mod client;
mod inbound;
mod liveness;
mod options;
mod outbound;
mod peer;
mod peer_streams;
mod peers;
mod pending_replies;
mod queue;
mod rejection;
mod routes;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;

use std::fmt;
use std::sync::Arc;

use tonic::transport::{Channel, Endpoint};

use crate::driver::{DriverHandle, Workers};
use crate::proto::raft::raft_service_server::RaftServiceServer;
use crate::types::NodeId;

pub use inbound::Inbound;
pub use options::TransportOptions;
pub use outbound::{Outbound, Prober};

use peers::Peers;
use routes::Routes;

/// The metadata of a stream that names the leader that opened it: its raft id, in decimal.
const LEADER_ID: &str = "seshat-leader-id";
/// The metadata of a stream that names the follower that it is for: its raft id, in decimal.
const FOLLOWER_ID: &str = "seshat-follower-id";

/// The metadata with which a port that does not serve nodes tells a node what it is for, and its value at
/// the port for clients.
pub(crate) const PORT: &str = "seshat-port";
pub(crate) const CLIENT_PORT: &str = "client";

/// Makes the channel to an endpoint. It must connect lazily, and anew for each request that finds
/// no connection, as [`Endpoint::connect_lazy`] and [`Endpoint::connect_with_connector_lazy`] do.
#[derive(Clone)]
pub struct Connector {
    connect: Arc<dyn Fn(&Endpoint) -> Channel + Send + Sync>,
    workers: Workers,
}

impl Connector {
    /// Connects as `connect` does.
    pub fn new(connect: impl Fn(&Endpoint) -> Channel + Send + Sync + 'static) -> Self {
        Self {
            connect: Arc::new(connect),
            workers: Workers::Threads,
        }
    }

    /// The same for a simulated network: no work is done on other threads.
    #[must_use]
    pub fn simulated(self) -> Self {
        Self {
            workers: Workers::Inline,
            ..self
        }
    }

    /// Connects over TCP.
    pub fn tcp() -> Self {
        Self::new(Endpoint::connect_lazy)
    }

    /// The threads on which a node with this network does its long work.
    pub fn workers(&self) -> Workers {
        self.workers
    }

    fn connect(&self, endpoint: &Endpoint) -> Channel {
        (self.connect)(endpoint)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// An address that no connection can be made to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: {addr:?} is no address: {reason}")]
pub struct InvalidAddress {
    /// The node with this address.
    pub node: NodeId,
    /// The address.
    pub addr: String,
    /// The fault of the address.
    pub reason: String,
}

/// The transport of one node: three parts for three owners.
#[derive(Debug)]
pub struct Transport {
    /// The driver sends through it.
    pub network: Outbound,
    /// The listener for nodes serves it.
    pub service: RaftServiceServer<Inbound>,
    /// Operators query the other nodes through it.
    pub prober: Prober,
}

impl Transport {
    /// Wires the transport of the node behind `driver`. Makes no connection yet. Must be called on a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// [`InvalidAddress`] of the first peer that has one.
    pub fn new(
        options: TransportOptions,
        driver: DriverHandle,
        connector: &Connector,
    ) -> Result<Self, InvalidAddress> {
        let options = Arc::new(TransportOptions {
            workers: connector.workers,
            ..options
        });
        let me = driver.status().raft_id;
        let (peers, known) = Peers::new(me, connector, &options)?;
        let routes = Arc::new(Routes::default());
        let service = Inbound::new(
            me,
            Arc::clone(&options),
            driver.clone(),
            Arc::clone(&routes),
        );
        Ok(Self {
            service: RaftServiceServer::new(service)
                .max_decoding_message_size(options.max_message_bytes)
                .max_encoding_message_size(options.max_message_bytes),
            prober: Prober::new(known, driver.clone()),
            network: Outbound::new(peers, routes, driver),
        })
    }
}
