//! Nodes whose behaviour a test controls.

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::thread;

use prost::Message as _;
use seshat_proto::admin::v1::admin_service_server::{AdminService, AdminServiceServer};
use seshat_proto::admin::v1::{
    self as admin, StatusRequest, StatusResponse, TransferLeadershipRequest,
    TransferLeadershipResponse,
};
use seshat_proto::kv::v1::error_detail::Reason;
use seshat_proto::kv::v1::kv_service_server::{KvService, KvServiceServer};
use seshat_proto::kv::v1::watch_response::Message;
use seshat_proto::kv::v1::{
    Applied, CloseSessionRequest, CloseSessionResponse, DeleteRequest, DeleteResponse, ErrorDetail,
    FailedPrecondition, GetRequest, GetResponse, InvalidRequest, KeepAliveRequest,
    KeepAliveResponse, ListSessionsRequest, ListSessionsResponse, NotLeader, OpenSessionRequest,
    OpenSessionResponse, OtherCluster, PipelineRequest, PipelineResponse, ScanRequest,
    ScanResponse, SessionInfo, SetRequest, SetResponse, TxnRequest, TxnResponse, WatchRequest,
    WatchResponse,
};
use seshat_test_support::txn::Store;
use seshat_test_support::watch::{End, Feed};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

/// Runs every node of every test, on a thread of its own.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(pending::<()>()));
    handle
});

/// The fate of the next write.
pub(crate) enum Fate {
    /// Refuses it.
    Refused(Status),
    /// Never answers.
    Silence,
}

/// Keys in one part of the answer to a scan.
const PART_KEYS: usize = 2;

/// One node.
#[derive(Clone)]
pub(crate) struct Mock {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The cluster that the node takes part in, and the one from which that was recovered.
    cluster: Option<(u64, Option<u64>)>,
    /// The refusal of reads and writes, unless the node leads.
    refusal: Option<Status>,
    /// The number of these refusals; then the node leads.
    refusals_left: Option<usize>,
    fates: VecDeque<Fate>,
    store: Store,
    /// Runs a version without transactions and scans.
    older: bool,
    /// The end of the next scan: after so many parts of its answer.
    cut: Option<(usize, Status)>,
    sessions: Vec<SessionInfo>,
    watches: Vec<WatchRequest>,
    feeds: VecDeque<Feed>,
    applied_index: u64,
    writes: usize,
    transfers: Vec<TransferLeadershipRequest>,
    /// The statuses, one after the other; the last for ever.
    statuses: VecDeque<StatusResponse>,
    members: BTreeSet<u32>,
    added: Vec<admin::AddMemberRequest>,
    removed: Vec<admin::RemoveMemberRequest>,
    /// Whether each call of `Status` required that the members are asked anew.
    fresh: Vec<bool>,
    form: Option<admin::FormResponse>,
    forms: Vec<Vec<u32>>,
    recover: Option<admin::RecoverResponse>,
    recoveries: Vec<admin::RecoverRequest>,
}

impl Mock {
    /// A node that leads.
    pub(crate) fn leader() -> Self {
        Self::start(State::default())
    }

    /// A node that leads, of a version without transactions and scans.
    pub(crate) fn older() -> Self {
        Self::start(State {
            older: true,
            ..State::default()
        })
    }

    /// A node that refuses every read and write.
    pub(crate) fn refusing(refusal: Status) -> Self {
        Self::start(State {
            refusal: Some(refusal),
            ..State::default()
        })
    }

    /// A node that leads after `count` refusals.
    pub(crate) fn refusing_first(count: usize, refusal: Status) -> Self {
        Self::start(State {
            refusal: Some(refusal),
            refusals_left: Some(count),
            ..State::default()
        })
    }

    /// A node that follows the node at `leader_addr`.
    pub(crate) fn follower(leader_addr: Option<&str>) -> Self {
        Self::refusing(not_leader(leader_addr))
    }

    /// A node that shows `status` and nothing else.
    pub(crate) fn showing(status: StatusResponse) -> Self {
        Self::follower(None).shows([status])
    }

    /// Shows these, one after the other, and the last for ever.
    pub(crate) fn shows(self, statuses: impl IntoIterator<Item = StatusResponse>) -> Self {
        self.state().statuses = statuses.into_iter().collect();
        self
    }

    /// Takes part in this cluster, which was recovered from that one.
    pub(crate) fn of(self, cluster: u64, former: Option<u64>) -> Self {
        self.state().cluster = Some((cluster, former));
        self
    }

    /// Has these living sessions.
    pub(crate) fn with_sessions(self, sessions: impl IntoIterator<Item = SessionInfo>) -> Self {
        self.state().sessions = sessions.into_iter().collect();
        self
    }

    /// Has these members.
    pub(crate) fn with_members(self, members: impl IntoIterator<Item = u32>) -> Self {
        self.state().members = members.into_iter().collect();
        self
    }

    /// Forms this cluster when it is asked to.
    pub(crate) fn forms(self, cluster_id: u64) -> Self {
        self.state().form = Some(admin::FormResponse { cluster_id });
        self
    }

    /// Recovers in this way when it is asked to.
    pub(crate) fn recovers(self, recover: admin::RecoverResponse) -> Self {
        self.state().recover = Some(recover);
        self
    }

    /// The removal that was requested.
    pub(crate) fn removed(&self) -> Vec<admin::RemoveMemberRequest> {
        self.state().removed.clone()
    }

    /// Whether each call of `Status` required that the members are asked anew.
    pub(crate) fn asked_to_be_fresh(&self) -> Vec<bool> {
        self.state().fresh.clone()
    }

    /// The addition that was requested.
    pub(crate) fn added(&self) -> Vec<admin::AddMemberRequest> {
        self.state().added.clone()
    }

    /// The nodes that a form was to leave out.
    pub(crate) fn formed_without(&self) -> Vec<Vec<u32>> {
        self.state().forms.clone()
    }

    /// The recoveries that were requested: the cluster, and whether for real.
    pub(crate) fn recoveries(&self) -> Vec<(u64, bool)> {
        let state = self.state();
        let asked = state.recoveries.iter();
        asked.map(|it| (it.cluster_id, !it.dry_run)).collect()
    }

    /// Adds fates for the next writes.
    pub(crate) fn next_write(self, fate: Fate) -> Self {
        self.state().fates.push_back(fate);
        self
    }

    /// Cuts the next scan off after so many parts of its answer.
    pub(crate) fn cuts_off(&self, parts: usize) {
        self.state().cut = Some((parts, Status::unavailable("the node goes away")));
    }

    /// Adds what the next watch gets. Others are refused.
    pub(crate) fn next_watch(&self, messages: impl IntoIterator<Item = Message>, end: End) {
        let messages = messages.into_iter().collect();
        self.state().feeds.push_back(Feed { messages, end });
    }

    /// The watches that have come.
    pub(crate) fn watches(&self) -> Vec<WatchRequest> {
        self.state().watches.clone()
    }

    /// The number of writes that have come.
    pub(crate) fn writes(&self) -> usize {
        self.state().writes
    }

    /// The members that leadership was to be transferred to.
    pub(crate) fn transfers(&self) -> Vec<Option<u32>> {
        self.state()
            .transfers
            .iter()
            .map(|request| request.to)
            .collect()
    }

    fn start(state: State) -> Self {
        let (listener, address) = listen();
        listener.set_nonblocking(true).unwrap();
        let mock = Self {
            address: address.to_string(),
            state: Arc::new(Mutex::new(state)),
        };
        let node = mock.clone();
        RUNTIME.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(KvServiceServer::new(node.clone()))
                .add_service(AdminServiceServer::new(node))
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        });
        mock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers requests for the cluster `named`, or for any.
    fn leads(&self, named: Option<u64>) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.state();
        if let (Some((own, former)), Some(named)) = (state.cluster, named)
            && own != named
        {
            return Err(other_cluster(own, former == Some(named)));
        }
        match (&state.refusal, state.refusals_left) {
            (None, _) | (_, Some(0)) => Ok(state),
            (Some(refusal), left) => {
                let refusal = refusal.clone();
                state.refusals_left = left.map(|left| left - 1);
                Err(refusal)
            }
        }
    }

    /// Meets the fate of the next write, or applies it and gives its index.
    async fn write<T>(
        &self,
        named: Option<u64>,
        apply: impl FnOnce(&mut State) -> T,
    ) -> Result<(T, u64), Status> {
        let fate = {
            let mut state = self.leads(named)?;
            state.writes += 1;
            state.fates.pop_front()
        };
        match fate {
            Some(Fate::Refused(status)) => return Err(status),
            Some(Fate::Silence) => pending().await,
            None => {}
        }
        let mut state = self.state();
        state.applied_index += 1;
        Ok((apply(&mut state), state.applied_index))
    }
}

#[tonic::async_trait]
impl KvService for Mock {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut state = self.state();
        if state.older {
            return Err(Status::unimplemented(""));
        }
        state.watches.push(request.into_inner());
        let feed = state.feeds.pop_front();
        let feed = feed.ok_or_else(|| Status::unavailable("the node serves no watch now"))?;
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(feed.send(answers, || ()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type PipelineStream = tokio_stream::Pending<Result<PipelineResponse, Status>>;

    async fn pipeline(
        &self,
        _: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        let request = request.into_inner();
        let carry_out = |state: &mut State| {
            let revision = state.applied_index;
            state.store.carry_out(request.clone(), revision)
        };
        let (response, _) = self.write(request.cluster_id, carry_out).await?;
        Ok(Response::new(response))
    }

    type ScanStream = tokio_stream::Iter<std::vec::IntoIter<Result<ScanResponse, Status>>>;

    async fn scan(
        &self,
        request: Request<ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        let request = request.into_inner();
        let mut state = self.leads(request.cluster_id)?;
        let parts = state.store.scan(&request, state.applied_index, PART_KEYS);
        let mut parts: Vec<_> = parts.into_iter().map(Ok).collect();
        if let Some((end, status)) = state.cut.take() {
            parts.truncate(end);
            parts.push(Err(status));
            // Another node would lead now.
            state.applied_index += 1;
        }
        Ok(Response::new(tokio_stream::iter(parts)))
    }

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn keep_alive(
        &self,
        _: Request<KeepAliveRequest>,
    ) -> Result<Response<KeepAliveResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let CloseSessionRequest {
            client_id,
            cluster_id,
        } = request.into_inner();
        let close = |state: &mut State| {
            let before = state.sessions.len();
            state.sessions.retain(|it| it.client_id != client_id);
            state.sessions.len() < before
        };
        let (existed, revision) = self.write(cluster_id, close).await?;
        Ok(Response::new(CloseSessionResponse {
            existed,
            revision,
            ..CloseSessionResponse::default()
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let state = self.leads(request.into_inner().cluster_id)?;
        Ok(Response::new(ListSessionsResponse {
            sessions: state.sessions.clone(),
            ..ListSessionsResponse::default()
        }))
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let request = request.into_inner();
        let SetRequest { key, value, .. } = request;
        let insert = |state: &mut State| {
            let revision = state.applied_index;
            state.store.set(key, value, revision);
        };
        let ((), applied_index) = self.write(request.cluster_id, insert).await?;
        Ok(Response::new(SetResponse {
            applied_index,
            ..SetResponse::default()
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let GetRequest { key, cluster_id } = request.into_inner();
        if key.is_empty() && self.state().cluster.is_none() {
            return Err(no_key());
        }
        let state = self.leads(cluster_id)?;
        let (value, revision) = state.store.get(&key).unzip();
        Ok(Response::new(GetResponse {
            value,
            applied_index: state.applied_index,
            cluster_id: state.cluster.map(|(own, _)| own),
            revision: revision.unwrap_or_default(),
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest {
            key, cluster_id, ..
        } = request.into_inner();
        let remove = |state: &mut State| state.store.delete(&key);
        let (existed, applied_index) = self.write(cluster_id, remove).await?;
        Ok(Response::new(DeleteResponse {
            existed,
            applied_index,
            ..DeleteResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl AdminService for Mock {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let mut state = self.state();
        state.fresh.push(request.into_inner().fresh);
        let statuses = &mut state.statuses;
        let last = statuses.len() == 1;
        let status = if last {
            statuses.front().cloned()
        } else {
            statuses.pop_front()
        };
        status
            .map(Response::new)
            .ok_or_else(|| Status::unavailable("shows nothing"))
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let request = request.into_inner();
        let leader_id = request.to.unwrap_or(3);
        self.write(request.cluster_id, |state| state.transfers.push(request))
            .await?;
        Ok(Response::new(TransferLeadershipResponse {
            leader_id,
            term: 7,
        }))
    }

    async fn add_member(
        &self,
        request: Request<admin::AddMemberRequest>,
    ) -> Result<Response<admin::AddMemberResponse>, Status> {
        let request = request.into_inner();
        let named = request.cluster_id;
        let add = |state: &mut State| {
            state.members.insert(request.id);
            state.added.push(request);
            state.members.iter().copied().collect()
        };
        let (members, applied_index) = self.write(named, add).await?;
        Ok(Response::new(admin::AddMemberResponse {
            applied_index,
            members,
        }))
    }

    async fn remove_member(
        &self,
        request: Request<admin::RemoveMemberRequest>,
    ) -> Result<Response<admin::RemoveMemberResponse>, Status> {
        let request = request.into_inner();
        let named = request.cluster_id;
        let remove = |state: &mut State| {
            state.members.remove(&request.id);
            state.removed.push(request);
            state.members.iter().copied().collect()
        };
        let (members, applied_index) = self.write(named, remove).await?;
        Ok(Response::new(admin::RemoveMemberResponse {
            applied_index,
            members,
        }))
    }

    async fn form(
        &self,
        request: Request<admin::FormRequest>,
    ) -> Result<Response<admin::FormResponse>, Status> {
        let mut state = self.state();
        state.forms.push(request.into_inner().without);
        let form = state.form;
        form.map(Response::new)
            .ok_or_else(|| precondition("node 1 has to be asked"))
    }

    async fn recover(
        &self,
        request: Request<admin::RecoverRequest>,
    ) -> Result<Response<admin::RecoverResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.recoveries.push(request.clone());
        let recover = state.recover.clone();
        let recover = recover.ok_or_else(|| precondition("the cluster is not halted"))?;
        let new_cluster_id = recover.new_cluster_id.filter(|_| !request.dry_run);
        Ok(Response::new(admin::RecoverResponse {
            new_cluster_id,
            ..recover
        }))
    }
}

/// A refusal because a precondition does not hold.
pub(crate) fn precondition(message: &str) -> Status {
    let reason = Reason::FailedPrecondition(FailedPrecondition {
        rule: message.to_owned(),
    });
    refusal(Code::FailedPrecondition, message, Applied::No, Some(reason))
}

/// A refusal with the detail that every refusal has.
pub(crate) fn refusal(
    code: Code,
    message: &str,
    applied: Applied,
    reason: Option<Reason>,
) -> Status {
    let detail = ErrorDetail {
        applied: applied.into(),
        reason,
    };
    let details = tonic_types::pb::Status {
        code: code.into(),
        message: message.to_owned(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/seshat.kv.v1.ErrorDetail".to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The refusal of a request for another cluster than `own`, which may be the successor of that one.
fn other_cluster(own: u64, successor: bool) -> Status {
    let reason = Reason::OtherCluster(OtherCluster {
        cluster_id: own,
        successor,
    });
    let message = "this node takes part in another cluster (not applied)";
    refusal(Code::FailedPrecondition, message, Applied::No, Some(reason))
}

/// The refusal of a request without a key.
fn no_key() -> Status {
    let reason = Reason::InvalidRequest(InvalidRequest::default());
    let message = "key: at least 1 byte (not applied)";
    refusal(Code::InvalidArgument, message, Applied::No, Some(reason))
}

pub(crate) fn not_leader(leader_addr: Option<&str>) -> Status {
    let reason = Reason::NotLeader(NotLeader {
        leader_id: None,
        leader_addr: leader_addr.map(str::to_owned),
    });
    let message = "this node does not lead (not applied)";
    refusal(Code::FailedPrecondition, message, Applied::No, Some(reason))
}

/// An address without a listener. The socket keeps the port from all other programs.
pub(crate) fn dead() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// An address that accepts connections and never answers, as a paused process does.
pub(crate) fn paused() -> (TcpListener, String) {
    let (listener, address) = listen();
    (listener, address.to_string())
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
