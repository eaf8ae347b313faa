//! A small true cluster behind the made-up nodes: a single node in this process, without a network.
//!
//! It has the services of the server, so its answers, sessions, transactions and locks are right.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use seshat::driver::{
    Call, CallId, Driver, DriverHandle, DriverOptions, Identifying, Network, OutgoingSnapshot,
    Probe, Workers, wall_time,
};
use seshat::error::RpcError;
use seshat::node::{PeerMessage, RaftOptions, Replica, ReplicaOptions};
use seshat::proto::kv::{KeyRange, WatchRequest, key_range};
use seshat::proto::raft::{AppendEntriesResponse, HeartbeatResponse, RequestVoteResponse};
use seshat::service::{AdmissionControl, Host, Router, ServiceOptions};
use seshat::types::{
    ClusterId, ClusterMembership, NodeId, NodeInfo, Offer, ProtocolLevel, RaftId, Role, WallTime,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::frames::{Deframer, frame};

/// Longest wait of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeat interval, so that the only node leads soon.
const TICK: Duration = Duration::from_millis(20);

/// A cluster of one node. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Backend {
    router: Router,
    /// The id of the cluster.
    pub(crate) cluster_id: u64,
    running: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Backend {
    /// A cluster that serves. Other seeds make other clusters.
    ///
    /// # Errors
    ///
    /// It does not form.
    pub(crate) async fn start(seed: u64) -> Result<Self> {
        let (second, own) = members(seed)?;
        let membership: ClusterMembership = [second, own].map(info).into_iter().collect();
        let time = wall_time().or(Some(WallTime::FIRST));
        let replica = Replica::new(ReplicaOptions {
            raft_id: own,
            members: membership.clone(),
            bootstrap: true,
            remembered: ClusterMembership::default(),
            formation_wait_ticks: 0,
            time,
            raft: RaftOptions::default(),
            seed,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        });
        let (driver, handle) = Driver::new(
            replica,
            DriverOptions {
                workers: Workers::default(),
                tick: TICK,
                max_pending_requests: 4096,
                peer_inbox_messages: 64,
                max_batch_requests: 1024,
                max_batch_bytes: 1 << 20,
            },
        );
        let (network, replies) = Seconding::new();
        let running = tokio::spawn({
            let handle = handle.clone();
            async move {
                // A node that stops answers nothing more, and the case says so.
                tokio::select! {
                    _ = driver.run(network) => {}
                    () = deliver(replies, handle) => {}
                }
            }
        });
        let cluster_id = ClusterId(RandomState::new().hash_one(seed));
        let offer = Offer {
            cluster_id,
            coordinator: second,
            members: vec![second, own],
            membership,
            absent: BTreeSet::new(),
            level: ProtocolLevel::CURRENT,
            limits: None,
            time,
        };
        ensure!(handle.offered(offer).await?, "the offer is refused");
        ensure!(
            handle.start(cluster_id, second).await?,
            "the cluster does not start"
        );
        let mut status = handle.watch();
        status
            .wait_for(|status| status.role == Some(Role::Leader))
            .await?;
        let backend = Self {
            router: router(&handle),
            cluster_id: cluster_id.0,
            running,
        };
        backend.keep_history().await?;
        Ok(backend)
    }

    /// Keeps a watch open, so that the node has the changes since its beginning: a watch that continues is never
    /// reset unless a case says so.
    async fn keep_history(&self) -> Result<()> {
        let all = KeyRange {
            range: Some(key_range::Range::Prefix(Bytes::new())),
        };
        let watch = WatchRequest {
            range: Some(all),
            ..WatchRequest::default()
        };
        let body = Full::new(frame(&watch.encode_to_vec()));
        let request = http::Request::post("/seshat.kv.v1.KvService/Watch")
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .body(body)?;
        let Ok(answer) = self.call(request).await;
        let mut news = answer.into_body();
        news.frame().await.context("a watch")??;
        tokio::spawn(async move { while news.frame().await.is_some() {} });
        Ok(())
    }

    /// The answer to a request with one answer.
    ///
    /// # Errors
    ///
    /// It refuses.
    pub(crate) async fn ask(
        &self,
        method: &MethodDescriptor,
        request: &DynamicMessage,
    ) -> Result<DynamicMessage> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let body = Full::new(frame(&request.encode_to_vec()));
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .body(body)?;
        let Ok(answer) = self.call(request).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().unwrap_or(&head.headers);
        let status = Status::from_header_map(trailers).context("a status")?;
        ensure!(status.code() == Code::Ok, "{status}");
        let mut deframer = Deframer::default();
        deframer.push(&body.to_bytes());
        let answer = deframer.next().context("an answer")?;
        Ok(DynamicMessage::decode(method.output(), answer)?)
    }

    /// Answers one call.
    pub(crate) fn call<B>(
        &self,
        request: http::Request<B>,
    ) -> impl Future<Output = Result<http::Response<Body>, Infallible>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        self.router.call(request)
    }
}

fn router(driver: &DriverHandle) -> Router {
    let host = Host::new(
        driver.clone(),
        AdmissionControl::new(4096, 256 << 20),
        ServiceOptions {
            max_key_bytes: 4096,
            max_value_bytes: 1 << 20,
            max_grpc_message_bytes: 4 << 20,
            max_unread_bytes: 256 << 20,
            request_timeout: REQUEST_TIMEOUT,
            transfer_timeout: Duration::from_secs(1),
            member_timeout: Duration::from_secs(1),
        },
        Arc::new(Unasked),
    );
    Router::new(host, Routes::default())
}

/// The processes of the two members: the one that agrees to everything, and the node.
fn members(seed: u64) -> Result<(RaftId, RaftId)> {
    let node = |id| NodeId::new(id).context("a node id");
    Ok((RaftId::new(node(1)?, seed), RaftId::new(node(2)?, seed)))
}

fn info(member: RaftId) -> NodeInfo {
    let id = member.node_id();
    NodeInfo {
        id,
        addr: format!("node-{id}:7379"),
        client_addr: format!("node-{id}:6379"),
    }
}

/// The network to a second voter that agrees to everything at once and keeps nothing: a cluster cannot form of
/// one node alone.
struct Seconding {
    replies: mpsc::UnboundedSender<PeerMessage>,
}

impl Seconding {
    fn new() -> (Self, mpsc::UnboundedReceiver<PeerMessage>) {
        let (replies, to_deliver) = mpsc::unbounded_channel();
        (Self { replies }, to_deliver)
    }
}

async fn deliver(mut replies: mpsc::UnboundedReceiver<PeerMessage>, node: DriverHandle) {
    while let Some(reply) = replies.recv().await {
        if node.step(reply).await.is_err() {
            return;
        }
    }
}

/// The agreement to a message.
fn agreement(message: PeerMessage) -> Option<PeerMessage> {
    Some(match message {
        PeerMessage::RequestVote(it) => PeerMessage::RequestVoteReply(RequestVoteResponse {
            term: it.term,
            vote_granted: true,
            pre_vote: it.pre_vote,
            voter_id: it.to,
            cluster_id: it.cluster_id,
            to: it.candidate_id,
            ..RequestVoteResponse::default()
        }),
        PeerMessage::AppendEntries(it) => PeerMessage::AppendEntriesReply(AppendEntriesResponse {
            term: it.term,
            success: true,
            follower_id: it.to,
            index: it
                .entries
                .last()
                .map_or(it.prev_log_index, |last| last.index),
            commit_index: it.leader_commit,
            cluster_id: it.cluster_id,
            to: it.leader_id,
            ..AppendEntriesResponse::default()
        }),
        PeerMessage::Heartbeat(it) => PeerMessage::HeartbeatReply(HeartbeatResponse {
            term: it.term,
            follower_id: it.to,
            commit_index: it.leader_commit,
            read_context: it.read_context,
            cluster_id: it.cluster_id,
            to: it.leader_id,
            watched: false,
        }),
        _ => return None,
    })
}

impl Network for Seconding {
    fn send(&mut self, message: PeerMessage) -> bool {
        agreement(message).is_none_or(|reply| self.replies.send(reply).is_ok())
    }

    fn send_snapshot(&mut self, _: OutgoingSnapshot) -> bool {
        false
    }

    fn call(&mut self, _: CallId, _: Call) {}

    fn set_leading(&mut self, _: bool) {}

    fn set_members(&mut self, _: &ClusterMembership) {}
}

/// The second voter answers no questions.
struct Unasked;

impl Probe for Unasked {
    fn identify(&self, node: NodeId, _: Duration) -> Identifying<'_> {
        Box::pin(std::future::ready(Err(RpcError::Unreachable {
            node,
            addr: String::new(),
            reason: "it is made up".to_owned(),
        })))
    }
}

/// The clusters of a case, by their names.
pub(crate) type Backends = BTreeMap<String, Arc<Backend>>;
