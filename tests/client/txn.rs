//! Writes on conditions and transactions: what is sent, what is concluded, and what is repeated.

use std::time::Duration;

use seshat::client::{
    Applied, Client, Condition, Conditional, Error, Operation, PipelineOptions, Reason, Reply, Txn,
    TxnOperation, TxnResult,
};
use seshat::proto::kv::{Applied as ProtoApplied, FailedPrecondition, TooLarge};
use tonic::Code;

use super::mock::{Fate, Mock, refusal};
use seshat_test_support::cluster::Cluster;

fn client(node: &Mock) -> Client {
    let builder = Client::builder().endpoints([&node.address]);
    builder.timeout(Duration::from_secs(30)).build().unwrap()
}

/// A client of a cluster of real nodes, and the cluster.
async fn real() -> (Client, Cluster) {
    let cluster = Cluster::started(3).await;
    let endpoints = (0..3).map(|index| cluster.client_addr(index));
    let builder = Client::builder().endpoints(endpoints);
    let client = builder.timeout(Duration::from_secs(60)).build().unwrap();
    (client, cluster)
}

/// The outcome of a write whose condition held.
#[track_caller]
fn done<T: std::fmt::Debug>(outcome: Result<Conditional<T>, Error>) -> T {
    match outcome {
        Ok(Conditional::Succeeded(done)) => done,
        other => panic!("{other:?}"),
    }
}

/// The value and the revision that a condition has met instead.
#[track_caller]
fn met<T: std::fmt::Debug>(outcome: Result<Conditional<T>, Error>) -> (Option<String>, u64) {
    match outcome {
        Ok(Conditional::Failed(found)) => {
            let value = found.value.map(|it| String::from_utf8(it.into()).unwrap());
            assert!(found.applied_index >= found.revision, "{value:?}");
            (value, found.revision)
        }
        other => panic!("{other:?}"),
    }
}

fn is(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test]
async fn a_write_on_a_condition_says_whether_it_held_and_what_is_there_if_not() {
    let (client, _cluster) = real().await;
    let session = client.session().await.unwrap();
    assert_eq!(met(client.delete("k").if_value("v").await), (None, 0));
    assert_eq!(met(client.set("k", "v").if_revision(7).await), (None, 0));

    let first = done(client.set("k", "v").if_absent().await).applied_index;
    let found = client.get_with_index("k").await.unwrap();
    assert_eq!(
        (found.value.as_deref(), found.revision),
        (Some(&b"v"[..]), first)
    );
    let v = (is("v"), first);
    assert_eq!(met(client.set("k", "w").if_absent().await), v);
    assert_eq!(met(session.set("k", "w").if_revision(first + 1).await), v);
    assert_eq!(met(session.set("k", "w").if_value("w").await), v);
    assert_eq!(met(client.delete("k").if_revision(0).await), v);
    assert_eq!(met(session.delete("k").if_value("").await), v);

    let second = done(session.set("k", "w").if_revision(first).await).applied_index;
    assert!(second > first);
    done(client.set("k", "").if_value("w").await);
    let deleted = done(session.delete("k").if_value("").await);
    assert!(deleted.existed && deleted.applied_index > second);
    assert!(!done(client.delete("k").if_revision(0).await).existed);
    done(session.set("k", "new").if_revision(0).await);
    let found = session.get_with_index("missing").await.unwrap();
    assert_eq!((found.value, found.revision), (None, 0));
}

#[tokio::test]
async fn a_transaction_reads_and_writes_several_keys_at_one_revision() {
    let (client, _cluster) = real().await;
    let before = client.set("a", "1").await.unwrap().applied_index;
    let outcome = client
        .txn()
        .when(Condition::exists("a"))
        .when(Condition::missing("b"))
        .when(Condition::revision("a", before))
        .when(Condition::value("a", "1"))
        .then(TxnOperation::get("a"))
        .then(TxnOperation::set("b", "2"))
        .then(TxnOperation::get("b"))
        .then(TxnOperation::delete("a"))
        .then(TxnOperation::delete("c"))
        .then(TxnOperation::get("a"))
        .otherwise(TxnOperation::get("a"))
        .await
        .unwrap();
    assert!(outcome.succeeded && outcome.revision > before);
    let read = |at: usize| match &outcome.results[at] {
        TxnResult::Found(Some(entry)) => (&entry.key[..], &entry.value[..], entry.revision),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(0), (&b"a"[..], &b"1"[..], before));
    assert_eq!(outcome.results[1], TxnResult::Written);
    assert_eq!(read(2), (&b"b"[..], &b"2"[..], outcome.revision));
    assert_eq!(outcome.results[3], TxnResult::Deleted { existed: true });
    assert_eq!(outcome.results[4], TxnResult::Deleted { existed: false });
    assert_eq!(outcome.results[5], TxnResult::Found(None));

    // Writes nothing, and is a read.
    let session = client.session().await.unwrap();
    let read = session.txn().when(Condition::exists("a"));
    let read = read.otherwise(TxnOperation::get("b")).await.unwrap();
    assert!(!read.succeeded && read.revision >= outcome.revision);
    let [TxnResult::Found(Some(entry))] = &read.results[..] else {
        panic!("{read:?}");
    };
    assert_eq!(entry.revision, outcome.revision);

    let pipeline = session.pipeline(PipelineOptions::default()).await.unwrap();
    let claim = Txn::default()
        .when(Condition::missing("c"))
        .then(TxnOperation::set("c", "3"))
        .otherwise(TxnOperation::get("c"));
    let batch = [claim.clone(), claim].map(Operation::Txn);
    let batch = batch.into_iter().chain([Operation::get("c")]);
    let answers = pipeline.submit(batch).await.unwrap().await;
    let [
        Ok(Reply::Txn(first)),
        Ok(Reply::Txn(second)),
        Ok(Reply::Found(found)),
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert!(first.succeeded && !second.succeeded);
    assert!(matches!(second.results[..], [TxnResult::Found(Some(_))]));
    assert_eq!(found.revision, first.revision);
}

#[tokio::test]
async fn what_a_node_refuses_is_told_in_its_words() {
    let (client, _cluster) = real().await;
    let twice = client.txn().then(TxnOperation::set("k", "v"));
    let error = twice.then(TxnOperation::delete("k")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        ("invalid_request", Applied::No)
    );

    let value = vec![b'v'; 100_000];
    client.set("k", value.clone()).await.unwrap();
    let session = client.session().await.unwrap();
    let error = session.set("k", "w").if_absent().await.unwrap_err();
    let limit = 64 << 10;
    let too_large = |what: &str, limit| {
        Some(Reason::TooLarge(TooLarge {
            what: what.to_owned(),
            limit,
            node_id: None,
        }))
    };
    assert_eq!(
        error.reason(),
        too_large("answer", limit).as_ref(),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("answer too large: at most 65536 bytes (not applied)")
    );
    assert_eq!(error.applied(), Applied::No);
    assert_eq!(
        met(client.set("k", "w").if_absent().await).0.unwrap().len(),
        100_000
    );

    let large = (0..12).fold(client.txn(), |txn, n| {
        txn.then(TxnOperation::set(n.to_string(), value.clone()))
    });
    let error = large.await.unwrap_err();
    let limit = (1 << 20) + (4 << 10);
    assert_eq!(
        error.reason(),
        too_large("transaction", limit).as_ref(),
        "{error}"
    );
}

#[tokio::test]
async fn plain_writes_stay_what_they_were() {
    let node = Mock::leader().await;
    let (client, session) = (client(&node), client(&node).session().await.unwrap());
    // A future as before: lazy, and one that may be joined, boxed and spawned.
    let unused = client.set("k", "unused");
    drop(unused);
    let (one, two) = futures_util::future::join(client.set("k", "v"), session.delete("k")).await;
    one.unwrap();
    two.unwrap();
    tokio::spawn(async move { client.delete("k").await })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((node.txns().len(), node.writes().len()), (0, 3));
}

#[tokio::test]
async fn a_condition_is_one_transaction_whose_failure_reads_the_key() {
    let node = Mock::leader().await;
    let client = client(&node);
    let written = done(client.set("k", "v").if_absent().await);
    assert_eq!(written.applied_index, 1);
    let [sent] = &node.txns()[..] else {
        panic!("{:?}", node.txns());
    };
    let expected = Txn::default()
        .when(Condition::missing("k"))
        .then(TxnOperation::set("k", "v"))
        .otherwise(TxnOperation::get("k"));
    assert_eq!(sent.conditions, [expected.conditions[0].clone().into()]);
    assert_eq!(sent.success, [expected.success[0].clone().into()]);
    assert_eq!(sent.failure, [expected.failure[0].clone().into()]);
    assert_eq!(sent.session, None);
    assert_eq!(met(client.set("k", "w").if_absent().await), (is("v"), 1));
}

#[tokio::test]
async fn without_a_session_a_lost_answer_is_unknown_and_nothing_is_repeated() {
    let node = Mock::leader().await;
    let client = client(&node);
    for fate in [Fate::AppliedAndLost, Fate::AppliedAndLost] {
        node.next_write(fate);
    }
    let error = client.set("k", "v").if_absent().await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    let txn = client.txn().otherwise(TxnOperation::delete("k"));
    let error = txn.await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
    assert_eq!(node.txns().len(), 2);
}

#[tokio::test]
async fn in_a_session_a_retried_compare_and_set_says_that_it_succeeded() {
    let node = Mock::leader().await;
    let session = client(&node).session().await.unwrap();
    for fate in [Fate::AppliedAndLost, Fate::AppliedAndLost, Fate::Silence] {
        node.next_write(fate);
    }
    // The condition does not hold any more when it is sent again.
    let written = done(session.set("k", "v").if_absent().await);
    assert_eq!((written.applied_index, node.applied()), (1, 1));
    assert_eq!(node.numbers(), [(1, 1); 4]);

    node.next_write(Fate::AppliedAndLost);
    let txn = session.txn().when(Condition::exists("k"));
    let outcome = txn.then(TxnOperation::delete("k")).await.unwrap();
    assert_eq!(outcome.results, [TxnResult::Deleted { existed: true }]);
    assert_eq!((outcome.succeeded, node.applied()), (true, 2));
}

#[tokio::test]
async fn a_transaction_that_writes_nothing_is_repeated_like_a_read_and_takes_no_number() {
    let node = Mock::leader().await;
    let (client, session) = (client(&node), client(&node).session().await.unwrap());
    for txn in [client.txn(), session.txn()] {
        node.next_write(Fate::AppliedAndLost);
        let outcome = txn.then(TxnOperation::get("k")).await.unwrap();
        assert_eq!(outcome.results, [TxnResult::Found(None)]);
    }
    let sessions: Vec<_> = node.txns().iter().map(|it| it.session).collect();
    assert_eq!(sessions, [None; 4]);

    node.falls_silent();
    let hasty = client.with_timeout(Duration::from_millis(300));
    let error = hasty.txn().then(TxnOperation::get("k")).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error:?}");
}

#[tokio::test]
async fn in_a_pipeline_only_transactions_that_write_have_numbers() {
    let node = Mock::leader().await;
    let session = client(&node).session().await.unwrap();
    let pipeline = session.pipeline(PipelineOptions::default()).await.unwrap();
    let read = Txn::default().then(TxnOperation::get("k"));
    let write = Txn::default().otherwise(TxnOperation::set("k", "v"));
    let batch = [read, write].map(Operation::Txn).into_iter();
    let batch = batch.chain([Operation::set("k", "v")]);
    for answer in pipeline.submit(batch).await.unwrap().await {
        answer.unwrap();
    }
    let numbers = node.writes().into_iter();
    let numbers: Vec<_> = numbers.map(|it| it.map(|it| it.sequence)).collect();
    assert_eq!(numbers, [None, Some(1), Some(2)]);
}

#[tokio::test]
async fn a_node_of_an_older_version_is_named() {
    let node = Mock::older().await;
    let client = client(&node);
    let words = "this node runs an older version, which knows no transactions (not applied)";
    let named = |error: Error| {
        assert_eq!(error.to_string(), format!("{}: {words}", node.address));
        assert_eq!(error.applied(), Applied::No, "{error:?}");
    };
    named(client.set("k", "v").if_absent().await.unwrap_err());
    named(client.txn().then(TxnOperation::get("k")).await.unwrap_err());
    let pipeline = client.pipeline(PipelineOptions::default()).await.unwrap();
    let claim = Txn::default().then(TxnOperation::set("k", "v"));
    let batch = [Operation::Txn(claim), Operation::set("k", "v")];
    let mut answers = pipeline.submit(batch).await.unwrap().await.into_iter();
    named(answers.next().unwrap().unwrap_err());
    answers.next().unwrap().unwrap();

    // A newer leader of a cluster with an older member says so itself.
    let rule = "node 3 runs an older version".to_owned();
    let reason = Reason::FailedPrecondition(FailedPrecondition { rule: rule.clone() });
    let node = Mock::leader().await;
    let refused = refusal(Code::FailedPrecondition, &rule, ProtoApplied::No, reason);
    node.next_write(Fate::Refused(refused));
    let error = self::client(&node).set("k", "v").if_absent().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), "failed_precondition", "{error:?}");
    assert_eq!(node.txns().len(), 1, "no node is asked again in vain");
}
