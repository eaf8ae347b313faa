//! Peers that are added, removed, or get a new address.

use std::net::SocketAddr;

use super::harness::*;
use crate::driver::{Network, Notice, Probe};
use crate::error::RpcError;
use crate::types::{ClusterMembership, NodeInfo};
use crate::wire::PeerMessage;

/// The leader and node 2, which listens at `follower`.
fn nodes(follower: SocketAddr) -> ClusterMembership {
    let at = |id: u16, addr: String| NodeInfo {
        id: node_id(id),
        addr,
        client_addr: format!("kvstore-{id}:6379"),
    };
    [
        at(1, "kvstore-1:7379".to_owned()),
        at(2, follower.to_string()),
    ]
    .into_iter()
    .collect()
}

/// Waits until the driver is told that node 2 is unreachable.
async fn unreachable(leader: &mut Node) {
    loop {
        if let Notice::Unreachable(peer) = leader.notice().await {
            assert_eq!(peer, raft_id_of(2));
            return;
        }
    }
}

#[tokio::test]
async fn a_peer_that_moves_is_reached_at_its_new_address() {
    let mut former = Node::new(2, &[], options()).await;
    let mut present = Node::new(2, &[], options()).await;
    let mut leader = Node::leader(former.addr, options()).await;
    leader.reach(&mut former).await;

    // Nothing has changed: open streams stay open.
    leader.network.set_members(&nodes(former.addr));
    leader.reach(&mut former).await;
    assert!(leader.has_heard_nothing());

    leader.network.set_members(&nodes(present.addr));
    unreachable(&mut leader).await;
    leader.reach(&mut present).await;
    let status = soon(leader.prober.identify(node_id(2), MAX_WAIT)).await;
    assert_eq!(status.unwrap().raft_id, raft_id_of(2));
}

#[tokio::test]
async fn a_peer_comes_and_goes() {
    let mut follower = Node::new(2, &[], options()).await;
    let mut leader = Node::new(1, &[], options()).await;
    leader.network.set_leading(true);
    let heartbeat = || PeerMessage::Heartbeat(heartbeat_request(raft_id_of(2)));
    assert!(!leader.network.send(heartbeat()), "no route leads there");

    leader.network.set_members(&nodes(follower.addr));
    leader.reach(&mut follower).await;

    leader.network.set_members(&ClusterMembership::default());
    unreachable(&mut leader).await;
    assert!(!leader.network.send(heartbeat()));
    let error = leader.prober.identify(node_id(2), MAX_WAIT).await;
    let error = error.unwrap_err();
    assert!(
        matches!(&error, RpcError::Unreachable { reason, .. } if reason == "this node has no address for it"),
        "{error}"
    );
}
