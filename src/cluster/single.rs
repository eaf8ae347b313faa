//! What a node can tell about itself alone, from what it has applied.
//!
//! That is less than *healed*, which only the leader can tell, and only by asking every member. While
//! another node heals this one stays a full member: if all of them went out of service for that,
//! clients would lose a cluster that works.

use crate::types::{NodeState, NodeStatus};

/// Whether clients may be sent to the node: it takes part in its cluster and knows who leads it, so
/// it serves, or tells a client who does.
pub fn serves(status: &NodeStatus) -> bool {
    status.state == NodeState::Started && status.leader.is_some()
}

/// Whether the node is what it was before it was restarted: it serves, its own life votes, and no
/// other one is left, neither as a voter nor as a learner.
pub fn is_full_member(status: &NodeStatus) -> bool {
    let own = status.raft_id;
    let conf = &status.conf;
    let mut lives = conf.voters.iter().chain(&conf.learners);
    let votes_alone =
        conf.voters.contains(&own) && lives.all(|id| *id == own || id.node_id() != own.node_id());
    serves(status) && votes_alone
}
