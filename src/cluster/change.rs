//! The rules for adding and removing members.
//!
//! The leader decides, from its own status and from the statuses of all members that it has just asked. A
//! change is refused while an earlier one is not finished, because each is checked against the failures
//! that the cluster can survive at that moment. The obstacle to a removal may be the node to be removed
//! itself, because it is dead or never started. That obstacle does not count.

use std::collections::BTreeSet;

use super::{CAN_LOSE_ONE, MAX_MEMBERS, Survey};
use crate::error::{Reason, Refusal};
use crate::types::{ClusterMembership, NodeId, NodeInfo, NodeState, NodeStatus, RaftId, Role};

impl Survey {
    /// Whether the asking node, which has to lead, may add the member `info`, or give a member these
    /// addresses.
    ///
    /// # Errors
    ///
    /// The condition that does not hold.
    pub fn may_add(&self, info: &NodeInfo) -> Result<(), Refusal> {
        let leader = self.leader()?;
        match self.members().get(info.id) {
            Some(member) if member == info => Ok(()),
            Some(_) => self.is_finished(leader, Some(info.id)),
            None if self.members().len() >= MAX_MEMBERS => Err(Refusal::precondition(format!(
                "a cluster has at most {MAX_MEMBERS} members"
            ))),
            None if !leader.members_known => Err(Refusal::precondition(
                "an earlier change of members is not finished: not every member knows of it",
            )),
            None => self.is_finished(leader, None),
        }
    }

    /// Whether the asking node, which has to lead, may remove the member `id`.
    ///
    /// # Errors
    ///
    /// The condition that does not hold.
    pub fn may_remove(&self, id: NodeId) -> Result<(), Refusal> {
        let leader = self.leader()?;
        if !self.members().contains(id) {
            return Err(Refusal::not_applied(Reason::InvalidRequest {
                field: "id",
                rule: format!("node {id} is no member"),
            }));
        }
        let left: Vec<_> = self.members().ids().filter(|left| *left != id).collect();
        if left.is_empty() {
            return Err(Refusal::precondition("the last member cannot be removed"));
        }
        self.is_finished(leader, Some(id))?;
        let able = left.iter().filter(|left| self.is_able(leader, **left));
        let able = able.count();
        if able <= left.len() / 2 {
            return Err(Refusal::precondition(format!(
                "without node {id}, {able} of {} members would be there and caught up, which is no \
                 majority",
                left.len()
            )));
        }
        Ok(())
    }

    /// The status of the asking node, if it leads.
    fn leader(&self) -> Result<&NodeStatus, Refusal> {
        let own = self.view(self.own());
        let own = own.ok_or_else(|| Refusal::not_applied(Reason::NoQuorum))?;
        decides(own).map(|()| own)
    }

    /// Whether a member answers, is a voter, and its log follows the leader's.
    fn is_able(&self, leader: &NodeStatus, member: NodeId) -> bool {
        let follows = |id: RaftId| {
            let following = leader.following.as_deref();
            following.is_some_and(|it| it.acknowledged_by.contains(&id))
        };
        self.view(member).is_some_and(|view| {
            view.state == NodeState::Started
                && view.cluster_id == leader.cluster_id
                && leader.conf.voters.contains(&view.raft_id)
                && (view.raft_id == leader.raft_id || follows(view.raft_id))
        })
    }

    /// Whether earlier changes are finished, whatever the state of the node `besides`.
    fn is_finished(&self, leader: &NodeStatus, besides: Option<NodeId>) -> Result<(), Refusal> {
        let conf = &leader.conf;
        let counts = |node: &NodeId| Some(*node) != besides;
        let unfinished = |node: NodeId, what: &str| {
            let rule = format!("an earlier change of members is not finished: node {node} {what}");
            Err(Refusal::precondition(rule))
        };
        let voters: BTreeSet<_> = conf.voters.iter().map(|id| id.node_id()).collect();
        let mut learners = conf.learners.iter().map(|id| id.node_id());
        if let Some(node) = learners.find(counts) {
            return unfinished(node, "is catching up");
        }
        let mut missing = self.members().ids().filter(|node| !voters.contains(node));
        if let Some(node) = missing.find(counts) {
            return unfinished(node, "does not vote yet");
        }
        let mut leaving = voters
            .iter()
            .filter(|node| !self.members().contains(**node));
        if let Some(node) = leaving.find(|node| counts(node)) {
            return unfinished(*node, "still votes");
        }
        let voters: BTreeSet<RaftId> = conf.voters.iter().copied().collect();
        let ignorant = self.views().find(|view| {
            let knows = view.conf.voters.iter().copied().collect::<BTreeSet<_>>() == voters;
            counts(&view.raft_id.node_id()) && voters.contains(&view.raft_id) && !knows
        });
        match ignorant {
            Some(view) => unfinished(view.raft_id.node_id(), "does not know of it yet"),
            None => Ok(()),
        }
    }
}

/// Whether one of `members` may be removed without a confirmation.
///
/// # Errors
///
/// The cost of its removal, if the cluster can lose no further member afterwards: the operator has to
/// accept that.
pub fn costs_nothing(members: &ClusterMembership, id: NodeId) -> Result<(), Refusal> {
    let left = members.ids().filter(|left| *left != id).count();
    match no_spare(left) {
        Some(cost) if members.contains(id) && left > 0 => Err(Refusal::precondition(format!(
            "without node {id}, {cost} (to remove it nevertheless: seshat member remove {id} --yes)"
        ))),
        _ => Ok(()),
    }
}

/// Whether a node with this status decides about members: it leads.
///
/// # Errors
///
/// The leader, or that there is none.
pub fn decides(status: &NodeStatus) -> Result<(), Refusal> {
    let reason = match (status.state, status.role, status.leader) {
        (_, Some(Role::Leader), _) => return Ok(()),
        (NodeState::Started, _, None) => Reason::NoQuorum,
        (NodeState::Started, _, Some(leader)) => Reason::NotLeader {
            leader_id: Some(leader.node_id()),
        },
        (NodeState::Fresh | NodeState::Prepared | NodeState::Outside, _, _) => Reason::Forming {
            waiting_for: "this node cannot decide who is a member".to_owned(),
        },
    };
    Err(Refusal::not_applied(reason))
}

/// The cost of having so few members. `None` if the cluster can lose any one of them.
pub(super) fn no_spare(members: usize) -> Option<String> {
    match members {
        CAN_LOSE_ONE.. => None,
        1 => Some("1 member takes part, and restarting it loses all data".to_owned()),
        _ => Some(format!(
            "{members} members take part, and restarting any one of them halts the cluster"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::types::{ClusterId, Conf, Following};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn raft_id_of(id: u16) -> RaftId {
        RaftId::new(node(id), 1)
    }

    fn info(id: u16) -> NodeInfo {
        NodeInfo {
            id: node(id),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        }
    }

    fn conf(members: &[u16], voters: &[u16]) -> Arc<Conf> {
        Arc::new(Conf {
            voters: voters.iter().copied().map(raft_id_of).collect(),
            learners: Vec::new(),
            members: members.iter().copied().map(node).collect(),
        })
    }

    fn status(id: u16, conf: &Arc<Conf>) -> NodeStatus {
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            role: Some(if id == 1 {
                Role::Leader
            } else {
                Role::Follower
            }),
            leader: Some(raft_id_of(1)),
            last_index: 1000,
            commit_index: 1000,
            applied_index: 1000,
            members_known: id == 1,
            following: (id == 1).then(|| {
                Arc::new(Following {
                    last_index: 1000,
                    commit_index: 1000,
                    acknowledged_by: conf.voters.clone(),
                })
            }),
            conf: Arc::clone(conf),
            ..NodeStatus::fresh(raft_id_of(id))
        }
    }

    /// The survey of node 1, the leader.
    struct View {
        own: NodeStatus,
        members: ClusterMembership,
        others: BTreeMap<NodeId, NodeStatus>,
    }

    /// Node 1 leads the members, of whom `answering` are alive.
    fn view(members: &[u16], voters: &[u16], answering: &[u16]) -> View {
        let conf = conf(members, voters);
        let others = answering.iter().filter(|id| **id != 1);
        View {
            own: status(1, &conf),
            members: members.iter().copied().map(info).collect(),
            others: others.map(|&id| (node(id), status(id, &conf))).collect(),
        }
    }

    impl View {
        fn survey(self) -> Survey {
            let answers = self.others.into_iter().map(|(id, view)| (id, Ok(view)));
            Survey::new(self.own, self.members.into(), answers)
        }

        fn may_add(self, info: &NodeInfo) -> Result<(), Refusal> {
            self.survey().may_add(info)
        }

        fn may_remove(self, id: NodeId) -> Result<(), Refusal> {
            self.survey().may_remove(id)
        }
    }

    fn why(outcome: Result<(), Refusal>) -> String {
        outcome.map_or_else(|refusal| refusal.reason.to_string(), |()| "ok".to_owned())
    }

    const ALL: [u16; 3] = [1, 2, 3];

    #[test]
    fn a_node_is_added_to_a_cluster_that_is_whole() {
        let add = |view: View| why(view.may_add(&info(4)));
        assert_eq!(add(view(&ALL, &ALL, &ALL)), "ok");
        assert_eq!(
            add(view(&ALL, &ALL, &[1, 2])),
            "ok",
            "a dead one is enough reason"
        );

        let unfinished = "not now: an earlier change of members is not finished: ";
        assert_eq!(
            add(view(&[1, 2, 3, 5], &ALL, &ALL)),
            format!("{unfinished}node 5 does not vote yet")
        );
        assert_eq!(
            add(view(&[1, 2], &ALL, &ALL)),
            format!("{unfinished}node 3 still votes")
        );
        let mut learner = view(&ALL, &ALL, &ALL);
        Arc::make_mut(&mut learner.own.conf)
            .learners
            .push(raft_id_of(3));
        assert_eq!(add(learner), format!("{unfinished}node 3 is catching up"));
        let mut unknown = view(&ALL, &ALL, &ALL);
        unknown.own.members_known = false;
        assert_eq!(
            add(unknown),
            format!("{unfinished}not every member knows of it")
        );
    }

    #[test]
    fn members_are_bounded() {
        let nine = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let whole = || view(&nine, &nine, &nine);
        let why = why(whole().may_add(&info(10)));
        assert_eq!(why, "not now: a cluster has at most 9 members");
        assert!(whole().may_add(&info(9)).is_ok(), "is one already");
    }

    #[test]
    fn a_member_may_be_added_again_and_may_move() {
        let same = view(&[1, 2, 3, 4], &ALL, &ALL);
        assert_eq!(why(same.may_add(&info(4))), "ok", "decided, not yet done");
        let moved = NodeInfo {
            addr: "elsewhere:7379".to_owned(),
            ..info(3)
        };
        let dead = view(&ALL, &ALL, &[1, 2]);
        assert_eq!(why(dead.may_add(&moved)), "ok");
    }

    #[test]
    fn a_member_is_removed_if_the_others_can_decide() {
        let remove = |view: View, id: u16| why(view.may_remove(node(id)));
        assert_eq!(remove(view(&ALL, &ALL, &ALL), 3), "ok");
        assert_eq!(remove(view(&ALL, &ALL, &ALL), 1), "ok", "the leader");
        assert_eq!(remove(view(&ALL, &ALL, &ALL), 4), "id: node 4 is no member");
        assert_eq!(
            remove(view(&[1], &[1], &[1]), 1),
            "not now: the last member cannot be removed"
        );
        assert_eq!(
            remove(view(&ALL, &ALL, &[1, 2]), 2),
            "not now: without node 2, 1 of 2 members would be there and caught up, which is no \
             majority"
        );
        let mut behind = view(&ALL, &ALL, &ALL);
        let following = behind.own.following.as_mut().unwrap();
        Arc::make_mut(following).acknowledged_by = vec![raft_id_of(1), raft_id_of(3)];
        assert!(remove(behind, 3).contains("1 of 2 members"));
        let mut just_elected = view(&ALL, &ALL, &ALL);
        just_elected.own.following = None;
        assert!(remove(just_elected, 3).contains("1 of 2 members"));
    }

    #[test]
    fn a_node_that_is_dead_or_never_came_does_not_stand_in_the_way_of_its_own_removal() {
        let remove = |view: View, id: u16| why(view.may_remove(node(id)));
        assert_eq!(remove(view(&ALL, &ALL, &[1, 2]), 3), "ok", "it is dead");
        let never_came = || view(&[1, 2, 3, 4], &ALL, &ALL);
        assert_eq!(remove(never_came(), 4), "ok");
        assert!(remove(never_came(), 3).contains("node 4 does not vote yet"));

        // Two of five are dead, and neither knows the last change.
        let five = [1, 2, 3, 4, 5];
        let mut dead = view(&five, &five, &ALL);
        dead.own.members_known = false;
        assert_eq!(remove(dead, 4), "ok");

        // Node 3 was started again and is being added back.
        let mut back = view(&ALL, &ALL, &ALL);
        let again = RaftId::new(node(3), 2);
        Arc::make_mut(&mut back.own.conf).learners.push(again);
        back.others.get_mut(&node(3)).unwrap().raft_id = again;
        let back = back.survey();
        assert_eq!(why(back.may_remove(node(3))), "ok");
        let refused = why(back.may_remove(node(2)));
        assert!(refused.contains("node 3 is catching up"), "{refused}");
    }

    #[test]
    fn the_running_members_have_to_know_of_the_last_change() {
        let mut view = view(&ALL, &ALL, &ALL);
        view.others.get_mut(&node(2)).unwrap().conf = conf(&ALL, &[1, 2, 3, 4]);
        let survey = view.survey();
        let refused = why(survey.may_remove(node(3)));
        assert!(
            refused.contains("node 2 does not know of it yet"),
            "{refused}"
        );
        assert_eq!(why(survey.may_remove(node(2))), "ok");
    }

    #[test]
    fn a_removal_that_leaves_no_member_to_spare_says_what_it_costs() {
        let cost = |size: u16| {
            let members: ClusterMembership = (1..=size).map(info).collect();
            why(costs_nothing(&members, node(size)))
        };
        assert_eq!(cost(4), "ok");
        assert_eq!(
            cost(3),
            "not now: without node 3, 2 members take part, and restarting any one of them halts the \
             cluster (to remove it nevertheless: seshat member remove 3 --yes)"
        );
        assert_eq!(
            cost(2),
            "not now: without node 2, 1 member takes part, and restarting it loses all data (to \
             remove it nevertheless: seshat member remove 2 --yes)"
        );
        // An impossible removal costs nothing.
        assert_eq!(cost(1), "ok");
        let members = [1, 2].map(info).into_iter().collect();
        assert_eq!(why(costs_nothing(&members, node(3))), "ok");
    }

    #[test]
    fn only_the_leader_decides() {
        let follower = NodeStatus {
            role: Some(Role::Follower),
            ..status(1, &conf(&ALL, &ALL))
        };
        let leaderless = NodeStatus {
            leader: None,
            ..follower.clone()
        };
        assert_eq!(
            decides(&follower).unwrap_err().reason,
            Reason::NotLeader {
                leader_id: Some(node(1))
            }
        );
        assert_eq!(decides(&leaderless).unwrap_err().reason, Reason::NoQuorum);
        let outside = NodeStatus::fresh(raft_id_of(1));
        assert!(matches!(
            decides(&outside).unwrap_err().reason,
            Reason::Forming { .. }
        ));
        assert_eq!(decides(&status(1, &conf(&ALL, &ALL))), Ok(()));
    }
}
