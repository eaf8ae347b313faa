//! The baseline: a `KvService` that answers at once, served like a node serves it.
//!
//! It does all that a node must do to speak gRPC and nothing that makes it a store: a process of its own,
//! one current-thread runtime, the same service and messages, the same settings of the listener. The cost
//! of a node beyond it is the price of replication.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use seshat::config::{Limits, MESSAGE_OVERHEAD_BYTES};
use seshat::proto::kv::kv_service_server::{KvService, KvServiceServer};
use seshat::proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, OpenSessionRequest,
    OpenSessionResponse, PipelineRequest, PipelineResponse, SetRequest, SetResponse, TxnRequest,
    TxnResponse,
};
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::load::VALUE;
use crate::process::Process;

/// A log index of the same encoded length as those of a loaded cluster.
const APPLIED_INDEX: u64 = 1_000_000;
/// Interval of pings on a connection, and how long a ping may stay unanswered.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A running echo.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) process: Process,
    /// Its address: `host:port`.
    pub(crate) addr: String,
}

impl Echo {
    /// Starts an echo: this program itself, as a child.
    pub(crate) fn start() -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("--echo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the echo")?;
        let mut process = Process::new(child);
        let stdout = process.child().stdout.take().context("no stdout")?;
        let mut addr = String::new();
        BufReader::new(stdout).read_line(&mut addr)?;
        let addr = addr.trim_end().to_owned();
        anyhow::ensure!(!addr.is_empty(), "the echo has ended at once");
        Ok(Self { process, addr })
    }
}

/// Prints its address on standard output, and serves until standard input ends: when its parent ends,
/// however that happens.
pub(crate) async fn serve() -> Result<()> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let incoming = TcpIncoming::bind(loopback)?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?);

    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let server = as_a_node(Server::builder())
        .add_service(KvServiceServer::new(Answers))
        .serve_with_incoming(incoming);
    tokio::select! {
        served = server => Ok(served?),
        _ = end => Ok(()),
    }
}

/// The settings of a node's listener for clients, with the default configuration.
fn as_a_node(server: Server) -> Server {
    let limits = Limits::default();
    let largest_request = limits.max_key_bytes + limits.max_value_bytes + MESSAGE_OVERHEAD_BYTES;
    let window = u32::try_from(largest_request).ok();
    server
        .initial_stream_window_size(window)
        .initial_connection_window_size(window.map(|window| window.saturating_mul(4)))
        .max_concurrent_streams(limits.max_concurrent_streams)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

#[derive(Debug)]
struct Answers;

#[tonic::async_trait]
impl KvService for Answers {
    type PipelineStream = tokio_stream::Pending<Result<PipelineResponse, Status>>;

    async fn pipeline(
        &self,
        _: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Err(Status::unimplemented("not measured"))
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
        _: Request<seshat::proto::kv::KeepAliveRequest>,
    ) -> Result<Response<seshat::proto::kv::KeepAliveResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn close_session(
        &self,
        _: Request<seshat::proto::kv::CloseSessionRequest>,
    ) -> Result<Response<seshat::proto::kv::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn list_sessions(
        &self,
        _: Request<seshat::proto::kv::ListSessionsRequest>,
    ) -> Result<Response<seshat::proto::kv::ListSessionsResponse>, Status> {
        Err(Status::unimplemented("not measured"))
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
        Err(Status::unimplemented("not measured"))
    }

    async fn set(&self, _: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let applied_index = APPLIED_INDEX;
        Ok(Response::new(SetResponse {
            applied_index,
            ..SetResponse::default()
        }))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(GetResponse {
            value: Some(Bytes::from_static(VALUE)),
            applied_index: APPLIED_INDEX,
            ..GetResponse::default()
        }))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Ok(Response::new(DeleteResponse {
            existed: true,
            applied_index: APPLIED_INDEX,
            ..DeleteResponse::default()
        }))
    }
}
