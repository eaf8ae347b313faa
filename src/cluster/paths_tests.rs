//! The summary of a cluster whose members do not all reach one another.

use std::sync::Arc;

use super::*;
use crate::types::{Answering, ClusterId, Conf, Following, Missed, NodeInfo, RaftId, Reach, Role};

const HEALED: &str = "healthy: every member takes part, and the cluster may lose any one of them";
const ALL: [u16; 3] = [1, 2, 3];

fn node(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

fn raft_id_of(id: u16) -> RaftId {
    RaftId::new(node(id), 1)
}

/// Reaches all others, and has known their addresses since entry 5.
fn reaches_all(id: u16) -> Reach {
    Reach {
        as_of: 5,
        reached: ALL
            .into_iter()
            .filter(|it| *it != id)
            .map(raft_id_of)
            .collect(),
        missed: Vec::new(),
    }
}

/// Node `id` of a cluster that node 1 leads.
fn view(id: u16) -> NodeStatus {
    let leads = id == 1;
    let voters = ALL.map(raft_id_of).to_vec();
    NodeStatus {
        state: NodeState::Started,
        cluster_id: Some(ClusterId(7)),
        role: Some(if leads { Role::Leader } else { Role::Follower }),
        term: 3,
        leader: Some(raft_id_of(1)),
        commit_index: 9,
        applied_index: 9,
        last_index: 9,
        members_known: leads,
        following: leads.then(|| {
            Arc::new(Following {
                last_index: 9,
                commit_index: 4,
                acknowledged_by: voters.clone(),
            })
        }),
        conf: Arc::new(Conf {
            voters,
            learners: Vec::new(),
            members: ALL.map(node).to_vec(),
        }),
        reach: Some(Arc::new(reaches_all(id))),
        ..NodeStatus::fresh(raft_id_of(id))
    }
}

/// The same node, which does not reach `others`. At their addresses the given things answer.
fn misses(id: u16, others: &[(u16, Answering)]) -> NodeStatus {
    let missed = |&(node_id, answering): &(u16, Answering)| Missed {
        node: node(node_id),
        answering,
        asks: false,
    };
    let mut reach = reaches_all(id);
    reach
        .reached
        .retain(|id| others.iter().all(|(other, _)| node(*other) != id.node_id()));
    reach.missed = others.iter().map(missed).collect();
    NodeStatus {
        reach: Some(Arc::new(reach)),
        ..view(id)
    }
}

fn info(id: u16) -> NodeInfo {
    NodeInfo {
        id: node(id),
        addr: format!("n{id}:7"),
        client_addr: format!("n{id}:6"),
    }
}

/// The summary by the first of `views`, given the answers of the others.
fn said(views: &[NodeStatus]) -> (State, String) {
    let members: ClusterMembership = ALL.map(info).into_iter().collect();
    let (own, others) = views.split_first().unwrap();
    let answers = others.iter().cloned();
    let answers = answers.map(|view| (view.raft_id.node_id(), Ok(view)));
    let survey = Survey::new(own.clone(), Arc::new(members), answers);
    let cluster_view = ClusterView::new(&survey);
    let (state, words) = cluster_view.sum_up();
    assert_eq!(cluster_view.is_healed(), state == State::Healthy, "{words}");
    (state, words)
}

#[track_caller]
fn says(views: [NodeStatus; 3], state: State, words: &str) {
    assert_eq!(said(&views), (state, words.to_owned()));
}

#[test]
fn where_all_reach_all_the_cluster_is_healthy() {
    says(ALL.map(view), State::Healthy, HEALED);
    // A version that does not report which members it reaches.
    let older = NodeStatus {
        reach: None,
        ..view(3)
    };
    says([view(1), view(2), older], State::Healthy, HEALED);
}

/// Seen: healthy, because no node asks the leader at its own address. Then it was restarted, and no
/// leader could be elected that would have added it back.
#[test]
fn a_leader_that_no_member_reaches_has_a_wrong_address() {
    let silent = [(1, Answering::Silent)];
    says(
        [view(1), misses(2, &silent), misses(3, &silent)],
        State::Degraded,
        "degraded: nodes 2 and 3 do not reach node 1: its address n1:7 does not answer (to correct it: \
         seshat member add 1 HOST:PORT n1:6)",
    );
    let other = [(1, Answering::OtherNode(node(2)))];
    says(
        [view(1), misses(2, &silent), misses(3, &other)],
        State::Degraded,
        "degraded: nodes 2 and 3 do not reach node 1: its address n1:7 leads to node 2 (to correct it: \
         seshat member add 1 HOST:PORT n1:6)",
    );
}

/// Seen: healthy, although the two could elect no leader without the third.
#[test]
fn a_cut_link_between_two_followers_is_named() {
    let silent = Answering::Silent;
    says(
        [
            view(1),
            misses(2, &[(3, silent)]),
            misses(3, &[(2, silent)]),
        ],
        State::Degraded,
        "degraded: nodes 2 and 3 do not reach each other: mend the network between them",
    );
    says(
        [view(1), misses(2, &[(3, silent)]), view(3)],
        State::Degraded,
        "degraded: node 2 does not reach node 3: n3:7 does not answer from there",
    );
}

#[test]
fn a_member_not_yet_heard_at_its_address_is_waited_for() {
    let unsure = |id: u16, other: u16| {
        let mut reach = reaches_all(id);
        reach.reached.retain(|id| id.node_id() != node(other));
        NodeStatus {
            reach: Some(Arc::new(reach)),
            ..view(id)
        }
    };
    says(
        [view(1), unsure(2, 3), view(3)],
        State::Healing,
        "healing: node 2 has not heard from node 3 yet",
    );
    let words = "healing: nodes 1 and 3 have not heard from node 2 yet";
    says([unsure(1, 2), view(2), unsure(3, 2)], State::Healing, words);
    // Another incarnation answers than the one that they have heard.
    let again = RaftId::new(node(2), 2);
    let conf = Arc::new(Conf {
        voters: vec![raft_id_of(1), again, raft_id_of(3)],
        ..(*view(1).conf).clone()
    });
    let knows = |view: NodeStatus| NodeStatus {
        conf: Arc::clone(&conf),
        ..view
    };
    let mut leader = knows(view(1));
    Arc::make_mut(leader.following.as_mut().unwrap()).acknowledged_by = conf.voters.clone();
    let second = NodeStatus {
        raft_id: again,
        ..knows(view(2))
    };
    says([leader, second, knows(view(3))], State::Healing, words);
}

/// Seen: `member add 2 WRONG` was healthy for a moment, because a follower still asked at the former address.
#[test]
fn a_question_at_a_former_address_says_nothing_of_the_present_one() {
    let mut leader = view(1);
    Arc::make_mut(leader.reach.as_mut().unwrap()).as_of = 9;
    let late = NodeStatus {
        applied_index: 8,
        ..view(3)
    };
    says(
        [leader.clone(), view(2), late.clone()],
        State::Healing,
        "healing: node 3 has not heard from node 1 yet; node 3 has not heard from node 2 yet",
    );
    let (state, _) = said(&[late, leader.clone(), view(2)]);
    assert_eq!(state, State::Healing, "whichever node is asked");
    says([leader, view(2), view(3)], State::Healthy, HEALED);
}

#[test]
fn a_member_that_asks_and_does_not_answer_runs() {
    let mut leader = misses(1, &[(2, Answering::Silent)]);
    let wrong = "degraded: node 2 runs, but its address n2:7 does not answer (to correct it: seshat \
                 member add 2 HOST:PORT n2:6)";
    let dead = "degraded: node 2 does not answer";
    assert_eq!(
        said(&[leader.clone(), view(3)]),
        (State::Degraded, dead.to_owned())
    );
    Arc::make_mut(leader.reach.as_mut().unwrap()).missed[0].asks = true;
    assert_eq!(
        said(&[leader, view(3)]),
        (State::Degraded, wrong.to_owned())
    );
}
