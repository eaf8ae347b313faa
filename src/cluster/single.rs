//! The judgement of a node about itself alone, from the entries that it has applied.
//!
//! This is less than *healed*, which only the leader can tell, and only by asking every member. While
//! another node heals, this one stays a full member: if all nodes went out of service for that, clients
//! would lose a cluster that works.

use crate::types::{NodeState, NodeStatus};

/// Whether clients may be sent to the node: it takes part in its cluster and knows the leader, so it
/// serves, or names the leader to a client.
pub fn serves(status: &NodeStatus) -> bool {
    status.state == NodeState::Started && status.leader.is_some()
}

/// Whether the node has the same part as before its restart: it serves, its own incarnation is a voter,
/// and no other incarnation is left, neither as a voter nor as a learner.
pub fn is_full_member(status: &NodeStatus) -> bool {
    let own = status.raft_id;
    let conf = &status.conf;
    let mut incarnations = conf.voters.iter().chain(&conf.learners);
    let votes_alone = conf.voters.contains(&own)
        && incarnations.all(|id| *id == own || id.node_id() != own.node_id());
    serves(status) && votes_alone
}
