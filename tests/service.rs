//! The answers for clients and operators, above all the refusals.
//!
//! Every answer takes the path of a real node, from the client's stub to the core and back, except that
//! there are no sockets and that the test controls the clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use seshat::kv::{Command as WriteCommand, Write};
use seshat::proto::admin::{ClusterState, StatusRequest, TransferLeadershipRequest};
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::pipeline_command::Command;
use seshat::proto::kv::pipeline_result::Result as CommandResult;
use seshat::proto::kv::{
    Applied, DeleteRequest, Forming, GetRequest, InvalidRequest, NoQuorum, NotLeader, Overloaded,
    SetRequest, ShuttingDown, TooLarge,
};
use seshat::proto::kv::{PipelineCommand, PipelineRequest};
use seshat::types::{NodeState, NodeStatus, Role};
use seshat::wire;
use seshat_test_support::fabric::{
    Fabric, MAX_KEY, MAX_MESSAGE, MAX_REQUESTS, MAX_UNREAD, MAX_VALUE, Node, REQUEST_TIMEOUT,
    leader_first,
};
use seshat_test_support::{InTime as _, Refused, eventually, node_id, refused};
use tokio::time::Instant;
use tonic::codegen::Service as _;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

fn set(key: &[u8], value: &[u8]) -> SetRequest {
    SetRequest {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        session: None,
        ..SetRequest::default()
    }
}

fn get(key: &[u8]) -> GetRequest {
    GetRequest {
        key: key.to_vec().into(),
        ..GetRequest::default()
    }
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, Refused) {
    let status = answer.expect_err("a refusal");
    (status.code(), refused(&status))
}

fn not_applied(reason: Reason) -> Refused {
    (Applied::No, Some(reason))
}

fn unknown(reason: Reason) -> Refused {
    (Applied::Unknown, Some(reason))
}

#[tokio::test(start_paused = true)]
async fn a_value_is_got_until_it_is_deleted() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    let absent = leader.kv.get(get(b"k")).await.unwrap().into_inner();
    assert_eq!(absent.value, None);
    let set = leader.kv.set(set(b"k", b"")).await.unwrap().into_inner();
    let empty = leader.kv.get(get(b"k")).await.unwrap().into_inner();
    assert_eq!(empty.value.as_deref(), Some(&b""[..]));
    assert_eq!(empty.applied_index, set.applied_index);
    let delete = DeleteRequest {
        key: b"k".to_vec().into(),
        session: None,
        ..DeleteRequest::default()
    };
    let deleted = leader.kv.delete(delete.clone()).await.unwrap().into_inner();
    assert!(deleted.existed);
    assert!(deleted.applied_index > set.applied_index);
    assert!(!leader.kv.delete(delete).await.unwrap().into_inner().existed);
    assert_eq!(
        leader.kv.get(get(b"k")).await.unwrap().into_inner().value,
        None
    );
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_have_limits() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    let too_large = |what: &str, limit: usize| {
        let reason = Reason::TooLarge(TooLarge {
            what: what.to_owned(),
            limit: u64::try_from(limit).unwrap(),
            node_id: None,
        });
        (Code::InvalidArgument, not_applied(reason))
    };
    let empty = || {
        let reason = Reason::InvalidRequest(InvalidRequest {
            field: "key".to_owned(),
            rule: "a key has at least 1 byte".to_owned(),
        });
        (Code::InvalidArgument, not_applied(reason))
    };
    let (longest, largest) = ([b'k'; MAX_KEY], [b'v'; MAX_VALUE]);
    let (too_long, too_big) = ([b'k'; MAX_KEY + 1], [b'v'; MAX_VALUE + 1]);
    let delete = |key: &[u8]| DeleteRequest {
        key: key.to_vec().into(),
        session: None,
        ..DeleteRequest::default()
    };
    let kv = &mut leader.kv;

    kv.set(set(&longest, &largest)).await.unwrap();
    kv.get(get(&longest)).await.unwrap();
    kv.delete(delete(&longest)).await.unwrap();
    assert_eq!(refusal(kv.set(set(b"", b"v")).await), empty());
    assert_eq!(refusal(kv.get(get(b"")).await), empty());
    assert_eq!(refusal(kv.delete(delete(b"")).await), empty());
    assert_eq!(
        refusal(kv.set(set(&too_long, b"v")).await),
        too_large("key", MAX_KEY)
    );
    assert_eq!(
        refusal(kv.get(get(&too_long)).await),
        too_large("key", MAX_KEY)
    );
    assert_eq!(
        refusal(kv.delete(delete(&too_long)).await),
        too_large("key", MAX_KEY)
    );
    assert_eq!(
        refusal(kv.set(set(b"k", &too_big)).await),
        too_large("value", MAX_VALUE)
    );
    // tonic refuses this one before any handler sees it.
    let huge = set(b"k", &[b'v'; MAX_MESSAGE]);
    assert_eq!(
        refusal(kv.set(huge).await),
        too_large("message", MAX_MESSAGE)
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_request_are_refused_with_a_detail() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (leader, _followers) = leader_first(nodes);
    // Field 1 as a number, where a request has bytes.
    let status = status_of(&leader, "/seshat.kv.v1.KvService/Set", &[0x08, 0x01]).await;
    let (code, (applied, reason)) = refusal::<()>(Err(status));
    assert_eq!((code, applied), (Code::InvalidArgument, Applied::No));
    assert!(
        matches!(reason, Some(Reason::InvalidRequest(_))),
        "{reason:?}"
    );
}

/// The status of a call whose request is one message of these bytes.
async fn status_of(node: &Node, path: &str, message: &[u8]) -> Status {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0], &length[..], message].concat();
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(Full::new(Bytes::from(frame))))
        .unwrap();
    let answer = node.local.clone().call(request).await.unwrap();
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let answer = answer.into_body().collect().await.unwrap();
    Status::from_header_map(answer.trailers().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_with_an_unknown_field_is_refused_by_every_method_and_not_applied() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    let set = [set(b"k", b"v").encode_to_vec(), vec![0x3a, 1, 7]].concat();
    let rule = |message: &str, number| {
        let rule = format!(
            "field {number} of {message} is not known to this version: the client is newer than the node"
        );
        let field = "message".to_owned();
        let reason = Reason::InvalidRequest(InvalidRequest { field, rule });
        (Code::Unimplemented, not_applied(reason))
    };
    let refused = status_of(&leader, "/seshat.kv.v1.KvService/Set", &set).await;
    assert_eq!(
        refusal::<()>(Err(refused)),
        rule("seshat.kv.v1.SetRequest", 7)
    );
    let read = leader.kv.get(get(b"k")).await.unwrap().into_inner();
    assert_eq!(read.value, None);

    let schema = FileDescriptorSet::decode(seshat::proto::FILE_DESCRIPTOR_SET).unwrap();
    let of_clients = schema
        .file
        .iter()
        .filter(|file| file.package() != "seshat.raft.v1");
    let mut methods = 0;
    for (file, service) in of_clients.flat_map(|file| file.service.iter().map(move |it| (file, it)))
    {
        for method in &service.method {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let refused = status_of(&leader, &path, &[0xc2, 0x3e, 0]).await;
            let request = method.input_type().trim_start_matches('.');
            assert_eq!(refusal::<()>(Err(refused)), rule(request, 1000), "{path}");
            methods += 1;
        }
    }
    assert_eq!(methods, 23);
}

/// An older client reads what it knows of a newer node's answer.
#[tokio::test]
async fn a_client_ignores_the_unknown_fields_of_an_answer() {
    let newer_node = tower::service_fn(|_: http::Request<tonic::body::Body>| async {
        let frame = Bytes::from_static(&[0, 0, 0, 0, 5, 0x08, 9, 0xc2, 0x3e, 0]);
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]);
        let body = Full::new(frame).with_trailers(async { Some(Ok(trailers)) });
        let answer = http::Response::builder().header("content-type", "application/grpc");
        Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
    });
    let mut kv = KvServiceClient::new(newer_node);
    let answer = kv.set(set(b"k", b"v")).await.unwrap().into_inner();
    assert_eq!(answer.applied_index, 9);
}

#[tokio::test(start_paused = true)]
async fn a_follower_names_the_leader_and_its_address_at_once() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (leader, followers) = leader_first(nodes);
    let began = Instant::now();
    for mut follower in followers {
        let expected = || {
            let reason = Reason::NotLeader(NotLeader {
                leader_id: Some(leader.id.into()),
                leader_addr: Some(format!("kvstore-{}:6379", leader.id)),
            });
            (Code::FailedPrecondition, not_applied(reason))
        };
        assert_eq!(refusal(follower.kv.set(set(b"k", b"v")).await), expected());
        assert_eq!(refusal(follower.kv.get(get(b"k")).await), expected());
        let transfer = TransferLeadershipRequest::default();
        assert_eq!(
            refusal(follower.admin.transfer_leadership(transfer).await),
            expected()
        );
    }
    assert!(began.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_a_submitted_write_is_unknown_and_everything_else_is_not_applied() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    fabric.cut(leader.id);

    let began = Instant::now();
    let max_wait = Duration::from_millis(200);
    let written = leader.kv.set(within(max_wait, set(b"k", b"v"))).await;
    assert_eq!(
        refusal(written),
        (
            Code::DeadlineExceeded,
            unknown(Reason::NoQuorum(NoQuorum { cut_off: false }))
        )
    );
    let read = leader.kv.get(within(max_wait, get(b"k"))).await;
    let no_quorum = || {
        (
            Code::Unavailable,
            not_applied(Reason::NoQuorum(NoQuorum { cut_off: false })),
        )
    };
    assert_eq!(refusal(read), no_quorum());
    assert!(
        began.elapsed() < 2 * max_wait,
        "the answer came after its caller had left"
    );

    // The leader notices by itself, and then nothing is submitted any more.
    let mut status = leader.driver.watch();
    status
        .wait_for(|status| status.role != Some(Role::Leader))
        .in_time("that status")
        .await
        .unwrap();
    let began = Instant::now();
    let written = leader
        .kv
        .set(within(Duration::from_secs(2), set(b"k", b"v")))
        .await;
    assert_eq!(refusal(written), no_quorum());
    assert!(
        began.elapsed() >= Duration::from_millis(1900),
        "it did not wait for a leader"
    );
}

/// Seen: 8 of 9 calls to a node that one cut link separated from the leader failed, although the cluster
/// was healthy.
#[tokio::test(start_paused = true)]
async fn a_node_without_a_link_to_the_leader_names_the_leader() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (leader, mut followers) = leader_first(nodes);
    let mut apart = followers.remove(0);
    fabric.cut_link(apart.id, leader.id);
    let mut status = apart.driver.watch();
    let alone = status.wait_for(|status| status.leader.is_none());
    alone.in_time("the loss of the leader").await.unwrap();
    let expected = || {
        let reason = Reason::NotLeader(NotLeader {
            leader_id: Some(leader.id.into()),
            leader_addr: Some(format!("kvstore-{}:6379", leader.id)),
        });
        (Code::FailedPrecondition, not_applied(reason))
    };
    // The first one waits as long as an ordinary election may last, the others do not.
    let began = Instant::now();
    assert_eq!(refusal(apart.kv.set(set(b"k", b"v")).await), expected());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    for _ in 0..8 {
        let began = Instant::now();
        assert_eq!(refusal(apart.kv.get(get(b"k")).await), expected());
        assert!(began.elapsed() < Duration::from_millis(10));
    }
    let read = PipelineCommand {
        command: Some(Command::Get(get(b"k"))),
    };
    let request = PipelineRequest {
        commands: vec![read],
        ..PipelineRequest::default()
    };
    let answers = apart.kv.pipeline(tokio_stream::iter([request])).await;
    let answer = answers
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(CommandResult::Error(error)) = &answer.results[0].result else {
        panic!("{answer:?}");
    };
    let detail = error.detail.clone().unwrap();
    assert_eq!((detail.applied(), detail.reason), expected().1);

    // It hears the leader again, and then names it by itself.
    fabric.heal();
    status
        .wait_for(|status| status.leader.is_some())
        .in_time("that status")
        .await
        .unwrap();
    assert_eq!(refusal(apart.kv.get(get(b"k")).await), expected());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reaches_no_other_says_that_it_may_be_cut_off() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (_leader, mut followers) = leader_first(nodes);
    let mut alone = followers.remove(0);
    fabric.cut(alone.id);
    let mut status = alone.driver.watch();
    let lost = status.wait_for(|status| status.leader.is_none());
    lost.in_time("the loss of the leader").await.unwrap();
    let long = Duration::from_secs(4);
    assert_eq!(
        refusal(alone.kv.get(within(long, get(b"k"))).await),
        (
            Code::Unavailable,
            not_applied(Reason::NoQuorum(NoQuorum { cut_off: true }))
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_under_way_when_leadership_ended_is_unknown() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    fabric.cut(leader.id);
    // Long before its deadline: the leader steps down when it hears no majority.
    let (code, detail) = refusal(leader.kv.set(set(b"k", b"v")).await);
    assert_eq!(
        (code, detail),
        (
            Code::DeadlineExceeded,
            unknown(Reason::NoQuorum(NoQuorum { cut_off: false }))
        )
    );
    assert_ne!(leader.status().role, Some(Role::Leader));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_meets_an_election_waits_for_it() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    leader.kill().await;
    let old = leader.status().raft_id;
    for follower in &mut followers {
        let mut status = follower.driver.watch();
        status
            .wait_for(|status| status.leader != Some(old))
            .in_time("that status")
            .await
            .unwrap();
    }
    // There is no leader, or one of the two has just been elected: either way no client has to retry.
    let [one, other] = followers.as_mut_slice() else {
        panic!("two followers");
    };
    let (one, other) = tokio::join!(one.kv.set(set(b"a", b"1")), other.kv.set(set(b"b", b"2")));
    let (accepted, redirected) = match (one, other) {
        (Ok(answer), Err(status)) | (Err(status), Ok(answer)) => (answer, status),
        outcomes => panic!("{outcomes:?}"),
    };
    assert!(accepted.into_inner().applied_index > 0);
    assert!(matches!(
        refused(&redirected),
        (Applied::No, Some(Reason::NotLeader(_)))
    ));
}

#[tokio::test(start_paused = true)]
async fn the_first_write_waits_until_the_cluster_has_formed() {
    let fabric = Fabric::new(3);
    let mut first = fabric.start(1, 1).await;

    let began = Instant::now();
    let max_wait = Duration::from_secs(1);
    let (code, detail) = refusal(first.kv.set(within(max_wait, set(b"k", b"v"))).await);
    let forming = Reason::Forming(Forming {
        waiting_for: "nodes 2 and 3 have not been found yet".to_owned(),
    });
    assert_eq!((code, detail), (Code::Unavailable, not_applied(forming)));
    assert!(began.elapsed() >= Duration::from_millis(900));

    let mut kv = first.kv.clone();
    let write = tokio::spawn(async move { kv.set(set(b"k", b"v")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _others = (fabric.start(2, 1).await, fabric.start(3, 1).await);
    let written = write.in_time("a write").await.unwrap();
    // The lowest id offers the cluster and campaigns first.
    assert!(written.unwrap().into_inner().applied_index > 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_outside_refuses_at_once() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (_leader, mut followers) = leader_first(nodes);
    followers[0].kill().await;
    let mut again = fabric.start(followers[0].id.get(), 2).await;
    let mut status = again.driver.watch();
    status
        .wait_for(|status| status.state == NodeState::Outside)
        .in_time("that status")
        .await
        .unwrap();

    let began = Instant::now();
    let (code, (applied, reason)) = refusal(again.kv.get(get(b"k")).await);
    assert_eq!((code, applied), (Code::Unavailable, Applied::No));
    let Some(Reason::Forming(Forming { waiting_for })) = reason else {
        panic!("{reason:?}");
    };
    assert!(waiting_for.contains("has lost its memory"), "{waiting_for}");
    assert!(began.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_full_node_says_which_bound_was_met() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    let inside: Vec<_> = (0..MAX_REQUESTS)
        .map(|_| leader.admission.for_another_connection().enter(1).unwrap())
        .collect();
    let reason = Reason::Overloaded(Overloaded {
        what: "max_pending_requests".to_owned(),
        limit: u64::try_from(MAX_REQUESTS).unwrap(),
    });
    let expected = (Code::ResourceExhausted, not_applied(reason));
    assert_eq!(refusal(leader.kv.get(get(b"k")).await), expected);
    drop(inside);
    leader.kv.get(get(b"k")).await.unwrap();
}

/// More than the core takes at once waits for its answers, and for no tick.
#[tokio::test(start_paused = true)]
async fn waiting_requests_continue_as_soon_as_the_core_has_room() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (leader, _followers) = leader_first(nodes);
    let began = Instant::now();
    let reads: Vec<_> = (0..MAX_REQUESTS)
        .map(|_| leader.driver.read(seshat::types::Key::from("k")).unwrap())
        .collect();
    for read in reads {
        read.in_time("a read").await.unwrap().unwrap();
    }
    let writes: Vec<_> = (0..MAX_REQUESTS)
        .map(|_| {
            let write = Write::Set {
                key: "k".into(),
                value: "v".into(),
            };
            let command = wire::encode_command(&WriteCommand::from(write));
            leader.driver.write(command).unwrap()
        })
        .collect();
    for write in writes {
        write.in_time("a write").await.unwrap().unwrap();
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// However many streams do not read: their waiting answers are bounded, and one that reads is served.
#[tokio::test(start_paused = true)]
async fn streams_that_do_not_read_hold_no_more_than_is_left_for_one_that_does() {
    const STREAMS: usize = 8;
    const READS: usize = 4;
    /// More than the cost of one batch and its answer.
    const BATCH_BYTES: usize = READS * (256 + MAX_VALUE + MAX_KEY);
    let batch = |id| {
        let read = PipelineCommand {
            command: Some(Command::Get(get(b"k"))),
        };
        PipelineRequest {
            id,
            commands: vec![read; READS],
            ..PipelineRequest::default()
        }
    };
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    leader.kv.set(set(b"k", b"vvvv")).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let requests = tokio_stream::iter((0..200).map(batch));
        let mut kv = leader.another_connection();
        let answers = kv.pipeline(requests).await.unwrap();
        streams.push(answers.into_inner());
    }
    // The clock advances when all tasks are idle.
    tokio::time::sleep(REQUEST_TIMEOUT * 2).await;
    let held = leader.host.unread().held();
    println!("{held} bytes wait for {STREAMS} streams");
    assert!(held > MAX_UNREAD / 2, "they are not held back too early");
    assert!(held <= MAX_UNREAD, "they are held back");

    let mut reader = leader
        .another_connection()
        .pipeline(tokio_stream::iter((0..100).map(batch)))
        .await
        .unwrap()
        .into_inner();
    for id in 0..100 {
        let answer = reader
            .message()
            .in_time("an answer")
            .await
            .unwrap()
            .expect("an answer");
        assert_eq!((answer.id, answer.results.len()), (id, READS));
        assert!(leader.host.unread().held() <= MAX_UNREAD + BATCH_BYTES);
    }
    // The clients that read in the end miss nothing.
    for stream in &mut streams {
        for id in 0..200 {
            assert_eq!(
                stream
                    .message()
                    .in_time("an answer")
                    .await
                    .unwrap()
                    .unwrap()
                    .id,
                id
            );
        }
        assert!(
            stream
                .message()
                .in_time("an answer")
                .await
                .unwrap()
                .is_none()
        );
    }
    assert_eq!(leader.host.unread().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_refuses_what_is_new_and_what_waits() {
    let shutting_down = || {
        let reason = Reason::ShuttingDown(ShuttingDown {});
        (Code::Unavailable, not_applied(reason))
    };
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    leader.admission.close();
    assert_eq!(
        refusal(leader.kv.set(set(b"k", b"v")).await),
        shutting_down()
    );

    let first = Fabric::new(3).start(1, 1).await;
    let mut kv = first.kv.clone();
    let waits = tokio::spawn(async move { kv.set(set(b"k", b"v")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waits.is_finished());
    first.admission.close();
    assert_eq!(
        refusal(waits.in_time("a write that waits").await.unwrap()),
        shutting_down()
    );
    first.admission.drained().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_driver_has_stopped_a_submitted_write_is_unknown() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    fabric.cut(leader.id);
    let (mut writer, mut reader) = (leader.kv.clone(), leader.kv.clone());
    let write = tokio::spawn(async move { writer.set(set(b"k", b"v")).await });
    let read = tokio::spawn(async move { reader.get(get(b"k")).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    leader.kill().await;

    let reason = || Reason::ShuttingDown(ShuttingDown {});
    assert_eq!(
        refusal(write.in_time("a write").await.unwrap()),
        (Code::Unknown, unknown(reason()))
    );
    let not_applied = (Code::Unavailable, not_applied(reason()));
    assert_eq!(refusal(read.in_time("a read").await.unwrap()), not_applied);
    assert_eq!(refusal(leader.kv.set(set(b"k", b"v")).await), not_applied);
}

#[tokio::test(start_paused = true)]
async fn leadership_goes_where_the_operator_says() {
    let (_fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    let to = |id| TransferLeadershipRequest {
        to: Some(id),
        timeout: None,
        ..TransferLeadershipRequest::default()
    };
    let transferee = followers[1].id;
    let before = leader.status().term;
    let answer = leader
        .admin
        .transfer_leadership(to(transferee.into()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.leader_id, u32::from(transferee));
    assert!(answer.term > before);
    assert_eq!(followers[1].status().role, Some(Role::Leader));

    // A transfer to itself is done at once; after any other transfer another node leads in the end.
    let own = followers[1]
        .admin
        .transfer_leadership(to(transferee.into()))
        .await
        .unwrap();
    assert_eq!(own.into_inner().leader_id, u32::from(transferee));
    let any = TransferLeadershipRequest::default();
    let answer = followers[1]
        .admin
        .transfer_leadership(any)
        .await
        .unwrap()
        .into_inner();
    assert_ne!(answer.leader_id, u32::from(transferee));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_cannot_be_is_refused_with_the_reason() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, followers) = leader_first(nodes);
    let request = |to, millis: i32| TransferLeadershipRequest {
        to,
        timeout: Some(prost_types::Duration {
            seconds: i64::from(millis / 1000),
            nanos: millis % 1000 * 1_000_000,
        }),
        ..TransferLeadershipRequest::default()
    };
    for (request, field) in [
        (request(Some(0), 500), "to"),
        (request(Some(65_536), 500), "to"),
        (request(Some(9), 500), "to"),
        (request(None, -500), "timeout"),
    ] {
        let (code, (applied, reason)) = refusal(leader.admin.transfer_leadership(request).await);
        assert_eq!((code, applied), (Code::InvalidArgument, Applied::No));
        let Some(Reason::InvalidRequest(invalid)) = reason else {
            panic!("{reason:?}");
        };
        assert_eq!(invalid.field, field, "{}", invalid.rule);
    }

    let gone = followers[0].id;
    fabric.cut(gone);
    let began = Instant::now();
    let request = request(Some(gone.into()), 3000);
    let status = leader.admin.transfer_leadership(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        refused(&status),
        unknown(Reason::NoQuorum(NoQuorum { cut_off: false }))
    );
    assert!(
        status
            .message()
            .contains(&format!("node {gone} has not taken over"))
    );
    assert!(began.elapsed() >= Duration::from_secs(3));
    // raft-rs gives up by itself, and writes that waited for that go on.
    leader.kv.set(set(b"k", b"v")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn status_tells_how_the_cluster_fares() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    leader.kv.set(set(b"k", b"v")).await.unwrap();
    let until = async |node: &mut Node, state: ClusterState| {
        eventually(state.as_str_name(), async || {
            let request = StatusRequest::default();
            let response = node.admin.status(request).await.unwrap().into_inner();
            (response.state() == state).then_some(response)
        })
        .await
    };
    let response = until(&mut followers[0], ClusterState::Healthy).await;
    assert_eq!(
        response.summary,
        "healthy: every member takes part, and the cluster may lose any one of them"
    );
    assert!(response.healed);
    assert_eq!(response.leader_id, Some(leader.id.into()));
    assert_eq!(response.answered_by, u32::from(followers[0].id));
    assert!(response.members.iter().all(|member| member.reachable));

    let lost = followers[1].id;
    followers[1].kill().await;
    let began = Instant::now();
    let response = until(&mut leader, ClusterState::Degraded).await;
    assert_eq!(
        response.summary,
        format!("degraded: node {lost} does not answer")
    );
    assert!(began.elapsed() <= Duration::from_secs(1));

    let mut again = fabric.start(lost.get(), 2).await;
    let response = until(&mut leader, ClusterState::Healthy).await;
    let member = &response.members[usize::from(lost.get()) - 1];
    assert_eq!(member.raft_id, again.driver.status().raft_id.get());

    again.kill().await;
    fabric.cut(leader.id);
    let response = until(&mut followers[0], ClusterState::NoQuorum).await;
    assert!(
        response.summary.starts_with("no quorum: "),
        "{}",
        response.summary
    );
    assert_eq!(response.leader_id, None);
}

/// The health of the process as a whole, and of `KvService`.
async fn health(node: &mut Node) -> [ServingStatus; 2] {
    let mut statuses = [ServingStatus::Unknown; 2];
    for (status, service) in statuses.iter_mut().zip(["", "seshat.kv.v1.KvService"]) {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let response = node.health.check(request).await.unwrap();
        *status = response.into_inner().status();
    }
    statuses
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_is_ready_only_once_it_votes() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, mut followers) = leader_first(nodes);
    leader.kv.set(set(b"k", b"v")).await.unwrap();
    let mut lost = followers.pop().unwrap();
    let former = lost.driver.status().raft_id;
    lost.kill().await;
    let mut again = fabric.start(lost.id.get(), 2).await;
    let mut served_before = false;
    let came_back = async {
        loop {
            let [process, kv_service] = health(&mut again).await;
            let status = again.driver.status();
            let voters = &status.conf.voters;
            if process == ServingStatus::Serving {
                assert_eq!(kv_service, ServingStatus::Serving);
                assert!(voters.contains(&status.raft_id), "{status:?}");
                assert!(!voters.contains(&former), "{status:?}");
                break;
            }
            served_before |= kv_service == ServingStatus::Serving;
            // The others remain full members.
            assert_eq!(health(&mut leader).await, [ServingStatus::Serving; 2]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    came_back.in_time("a full member").await;
    assert!(served_before, "a learner can name the leader");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_voters_wakes_the_watchers() {
    let (fabric, nodes) = Fabric::started(3).await;
    let (leader, mut followers) = leader_first(nodes);
    let mut lost = followers.pop().unwrap();
    lost.kill().await;
    let again = fabric.start(lost.id.get(), 2).await;
    let incarnation = again.driver.status().raft_id;
    let votes = |status: &NodeStatus| status.conf.voters.contains(&incarnation);
    let mut watch = leader.driver.watch();
    assert!(!votes(&watch.borrow()));
    watch.wait_for(votes).in_time("its vote").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn health_is_serving_exactly_while_a_leader_is_known() {
    async fn until(node: &mut Node, expected: ServingStatus) {
        eventually(expected.as_str_name(), async || {
            (health(node).await == [expected; 2]).then_some(())
        })
        .await;
    }
    let fabric = Fabric::new(3);
    let mut first = fabric.start(1, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(health(&mut first).await, [ServingStatus::NotServing; 2]);
    let (mut second, mut third) = (fabric.start(2, 1).await, fabric.start(3, 1).await);
    for node in [&mut first, &mut second, &mut third] {
        until(node, ServingStatus::Serving).await;
    }
    fabric.cut(node_id(1));
    until(&mut first, ServingStatus::NotServing).await;
    fabric.heal();
    until(&mut first, ServingStatus::Serving).await;
    first.admission.close();
    until(&mut first, ServingStatus::NotServing).await;

    let request = HealthCheckRequest {
        service: "no.such.Service".to_owned(),
    };
    assert_eq!(
        first.health.check(request).await.unwrap_err().code(),
        Code::NotFound
    );
}
