//! The example of the documentation, run.

use seshat::client::{Client, Operation, PipelineOptions, Reply};
use seshat::proto::admin::RecoverRequest;

use seshat_test_support::cluster::Cluster;
use seshat_test_support::eventually;

#[tokio::test]
async fn the_example_of_the_documentation_runs() -> Result<(), seshat::client::Error> {
    let cluster = Cluster::started(3).await;
    let client = Client::connect([
        cluster.client_addr(0),
        cluster.client_addr(1),
        cluster.client_addr(2),
    ])?;
    client.set("city", "Uruk").await?;
    assert_eq!(client.get("city").await?.as_deref(), Some(&b"Uruk"[..]));
    assert!(client.delete("city").await?.existed);

    let session = client.session().await?;
    let mine = session.delete("lock").await?.existed;
    assert!(!mine);

    let pipeline = client.pipeline(PipelineOptions::default()).await?;
    let batch = [Operation::set("city", "Ur"), Operation::get("city")];
    let answers = pipeline.submit(batch).await?.await;
    let Ok(Reply::Found(found)) = &answers[1] else {
        panic!("{answers:?}");
    };
    assert_eq!(found.value.as_deref(), Some(&b"Ur"[..]));
    Ok(())
}

#[tokio::test]
async fn operators_are_served() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let client = Client::connect([cluster.client_addr(follower)]).unwrap();
    let admin = client.admin();
    eventually("a healed cluster", async || {
        admin.status().await.unwrap().healed.then_some(())
    })
    .await;
    let to = u16::try_from(follower + 1).unwrap();
    let transferred = admin.transfer_leadership(Some(to)).await.unwrap();
    assert_eq!(transferred.leader_id, u32::from(to));
    let node = admin.node(to).await.unwrap();
    assert_eq!(node.view().answered_by, u32::from(to));
    let request = RecoverRequest {
        cluster_id: 1,
        dry_run: true,
        ..RecoverRequest::default()
    };
    let error = node.recover(request).await.unwrap_err();
    assert_eq!(error.kind(), "invalid_request", "{error}");
}
