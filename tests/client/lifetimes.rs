//! Real clusters: keys that expire, living sessions that survive their leader, and one whose renewals are cut
//! off.

use std::time::Duration;

use seshat::client::{
    Client, Error, LivingSession, Lost, Operation, PipelineOptions, Reason, Txn, TxnCall,
    TxnOperation,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually};

const SECOND: Duration = Duration::from_secs(1);

/// A client of `endpoints` that has all the time that a busy machine may need.
fn client(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Client {
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(SECOND * 60).build().unwrap()
}

fn client_of(cluster: &Cluster) -> Client {
    client((0..3).map(|index| cluster.client_addr(index)))
}

async fn is_bound(client: &Client, key: &'static str) -> bool {
    client.get(key).await.unwrap().is_some()
}

/// Waits until `key` is missing.
async fn ends(client: &Client, key: &'static str) {
    let gone = async || (!is_bound(client, key).await).then_some(());
    eventually("the end of a key", gone).await;
}

/// Waits until the cluster has renewed `session` so many times more.
async fn renewals(client: &Client, session: &LivingSession, count: usize) {
    let (mut seen, mut before) = (0, Duration::MAX);
    let renewed = async || {
        let sessions = client.sessions().await.unwrap();
        let info = sessions.iter().find(|it| it.client_id == session.id());
        let left = info.expect("it lives").remaining;
        seen += usize::from(left > before);
        before = left;
        (seen >= count).then_some(())
    };
    eventually("renewals", renewed).await;
}

#[tokio::test]
async fn a_pipeline_sets_keys_with_a_lifetime_by_transactions() {
    let cluster = Cluster::started(3).await;
    let client = client_of(&cluster);
    let session = client.session().ttl(SECOND * 60).await.unwrap();
    let sets = [
        TxnOperation::set("timed", "v").ttl(SECOND * 60),
        TxnOperation::set("owned", "v").owned_by(&session),
    ];
    let batch = sets.map(|set| Operation::Txn(Txn::default().then(set)));
    let pipeline = session.pipeline(PipelineOptions::default()).await.unwrap();
    for answer in pipeline.submit(batch).await.unwrap().await {
        answer.unwrap();
    }
    let entries = client.scan("").collect().await.unwrap();
    let lives = entries.iter().map(|it| (it.ttl, it.owner));
    let lives: Vec<_> = lives.collect();
    assert_eq!(
        lives,
        [(None, Some(session.id())), (Some(SECOND * 60), None)]
    );
}

#[tokio::test]
async fn a_key_ends_when_its_ttl_has_passed_since_its_last_write() {
    let cluster = Cluster::started(3).await;
    let client = client_of(&cluster);
    let set = async |key: &'static str| client.set(key, "v").ttl(SECOND).await.unwrap();
    for key in ["kept", "written", "renewed"] {
        set(key).await;
    }
    client.set("kept", "w").keep_lifetime().await.unwrap();
    client.set("written", "w").await.unwrap();
    let longer = client.set("renewed", "w").ttl(SECOND * 60);
    longer.await.unwrap();
    let begun = Instant::now();
    // The keys end in the order of their deadlines, so this one is the last of those that end.
    set("last").await;
    ends(&client, "last").await;
    assert!(begun.elapsed() >= SECOND, "{:?}", begun.elapsed());
    assert!(!is_bound(&client, "kept").await);
    assert!(is_bound(&client, "written").await && is_bound(&client, "renewed").await);
    // What has ended is missing for conditions, too.
    let write = client.set("kept", "v").if_absent().await.unwrap();
    assert!(write.succeeded());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_session_survives_its_leaders() {
    let mut cluster = Cluster::started(3).await;
    let client = client_of(&cluster);
    let session = client.session().ttl(SECOND * 10).await.unwrap();
    session.set("k", "v").owned_by(&session).await.unwrap();
    client.set("leaders", "").ttl(SECOND * 3600).await.unwrap();

    client.admin().transfer_leadership(None).await.unwrap();
    renewals(&client, &session, 1).await;
    let leader = cluster.leader().await;
    cluster.take(leader).kill();
    // More than its TTL.
    renewals(&client, &session, 4).await;
    assert!(!session.is_lost());
    session.set("l", "v").owned_by(&session).await.unwrap();
    let entries = client.scan("").collect().await.unwrap();
    let owners = entries.iter().map(|it| (it.owner, it.ttl));
    let owned = (Some(session.id()), None);
    let hour = (None, Some(SECOND * 3600));
    assert_eq!(owners.collect::<Vec<_>>(), [owned, owned, hour]);

    session.close().await.unwrap();
    assert!(!is_bound(&client, "k").await && !is_bound(&client, "l").await);
    assert_eq!(client.sessions().await.unwrap(), []);
    assert!(is_bound(&client, "leaders").await);
}

#[tokio::test]
async fn the_keys_of_a_session_that_is_dropped_end_at_once() {
    let cluster = Cluster::started(3).await;
    let client = client_of(&cluster);
    let session = client.session().ttl(SECOND * 3600).await.unwrap();
    let write = client.set("k", "v").owned_by(&session);
    write.await.unwrap();
    drop(session);
    ends(&client, "k").await;
    assert_eq!(client.sessions().await.unwrap(), []);
}

#[tokio::test]
async fn what_exceeds_a_bound_is_refused() {
    let cluster = Cluster::started(3).await;
    let client = client_of(&cluster);
    let short = Duration::from_millis(999);
    for error in [
        client.session().ttl(SECOND).await.unwrap_err(),
        client.set("k", "v").ttl(short).await.unwrap_err(),
    ] {
        let reason = error.reason();
        assert!(
            matches!(reason, Some(Reason::InvalidRequest(_))),
            "{error:?}"
        );
    }
    let session = client.session().ttl(SECOND * 3600).await.unwrap();
    for txn in 0..8 {
        let keys = (0..128).map(|key| format!("{txn}/{key}"));
        let sets = keys.map(|key| TxnOperation::set(key, "").owned_by(&session));
        let owned = sets.fold(session.txn(), TxnCall::then).await.unwrap();
        assert!(owned.succeeded);
    }
    let error = session.set("k", "").owned_by(&session).await.unwrap_err();
    let Some(Reason::TooLarge(bound)) = error.reason() else {
        panic!("{error:?}");
    };
    assert_eq!((&*bound.what, bound.limit), ("owned keys", 1024));
    assert_eq!(client.sessions().await.unwrap()[0].owned_keys, 1024);
    session.close().await.unwrap();
    assert_eq!(client.count("").await.unwrap(), 0);
}

/// A way to a node that can be cut.
pub(super) struct Link {
    pub(super) address: String,
    pub(super) cut: watch::Sender<bool>,
}

impl Link {
    pub(super) async fn to(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = watch::Sender::new(false);
        let (node, is_cut) = (node.to_owned(), cut.subscribe());
        tokio::spawn(async move {
            let pass = async || loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (node, mut is_cut) = (node.clone(), is_cut.clone());
                tokio::spawn(async move {
                    let mut node = TcpStream::connect(node).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut node) => {}
                        _ = is_cut.wait_for(|it| *it) => {}
                    }
                });
            };
            let mut ends = is_cut.clone();
            tokio::select! {
                () = pass() => {}
                _ = ends.wait_for(|it| *it) => {}
            }
        });
        Self { address, cut }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_be_renewed_is_lost_before_the_cluster_ends_it() {
    let cluster = Cluster::started(3).await;
    let others = client_of(&cluster);
    let link = Link::to(cluster.client_addr(cluster.leader().await)).await;
    let through = client([link.address.clone()]);
    let session = through.session().ttl(SECOND * 3).await.unwrap();
    session.set("k", "v").owned_by(&session).await.unwrap();
    renewals(&others, &session, 1).await;
    assert!(!session.is_lost());

    link.cut.send_replace(true);
    let lost = tokio::spawn({
        let session = session.clone();
        async move { session.lost().await }
    });
    ends(&others, "k").await;
    // However late this task runs: the session reads the clock.
    assert!(session.is_lost());
    let lost = lost.in_time("the loss of a session").await.unwrap();
    assert_eq!(lost, Lost::NotRenewed);
    let error = session.set("k", "v").await.unwrap_err();
    assert!(matches!(error, Error::SessionLost { .. }), "{error:?}");
    let owned = others.set("k", "v").owned_by(&session).await.unwrap_err();
    let reason = owned.reason();
    assert!(
        matches!(reason, Some(Reason::SessionExpired(_))),
        "{owned:?}"
    );
    assert_eq!(others.sessions().await.unwrap(), []);
}
