//! Nodes that do exactly what a test wants.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::thread;

use bytes::Bytes;
use prost::Message as _;
use seshat_proto::admin::v1::admin_service_server::{AdminService, AdminServiceServer};
use seshat_proto::admin::v1::{
    self as admin, StatusRequest, StatusResponse, TransferLeadershipRequest,
    TransferLeadershipResponse,
};
use seshat_proto::kv::v1::error_detail::Reason;
use seshat_proto::kv::v1::kv_service_server::{KvService, KvServiceServer};
use seshat_proto::kv::v1::{
    Applied, DeleteRequest, DeleteResponse, ErrorDetail, GetRequest, GetResponse, NotLeader,
    OpenSessionRequest, OpenSessionResponse, PipelineRequest, PipelineResponse, SetRequest,
    SetResponse,
};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
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

/// What the leader does with the next write.
pub(crate) enum Fate {
    /// Refuses it.
    Refused(Status),
    /// Never answers.
    Silence,
}

/// One node.
#[derive(Clone)]
pub(crate) struct Mock {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How reads and writes are refused, unless the node leads.
    refusal: Option<Status>,
    /// How often they are; then the node leads.
    refusals_left: Option<usize>,
    fates: VecDeque<Fate>,
    map: HashMap<Bytes, Bytes>,
    applied_index: u64,
    writes: usize,
    transfers: Vec<TransferLeadershipRequest>,
    status: Option<StatusResponse>,
}

impl Mock {
    /// A node that leads.
    pub(crate) fn leader() -> Self {
        Self::start(State::default())
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

    /// A node that follows whoever is at `leader_addr`.
    pub(crate) fn follower(leader_addr: Option<&str>) -> Self {
        Self::refusing(not_leader(leader_addr))
    }

    /// A node that shows `status` and nothing else.
    pub(crate) fn showing(status: StatusResponse) -> Self {
        let mock = Self::follower(None);
        mock.state().status = Some(status);
        mock
    }

    /// Adds to what becomes of the next writes.
    pub(crate) fn next_write(self, fate: Fate) -> Self {
        self.state().fates.push_back(fate);
        self
    }

    /// How many writes have come.
    pub(crate) fn writes(&self) -> usize {
        self.state().writes
    }

    /// The members that leadership was to be handed to.
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

    fn leads(&self) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.state();
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
    async fn write<T>(&self, apply: impl FnOnce(&mut State) -> T) -> Result<(T, u64), Status> {
        let fate = {
            let mut state = self.leads()?;
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
    type PipelineStream = tokio_stream::Pending<Result<PipelineResponse, Status>>;

    async fn pipeline(
        &self,
        _: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let SetRequest { key, value, .. } = request.into_inner();
        let (_, applied_index) = self.write(|state| state.map.insert(key, value)).await?;
        Ok(Response::new(SetResponse { applied_index }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let state = self.leads()?;
        Ok(Response::new(GetResponse {
            value: state.map.get(&request.into_inner().key).cloned(),
            applied_index: state.applied_index,
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let key = request.into_inner().key;
        let (removed, applied_index) = self.write(|state| state.map.remove(&key)).await?;
        Ok(Response::new(DeleteResponse {
            existed: removed.is_some(),
            applied_index,
        }))
    }
}

#[tonic::async_trait]
impl AdminService for Mock {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.state().status.clone();
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
        self.write(|state| state.transfers.push(request)).await?;
        Ok(Response::new(TransferLeadershipResponse {
            leader_id,
            term: 7,
        }))
    }

    async fn add_member(
        &self,
        _: Request<admin::AddMemberRequest>,
    ) -> Result<Response<admin::AddMemberResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn remove_member(
        &self,
        _: Request<admin::RemoveMemberRequest>,
    ) -> Result<Response<admin::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn form(
        &self,
        _: Request<admin::FormRequest>,
    ) -> Result<Response<admin::FormResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn recover(
        &self,
        _: Request<admin::RecoverRequest>,
    ) -> Result<Response<admin::RecoverResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
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

pub(crate) fn not_leader(leader_addr: Option<&str>) -> Status {
    let reason = Reason::NotLeader(NotLeader {
        leader_id: None,
        leader_addr: leader_addr.map(str::to_owned),
    });
    let message = "this node does not lead (not applied)";
    refusal(Code::FailedPrecondition, message, Applied::No, Some(reason))
}

/// An address at which nobody listens. The socket keeps the port from everybody else.
pub(crate) fn dead() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// An address that takes connections and never says a word, as a paused process does.
pub(crate) fn paused() -> (TcpListener, String) {
    let (listener, address) = listen();
    (listener, address.to_string())
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
