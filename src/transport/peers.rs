//! The other nodes, whose set and addresses change with the members.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::options::TransportOptions;
use super::peer::Peer;
use super::{Connector, InvalidAddress};
use crate::types::{ClusterMembership, NodeId, NodeInfo, RaftId};

/// The other nodes at a moment, by their ids.
pub(super) type Known = Arc<BTreeMap<NodeId, Arc<Peer>>>;

/// The other nodes. The owner changes them, and all views see the change.
#[derive(Debug)]
pub(super) struct Peers {
    me: RaftId,
    connector: Connector,
    options: Arc<TransportOptions>,
    known: Known,
    shown: watch::Sender<Known>,
}

impl Peers {
    /// The peers in `options`, seen from the process `me`, and a view of them.
    ///
    /// # Errors
    ///
    /// [`InvalidAddress`] of the first that has one.
    pub(super) fn new(
        me: RaftId,
        connector: &Connector,
        options: &Arc<TransportOptions>,
    ) -> Result<(Self, watch::Receiver<Known>), InvalidAddress> {
        let peer = |info: &NodeInfo| {
            let peer = Peer::new(me, info, connector, options)?;
            Ok((info.id, peer))
        };
        let known: Known = Arc::new(options.peers.iter().map(peer).collect::<Result<_, _>>()?);
        let (shown, view) = watch::channel(Arc::clone(&known));
        let peers = Self {
            me,
            connector: connector.clone(),
            options: Arc::clone(options),
            known,
            shown,
        };
        Ok((peers, view))
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Arc<Peer>> {
        self.known.get(&node)
    }

    /// Follows `nodes`: keeps the peers whose addresses are unchanged, makes the new ones, drops the
    /// others.
    pub(super) fn follow(&mut self, nodes: &ClusterMembership) {
        let others = nodes.iter().filter(|info| info.id != self.me.node_id());
        let peers = others.filter_map(|info| {
            if let Some(peer) = self.known.get(&info.id)
                && peer.info() == info
            {
                return Some((info.id, Arc::clone(peer)));
            }
            let me = self.me;
            tracing::info!(
                node = %me.node_id(), raft_id = %me, peer = %info.id, addr = info.addr, "peer is known",
            );
            // The address was validated when the member was added; a faulty one makes only its own node
            // unreachable.
            Peer::new(me, info, &self.connector, &self.options)
                .map(|peer| (info.id, peer))
                .inspect_err(|error| tracing::error!(node = %me.node_id(), raft_id = %me, %error))
                .ok()
        });
        self.known = Arc::new(peers.collect());
        self.shown.send_replace(Arc::clone(&self.known));
    }
}
