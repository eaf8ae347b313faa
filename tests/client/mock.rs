//! A node whose behaviour a test controls, and which records its requests.

mod locks;

pub(crate) use locks::LockFate;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_server::{KvService, KvServiceServer};
use seshat::proto::kv::pipeline_command::Command;
use seshat::proto::kv::pipeline_result::Result as Answered;
use seshat::proto::kv::watch_response::Message;
use seshat::proto::kv::{
    Applied, CloseSessionRequest, CloseSessionResponse, DeleteRequest, DeleteResponse, ErrorDetail,
    GetRequest, GetResponse, InvalidRequest, KeepAliveRequest, KeepAliveResponse,
    ListSessionsRequest, ListSessionsResponse, NotLeader, OpenSessionRequest, OpenSessionResponse,
    OtherCluster, PipelineError, PipelineRequest, PipelineResponse, PipelineResult, ScanRequest,
    ScanResponse, Session, SessionExpired, SessionInfo, SetRequest, SetResponse, TxnRequest,
    TxnResponse, WatchRequest, WatchResponse,
};
use seshat::proto::lock::lock_service_server::LockServiceServer;
use seshat_test_support::txn::{Store, writes};
use seshat_test_support::watch::{End, Feed};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

/// The fate of a write.
#[derive(Clone)]
pub(crate) enum Fate {
    /// It is refused, and not applied.
    Refused(Status),
    /// It is applied, and the answer is lost on its way.
    AppliedAndLost,
    /// It is applied, and never answered.
    AppliedInSilence,
    /// It is neither applied nor answered.
    Silence,
    /// It is not applied, and its stream ends with this status.
    StreamEnds(Status),
}

/// The end of a scan after so many parts of its answer.
pub(crate) enum Cut {
    Refused(usize, Status),
    /// The answer ends as if it were whole.
    Short(usize),
    /// Nothing more comes.
    Silence(usize),
}

/// The answer to a request to open, renew or close a session.
#[derive(Clone)]
pub(crate) enum Renewal {
    /// It is refused.
    Refused(Status),
    /// It is carried out, and the answer is lost on its way.
    Lost,
    /// It is carried out, and the answer comes later.
    Late(Duration),
}

/// Keys in one part of the answer to a scan.
pub(crate) const PART_KEYS: usize = 2;

/// One node.
#[derive(Clone)]
pub(crate) struct Mock {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How reads and writes are refused; none: the node leads.
    refusal: Option<Status>,
    /// Answers nothing more.
    silent: bool,
    /// How long the answer to a read takes.
    read_delay: Duration,
    /// Runs a version without transactions and scans.
    older: bool,
    scans: Vec<ScanRequest>,
    cuts: VecDeque<Cut>,
    parts_sent: usize,
    scans_open: usize,
    watches: Vec<WatchRequest>,
    feeds: VecDeque<Feed>,
    news_sent: usize,
    watches_open: usize,
    watch_peers: BTreeSet<SocketAddr>,
    /// The cluster that the node takes part in, and the one from which that was recovered.
    cluster: Option<(u64, Option<u64>)>,
    /// The connections of writes, and those of scans.
    peers: [BTreeSet<SocketAddr>; 2],
    fates: VecDeque<Fate>,
    store: Store,
    /// The answers to the numbered writes.
    remembered: BTreeMap<u64, Answer>,
    txns: Vec<TxnRequest>,
    applied_index: u64,
    reads: usize,
    writes: Vec<Option<Session>>,
    batches: usize,
    timeouts: Vec<Duration>,
    sessions: Vec<OpenSessionRequest>,
    renewals: VecDeque<Renewal>,
    /// The time and the session of each renewal that has come.
    renewed: Vec<(Instant, u64)>,
    closed: Vec<u64>,
    /// No session lives any more.
    ended: bool,
    listed: Vec<SessionInfo>,
    locks: locks::Locks,
    traceparents: Vec<String>,
}

/// The answer to a write: its revision, and what it has done.
#[derive(Clone)]
struct Answer(u64, Effect);

#[derive(Clone)]
enum Effect {
    Set,
    Deleted(bool),
    Txn(TxnResponse),
}

impl Mock {
    /// A node that leads.
    pub(crate) async fn leader() -> Self {
        Self::start(State::default()).await
    }

    /// A node that leads, of a version without transactions.
    pub(crate) async fn older() -> Self {
        Self::start(State {
            older: true,
            ..State::default()
        })
        .await
    }

    /// A node that follows the node at `leader`.
    pub(crate) async fn follower(leader: Option<&str>) -> Self {
        let refusal = Some(not_leader(leader));
        Self::start(State {
            refusal,
            ..State::default()
        })
        .await
    }

    /// A node in the memory of this thread, for a test whose clock is paused: see [`in_memory`].
    pub(crate) fn in_memory(name: &str, leads: bool) -> Self {
        let (connections, accepted) = mpsc::unbounded_channel();
        let address = format!("{name}:1");
        NETWORK.with_borrow_mut(|network| network.insert(address.clone(), connections));
        let refusal = (!leads).then(|| not_leader(None));
        let state = Arc::new(Mutex::new(State {
            refusal,
            ..State::default()
        }));
        let mock = Self { address, state };
        let server = tonic::transport::Server::builder()
            .add_service(KvServiceServer::new(mock.clone()))
            .add_service(LockServiceServer::new(mock.clone()));
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(accepted)));
        mock
    }

    async fn start(state: State) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(state));
        let mock = Self { address, state };
        let node = mock.clone();
        tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(KvServiceServer::new(node.clone()))
                .add_service(LockServiceServer::new(node))
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        });
        mock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds fates for the next writes.
    pub(crate) fn next_write(&self, fate: Fate) {
        self.state().fates.push_back(fate);
    }

    /// The node leads from now on, or follows the node at `leader`.
    pub(crate) fn follows(&self, leader: Option<&str>) {
        self.state().refusal = Some(not_leader(leader));
        // What waits at the node learns of it.
        let locks = self.state().locks.clone();
        locks.wake();
    }

    pub(crate) fn leads(&self) {
        self.state().refusal = None;
    }

    /// Adds an end for the next scan.
    pub(crate) fn next_scan(&self, cut: Cut) {
        self.state().cuts.push_back(cut);
    }

    /// The scans that have come.
    pub(crate) fn scans(&self) -> Vec<ScanRequest> {
        self.state().scans.clone()
    }

    /// Parts of answers to scans that have been sent.
    pub(crate) fn parts_sent(&self) -> usize {
        self.state().parts_sent
    }

    /// The connections over which writes have come, and those over which scans have.
    pub(crate) fn peers(&self) -> [BTreeSet<SocketAddr>; 2] {
        self.state().peers.clone()
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

    /// Messages of watches that have been sent.
    pub(crate) fn news_sent(&self) -> usize {
        self.state().news_sent
    }

    /// Watches that have not ended.
    pub(crate) fn watches_open(&self) -> usize {
        self.state().watches_open
    }

    /// The connections over which watches have come.
    pub(crate) fn watch_peers(&self) -> BTreeSet<SocketAddr> {
        self.state().watch_peers.clone()
    }

    /// The node takes part in `cluster`, which was recovered from `former`.
    pub(crate) fn joins(&self, cluster: u64, former: Option<u64>) {
        self.state().cluster = Some((cluster, former));
    }

    /// Scans whose answers have not ended.
    pub(crate) fn scans_open(&self) -> usize {
        self.state().scans_open
    }

    /// The node keeps its connections and answers nothing more.
    pub(crate) fn falls_silent(&self) {
        self.state().silent = true;
    }

    /// The answer to each read takes as long from now on.
    pub(crate) fn delays_reads(&self, delay: Duration) {
        self.state().read_delay = delay;
    }

    /// The node answers again what comes from now on.
    pub(crate) fn speaks(&self) {
        self.state().silent = false;
    }

    /// Adds answers for the next requests about sessions.
    pub(crate) fn next_renewal(&self, renewal: Renewal) {
        self.state().renewals.push_back(renewal);
    }

    /// The requests that have come to open a session.
    pub(crate) fn sessions(&self) -> Vec<OpenSessionRequest> {
        self.state().sessions.clone()
    }

    /// The time and the session of each renewal that has come.
    pub(crate) fn renewed(&self) -> Vec<(Instant, u64)> {
        self.state().renewed.clone()
    }

    /// The sessions that were closed.
    pub(crate) fn closed(&self) -> Vec<u64> {
        self.state().closed.clone()
    }

    /// The sessions end.
    pub(crate) fn ends_sessions(&self) {
        self.state().ended = true;
    }

    /// The node lists these living sessions.
    pub(crate) fn lists(&self, sessions: Vec<SessionInfo>) {
        self.state().listed = sessions;
    }

    /// Answers a request about a session, as the test wants it.
    async fn renewal<T>(&self, answer: T) -> Result<Response<T>, Status> {
        let renewal = self.state().renewals.pop_front();
        match renewal {
            Some(Renewal::Refused(status)) => return Err(status),
            Some(Renewal::Lost) => return Err(Status::unavailable("the answer is lost")),
            Some(Renewal::Late(pause)) => tokio::time::sleep(pause).await,
            None => {}
        }
        Ok(Response::new(answer))
    }

    pub(crate) fn reads(&self) -> usize {
        self.state().reads
    }

    /// The session of each write that has come.
    pub(crate) fn writes(&self) -> Vec<Option<Session>> {
        self.state().writes.clone()
    }

    /// The transactions that have come one by one.
    pub(crate) fn txns(&self) -> Vec<TxnRequest> {
        self.state().txns.clone()
    }

    /// Number and first outstanding number of each write that has come.
    pub(crate) fn numbers(&self) -> Vec<(u64, u64)> {
        let writes = self.writes().into_iter();
        let numbers = writes.map(|it| it.expect("a number"));
        numbers
            .map(|it| (it.sequence, it.first_outstanding))
            .collect()
    }

    /// The numbers of the writes of `session`.
    pub(crate) fn numbers_of(&self, session: &seshat::client::Session) -> Vec<u64> {
        let writes = self.writes().into_iter().flatten();
        let own = writes.filter(|write| write.client_id == session.id());
        own.map(|write| write.sequence).collect()
    }

    /// The number of batches that have come.
    pub(crate) fn batches(&self) -> usize {
        self.state().batches
    }

    /// The deadlines that the callers of writes stated.
    pub(crate) fn timeouts(&self) -> Vec<Duration> {
        self.state().timeouts.clone()
    }

    /// The trace contexts of writes.
    pub(crate) fn traceparents(&self) -> Vec<String> {
        self.state().traceparents.clone()
    }

    pub(crate) fn applied(&self) -> u64 {
        self.state().applied_index
    }

    /// Sends the parts of an answer.
    async fn send(
        &self,
        parts: Vec<ScanResponse>,
        cut: Option<Cut>,
        answers: &mpsc::Sender<Result<ScanResponse, Status>>,
    ) {
        let whole = parts.len();
        let end = match &cut {
            None => whole,
            Some(Cut::Refused(end, _) | Cut::Short(end) | Cut::Silence(end)) => *end,
        };
        for part in parts.into_iter().take(end) {
            if answers.send(Ok(part)).await.is_err() {
                return;
            }
            self.state().parts_sent += 1;
        }
        match cut {
            Some(Cut::Refused(_, status)) => drop(answers.send(Err(status)).await),
            Some(Cut::Silence(_)) => answers.closed().await,
            Some(Cut::Short(_)) | None => {}
        }
    }

    async fn serves(&self) -> Result<(), Status> {
        let (silent, refusal) = {
            let state = self.state();
            (state.silent, state.refusal.clone())
        };
        if silent {
            return pending().await;
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Answers a batch that binds keys or carries out transactions, as its fate wants it; or ends the stream.
    async fn batch(&self, batch: PipelineRequest) -> Result<PipelineResponse, Status> {
        let fate = {
            let state = &mut *self.state();
            state.batches += 1;
            let fate = state.fates.pop_front();
            for command in &batch.commands {
                match &command.command {
                    Some(Command::Set(set)) => state.writes.push(set.session),
                    Some(Command::Txn(txn)) => state.writes.push(txn.session),
                    _ => {}
                }
            }
            fate
        };
        let refused = match fate {
            Some(Fate::AppliedAndLost) => return Err(Status::unavailable("the stream is lost")),
            Some(Fate::StreamEnds(status)) => return Err(status),
            Some(Fate::AppliedInSilence | Fate::Silence) => return pending().await,
            Some(Fate::Refused(status)) => {
                let details = tonic_types::pb::Status::decode(status.details()).unwrap();
                let detail = ErrorDetail::decode(details.details[0].value.as_slice()).unwrap();
                Some(Answered::Error(PipelineError {
                    code: i32::from(status.code()).try_into().unwrap(),
                    message: status.message().to_owned(),
                    detail: Some(detail),
                }))
            }
            None => None,
        };
        let results = batch.commands.into_iter().map(|command| {
            let answer = refused
                .clone()
                .unwrap_or_else(|| self.answer(command.command));
            let result = Some(answer);
            PipelineResult { result }
        });
        Ok(PipelineResponse {
            id: batch.id,
            results: results.collect(),
            ..PipelineResponse::default()
        })
    }

    fn answer(&self, command: Option<Command>) -> Answered {
        let state = &mut *self.state();
        match command {
            Some(Command::Txn(_)) if state.older => Answered::Error(no_command()),
            Some(Command::Txn(txn)) => {
                state.applied_index += 1;
                Answered::Txn(state.store.carry_out(txn, state.applied_index))
            }
            _ => Answered::Set(SetResponse::default()),
        }
    }

    /// Applies a write once, as its fate wants it.
    async fn write<M>(
        &self,
        request: &Request<M>,
        session: Option<Session>,
        apply: impl FnOnce(&mut Store, u64) -> Effect,
    ) -> Result<Answer, Status> {
        self.serves().await?;
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.and_then(|it| it.to_str().ok()).map(parse_timeout);
        let traceparent = request.metadata().get("traceparent");
        let traceparent = traceparent.map(|it| it.to_str().unwrap().to_owned());
        let fate = {
            let state = &mut *self.state();
            state.writes.push(session);
            state.peers[0].extend(request.remote_addr());
            state.traceparents.extend(traceparent);
            state.timeouts.extend(timeout);
            state.fates.pop_front()
        };
        match &fate {
            Some(Fate::Refused(status) | Fate::StreamEnds(status)) => return Err(status.clone()),
            Some(Fate::Silence) => return pending().await,
            _ => {}
        }
        let answer = {
            let state = &mut *self.state();
            let number = session.map(|it| it.sequence);
            match number.and_then(|number| state.remembered.get(&number)) {
                Some(answer) => answer.clone(),
                None => {
                    state.applied_index += 1;
                    let revision = state.applied_index;
                    let answer = Answer(revision, apply(&mut state.store, revision));
                    let remembered = number.map(|number| (number, answer.clone()));
                    state.remembered.extend(remembered);
                    answer
                }
            }
        };
        match fate {
            Some(Fate::AppliedAndLost) => Err(Status::unavailable("the answer is lost")),
            Some(Fate::AppliedInSilence) => pending().await,
            _ => Ok(answer),
        }
    }
}

/// tonic writes it in the unit in which it fits.
fn parse_timeout(text: &str) -> Duration {
    let (digits, unit) = text.split_at(text.len() - 1);
    let amount: u64 = digits.parse().unwrap();
    match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        unit => panic!("{unit}"),
    }
}

#[tonic::async_trait]
impl KvService for Mock {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        let peer = request.remote_addr();
        let feed = {
            let state = &mut *self.state();
            state.watch_peers.extend(peer);
            state.watches.push(request.into_inner());
            state.feeds.pop_front()
        };
        let Some(feed) = feed else {
            return Err(Status::unavailable("the node serves no watch now"));
        };
        let (answers, stream) = mpsc::channel(1);
        let node = self.clone();
        node.state().watches_open += 1;
        tokio::spawn(async move {
            feed.send(answers, || node.state().news_sent += 1).await;
            node.state().watches_open -= 1;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type PipelineStream = ReceiverStream<Result<PipelineResponse, Status>>;

    async fn pipeline(
        &self,
        request: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        self.serves().await?;
        let (answers, stream) = mpsc::channel(1);
        let (node, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = node.batch(request).await;
                let ends = answer.is_err();
                if answers.send(answer).await.is_err() || ends {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        let txn = request.get_ref().clone();
        self.state().txns.push(txn.clone());
        let session = txn.session.filter(|_| writes(&txn));
        let carry_out = |store: &mut Store, revision| Effect::Txn(store.carry_out(txn, revision));
        match self.write(&request, session, carry_out).await? {
            Answer(_, Effect::Txn(response)) => Ok(Response::new(response)),
            _ => Err(Status::internal("the number of another write")),
        }
    }

    type ScanStream = ReceiverStream<Result<ScanResponse, Status>>;

    async fn scan(
        &self,
        request: Request<ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        self.serves().await?;
        let peer = request.remote_addr();
        let request = request.into_inner();
        let (parts, cut) = {
            let state = &mut *self.state();
            state.peers[1].extend(peer);
            state.scans_open += 1;
            let revision = state.applied_index;
            let parts = state.store.scan(&request, revision, PART_KEYS);
            state.scans.push(request);
            (parts, state.cuts.pop_front())
        };
        let (answers, stream) = mpsc::channel(1);
        let node = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = node.send(parts, cut, &answers) => {}
                () = answers.closed() => {}
            }
            node.state().scans_open -= 1;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        self.serves().await?;
        let request = request.into_inner();
        let answer = {
            let state = &mut *self.state();
            state.sessions.push(request);
            OpenSessionResponse {
                applied_index: state.applied_index,
                ttl: request.ttl.filter(|_| !state.older),
                ..OpenSessionResponse::default()
            }
        };
        self.renewal(answer).await
    }

    async fn keep_alive(
        &self,
        request: Request<KeepAliveRequest>,
    ) -> Result<Response<KeepAliveResponse>, Status> {
        self.serves().await?;
        let client_id = request.into_inner().client_id;
        {
            let state = &mut *self.state();
            state.renewed.push((Instant::now(), client_id));
            if state.ended {
                return Err(session_expired());
            }
        }
        self.renewal(KeepAliveResponse::default()).await
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        self.serves().await?;
        let client_id = request.into_inner().client_id;
        self.state().closed.push(client_id);
        let locks = self.state().locks.clone();
        locks.end(client_id);
        self.renewal(CloseSessionResponse::default()).await
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        if self.state().older {
            return Err(Status::unimplemented(""));
        }
        self.serves().await?;
        let after = request.into_inner().after_client_id;
        let listed = self.state().listed.clone();
        let mut listed: Vec<_> = listed
            .into_iter()
            .filter(|it| it.client_id > after)
            .collect();
        let more = listed.len() > PART_KEYS;
        listed.truncate(PART_KEYS);
        Ok(Response::new(ListSessionsResponse {
            sessions: listed,
            more,
            ..ListSessionsResponse::default()
        }))
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let SetRequest {
            key,
            value,
            session,
            ..
        } = request.get_ref().clone();
        let set = |store: &mut Store, revision| {
            store.set(key, value, revision);
            Effect::Set
        };
        let Answer(applied_index, _) = self.write(&request, session, set).await?;
        Ok(Response::new(SetResponse {
            applied_index,
            ..SetResponse::default()
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let delay = {
            let state = &mut *self.state();
            state.reads += 1;
            state.read_delay
        };
        tokio::time::sleep(delay).await;
        let GetRequest { key, cluster_id } = request.into_inner();
        if let (Some((own, former)), Some(named)) = (self.state().cluster, cluster_id)
            && own != named
        {
            return Err(other_cluster(own, former == Some(named)));
        }
        if key.is_empty() {
            return Err(invalid("key", "at least 1 byte"));
        }
        self.serves().await?;
        let state = self.state();
        let (value, revision) = state.store.get(&key).unzip();
        Ok(Response::new(GetResponse {
            value,
            applied_index: state.applied_index,
            revision: revision.unwrap_or_default(),
            cluster_id: state.cluster.map(|(own, _)| own),
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { key, session, .. } = request.get_ref().clone();
        let delete = |store: &mut Store, _| Effect::Deleted(store.delete(&key));
        let Answer(applied_index, effect) = self.write(&request, session, delete).await?;
        Ok(Response::new(DeleteResponse {
            existed: matches!(effect, Effect::Deleted(true)),
            applied_index,
            ..DeleteResponse::default()
        }))
    }
}

thread_local! {
    /// The nodes in the memory of this thread, by their addresses.
    static NETWORK: RefCell<BTreeMap<String, mpsc::UnboundedSender<io::Result<DuplexStream>>>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// A channel to a node in the memory of this thread. Nothing on its way takes time.
pub(crate) fn in_memory(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(service_fn(async |uri: http::Uri| {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let (near, far) = tokio::io::duplex(1 << 16);
        let accepts = NETWORK.with_borrow(|network| network.get(&address).cloned());
        let sent = accepts.and_then(|node| node.send(Ok(far)).ok());
        sent.map(|()| TokioIo::new(near))
            .ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))
    }))
}

/// The answer of a node of an older version to a command that it does not know.
fn no_command() -> PipelineError {
    let reason = Reason::InvalidRequest(InvalidRequest {
        field: "command".to_owned(),
        rule: "one of set, get and delete".to_owned(),
    });
    PipelineError {
        code: i32::from(Code::InvalidArgument).try_into().unwrap(),
        message: "command: one of set, get and delete (not applied)".to_owned(),
        detail: Some(ErrorDetail {
            applied: Applied::No.into(),
            reason: Some(reason),
        }),
    }
}

/// A refusal with the detail that every refusal has.
pub(crate) fn refusal(code: Code, message: &str, applied: Applied, reason: Reason) -> Status {
    let detail = ErrorDetail {
        applied: applied.into(),
        reason: Some(reason),
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
    refusal(
        Code::FailedPrecondition,
        "not the leader",
        Applied::No,
        reason,
    )
}

pub(crate) fn invalid(field: &str, rule: &str) -> Status {
    let reason = Reason::InvalidRequest(InvalidRequest {
        field: field.to_owned(),
        rule: rule.to_owned(),
    });
    let message = format!("{field}: {rule}");
    refusal(Code::InvalidArgument, &message, Applied::No, reason)
}

fn other_cluster(cluster_id: u64, successor: bool) -> Status {
    let reason = Reason::OtherCluster(OtherCluster {
        cluster_id,
        successor,
    });
    let message = "this node takes part in another cluster";
    refusal(Code::FailedPrecondition, message, Applied::No, reason)
}

pub(crate) fn session_expired() -> Status {
    let reason = Reason::SessionExpired(SessionExpired { client_id: 1 });
    refusal(Code::FailedPrecondition, "expired", Applied::No, reason)
}

/// An address that accepts connections and never answers, as long as the listener exists.
pub(crate) fn black_hole() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// An address without a listener. The socket keeps the port from all other programs.
pub(crate) fn dead() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}
