//! How nodes reach one another: the typed messages of the core over gRPC.
//!
//! **What a peer costs.** Each other node has an HTTP/2 connection for what is urgent, the `Heartbeat`
//! stream and every unary call, so that bulk can never delay it: the `AppendEntries` stream of a leader
//! has a connection of its own for as long as it is open, and so has a snapshot. Connections are made on
//! first use and resolve the peer's name anew each time. HTTP/2 pings notice a peer that is frozen or cut
//! off without a word, and end the streams: soon for appends too, as writes wait for them. A ping on a
//! snapshot's connection waits behind all that is in the buffers of a slow link, and is given the time
//! that this may take.
//!
//! **What leaves** goes through [`Network`](crate::driver::Network), which the driver calls and
//! which never waits. A leader has a *lane* to each raft id that it addresses: the two streams, each
//! fed by a queue that is bounded in bytes. Both open together with the first message and close
//! together when the node stops leading, because a follower may answer a heartbeat on the other
//! stream. When one breaks, the lane is down: the core is told that the peer is unreachable,
//! messages are refused at once, and the first message after the wait of a `gate` opens the lane
//! again. Nothing runs for a peer that is down, so it costs nothing but those attempts. A lane
//! belongs to a raft id and not to a node, because a leader that heals a cluster talks to the
//! former and the present life of one node at the same time, and the former refuses every message.
//!
//! **What arrives** is judged for its address and handed to the driver, in order, one task a
//! stream. When the driver is busy its inbox fills, the task waits, and HTTP/2's flow control holds
//! the sender back. Raft answers with messages, not with return values: a reply leaves through
//! [`Network`](crate::driver::Network) like any other message and finds its way at a `desk`, where
//! each stream and call has said what it waits for. A reply that nobody waits for any more is
//! dropped, which Raft allows.
//!
//! **Delivery** is at most once and in order on each stream, and never promised: whatever is lost,
//! Raft sends again. What a message means is judged by the core alone.
//!
//! **Who is a peer** says the replicated state, as soon as the node has applied some: the driver tells
//! `peers` whenever it changes. Whatever led to a node that is gone, or to a former address, ends.
//!
//! Time comes from tokio, jitter from a seed, connections from a [`Connector`]: a simulation can
//! have all three.

mod broken;
mod budgets;
mod desk;
mod gate;
mod inbound;
mod lane;
mod liveness;
mod options;
mod outbound;
mod peer;
mod peers;
mod queue;
mod routes;
mod snapshot;
mod status;
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

/// The metadata of a stream that says which leader opened it: its raft id, in decimal.
const LEADER_ID: &str = "seshat-leader-id";
/// The metadata of a stream that says for which follower it is: its raft id, in decimal.
const FOLLOWER_ID: &str = "seshat-follower-id";

/// The metadata with which a port that does not serve nodes says to a node what it is, and what the
/// port for clients says.
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

    /// The same for a simulated network: nothing is done on other threads.
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

    /// Who does what takes long on a node with this network.
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
    /// Whose address it is.
    pub node: NodeId,
    /// The address.
    pub addr: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One node's way to the others and theirs to it: three parts for three owners.
#[derive(Debug)]
pub struct Transport {
    /// What the driver sends through.
    pub network: Outbound,
    /// What the listener for nodes serves.
    pub service: RaftServiceServer<Inbound>,
    /// What operators see the other nodes through.
    pub prober: Prober,
}

impl Transport {
    /// Wires the transport of the node that `driver` leads to. Connects to nobody yet. Has to be
    /// called on a tokio runtime.
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
