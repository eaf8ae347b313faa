//! One client belongs to one cluster, even if its endpoints lead to several.

use std::time::Duration;

use seshat::client::{Applied, Client, Error, Operation, PipelineOptions};
use seshat::proto::admin::RecoverRequest;
use seshat::types::NodeState;

use seshat_test_support::cluster::Cluster;
use seshat_test_support::eventually;

const TIMEOUT: Duration = Duration::from_secs(30);

fn client(clusters: &[&Cluster]) -> Client {
    let of = |cluster: &Cluster| [0, 1, 2].map(|index| cluster.client_addr(index).to_owned());
    let endpoints = clusters.iter().flat_map(|cluster| of(cluster));
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(TIMEOUT).build().unwrap()
}

fn id(cluster: &Cluster) -> Option<u64> {
    let (_, node) = cluster.running().next().unwrap();
    node.status().cluster_id.map(|id| id.0)
}

async fn read(client: &Client) -> Option<String> {
    let value = client.get("whose").await.unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// Seen: 8 of 20 reads were answered by the other cluster.
#[tokio::test]
async fn two_clusters_behind_one_list_are_never_mixed() {
    let mut clusters = [Cluster::started(3).await, Cluster::started(3).await];
    for (name, cluster) in ["0", "1"].iter().zip(&clusters) {
        cluster.set("whose", name).await;
    }
    let clients: Vec<_> = (0..20)
        .map(|_| client(&[&clusters[0], &clusters[1]]))
        .collect();
    let mut whose = Vec::new();
    for client in &clients {
        let name = read(client).await.unwrap();
        let cluster = &clusters[name.parse::<usize>().unwrap()];
        assert_eq!(*client.watch_cluster().borrow(), id(cluster));
        whose.push(name);
    }
    // All callers have to find a leader, and the leader of the other cluster answers at once.
    for cluster in &mut clusters {
        let index = cluster.leader().await;
        cluster.take(index).kill();
        for (client, name) in clients.iter().zip(&whose) {
            assert_eq!(read(client).await.as_ref(), Some(name));
            client.set("whose", name.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_that_is_told_its_cluster_never_takes_another_one() {
    let clusters = [Cluster::started(3).await, Cluster::started(3).await];
    for (name, cluster) in ["0", "1"].iter().zip(&clusters) {
        cluster.set("whose", name).await;
    }
    let endpoints: Vec<_> = clusters
        .iter()
        .flat_map(|cluster| [0, 1, 2].map(|index| cluster.client_addr(index).to_owned()))
        .collect();
    let told = |id| {
        let builder = Client::builder().endpoints(endpoints.clone());
        builder.timeout(TIMEOUT).cluster(id).build().unwrap()
    };
    for (name, cluster) in ["0", "1"].iter().zip(&clusters) {
        for _ in 0..5 {
            let client = told(id(cluster).unwrap());
            assert_eq!(read(&client).await.as_deref(), Some(*name));
        }
    }
    let neither = id(&clusters[0]).unwrap() ^ id(&clusters[1]).unwrap();
    let error = told(neither).set("whose", "2").await.unwrap_err();
    assert!(error.is_other_cluster(), "{error:?}");
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn a_client_may_ask_first_whether_there_is_but_one_cluster() {
    let clusters = [Cluster::started(3).await, Cluster::started(3).await];
    let one = client(&[&clusters[0]]);
    assert_eq!(one.one_cluster().await.unwrap(), id(&clusters[0]));
    assert_eq!(*one.watch_cluster().borrow(), id(&clusters[0]));

    let error = client(&[&clusters[0], &clusters[1]]).one_cluster().await;
    let error = error.unwrap_err();
    assert!(error.is_other_cluster(), "{error:?}");
    assert_eq!(error.applied(), Applied::No);
    for cluster in &clusters {
        let mut endpoints = [0, 1, 2].map(|index| cluster.client_addr(index));
        endpoints.sort_unstable();
        let words = format!("{:016x} ({})", id(cluster).unwrap(), endpoints.join(", "));
        assert!(error.to_string().contains(&words), "{error}");
    }

    // Before a cluster has formed, no node knows its id.
    let mut forming = Cluster::new(3);
    forming.start(0);
    assert_eq!(client(&[&forming]).one_cluster().await.unwrap(), None);
}

/// Leaves one node of three, which has led, and makes a new cluster of its state; returns its id.
pub(super) async fn recover(cluster: &mut Cluster, survivor: usize) -> u64 {
    let mut status = cluster.node(survivor).handle.watch();
    let leaderless = status.wait_for(|status| status.leader.is_none()).await;
    leaderless.expect("the node runs");
    let lost: Vec<_> = (0..3).filter(|&index| index != survivor).collect();
    for &index in &lost {
        cluster.start(index);
    }
    for &index in &lost {
        let mut status = cluster.node(index).handle.watch();
        let outside = status.wait_for(|status| status.state == NodeState::Outside);
        outside.await.expect("the node runs");
    }
    let request = RecoverRequest {
        cluster_id: id_of(cluster, survivor),
        ..RecoverRequest::default()
    };
    let answer = cluster.admin(survivor).recover(request).await;
    answer.unwrap().into_inner().new_cluster_id.unwrap()
}

fn id_of(cluster: &Cluster, index: usize) -> u64 {
    cluster.node(index).status().cluster_id.unwrap().0
}

#[tokio::test]
async fn after_a_recovery_a_client_goes_on_and_says_so_once_and_its_sessions_are_over() {
    let mut cluster = Cluster::started(3).await;
    let (mover, idle) = (client(&[&cluster]), client(&[&cluster]));
    mover.set("whose", "old").await.unwrap();
    assert_eq!(read(&idle).await.as_deref(), Some("old"));
    let (session, spared) = (
        mover.session().await.unwrap(),
        mover.session().await.unwrap(),
    );
    session.set("a", "1").await.unwrap();
    let numbered = session.pipeline(PipelineOptions::default()).await.unwrap();
    let plain = mover.pipeline(PipelineOptions::default()).await.unwrap();
    let mut changes = mover.watch_cluster();
    let old = changes.borrow_and_update().unwrap();

    let survivor = cluster.leader().await;
    for index in (0..3).filter(|&index| index != survivor) {
        cluster.take(index).kill();
    }
    // It is in the log of the survivor, and its outcome is still open.
    let before = cluster.node(survivor).status().last_index;
    let in_flight = tokio::spawn({
        let session = session.clone();
        async move { session.set("in flight", "1").await }
    });
    eventually("the write in the log", async || {
        (cluster.node(survivor).status().last_index > before).then_some(())
    })
    .await;
    let new = recover(&mut cluster, survivor).await;

    let error = in_flight.await.unwrap().unwrap_err();
    assert!(error.is_other_cluster(), "{error:?}");
    assert_eq!(
        (error.applied(), error.kind()),
        (Applied::Unknown, "other_cluster")
    );
    assert_eq!(read(&mover).await.as_deref(), Some("old"));
    mover.set("whose", "new").await.unwrap();
    assert_eq!(*changes.borrow_and_update(), Some(new));
    assert_ne!(new, old);
    for session in [session, spared] {
        let error = session.set("a", "2").await.unwrap_err();
        assert!(error.is_session_expired(), "{error:?}");
        assert_eq!(error.applied(), Applied::No);
        assert_eq!(session.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    }
    for pipeline in [numbered, plain] {
        let refused = |error: Error| {
            // A stream without a session may have ended with its connection.
            let ended = matches!(error, Error::Unreachable { .. });
            assert!(error.is_other_cluster() || ended, "{error:?}");
            assert_eq!(error.applied(), Applied::No);
        };
        match pipeline.submit([Operation::set("a", "3")]).await {
            Ok(answers) => refused(answers.await.remove(0).unwrap_err()),
            Err(error) => refused(error),
        }
        // It stays over.
        let again = pipeline.submit([Operation::set("a", "4")]).await;
        refused(again.map(drop).unwrap_err());
    }
    let session = mover.session().await.unwrap();
    session.set("a", "5").await.unwrap();
    assert!(!changes.has_changed().unwrap(), "once");

    // Once all nodes take part, each of them knows the cluster that it was recovered from, however it
    // got the state.
    let second = cluster.leader().await;
    eventually("every node", async || {
        let all = cluster.running().map(|(_, node)| node.status());
        let in_it = all
            .filter(|status| status.conf.voters.len() == 3 && status.applied_index > 0)
            .count();
        (in_it == 3).then_some(())
    })
    .await;
    cluster.take(second).kill();
    assert_eq!(read(&idle).await.as_deref(), Some("new"));
    assert_eq!(*idle.watch_cluster().borrow(), Some(new));
}

/// All memory is lost, and an unrelated cluster answers at its addresses.
#[tokio::test]
async fn a_cluster_that_forms_anew_is_another_one() {
    let mut cluster = Cluster::started(3).await;
    let client_of_old = client(&[&cluster]);
    client_of_old.set("whose", "old").await.unwrap();
    let session = client_of_old.session().await.unwrap();
    for index in 0..3 {
        cluster.take(index).kill();
    }
    cluster.start_all().await;
    for error in [
        client_of_old.get("whose").await.map(drop).unwrap_err(),
        client_of_old
            .set("whose", "new")
            .await
            .map(drop)
            .unwrap_err(),
        client_of_old.session().await.map(drop).unwrap_err(),
        session.set("whose", "new").await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_other_cluster(), "{error:?}");
        assert_eq!(error.applied(), Applied::No);
    }
    let client_of_new = client(&[&cluster]);
    assert_eq!(read(&client_of_new).await, None);
}
