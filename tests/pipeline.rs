//! `Pipeline` between real sockets: order, errors of single commands, flow control, and the end of a
//! stream.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seshat::config::Limits;
use seshat::proto::admin::TransferLeadershipRequest;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::pipeline_command::Command;
use seshat::proto::kv::pipeline_result::Result as Answer;
use seshat::proto::kv::{
    Applied, DeleteRequest, GetRequest, InvalidRequest, OpenSessionRequest, PipelineCommand,
    PipelineError, PipelineRequest, PipelineResponse, Session, SetRequest,
};
use seshat_test_support::cluster::Cluster;
use seshat_test_support::{InTime as _, eventually, refused};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// No test here takes so long, on any machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    answers: Streaming<PipelineResponse>,
}

impl Stream {
    async fn open(kv: &mut KvServiceClient<Channel>) -> Self {
        let (requests, sent) = mpsc::channel(1);
        let answers = kv.pipeline(ReceiverStream::new(sent)).await;
        Self {
            requests,
            answers: answers.expect("a stream").into_inner(),
        }
    }

    async fn send(&self, id: u64, commands: Vec<Command>) {
        let request = batch(id, commands);
        self.requests.send(request).await.expect("a stream");
    }

    async fn next(&mut self) -> Result<Option<PipelineResponse>, Status> {
        self.answers.message().in_time("an answer").await
    }

    async fn answers(&mut self, id: u64) -> Vec<Answer> {
        let response = self.next().await.expect("no error").expect("an answer");
        assert_eq!(response.id, id);
        let results = response.results.into_iter();
        results.map(|it| it.result.expect("a result")).collect()
    }
}

fn batch(id: u64, commands: Vec<Command>) -> PipelineRequest {
    let commands = commands.into_iter().map(|command| PipelineCommand {
        command: Some(command),
    });
    PipelineRequest {
        id,
        commands: commands.collect(),
        ..PipelineRequest::default()
    }
}

fn set(key: &str, value: impl Into<Bytes>) -> Command {
    Command::Set(SetRequest {
        key: key.to_owned().into(),
        value: value.into(),
        session: None,
        ..SetRequest::default()
    })
}

fn get(key: &str) -> Command {
    Command::Get(GetRequest {
        key: key.to_owned().into(),
        ..GetRequest::default()
    })
}

fn delete(key: &str) -> Command {
    Command::Delete(DeleteRequest {
        key: key.to_owned().into(),
        session: None,
        ..DeleteRequest::default()
    })
}

fn got(answer: &Answer) -> Option<&[u8]> {
    match answer {
        Answer::Get(answer) => answer.value.as_deref(),
        other => panic!("{other:?}"),
    }
}

fn index(answer: &Answer) -> u64 {
    match answer {
        Answer::Set(answer) => answer.applied_index,
        Answer::Delete(answer) => answer.applied_index,
        other => panic!("{other:?}"),
    }
}

fn error(answer: Answer) -> (Code, Applied, Reason) {
    let Answer::Error(PipelineError { code, detail, .. }) = answer else {
        panic!("{answer:?}");
    };
    let detail = detail.expect("a detail");
    let code = Code::from_i32(i32::try_from(code).unwrap());
    (code, detail.applied(), detail.reason.expect("a reason"))
}

/// The expected answer to a command.
#[derive(Debug)]
enum Expected {
    Set,
    Got(Option<Bytes>),
    Deleted(bool),
}

fn expect(model: &mut BTreeMap<String, Bytes>, rng: &mut StdRng, n: u64) -> (Command, Expected) {
    let key = format!("k{}", rng.gen_range(0..20));
    match rng.gen_range(0..5) {
        0 | 1 => {
            let value = Bytes::from(n.to_string());
            model.insert(key.clone(), value.clone());
            (set(&key, value), Expected::Set)
        }
        2 => {
            let existed = model.remove(&key).is_some();
            (delete(&key), Expected::Deleted(existed))
        }
        _ => (get(&key), Expected::Got(model.get(&key).cloned())),
    }
}

/// A read sees the write before it and not the one behind it, in its batch and beyond, with as many
/// batches in flight as the window holds.
#[tokio::test]
async fn ten_thousand_mixed_commands_agree_with_a_map() {
    const COMMANDS: u64 = 10_000;
    const WINDOW: usize = 32;
    let seed = 7;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut stream = Stream::open(&mut cluster.kv(leader)).await;
    let (mut model, mut in_flight) = (BTreeMap::new(), VecDeque::new());
    let (mut sent, mut id, mut last) = (0, 0, 0);
    while sent < COMMANDS || !in_flight.is_empty() {
        if sent < COMMANDS && in_flight.len() < WINDOW {
            let size = rng.gen_range(1..=64).min(COMMANDS - sent);
            let pairs = (0..size).map(|n| expect(&mut model, &mut rng, sent + n));
            let (commands, expected): (Vec<_>, Vec<_>) = pairs.unzip();
            sent += size;
            id += 1;
            stream.send(id, commands).await;
            in_flight.push_back((id, expected));
            continue;
        }
        let (id, expected) = in_flight.pop_front().unwrap();
        let answers = stream.answers(id).await;
        assert_eq!(answers.len(), expected.len());
        for (answer, expected) in answers.iter().zip(expected) {
            match (answer, &expected) {
                (Answer::Get(_), Expected::Got(value)) => {
                    assert_eq!(got(answer), value.as_deref(), "batch {id}");
                }
                (Answer::Delete(answer), Expected::Deleted(existed)) => {
                    assert_eq!(answer.existed, *existed, "batch {id}");
                }
                (Answer::Set(_), Expected::Set) => {}
                other => panic!("batch {id}: {other:?}"),
            }
            if !matches!(expected, Expected::Got(_)) {
                assert!(last < index(answer), "writes ascend");
                last = index(answer);
            }
        }
    }
    drop(stream.requests);
    let end = timeout(TEST_TIMEOUT, stream.answers.message())
        .await
        .unwrap();
    assert_eq!(
        end.unwrap(),
        None,
        "the stream ends when its client ends it"
    );
}

#[tokio::test]
async fn a_command_that_is_refused_does_not_disturb_the_others() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut stream = Stream::open(&mut cluster.kv(leader)).await;
    let too_large = vec![b'v'; Limits::default().max_value_bytes + 1];
    let unknown_session = Command::Set(SetRequest {
        key: Bytes::from("k"),
        value: Bytes::from("expired"),
        session: Some(session(9, 1)),
        ..SetRequest::default()
    });
    let commands = vec![
        set("k", "1"),
        set("k", too_large),
        get("k"),
        set("", "2"),
        unknown_session,
        delete("k"),
        get("k"),
    ];
    let mut request = batch(5, commands);
    request.commands.push(PipelineCommand { command: None });
    stream.requests.send(request).await.unwrap();
    let mut answers = VecDeque::from(stream.answers(5).await);
    let mut next = || answers.pop_front().unwrap();

    assert!(matches!(next(), Answer::Set(_)));
    let (code, applied, reason) = error(next());
    assert_eq!((code, applied), (Code::InvalidArgument, Applied::No));
    assert!(matches!(reason, Reason::TooLarge(_)), "{reason:?}");
    assert_eq!(got(&next()), Some(&b"1"[..]));
    let (code, applied, reason) = error(next());
    assert_eq!((code, applied), (Code::InvalidArgument, Applied::No));
    assert!(matches!(reason, Reason::InvalidRequest(_)), "{reason:?}");
    let (code, applied, reason) = error(next());
    assert_eq!((code, applied), (Code::FailedPrecondition, Applied::No));
    assert!(matches!(reason, Reason::SessionExpired(_)), "{reason:?}");
    assert!(matches!(next(), Answer::Delete(it) if it.existed));
    assert_eq!(got(&next()), None);
    assert!(matches!(error(next()).2, Reason::InvalidRequest(_)));
}

fn session(client_id: u64, sequence: u64) -> Session {
    Session {
        client_id,
        sequence,
        first_outstanding: 1,
    }
}

#[tokio::test]
async fn a_numbered_batch_that_is_sent_again_on_another_stream_applies_once() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let open = OpenSessionRequest {
        client_id: 7,
        ..OpenSessionRequest::default()
    };
    kv.open_session(open).await.unwrap();
    let numbered = |sequence, value: &str| {
        Command::Set(SetRequest {
            key: Bytes::from("k"),
            value: Bytes::from(value.to_owned()),
            session: Some(session(7, sequence)),
            ..SetRequest::default()
        })
    };
    let commands = vec![numbered(1, "one"), numbered(2, "two")];
    let mut first = Stream::open(&mut kv).await;
    first.send(1, commands.clone()).await;
    let answers = first.answers(1).await;
    first.send(2, vec![set("k", "later")]).await;
    first.answers(2).await;

    let mut second = Stream::open(&mut kv).await;
    // Number 1 belongs to a Set, and a removal with that number is none.
    let removal = Command::Delete(DeleteRequest {
        key: Bytes::from("k"),
        session: Some(session(7, 1)),
        ..DeleteRequest::default()
    });
    second.send(1, commands).await;
    second.send(2, vec![removal, get("k")]).await;
    assert_eq!(second.answers(1).await, answers);
    let mut rest = second.answers(2).await;
    assert_eq!(got(&rest.pop().unwrap()), Some(&b"later"[..]));
    let (code, applied, reason) = error(rest.pop().unwrap());
    assert_eq!((code, applied), (Code::InvalidArgument, Applied::No));
    assert!(matches!(reason, Reason::InvalidRequest(it) if it.field == "session"));
}

/// A violation of the rules ends the stream, after the answers to all earlier commands.
#[tokio::test]
async fn a_bad_request_ends_the_stream_behind_the_answers() {
    const BEFORE: u64 = 50;
    let limits = Limits::default();
    let many = (0..4097).map(|_| get("k")).collect();
    let huge = (0..5).map(|_| set("k", vec![b'v'; limits.max_value_bytes]));
    let cases = [
        ("commands", vec![]),
        ("commands", many),
        ("message", huge.collect::<Vec<_>>()),
    ];
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    for (fault, commands) in cases {
        let mut stream = Stream::open(&mut cluster.kv(leader)).await;
        for id in 1..=BEFORE {
            stream.send(id, vec![set("k", "v"), get("k")]).await;
        }
        stream.send(BEFORE + 1, commands).await;
        for id in 1..=BEFORE {
            assert_eq!(stream.answers(id).await.len(), 2);
        }
        let status = stream.next().await.expect_err("the end of the stream");
        let (applied, reason) = refused(&status);
        assert_eq!(
            (status.code(), applied),
            (Code::InvalidArgument, Applied::No)
        );
        match reason.expect("a reason") {
            Reason::InvalidRequest(it) => assert_eq!(it.field, fault),
            Reason::TooLarge(it) => assert_eq!(it.what, fault),
            other => panic!("{other:?}"),
        }
    }
}

/// Messages of a later version, in which a write has another field.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterRequest {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "2")]
    commands: Vec<LaterCommand>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterCommand {
    #[prost(message, optional, tag = "1")]
    set: Option<LaterSet>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterSet {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bool, optional, tag = "7")]
    later: Option<bool>,
}

/// The node refuses a batch of which it does not understand one command whole, and executes none of it.
#[tokio::test]
async fn an_unknown_field_ends_the_stream_behind_the_answers() {
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let set = |key: &str, later| LaterCommand {
        set: Some(LaterSet {
            key: key.to_owned(),
            later,
        }),
    };
    let batches = [
        vec![set("before", None)],
        vec![set("k", None), set("l", Some(true))],
    ];
    let requests = (1..)
        .zip(batches)
        .map(|(id, commands)| LaterRequest { id, commands });
    let mut grpc = tonic::client::Grpc::new(cluster.channel(leader));
    grpc.ready().await.unwrap();
    let answers = grpc
        .streaming(
            Request::new(tokio_stream::iter(requests.collect::<Vec<_>>())),
            PathAndQuery::from_static("/seshat.kv.v1.KvService/Pipeline"),
            ProstCodec::<LaterRequest, PipelineResponse>::default(),
        )
        .await;
    let mut answers = answers.unwrap().into_inner();
    let answer = answers
        .message()
        .in_time("an answer")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.id, 1);
    index(answer.results[0].result.as_ref().unwrap());
    let status = answers.message().in_time("the end").await.unwrap_err();
    let (applied, reason) = refused(&status);
    assert_eq!((status.code(), applied), (Code::Unimplemented, Applied::No));
    let rule = "field 7 of seshat.kv.v1.SetRequest is not known to this version: the client is newer than the node";
    let field = "message".to_owned();
    let invalid = InvalidRequest {
        field,
        rule: rule.to_owned(),
    };
    assert_eq!(reason, Some(Reason::InvalidRequest(invalid)));

    let mut stream = Stream::open(&mut cluster.kv(leader)).await;
    stream
        .send(1, vec![get("before"), get("k"), get("l")])
        .await;
    let found = stream.answers(1).await;
    assert_eq!(
        found.iter().map(got).collect::<Vec<_>>(),
        [Some(&b""[..]), None, None]
    );
}

/// A client that never reads is held back: the node accepts a bounded number of its batches, and these
/// take no other client's place.
#[tokio::test]
async fn a_client_that_does_not_read_delays_no_other() {
    const PENDING: usize = 64;
    const VALUE: usize = 1024;
    /// So many that a batch takes more than the 256 bytes of a frame below which h2 counts frames
    /// instead of bytes, and closes the connection when there are too many.
    const COMMANDS: usize = 40;
    let limits = Limits {
        max_batch_requests: PENDING,
        max_read_batch: PENDING,
        max_pending_requests: PENDING,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let mut other = cluster.kv(leader);
    let value = SetRequest {
        key: Bytes::from("k"),
        value: vec![b'v'; VALUE].into(),
        session: None,
        ..SetRequest::default()
    };
    other.set(value.clone()).await.unwrap();

    let mut slow = Stream::open(&mut cluster.kv(leader)).await;
    let mut accepted = 0_u64;
    let request = |id| batch(id, (0..COMMANDS).map(|_| get("k")).collect());
    let moment = Duration::from_secs(1);
    while let Ok(sent) = timeout(moment, slow.requests.send(request(accepted))).await {
        if sent.is_err() {
            let mut answers = 0;
            while slow.next().await.expect("no error").is_some() {
                answers += 1;
            }
            panic!("the stream ended after {answers} of {accepted} answers");
        }
        accepted += 1;
        assert!(accepted < 1_000_000, "the client is not held back");
    }
    println!("{accepted} batches were accepted of a client that does not read");
    // It is still connected, and has far more under way than the node admits at once.
    assert!(accepted > 2 * u64::try_from(PENDING).unwrap());
    for _ in 0..PENDING {
        timeout(TEST_TIMEOUT, other.set(value.clone()))
            .await
            .expect("in time")
            .expect("a place");
    }
    let mut stream = Stream::open(&mut other).await;
    stream.send(1, vec![set("a", "1"), get("a")]).await;
    assert_eq!(got(&stream.answers(1).await[1]), Some(&b"1"[..]));

    // When it reads in the end, all answers are there.
    for id in 0..accepted {
        slow.answers(id).await;
    }
}

/// Seen: 60 464 of a million commands were refused, because more came than the node may have under way.
/// A pipeline is held back instead: nothing is refused, and single requests find their place.
#[tokio::test]
async fn a_flood_is_held_back_and_nothing_of_it_is_refused() {
    /// The commands that the node has under way, and the number that it admits.
    const UNDER_WAY: usize = 32;
    const PENDING: usize = 128;
    const STREAMS: u64 = 8;
    const BATCHES: u64 = 24;
    /// A single batch has more than may be admitted at once.
    const COMMANDS: usize = 2 * PENDING;
    let limits = Limits {
        max_batch_requests: UNDER_WAY,
        max_read_batch: UNDER_WAY,
        max_inflight_requests: UNDER_WAY,
        max_pending_requests: PENDING,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let floods = (0..STREAMS).map(|flood| {
        let mut kv = cluster.kv(leader);
        tokio::spawn(async move {
            let key = format!("k{flood}");
            let commands = || {
                (0..COMMANDS).map(|n| {
                    if n % 4 == 3 {
                        get(&key)
                    } else {
                        set(&key, "v")
                    }
                })
            };
            let requests = (0..BATCHES).map(|id| batch(id, commands().collect()));
            let requests: Vec<_> = requests.collect();
            let answers = kv.pipeline(tokio_stream::iter(requests)).await;
            let mut answers = answers.expect("a stream").into_inner();
            let mut refused = Vec::new();
            for id in 0..BATCHES {
                let answer = answers
                    .message()
                    .in_time("an answer")
                    .await
                    .unwrap()
                    .expect("an answer");
                assert_eq!((answer.id, answer.results.len()), (id, COMMANDS));
                let results = answer.results.into_iter().filter_map(|it| it.result);
                refused.extend(results.filter(|it| matches!(it, Answer::Error(_))));
            }
            refused
        })
    });
    let floods: Vec<_> = floods.collect();
    let mut single = cluster.kv(leader);
    let mut served = 0;
    while floods.iter().any(|flood| !flood.is_finished()) {
        let request = GetRequest {
            key: Bytes::from("k0"),
            ..GetRequest::default()
        };
        single.get(request).await.expect("a place");
        served += 1;
    }
    println!("{served} single reads beside the flood");
    for flood in floods {
        let refused = flood.in_time("a stream").await.unwrap();
        assert!(
            refused.is_empty(),
            "{} refused: {:?}",
            refused.len(),
            refused[0]
        );
    }
}

#[tokio::test]
async fn when_leadership_goes_each_command_says_where_to() {
    /// Batches in flight, and the number of answers before leadership is transferred.
    const WINDOW: u64 = 16;
    const BEFORE: u64 = 100;
    let cluster = Cluster::started(3).await;
    let old = cluster.leader().await;
    let mut stream = Stream::open(&mut cluster.kv(old)).await;
    let transferee = (old + 1) % 3;
    let mut admin = cluster.admin(old);
    let request = TransferLeadershipRequest {
        to: Some(u32::try_from(transferee).unwrap() + 1),
        timeout: None,
        ..TransferLeadershipRequest::default()
    };
    let mut transfer = Some(async move { admin.transfer_leadership(request).await });
    let mut transferring = None;
    let (mut acknowledged, mut id, mut sent) = (BTreeMap::new(), 0, 0);
    let hint = loop {
        id += 1;
        while sent < id + WINDOW {
            sent += 1;
            let key = format!("k{sent}");
            stream.send(sent, vec![set(&key, "v"), get(&key)]).await;
        }
        if id == BEFORE {
            transferring = transfer.take().map(tokio::spawn);
        }
        let key = format!("k{id}");
        let mut answers = stream.answers(id).await;
        let read = answers.pop().unwrap();
        match answers.pop().unwrap() {
            Answer::Set(answer) => {
                acknowledged.insert(key, answer.applied_index);
            }
            refused => {
                let (code, applied, reason) = error(refused);
                if let Reason::NotLeader(leader) = reason
                    && leader.leader_id.is_some()
                {
                    let (_, _, reason) = error(read);
                    assert_eq!(reason, Reason::NotLeader(leader.clone()));
                    if applied == Applied::No {
                        assert_eq!(code, Code::FailedPrecondition);
                        break leader;
                    }
                }
            }
        }
        assert!(id < 1_000_000, "leadership stays");
    };
    let transferred = transferring.expect("begun").await.unwrap();
    transferred.expect("a new leader");
    assert_eq!(
        hint.leader_addr.as_deref(),
        Some(cluster.client_addr(transferee))
    );
    println!("{} writes acknowledged before", acknowledged.len());
    assert!(acknowledged.len() >= usize::try_from(BEFORE).unwrap() - 1);
    let mut stream = Stream::open(&mut cluster.kv(transferee)).await;
    for (id, (key, _)) in (0..).zip(acknowledged) {
        stream.send(id, vec![get(&key)]).await;
        assert_eq!(got(&stream.answers(id).await[0]), Some(&b"v"[..]), "{key}");
    }
}

#[tokio::test]
async fn a_shutdown_ends_streams_behind_their_answers() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut stream = Stream::open(&mut cluster.kv(leader)).await;
    for id in 1..=20 {
        stream.send(id, vec![set("k", "v")]).await;
    }
    // All of them are at the node when the last is applied.
    eventually("the writes", async || {
        (cluster.node(leader).status().applied_index > 20).then_some(())
    })
    .await;
    let node = cluster.take(leader);
    let down = tokio::spawn(async move { node.shutdown().await });
    for id in 1..=20 {
        assert!(matches!(stream.answers(id).await[..], [Answer::Set(_)]));
    }
    let status = stream.next().await.expect_err("the end of the stream");
    let (applied, reason) = refused(&status);
    assert_eq!((status.code(), applied), (Code::Unavailable, Applied::No));
    assert!(
        matches!(reason, Some(Reason::ShuttingDown(_))),
        "{reason:?}"
    );
    down.in_time("the end of a node")
        .await
        .unwrap()
        .expect("an orderly end");
}
