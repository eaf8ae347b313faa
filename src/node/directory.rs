//! The addresses of the other nodes, as a process knows them.
//!
//! Before a process takes part in a cluster it uses its configuration. From then on the members,
//! including their addresses, are part of the replicated state, and the configuration no longer counts.

use std::sync::Arc;

use crate::types::{ClusterMembership, Conf, NodeId, RaftId};

/// Maximum number of former nodes that are remembered.
const MAX_FORMER: usize = 16;

/// The nodes that a process knows.
#[derive(Debug)]
pub(super) struct Directory {
    me: NodeId,
    members: Arc<ClusterMembership>,
    /// The members, and other nodes that take part.
    parts: Arc<ClusterMembership>,
    followed: Arc<Conf>,
    /// Nodes that took part earlier, with their addresses.
    former: ClusterMembership,
    /// All nodes to reach: `parts`, and without a leader also `former`.
    nodes: Arc<ClusterMembership>,
    recalled: bool,
}

impl Directory {
    /// The directory of a process of node `me` that takes part in no cluster yet: it knows the
    /// `configured` members, and perhaps more nodes.
    pub(super) fn new(
        me: NodeId,
        configured: &ClusterMembership,
        known: &Arc<ClusterMembership>,
    ) -> Self {
        Self {
            me,
            members: Arc::new(configured.clone()),
            parts: Arc::clone(known),
            followed: Arc::default(),
            former: ClusterMembership::default(),
            nodes: Arc::clone(known),
            recalled: false,
        }
    }

    /// Takes over the nodes that a process without a cluster knows.
    pub(super) fn learn(&mut self, known: &Arc<ClusterMembership>) {
        if self.parts != *known {
            self.parts = Arc::clone(known);
            self.nodes = Arc::clone(known);
        }
    }

    /// The desired members of the cluster.
    pub(super) fn members(&self) -> &Arc<ClusterMembership> {
        &self.members
    }

    /// The nodes that this process names when it asks others: the members, former members that still take
    /// part, and itself. Others have to find it as long as it runs, since it may hold the last copy. It
    /// does not name nodes that took part earlier: processes that have lost their memory would wait for
    /// one that may be gone for good.
    pub(super) fn parts(&self) -> &Arc<ClusterMembership> {
        &self.parts
    }

    /// The nodes to reach: `parts`, and without a leader also the nodes that took part earlier.
    pub(super) fn nodes(&self) -> &Arc<ClusterMembership> {
        &self.nodes
    }

    /// Takes over the applied members, voters and learners. `conf` is a new value whenever one of them
    /// has changed.
    pub(super) fn follow(&mut self, members: &Arc<ClusterMembership>, conf: &Arc<Conf>) {
        if Arc::ptr_eq(&self.followed, conf) || members.is_empty() {
            return;
        }
        self.followed = Arc::clone(conf);
        if self.members != *members {
            self.members = Arc::clone(members);
        }
        let mut parts = ClusterMembership::clone(members);
        let take_part = conf.voters.iter().chain(&conf.learners).copied();
        for node in take_part.map(RaftId::node_id).chain([self.me]) {
            if let Some(info) = self.parts.get(node).or(self.former.get(node)) {
                parts.members.entry(node).or_insert_with(|| info.clone());
            }
        }
        for info in self.parts.iter().filter(|info| !parts.contains(info.id)) {
            self.former.members.insert(info.id, info.clone());
        }
        self.former.members.retain(|node, _| !parts.contains(*node));
        while self.former.members.len() > MAX_FORMER {
            self.former.members.pop_first();
        }
        if *self.parts != parts {
            self.parts = Arc::new(parts);
        }
        self.gather();
    }

    /// Sets whether nodes that took part earlier have to be reached as well. Without a leader they may
    /// still be needed: others may not know of their removal, and a process that recovers the cluster has
    /// to ask them.
    pub(super) fn recall(&mut self, recall: bool) {
        if self.recalled != recall {
            self.recalled = recall;
            self.gather();
        }
    }

    fn gather(&mut self) {
        let mut nodes = Arc::clone(&self.parts);
        if self.recalled && !self.former.is_empty() {
            let former = self.former.members.clone();
            Arc::make_mut(&mut nodes).members.extend(former);
        }
        if self.nodes != nodes {
            self.nodes = nodes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn members(ids: &[u16]) -> ClusterMembership {
        let at = |id: &u16| crate::types::NodeInfo {
            id: NodeId::new(*id).expect("a node id"),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        };
        ids.iter().map(at).collect()
    }

    fn voters(ids: &[u16]) -> Arc<Conf> {
        let voter = |id: &u16| RaftId::new(NodeId::new(*id).expect("a node id"), 1);
        Arc::new(Conf {
            voters: ids.iter().map(voter).collect(),
            ..Conf::default()
        })
    }

    fn directory(me: u16) -> Directory {
        let configured = members(&[1, 2, 3]);
        let me = NodeId::new(me).expect("a node id");
        Directory::new(me, &configured, &Arc::new(configured.clone()))
    }

    #[test]
    fn a_node_that_was_removed_can_be_found_while_it_runs() {
        let mut directory = directory(3);
        directory.follow(&Arc::new(members(&[1, 2])), &voters(&[1, 2]));
        assert_eq!(**directory.members(), members(&[1, 2]));
        assert_eq!(**directory.nodes(), members(&[1, 2, 3]));
    }

    #[test]
    fn a_process_that_still_takes_part_can_be_reached() {
        let mut directory = directory(1);
        directory.follow(&Arc::default(), &voters(&[1]));
        assert_eq!(**directory.nodes(), members(&[1, 2, 3]), "nothing applied");

        directory.follow(&Arc::new(members(&[1, 2, 4])), &voters(&[1, 2, 3]));
        assert_eq!(**directory.members(), members(&[1, 2, 4]));
        assert_eq!(**directory.nodes(), members(&[1, 2, 3, 4]));

        directory.follow(&Arc::new(members(&[1, 2, 4])), &voters(&[1, 2]));
        assert_eq!(**directory.nodes(), members(&[1, 2, 4]));
    }

    #[test]
    fn a_former_process_is_reached_where_no_node_leads() {
        let mut directory = directory(1);
        directory.follow(&Arc::new(members(&[1, 2, 3])), &voters(&[1, 2, 3]));
        directory.follow(&Arc::new(members(&[1, 2])), &voters(&[1, 2]));
        directory.recall(true);
        assert_eq!(**directory.nodes(), members(&[1, 2, 3]));
        assert_eq!(**directory.parts(), members(&[1, 2]), "told of");
        assert_eq!(**directory.members(), members(&[1, 2]));
        directory.recall(false);
        assert_eq!(**directory.nodes(), members(&[1, 2]));
        // A node that takes part again is no former one.
        directory.follow(&Arc::new(members(&[1, 2, 3])), &voters(&[1, 2]));
        directory.recall(true);
        directory.recall(false);
        assert_eq!(**directory.nodes(), members(&[1, 2, 3]));
    }

    #[test]
    fn a_member_that_moves_is_found_at_its_new_address() {
        let mut directory = directory(1);
        let mut moved = members(&[1, 2, 3]);
        for info in moved.members.values_mut() {
            info.addr = format!("other-{}:7379", info.id);
        }
        directory.follow(&Arc::new(moved.clone()), &voters(&[1, 2, 3]));
        assert_eq!(**directory.members(), moved);
        assert_eq!(**directory.nodes(), moved);
    }
}
