//! `bench`: its figures, and no figures if the cluster answers wrongly.

use std::collections::HashMap;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;
use seshat_proto::kv::v1::kv_service_server::{KvService, KvServiceServer};
use seshat_proto::kv::v1::pipeline_command::Command;
use seshat_proto::kv::v1::pipeline_result::Result as Answered;
use seshat_proto::kv::v1::{
    Applied, DeleteRequest, DeleteResponse, GetRequest, GetResponse, OpenSessionRequest,
    OpenSessionResponse, PipelineError, PipelineRequest, PipelineResponse, PipelineResult,
    SetRequest, SetResponse,
};
use tokio::runtime::Runtime;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

use super::mock::refusal;
use super::{client, ran, with_input};

/// The fault of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// Acknowledges writes and forgets them.
    LosesWrites,
    /// Reads the first value that was ever written.
    ReadsAnotherKey,
    /// Leaves the last byte out.
    ReadsShort,
    /// Reads the first value of the key.
    ReadsTheFirst,
    /// Reports that there was no key to remove.
    DeniesRemovals,
    /// No wrong answer: refuses each tenth write.
    Refuses,
}

/// A node that leads, and answers wrongly.
#[derive(Clone)]
struct Liar {
    lie: Lie,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    first: Option<Bytes>,
    /// The first value of each key, and the last.
    map: HashMap<Bytes, (Bytes, Bytes)>,
    writes: u64,
    applied_index: u64,
}

/// A [`Liar`] that serves. Ends with its test.
struct Serving {
    liar: Liar,
    endpoint: String,
    _runtime: Runtime,
}

impl Liar {
    fn start(lie: Lie) -> Serving {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let liar = Self {
            lie,
            state: Arc::default(),
        };
        let service = KvServiceServer::new(liar.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        });
        Serving {
            liar,
            endpoint,
            _runtime: runtime,
        }
    }

    fn write(&self, request: SetRequest) -> Result<SetResponse, Status> {
        let SetRequest { key, value, .. } = request;
        let mut state = self.state.lock().unwrap();
        state.writes += 1;
        if self.lie == Lie::Refuses && state.writes.is_multiple_of(10) {
            let message = "no, for no reason";
            return Err(refusal(Code::InvalidArgument, message, Applied::No, None));
        }
        state.applied_index += 1;
        state.first.get_or_insert_with(|| value.clone());
        if self.lie != Lie::LosesWrites {
            let first = state
                .map
                .get(&key)
                .map_or(value.clone(), |(first, _)| first.clone());
            state.map.insert(key, (first, value));
        }
        let applied_index = state.applied_index;
        Ok(SetResponse {
            applied_index,
            ..SetResponse::default()
        })
    }

    fn read(&self, request: &GetRequest) -> GetResponse {
        let state = self.state.lock().unwrap();
        let found = state.map.get(&request.key);
        let value = found.map(|(first, last)| match self.lie {
            Lie::ReadsAnotherKey => state.first.clone().unwrap(),
            Lie::ReadsShort => last.slice(1..),
            Lie::ReadsTheFirst => first.clone(),
            _ => last.clone(),
        });
        let applied_index = state.applied_index;
        GetResponse {
            value,
            applied_index,
            ..GetResponse::default()
        }
    }

    fn remove(&self, request: &DeleteRequest) -> DeleteResponse {
        let mut state = self.state.lock().unwrap();
        state.applied_index += 1;
        let existed = state.map.remove(&request.key).is_some();
        DeleteResponse {
            existed: existed && self.lie != Lie::DeniesRemovals,
            applied_index: state.applied_index,
            ..DeleteResponse::default()
        }
    }

    fn answer(&self, request: PipelineRequest) -> PipelineResponse {
        let commands = request.commands.into_iter();
        let results = commands.map(|command| {
            let result = match command.command.unwrap() {
                Command::Set(request) => match self.write(request) {
                    Ok(response) => Answered::Set(response),
                    Err(status) => Answered::Error(PipelineError {
                        code: i32::from(status.code()).try_into().unwrap(),
                        message: status.message().to_owned(),
                        detail: Some(seshat_proto::kv::v1::ErrorDetail {
                            applied: Applied::No.into(),
                            reason: None,
                        }),
                    }),
                },
                Command::Get(request) => Answered::Get(self.read(&request)),
                Command::Delete(request) => Answered::Delete(self.remove(&request)),
                Command::Txn(request) => panic!("{request:?}"),
            };
            PipelineResult {
                result: Some(result),
            }
        });
        PipelineResponse {
            id: request.id,
            results: results.collect(),
            ..PipelineResponse::default()
        }
    }
}

#[tonic::async_trait]
impl KvService for Liar {
    type PipelineStream = Pin<Box<dyn Stream<Item = Result<PipelineResponse, Status>> + Send>>;

    async fn pipeline(
        &self,
        requests: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let liar = self.clone();
        let requests = requests.into_inner();
        let answers = requests.map(move |request| Ok(liar.answer(request?)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn txn(
        &self,
        _: Request<seshat::proto::kv::TxnRequest>,
    ) -> Result<Response<seshat::proto::kv::TxnResponse>, Status> {
        Err(Status::unimplemented("no transactions here"))
    }

    type ScanStream = tokio_stream::Pending<Result<seshat::proto::kv::ScanResponse, Status>>;

    async fn scan(
        &self,
        _: Request<seshat::proto::kv::ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        Err(Status::unimplemented("no scans here"))
    }

    async fn keep_alive(
        &self,
        _: Request<seshat_proto::kv::v1::KeepAliveRequest>,
    ) -> Result<Response<seshat_proto::kv::v1::KeepAliveResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn close_session(
        &self,
        _: Request<seshat_proto::kv::v1::CloseSessionRequest>,
    ) -> Result<Response<seshat_proto::kv::v1::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn list_sessions(
        &self,
        _: Request<seshat_proto::kv::v1::ListSessionsRequest>,
    ) -> Result<Response<seshat_proto::kv::v1::ListSessionsResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    type WatchStream = tokio_stream::Pending<Result<seshat::proto::kv::WatchResponse, Status>>;

    async fn watch(
        &self,
        _: Request<seshat::proto::kv::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("no watches here"))
    }

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        self.write(request.into_inner()).map(Response::new)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(self.read(&request.into_inner())))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        Ok(Response::new(self.remove(&request.into_inner())))
    }
}

/// A run that is as short as a test wants.
fn short<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let run = [
        "bench",
        "--duration",
        "500ms",
        "--warm-up",
        "50ms",
        "--keys",
        "8",
    ];
    [&run, more].concat()
}

fn figures(endpoints: &str, more: &[&str]) -> Value {
    let json = client(endpoints, &[&short(more)[..], &["--json"]].concat()).ok();
    assert_eq!(json.lines().count(), 1, "{json}");
    serde_json::from_str(&json).unwrap()
}

/// Every operation, one by one and in batches, against the node at `endpoints`.
#[track_caller]
pub(super) fn measures(endpoints: &str) {
    for op in ["set", "get", "del", "mixed"] {
        for shape in [
            ["--clients", "1"].as_slice(),
            &["--clients", "5", "--connections", "2"],
            &["--clients", "2", "--pipeline", "1x64"],
            &["--clients", "3", "--pipeline", "7x4", "--rate", "2000"],
            &["--clients", "8", "--rate", "500"],
        ] {
            let args = [&["--op", op, "--seed", "7"], shape].concat();
            let figures = figures(endpoints, &args);
            assert!(figures["ops"].as_u64() > Some(0), "{args:?}: {figures}");
            assert_eq!(figures["errors"], 0, "{args:?}: {figures}");
            assert_eq!(figures["seed"], 7, "{args:?}: {figures}");
        }
    }
}

#[test]
fn every_load_is_measured() {
    let node = Liar::start(Lie::None);
    measures(&node.endpoint);
    assert!(
        node.liar.state.lock().unwrap().map.is_empty(),
        "keys are left"
    );
}

#[test]
fn the_json_begins_with_the_promised_fields() {
    let node = Liar::start(Lie::None);
    let figures = figures(&node.endpoint, &["--value-size", "100", "--clients", "2"]);
    let fields: Vec<_> = figures.as_object().unwrap().keys().take(8).collect();
    let promised = [
        "ops_per_sec",
        "p50_us",
        "p90_us",
        "p99_us",
        "p999_us",
        "max_us",
        "errors",
        "bytes",
    ];
    assert_eq!(fields, promised);
    let number = |field: &str| figures[field].as_u64().unwrap();
    assert_eq!(number("bytes"), number("ops") * (100 + 23), "{figures}");
    let latencies = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(number);
    assert!(latencies.is_sorted(), "{figures}");
    assert!(number("ops_per_sec") > number("ops"), "{figures}");
}

#[test]
fn people_see_a_histogram_and_the_seed() {
    let node = Liar::start(Lie::None);
    let shown = client(&node.endpoint, &short(&["--seed", "42"])).ok();
    for part in [
        "set: 64 clients on 4 connections",
        "seed 42",
        "ops/s",
        "p99.9",
        " % #",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_rate_is_kept() {
    let node = Liar::start(Lie::None);
    let figures = figures(&node.endpoint, &["--rate", "1000", "--clients", "16"]);
    // 500 are due in 500 ms. A busy machine may miss some, which the report shows.
    let (ops, missed) = (
        figures["ops"].as_u64().unwrap(),
        figures["missed"].as_u64().unwrap(),
    );
    assert!(ops <= 500 && ops + missed >= 499, "{figures}");
}

#[test]
fn errors_are_counted_by_kind() {
    let node = Liar::start(Lie::Refuses);
    for shape in [
        ["--clients", "2"].as_slice(),
        &["--pipeline", "5x2", "--clients", "2"],
    ] {
        let figures = figures(&node.endpoint, shape);
        assert!(figures["errors"].as_u64() > Some(0), "{figures}");
        assert_eq!(
            figures["errors_by_kind"]["refused"], figures["errors"],
            "{figures}"
        );
    }
    let shown = client(&node.endpoint, &short(&["--clients", "2"])).ok();
    assert!(shown.contains("such as: "), "{shown}");
}

#[test]
fn a_run_with_wrong_answers_has_no_figures() {
    for (lie, op, complaint) in [
        (Lie::LosesWrites, "set", "acknowledged"),
        (Lie::LosesWrites, "mixed", "acknowledged"),
        (
            Lie::ReadsAnotherKey,
            "get",
            "was written for the key number",
        ),
        (
            Lie::ReadsAnotherKey,
            "set",
            "was written for the key number",
        ),
        (Lie::ReadsShort, "get", "has 63 bytes instead of 64"),
        (Lie::ReadsTheFirst, "mixed", ", although write"),
        (Lie::ReadsTheFirst, "set", ", although write"),
        (Lie::DeniesRemovals, "del", "was not there to be removed"),
    ] {
        for shape in [
            ["--clients", "2"].as_slice(),
            &["--pipeline", "5x8", "--clients", "2"],
        ] {
            let node = Liar::start(lie);
            let args = [&["--op", op, "--json"], shape].concat();
            let error = client(&node.endpoint, &short(&args)).failed_in_json(3);
            assert_eq!(error["kind"], "wrong_answers", "{lie:?} {op}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(complaint), "{lie:?} {op}: {message}");
        }
    }
}

#[test]
fn a_cluster_that_serves_nothing_has_no_figures() {
    let (_socket, dead) = super::mock::dead();
    let error = client(&dead, &short(&["--timeout", "200ms"])).failed(3);
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn standard_error_is_quiet_unless_it_is_a_terminal() {
    let node = Liar::start(Lie::None);
    let run = super::client_command(&node.endpoint, &short(&[]));
    assert_eq!(ran(with_input(run, b"")).stderr, "");
}
