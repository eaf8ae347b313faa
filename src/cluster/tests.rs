//! The judgement of clusters, given the statuses of their members.

use std::sync::Arc;

use super::phrases::nodes;
use super::*;
use crate::types::{
    ClusterId, Conf, Following, NodeInfo, NodeState, RaftId, Role, SnapshotId, SnapshotProgress,
};

const CLUSTER: ClusterId = ClusterId(7);

fn node(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The first incarnation of the node.
fn raft_id(id: u16) -> RaftId {
    RaftId::new(node(id), 0xabc)
}

/// Another incarnation of the node.
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
        conf: whole(),
        members_known: leads,
        following: leads.then(|| following(&[1, 2, 3].map(raft_id))),
        ..NodeStatus::fresh(raft_id(id))
    }
}

/// These processes have acknowledged what the leader held one election timeout ago: entry 9, the last
/// one. Entry 8 was committed then.
fn following(acknowledged_by: &[RaftId]) -> Arc<Following> {
    Arc::new(Following {
        last_index: 9,
        commit_index: 8,
        acknowledged_by: acknowledged_by.to_vec(),
    })
}

/// Node 2 leads the voters and learners of `conf`, all of whom follow.
fn leads(conf: Arc<Conf>) -> NodeStatus {
    let all: Vec<_> = conf.voters.iter().chain(&conf.learners).copied().collect();
    NodeStatus {
        conf,
        following: Some(following(&all)),
        ..view(2)
    }
}

/// Another incarnation of the node, which belongs to no cluster yet.
fn fresh(id: u16) -> NodeStatus {
    NodeStatus::fresh(again(id))
}

/// Another incarnation of the node, which knows that its cluster runs.
fn outside(id: u16) -> NodeStatus {
    NodeStatus {
        state: NodeState::Outside,
        cluster_id: Some(CLUSTER),
        ..fresh(id)
    }
}

/// Another incarnation of the node, which receives the log and does not vote.
fn learner(id: u16) -> NodeStatus {
    NodeStatus {
        raft_id: again(id),
        role: Some(Role::Learner),
        conf: conf(&[1, 2].map(raft_id), &[again(id)]),
        ..view(id)
    }
}

fn progress(received: u64, total: u64) -> SnapshotProgress {
    SnapshotProgress {
        received,
        total,
        id: SnapshotId::default(),
    }
}

fn receiving(received: u64, status: NodeStatus) -> NodeStatus {
    let total = 1000;
    NodeStatus {
        receiving: Some(progress(received, total)),
        ..status
    }
}

fn leaderless(id: u16) -> NodeStatus {
    NodeStatus {
        role: Some(Role::PreCandidate),
        leader: None,
        members_known: false,
        following: None,
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

/// The survey by the first of `views` of a cluster of nodes 1 to `size`.
fn surveyed_of(size: u16, views: &[NodeStatus]) -> Survey {
    let members: ClusterMembership = (1..=size).map(info).collect();
    let (own, others) = views.split_first().unwrap();
    let answers = others
        .iter()
        .map(|view| (view.raft_id.node_id(), Ok(view.clone())));
    Survey::new(own.clone(), Arc::new(members), answers)
}

fn info(id: u16) -> NodeInfo {
    NodeInfo {
        id: node(id),
        addr: format!("kvstore-{id}:7379"),
        client_addr: format!("kvstore-{id}:6379"),
    }
}

/// Fails unless `survey` shows a cluster in `state`, with this summary.
#[track_caller]
fn shows(survey: &Survey, state: State, words: &str) {
    let cluster_view = ClusterView::new(survey);
    let (found, summary) = cluster_view.sum_up();
    assert_eq!((found, summary.as_str()), (state, words));
    assert_eq!(cluster_view.is_healed(), state == State::Healthy);
}

#[track_caller]
fn says_of(size: u16, views: &[NodeStatus], state: State, words: &str) {
    shows(&surveyed_of(size, views), state, words);
}

/// Fails unless the first of `views` shows a cluster of three in `state`, with this summary.
#[track_caller]
fn says(views: &[NodeStatus], state: State, words: &str) {
    says_of(3, views, state, words);
}

fn leader(views: &[NodeStatus]) -> Option<u16> {
    let survey = surveyed_of(3, views);
    let leader = ClusterView::new(&survey).leader();
    leader.map(|leader| leader.node_id().get())
}

fn percent(views: &[NodeStatus], id: u16) -> Option<u32> {
    let survey = surveyed_of(3, views);
    match ClusterView::new(&survey).member_state(node(id)) {
        MemberState::CatchingUp(percent) => Some(percent),
        _ => None,
    }
}

const HEALED: &str = "healthy: every member takes part, and the cluster may lose any one of them";

#[test]
fn a_healed_cluster() {
    let views = [view(1), view(2), view(3)];
    says(&views, State::Healthy, HEALED);
    assert_eq!(leader(&views), Some(2));
}

#[test]
fn little_room_for_the_state_is_told_with_the_member_that_has_it() {
    let with = |id, state_bytes, max_state_bytes| NodeStatus {
        state_bytes,
        max_state_bytes,
        ..view(id)
    };
    let words = |members: &str, taken| {
        format!(
            "{HEALED}; the state takes {taken} of at most 1000 bytes, the limits.max_state_bytes of \
             {members}: delete keys, or raise that there"
        )
    };
    let of_third = |taken| [with(1, 0, 2_000), with(2, taken, 2_000), with(3, 0, 1_000)];
    says(&of_third(900), State::Healthy, HEALED);
    says(&of_third(901), State::Healthy, &words("node 3", 901));
    says(&of_third(1_500), State::Healthy, &words("node 3", 1_500));
    let unknown = [with(1, 0, 0), with(2, 950, 1_000), with(3, 0, 1_000)];
    says(&unknown, State::Healthy, &words("nodes 2 and 3", 950));
}

#[test]
fn healed_needs_every_process_to_know_the_leader_and_the_members() {
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
    // Answered before it was elected.
    let not_told = NodeStatus {
        role: Some(Role::Candidate),
        leader: None,
        ..view(2)
    };
    let no_tick_yet = NodeStatus {
        following: None,
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
            "healing: the last change of voters is being announced to every voter",
        ),
        (
            view(2),
            follows_another,
            "healing node 3: does not follow node 2 yet",
        ),
        (
            leads(two_of_one),
            view(3),
            "healing: removing an earlier incarnation of node 3",
        ),
        (
            leads(late_learner),
            view(3),
            "healing: removing an earlier incarnation of node 1",
        ),
        (
            not_told,
            view(3),
            "healing: the leader has just been elected",
        ),
        (
            no_tick_yet,
            view(3),
            "healing: the leader has just been elected",
        ),
        (leads(one_more), view(3), "healing: letting node 4 in"),
        (leads(one_less), view(3), "healing: removing node 3"),
    ] {
        says(&[view(1), leader, third], State::Healing, words);
    }
}

#[test]
fn the_steps_of_an_incarnation_that_replaces_another() {
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
        (
            with_learner(),
            outside(3),
            "asked in, has not joined yet",
            Some(0),
        ),
        (
            with_learner(),
            NodeStatus {
                unconfirmed: true,
                ..outside(3)
            },
            "does not join, as it knows no node that takes part: list nodes 1 and 2 in its \
             cluster.initial_members, and start it again",
            Some(0),
        ),
        (with_learner(), empty.clone(), "catching up 0 %", Some(0)),
        (
            NodeStatus {
                state_bytes: 2_000,
                ..with_learner()
            },
            NodeStatus {
                max_state_bytes: 1_000,
                ..empty.clone()
            },
            "catching up 0 % (the state takes 2000 bytes, and its limits.max_state_bytes is 1000: \
             raise that, and start it again)",
            Some(0),
        ),
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
        // Late news of its earlier incarnation had it removed.
        (view(2), voter.clone(), "waits to be let in", None),
    ];
    for (leader, third, words, caught_up) in table {
        let views = [view(1), leader, third];
        let words = format!("healing node 3: {words}");
        says(&views, State::Healing, &words);
        assert_eq!(percent(&views, 3), caught_up, "{words}");
    }
    says(&[view(1), promoted(), voter], State::Healthy, HEALED);
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
    // A wrong or missing total.
    let odd = [(0, 0), (7, 0), (u64::MAX, u64::MAX), (u64::MAX, 1)];
    for (received, total) in odd {
        let progress = progress(received, total);
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
    says(&views, State::Degraded, "degraded: node 3 does not answer");
    let survey = surveyed_of(3, &views);
    assert_eq!(
        ClusterView::new(&survey).known_as(node(3)),
        Some(raft_id(3))
    );
    // A voter that does not answer cannot be informed either.
    let cannot_tell = NodeStatus {
        members_known: false,
        ..view(2)
    };
    says(
        &[view(1), cannot_tell],
        State::Degraded,
        "degraded: node 3 does not answer",
    );
    // The leader itself.
    says(
        &[view(1), view(3)],
        State::Degraded,
        "degraded: node 2 does not answer",
    );
    says(
        &[view(2)],
        State::Degraded,
        "degraded: nodes 1 and 3 do not answer",
    );
    says(
        &[fresh(1), view(2)],
        State::Degraded,
        "degraded: node 3 does not answer; node 1: waits to be let in",
    );
}

#[test]
fn a_member_of_another_cluster_is_outside() {
    let views = [view(1), view(2), elsewhere(3)];
    says(
        &views,
        State::Degraded,
        "degraded: node 3 belongs to another cluster",
    );
    assert_eq!(leader(&views), Some(2));
}

/// Node 2 has recovered the cluster during the survey: node 3 had answered before it was added. If an
/// operator restarted node 3 as a member of another cluster, a voter would be lost.
#[test]
fn an_answer_that_is_older_than_a_recovery_says_nothing() {
    let survey = || surveyed_of(3, &[view(2), elsewhere(3), view(1)]);
    let member_state = |survey: Survey| ClusterView::new(&survey).member_state(node(3));
    assert_eq!(member_state(survey()), MemberState::Elsewhere);
    let now = survey().begun_in(Some(CLUSTER));
    assert_eq!(member_state(now), MemberState::Elsewhere);
    let joined = survey().begun_in(None);
    assert_eq!(member_state(joined), MemberState::Elsewhere);
    let before = survey().begun_in(Some(ClusterId(8)));
    assert!(!ClusterView::new(&before).is_healed());
    assert_eq!(member_state(before), MemberState::Absent(Answering::Silent));
}

/// It answered before it heard of the later offer that has started meanwhile. If an operator restarted it
/// as left over, a voter would be lost.
#[test]
fn a_process_that_is_bound_to_an_earlier_offer_belongs_to_no_other_cluster() {
    let bound = NodeStatus {
        state: NodeState::Prepared,
        cluster_id: Some(ClusterId(8)),
        ..fresh(3)
    };
    says(
        &[view(1), view(2), bound],
        State::Healing,
        "healing node 3: has not started yet",
    );
}

/// Node 2 has recovered the cluster of node 1, which has joined the new one since it was told of the old
/// one. If an operator restarted node 2, the last copy would be lost.
#[test]
fn a_leader_that_has_answered_before_it_recovered_belongs_to_no_other_cluster() {
    let own = NodeStatus {
        leader: Some(raft_id(2)),
        ..learner(1)
    };
    let survey = surveyed_of(3, &[own, elsewhere(2), fresh(3)]);
    let member_state = ClusterView::new(&survey).member_state(node(2));
    assert_eq!(member_state, MemberState::Whole);
}

#[test]
fn a_node_that_takes_no_part_describes_the_cluster_that_runs() {
    let gone = NodeStatus {
        cluster_id: Some(ClusterId(1)),
        ..outside(3)
    };
    for own in [fresh(3), outside(3), gone] {
        let views = [own, view(1), view(2)];
        says(&views, State::Healing, "healing node 3: waits to be let in");
        let survey = surveyed_of(3, &views);
        assert_eq!(ClusterView::new(&survey).cluster(), Some(CLUSTER));
        assert_eq!((leader(&views), survey.own()), (Some(2), node(3)));
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
        State::Healing,
        "healing: removing node 4",
    );
    let adding = Arc::new(Conf {
        members: [1, 2, 3, 4].map(node).to_vec(),
        ..(*whole()).clone()
    });
    let leader = || leads(Arc::clone(&adding));
    says_of(
        4,
        &[view(1), leader(), view(3)],
        State::Degraded,
        "degraded: node 4 does not answer",
    );
    says_of(
        4,
        &[view(1), leader(), view(3), fresh(4)],
        State::Healing,
        "healing node 4: waits to be let in",
    );
}

#[test]
fn a_cluster_that_forms() {
    let bound = |id| NodeStatus {
        state: NodeState::Prepared,
        cluster_id: Some(CLUSTER),
        ..fresh(id)
    };
    says(
        &[fresh(1)],
        State::Forming,
        "forming: waiting for nodes 2 and 3",
    );
    says(
        &[fresh(1), bound(2)],
        State::Forming,
        "forming: waiting for node 3 (if it is gone for good: seshat form --without 3)",
    );
    says_of(
        5,
        &[fresh(1), fresh(2), fresh(4)],
        State::Forming,
        "forming: waiting for nodes 3 and 5 (if they are gone for good: seshat form --without 3,5)",
    );
    let all = [bound(1), bound(2), bound(3)];
    says(
        &all,
        State::Forming,
        "forming: every initial member is there, the cluster is about to start",
    );
    // Only the first of them can tell whether they reach one another as well.
    says(
        &[bound(3), bound(1), bound(2)],
        State::Forming,
        "forming: every initial member answers node 3; node 1 starts the cluster when all of them \
         answer it as well (if that lasts, look at the addresses in the file of node 1, and at its log)",
    );
    let views = [view(1), view(2), bound(3)];
    says(
        &views,
        State::Healing,
        "healing node 3: has not started yet",
    );
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
        says(&views, State::NoQuorum, words);
        assert_eq!(leader(&views), None);
    }
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
        // A second loss while node 3 was catching up: it does not have the whole state.
        (
            vec![leaderless(1), outside(2), forgotten_learner(3)],
            of_3("nodes 2 and 3", 1),
        ),
    ] {
        says(&views, State::Halted, &words);
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
    let words = "halted: 3 of 5 lost their memory (nodes 1, 4 and 5); what node 3 still has can be \
                 recovered: seshat recover --from 3";
    says_of(5, &[&lost[..], &two[..]].concat(), State::Halted, words);
    // A silent node may come back, or may have been lost: that changes nothing.
    let words = format!("{words} --without 2 (if node 2 can never answer again)");
    says_of(5, &[&lost[..], &two[1..]].concat(), State::Halted, &words);
}

/// Node 1 was being added when the others lost everything, and they wait for its cluster.
#[test]
fn a_process_that_has_received_nothing_delays_no_other_for_ever() {
    let empty = NodeStatus {
        role: Some(Role::Learner),
        leader: None,
        conf: Arc::default(),
        members_known: false,
        following: None,
        commit_index: 0,
        applied_index: 0,
        last_index: 0,
        last_term: 0,
        ..view(1)
    };
    let words = "halted: every member has lost its memory, and nothing can be recovered; a new cluster \
                 forms when you start node 1 again";
    says(
        &[outside(2), empty.clone(), outside(3)],
        State::Halted,
        words,
    );
    // The leader may come back.
    let survey = surveyed_of(3, &[outside(2), empty]);
    assert!(ClusterView::new(&survey).left_over().is_empty());
}

#[test]
fn a_left_over_process_is_told_to_join_the_recovered_cluster() {
    says(
        &[leaderless(1), outside(2), elsewhere(3)],
        State::NoQuorum,
        "no quorum: node 3 takes part in cluster 0000000000000008. If that was recovered from this one, \
         this node is left over: once every other member takes part there, start it again. If it was \
         formed anew, this node may have the last copy: leave it running, and start the others again",
    );
}

#[test]
fn a_cluster_whose_members_may_return_is_not_halted() {
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
        // Node 1 has not heard yet that node 3 was added back.
        vec![
            leaderless(1),
            outside(2),
            NodeStatus {
                raft_id: again(3),
                ..no_leader(view(3), ours(&[raft_id(1), raft_id(2), again(3)], &[]))
            },
        ],
    ] {
        let survey = surveyed_of(3, &views);
        let (state, words) = ClusterView::new(&survey).sum_up();
        assert_eq!(state, State::NoQuorum, "{words}");
    }
}

#[test]
fn the_leader_of_the_highest_term_counts() {
    let replaced = NodeStatus {
        term: 2,
        leader: Some(raft_id(1)),
        role: Some(Role::Leader),
        members_known: true,
        ..view(1)
    };
    says(
        &[replaced, view(2), view(3)],
        State::Healing,
        "healing node 1: does not follow node 2 yet",
    );
    assert_eq!(leader(&[leaderless(1), view(2), view(3)]), Some(2));
}

#[test]
fn node_ids_are_listed_as_one_says_them() {
    assert_eq!(nodes(&[node(1), node(2), node(3)]), "nodes 1, 2 and 3");
}

#[test]
fn a_cluster_of_fewer_than_three_is_never_healed() {
    let conf_of = |ids: &[u16]| {
        Arc::new(Conf {
            voters: ids.iter().copied().map(raft_id).collect(),
            learners: Vec::new(),
            members: ids.iter().copied().map(node).collect(),
        })
    };
    says_of(
        2,
        &[view(1), leads(conf_of(&[1, 2]))],
        State::NoSpare,
        "no spare: 2 members take part, and restarting any one of them halts the cluster",
    );
    let alone = NodeStatus {
        raft_id: raft_id(1),
        leader: Some(raft_id(1)),
        ..leads(conf_of(&[1]))
    };
    let alone = NodeStatus {
        following: Some(following(&[raft_id(1)])),
        ..alone
    };
    says_of(
        1,
        &[alone],
        State::NoSpare,
        "no spare: 1 member takes part, and restarting it loses all data",
    );
}

#[test]
fn four_members_can_lose_one_and_say_so() {
    let conf = Arc::new(Conf {
        voters: [1, 2, 3, 4].map(raft_id).to_vec(),
        learners: Vec::new(),
        members: [1, 2, 3, 4].map(node).to_vec(),
    });
    let views = [view(1), leads(conf), view(3), view(4)];
    says_of(4, &views, State::Healthy, HEALED);
}

/// Seen: heartbeats arrive and appends do not, so every write hangs, and the cluster was called healthy.
#[test]
fn a_leader_that_commits_nothing_is_not_healthy() {
    let stuck = NodeStatus {
        commit_index: 8,
        following: Some(following(&[raft_id(2)])),
        ..view(2)
    };
    says(
        &[view(1), stuck, view(3)],
        State::Degraded,
        "degraded: writes are not committed; nodes 1 and 3 do not keep up with the leader's log",
    );
}

/// Seen: a follower stuck at commit 4 against 9, in a cluster that was called healthy.
#[test]
fn a_voter_whose_log_does_not_follow_is_not_healthy() {
    let words = "degraded: node 3 does not keep up with the leader's log";
    let at_4 = NodeStatus {
        commit_index: 4,
        applied_index: 4,
        last_index: 4,
        ..view(3)
    };
    let leader = NodeStatus {
        following: Some(following(&[1, 2].map(raft_id))),
        ..view(2)
    };
    says(&[view(1), leader, at_4.clone()], State::Degraded, words);
    // It has acknowledged everything, but does not commit or apply it.
    let holds_all = NodeStatus {
        last_index: 9,
        ..at_4
    };
    says(&[view(1), view(2), holds_all], State::Degraded, words);
    // Entries that the leader has appended since then may be on their way to all of them.
    let under_load = NodeStatus {
        commit_index: 20,
        applied_index: 19,
        last_index: 30,
        ..view(2)
    };
    says(&[view(1), under_load, view(3)], State::Healthy, HEALED);
}

/// Seen: node 3 lost its memory while node 2 was catching up, and the summary said for ever that node 1
/// was about to follow itself, because the learner believed in it.
#[test]
fn a_node_that_denies_it_is_not_taken_for_the_leader() {
    let conf = conf(&[1, 3].map(raft_id), &[again(2)]);
    let learner = |leader| NodeStatus {
        role: Some(Role::Learner),
        leader,
        conf: Arc::clone(&conf),
        raft_id: again(2),
        ..leaderless(2)
    };
    let stepped_down = |role| NodeStatus {
        role: Some(role),
        conf: Arc::clone(&conf),
        ..leaderless(1)
    };
    let words = "halted: 1 of 2 lost their memory (node 3); what node 1 still has can be recovered: \
                 seshat recover --from 1";
    for role in [Role::Follower, Role::PreCandidate] {
        says(
            &[stepped_down(role), learner(None), fresh(3)],
            State::Halted,
            words,
        );
        // It has heard of it a moment ago.
        let views = [stepped_down(role), learner(Some(raft_id(1))), fresh(3)];
        says(
            &views,
            State::NoQuorum,
            "no quorum: node 2: catching up 98 %; node 3: waits to be let in",
        );
        assert_eq!(leader(&views), None);
    }
    // The leader itself has died.
    let survivor = NodeStatus {
        conf: Arc::clone(&conf),
        ..leaderless(3)
    };
    for believes in [None, Some(raft_id(1))] {
        says(
            &[outside(1), learner(believes), survivor.clone()],
            State::Halted,
            "halted: 1 of 2 lost their memory (node 1); what node 3 still has can be recovered: \
             seshat recover --from 3",
        );
    }
}

#[test]
fn the_state_of_a_learner_is_recommended_as_incomplete() {
    let learner = NodeStatus {
        role: Some(Role::Learner),
        raft_id: again(2),
        leader: None,
        conf: conf(&[1, 3].map(raft_id), &[again(2)]),
        ..view(2)
    };
    says(
        &[outside(1), learner, outside(3)],
        State::Halted,
        "halted: 2 of 2 lost their memory (nodes 1 and 3); what node 2 still has can be recovered: \
         seshat recover --from 2 --incomplete",
    );
}

const HUNG: &str = "node 3 accepts connections and does not answer: it may hang, and hold the last copy; \
                    let it go on, or, if what it holds may be lost, end it or disconnect it";

/// If there is a leader, a member that hangs is only missing, and not the last copy.
#[test]
fn a_member_that_hangs_is_named_and_no_survivor_recovers_without_it() {
    let members = Arc::new((1..=3).map(info).collect::<ClusterMembership>());
    let hangs = (node(3), Err(Answering::Hung));
    let answers = [(node(2), Ok(view(2))), hangs.clone()];
    let led = Survey::new(view(1), Arc::clone(&members), answers);
    let words = "degraded: node 3 accepts connections and does not answer";
    shows(&led, State::Degraded, words);

    let survivor = NodeStatus {
        leader: None,
        ..view(1)
    };
    let answers = [(node(2), Ok(fresh(2))), hangs];
    let survey = Survey::new(survivor, members, answers);
    let (_, said) = ClusterView::new(&survey).sum_up();
    assert!(
        said.contains(HUNG) && !said.contains("seshat recover"),
        "{said}"
    );
}

/// The survey of node 1 in a forming cluster, with `answering` at the address of node 3.
fn forming_with(answering: Answering) -> Survey {
    let members = (1..=3).map(info).collect::<ClusterMembership>();
    let answers = [(node(2), Ok(fresh(2))), (node(3), Err(answering))];
    Survey::new(fresh(1), Arc::new(members), answers)
}

/// Seen: the two addresses of node 3 were swapped, and the operator was told to form without it.
#[test]
fn only_a_node_that_is_silent_may_be_formed_without() {
    let offer = "forming: waiting for node 3 (if it is gone for good: seshat form --without 3)";
    shows(&forming_with(Answering::Silent), State::Forming, offer);
    let at = "forming: waiting for node 3 (node 3: its address kvstore-3:7379 leads to";
    for (answering, words) in [
        (
            Answering::Refusing,
            "forming: waiting for node 3 (node 3 refuses to say how it is)".to_owned(),
        ),
        (
            Answering::ClientPort,
            format!("{at} the client port of a node)"),
        ),
        (
            Answering::OtherService,
            format!("{at} a gRPC server that is no node)"),
        ),
        (
            Answering::NotGrpc,
            format!("{at} something that does not speak gRPC)"),
        ),
        (Answering::OtherNode(node(2)), format!("{at} node 2)")),
        (
            Answering::Hung,
            format!("forming: waiting for node 3 ({HUNG})"),
        ),
    ] {
        shows(&forming_with(answering), State::Forming, &words);
    }
    // An answer of another node is recognised.
    let members = (1..=3).map(info).collect::<ClusterMembership>();
    let answers = [(node(2), Ok(fresh(2))), (node(3), Ok(fresh(2)))];
    let survey = Survey::new(fresh(1), Arc::new(members), answers);
    shows(&survey, State::Forming, &format!("{at} node 2)"));
}

#[test]
fn a_wrong_address_is_named_in_a_cluster_that_runs() {
    let members = (1..=3).map(info).collect::<ClusterMembership>();
    let answers = [
        (node(2), Ok(view(2))),
        (node(3), Err(Answering::ClientPort)),
    ];
    let survey = Survey::new(view(1), Arc::new(members), answers);
    shows(
        &survey,
        State::Degraded,
        "degraded: node 3: its address kvstore-3:7379 leads to the client port of a node",
    );
}

/// Seen: two processes with one node id took turns, and the voters changed with each turn, without any
/// message.
#[test]
fn two_processes_of_one_node_are_named() {
    let leader = NodeStatus {
        doubled: vec![[raft_id(3), again(3)]],
        ..view(2)
    };
    let words = "degraded: node 3 (kvstore-3:7379): two processes run under its id, 3.000000000abc and \
                 3.000000000def: stop one";
    says(&[view(1), leader.clone(), view(3)], State::Degraded, words);
    let words = format!("{words}; node 3: waits to be let in");
    says(&[view(1), leader, fresh(3)], State::Degraded, &words);
}

#[test]
fn an_operator_is_not_told_lightly_to_form_without_members_of_a_former_cluster() {
    let waits = |id| NodeStatus {
        awaits: [4, 5].map(node).to_vec(),
        ..fresh(id)
    };
    says(
        &[waits(1), fresh(2), fresh(3)],
        State::Forming,
        "forming: waiting for nodes 4 and 5; nodes 4 and 5 may still hold the data of a former \
         cluster: start what is left of it. Only if that is gone for good: seshat form --without 4,5",
    );
}

/// Seen: a cluster had grown to five, and nodes 1 to 3 lost their memory. Their summary did not mention
/// nodes 4 and 5, which had the last copies.
#[test]
fn a_node_that_takes_no_part_shows_the_members_of_the_cluster_that_runs() {
    let five = Arc::new(Conf {
        voters: (1..=5).map(raft_id).collect(),
        learners: Vec::new(),
        members: (1..=5).map(node).collect(),
    });
    let survivor = |id| NodeStatus {
        conf: Arc::clone(&five),
        ..leaderless(id)
    };
    let views = [outside(1), outside(2), outside(3), survivor(4), survivor(5)];
    let told: ClusterMembership = (1..=4).map(info).collect();
    let survey = surveyed_of(3, &views).with_nodes(&told);
    let shown: Vec<_> = survey.members().iter().cloned().collect();
    // The address of node 5 is unknown.
    let expected = [1, 2, 3, 4].map(info).into_iter();
    assert_eq!(
        shown,
        expected
            .chain([NodeInfo::nowhere(node(5))])
            .collect::<Vec<_>>()
    );
    shows(
        &survey,
        State::Halted,
        "halted: 3 of 5 lost their memory (nodes 1, 2 and 3); what node 5 still has can be recovered: \
         seshat recover --from 5",
    );

    // A process that takes part knows the members better than any answer.
    let survey = surveyed_of(3, &[view(1), survivor(2)]).with_nodes(&told);
    assert_eq!(survey.members().len(), 3);
}

#[test]
fn files_that_contradict_one_another_are_named() {
    let differs = NodeStatus {
        differs_from: Some(node(1)),
        ..fresh(2)
    };
    says(
        &[fresh(3), fresh(1), differs],
        State::Forming,
        "forming: cluster.initial_members of nodes 1 and 2 differ: make them the same on every node, and \
         start again those whose file has changed",
    );
}
