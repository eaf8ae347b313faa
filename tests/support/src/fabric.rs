//! Nodes that exchange messages in memory, without sockets: all of the server above the transport. A test
//! may control the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use seshat::driver::{
    Call, CallId, Driver, DriverHandle, DriverOptions, Identifying, Network, OutgoingSnapshot,
    Probe, Reply,
};
use seshat::error::RpcError;
use seshat::node::{PeerMessage, RaftOptions, Replica, ReplicaOptions};
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::admin_service_server::AdminServiceServer;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::lock::lock_service_client::LockServiceClient;
use seshat::service::{
    AdminService, AdmissionControl, Health, Holds, Host, Router, ServiceOptions,
};
use seshat::types::{
    Answering, ClusterMembership, NodeId, NodeInfo, NodeStatus, RaftId, Role, WallTime,
};
use seshat::watch::WatchBounds;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tonic::codegen::{Service, http};
use tonic::service::Routes;

use crate::{InTime as _, node_id};

pub const MAX_KEY: usize = 8;
pub const MAX_VALUE: usize = 32;
pub const MAX_MESSAGE: usize = 256;
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
pub const MAX_REQUESTS: usize = 100;
pub const MAX_INFLIGHT: usize = 16;
pub const MAX_UNREAD: usize = 64 << 10;
pub const MAX_WAITING: usize = 16 << 10;

enum Packet {
    Message(PeerMessage),
    Snapshot(Box<OutgoingSnapshot>),
    Call(NodeId, CallId, Call),
}

#[derive(Default)]
struct Links {
    handles: BTreeMap<NodeId, (DriverHandle, UnboundedSender<Packet>)>,
    cut: BTreeSet<NodeId>,
    /// Directed links, from the first node to the second, that drop every message.
    cut_links: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that receive heartbeats and no entries or snapshots.
    logless: BTreeSet<NodeId>,
    /// The addresses that each node has for the others, where they may differ from the real ones.
    address_books: BTreeMap<NodeId, ClusterMembership>,
}

impl Links {
    /// The handle and the inbox of `to`, unless the link from `from` is cut.
    fn between(
        &self,
        from: NodeId,
        to: NodeId,
    ) -> Option<&(DriverHandle, UnboundedSender<Packet>)> {
        let open = !self.cut.contains(&from)
            && !self.cut.contains(&to)
            && !self.cut_links.contains(&(from, to));
        self.handles.get(&to).filter(|_| open)
    }

    /// The node that listens at the address that `from` has for `to`.
    fn at_address(&self, from: NodeId, to: NodeId) -> Option<NodeId> {
        let Some(book) = self.address_books.get(&from) else {
            return Some(to);
        };
        let addr = &book.get(to)?.addr;
        let mut nodes = self.handles.keys().copied();
        nodes.find(|node| info(*node).addr == *addr)
    }
}

/// The address of a node.
pub fn info(id: NodeId) -> NodeInfo {
    NodeInfo {
        id,
        addr: format!("kvstore-{id}:7379"),
        client_addr: format!("kvstore-{id}:6379"),
    }
}

/// The network of a cluster of `size` nodes.
#[derive(Clone)]
pub struct Fabric {
    size: u16,
    links: Arc<Mutex<Links>>,
}

/// One node, and clients of it.
pub struct Node {
    pub id: NodeId,
    pub driver: DriverHandle,
    pub admission: AdmissionControl,
    pub host: Host,
    pub local: Local,
    pub kv: KvServiceClient<Local>,
    pub lock: LockServiceClient<Local>,
    pub admin: AdminServiceClient<Local>,
    pub health: tonic_health::pb::health_client::HealthClient<Local>,
    task: JoinHandle<()>,
}

impl Node {
    /// A client with a connection of its own.
    pub fn another_connection(&self) -> KvServiceClient<Local> {
        let reader = self.host.unread().reader();
        let router = self.local.0.for_another_connection(reader);
        KvServiceClient::new(Local(Arc::new(router)))
    }

    pub fn status(&self) -> NodeStatus {
        self.driver.status()
    }

    /// Ends the node without a shutdown, like a crash.
    pub async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fabric {
    pub fn new(size: u16) -> Self {
        Self {
            size,
            links: Arc::default(),
        }
    }

    /// Starts every node, and waits until every node knows the leader.
    pub async fn started(size: u16) -> (Self, Vec<Node>) {
        let fabric = Self::new(size);
        let nodes = fabric.start_all().await;
        (fabric, nodes)
    }

    /// Sets a wrong address for `node` in the configuration of `file_of`.
    pub fn mistype(&self, file_of: NodeId, node: NodeId, addr: &str) {
        let mut links = self.links();
        let all = || (1..=self.size).map(|id| info(node_id(id))).collect();
        let book = links.address_books.entry(file_of).or_insert_with(all);
        let info = NodeInfo {
            addr: addr.to_owned(),
            ..info(node)
        };
        book.members.insert(node, info);
    }

    /// Starts every node, and waits until every node knows the leader.
    pub async fn start_all(&self) -> Vec<Node> {
        let (fabric, size) = (self, self.size);
        let mut nodes = Vec::new();
        for id in 1..=size {
            nodes.push(fabric.start(id, 1).await);
        }
        for node in &nodes {
            let mut status = node.driver.watch();
            status
                .wait_for(|status| status.leader.is_some())
                .in_time("a leader")
                .await
                .unwrap();
        }
        nodes
    }

    /// Starts node `id` as a new incarnation.
    pub async fn start(&self, id: u16, incarnation: u64) -> Node {
        let id = node_id(id);
        let raft_id = RaftId::new(id, incarnation);
        let replica = Replica::new(ReplicaOptions {
            raft_id,
            members: self.membership(id),
            bootstrap: true,
            remembered: ClusterMembership::default(),
            formation_wait_ticks: 0,
            time: Some(WallTime::FIRST),
            raft: RaftOptions {
                max_pending_requests: MAX_INFLIGHT,
                watch: WatchBounds {
                    part_bytes: MAX_MESSAGE / 2,
                    waiting_bytes: MAX_WAITING,
                    ..WatchBounds::default()
                },
                ..RaftOptions::default()
            },
            seed: 7,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        });
        let (driver, handle) = Driver::new(
            replica,
            DriverOptions {
                workers: seshat::driver::Workers::default(),
                tick: Duration::from_millis(100),
                max_pending_requests: MAX_REQUESTS,
                peer_inbox_messages: 64,
                max_batch_requests: 64,
                max_batch_bytes: 1 << 20,
            },
        );
        let (packets, inbox) = unbounded_channel();
        self.links().handles.insert(id, (handle.clone(), packets));
        let wire = Wire {
            own: id,
            fabric: self.clone(),
        };
        let receive = self.clone().receive(id, handle.clone(), inbox);
        let network = wire.clone();
        let admission = AdmissionControl::new(MAX_REQUESTS, 1 << 20);
        let health = Health::new(handle.clone(), admission.clone()).await;
        let host = Host::new(
            handle.clone(),
            admission.clone(),
            ServiceOptions {
                max_key_bytes: MAX_KEY,
                max_value_bytes: MAX_VALUE,
                max_grpc_message_bytes: MAX_MESSAGE,
                max_unread_bytes: MAX_UNREAD,
                request_timeout: REQUEST_TIMEOUT,
                transfer_timeout: Duration::from_secs(1),
                member_timeout: Duration::from_secs(1),
            },
            Arc::new(wire.clone()),
        );
        let admin = AdminService::new(host.clone(), Arc::new(wire));
        let rest = Routes::new(AdminServiceServer::new(admin)).add_service(health.service());
        let router = Local(Arc::new(Router::new(host.clone(), rest)));
        Node {
            id,
            driver: handle,
            admission,
            host,
            local: router.clone(),
            kv: KvServiceClient::new(router.clone()),
            lock: LockServiceClient::new(router.clone()),
            admin: AdminServiceClient::new(router.clone()),
            health: tonic_health::pb::health_client::HealthClient::new(router),
            task: tokio::spawn(async {
                tokio::select! {
                    ended = driver.run(network) => panic!("{ended:?}"),
                    () = async { tokio::join!(receive, health.follow()); } => {}
                }
            }),
        }
    }

    fn membership(&self, file_of: NodeId) -> ClusterMembership {
        let all = || (1..=self.size).map(|id| info(node_id(id))).collect();
        let book = self.links().address_books.get(&file_of).cloned();
        book.unwrap_or_else(all)
    }

    /// Cuts a node off from all others.
    pub fn cut(&self, id: NodeId) {
        self.links().cut.insert(id);
    }

    /// Cuts the link between two nodes.
    pub fn cut_link(&self, one: NodeId, other: NodeId) {
        self.links().cut_links.extend([(one, other), (other, one)]);
    }

    /// Drops appends and snapshots to a node; heartbeats arrive.
    pub fn drop_log_traffic_to(&self, id: NodeId) {
        self.links().logless.insert(id);
    }

    /// Repairs all cut links.
    pub fn heal(&self) {
        let mut links = self.links();
        links.cut.clear();
        links.cut_links.clear();
        links.logless.clear();
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap()
    }

    fn post(&self, from: NodeId, to: NodeId, packet: Packet) -> bool {
        let links = self.links();
        if !is_reply(&packet) && links.at_address(from, to) != Some(to) {
            return false;
        }
        let way = links.between(from, to);
        let log = matches!(
            packet,
            Packet::Message(PeerMessage::AppendEntries(_)) | Packet::Snapshot(_)
        );
        if log && links.logless.contains(&to) {
            return way.is_some();
        }
        way.is_some_and(|(_, packets)| packets.send(packet).is_ok())
    }

    async fn receive(
        self,
        own: NodeId,
        driver: DriverHandle,
        mut inbox: UnboundedReceiver<Packet>,
    ) {
        while let Some(packet) = inbox.recv().await {
            match packet {
                Packet::Message(message) => driver.step(message).await.unwrap(),
                Packet::Snapshot(snapshot) => {
                    let OutgoingSnapshot {
                        header,
                        state_machine,
                    } = *snapshot;
                    driver.install(header, state_machine).await.unwrap();
                }

                Packet::Call(from, id, call) => {
                    let reply = match call {
                        Call::Identify(by) => {
                            driver.asked(by);
                            Reply::Identified(Box::new(driver.status()))
                        }
                        Call::Offer(offer) => Reply::Offered {
                            cluster_id: offer.cluster_id,
                            accepted: driver.offered(offer).await.unwrap(),
                        },
                        Call::Start(offer) => {
                            let Ok(_) = driver.start(offer.cluster_id, offer.coordinator).await
                            else {
                                return;
                            };
                            Reply::Started
                        }
                        Call::Yield { claim, .. } => Reply::Yielded {
                            attempt: claim.attempt,
                            answer: driver.yield_to(claim).await.unwrap(),
                        },
                    };
                    let back = self
                        .links()
                        .between(own, from)
                        .map(|(handle, _)| handle.clone());
                    if let Some(back) = back {
                        let _ = back.replied(id, reply).await;
                    }
                }
            }
        }
    }
}

#[derive(Clone)]
struct Wire {
    own: NodeId,
    fabric: Fabric,
}

impl Network for Wire {
    fn send(&mut self, message: PeerMessage) -> bool {
        let to = message.envelope().unwrap().to.node_id();
        self.fabric.post(self.own, to, Packet::Message(message))
    }

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) -> bool {
        let to = snapshot.header.envelope().unwrap().to;
        let posted = self
            .fabric
            .post(self.own, to.node_id(), Packet::Snapshot(Box::new(snapshot)));
        let own = self.fabric.links().handles.get(&self.own).cloned();
        if let (true, Some((driver, _))) = (posted, own) {
            // The follower's answer comes like any other message.
            tokio::spawn(async move { driver.report_snapshot(to, None).await });
        }
        posted
    }

    fn call(&mut self, id: CallId, call: Call) {
        if self
            .fabric
            .post(self.own, id.to, Packet::Call(self.own, id, call))
        {
            return;
        }
        let links = self.fabric.links();
        let own = links.handles.get(&self.own).cloned();
        let other = links.at_address(self.own, id.to).filter(|it| *it != id.to);
        let reply = other.map_or(Reply::Failed, |other| {
            Reply::Misdirected(Answering::OtherNode(other))
        });
        tokio::spawn(async move {
            if let Some((driver, _)) = own {
                let _ = driver.replied(id, reply).await;
            }
        });
    }

    fn set_leading(&mut self, _: bool) {}

    fn set_members(&mut self, nodes: &ClusterMembership) {
        self.fabric
            .links()
            .address_books
            .insert(self.own, nodes.clone());
    }
}

/// Whether the packet answers a request, and so needs no address.
fn is_reply(packet: &Packet) -> bool {
    matches!(
        packet,
        Packet::Message(
            PeerMessage::RequestVoteReply(_)
                | PeerMessage::AppendEntriesReply(_)
                | PeerMessage::HeartbeatReply(_)
        )
    )
}

impl Probe for Wire {
    fn identify(&self, node: NodeId, timeout: Duration) -> Identifying<'_> {
        Box::pin(async move {
            let (way, at) = {
                let links = self.fabric.links();
                let way = links.between(self.own, node).cloned();
                (way, links.at_address(self.own, node))
            };
            match (way, at) {
                (Some((handle, packets)), Some(at)) if at == node && !packets.is_closed() => {
                    return Ok(handle.status());
                }
                (_, Some(other)) if other != node => {
                    return Err(RpcError::Misdirected {
                        node,
                        addr: String::new(),
                        answering: Answering::OtherNode(other),
                    });
                }
                // A process that has ended refuses at once.
                (Some(_), _) => {}
                (None, _) => tokio::time::sleep(timeout).await,
            }
            Err(RpcError::Unreachable {
                node,
                addr: String::new(),
                reason: "not there".to_owned(),
            })
        })
    }
}

/// A channel to the services of one node.
#[derive(Clone)]
pub struct Local(Arc<Router>);

type Answer<B> = Result<http::Response<B>, Infallible>;

impl Service<http::Request<tonic::body::Body>> for Local {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer<tonic::body::Body>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let what = format!("the answer of {}", request.uri().path());
        let call = self.0.call(request);
        Box::pin(async move { call.in_time(&what).await.map(taken) })
    }
}

/// Releases the hold of each answer when the client takes it, as a server does when it has sent the bytes.
fn taken(mut answer: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let Some(holds) = answer.extensions_mut().remove::<Holds>() else {
        return answer;
    };
    answer.map(|body| {
        tonic::body::Body::new(body.map_frame(move |frame| {
            holds.take();
            frame
        }))
    })
}

/// The leader, and the other nodes.
pub fn leader_first(nodes: Vec<Node>) -> (Node, Vec<Node>) {
    let (mut leaders, followers): (Vec<_>, Vec<_>) = nodes
        .into_iter()
        .partition(|node| node.status().role == Some(Role::Leader));
    assert_eq!(leaders.len(), 1);
    (leaders.remove(0), followers)
}
