//! What an observer who sees all nodes at once can say of them.

use std::collections::BTreeMap;

use seshat::types::{LogIndex, NodeState, NodeStatus, RaftId, Role, Term};

use crate::node::NODES;

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Health {
    leaders: BTreeMap<Term, RaftId>,
    whole: Option<Whole>,
    healed: bool,
}

/// A cluster of three living voters that follow one leader.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    lives: Vec<RaftId>,
    leader: RaftId,
    /// What the leader had applied when this began, the last change of members included.
    applied: LogIndex,
}

impl Health {
    /// Looks at the nodes that run. Panics if two have led in one term: election safety (paper,
    /// figure 3).
    pub(crate) fn look(&mut self, standings: &BTreeMap<u16, NodeStatus>) {
        for status in standings.values() {
            if status.role == Some(Role::Leader) {
                let leader = self.leaders.entry(status.term).or_insert(status.raft_id);
                let (term, other) = (status.term, status.raft_id);
                assert_eq!(*leader, other, "two leaders in term {term}");
            }
        }
        if !self.healed {
            self.healed = self.is_whole(standings);
        }
    }

    /// A node has forgotten everything.
    pub(crate) fn memory_lost(&mut self) {
        self.healed = false;
        self.whole = None;
    }

    /// Whether, since memory was lost last, the voters were exactly the processes that live, and all
    /// of them knew that this is committed: each had applied what the leader had applied when all
    /// were voters.
    pub(crate) fn healed(&self) -> bool {
        self.healed
    }

    fn is_whole(&mut self, standings: &BTreeMap<u16, NodeStatus>) -> bool {
        let Some(now) = whole(standings) else {
            self.whole = None;
            return false;
        };
        let same = |then: &Whole| then.lives == now.lives && then.leader == now.leader;
        if !self.whole.as_ref().is_some_and(same) {
            self.whole = Some(now);
        }
        self.whole.as_ref().is_some_and(|whole| {
            standings
                .values()
                .all(|status| status.applied_index >= whole.applied)
        })
    }
}

fn whole(standings: &BTreeMap<u16, NodeStatus>) -> Option<Whole> {
    if standings.len() != usize::from(NODES) {
        return None;
    }
    let leads = |status: &&NodeStatus| status.role == Some(Role::Leader);
    let leader = standings.values().filter(leads).max_by_key(|s| s.term)?;
    let follows = |status: &NodeStatus| {
        status.state == NodeState::Started
            && status.cluster_id == leader.cluster_id
            && status.leader == Some(leader.raft_id)
            && matches!(status.role, Some(Role::Leader | Role::Follower))
    };
    standings.values().all(follows).then(|| Whole {
        lives: standings.values().map(|status| status.raft_id).collect(),
        leader: leader.raft_id,
        applied: leader.applied_index,
    })
}
