//! Incoming calls: `RaftService`, which validates the addressee of each message and hands it to the
//! driver.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::options::TransportOptions;
use super::pending_replies::PendingReplies;
use super::rejection;
use super::routes::{Replies, Routes};
use super::transfer::{Incoming, Progress, Transfer, forget, open};
use super::{FOLLOWER_ID, LEADER_ID};
use crate::driver::DriverHandle;
use crate::error::NotMe;
use crate::proto::raft::raft_service_server::RaftService;
use crate::proto::raft::{
    AppendEntriesRequest, AppendEntriesResponse, HeartbeatRequest, HeartbeatResponse,
    IdentifyRequest, IdentifyResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    OfferRequest, OfferResponse, RequestVoteRequest, RequestVoteResponse, StartRequest,
    StartResponse, TimeoutNowRequest, TimeoutNowResponse, YieldRecoveryRequest,
    YieldRecoveryResponse,
};
use crate::types::{ClusterId, Introduction, NodeState, NodeStatus, RaftId};
use crate::wire::{
    self, Envelope, InstallSnapshotHeader, PeerMessage, SnapshotAssembly, WireError,
};

/// Serves other nodes.
#[derive(Debug, Clone)]
pub struct Inbound {
    me: RaftId,
    options: Arc<TransportOptions>,
    driver: DriverHandle,
    routes: Arc<Routes>,
}

impl Inbound {
    pub(super) fn new(
        me: RaftId,
        options: Arc<TransportOptions>,
        driver: DriverHandle,
        routes: Arc<Routes>,
    ) -> Self {
        Self {
            me,
            options,
            driver,
            routes,
        }
    }

    /// Checks that `message` is for this process and its cluster, and returns its envelope.
    fn validate(&self, message: &PeerMessage) -> Result<Envelope, Status> {
        let envelope = message
            .envelope()
            .map_err(|error| rejection::malformed(&error))?;
        self.is_for_me(envelope.to, Some(envelope.cluster_id))?;
        Ok(envelope)
    }

    fn is_for_me(&self, to: RaftId, cluster_id: Option<ClusterId>) -> Result<(), Status> {
        let now = self.driver.status();
        let here = match (cluster_id, now.state) {
            (None, _) => true,
            // Such a process may be let into any cluster, or remembers more than one offer: the core
            // decides.
            (Some(_), NodeState::Fresh | NodeState::Outside | NodeState::Prepared) => true,
            (Some(id), NodeState::Started) => now.cluster_id == Some(id),
        };
        if to == self.me && here {
            return Ok(());
        }
        let belongs = now.state != NodeState::Outside;
        Err(rejection::not_me(NotMe {
            raft_id: self.me,
            cluster_id: now.cluster_id.filter(|_| belongs),
        }))
    }

    /// The leader that opened a stream, if the metadata of the stream names it and the stream is for this
    /// process. Without that metadata, the first message determines the leader.
    fn stated_leader<T>(&self, request: &Request<T>) -> Result<Option<RaftId>, Status> {
        let leader = raft_id(request, LEADER_ID)?;
        let Some(follower) = raft_id(request, FOLLOWER_ID)? else {
            return Ok(None);
        };
        self.is_for_me(follower, None)?;
        Ok(leader)
    }

    async fn step(&self, message: PeerMessage) -> Result<(), Status> {
        self.driver.step(message).await.map_err(rejection::stopped)
    }

    /// Serves a stream of a leader. A task reads its requests. The core's replies leave on the stream
    /// that this returns, even before the first request has come.
    fn serve<Q, A>(
        &self,
        request: Request<Streaming<Q>>,
        wrap: fn(Q) -> PeerMessage,
        streams: &Arc<PendingReplies<RaftId, Replies<A>>>,
    ) -> Result<Response<ReceiverStream<Result<A, Status>>>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let stated = self.stated_leader(&request)?;
        let (replies, stream) = mpsc::channel(self.options.reply_queue_messages.max(1));
        let enter = {
            let (streams, replies) = (Arc::clone(streams), replies.clone());
            move |leader| {
                let registration = streams.enter_beside(leader, replies.clone());
                registration.ok_or_else(|| rejection::too_many(leader))
            }
        };
        let registration = match stated {
            Some(leader) => Some((leader, enter(leader)?)),
            None => None,
        };
        let (inbound, me) = (self.clone(), self.me);
        let span = tracing::debug_span!("read", node = %me.node_id(), raft_id = %me);
        let reading = async move {
            let requests = request.into_inner();
            if let Err(status) = inbound.read(requests, wrap, registration, enter).await {
                tracing::debug!(node = %me.node_id(), raft_id = %me, %status, "a peer's stream ends");
                // If the connection broke, there is no receiver.
                let _ = replies.send(Err(status)).await;
            }
        };
        tokio::spawn(reading.instrument(span));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    /// Hands the requests of a stream to the driver, in order.
    async fn read<Q, T>(
        &self,
        mut requests: Streaming<Q>,
        wrap: fn(Q) -> PeerMessage,
        registration: Option<(RaftId, T)>,
        enter: impl Fn(RaftId) -> Result<T, Status>,
    ) -> Result<(), Status> {
        let Some(first) = next(&mut requests).await? else {
            return Ok(());
        };
        let first = wrap(first);
        // A stream belongs to one leader, so the check of its first message holds for all.
        let leader = self.validate(&first)?;
        let (stated, _registration) = match registration {
            Some(registration) => registration,
            None => (leader.from, enter(leader.from)?),
        };
        if stated != leader.from {
            return Err(rejection::wrong_stream(&first, leader, stated));
        }
        self.step(first).await?;
        while let Some(request) = next(&mut requests).await? {
            let request = wrap(request);
            let envelope = request
                .envelope()
                .map_err(|error| rejection::malformed(&error))?;
            let Envelope {
                cluster_id,
                from,
                to,
                term: _,
            } = envelope;
            if (cluster_id, from, to) != (leader.cluster_id, leader.from, leader.to) {
                return Err(rejection::wrong_stream(&request, envelope, leader.from));
            }
            self.step(request).await?;
        }
        Ok(())
    }

    /// Assembles the chunks of a snapshot, after the chunks that an earlier call has brought.
    async fn assemble(
        &self,
        first: InstallSnapshotRequest,
        mut chunks: Streaming<InstallSnapshotRequest>,
        progress: Arc<Progress>,
    ) -> Result<Incoming, Status> {
        let options = &self.options;
        // An earlier call holds this lock until it has noticed that this one takes its place.
        let mut brought = self.routes.brought.lock().await;
        if brought.is_none() {
            let brought = Arc::clone(&self.routes.brought);
            tokio::spawn(forget(brought, options.bulk_timeout.saturating_mul(2)));
        }
        let snapshot = open(&mut brought, &first, progress, options)?;
        snapshot.add(first).await?;
        while let Some(chunk) = self.next_chunk(&mut chunks).await? {
            snapshot.add(chunk).await?;
        }
        snapshot.is_whole()?;
        let whole = brought.take();
        whole.ok_or_else(|| Status::internal("the end of a snapshot that is not there"))
    }

    async fn next_chunk(
        &self,
        chunks: &mut Streaming<InstallSnapshotRequest>,
    ) -> Result<Option<InstallSnapshotRequest>, Status> {
        let max_wait = self.options.bulk_timeout;
        timeout(max_wait, next(chunks)).await.map_err(|_| {
            Status::deadline_exceeded(format!("no chunk of the snapshot within {max_wait:?}"))
        })?
    }
}

#[tonic::async_trait]
impl RaftService for Inbound {
    type AppendEntriesStream = ReceiverStream<Result<AppendEntriesResponse, Status>>;
    type HeartbeatStream = ReceiverStream<Result<HeartbeatResponse, Status>>;

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn request_vote(
        &self,
        request: Request<RequestVoteRequest>,
    ) -> Result<Response<RequestVoteResponse>, Status> {
        let request = request.into_inner();
        let message = PeerMessage::RequestVote(request);
        let candidate = self.validate(&message)?.from;
        let (call, vote) = oneshot::channel();
        let votes = &self.routes.votes;
        let registration = votes.enter_beside((candidate, request.pre_vote), call);
        let _registration = registration.ok_or_else(|| rejection::too_many(candidate))?;
        let ask = async {
            self.step(message).await?;
            vote.await
                .map_err(|_| Status::aborted("the vote was not answered"))
        };
        let max_wait = self.options.vote_timeout;
        let vote = timeout(max_wait, ask).await.map_err(|_| {
            Status::deadline_exceeded(format!(
                "the voter stayed silent for {max_wait:?}, as a voter does that hears a leader or \
                 knows a later term",
            ))
        })??;
        Ok(Response::new(vote))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn append_entries(
        &self,
        request: Request<Streaming<AppendEntriesRequest>>,
    ) -> Result<Response<Self::AppendEntriesStream>, Status> {
        self.serve(request, PeerMessage::AppendEntries, &self.routes.appends)
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn heartbeat(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        self.serve(request, PeerMessage::Heartbeat, &self.routes.heartbeats)
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn install_snapshot(
        &self,
        request: Request<Streaming<InstallSnapshotRequest>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        let mut chunks = request.into_inner();
        let Some(first) = self.next_chunk(&mut chunks).await? else {
            return Err(Status::invalid_argument("a snapshot without a chunk"));
        };
        let header = InstallSnapshotHeader::from(first.clone());
        let leader = header.envelope();
        let leader = leader.map_err(|error| rejection::malformed(&error))?;
        self.is_for_me(leader.to, Some(leader.cluster_id))?;

        // One at a time, as a snapshot takes much memory. A leader that starts a new transfer has given
        // up its earlier one, and a later leader takes precedence over an earlier one.
        let transfer = &self.routes.transfer;
        if transfer.with((), |transfer| transfer.term > leader.term) == Some(true) {
            return Err(Status::aborted("a later leader is sending a snapshot"));
        }
        let (superseded_in, superseded) = oneshot::channel();
        let progress = Progress::new(&first);
        let registration = transfer.enter(
            (),
            Transfer {
                term: leader.term,
                progress: Arc::clone(&progress),
                superseded: superseded_in,
            },
        );
        let inbound = self.clone();
        // A task of its own: a call ends at once with its connection, and the chunk that is being added
        // would be lost with it.
        let assembled = tokio::spawn(async move {
            let snapshot = tokio::select! {
                biased;
                _ = superseded => Err(Status::aborted("another snapshot has begun")),
                snapshot = inbound.assemble(first, chunks, progress) => snapshot,
            };
            snapshot.map(|snapshot| (snapshot, registration))
        });
        let ended = |error: JoinError| Status::internal(error.to_string());
        let (snapshot, _transfer) = assembled.await.map_err(ended)??;
        let (header, state_machine) = snapshot.finish(SnapshotAssembly::finish).await?;

        let (call, answer) = oneshot::channel();
        let _call = self.routes.snapshots.enter(leader.from, call);
        let install = async {
            let installed = self.driver.install(header, state_machine).await;
            installed.map_err(rejection::stopped)?;
            answer
                .await
                .map_err(|_| Status::aborted("another snapshot has come"))
        };
        let max_wait = self.options.rpc_timeout;
        let log = timeout(max_wait, install).await.map_err(|_| {
            Status::deadline_exceeded(format!("the snapshot was not answered within {max_wait:?}"))
        })??;
        Ok(Response::new(wire::install_snapshot_response(log)))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn timeout_now(
        &self,
        request: Request<TimeoutNowRequest>,
    ) -> Result<Response<TimeoutNowResponse>, Status> {
        let message = PeerMessage::TimeoutNow(request.into_inner());
        self.validate(&message)?;
        self.step(message).await?;
        Ok(Response::new(TimeoutNowResponse {}))
    }

    /// Answers every caller in the same way. The core learns which process asked: it may have to know which
    /// processes are fresh, and which run.
    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        let now = self.driver.status();
        // A caller with a missing or malformed introduction is answered too.
        if let Ok(by) = Introduction::try_from(request.into_inner()) {
            self.driver.asked(by);
        }
        let receiving = self.routes.receiving();
        let status = NodeStatus { receiving, ..now };
        Ok(Response::new(status.into()))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn offer(
        &self,
        request: Request<OfferRequest>,
    ) -> Result<Response<OfferResponse>, Status> {
        let (offer, to) = wire::offer_from_request(request.into_inner())
            .map_err(|error| rejection::malformed(&error))?;
        self.is_for_me(to, None)?;
        let accepted = self
            .driver
            .offered(offer)
            .await
            .map_err(rejection::stopped)?;
        Ok(Response::new(OfferResponse { accepted }))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn start(
        &self,
        request: Request<StartRequest>,
    ) -> Result<Response<StartResponse>, Status> {
        let StartRequest {
            cluster_id,
            coordinator_id,
            to,
        } = request.into_inner();
        let id = |field, id: u64| {
            RaftId::try_from(id).map_err(|error| {
                rejection::malformed(&WireError::new("StartRequest", field, error.to_string()))
            })
        };
        let coordinator = id("coordinator_id", coordinator_id)?;
        self.is_for_me(id("to", to)?, None)?;
        let started = self
            .driver
            .start(ClusterId(cluster_id), coordinator)
            .await
            .map_err(rejection::stopped)?;
        Ok(Response::new(StartResponse { started }))
    }

    #[tracing::instrument(level = "debug", skip_all, fields(node = %self.me.node_id(), raft_id = %self.me))]
    async fn yield_recovery(
        &self,
        request: Request<YieldRecoveryRequest>,
    ) -> Result<Response<YieldRecoveryResponse>, Status> {
        let (claim, to) = wire::claim_from_request(request.into_inner())
            .map_err(|error| rejection::malformed(&error))?;
        self.is_for_me(to, Some(claim.cluster_id))?;
        let answer = self
            .driver
            .yield_to(claim)
            .await
            .map_err(rejection::stopped)?;
        Ok(Response::new(wire::yield_response(answer)))
    }
}

/// The raft id in the metadata `name` of a stream, if any.
fn raft_id<T>(request: &Request<T>, name: &'static str) -> Result<Option<RaftId>, Status> {
    let Some(value) = request.metadata().get(name) else {
        return Ok(None);
    };
    let id = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let id = id.and_then(|id| RaftId::try_from(id).ok());
    let malformed = || Status::invalid_argument(format!("{name}: {value:?} is no raft id"));
    id.map(Some).ok_or_else(malformed)
}

/// The next message of a stream. tonic reports a message that cannot be decoded as an internal error, but
/// the sender is at fault.
async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    stream
        .message()
        .await
        .map_err(|status| match status.code() {
            Code::Internal if std::error::Error::source(&status).is_none() => {
                Status::invalid_argument(status.message())
            }
            _ => status,
        })
}
