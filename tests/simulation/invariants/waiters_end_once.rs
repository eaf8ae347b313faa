//! Whoever asks is answered exactly once, as long as the node lives that he asked.

use seshat::node::Member;

use crate::clients::{Clients, Waiter};

/// The core owes exactly those whom the clients think it owes. That nobody is answered twice is
/// checked when an answer arrives.
pub(crate) fn check(member: &Member<Waiter>, clients: &Clients) {
    let owed = member.raft().map_or(0, |raft| raft.waiting());
    let node = member.raft_id().node_id();
    assert_eq!(owed, clients.waiting_at(node), "waiters at node {node}");
}
