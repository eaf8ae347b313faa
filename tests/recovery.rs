//! Decisions of an operator, with real nodes and real sockets.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::time::Duration;

use seshat::proto::admin::{FormRequest, RecoverRequest, RecoverResponse};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{Applied, FailedPrecondition, InvalidRequest};
use seshat::types::{ClusterId, NodeState, Role, WallTime};
use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually, refused};
use tonic::{Code, Status};

/// The rule of a refusal that the moment causes.
fn rule(status: &Status) -> String {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    match refused(status) {
        (Applied::No, Some(Reason::FailedPrecondition(FailedPrecondition { rule }))) => rule,
        other => panic!("{other:?}"),
    }
}

fn form_without(without: &[u32]) -> FormRequest {
    FormRequest {
        without: without.to_vec(),
        timeout: None,
    }
}

/// Waits until every node votes in one cluster, follows its leader, and has `keys` keys.
async fn whole(cluster: &Cluster, size: usize, keys: u64) -> ClusterId {
    eventually("voters of one cluster", async || {
        let all: Vec<_> = cluster.running().map(|(_, node)| node.status()).collect();
        let [first, ..] = all.as_slice() else {
            return None;
        };
        let living: Vec<_> = all.iter().map(|status| status.raft_id).collect();
        let well = all.iter().all(|status| {
            status.cluster_id == first.cluster_id
                && status.state == NodeState::Started
                && status.leader.is_some()
                && status.leader == first.leader
                && status.keys == keys
                && status.conf.voters.len() == size
                && living.iter().all(|id| status.conf.voters.contains(id))
        });
        first.cluster_id.filter(|_| well && all.len() == size)
    })
    .await
}

#[tokio::test]
async fn two_nodes_form_without_the_third_which_joins_later() {
    let mut cluster = Cluster::new(3);
    cluster.start(1);
    cluster.start(2);
    let refusal = cluster.admin(2).form(form_without(&[1])).await.unwrap_err();
    let expected = "ask node 2: of the members that are there, it has the lowest id";
    assert_eq!(rule(&refusal), expected);
    let refusal = cluster.admin(1).form(form_without(&[1, 3])).await;
    let (_, reason) = refused(&refusal.unwrap_err());
    assert!(
        matches!(&reason, Some(Reason::InvalidRequest(InvalidRequest { field, .. })) if field == "without"),
        "{reason:?}"
    );

    let formed = cluster.admin(1).form(form_without(&[1])).await;
    let formed = formed.expect("a cluster").into_inner();
    for index in [1, 2] {
        let mut status = cluster.node(index).handle.watch();
        let started = status.wait_for(|status| status.leader.is_some());
        assert_eq!(
            started
                .in_time("the start of a cluster")
                .await
                .unwrap()
                .cluster_id,
            Some(ClusterId(formed.cluster_id))
        );
    }
    cluster.set("k", "v").await;
    let refusal = cluster.admin(1).form(form_without(&[1])).await.unwrap_err();
    assert!(rule(&refusal).starts_with("this node takes part in cluster"));

    cluster.start(0);
    assert_eq!(whole(&cluster, 3, 1).await, ClusterId(formed.cluster_id));
}

#[tokio::test]
async fn a_missing_node_that_is_not_left_out_holds_the_others_up() {
    let mut cluster = Cluster::new(3);
    cluster.start(1);
    let mut request = form_without(&[1]);
    request.timeout = Some(prost_types::Duration {
        seconds: 0,
        nanos: 500_000_000,
    });
    let refusal = cluster.admin(1).form(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(matches!(refused(&refusal).1, Some(Reason::Forming(_))));
}

#[tokio::test]
async fn a_survivor_makes_a_new_cluster_of_what_it_has() {
    let mut cluster = Cluster::started(3).await;
    for key in ["a", "b", "c"] {
        cluster.set(key, "1").await;
    }
    let old = whole(&cluster, 3, 3).await;
    let survivor = cluster.leader().await;
    let recover = async |cluster: &Cluster, cluster_id: ClusterId, dry_run| {
        let request = RecoverRequest {
            cluster_id: cluster_id.0,
            dry_run,
            ..RecoverRequest::default()
        };
        let answer = cluster.admin(survivor).recover(request).await;
        answer.map(|answer| answer.into_inner())
    };
    let refusal = recover(&cluster, old, true).await.unwrap_err();
    assert!(rule(&refusal).contains("the cluster is not halted"));

    // Two at once: no leader can ever be elected again.
    let lost: Vec<_> = (0..3).filter(|&index| index != survivor).collect();
    for &index in &lost {
        cluster.take(index).kill();
    }
    let mut status = cluster.node(survivor).handle.watch();
    let leaderless = status.wait_for(|status| status.leader.is_none());
    let leaderless = leaderless.in_time("the loss of the leader").await;
    leaderless.expect("the node runs");
    // As long as they are silent, they may still serve somewhere.
    let refusal = recover(&cluster, old, false).await.unwrap_err();
    let said = rule(&refusal);
    assert!(
        said.contains("do not answer: they may still serve"),
        "{said}"
    );
    for &index in &lost {
        cluster.start(index);
    }
    for &index in &lost {
        let mut status = cluster.node(index).handle.watch();
        let outside = status.wait_for(|status| status.state == NodeState::Outside);
        outside.await.expect("the node runs");
    }

    let refusal = recover(&cluster, ClusterId(1), false).await.unwrap_err();
    assert!(
        matches!(&refused(&refusal).1, Some(Reason::InvalidRequest(InvalidRequest { field, .. })) if field == "cluster_id"),
        "{refusal:?}"
    );
    let facts = recover(&cluster, old, true).await.expect("a dry run");
    let before = cluster.node(survivor).status();
    assert_eq!(before.cluster_id, Some(old), "nothing has happened yet");
    let expected = RecoverResponse {
        new_cluster_id: None,
        cluster_id: old.0,
        term: before.term,
        commit_index: before.commit_index,
        last_log_index: before.last_index,
        keys: 3,
        other_survivors: Vec::new(),
        last_log_term: before.last_term,
        votes: true,
        compared: Vec::new(),
        without: Vec::new(),
        time: facts.time,
        commit_revision: facts.commit_revision,
        last_log_revision: facts.commit_revision + before.last_index - before.commit_index,
    };
    assert_eq!(facts, expected);
    assert!(WallTime::new(facts.time).is_some(), "{}", facts.time);

    let recovered = recover(&cluster, old, false).await.expect("a recovery");
    let new = ClusterId(recovered.new_cluster_id.expect("a new cluster"));
    assert_ne!(new, old);
    // A cluster of one voter leads at once, and the earlier writes are there.
    let mut status = cluster.node(survivor).handle.watch();
    let leads = status.wait_for(|status| status.role == Some(Role::Leader));
    let leads = tokio::time::timeout(Duration::from_secs(5), leads).await;
    assert_eq!(leads.unwrap().unwrap().cluster_id, Some(new));
    cluster.set("d", "2").await;
    assert_eq!(whole(&cluster, 3, 4).await, new);
    assert_eq!(cluster.get("a").await.as_deref(), Some("1"));
    assert_eq!(cluster.get("d").await.as_deref(), Some("2"));
    let refusal = recover(&cluster, new, false).await.unwrap_err();
    assert!(rule(&refusal).contains("the cluster is not halted"));
}

/// Three of five lose their memory, and two operators recover at the same time, one at each survivor.
#[tokio::test]
async fn two_recoveries_at_once_make_one_cluster() {
    let mut cluster = Cluster::started(5).await;
    for key in ["a", "b", "c"] {
        cluster.set(key, "1").await;
    }
    let old = whole(&cluster, 5, 3).await;
    let lost = [0, 1, 2];
    for index in lost {
        cluster.take(index).kill();
    }
    for index in lost {
        cluster.start(index);
    }
    let survivors = [3, 4];
    for index in survivors {
        let mut status = cluster.node(index).handle.watch();
        let leaderless = status.wait_for(|status| status.leader.is_none()).await;
        leaderless.expect("the node runs");
    }
    for index in lost {
        let mut status = cluster.node(index).handle.watch();
        let outside = status.wait_for(|status| status.state == NodeState::Outside);
        outside.await.expect("the node runs");
    }
    let recover = async |index: usize| {
        let request = RecoverRequest {
            cluster_id: old.0,
            ..RecoverRequest::default()
        };
        cluster.admin(index).recover(request).await
    };
    let (one, other) = tokio::join!(recover(3), recover(4));
    let (mut won, mut refused) = (Vec::new(), Vec::new());
    for (index, answer) in [(3, one), (4, other)] {
        match answer {
            Ok(recovered) => won.push((index, recovered.into_inner())),
            Err(refusal) => refused.push(rule(&refusal)),
        }
    }
    assert!(won.len() < 2, "{won:?}");
    // If both have yielded, a retry succeeds at the one that has most.
    for index in survivors {
        if won.is_empty()
            && let Ok(recovered) = recover(index).await
        {
            won.push((index, recovered.into_inner()));
        }
    }
    let (winner, new) = won.pop().unwrap_or_else(|| panic!("{refused:?}"));
    let other = 7 - winner;
    let id = u32::try_from(other + 1).unwrap();
    assert_eq!(new.other_survivors, [id]);
    let compared: Vec<_> = new.compared.iter().map(|it| it.last_log_index).collect();
    assert!(
        compared.len() == 1 && compared[0] <= new.last_log_index,
        "{compared:?}"
    );
    let error = recover(other).await.unwrap_err();
    assert!(rule(&error).contains("takes part in cluster"), "{error}");

    // The other survivor joins when it is restarted.
    cluster.take(other).kill();
    cluster.start(other);
    let new = new.new_cluster_id.map(ClusterId);
    assert_eq!(Some(whole(&cluster, 5, 3).await), new);
    assert_eq!(cluster.get("a").await.as_deref(), Some("1"));
}
