//! The status of a cluster from whole nodes when the cluster is not what it seems: without sockets, and
//! under a clock that the test controls.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::time::Duration;

use seshat::proto::admin::{
    AddMemberRequest, ClusterState, RemoveMemberRequest, StatusRequest, StatusResponse,
};
use seshat::proto::kv::SetRequest;
use seshat::proto::kv::error_detail::Reason;
use seshat::types::{NodeInfo, NodeState, Role};
use seshat_test_support::fabric::{Fabric, Node, info, leader_first};
use seshat_test_support::{InTime as _, node_id, refused};
use tokio::time::{Instant, sleep};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

const HEALTHY: &str = "healthy: every member takes part, and the cluster may lose any one of them";

/// Longest wait for anything, on the clock of the test.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

async fn status(node: &mut Node) -> StatusResponse {
    let request = StatusRequest {
        fresh: true,
        ..StatusRequest::default()
    };
    node.admin.status(request).await.unwrap().into_inner()
}

/// Asks `node` until its status is `words`.
async fn until(node: &mut Node, words: &str) -> StatusResponse {
    let began = Instant::now();
    loop {
        let response = status(node).await;
        if response.summary == words {
            return response;
        }
        let said = response.summary;
        assert!(began.elapsed() < TEST_TIMEOUT, "for ever: {said}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn set() -> SetRequest {
    SetRequest {
        key: "k".into(),
        value: "v".into(),
        session: None,
        ..SetRequest::default()
    }
}

/// Seen: every write hung, and the cluster was healthy, because heartbeats arrived.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_commits_nothing_is_not_healthy() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    leader.kv.set(set()).await.unwrap();
    until(&mut followers[0], HEALTHY).await;

    let mut ids = [followers[0].id, followers[1].id];
    ids.sort_unstable();
    for id in ids {
        fabric.drop_log_traffic_to(id);
    }
    let mut kv = leader.kv.clone();
    let write = tokio::spawn(async move { kv.set(set()).await });
    let [one, two] = ids;
    let words = format!(
        "degraded: writes are not committed; nodes {one} and {two} do not keep up with the leader's \
         log"
    );
    for node in [&mut leader, &mut followers[0]] {
        let response = until(node, &words).await;
        assert_eq!(response.state(), ClusterState::Degraded);
        assert!(!response.healed);
        assert!(response.members.iter().all(|member| member.reachable));
    }
    fabric.heal();
    until(&mut leader, HEALTHY).await;
    write.in_time("a write").await.unwrap().unwrap();
}

/// Seen: a follower stuck at commit 4 against 9 in a healthy cluster.
#[tokio::test(start_paused = true)]
async fn a_follower_whose_log_is_stuck_is_named() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, followers) = leader_first(nodes);
    until(&mut leader, HEALTHY).await;
    let stuck = followers[0].id;
    fabric.drop_log_traffic_to(stuck);
    for _ in 0..5 {
        leader.kv.set(set()).await.unwrap();
    }
    let words = format!("degraded: node {stuck} does not keep up with the leader's log");
    until(&mut leader, &words).await;
    fabric.heal();
    until(&mut leader, HEALTHY).await;
}

async fn serves(node: &mut Node) -> ServingStatus {
    let request = HealthCheckRequest {
        service: "seshat.kv.v1.KvService".to_owned(),
    };
    let response = node.health.check(request).await.unwrap();
    response.into_inner().status()
}

/// Seen: node 2 was catching up when node 3 lost its memory. The learner believed in its leader for
/// ever, so no status reported that the cluster had halted, and the learner sent clients to a node that
/// did not lead.
#[tokio::test(start_paused = true)]
async fn a_learner_that_believes_in_its_leader_does_not_hide_that_the_cluster_has_halted() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    until(&mut leader, HEALTHY).await;
    let (two, three) = (followers[0].id, followers[1].id);
    followers[0].kill().await;
    fabric.drop_log_traffic_to(two);
    let mut learner = fabric.start(two.get(), 2).await;
    let mut its = learner.driver.watch();
    let joined = its.wait_for(|status| status.role == Some(Role::Learner));
    joined.in_time("a node that joins").await.unwrap();
    assert_eq!(serves(&mut learner).await, ServingStatus::Serving);

    followers[1].kill().await;
    let mut again = fabric.start(three.get(), 2).await;
    let mut lost = [two, three];
    lost.sort_unstable();
    let survivor = leader.id;
    let words = format!(
        "halted: 2 of 3 lost their memory (nodes {} and {}); what node {survivor} still has can be \
         recovered: seshat recover --from {survivor}",
        lost[0], lost[1]
    );
    for node in [&mut leader, &mut learner, &mut again] {
        let response = until(node, &words).await;
        assert_eq!(response.state(), ClusterState::Halted);
        assert_eq!(response.leader_id, None);
        assert_eq!(serves(node).await, ServingStatus::NotServing);
    }
    let view = learner.status();
    assert_eq!((view.state, view.leader), (NodeState::Started, None));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_shrinks_says_what_that_costs() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    until(&mut leader, HEALTHY).await;
    let id = followers[0].id.into();
    let request = |accept_no_spare| RemoveMemberRequest {
        id,
        accept_no_spare,
        ..RemoveMemberRequest::default()
    };
    let refusal = leader.admin.remove_member(request(false)).await;
    let refusal = refusal.unwrap_err();
    let (_, Some(Reason::FailedPrecondition(precondition))) = refused(&refusal) else {
        panic!("{refusal:?}");
    };
    let words = "2 members take part, and restarting any one of them halts the cluster";
    assert!(precondition.rule.contains(words), "{precondition:?}");

    let answer = leader.admin.remove_member(request(true)).await.unwrap();
    assert_eq!(answer.into_inner().members.len(), 2);
    let response = until(&mut followers[1], &format!("no spare: {words}")).await;
    assert_eq!(response.state(), ClusterState::NoSpare);
    assert!(!response.healed);
}

/// Asks every node until all of them report `words`.
async fn until_all(nodes: &mut [Node], words: &str) {
    for node in nodes.iter_mut() {
        until(node, words).await;
    }
}

fn add(info: NodeInfo) -> AddMemberRequest {
    AddMemberRequest {
        id: info.id.into(),
        addr: info.addr,
        client_addr: info.client_addr,
        cluster_id: None,
    }
}

const NOWHERE: &str = "kvstore-9:7379";

/// Seen: the file of node 1 had a wrong address of node 1 itself. No node asks the leader there, so the
/// cluster was healthy, until the leader was restarted and could not return.
#[tokio::test(start_paused = true)]
async fn a_leader_with_a_wrong_address_of_its_own_is_named_before_it_is_lost() {
    let fabric = Fabric::new(3);
    let one = node_id(1);
    fabric.mistype(one, one, NOWHERE);
    let nodes = fabric.start_all().await;
    let (mut leader, mut followers) = leader_first(nodes);
    assert_eq!(leader.id, one, "the coordinator stands for election first");
    let words = format!(
        "degraded: nodes 2 and 3 do not reach node 1: its address {NOWHERE} does not answer (to \
         correct it: seshat member add 1 HOST:PORT kvstore-1:6379)"
    );
    let response = until(&mut leader, &words).await;
    assert_eq!(response.state(), ClusterState::Degraded);
    assert!(!response.healed);
    let unreached: Vec<_> = response
        .members
        .iter()
        .map(|it| &it.unreached[..])
        .collect();
    assert_eq!(unreached, [&[][..], &[1], &[1]]);

    leader.admin.add_member(add(info(one))).await.unwrap();
    until(&mut leader, HEALTHY).await;
    until_all(&mut followers, HEALTHY).await;
    // And so it is: the others continue without it.
    leader.kill().await;
    let mut its = followers[0].driver.watch();
    let elected = its.wait_for(|status| status.leader.is_some_and(|id| id.node_id() != one));
    elected.in_time("another leader").await.unwrap();
    let _again = fabric.start(1, 2).await;
    until_all(&mut followers, HEALTHY).await;
}

/// Seen: healthy, with a link cut between two followers, which could elect no leader without the third.
#[tokio::test(start_paused = true)]
async fn a_cut_link_between_two_followers_is_named_before_they_need_it() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    until(&mut leader, HEALTHY).await;
    let (one, other) = (followers[0].id, followers[1].id);
    fabric.cut_link(one, other);
    let words = format!(
        "degraded: nodes {one} and {other} do not reach each other: mend the network between them"
    );
    until(&mut leader, &words).await;
    leader.kv.set(set()).await.unwrap();
    fabric.heal();
    until(&mut leader, HEALTHY).await;
    until_all(&mut followers, HEALTHY).await;
}

/// Seen: `member add` of a running follower at an address that leads nowhere was healthy for a moment,
/// because its earlier acknowledgements still counted.
#[tokio::test(start_paused = true)]
async fn a_member_that_moves_to_a_wrong_address_is_at_no_moment_healthy() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    until(&mut leader, HEALTHY).await;
    let (moved, late) = (followers[0].id, followers[1].id);
    // It still asks at the former address.
    fabric.drop_log_traffic_to(late);
    let wrong = NodeInfo {
        addr: NOWHERE.to_owned(),
        ..info(moved)
    };
    leader.admin.add_member(add(wrong)).await.unwrap();
    let words = format!(
        "degraded: node {moved} runs, but its address {NOWHERE} does not answer (to correct it: \
         seshat member add {moved} HOST:PORT kvstore-{moved}:6379)"
    );
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        // The leader is not asked: it waits for an answer from the new address.
        for node in &mut followers {
            let said = status(node).await;
            assert!(!said.healed, "node {} after {:?}", node.id, began.elapsed());
        }
        sleep(Duration::from_millis(10)).await;
    }
    fabric.heal();
    until(&mut leader, &words).await;
    leader.admin.add_member(add(info(moved))).await.unwrap();
    until(&mut leader, HEALTHY).await;
    until_all(&mut followers, HEALTHY).await;
}

/// The address of one member leads to another one.
#[tokio::test(start_paused = true)]
async fn a_member_whose_address_leads_to_another_one_is_named() {
    let fabric = Fabric::new(3);
    let one = node_id(1);
    fabric.mistype(one, one, &info(node_id(3)).addr);
    let (mut leader, _followers) = leader_first(fabric.start_all().await);
    let words = "degraded: nodes 2 and 3 do not reach node 1: its address kvstore-3:7379 leads to node 3 \
                 (to correct it: seshat member add 1 HOST:PORT kvstore-1:6379)";
    until(&mut leader, words).await;
}
