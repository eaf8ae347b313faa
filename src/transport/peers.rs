//! The other nodes, who come and go and move.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::options::TransportOptions;
use super::peer::Peer;
use super::{Connector, InvalidAddress};
use crate::types::{ClusterMembership, NodeId, NodeInfo, RaftId};

/// The other nodes at a moment, by their ids.
pub(super) type Known = Arc<BTreeMap<NodeId, Arc<Peer>>>;

/// The other nodes. One changes them, and everybody else sees it.
#[derive(Debug)]
pub(super) struct Peers {
    me: RaftId,
    connector: Connector,
    options: Arc<TransportOptions>,
    known: Known,
    shown: watch::Sender<Known>,
}

impl Peers {
    /// The peers of `options`, as the process `me` reaches them, and a view of them.
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

    /// Keeps the peers that are where `nodes` has them, and makes the others.
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
            // Whoever decided on the address has judged it; a faulty one costs its node alone.
            Peer::new(me, info, &self.connector, &self.options)
                .map(|peer| (info.id, peer))
                .inspect_err(|error| tracing::error!(node = %me.node_id(), raft_id = %me, %error))
                .ok()
        });
        self.known = Arc::new(peers.collect());
        self.shown.send_replace(Arc::clone(&self.known));
    }
}
