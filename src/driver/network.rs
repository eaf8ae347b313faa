//! What the driver and operators need of the network, which `transport` provides.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::{Call, CallId, OutgoingSnapshot};
use crate::error::RpcError;
use crate::node::PeerMessage;
use crate::types::{ClusterMembership, NodeId, NodeStatus};

/// The driver's interface to the network. Its methods must not block.
pub trait Network: Send + 'static {
    /// Sends a message to the process that it is addressed to, in order with the messages before it.
    /// Returns `false` if it was dropped, because the peer is down or its queue is full. Replies whose
    /// stream or call is gone count as sent, because the peer no longer waits for them.
    fn send(&mut self, message: PeerMessage) -> bool;

    /// Sends a snapshot to the process that it is addressed to, apart from the messages and without
    /// delaying them. Returns `true` if the transfer has begun: then the network owes exactly one
    /// [`DriverHandle::report_snapshot`](super::DriverHandle::report_snapshot). Returns `false` if the snapshot was dropped. The core then
    /// offers another one later, which costs next to nothing.
    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) -> bool;

    /// Makes a formation call. The reply, or [`Reply::Failed`](super::Reply::Failed), comes back through
    /// [`DriverHandle::replied`](super::DriverHandle::replied), under the same id.
    fn call(&mut self, id: CallId, call: Call);

    /// Reports whether this node leads. A node that does not lead keeps no streams open.
    fn set_leading(&mut self, leading: bool);

    /// Sets the addresses of the nodes to reach from now on, including this node if it is known.
    /// Connections to other nodes, and to former addresses, are no longer needed. Called on each change.
    /// Before the first call, the configured addresses count.
    fn set_members(&mut self, nodes: &ClusterMembership);
}

/// An operator's interface to the network: a way to query the other nodes. A trait object, so that the
/// service for operators need not know how nodes reach one another.
pub trait Probe: Send + Sync + 'static {
    /// Asks `node` for its identity and status, and waits at most `timeout`.
    fn identify(&self, node: NodeId, timeout: Duration) -> Identifying<'_>;
}

/// A call of [`Probe::identify`] in progress.
pub type Identifying<'a> = Pin<Box<dyn Future<Output = Result<NodeStatus, RpcError>> + Send + 'a>>;
