//! The answer of a node without a leader to a client.

use super::{ClusterView, MemberState};
use crate::types::{Answering, NodeId, NodeState};

/// The leader, as seen by a node that hears no leader itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// None, as far as the answering members know.
    #[default]
    Unknown,
    /// Another node, which other members hear.
    Led(NodeId),
    /// None of the other members answers.
    CutOff,
}

impl ClusterView<'_> {
    /// The leader, if the asking node takes part and hears none. Other nodes name a leader until they
    /// have not heard of it for the longest election timeout: they are right if the asking node has had
    /// none for longer.
    pub fn elsewhere(&self) -> Elsewhere {
        let own = self.survey.own();
        let takes_part = self
            .view(own)
            .is_some_and(|view| view.state == NodeState::Started);
        let mut others = self.survey.members().ids().filter(|id| *id != own);
        let silent = |id| {
            let member_state = self.member_state(id);
            matches!(
                member_state,
                MemberState::Absent(Answering::Silent | Answering::Hung)
            )
        };
        match self.leader.map(|leader| leader.node_id()) {
            _ if !takes_part => Elsewhere::Unknown,
            Some(leader) if leader != own => Elsewhere::Led(leader),
            None if self.survey.members().len() > 1 && others.all(silent) => Elsewhere::CutOff,
            _ => Elsewhere::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::Survey;
    use crate::types::{ClusterId, NodeStatus, RaftId, Role};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn raft_id_of(id: u16) -> RaftId {
        RaftId::new(node(id), 1)
    }

    /// Node `id`, which takes part and hears `leader`.
    fn hears(id: u16, leader: Option<u16>) -> NodeStatus {
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            role: Some(match leader == Some(id) {
                true => Role::Leader,
                false => Role::Follower,
            }),
            term: 3,
            leader: leader.map(raft_id_of),
            ..NodeStatus::fresh(raft_id_of(id))
        }
    }

    /// The result at node 3 of three for these answers.
    fn seen(own: NodeStatus, answers: impl IntoIterator<Item = NodeStatus>) -> Elsewhere {
        let answers = answers.into_iter();
        let answers = answers.map(|view| (view.raft_id.node_id(), Ok(view)));
        let members = Arc::new([1, 2, 3].map(node).into());
        ClusterView::new(&Survey::new(own, members, answers)).elsewhere()
    }

    #[test]
    fn one_that_hears_the_leader_is_enough() {
        let led = Elsewhere::Led(node(1));
        assert_eq!(seen(hears(3, None), [hears(2, Some(1))]), led);
        let all = [hears(1, Some(1)), hears(2, Some(1))];
        assert_eq!(seen(hears(3, None), all), led);
    }

    #[test]
    fn no_node_leads_if_none_says_so_or_the_leader_denies_it() {
        let unknown = Elsewhere::Unknown;
        assert_eq!(seen(hears(3, None), [hears(2, None)]), unknown);
        let denied = [hears(1, None), hears(2, Some(1))];
        assert_eq!(seen(hears(3, None), denied), unknown);
        let own = NodeStatus {
            state: NodeState::Outside,
            ..hears(3, None)
        };
        assert_eq!(seen(own, [hears(2, Some(1))]), unknown, "it waits outside");
    }

    #[test]
    fn a_node_that_reaches_no_other_may_be_cut_off() {
        assert_eq!(seen(hears(3, None), []), Elsewhere::CutOff);
    }
}
