//! Whole nodes over real sockets, whose members an operator changes.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use seshat::proto::admin::{AddMemberRequest, RemoveMemberRequest};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{Applied, GetRequest, SetRequest};
use seshat::server::ServerError;
use seshat::types::{NodeState, Role};
use seshat_test_support::cluster::{Cluster, channel};
use seshat_test_support::{InTime as _, eventually, node_id, refused};
use tokio::task::JoinSet;
use tonic::{Request, Status};

const HEALED: &str = "healthy: every member takes part, and the cluster may lose any one of them";

fn add_request(cluster: &Cluster, index: usize) -> AddMemberRequest {
    AddMemberRequest {
        id: u32::try_from(index + 1).unwrap(),
        addr: cluster.internal_addr(index).to_owned(),
        client_addr: cluster.client_addr(index).to_owned(),
        ..AddMemberRequest::default()
    }
}

/// Whether an operator's request has to be repeated: it was refused, and the refusal allows a retry.
fn again(status: &Status) -> bool {
    if status.details().is_empty() {
        return true;
    }
    let (applied, reason) = refused(status);
    assert_eq!(applied, Applied::No, "{status:?}");
    let may_end = matches!(
        reason,
        Some(Reason::NotLeader(_) | Reason::NoQuorum(_) | Reason::FailedPrecondition(_))
    );
    assert!(may_end, "{status:?}");
    true
}

/// Makes node `index + 1` a member, and waits until the voters are the nodes `voters`.
async fn add(cluster: &Cluster, index: usize, voters: &[u16]) {
    eventually("the decision to add", async || {
        let leader = cluster.leader().await;
        let request = add_request(cluster, index);
        let answer = cluster.admin(leader).add_member(request).await;
        let answer = answer.inspect_err(|status| assert!(again(status))).ok()?;
        let members = answer.into_inner().members;
        assert!(members.contains(&u32::try_from(index + 1).unwrap()));
        Some(())
    })
    .await;
    settled(cluster, voters).await;
}

/// Removes node `index + 1`; returns the remaining members.
async fn remove(cluster: &Cluster, index: usize) -> Vec<u32> {
    let id = u32::try_from(index + 1).unwrap();
    eventually("the decision to remove", async || {
        let leader = cluster.leader().await;
        let request = RemoveMemberRequest {
            id,
            accept_no_spare: true,
            ..RemoveMemberRequest::default()
        };
        let answer = cluster.admin(leader).remove_member(request).await;
        let answer = answer.inspect_err(|status| assert!(again(status))).ok()?;
        Some(answer.into_inner().members)
    })
    .await
}

/// Waits until the voters are the processes of the nodes `ids`, and each of them knows it.
async fn settled(cluster: &Cluster, ids: &[u16]) {
    let expected: BTreeSet<_> = ids.iter().map(|id| node_id(*id)).collect();
    eventually("the voters", async || {
        let members = cluster
            .running()
            .map(|(_, node)| node.status())
            .filter(|status| expected.contains(&status.raft_id.node_id()));
        let views: Vec<_> = members.collect();
        let voters: BTreeSet<_> = views.iter().map(|view| view.raft_id).collect();
        let same = views.iter().all(|view| {
            let known: BTreeSet<_> = view.conf.voters.iter().copied().collect();
            let members: BTreeSet<_> = view.conf.members.iter().copied().collect();
            known == voters && view.conf.learners.is_empty() && members == expected
        });
        (voters.len() == expected.len() && same).then_some(())
    })
    .await;
}

/// Waits until a removed server has ended with that reason.
async fn ends_as_removed(cluster: &mut Cluster, index: usize) {
    let id = node_id(u16::try_from(index + 1).unwrap());
    let ended = cluster.take(index).ended();
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    let error = ended.expect("it ends").unwrap_err();
    assert!(
        matches!(error, ServerError::Removed { node, .. } if node == id),
        "{error}"
    );
    let words = error.to_string();
    assert!(
        words.starts_with(&format!("node {id} was removed from cluster ")),
        "{words}"
    );
}

/// Clients that write all the time, each its own keys, to any node that accepts them.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    clients: JoinSet<BTreeMap<String, String>>,
}

impl Load {
    fn start(addresses: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let channels = addresses.iter().map(|addr| channel(addr));
            let mut nodes: Vec<_> = channels.map(KvServiceClient::new).collect();
            clients.spawn(async move {
                let mut acknowledged = BTreeMap::new();
                let mut target = client;
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("c{client}-{number}"), format!("v{number}"));
                    let mut request = Request::new(SetRequest {
                        key: key.clone().into(),
                        value: value.clone().into(),
                        session: None,
                        ..SetRequest::default()
                    });
                    request.set_timeout(Duration::from_secs(2));
                    let count = nodes.len();
                    match nodes[target % count].set(request).await {
                        Ok(_) => {
                            acknowledged.insert(key, value);
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {
                            target += 1;
                            // No node is there: a pause, to avoid a hundred thousand attempts a second.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
                acknowledged
            });
        }
        Self {
            stop,
            written,
            clients,
        }
    }

    /// Waits until a hundred more writes were acknowledged.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        eventually("writes", async || {
            (self.written.load(Ordering::Relaxed) >= before + 100).then_some(())
        })
        .await;
    }

    /// Every write that was acknowledged.
    async fn end(mut self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        while let Some(client) = self.clients.join_next().in_time("a client").await {
            acknowledged.extend(client.expect("a client does not panic"));
        }
        acknowledged
    }
}

#[tokio::test]
async fn a_cluster_grows_from_3_to_5_and_shrinks_to_3_under_load() {
    let mut cluster = Cluster::started(3).await;
    let (four, five) = (cluster.extend(), cluster.extend());
    let addresses: Vec<_> = (0..5)
        .map(|index| cluster.client_addr(index).to_owned())
        .collect();
    let load = Load::start(&addresses);
    load.goes_on().await;

    cluster.start(four);
    add(&cluster, four, &[1, 2, 3, 4]).await;
    load.goes_on().await;
    cluster.start(five);
    add(&cluster, five, &[1, 2, 3, 4, 5]).await;
    load.goes_on().await;

    // The leader first, and then one of the first three again.
    let leader = cluster.leader().await;
    let follower = (0..3).find(|index| *index != leader).unwrap();
    let mut left = vec![1, 2, 3, 4, 5];
    for gone in [leader, follower] {
        left.retain(|id| usize::from(*id) != gone + 1);
        let members = remove(&cluster, gone).await;
        let expected: Vec<_> = left.iter().map(|id| u32::from(*id)).collect();
        assert_eq!(members, expected);
        settled(&cluster, &left).await;
        ends_as_removed(&mut cluster, gone).await;
        load.goes_on().await;
    }

    let acknowledged = load.end().await;
    let leader = cluster.leader().await;
    cluster.status(leader, HEALED).await;
    assert!(acknowledged.len() >= 500);
    let kv = cluster.kv(leader);
    let mut reads = JoinSet::new();
    for (key, value) in acknowledged {
        let mut kv = kv.clone();
        reads.spawn(async move {
            let request = GetRequest {
                key: key.clone().into(),
                ..GetRequest::default()
            };
            let found = kv.get(request).await.unwrap().into_inner().value;
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
        });
    }
    while let Some(read) = reads.join_next().in_time("a read").await {
        read.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_is_removed_and_started_again_waits_outside() {
    let mut cluster = Cluster::started(3).await;
    let gone = (cluster.leader().await + 1) % 3;
    let left: Vec<_> = (1..=3).filter(|id| usize::from(*id) != gone + 1).collect();
    remove(&cluster, gone).await;
    settled(&cluster, &left).await;
    ends_as_removed(&mut cluster, gone).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).status().term;

    cluster.start(gone);
    let mut status = cluster.node(gone).handle.watch();
    status
        .wait_for(|status| status.state == NodeState::Outside)
        .await
        .unwrap();
    let write = SetRequest {
        key: "k".into(),
        value: "v".into(),
        session: None,
        ..SetRequest::default()
    };
    let refusal = cluster.kv(gone).set(write).await.unwrap_err();
    let (Applied::No, Some(Reason::Forming(forming))) = refused(&refusal) else {
        panic!("{refusal:?}");
    };
    let waits = "this node is no member of cluster ";
    assert!(forming.waiting_for.starts_with(waits), "{forming:?}");
    cluster.set("k", "v").await;
    assert_eq!(cluster.node(leader).status().term, term);
    assert_eq!(cluster.node(gone).status().state, NodeState::Outside);

    // An operator adds it again.
    add(&cluster, gone, &[1, 2, 3]).await;
    assert_eq!(cluster.node(gone).status().role, Some(Role::Follower));
}

#[tokio::test]
async fn a_dead_machine_is_replaced_by_another_one() {
    let mut cluster = Cluster::started(3).await;
    cluster.set("k", "v").await;
    let dead = cluster.leader().await;
    cluster.take(dead).kill();
    remove(&cluster, dead).await;
    let mut left: Vec<_> = (1..=3).filter(|id| usize::from(*id) != dead + 1).collect();
    settled(&cluster, &left).await;

    let new = cluster.extend();
    cluster.start(new);
    left.push(4);
    add(&cluster, new, &left).await;
    assert_eq!(cluster.get("k").await.as_deref(), Some("v"));
    // It counts: with another one dead, it is half of the majority.
    let other = (0..3).find(|index| *index != dead).unwrap();
    cluster.take(other).kill();
    cluster.set("k", "w").await;
    assert_eq!(cluster.get("k").await.as_deref(), Some("w"));
}

#[tokio::test]
async fn a_member_moves_to_another_address() {
    let mut cluster = Cluster::started(3).await;
    cluster.set("k", "v").await;
    let moved = (cluster.leader().await + 1) % 3;
    let former = cluster.client_addr(moved).to_owned();
    cluster.take(moved).kill();
    cluster.relocate(moved);
    cluster.start(moved);
    add(&cluster, moved, &[1, 2, 3]).await;

    let leader = cluster.leader().await;
    let status = cluster.status(leader, HEALED).await;
    let member = &status.members[moved];
    assert_ne!(member.client_addr, former);
    assert_eq!(member.client_addr, cluster.client_addr(moved));
    assert_eq!(member.addr, cluster.internal_addr(moved));
    // A follower leads its callers to the new address when that node leads.
    let to = Some(u32::try_from(moved + 1).unwrap());
    let request = seshat::proto::admin::TransferLeadershipRequest {
        to,
        timeout: None,
        ..seshat::proto::admin::TransferLeadershipRequest::default()
    };
    let mut admin = cluster.admin(leader);
    admin.transfer_leadership(request).await.unwrap();
    assert_eq!(cluster.leader().await, moved);
    let write = SetRequest {
        key: "k".into(),
        value: "w".into(),
        session: None,
        ..SetRequest::default()
    };
    let refusal = cluster.kv(leader).set(write).await.unwrap_err();
    let (_, Some(Reason::NotLeader(not_leader))) = refused(&refusal) else {
        panic!("{refusal:?}");
    };
    assert_eq!(
        not_leader.leader_addr.as_deref(),
        Some(cluster.client_addr(moved))
    );
}

#[tokio::test]
async fn an_undecidable_change_is_refused_with_the_reason() {
    let mut cluster = Cluster::started(3).await;
    let four = cluster.extend();
    let leader = cluster.leader().await;
    let reason = |status: Status| {
        let (applied, reason) = refused(&status);
        assert_eq!(applied, Applied::No);
        reason.unwrap()
    };

    // Only the leader decides.
    let follower = (leader + 1) % 3;
    let mut admin = cluster.admin(follower);
    let refusal = admin.add_member(add_request(&cluster, four)).await;
    let Reason::NotLeader(not_leader) = reason(refusal.unwrap_err()) else {
        panic!("not the refusal of a follower");
    };
    assert_eq!(
        not_leader.leader_addr.as_deref(),
        Some(cluster.client_addr(leader))
    );

    let mut admin = cluster.admin(leader);
    let taken = AddMemberRequest {
        addr: cluster.internal_addr(follower).to_owned(),
        ..add_request(&cluster, four)
    };
    let refusal = admin.add_member(taken).await.unwrap_err();
    assert!(matches!(reason(refusal), Reason::InvalidRequest(invalid) if invalid.field == "addr"));
    let non_member = RemoveMemberRequest {
        id: 9,
        ..Default::default()
    };
    let refusal = admin.remove_member(non_member).await.unwrap_err();
    assert!(matches!(reason(refusal), Reason::InvalidRequest(invalid) if invalid.field == "id"));

    // Node 4 is not started, so the change cannot be finished: only its own change is possible.
    let request = || add_request(&cluster, four);
    let first = admin.add_member(request()).await.unwrap().into_inner();
    let second = admin.add_member(request()).await.unwrap().into_inner();
    assert_eq!(first.members, [1, 2, 3, 4]);
    assert_eq!(second.members, first.members);
    let follower = RemoveMemberRequest {
        id: u32::try_from(follower + 1).unwrap(),
        ..Default::default()
    };
    let refusal = admin.remove_member(follower).await.unwrap_err();
    let Reason::FailedPrecondition(precondition) = reason(refusal) else {
        panic!("not that it is not finished");
    };
    assert!(
        precondition.rule.contains("node 4 does not vote yet"),
        "{precondition:?}"
    );
    let fourth = RemoveMemberRequest {
        id: 4,
        ..Default::default()
    };
    let answer = admin.remove_member(fourth).await.unwrap().into_inner();
    assert_eq!(answer.members, [1, 2, 3]);

    // Without one of the two that run, there would be no majority.
    let others: Vec<_> = (0..3).filter(|index| *index != leader).collect();
    cluster.take(others[0]).kill();
    let live = RemoveMemberRequest {
        id: u32::try_from(others[1] + 1).unwrap(),
        accept_no_spare: true,
        ..RemoveMemberRequest::default()
    };
    let refusal = admin.remove_member(live).await.unwrap_err();
    let Reason::FailedPrecondition(precondition) = reason(refusal) else {
        panic!("not that it would be too few");
    };
    assert!(
        precondition.rule.contains("1 of 2 members"),
        "{precondition:?}"
    );
}
