//! Pipelines, against a real cluster and against a silent node.

use std::time::Duration;

use seshat::client::{Applied, Client, Error, Operation, Pipeline, PipelineOptions, Reply};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::{Applied as ProtoApplied, Overloaded, ShuttingDown};
use tonic::{Code, Status};

use super::mock::{Fate, Mock, not_leader, refusal, session_expired};
use seshat_test_support::cluster::Cluster;

fn client(cluster: &Cluster) -> Client {
    let endpoints = (0..3).map(|index| cluster.client_addr(index));
    let builder = Client::builder().endpoints(endpoints);
    builder.timeout(Duration::from_secs(60)).build().unwrap()
}

fn window(batches: usize) -> PipelineOptions {
    PipelineOptions::default().window(batches)
}

fn value(reply: &Result<Reply, Error>) -> Option<&[u8]> {
    match reply {
        Ok(Reply::Found(found)) => found.value.as_deref(),
        other => panic!("no read: {other:?}"),
    }
}

#[tokio::test]
async fn commands_take_effect_in_order_and_reads_see_what_is_before_them() {
    let cluster = Cluster::started(3).await;
    let pipeline = client(&cluster).pipeline(window(16)).await.unwrap();
    let mut answers = Vec::new();
    for number in 0..500 {
        let batch = [
            Operation::get("k"),
            Operation::set("k", number.to_string()),
            Operation::get("k"),
        ];
        answers.push(pipeline.submit(batch).await.unwrap());
    }
    // The commands in flight are answered although the program can submit no more.
    drop(pipeline);
    for (number, answers) in answers.into_iter().enumerate() {
        let answers = answers.await;
        let before = number.checked_sub(1).map(|number| number.to_string());
        assert_eq!(value(&answers[0]), before.as_deref().map(str::as_bytes));
        assert_eq!(value(&answers[2]), Some(number.to_string().as_bytes()));
    }
}

#[tokio::test]
async fn a_command_that_is_refused_leaves_the_others_alone() {
    let cluster = Cluster::started(3).await;
    let pipeline = client(&cluster).pipeline(window(1)).await.unwrap();
    let batch = [
        Operation::set("k", "v"),
        Operation::set("", "no key"),
        Operation::delete("k"),
    ];
    let answers = pipeline.submit(batch).await.unwrap().await;
    assert!(matches!(answers[0], Ok(Reply::Written(_))), "{answers:?}");
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        ("invalid_request", Applied::No)
    );
    let Ok(Reply::Deleted(deleted)) = &answers[2] else {
        panic!("{answers:?}");
    };
    assert!(deleted.existed);
    for batch in [Vec::new(), vec![Operation::get("k"); 4097]] {
        let error = pipeline.submit(batch).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
}

/// Submits batches that bind a key of their own, remove it and read a common one, until told to stop;
/// returns the answers to each.
async fn submit_while(
    pipeline: &Pipeline,
    mut goes_on: impl FnMut(u32) -> bool,
) -> Vec<Vec<Result<Reply, Error>>> {
    let mut answers = Vec::new();
    for number in 0.. {
        if !goes_on(number) {
            break;
        }
        let batch = [
            Operation::set(format!("own/{number}"), "v"),
            Operation::delete(format!("own/{number}")),
            Operation::set("common", number.to_string()),
        ];
        match pipeline.submit(batch).await {
            Ok(submitted) => answers.push(submitted),
            Err(error) => {
                assert_eq!(error.applied(), Applied::No, "{error:?}");
                break;
            }
        }
    }
    let mut answered = Vec::new();
    for answers in answers {
        answered.push(answers.await);
    }
    answered
}

#[tokio::test]
async fn in_a_session_a_pipeline_survives_the_kill_of_the_leader() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster);
    let session = client.session().await.unwrap();
    let pipeline = session.pipeline(window(32)).await.unwrap();
    let leader = cluster.leader().await;
    let answered = submit_while(&pipeline, |number| {
        if number == 300 {
            cluster.take(leader).kill();
        }
        number < 1000
    })
    .await;
    let mut last_index = 0;
    for answers in &answered {
        let [
            Ok(Reply::Written(own)),
            Ok(Reply::Deleted(deleted)),
            Ok(Reply::Written(common)),
        ] = &answers[..]
        else {
            panic!("{answers:?}");
        };
        assert!(deleted.existed, "removed twice: {answers:?}");
        for index in [
            own.applied_index,
            deleted.applied_index,
            common.applied_index,
        ] {
            assert!(index > last_index, "{index} is not behind {last_index}");
            last_index = index;
        }
    }
    let common = client.get("common").await.unwrap();
    assert_eq!(common.as_deref(), Some(&b"999"[..]));
}

#[tokio::test]
async fn without_a_session_a_pipeline_ends_with_its_leader_and_says_what_is_unknown() {
    let mut cluster = Cluster::started(3).await;
    let client = client(&cluster);
    let pipeline = client.pipeline(window(32)).await.unwrap();
    let leader = cluster.leader().await;
    let answered = submit_while(&pipeline, |number| {
        if number == 300 {
            cluster.take(leader).kill();
        }
        true
    })
    .await;
    let mut broken = 0;
    for answers in &answered {
        if let [_, Ok(Reply::Deleted(deleted)), _] = &answers[..] {
            assert!(deleted.existed, "removed twice: {answers:?}");
        }
        for error in answers.iter().filter_map(|it| it.as_ref().err()) {
            assert_eq!(error.applied(), Applied::Unknown, "{error:?}");
            broken += 1;
        }
    }
    assert!(
        broken <= 32 * 3,
        "{broken} writes in a window of 32 batches"
    );
    // The next one finds the next leader.
    let pipeline = client.pipeline(window(1)).await.unwrap();
    let answers = pipeline.submit([Operation::set("k", "v")]).await.unwrap();
    answers.await[0].as_ref().unwrap();
}

#[tokio::test]
async fn a_node_that_says_nothing_ends_a_pipeline_at_the_deadline() {
    let node = Mock::leader().await;
    node.next_write(Fate::Silence);
    let client = Client::connect([&node.address]).unwrap();
    let client = client.with_timeout(Duration::from_millis(500));
    let pipeline = client.pipeline(window(1)).await.unwrap();
    let batch = [Operation::set("k", "v"), Operation::get("k")];
    let answers = pipeline.submit(batch).await.unwrap();
    // The window is full: a further batch is not sent.
    let error = pipeline.submit([Operation::get("k")]).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error:?}");
    let answers = answers.await;
    let outcomes = answers.iter().map(|it| it.as_ref().unwrap_err().applied());
    let outcomes: Vec<_> = outcomes.collect();
    assert_eq!(outcomes, [Applied::Unknown, Applied::No], "{answers:?}");
}

#[tokio::test]
async fn a_dropped_batch_keeps_its_place() {
    let cluster = Cluster::started(3).await;
    let session = client(&cluster).session().await.unwrap();
    let pipeline = session.pipeline(window(8)).await.unwrap();
    for number in 0..100 {
        let batch = [Operation::set("k", number.to_string())];
        // The caller does not wait for the answer.
        drop(pipeline.submit(batch).await.unwrap());
    }
    let read = pipeline.submit([Operation::get("k")]).await.unwrap().await;
    assert_eq!(value(&read[0]), Some(&b"99"[..]));
}

fn shutting_down(applied: ProtoApplied) -> Status {
    let reason = Reason::ShuttingDown(ShuttingDown {});
    refusal(Code::Unavailable, "it shuts down", applied, reason)
}

#[tokio::test]
async fn the_end_of_a_stream_tells_whether_what_was_not_answered_may_have_been_applied() {
    for (end, applied) in [
        (shutting_down(ProtoApplied::No), Applied::No),
        (shutting_down(ProtoApplied::Unknown), Applied::Unknown),
        // Without a detail, no code tells that nothing of a stream was begun.
        (Status::unavailable("gone"), Applied::Unknown),
        (Status::invalid_argument("no"), Applied::Unknown),
        (Status::permission_denied("no"), Applied::Unknown),
    ] {
        let node = Mock::leader().await;
        node.next_write(Fate::StreamEnds(end.clone()));
        let client = Client::connect([&node.address]).unwrap();
        let client = client.with_timeout(Duration::from_secs(30));
        let pipeline = client.pipeline(window(2)).await.unwrap();
        let batch = [Operation::set("k", "1"), Operation::get("k")];
        let first = pipeline.submit(batch).await.unwrap();
        let second = pipeline.submit([Operation::set("k", "2")]).await.unwrap();
        let mut answers = first.await;
        answers.extend(second.await);
        let outcomes = answers.iter().map(|it| it.as_ref().unwrap_err().applied());
        let outcomes: Vec<_> = outcomes.collect();
        assert_eq!(outcomes, [applied, Applied::No, applied], "{end:?}");
    }
}

/// The answers to two writes of a session, on a stream with these fates.
async fn numbered(node: &Mock, fates: impl IntoIterator<Item = Fate>) -> Vec<Result<Reply, Error>> {
    let client = Client::builder().endpoints([&node.address]);
    let client = client.timeout(Duration::from_secs(30)).build().unwrap();
    let session = client.session().await.unwrap();
    let pipeline = session.pipeline(window(2)).await.unwrap();
    for fate in fates {
        node.next_write(fate);
    }
    let first = pipeline.submit([Operation::set("k", "1")]).await.unwrap();
    let second = pipeline.submit([Operation::set("k", "2")]).await.unwrap();
    let mut answers = first.await;
    answers.extend(second.await);
    answers
}

#[tokio::test]
async fn in_a_session_what_was_not_answered_is_sent_again_in_order() {
    for fate in [
        Fate::AppliedAndLost,
        Fate::Silence,
        Fate::Refused(not_leader(None)),
    ] {
        let node = Mock::leader().await;
        let answers = numbered(&node, [fate]).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        // The last two are those that were answered.
        let numbers = node.numbers();
        assert_eq!(
            numbers[numbers.len() - 2..],
            [(1, 1), (2, 1)],
            "{numbers:?}"
        );
        assert!(node.batches() > 2, "{numbers:?}");
    }
}

#[tokio::test]
async fn an_expired_session_leaves_a_doubt_only_where_something_may_have_been_applied() {
    let expired = || Fate::Refused(session_expired());
    for (fate, applied) in [
        (Fate::AppliedAndLost, Applied::Unknown),
        (Fate::Silence, Applied::Unknown),
        (Fate::Refused(not_leader(None)), Applied::No),
        (
            Fate::StreamEnds(shutting_down(ProtoApplied::No)),
            Applied::No,
        ),
        (
            Fate::StreamEnds(Status::unavailable("gone")),
            Applied::Unknown,
        ),
    ] {
        let node = Mock::leader().await;
        let refused = matches!(fate, Fate::Refused(_));
        let answers = numbered(&node, [fate, expired(), expired(), expired()]).await;
        let error = answers[0].as_ref().unwrap_err();
        assert!(error.is_session_expired(), "{error:?}");
        assert_eq!(error.applied(), applied, "{error:?}");
        // The second was on its way when the first was refused, or was not.
        let error = answers[1].as_ref().unwrap_err();
        assert!(refused || error.applied() == applied, "{error:?}");
    }
}

#[tokio::test]
async fn overload_comes_back_to_the_caller_that_submits() {
    let node = Mock::leader().await;
    let busy = Reason::Overloaded(Overloaded::default());
    let busy = refusal(Code::ResourceExhausted, "busy", ProtoApplied::No, busy);
    let answers = numbered(&node, [Fate::Refused(busy)]).await;
    let error = answers[0].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.applied()), ("overloaded", Applied::No));
    assert!(answers[1].is_ok(), "{answers:?}");
}
