//! Test nodes, links that can be cut, and messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use super::super::{Connector, Outbound, Prober, Transport, TransportOptions};
use crate::driver::{Detached, DriverHandle, Network, Notice, OutgoingSnapshot};
use crate::kv::StateMachine;
use crate::proto::raft::raft_service_client::RaftServiceClient;
use crate::proto::raft::{
    AppendEntriesRequest, AppendEntriesResponse, ConfState, Entry, HeartbeatRequest,
    HeartbeatResponse, InitialMember, InstallSnapshotRequest, RequestVoteRequest,
    TimeoutNowRequest, entry,
};
use crate::types::{ClusterId, NodeId, NodeInfo, NodeState, NodeStatus, RaftId, Role};
use crate::wire::{InstallSnapshotHeader, PeerMessage};

pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);

/// Longest wait of a test for an event that must come. Only a failing test waits so long.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);

pub(super) fn node_id(id: u16) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The incarnation of node `id` in the tests.
pub(super) fn raft_id_of(id: u16) -> RaftId {
    RaftId::new(node_id(id), 0xa11)
}

pub(super) fn started(raft_id: RaftId) -> NodeStatus {
    NodeStatus {
        state: NodeState::Started,
        cluster_id: Some(CLUSTER),
        role: Some(Role::Follower),
        term: 1,
        commit_index: 1,
        applied_index: 1,
        last_index: 1,
        ..NodeStatus::fresh(raft_id)
    }
}

/// Options with timeouts short enough for a test.
pub(super) fn options() -> TransportOptions {
    TransportOptions {
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ..TransportOptions::default()
    }
}

/// The result of `future`, or the test fails.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(MAX_WAIT, future)
        .await
        .expect("it must come")
}

/// A node whose driver is played by the test.
pub(super) struct Node {
    pub(super) driver: Detached,
    pub(super) network: Outbound,
    pub(super) prober: Prober,
    pub(super) addr: SocketAddr,
    rounds: u64,
    // Held open, as the driver would hold it.
    _handle: DriverHandle,
}

impl Node {
    /// Node `id`, which listens, and knows the addresses of `peers`.
    pub(super) async fn new(
        id: u16,
        peers: &[(u16, SocketAddr)],
        options: TransportOptions,
    ) -> Self {
        Self::with_inbox(id, peers, options, 4096).await
    }

    /// As [`new`](Self::new), with a driver that is busy once `inbox` messages wait.
    pub(super) async fn with_inbox(
        id: u16,
        peers: &[(u16, SocketAddr)],
        options: TransportOptions,
        inbox: usize,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::at(listener, id, peers, options, inbox).await
    }

    /// As [`with_inbox`](Self::with_inbox), at a port that is bound already.
    pub(super) async fn at(
        listener: TcpListener,
        id: u16,
        peers: &[(u16, SocketAddr)],
        options: TransportOptions,
        inbox: usize,
    ) -> Self {
        let options = TransportOptions {
            peers: peers
                .iter()
                .map(|(id, addr)| NodeInfo {
                    id: node_id(*id),
                    addr: addr.to_string(),
                    client_addr: format!("kvstore-{id}:6379"),
                })
                .collect(),
            seed: 42,
            ..options
        };
        let (handle, driver) = DriverHandle::detached(started(raft_id_of(id)), inbox);
        let window = options.window_bytes;
        let Transport {
            network,
            service,
            prober,
        } = Transport::new(options, handle.clone(), &Connector::tcp()).unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::builder()
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::spawn(server);
        Self {
            driver,
            network,
            prober,
            addr,
            rounds: 0,
            _handle: handle,
        }
    }

    /// A leader that reaches node 2 at `follower`.
    pub(super) async fn leader(follower: SocketAddr, options: TransportOptions) -> Self {
        let mut leader = Self::new(1, &[(2, follower)], options).await;
        leader.network.set_leading(true);
        leader
    }

    /// The next notice of the driver.
    pub(super) async fn notice(&mut self) -> Notice {
        soon(self.driver.notices.recv()).await.unwrap()
    }

    /// The next notice of the driver, which must be a message.
    pub(super) async fn message(&mut self) -> PeerMessage {
        match self.notice().await {
            Notice::Step(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// The next notice of the driver, which must be a snapshot.
    pub(super) async fn installed(&mut self) -> (InstallSnapshotHeader, StateMachine) {
        match self.notice().await {
            Notice::Install {
                header,
                state_machine,
            } => (header, *state_machine),
            other => panic!("{other:?}"),
        }
    }

    /// Whether no notice is left.
    pub(super) fn has_heard_nothing(&mut self) -> bool {
        self.driver.notices.is_empty()
    }

    /// Sends heartbeats, as a leader does, until one of *these* arrives at `follower`, which shows that
    /// the streams are open now. Returns the messages that arrived before it.
    pub(super) async fn reach(&mut self, follower: &mut Self) -> Vec<PeerMessage> {
        self.rounds += 1;
        let beat = PeerMessage::Heartbeat(HeartbeatRequest {
            read_context: self.rounds.to_be_bytes().to_vec().into(),
            ..heartbeat_request(raft_id_of(2))
        });
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        let mut heard = Vec::new();
        soon(async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => drop(self.network.send(beat.clone())),
                    message = follower.message() => {
                        if message == beat {
                            return heard;
                        }
                        heard.push(message);
                    }
                }
            }
        })
        .await
    }
}

/// A client of the node at `addr` that is not a node.
pub(super) async fn client(addr: SocketAddr) -> RaftServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    RaftServiceClient::new(endpoint.connect().await.unwrap())
}

pub(super) fn append(to: RaftId, index: u64, bytes: usize) -> AppendEntriesRequest {
    AppendEntriesRequest {
        term: 1,
        leader_id: raft_id_of(1).get(),
        prev_log_index: index,
        prev_log_term: 1,
        entries: vec![Entry {
            term: 1,
            index: index + 1,
            context: Bytes::new(),
            payload: Some(entry::Payload::Command(vec![7; bytes].into())),
        }],
        leader_commit: 1,
        cluster_id: CLUSTER.0,
        to: to.get(),
    }
}

pub(super) fn heartbeat_request(to: RaftId) -> HeartbeatRequest {
    HeartbeatRequest {
        term: 1,
        leader_id: raft_id_of(1).get(),
        leader_commit: 1,
        read_context: Bytes::new(),
        cluster_id: CLUSTER.0,
        to: to.get(),
    }
}

pub(super) fn heartbeat(to: RaftId) -> PeerMessage {
    PeerMessage::Heartbeat(heartbeat_request(to))
}

pub(super) fn append_reply(index: u64) -> AppendEntriesResponse {
    AppendEntriesResponse {
        term: 1,
        success: true,
        follower_id: raft_id_of(2).get(),
        index,
        cluster_id: CLUSTER.0,
        to: raft_id_of(1).get(),
        ..AppendEntriesResponse::default()
    }
}

pub(super) fn heartbeat_reply() -> HeartbeatResponse {
    HeartbeatResponse {
        term: 1,
        follower_id: raft_id_of(2).get(),
        commit_index: 1,
        read_context: Bytes::new(),
        cluster_id: CLUSTER.0,
        to: raft_id_of(1).get(),
        watched: false,
    }
}

pub(super) fn vote_request(to: RaftId, pre_vote: bool) -> RequestVoteRequest {
    RequestVoteRequest {
        term: 2,
        candidate_id: raft_id_of(1).get(),
        last_log_index: 1,
        last_log_term: 1,
        pre_vote,
        commit_index: 1,
        commit_term: 1,
        priority: 0,
        campaign: 1,
        cluster_id: CLUSTER.0,
        to: to.get(),
    }
}

pub(super) fn timeout_now(to: RaftId) -> TimeoutNowRequest {
    TimeoutNowRequest {
        term: 1,
        leader_id: raft_id_of(1).get(),
        cluster_id: CLUSTER.0,
        to: to.get(),
    }
}

pub(super) fn initial_member(id: u16) -> InitialMember {
    InitialMember {
        id: id.into(),
        addr: format!("kvstore-{id}:7379"),
        client_addr: format!("kvstore-{id}:6379"),
    }
}

/// A whole snapshot in one message. Its bytes differ from place to place, and do not decode.
pub(super) fn snapshot(to: RaftId, bytes: usize) -> InstallSnapshotRequest {
    let data: Vec<u8> = (0..bytes)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    InstallSnapshotRequest {
        term: 1,
        leader_id: raft_id_of(1).get(),
        last_included_index: 10,
        last_included_term: 1,
        total_size: u64::try_from(data.len()).unwrap(),
        crc32: crc32fast::hash(&data),
        data: data.into(),
        done: true,
        offset: 0,
        conf_state: Some(ConfState {
            voters: vec![raft_id_of(1).get(), to.get()],
            ..ConfState::default()
        }),
        cluster_id: CLUSTER.0,
        to: to.get(),
    }
}

/// A snapshot of `keys` keys, about 120 bytes each.
pub(super) fn outgoing(to: RaftId, keys: u32) -> OutgoingSnapshot {
    let pair = |key: u32| (key.to_be_bytes().to_vec().into(), vec![b'v'; 100].into());
    OutgoingSnapshot {
        header: snapshot(to, 0).into(),
        state_machine: (0..keys).map(pair).collect(),
    }
}

/// How a [`Link`] treats its connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Carries,
    /// Ends connections as soon as they are made.
    Cut,
    /// Keeps the connections that exist; accepts new ones and carries nothing on them.
    Holds,
    /// Carries nothing and closes nothing, like a network that drops packets, or a peer that was stopped.
    Swallows,
}

/// A link to a node that can be cut and restored. Its address stays the same.
pub(super) struct Link {
    pub(super) addr: SocketAddr,
    /// The mode, and how often connections were broken.
    mode: watch::Sender<(Mode, u64)>,
    connections: Arc<AtomicUsize>,
}

impl Link {
    pub(super) async fn new(to: SocketAddr) -> Self {
        Self::lasting(to, u64::MAX).await
    }

    /// A link whose connections end when they have carried so many bytes to the node.
    pub(super) async fn lasting(to: SocketAddr, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Self {
            addr: listener.local_addr().unwrap(),
            mode: watch::Sender::new((Mode::Carries, 0)),
            connections: Arc::default(),
        };
        let (mode, connections) = (link.mode.subscribe(), Arc::clone(&link.connections));
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(near, to, bytes, mode.clone()));
            }
        });
        link
    }

    /// Ends every connection, and each new one at once.
    pub(super) fn cut(&self) {
        self.mode.send_modify(|(mode, breaks)| {
            *mode = Mode::Cut;
            *breaks += 1;
        });
    }

    /// Restores a link that was cut.
    pub(super) fn mend(&self) {
        self.mode.send_modify(|(mode, _)| *mode = Mode::Carries);
    }

    /// Ends every connection and carries new ones.
    pub(super) fn break_connections(&self) {
        self.cut();
        self.mend();
    }

    /// Keeps every connection, and carries nothing on new ones.
    pub(super) fn hold(&self) {
        self.mode.send_modify(|(mode, _)| *mode = Mode::Holds);
    }

    /// Keeps every connection, and carries nothing any more.
    pub(super) fn swallow(&self) {
        self.mode.send_modify(|(mode, _)| *mode = Mode::Swallows);
    }

    /// Number of connections that were made.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut near: TcpStream,
    to: SocketAddr,
    bytes: u64,
    mut mode: watch::Receiver<(Mode, u64)>,
) {
    let (at_first, breaks) = *mode.borrow_and_update();
    if at_first == Mode::Cut {
        return;
    }
    if at_first == Mode::Holds {
        std::future::pending().await
    }
    let mut changes = mode.clone();
    let carried = async {
        let mut far = TcpStream::connect(to).await.unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        tokio::select! {
            biased;
            () = async { drop(mode.wait_for(|(mode, _)| *mode == Mode::Swallows).await) } => {
                std::future::pending().await
            }
            () = async {
                let (from_near, mut to_near) = near.split();
                let (mut from_far, mut to_far) = far.split();
                let mut some = from_near.take(bytes);
                // Either end may close the connection.
                tokio::select! {
                    _ = tokio::io::copy(&mut some, &mut to_far) => {}
                    _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                }
            } => {}
        }
    };
    tokio::select! {
        () = async { drop(changes.wait_for(|(_, now)| *now != breaks).await) } => {}
        () = carried => {}
    }
}
