//! Checks that a request is for the cluster of this node.
//!
//! The endpoints of a client may lead to two clusters. Then either cluster might answer each of its
//! calls: all answers would be well-formed, and half of them wrong. So a client may name its cluster, and
//! a request for another one is refused, surely not applied.

use super::Host;
use crate::error::{Reason, Refusal};
use crate::types::{ClusterId, NodeState, NodeStatus};

impl Host {
    /// Whether a request that names the cluster `named` may be answered here. A node that takes part in
    /// no cluster yet may still join that one.
    ///
    /// # Errors
    ///
    /// [`Reason::OtherCluster`], not applied.
    pub(super) fn is_for_us(&self, named: Option<u64>) -> Result<(), Refusal> {
        match named {
            Some(named) => self.driver.look(|status| check(status, ClusterId(named))),
            None => Ok(()),
        }
    }

    /// The cluster id in the answer to a request that named the cluster `named`: ours if the request
    /// named none.
    pub(super) fn answering(&self, named: Option<u64>) -> Option<u64> {
        match named {
            Some(_) => None,
            None => self.driver.look(|status| status.cluster_id.map(|id| id.0)),
        }
    }
}

fn check(status: &NodeStatus, named: ClusterId) -> Result<(), Refusal> {
    match status.cluster_id {
        Some(cluster_id) if status.state == NodeState::Started && cluster_id != named => {
            Err(Refusal::not_applied(Reason::OtherCluster {
                cluster_id,
                successor: status.recovered_from.contains(&named),
            }))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, RaftId};

    fn status(state: NodeState, cluster: u64, recovered_from: &[u64]) -> NodeStatus {
        let raft_id = RaftId::new(NodeId::new(1).unwrap(), 1);
        NodeStatus {
            state,
            cluster_id: Some(ClusterId(cluster)),
            recovered_from: recovered_from.iter().copied().map(ClusterId).collect(),
            ..NodeStatus::fresh(raft_id)
        }
    }

    #[test]
    fn a_request_for_another_cluster_is_refused_and_a_successor_says_so() {
        let ours = status(NodeState::Started, 7, &[6, 5]);
        assert_eq!(check(&ours, ClusterId(7)), Ok(()));
        for (named, successor) in [(6, true), (5, true), (8, false), (0, false)] {
            let reason = Reason::OtherCluster {
                cluster_id: ClusterId(7),
                successor,
            };
            let refused = Err(Refusal::not_applied(reason));
            assert_eq!(check(&ours, ClusterId(named)), refused, "{named}");
        }
    }

    #[test]
    fn a_process_without_a_cluster_accepts_any_cluster() {
        for state in [NodeState::Fresh, NodeState::Prepared, NodeState::Outside] {
            assert_eq!(check(&status(state, 7, &[]), ClusterId(8)), Ok(()));
        }
    }
}
