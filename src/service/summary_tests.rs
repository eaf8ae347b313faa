use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::types::{ClusterId, Conf, SnapshotProgress};

const CLUSTER: ClusterId = ClusterId(7);

fn node(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The first life of the node.
fn raft_id(id: u16) -> RaftId {
    RaftId::new(node(id), 0xabc)
}

/// Another life of the node.
fn again(id: u16) -> RaftId {
    RaftId::new(node(id), 0xdef)
}

/// Voters and learners of a cluster whose members are nodes 1 to 3.
fn conf(voters: &[RaftId], learners: &[RaftId]) -> Arc<Conf> {
    Arc::new(Conf {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        members: [1, 2, 3].map(node).to_vec(),
    })
}

fn whole() -> Arc<Conf> {
    conf(&[1, 2, 3].map(raft_id), &[])
}

/// Takes part in the cluster in term 3 and follows node 2, or is node 2.
fn view(id: u16) -> NodeStatus {
    let leads = id == 2;
    NodeStatus {
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        role: Some(if leads { Role::Leader } else { Role::Follower }),
        term: 3,
        leader: Some(raft_id(2)),
        commit_index: 9,
        applied_index: 8,
        last_index: 9,
        keys: 4,
        joined_at: Some(UNIX_EPOCH + Duration::from_millis(1500)),
        conf: whole(),
        members_known: leads,
        ..NodeStatus::fresh(raft_id(id))
    }
}

/// Node 2 leads the voters and learners of `conf`.
fn leads(conf: Arc<Conf>) -> NodeStatus {
    NodeStatus { conf, ..view(2) }
}

/// Another life of the node, which belongs to nothing yet.
fn fresh(id: u16) -> NodeStatus {
    NodeStatus::fresh(again(id))
}

/// Another life of the node, which knows that its cluster runs.
fn outside(id: u16) -> NodeStatus {
    NodeStatus {
        state: NodeState::Outside,
        cluster_id: Some(CLUSTER),
        ..fresh(id)
    }
}

/// Another life of the node, which receives the log and does not vote.
fn learner(id: u16) -> NodeStatus {
    NodeStatus {
        raft_id: again(id),
        role: Some(Role::Learner),
        conf: conf(&[1, 2].map(raft_id), &[again(id)]),
        ..view(id)
    }
}

fn receiving(received: u64, status: NodeStatus) -> NodeStatus {
    let total = 1000;
    NodeStatus {
        receiving: Some(SnapshotProgress { received, total }),
        ..status
    }
}

fn leaderless(id: u16) -> NodeStatus {
    NodeStatus {
        role: Some(Role::PreCandidate),
        leader: None,
        members_known: false,
        ..view(id)
    }
}

fn elsewhere(id: u16) -> NodeStatus {
    NodeStatus {
        cluster_id: Some(ClusterId(8)),
        term: 99,
        ..view(id)
    }
}

/// What the first of `views` says of a cluster of nodes 1 to `size`.
fn described_of(size: u16, views: &[NodeStatus]) -> StatusResponse {
    let membership = (1..=size)
        .map(|id| NodeInfo {
            id: node(id),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        })
        .collect();
    let (own, others) = views.split_first().unwrap();
    let others: BTreeMap<_, _> = others
        .iter()
        .map(|view| (view.raft_id.node_id(), view.clone()))
        .collect();
    describe(own, &membership, others)
}

fn described(views: &[NodeStatus]) -> StatusResponse {
    described_of(3, views)
}

/// Fails unless the cluster is said to be in `state`, in these words.
#[track_caller]
fn says(views: &[NodeStatus], state: ClusterState, words: &str) {
    let response = described(views);
    assert_eq!(
        (response.state(), response.summary.as_str()),
        (state, words)
    );
    assert_eq!(response.healed, state == ClusterState::Healthy);
}

fn roles(response: &StatusResponse) -> Vec<MemberRole> {
    let members = response.members.iter();
    members.map(|member| member.role()).collect()
}

fn percent(views: &[NodeStatus], id: usize) -> Option<u32> {
    described(views).members[id - 1].caught_up_percent
}

const HEALED: &str = "healthy: every member takes part, and the cluster may lose any one of them";

#[test]
fn a_healed_cluster() {
    let response = described(&[view(1), view(2), view(3)]);
    assert_eq!(response.state(), ClusterState::Healthy);
    assert_eq!(response.summary, HEALED);
    assert!(response.healed);
    assert_eq!(response.cluster_id, Some(7));
    assert_eq!(response.leader_id, Some(2));
    assert_eq!((response.term, response.answered_by), (3, 1));
    assert_eq!(
        roles(&response),
        [
            MemberRole::Follower,
            MemberRole::Leader,
            MemberRole::Follower
        ]
    );
    let expected = MemberStatus {
        id: 3,
        raft_id: raft_id(3).get(),
        role: MemberRole::Follower.into(),
        term: 3,
        commit_index: 9,
        applied_index: 8,
        keys: 4,
        addr: "kvstore-3:7379".to_owned(),
        client_addr: "kvstore-3:6379".to_owned(),
        reachable: true,
        joined_at: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 500_000_000,
        }),
        caught_up_percent: None,
    };
    assert_eq!(response.members.last(), Some(&expected));
}

#[test]
fn healed_takes_the_word_of_the_leader_for_exactly_those_who_live() {
    let unknown = NodeStatus {
        members_known: false,
        ..view(2)
    };
    let follows_another = NodeStatus {
        leader: Some(raft_id(1)),
        ..view(3)
    };
    let two_of_one = conf(&[raft_id(1), raft_id(2), raft_id(3), again(3)], &[]);
    let late_learner = conf(&[1, 2, 3].map(raft_id), &[again(1)]);
    let not_told = NodeStatus {
        role: Some(Role::Follower),
        ..view(2)
    };
    let one_more = Arc::new(Conf {
        members: [1, 2, 3, 4].map(node).to_vec(),
        ..(*whole()).clone()
    });
    let one_less = Arc::new(Conf {
        members: [1, 2].map(node).to_vec(),
        ..(*whole()).clone()
    });
    for (leader, third, words) in [
        (
            unknown,
            view(3),
            "healing: every voter is being told who the others are",
        ),
        (
            view(2),
            follows_another,
            "healing node 3: does not follow node 2 yet",
        ),
        (
            leads(two_of_one),
            view(3),
            "healing: removing a former life of node 3",
        ),
        (
            leads(late_learner),
            view(3),
            "healing: removing a former life of node 1",
        ),
        (
            not_told,
            view(3),
            "healing: the leader has just been elected",
        ),
        (leads(one_more), view(3), "healing: letting node 4 in"),
        (leads(one_less), view(3), "healing: removing node 3"),
    ] {
        says(&[view(1), leader, third], ClusterState::Healing, words);
    }
}

#[test]
fn a_small_cluster_is_healed_but_may_lose_nobody() {
    let two = Arc::new(Conf {
        voters: [1, 2].map(raft_id).to_vec(),
        learners: Vec::new(),
        members: [1, 2].map(node).to_vec(),
    });
    let response = described_of(2, &[view(1), leads(two)]);
    assert_eq!(response.summary, "healthy: every member takes part");
    assert!(response.healed);
}

#[test]
fn the_steps_of_a_life_that_replaces_another() {
    let with_learner = || leads(conf(&[1, 2, 3].map(raft_id), &[again(3)]));
    let two_voters = || leads(conf(&[1, 2].map(raft_id), &[again(3)]));
    let behind = NodeStatus {
        applied_index: 4,
        ..learner(3)
    };
    let level = NodeStatus {
        applied_index: 9,
        ..learner(3)
    };
    let empty = NodeStatus {
        applied_index: 0,
        ..learner(3)
    };
    let voter = NodeStatus {
        raft_id: again(3),
        ..view(3)
    };
    let promoted = || leads(conf(&[raft_id(1), raft_id(2), again(3)], &[]));
    let table = [
        (view(2), fresh(3), "waits to be let in", None),
        (view(2), outside(3), "waits to be let in", None),
        (with_learner(), outside(3), "catching up 0 %", Some(0)),
        (with_learner(), empty.clone(), "catching up 0 %", Some(0)),
        (
            with_learner(),
            receiving(500, outside(3)),
            "catching up 45 %",
            Some(45),
        ),
        (
            with_learner(),
            receiving(900, empty),
            "catching up 81 %",
            Some(81),
        ),
        (
            with_learner(),
            receiving(1000, outside(3)),
            "catching up 90 %",
            Some(90),
        ),
        (with_learner(), behind, "catching up 94 %", Some(94)),
        (with_learner(), learner(3), "catching up 98 %", Some(98)),
        (two_voters(), level.clone(), "being made a voter", None),
        (promoted(), level, "being made a voter", None),
        // Late news of its former life had it removed.
        (view(2), voter.clone(), "waits to be let in", None),
    ];
    for (leader, third, words, caught_up) in table {
        let views = [view(1), leader, third];
        let words = format!("healing node 3: {words}");
        says(&views, ClusterState::Healing, &words);
        assert_eq!(percent(&views, 3), caught_up, "{words}");
    }
    says(&[view(1), promoted(), voter], ClusterState::Healthy, HEALED);
}

#[test]
fn the_percent_rises_and_stays_below_100() {
    let leader = NodeStatus {
        commit_index: 70_000,
        ..leads(conf(&[1, 2, 3].map(raft_id), &[again(3)]))
    };
    let snapshot = (0..=1000).map(|received| receiving(received, outside(3)));
    let log = (60_000..70_000).map(|applied_index| NodeStatus {
        applied_index,
        ..learner(3)
    });
    let mut last = 0;
    for third in snapshot.chain(log) {
        let percent = percent(&[view(1), leader.clone(), third], 3).unwrap();
        assert!((last..100).contains(&percent), "{last}, then {percent}");
        last = percent;
    }
    assert_eq!(last, 98);
    // A total that is a lie, or missing.
    let odd = [(0, 0), (7, 0), (u64::MAX, u64::MAX), (u64::MAX, 1)];
    for (received, total) in odd {
        let progress = SnapshotProgress { received, total };
        let third = NodeStatus {
            receiving: Some(progress),
            ..outside(3)
        };
        assert!(percent(&[view(1), view(2), third], 3).unwrap() <= 90);
    }
}

#[test]
fn a_member_that_does_not_answer_degrades_the_cluster() {
    let views = [view(1), view(2)];
    says(
        &views,
        ClusterState::Degraded,
        "degraded: node 3 does not answer",
    );
    let silent = described(&views).members.pop().unwrap();
    assert_eq!(
        (silent.role(), silent.raft_id, silent.reachable),
        (MemberRole::Unspecified, raft_id(3).get(), false)
    );
    // A voter that does not answer cannot be told anything either.
    let cannot_tell = NodeStatus {
        members_known: false,
        ..view(2)
    };
    says(
        &[view(1), cannot_tell],
        ClusterState::Degraded,
        "degraded: node 3 does not answer",
    );
    // The leader itself.
    says(
        &[view(1), view(3)],
        ClusterState::Degraded,
        "degraded: node 2 does not answer",
    );
    says(
        &[view(2)],
        ClusterState::Degraded,
        "degraded: nodes 1 and 3 do not answer",
    );
    says(
        &[fresh(1), view(2)],
        ClusterState::Degraded,
        "degraded: node 3 does not answer; node 1: waits to be let in",
    );
}

#[test]
fn a_member_of_another_cluster_is_outside() {
    let views = [view(1), view(2), elsewhere(3)];
    says(
        &views,
        ClusterState::Degraded,
        "degraded: node 3 belongs to another cluster",
    );
    let response = described(&views);
    assert_eq!(response.leader_id, Some(2));
    assert_eq!(response.members.last().unwrap().role(), MemberRole::Outside);
}

#[test]
fn a_node_that_takes_no_part_describes_the_cluster_that_runs() {
    let gone = NodeStatus {
        cluster_id: Some(ClusterId(1)),
        ..outside(3)
    };
    for own in [fresh(3), outside(3), gone] {
        let response = described(&[own, view(1), view(2)]);
        assert_eq!(response.summary, "healing node 3: waits to be let in");
        assert_eq!(response.cluster_id, Some(7));
        assert_eq!((response.leader_id, response.answered_by), (Some(2), 3));
        assert_eq!(response.members.last().unwrap().role(), MemberRole::Outside);
    }
}

#[test]
fn members_that_come_and_go() {
    let removing = Arc::new(Conf {
        voters: [1, 2, 3, 4].map(raft_id).to_vec(),
        ..(*whole()).clone()
    });
    says(
        &[view(1), leads(removing), view(3)],
        ClusterState::Healing,
        "healing: removing node 4",
    );
    let adding = Arc::new(Conf {
        members: [1, 2, 3, 4].map(node).to_vec(),
        ..(*whole()).clone()
    });
    let leader = || leads(Arc::clone(&adding));
    let silent = described_of(4, &[view(1), leader(), view(3)]);
    assert_eq!(silent.summary, "degraded: node 4 does not answer");
    let there = described_of(4, &[view(1), leader(), view(3), fresh(4)]);
    assert_eq!(there.summary, "healing node 4: waits to be let in");
}

#[test]
fn a_cluster_that_forms() {
    let bound = |id| NodeStatus {
        state: NodeState::Bound,
        cluster_id: Some(CLUSTER),
        ..fresh(id)
    };
    says(
        &[fresh(1)],
        ClusterState::Forming,
        "forming: waiting for nodes 2 and 3",
    );
    says(
        &[fresh(1), bound(2)],
        ClusterState::Forming,
        "forming: waiting for node 3 (to form without it: seshat form --without 3)",
    );
    let five = described_of(5, &[fresh(1), fresh(2), fresh(4)]);
    assert_eq!(
        five.summary,
        "forming: waiting for nodes 3 and 5 (to form without them: seshat form --without 3,5)"
    );
    assert_eq!(five.cluster_id, None);
    let all = [bound(1), bound(2), bound(3)];
    says(
        &all,
        ClusterState::Forming,
        "forming: every initial member is there, the cluster is about to start",
    );
    assert_eq!(roles(&described(&all)), [MemberRole::Forming; 3]);
    let views = [view(1), view(2), bound(3)];
    says(
        &views,
        ClusterState::Healing,
        "healing node 3: has not started yet",
    );
    assert_eq!(roles(&described(&views))[2], MemberRole::Forming);
}

#[test]
fn without_a_leader_there_is_no_quorum() {
    for (views, words) in [
        (
            vec![leaderless(1)],
            "no quorum: nodes 2 and 3 do not answer",
        ),
        (
            vec![leaderless(1), leaderless(2), leaderless(3)],
            "no quorum: no leader yet, an election is under way",
        ),
        (
            vec![leaderless(1), outside(2)],
            "no quorum: node 3 does not answer; node 2: waits to be let in",
        ),
        // Followers do not know yet that their leader has lost its memory.
        (
            vec![view(1), fresh(2), view(3)],
            "no quorum: node 2: waits to be let in",
        ),
    ] {
        says(&views, ClusterState::NoQuorum, words);
        assert_eq!(described(&views).leader_id, None);
    }
    let all = described(&[leaderless(1), leaderless(2), leaderless(3)]);
    assert_eq!(roles(&all), [MemberRole::Candidate; 3]);
}

#[test]
fn a_cluster_that_has_lost_too_many_voters_is_halted() {
    let forgotten_learner = |id| NodeStatus {
        leader: None,
        conf: conf(&[1, 2, 3].map(raft_id), &[again(id)]),
        ..learner(id)
    };
    let ahead = NodeStatus {
        last_index: 10,
        ..leaderless(3)
    };
    let of_3 = |lost: &str, survivor: u16| {
        format!(
            "halted: 2 of 3 lost their memory ({lost}); what node {survivor} still has can be \
             recovered: seshat recover --from {survivor}"
        )
    };
    for (views, words) in [
        (
            vec![outside(1), fresh(2), leaderless(3)],
            of_3("nodes 1 and 2", 3),
        ),
        (
            vec![leaderless(3), outside(1), fresh(2)],
            of_3("nodes 1 and 2", 3),
        ),
        // A second loss while node 3 was catching up. What it has is not the whole state.
        (
            vec![leaderless(1), outside(2), forgotten_learner(3)],
            of_3("nodes 2 and 3", 1),
        ),
        (
            vec![leaderless(1), outside(2), elsewhere(3)],
            of_3("nodes 2 and 3", 1),
        ),
    ] {
        says(&views, ClusterState::Halted, &words);
    }
    let five = Arc::new(Conf {
        voters: (1..=5).map(raft_id).collect(),
        learners: Vec::new(),
        members: (1..=5).map(node).collect(),
    });
    let survivor = |status: NodeStatus| NodeStatus {
        conf: Arc::clone(&five),
        ..status
    };
    let lost = [outside(1), outside(4), outside(5)];
    let two = [survivor(leaderless(2)), survivor(ahead.clone())];
    let response = described_of(5, &[&lost[..], &two[..]].concat());
    assert_eq!(
        response.summary,
        "halted: 3 of 5 lost their memory (nodes 1, 4 and 5); what node 3 still has can be \
         recovered: seshat recover --from 3"
    );
    // Whoever is silent may come back, or may have been lost: that changes nothing.
    let response = described_of(5, &[&lost[..], &two[1..]].concat());
    assert_eq!(response.state(), ClusterState::Halted);
}

#[test]
fn what_may_still_come_back_is_not_halted() {
    let no_leader = |status: NodeStatus, conf| NodeStatus {
        leader: None,
        conf,
        ..status
    };
    let ours = |voters: &[RaftId], learners: &[RaftId]| conf(voters, learners);
    for views in [
        // One was lost, one is silent.
        vec![leaderless(1), outside(2)],
        vec![outside(1), outside(2)],
        vec![outside(1), outside(2), outside(3)],
        // Node 1 may have made node 3 a voter, which node 3 may not know.
        vec![
            no_leader(learner(3), ours(&[1, 2].map(raft_id), &[again(3)])),
            outside(2),
        ],
        // Node 1 has not heard yet that node 3 was taken back.
        vec![
            leaderless(1),
            outside(2),
            NodeStatus {
                raft_id: again(3),
                ..no_leader(view(3), ours(&[raft_id(1), raft_id(2), again(3)], &[]))
            },
        ],
    ] {
        let response = described(&views);
        assert_eq!(response.state(), ClusterState::NoQuorum, "{response:?}");
    }
}

#[test]
fn the_highest_term_knows_who_leads() {
    let replaced = NodeStatus {
        term: 2,
        leader: Some(raft_id(1)),
        role: Some(Role::Leader),
        members_known: true,
        ..view(1)
    };
    says(
        &[replaced, view(2), view(3)],
        ClusterState::Healing,
        "healing node 1: does not follow node 2 yet",
    );
    let response = described(&[leaderless(1), view(2), view(3)]);
    assert_eq!(response.leader_id, Some(2));
}

#[test]
fn node_ids_are_listed_as_one_says_them() {
    assert_eq!(nodes(&[node(1), node(2), node(3)]), "nodes 1, 2 and 3");
}
