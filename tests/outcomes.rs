//! `docs/ERRORS.md` lists every refusal that a node can send, with its code, its detail and the outcome
//! of the write; and every listed refusal can occur.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use seshat::config::Limits;
use seshat::error::{Applied, Reason, Refusal};
use seshat::proto::admin::{
    AddMemberRequest, FormRequest, RecoverRequest, RemoveMemberRequest, TransferLeadershipRequest,
};
use seshat::proto::kv::error_detail::Reason as Detail;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::operation::Operation as Asked;
use seshat::proto::kv::pipeline_command::Command;
use seshat::proto::kv::{
    self, DeleteOperation, DeleteRequest, GetOperation, GetRequest, OpenSessionRequest, Operation,
    PipelineCommand, PipelineRequest, Session, SetRequest, SetResponse, TxnRequest,
};
use seshat::service::to_status;
use seshat::types::{ClientId, ClusterId, NodeId, Role};
use seshat_test_support::cluster::Cluster;
use seshat_test_support::fabric::{Fabric, leader_first};
use seshat_test_support::{InTime as _, eventually, refused};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const PAGE: &str = include_str!("../docs/ERRORS.md");

/// Code, detail and outcome, as the page writes them.
type Row = (String, String, String);

/// The rows of the page with an action for the client, and those that do not occur.
fn rows() -> (BTreeSet<Row>, BTreeSet<Row>) {
    let (mut occur, mut others) = (BTreeSet::new(), BTreeSet::new());
    for line in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [code, detail, applied, rest @ ..] = cells.as_slice() else {
            panic!("{line}");
        };
        if *code == "code" {
            continue;
        }
        let detail = detail.trim_matches('`');
        let row = ((*code).to_owned(), detail.to_owned(), (*applied).to_owned());
        let new = match rest {
            [] => others.insert(row),
            [when, action] => {
                assert!(!when.is_empty() && !action.is_empty(), "{line}");
                occur.insert(row)
            }
            _ => panic!("{line}"),
        };
        assert!(new, "twice: {line}");
    }
    assert!(occur.is_disjoint(&others), "both: {occur:?} {others:?}");
    (occur, others)
}

/// The name of a code in the specification of gRPC.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for (at, letter) in format!("{code:?}").char_indices() {
        if at > 0 && letter.is_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The row for `status`, as a client reads it.
fn row(status: &Status) -> Row {
    let (applied, reason) = refused(status);
    row_of(status.code(), applied, &reason.expect("a reason"))
}

fn row_of(code: Code, applied: kv::Applied, reason: &Detail) -> Row {
    let detail = match reason {
        Detail::NotLeader(_) => "not_leader",
        Detail::NoQuorum(_) => "no_quorum",
        Detail::Overloaded(_) => "overloaded",
        Detail::Full(_) => "full",
        Detail::TooLarge(_) => "too_large",
        Detail::Forming(_) => "forming",
        Detail::InvalidRequest(_) => "invalid_request",
        Detail::ShuttingDown(_) => "shutting_down",
        Detail::FailedPrecondition(_) => "failed_precondition",
        Detail::SessionExpired(_) => "session_expired",
        Detail::OtherCluster(_) => "other_cluster",
    };
    let applied = match applied {
        kv::Applied::No => "NO",
        kv::Applied::Unknown => "UNKNOWN",
        kv::Applied::Unspecified => panic!("a node says what became of the write"),
    };
    (code_name(code), detail.to_owned(), applied.to_owned())
}

/// The reason after `reason`, so that every one is visited: a new one does not compile before it has its
/// place here.
fn next(reason: Option<&Reason>) -> Option<Reason> {
    let Some(reason) = reason else {
        let leader_id = NodeId::new(2);
        return Some(Reason::NotLeader { leader_id });
    };
    let (what, limit) = ("what", 1);
    Some(match reason {
        Reason::NotLeader { .. } => Reason::NoQuorum,
        Reason::NoQuorum => Reason::CutOff,
        Reason::CutOff => Reason::Overloaded { what, limit },
        Reason::Overloaded { .. } => Reason::Full {
            what,
            limit,
            node_id: NodeId::new(1)?,
        },
        Reason::Full { .. } => Reason::TooLarge {
            what,
            limit,
            node_id: None,
        },
        Reason::TooLarge { .. } => Reason::Forming {
            waiting_for: "something".to_owned(),
        },
        Reason::Forming { .. } => Reason::InvalidRequest {
            field: "field",
            rule: "rule".to_owned(),
        },
        Reason::InvalidRequest { .. } => Reason::FailedPrecondition {
            rule: "rule".to_owned(),
        },
        Reason::FailedPrecondition { .. } => Reason::SessionExpired {
            client_id: ClientId(7),
        },
        Reason::SessionExpired { .. } => Reason::SessionNotLiving {
            client_id: ClientId(7),
        },
        Reason::SessionNotLiving { .. } => Reason::OtherCluster {
            cluster_id: ClusterId(7),
            successor: false,
        },
        Reason::OtherCluster { .. } => Reason::ShuttingDown,
        Reason::ShuttingDown => return None,
    })
}

/// A refusal that tonic makes, under the code that generic clients expect.
fn unimplemented() -> Row {
    ["UNIMPLEMENTED", "invalid_request", "NO"]
        .map(str::to_owned)
        .into()
}

#[test]
fn the_page_lists_every_reason_with_both_outcomes_and_nothing_else() {
    let reasons = std::iter::successors(next(None), |reason| next(Some(reason)));
    let refusals = reasons.flat_map(|reason| {
        [Applied::No, Applied::Unknown].map(|applied| Refusal {
            reason: reason.clone(),
            applied,
        })
    });
    let mut possible: BTreeSet<_> = refusals.map(|it| row(&to_status(&it, None))).collect();
    possible.insert(unimplemented());
    let (occur, others) = rows();
    let listed: BTreeSet<_> = occur.union(&others).cloned().collect();
    assert_eq!(listed, possible);
}

/// The refusals that occurred, each with its cause.
#[derive(Default)]
struct Met(BTreeSet<Row>);

impl Met {
    fn refusal<T: std::fmt::Debug>(
        &mut self,
        what: &str,
        answer: Result<T, Status>,
        row: [&str; 3],
    ) {
        let status = answer.expect_err(what);
        self.row(what, self::row(&status), row);
    }

    fn row(&mut self, what: &str, met: Row, expected: [&str; 3]) {
        assert_eq!(met, expected.map(str::to_owned).into(), "{what}");
        let (occur, _) = rows();
        assert!(occur.contains(&met), "{what}: {met:?} is not listed");
        self.0.insert(met);
    }
}

const INVALID: [&str; 3] = ["INVALID_ARGUMENT", "invalid_request", "NO"];
const TOO_LARGE: [&str; 3] = ["INVALID_ARGUMENT", "too_large", "NO"];
const NOT_LEADER: [&str; 3] = ["FAILED_PRECONDITION", "not_leader", "NO"];
const NOT_NOW: [&str; 3] = ["FAILED_PRECONDITION", "failed_precondition", "NO"];
const EXPIRED: [&str; 3] = ["FAILED_PRECONDITION", "session_expired", "NO"];
const OTHER_CLUSTER: [&str; 3] = ["FAILED_PRECONDITION", "other_cluster", "NO"];
const NO_QUORUM: [&str; 3] = ["UNAVAILABLE", "no_quorum", "NO"];
const NO_QUORUM_UNKNOWN: [&str; 3] = ["DEADLINE_EXCEEDED", "no_quorum", "UNKNOWN"];
const FORMING: [&str; 3] = ["UNAVAILABLE", "forming", "NO"];
const OVERLOADED: [&str; 3] = ["RESOURCE_EXHAUSTED", "overloaded", "NO"];
const FULL: [&str; 3] = ["RESOURCE_EXHAUSTED", "full", "NO"];
const SHUTTING_DOWN: [&str; 3] = ["UNAVAILABLE", "shutting_down", "NO"];
const SHUT_DOWN: [&str; 3] = ["UNKNOWN", "shutting_down", "UNKNOWN"];
const UNIMPLEMENTED: [&str; 3] = ["UNIMPLEMENTED", "invalid_request", "NO"];

fn set(key: &str, value: impl Into<Bytes>, session: Option<Session>) -> SetRequest {
    SetRequest {
        key: key.to_owned().into(),
        value: value.into(),
        session,
        ..SetRequest::default()
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned().into(),
        ..GetRequest::default()
    }
}

fn number(client_id: u64, sequence: u64, first_outstanding: u64) -> Option<Session> {
    Some(Session {
        client_id,
        sequence,
        first_outstanding,
    })
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A request of a later version.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterRequest {
    #[prost(bytes = "bytes", tag = "1000")]
    later: Bytes,
}

/// Calls `path` with a message that no method here expects: its first field is a number.
async fn odd(channel: Channel, path: &'static str) -> Result<SetResponse, Status> {
    let message = SetResponse {
        applied_index: 1,
        ..SetResponse::default()
    };
    call(channel, path, message).await
}

async fn call<M: prost::Message + 'static>(
    channel: Channel,
    path: &'static str,
    message: M,
) -> Result<SetResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<M, SetResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(message), path, codec).await?;
    Ok(answer.into_inner())
}

async fn requests_beyond_a_limit(met: &mut Met, cluster: &Cluster, leader: usize) {
    let limits = Limits::default();
    let mut kv = cluster.kv(leader);
    let long = "k".repeat(limits.max_key_bytes + 1);
    let large = vec![b'v'; limits.max_value_bytes + 1];
    let huge = vec![b'v'; limits.max_grpc_message_bytes + 1];
    met.refusal("empty key", kv.get(get("")).await, INVALID);
    met.refusal("long key", kv.get(get(&long)).await, TOO_LARGE);
    met.refusal("value", kv.set(set("k", large, None)).await, TOO_LARGE);
    met.refusal("message", kv.set(set("k", huge, None)).await, TOO_LARGE);
    let channel = || cluster.channel(leader);
    let set = "/seshat.kv.v1.KvService/Set";
    met.refusal("no request", odd(channel(), set).await, INVALID);
    let admin = "/seshat.admin.v1.AdminService/AddMember";
    let answer = odd(channel(), admin).await;
    met.refusal("an incomplete request", answer, INVALID);
    for path in [set, admin] {
        let later = LaterRequest {
            later: Bytes::from("new"),
        };
        met.refusal(
            "a later field",
            call(channel(), path, later).await,
            UNIMPLEMENTED,
        );
    }
    for path in [
        "/seshat.kv.v1.KvService/NoSuchMethod",
        "/seshat.admin.v1.AdminService/NoSuchMethod",
        "/no.such.Service/Method",
    ] {
        met.refusal(path, odd(channel(), path).await, UNIMPLEMENTED);
    }
}

async fn writes_without_a_valid_session(met: &mut Met, cluster: &Cluster, leader: usize) {
    let mut kv = cluster.kv(leader);
    for (sequence, first) in [(0, 0), (1, 0), (1, 2), (1025, 1)] {
        let request = set("k", "v", number(7, sequence, first));
        met.refusal("invalid numbers", kv.set(request).await, INVALID);
    }
    let open = |client_id| OpenSessionRequest {
        client_id,
        ..OpenSessionRequest::default()
    };
    met.refusal("session 0", kv.open_session(open(0)).await, INVALID);
    let request = || set("k", "v", number(7, 1, 1));
    met.refusal("no session", kv.set(request()).await, EXPIRED);
    kv.open_session(open(7)).await.unwrap();
    kv.set(request()).await.unwrap();
    let delete = DeleteRequest {
        key: Bytes::from("k"),
        session: number(7, 1, 1),
        ..DeleteRequest::default()
    };
    met.refusal("another kind", kv.delete(delete).await, INVALID);
    kv.set(set("k", "v", number(7, 3, 3))).await.unwrap();
    met.refusal("given up", kv.set(request()).await, EXPIRED);
}

/// A request of any kind that is for another cluster, at any node.
async fn requests_for_another_cluster(met: &mut Met, cluster: &Cluster, leader: usize) {
    let own = cluster.node(leader).status().cluster_id.unwrap().0;
    let other = Some(own ^ 1);
    for index in 0..3 {
        let mut kv = cluster.kv(index);
        let request = SetRequest {
            cluster_id: other,
            ..set("k", "v", number(9, 1, 1))
        };
        met.refusal("Set", kv.set(request).await, OTHER_CLUSTER);
        let request = GetRequest {
            cluster_id: other,
            // A request that is wrong here may be right there.
            key: Bytes::new(),
        };
        met.refusal("Get", kv.get(request).await, OTHER_CLUSTER);
        let request = DeleteRequest {
            key: Bytes::from("k"),
            cluster_id: other,
            ..DeleteRequest::default()
        };
        met.refusal("Delete", kv.delete(request).await, OTHER_CLUSTER);
        let request = OpenSessionRequest {
            client_id: 9,
            cluster_id: other,
            ttl: None,
        };
        let answer = kv.open_session(request).await;
        met.refusal("OpenSession", answer, OTHER_CLUSTER);
        for command in [Command::Set(set("k", "v", None)), Command::Get(get(""))] {
            let row = piped_to(&mut kv, command, other).await.unwrap_err();
            met.row("in a pipeline", row, OTHER_CLUSTER);
        }
    }
    let mut admin = cluster.admin(leader);
    let request = TransferLeadershipRequest {
        cluster_id: other,
        ..Default::default()
    };
    let answer = admin.transfer_leadership(request).await;
    met.refusal("TransferLeadership", answer, OTHER_CLUSTER);
    let request = AddMemberRequest {
        cluster_id: other,
        ..Default::default()
    };
    let answer = admin.add_member(request).await;
    met.refusal("AddMember", answer, OTHER_CLUSTER);
    let request = RemoveMemberRequest {
        id: 1,
        cluster_id: other,
        ..Default::default()
    };
    let answer = admin.remove_member(request).await;
    met.refusal("RemoveMember", answer, OTHER_CLUSTER);
    // A request that names this cluster, or none, is served.
    let mut kv = cluster.kv(leader);
    for (named, answered) in [(Some(own), None), (None, Some(own))] {
        let cluster_id = named;
        let request = SetRequest {
            cluster_id,
            ..set("k", "v", None)
        };
        let answer = kv.set(request).await.unwrap().into_inner();
        assert_eq!(answer.cluster_id, answered);
        let request = GetRequest {
            cluster_id,
            ..get("k")
        };
        let answer = kv.get(request).await.unwrap().into_inner();
        assert_eq!(answer.cluster_id, answered);
        let request = DeleteRequest {
            key: Bytes::from("k"),
            cluster_id,
            ..DeleteRequest::default()
        };
        let answer = kv.delete(request).await.unwrap().into_inner();
        assert_eq!(answer.cluster_id, answered);
        let request = OpenSessionRequest {
            client_id: 8,
            cluster_id,
            ttl: None,
        };
        let answer = kv.open_session(request).await.unwrap().into_inner();
        assert_eq!(answer.cluster_id, answered);
        let command = Command::Get(get("k"));
        assert_eq!(piped_to(&mut kv, command, named).await, Ok(answered));
    }
    let named_twice = Command::Get(GetRequest {
        cluster_id: Some(own),
        ..get("k")
    });
    let row = piped(&mut kv, named_twice).await;
    met.row("a command that names a cluster", row, INVALID);
}

async fn requests_that_only_the_leader_serves(met: &mut Met, cluster: &Cluster, leader: usize) {
    let follower = (leader + 1) % 3;
    let (mut kv, mut admin) = (cluster.kv(follower), cluster.admin(follower));
    met.refusal("Set", kv.set(set("k", "v", None)).await, NOT_LEADER);
    met.refusal("Get", kv.get(get("k")).await, NOT_LEADER);
    let open = OpenSessionRequest {
        client_id: 7,
        ..OpenSessionRequest::default()
    };
    met.refusal("OpenSession", kv.open_session(open).await, NOT_LEADER);
    let transfer = TransferLeadershipRequest::default();
    let answer = admin.transfer_leadership(transfer).await;
    met.refusal("TransferLeadership", answer, NOT_LEADER);
    let remove = RemoveMemberRequest {
        id: 1,
        ..Default::default()
    };
    met.refusal(
        "RemoveMember",
        admin.remove_member(remove).await,
        NOT_LEADER,
    );
}

async fn invalid_requests_of_an_operator(met: &mut Met, cluster: &Cluster, leader: usize) {
    let mut admin = cluster.admin(leader);
    let add = AddMemberRequest::default();
    met.refusal("node 0", admin.add_member(add).await, INVALID);
    let remove = RemoveMemberRequest {
        id: 9,
        ..Default::default()
    };
    let answer = admin.remove_member(remove).await;
    met.refusal("a non-member", answer, INVALID);
    let form = FormRequest {
        without: vec![u32::try_from((leader + 1) % 3 + 1).unwrap()],
        timeout: None,
    };
    met.refusal("Form again", admin.form(form).await, NOT_NOW);
    let status = cluster.node(leader).status();
    let recover = RecoverRequest {
        cluster_id: status.cluster_id.expect("a cluster").0,
        dry_run: true,
        ..Default::default()
    };
    met.refusal("a majority runs", admin.recover(recover).await, NOT_NOW);
}

/// One command, as a pipeline answers it.
async fn piped(kv: &mut KvServiceClient<Channel>, command: Command) -> Row {
    piped_to(kv, command, None).await.expect_err("a refusal")
}

/// One command, in a pipeline that names a cluster: the cluster in the answer, or the refusal.
async fn piped_to(
    kv: &mut KvServiceClient<Channel>,
    command: Command,
    cluster_id: Option<u64>,
) -> Result<Option<u64>, Row> {
    let request = PipelineRequest {
        id: 1,
        commands: vec![PipelineCommand {
            command: Some(command),
        }],
        cluster_id,
    };
    let answers = kv.pipeline(tokio_stream::iter([request])).await;
    let mut answers = answers.expect("a stream").into_inner();
    let mut answer = answers
        .message()
        .in_time("an answer")
        .await
        .unwrap()
        .expect("an answer");
    let Some(kv::pipeline_result::Result::Error(error)) = answer.results.remove(0).result else {
        return Ok(answer.cluster_id);
    };
    let detail = error.detail.expect("a detail");
    let code = Code::from_i32(i32::try_from(error.code).unwrap());
    Err(row_of(
        code,
        detail.applied(),
        &detail.reason.clone().expect("a reason"),
    ))
}

async fn the_same_in_a_pipeline(met: &mut Met, cluster: &Cluster, leader: usize) {
    let mut kv = cluster.kv(leader);
    let row = piped(&mut kv, Command::Get(get(""))).await;
    met.row("an empty key in a pipeline", row, INVALID);
    let expired = Command::Set(set("k", "v", number(9, 1, 1)));
    met.row(
        "no session in a pipeline",
        piped(&mut kv, expired).await,
        EXPIRED,
    );
    let mut follower = cluster.kv((leader + 1) % 3);
    let row = piped(&mut follower, Command::Get(get("k"))).await;
    met.row("not the leader in a pipeline", row, NOT_LEADER);
}

/// The others die: the outcome of the writes in the leader's log is unknown, and it admits only so many.
async fn without_a_majority(met: &mut Met, pending: usize) {
    let limits = Limits {
        max_batch_requests: pending,
        max_read_batch: pending,
        max_pending_requests: pending,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    for other in (0..3).filter(|&index| index != leader) {
        cluster.take(other).kill();
    }
    let long = Duration::from_secs(4);
    let writes: Vec<_> = (0..2 * pending)
        .map(|_| {
            let mut kv = cluster.kv(leader);
            tokio::spawn(async move { kv.set(within(long, set("k", "v", None))).await })
        })
        .collect();
    for write in writes {
        let status = write
            .in_time("a write")
            .await
            .unwrap()
            .expect_err("no majority");
        // A write after the leader has stepped down is never in the log.
        let expected = match (status.code(), refused(&status).0) {
            (Code::ResourceExhausted, _) => OVERLOADED,
            (_, kv::Applied::Unknown) => NO_QUORUM_UNKNOWN,
            _ => NO_QUORUM,
        };
        met.refusal::<()>("no majority", Err(status), expected);
    }
    let mut kv = cluster.kv(leader);
    eventually("the leader steps down", async || {
        (cluster.node(leader).status().role != Some(Role::Leader)).then_some(())
    })
    .await;
    let short = Duration::from_millis(300);
    let answer = kv.set(within(short, set("k", "v", None))).await;
    met.refusal("no leader", answer, NO_QUORUM);
}

/// The state is as large as it may be, until something is deleted.
async fn writes_beyond_the_state(met: &mut Met) {
    let limits = Limits {
        max_state_bytes: 2 << 20,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let large = |key: &str| set(key, vec![b'v'; 1 << 20], None);
    kv.set(large("k")).await.unwrap();
    let answer = kv.set(large("l")).await;
    let words = format!(
        "full: it would take more memory than max_state_bytes of node {} (2097152); deleting keys makes room (not applied)",
        cluster.node(leader).status().raft_id.node_id()
    );
    assert_eq!(answer.as_ref().expect_err("a full state").message(), words);
    met.refusal("a full state", answer, FULL);
    let piped = piped(&mut kv, Command::Set(large("l"))).await;
    met.row("a full state in a pipeline", piped, FULL);
    assert_eq!(kv.get(get("l")).await.unwrap().into_inner().value, None);
    kv.set(large("k"))
        .await
        .expect("it is no larger than before");
    let delete = DeleteRequest {
        key: Bytes::from("k"),
        ..Default::default()
    };
    kv.delete(delete).await.expect("it makes room");
    kv.set(large("l")).await.unwrap();
}

/// A transaction that writes is applied, but what it reads does not fit into a message.
async fn an_answer_beyond_a_message(met: &mut Met) {
    let limits = Limits {
        max_value_bytes: 128 << 10,
        max_append_bytes: 128 << 10,
        snapshot_chunk_bytes: 128 << 10,
        max_grpc_message_bytes: 512 << 10,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let mut kv = cluster.kv(leader);
    let keys = ["a", "b", "c"];
    for key in keys {
        kv.set(set(key, vec![b'v'; 100 << 10], None)).await.unwrap();
    }
    let operation = |operation| Operation {
        operation: Some(operation),
    };
    let get = |key: &str| {
        let key = Bytes::from(key.to_owned());
        operation(Asked::Get(GetOperation { key }))
    };
    let reads: Vec<_> = keys.map(get).into();
    let mut txn = TxnRequest {
        success: reads.clone(),
        ..TxnRequest::default()
    };
    let answer = kv.txn(txn.clone()).await;
    met.refusal("an answer beyond a message", answer, TOO_LARGE);
    let key = Bytes::from("d");
    txn.success
        .push(operation(Asked::Delete(DeleteOperation { key })));
    let answer = kv.txn(txn).await;
    let unknown = ["UNKNOWN", "too_large", "UNKNOWN"];
    met.refusal("the same with a write", answer, unknown);
    // For want of room: `driver::batch::a_transaction_whose_answer_has_no_room_may_have_written`.
    met.0.insert(
        ["UNKNOWN", "overloaded", "UNKNOWN"]
            .map(str::to_owned)
            .into(),
    );
}

/// A node that is alone waits for the others, and shuts down while a request waits with it.
async fn before_and_after(met: &mut Met) {
    let mut cluster = Cluster::new(3);
    cluster.start(0);
    let mut kv = cluster.kv(0);
    let short = Duration::from_millis(300);
    let answer = kv.set(within(short, set("k", "v", None))).await;
    met.refusal("a cluster that forms", answer, FORMING);
    let mut waiting = kv.clone();
    let mut waits = pin!(waiting.set(set("k", "v", None)));
    let sent = poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_pending()));
    assert!(sent.await, "no node decides");
    // The same connection brings this one after the one that waits.
    kv.set(set("", "v", None)).await.expect_err("no key");
    let mut admin = cluster.admin(0);
    let remove = RemoveMemberRequest {
        id: 1,
        ..Default::default()
    };
    met.refusal("no member yet", admin.remove_member(remove).await, FORMING);
    let node = cluster.take(0);
    let both = async { tokio::join!(waits, node.shutdown()) };
    let (waited, ended) = both
        .in_time("the end of a node with a write that waits")
        .await;
    ended.expect("an orderly end");
    met.refusal("a node that ends", waited, SHUTTING_DOWN);
}

/// The driver ends under a write. Through memory: a real node that ends so has no sockets either.
async fn in_the_middle(met: &mut Met) {
    let (fabric, nodes) = Fabric::started(3).await;
    let (mut leader, _followers) = leader_first(nodes);
    fabric.cut(leader.id);
    let mut kv = leader.kv.clone();
    let write = tokio::spawn(async move { kv.set(set("k", "v", None)).await });
    let before = leader.status().last_index;
    eventually("the write in the log", async || {
        (leader.status().last_index > before || write.is_finished()).then_some(())
    })
    .await;
    leader.kill().await;
    met.refusal(
        "the end of the driver",
        write.in_time("a write").await.unwrap(),
        SHUT_DOWN,
    );
}

#[tokio::test]
async fn every_listed_refusal_occurs() {
    let mut met = Met::default();
    let cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    requests_beyond_a_limit(&mut met, &cluster, leader).await;
    writes_without_a_valid_session(&mut met, &cluster, leader).await;
    requests_for_another_cluster(&mut met, &cluster, leader).await;
    requests_that_only_the_leader_serves(&mut met, &cluster, leader).await;
    invalid_requests_of_an_operator(&mut met, &cluster, leader).await;
    the_same_in_a_pipeline(&mut met, &cluster, leader).await;
    drop(cluster);
    writes_beyond_the_state(&mut met).await;
    an_answer_beyond_a_message(&mut met).await;
    without_a_majority(&mut met, 8).await;
    before_and_after(&mut met).await;
    in_the_middle(&mut met).await;

    // A change of leader under a write needs a network that is cut at the right moment: that is
    // `tests/core/scripts/write/a_change_of_leader_fails_the_waiting_callers`.
    let elsewhere = ["UNKNOWN", "not_leader", "UNKNOWN"].map(str::to_owned);
    met.0.insert(elsewhere.into());
    assert_eq!(met.0, rows().0, "what was met, what the page lists");
}
