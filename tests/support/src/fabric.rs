//! Nodes that reach one another through memory, under a clock that a test may hold: everything
//! above the transport, without sockets.

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
use seshat::service::{
    AdminService, AdmissionControl, Health, Holds, Host, Router, ServiceOptions,
};
use seshat::types::{
    Answering, ClusterMembership, NodeId, NodeInfo, NodeStatus, RaftId, Role, WallTime,
};
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

enum Parcel {
    Message(PeerMessage),
    Snapshot(OutgoingSnapshot),
    Call(NodeId, CallId, Call),
}

#[derive(Default)]
struct Links {
    handles: BTreeMap<NodeId, (DriverHandle, UnboundedSender<Parcel>)>,
    cut: BTreeSet<NodeId>,
    /// Links that carry nothing, from the one node to the other.
    cut_links: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that get no part of the log, while heartbeats arrive.
    logless: BTreeSet<NodeId>,
    /// The addresses at which each node looks for the others, if they differ from the real ones.
    books: BTreeMap<NodeId, ClusterMembership>,
}

impl Links {
    /// The path from one node to another, unless one of them is cut off.
    fn between(
        &self,
        from: NodeId,
        to: NodeId,
    ) -> Option<&(DriverHandle, UnboundedSender<Parcel>)> {
        let open = !self.cut.contains(&from)
            && !self.cut.contains(&to)
            && !self.cut_links.contains(&(from, to));
        self.handles.get(&to).filter(|_| open)
    }

    /// The node at the address at which `from` looks for `to`, if there is one.
    fn at_address(&self, from: NodeId, to: NodeId) -> Option<NodeId> {
        let Some(book) = self.books.get(&from) else {
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
    pub gate: AdmissionControl,
    pub host: Host,
    pub local: Local,
    pub kv: KvServiceClient<Local>,
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

    /// Ends the node as a crash would.
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

    /// Starts every node and waits until one leads and all know it.
    pub async fn started(size: u16) -> (Self, Vec<Node>) {
        let fabric = Self::new(size);
        let nodes = fabric.start_all().await;
        (fabric, nodes)
    }

    /// The file of a node has this address for another one.
    pub fn mistype(&self, file_of: NodeId, node: NodeId, addr: &str) {
        let mut links = self.links();
        let all = || (1..=self.size).map(|id| info(node_id(id))).collect();
        let book = links.books.entry(file_of).or_insert_with(all);
        let info = NodeInfo {
            addr: addr.to_owned(),
            ..info(node)
        };
        book.members.insert(node, info);
    }

    /// Starts every node and waits until one leads and all know it.
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
        let (parcels, inbox) = unbounded_channel();
        self.links().handles.insert(id, (handle.clone(), parcels));
        let wire = Wire {
            own: id,
            fabric: self.clone(),
        };
        let receive = self.clone().receive(id, handle.clone(), inbox);
        let network = wire.clone();
        let gate = AdmissionControl::new(MAX_REQUESTS, 1 << 20);
        let health = Health::new(handle.clone(), gate.clone()).await;
        let host = Host::new(
            handle.clone(),
            gate.clone(),
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
            gate,
            host,
            local: router.clone(),
            kv: KvServiceClient::new(router.clone()),
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
        let book = self.links().books.get(&file_of).cloned();
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
    pub fn keep_the_log_from(&self, id: NodeId) {
        self.links().logless.insert(id);
    }

    /// Repairs all cut links.
    pub fn mend(&self) {
        let mut links = self.links();
        links.cut.clear();
        links.cut_links.clear();
        links.logless.clear();
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap()
    }

    fn post(&self, from: NodeId, to: NodeId, parcel: Parcel) -> bool {
        let links = self.links();
        if !is_reply(&parcel) && links.at_address(from, to) != Some(to) {
            return false;
        }
        let way = links.between(from, to);
        let log = matches!(
            parcel,
            Parcel::Message(PeerMessage::AppendEntries(_)) | Parcel::Snapshot(_)
        );
        if log && links.logless.contains(&to) {
            return way.is_some();
        }
        way.is_some_and(|(_, parcels)| parcels.send(parcel).is_ok())
    }

    async fn receive(
        self,
        own: NodeId,
        driver: DriverHandle,
        mut inbox: UnboundedReceiver<Parcel>,
    ) {
        while let Some(parcel) = inbox.recv().await {
            match parcel {
                Parcel::Message(message) => driver.step(message).await.unwrap(),
                Parcel::Snapshot(OutgoingSnapshot {
                    header,
                    state_machine,
                }) => driver.install(header, state_machine).await.unwrap(),
                Parcel::Call(from, id, call) => {
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
        self.fabric.post(self.own, to, Parcel::Message(message))
    }

    fn send_snapshot(&mut self, snapshot: OutgoingSnapshot) -> bool {
        let to = snapshot.header.envelope().unwrap().to;
        let posted = self
            .fabric
            .post(self.own, to.node_id(), Parcel::Snapshot(snapshot));
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
            .post(self.own, id.to, Parcel::Call(self.own, id, call))
        {
            return;
        }
        let links = self.fabric.links();
        let own = links.handles.get(&self.own).cloned();
        let other = links.at_address(self.own, id.to).filter(|it| *it != id.to);
        let reply = other.map_or(Reply::Failed, |other| {
            Reply::Stranger(Answering::OtherNode(other))
        });
        tokio::spawn(async move {
            if let Some((driver, _)) = own {
                let _ = driver.replied(id, reply).await;
            }
        });
    }

    fn set_leading(&mut self, _: bool) {}

    fn set_members(&mut self, nodes: &ClusterMembership) {
        self.fabric.links().books.insert(self.own, nodes.clone());
    }
}

/// Whether it finds the stream or call of its request.
fn is_reply(parcel: &Parcel) -> bool {
    matches!(
        parcel,
        Parcel::Message(
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
                (Some((handle, parcels)), Some(at)) if at == node && !parcels.is_closed() => {
                    return Ok(handle.status());
                }
                (_, Some(other)) if other != node => {
                    return Err(RpcError::Stranger {
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

/// The services of one node as a channel to them.
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

/// The hold of an answer is released as the client takes it. A server does that when its bytes are sent.
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

/// The node that leads, and the others.
pub fn leader_first(nodes: Vec<Node>) -> (Node, Vec<Node>) {
    let (mut leaders, followers): (Vec<_>, Vec<_>) = nodes
        .into_iter()
        .partition(|node| node.status().role == Some(Role::Leader));
    assert_eq!(leaders.len(), 1);
    (leaders.remove(0), followers)
}
