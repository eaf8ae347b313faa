use std::sync::Arc;

use super::*;
use crate::types::{Conf, LogIndex, RecoveryAttempt};

const CLUSTER: ClusterId = ClusterId(7);

fn node(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

fn raft_id_of(id: u16, incarnation: u64) -> RaftId {
    RaftId::new(node(id), incarnation)
}

/// A follower in the first incarnation of node `id` whose log reaches `last_index`, in a cluster of first
/// incarnations. It knows no leader.
fn voter(id: u16, size: u16, last_index: LogIndex) -> NodeStatus {
    NodeStatus {
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        role: Some(Role::Follower),
        term: 5,
        last_term: 5,
        last_index,
        commit_index: last_index - 1,
        conf: Arc::new(Conf {
            voters: (1..=size).map(|id| raft_id_of(id, 1)).collect(),
            learners: Vec::new(),
            members: (1..=size).map(node).collect(),
        }),
        ..NodeStatus::fresh(raft_id_of(id, 1))
    }
}

/// The second incarnation of node `id`, which catches up while the first one still is a voter.
fn learner(id: u16, size: u16, last_index: LogIndex) -> NodeStatus {
    let status = voter(id, size, last_index);
    let mut conf = Conf::clone(&status.conf);
    conf.learners.push(raft_id_of(id, 2));
    NodeStatus {
        role: Some(Role::Learner),
        raft_id: raft_id_of(id, 2),
        conf: Arc::new(conf),
        ..status
    }
}

fn lost(id: u16) -> NodeStatus {
    NodeStatus::fresh(raft_id_of(id, 3))
}

fn views(all: impl IntoIterator<Item = NodeStatus>) -> Answers {
    let all = all.into_iter();
    all.map(|view| (view.raft_id.node_id(), Ok(view))).collect()
}

/// The command that recovers the cluster, or why there is none.
fn way(all: impl IntoIterator<Item = NodeStatus>) -> String {
    match Remains::new(CLUSTER, &views(all)).way() {
        Ok(way) if way.halted => format!("halted: {way}"),
        Ok(way) => format!("in doubt: {way}"),
        Err(obstacle) => obstacle.to_string(),
    }
}

#[test]
fn a_cluster_is_halted_once_no_majority_can_come_back() {
    assert_eq!(
        way([voter(1, 3, 9), lost(2), lost(3)]),
        "halted: seshat recover --from 1"
    );
    assert_eq!(
        way([voter(1, 3, 9), lost(2), voter(3, 3, 9)]),
        "the cluster is not halted: nodes 1 and 3 can elect a leader"
    );
    // Node 3 may be cut off, and then the two can go on.
    assert_eq!(
        way([voter(1, 3, 9), lost(2)]),
        "in doubt: seshat recover --from 1 --without 3"
    );
    assert_eq!(
        way([voter(1, 3, 9)]),
        "in doubt: seshat recover --from 1 --without 2,3"
    );
    // Node 5 cannot bring the cluster back, but it may have more.
    assert_eq!(
        way([voter(1, 5, 9), lost(2), lost(3), lost(4)]),
        "halted: seshat recover --from 1 --without 5"
    );
    assert_eq!(
        way([lost(1), lost(2), lost(3)]),
        "no node that answers has any state of this cluster"
    );
}

#[test]
fn a_voter_that_is_about_to_start_is_not_lost() {
    let bound = NodeStatus {
        state: NodeState::Prepared,
        cluster_id: Some(CLUSTER),
        ..NodeStatus::fresh(raft_id_of(2, 1))
    };
    // It answered before it was offered the cluster that node 1 has started meanwhile.
    let fresh = NodeStatus::fresh(raft_id_of(3, 1));
    assert_eq!(
        way([voter(1, 3, 1), bound, fresh]),
        "the cluster is not halted: nodes 1, 2 and 3 can elect a leader"
    );
}

#[test]
fn the_log_that_is_up_to_date_is_kept() {
    let all = |two: NodeStatus| way([voter(1, 5, 80), two, lost(3), lost(4), lost(5)]);
    assert_eq!(all(voter(2, 5, 90)), "halted: seshat recover --from 2");
    assert_eq!(all(voter(2, 5, 70)), "halted: seshat recover --from 1");
    let newer = NodeStatus {
        term: 6,
        last_term: 6,
        ..voter(2, 5, 70)
    };
    assert_eq!(all(newer), "halted: seshat recover --from 2");
    let knows_more = |id| NodeStatus {
        commit_index: 80,
        ..voter(id, 5, 80)
    };
    assert_eq!(all(voter(2, 5, 80)), "halted: seshat recover --from 2");
    assert_eq!(
        way([knows_more(1), voter(2, 5, 80), lost(3), lost(4), lost(5)]),
        "halted: seshat recover --from 1"
    );
}

#[test]
fn a_survivor_that_has_less_is_told_which_one_has_more() {
    let all = views([voter(1, 5, 80), voter(4, 5, 90), lost(2), lost(3), lost(5)]);
    let remains = Remains::new(CLUSTER, &all);
    let order = Order::new(CLUSTER);
    let refused = remains.may_recover(node(1), &order).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "node 4 has more: its log reaches 90, this one's 80; seshat recover --from 4"
    );
    let way = remains.may_recover(node(4), &order).unwrap();
    assert_eq!(way.others, [Rank::of(&voter(1, 5, 80))]);
    assert_eq!(
        (way.lost.as_slice(), way.voters),
        (&[node(2), node(3), node(5)][..], 5)
    );

    let all = views([voter(1, 5, 80), voter(4, 5, 80), lost(2), lost(3), lost(5)]);
    let refused = Remains::new(CLUSTER, &all).may_recover(node(1), &order);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "node 4 has as much, and goes first; seshat recover --from 4"
    );
}

#[test]
fn a_learner_is_kept_only_if_it_has_most_and_an_operator_accepts_that() {
    assert_eq!(
        way([voter(1, 3, 9), learner(2, 3, 9), lost(3)]),
        "halted: seshat recover --from 1"
    );
    let all = [lost(1), learner(2, 3, 9), lost(3)];
    assert_eq!(
        way(all.clone()),
        "halted: seshat recover --from 2 --incomplete"
    );
    let all = views(all);
    let remains = Remains::new(CLUSTER, &all);
    let order = Order::new(CLUSTER);
    let refused = remains.may_recover(node(2), &order);
    assert_eq!(refused, Err(Obstacle::Incomplete));
    let order = Order {
        incomplete: true,
        ..order
    };
    assert!(remains.may_recover(node(2), &order).is_ok());
    // A process that has received nothing yet has no state to keep.
    let empty = NodeStatus {
        last_index: 0,
        commit_index: 0,
        conf: Arc::default(),
        ..learner(2, 3, 9)
    };
    assert_eq!(
        way([lost(1), empty, lost(3)]),
        "no node that answers has any state of this cluster"
    );
    // It may vote by now, together with node 3.
    assert_eq!(
        way([lost(1), learner(2, 3, 9)]),
        "in doubt: seshat recover --from 2 --incomplete --without 3"
    );
}

#[test]
fn a_leader_counts_while_it_may_live() {
    let follows = |leader| NodeStatus {
        leader: Some(leader),
        ..learner(2, 3, 5)
    };
    // A learner still believes in a leader that has lost its memory.
    assert_eq!(
        way([voter(1, 3, 9), follows(raft_id_of(3, 1)), lost(3)]),
        "halted: seshat recover --from 1"
    );
    assert_eq!(
        way([voter(1, 3, 9), follows(raft_id_of(3, 1))]),
        "the cluster is not halted: node 2 says that node 3 leads it"
    );
    let leads = NodeStatus {
        role: Some(Role::Leader),
        ..voter(1, 3, 9)
    };
    assert_eq!(
        way([leads, lost(2), lost(3)]),
        "the cluster is not halted: node 1 leads it"
    );
}

#[test]
fn a_member_that_was_promoted_without_the_knowledge_of_the_others_counts() {
    let promoted = |mut status: NodeStatus| {
        status.role = Some(Role::Follower);
        status.conf = Arc::new(Conf {
            voters: vec![raft_id_of(1, 1), raft_id_of(2, 2), raft_id_of(3, 1)],
            ..Conf::clone(&status.conf)
        });
        status
    };
    assert_eq!(
        way([voter(1, 3, 9), promoted(learner(2, 3, 9)), lost(3)]),
        "the cluster is not halted: nodes 1 and 2 can elect a leader"
    );
    // Two members that no answering node knows as voters may be able to go on with node 1.
    let grown = |members: u16| {
        let mut status = voter(1, 3, 9);
        Arc::make_mut(&mut status.conf).members = (1..=members).map(node).collect();
        way([status, lost(2), lost(3)])
    };
    assert_eq!(grown(4), "halted: seshat recover --from 1 --without 4");
    assert_eq!(grown(5), "in doubt: seshat recover --from 1 --without 4,5");
}

/// Wide seeds 115234 and 132135 of the simulation: the cluster waited for an election that no candidate
/// could win, and a recovery was refused for as long.
#[test]
fn a_majority_that_cannot_elect_a_leader_does_not_count() {
    let grown = |status: NodeStatus| {
        let conf = voter(1, 5, 9).conf;
        NodeStatus { conf, ..status }
    };
    // Node 2 has not heard that the cluster has five voters now, and lacks entries that node 1 has.
    let all = |last_index| {
        let behind = voter(2, 3, last_index);
        way([grown(voter(1, 3, 9)), behind, lost(3), lost(4), lost(5)])
    };
    assert_eq!(all(8), "halted: seshat recover --from 1");
    // With as much as node 1 it is elected by the voters that it knows.
    assert_eq!(
        all(9),
        "the cluster is not halted: nodes 1 and 2 can elect a leader"
    );
    // Node 3 may be elected by both, whatever they know of one another.
    assert_eq!(
        way([grown(voter(1, 3, 9)), voter(2, 3, 8), lost(4), lost(5)]),
        "in doubt: seshat recover --from 1 --without 3"
    );
}

/// It does not know that it is a voter, so it does not become a candidate, and it votes for no process
/// that has less.
#[test]
fn a_learner_that_has_most_keeps_a_voter_that_has_less_from_being_elected() {
    let promoted = learner(2, 3, 9);
    let knows_it = |last_index| {
        let mut status = voter(3, 3, last_index);
        Arc::make_mut(&mut status.conf).voters[1] = raft_id_of(2, 2);
        status
    };
    assert_eq!(
        way([lost(1), promoted.clone(), knows_it(8)]),
        "halted: seshat recover --from 2 --incomplete"
    );
    assert_eq!(
        way([lost(1), promoted, knows_it(9)]),
        "the cluster is not halted: nodes 2 and 3 can elect a leader"
    );
}

#[test]
fn a_cluster_is_recovered_once() {
    let recovered = NodeStatus {
        cluster_id: Some(ClusterId(8)),
        ..voter(3, 5, 9)
    };
    let error = way([voter(1, 5, 9), lost(2), recovered, lost(4), lost(5)]);
    assert!(
        error.starts_with("node 3 takes part in cluster 0000000000000008"),
        "{error}"
    );
    let about_to = NodeStatus {
        recovery: RecoveryAttempt {
            number: 1,
            under_way: true,
        },
        ..voter(3, 5, 9)
    };
    let error = way([voter(1, 5, 10), lost(2), about_to, lost(4), lost(5)]);
    assert!(error.starts_with("node 3 is about to recover"), "{error}");
}

#[test]
fn a_node_that_answers_or_may_answer_is_not_left_out() {
    let all = views([voter(1, 5, 9), lost(2), lost(3), lost(4)]);
    let remains = Remains::new(CLUSTER, &all);
    let order = |without: &[u16]| Order {
        without: without.iter().copied().map(node).collect(),
        ..Order::new(CLUSTER)
    };
    let refused = remains.may_recover(node(1), &order(&[])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "node 5 does not answer: it may still serve, or have more. Reconnect its process, or start it \
         again if it has ended. Only if it can never answer again, state that: --without 5"
    );
    let refused = remains.may_recover(node(1), &order(&[3, 5]));
    assert_eq!(refused, Err(Obstacle::NotGone(node(3))));
    let refused = remains.may_recover(node(1), &order(&[5, 6]));
    assert_eq!(refused, Err(Obstacle::NotInCluster(node(6))));
    assert!(remains.may_recover(node(1), &order(&[5])).is_ok());
    let refused = remains.may_recover(node(2), &order(&[5]));
    assert_eq!(refused, Err(Obstacle::NoPart));
}

/// Seen: an operator could state that a stopped process, which held the last copy, was gone.
#[test]
fn a_node_that_may_hang_or_be_elsewhere_is_not_left_out() {
    let order = Order {
        without: [node(3)].into(),
        ..Order::new(CLUSTER)
    };
    let refused = |answering| {
        let views = [voter(1, 3, 9), lost(2)].map(|view| (view.raft_id.node_id(), Ok(view)));
        let answers = views.into_iter().chain([(node(3), Err(answering))]);
        let answers: Answers = answers.collect();
        let remains = Remains::new(CLUSTER, &answers);
        // Also without such a statement.
        let meek = remains.may_recover(node(1), &Order::new(CLUSTER));
        let outcome = remains.may_recover(node(1), &order);
        if outcome.is_err() {
            assert_eq!(meek, outcome);
        }
        outcome.err().map(|obstacle| obstacle.to_string())
    };
    let hung = "node 3 accepts connections and does not answer: it may hang, and hold the last copy; let \
                it go on, or, if what it holds may be lost, end it or disconnect it";
    assert_eq!(refused(Answering::Hung).as_deref(), Some(hung));
    let elsewhere = "node 3 may be there, and have more: its address leads to node 2. Start it there \
                     again; or, if it is gone for good, end or disconnect what is there";
    let other = refused(Answering::OtherNode(node(2)));
    assert_eq!(other.as_deref(), Some(elsewhere));
    assert_eq!(refused(Answering::Silent), None);
    assert_eq!(refused(Answering::NotGrpc), None);
}

/// The possible states of a node. `None` if it does not answer.
fn looks(id: u16) -> Vec<Option<NodeStatus>> {
    let size = 3;
    let mut looks = vec![None, Some(lost(id))];
    for last_index in [10, 20] {
        looks.push(Some(voter(id, size, last_index)));
        looks.push(Some(learner(id, size, last_index)));
    }
    looks.push(Some(NodeStatus {
        role: Some(Role::Leader),
        leader: Some(raft_id_of(id, 1)),
        ..voter(id, size, 20)
    }));
    for leader in (1..=size).filter(|leader| *leader != id) {
        let leader = Some(raft_id_of(leader, 1));
        looks.push(Some(NodeStatus {
            leader,
            ..voter(id, size, 10)
        }));
        looks.push(Some(NodeStatus {
            leader,
            ..learner(id, size, 20)
        }));
    }
    looks.push(Some(NodeStatus {
        cluster_id: Some(ClusterId(8)),
        ..voter(id, size, 10)
    }));
    looks
}

/// All combinations of the states of three nodes: a recommended recovery is accepted, by that node and no
/// other, and an accepted one does no harm.
#[test]
fn exactly_the_recommended_recovery_is_accepted() {
    let (mut accepted, mut recommended, mut all_views) = (0, 0, 0);
    for one in looks(1) {
        for two in looks(2) {
            for three in looks(3) {
                let all = views([one.clone(), two.clone(), three].into_iter().flatten());
                let remains = Remains::new(CLUSTER, &all);
                let way = remains.way().ok();
                all_views += 1;
                recommended += usize::from(way.as_ref().is_some_and(|way| way.halted));
                let takers = takers(remains);
                accepted += usize::from(!takers.is_empty());
                match &way {
                    None => assert!(takers.is_empty(), "{all:?}"),
                    Some(way) => {
                        assert_eq!(takers, [way.from()], "{all:?}");
                        let order = way.order();
                        assert!(remains.may_recover(way.from(), &order).is_ok(), "{all:?}");
                        // An order that states less is refused.
                        let meek = Order::new(CLUSTER);
                        let said = remains.may_recover(way.from(), &meek).is_ok();
                        assert_eq!(said, meek == order, "{all:?}");
                        harms_no_cluster(&all, way);
                    }
                }
            }
        }
    }
    assert!(
        recommended > 20 && accepted > recommended && accepted < all_views / 4,
        "{recommended} recommended and {accepted} accepted of {all_views}"
    );
}

/// The nodes that accept a recovery from an operator who agrees to everything.
fn takers(remains: Remains<'_>) -> Vec<NodeId> {
    let silent = (1..=3).map(node).filter(|id| !remains.answers(*id));
    let order = Order {
        cluster_id: CLUSTER,
        without: silent.collect(),
        incomplete: true,
    };
    let nodes = (1..=3).map(node);
    nodes
        .filter(|id| remains.may_recover(*id, &order).is_ok())
        .collect()
}

/// Independent of the tested code.
fn harms_no_cluster(all: &Answers, way: &Way) {
    let parts: Vec<_> = all
        .views()
        .filter(|view| view.cluster_id == Some(CLUSTER))
        .collect();
    let first_incarnations = parts
        .iter()
        .filter(|view| view.raft_id.incarnation() == 1)
        .count();
    assert!(first_incarnations < 2, "they are a majority: {all:?}");
    assert!(
        parts.iter().all(|view| view.role != Some(Role::Leader)),
        "{all:?}"
    );
    let most = parts.iter().map(|view| view.last_index).max();
    assert_eq!(most, Some(way.survivor.last_index), "{all:?}");
    let silent = 3 - all.views().count();
    if way.halted {
        assert!(
            first_incarnations + silent < 2,
            "they may come back: {all:?}"
        );
    }
    assert!(
        all.views()
            .all(|view| view.state != NodeState::Started || view.cluster_id == Some(CLUSTER)),
        "{all:?}"
    );
}
