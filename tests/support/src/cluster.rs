//! Whole nodes, each on a thread of its own with a single-threaded runtime, as `seshat serve` runs
//! one, over real sockets on loopback.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use seshat::config::{ClusterConfig, Config, InitialMember, Limits, NodeConfig, RaftConfig};
use seshat::driver::DriverHandle;
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::{StatusRequest, StatusResponse};
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{Applied, GetRequest, SetRequest};
use seshat::server::{Local, Server, ServerError};
use seshat::telemetry::LogFormat;
use seshat::types::{NodeStatus, Role};
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

use crate::{InTime as _, TEST_TIMEOUT, eventually, node_id, refused};

/// A cluster whose nodes start and end.
pub struct Cluster {
    configs: Vec<Config>,
    /// Ports that are reserved for nodes that have not been started yet.
    bound: Vec<Option<(Port, Port)>>,
    nodes: Vec<Option<Node>>,
}

/// Incarnations of nodes so far. No two are equal, even in different clusters.
static INCARNATIONS: AtomicU64 = AtomicU64::new(0);

/// A running node.
pub struct Node {
    pub handle: DriverHandle,
    local: Local,
    end: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

enum End {
    Shutdown,
    Kill,
}

impl Node {
    pub fn status(&self) -> NodeStatus {
        self.handle.status()
    }

    /// Ends the node as `kill -9` would: everything that it had open is closed at once.
    pub fn kill(mut self) {
        self.end(End::Kill).expect("a killed node has no error");
    }

    /// Asks the node to shut down, and waits until it has.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        joined("the end of a node that shuts down", move || {
            self.end(End::Shutdown)
        })
        .await
    }

    /// Waits until the node ends by itself.
    pub async fn ended(mut self) -> Result<(), ServerError> {
        let thread = self.thread.take().expect("the node runs");
        joined("the end of a node", move || {
            thread.join().expect("a node does not panic")
        })
        .await
    }

    fn end(&mut self, how: End) -> Result<(), ServerError> {
        let _ = self.end.take().map(|end| end.send(how));
        match self.thread.take() {
            Some(thread) => thread.join().expect("a node does not panic"),
            None => Ok(()),
        }
    }
}

/// The result of `join`, on a thread that a failed test does not wait for.
async fn joined<T: Send + 'static>(what: &str, join: impl FnOnce() -> T + Send + 'static) -> T {
    let (ends, ended) = oneshot::channel();
    std::thread::spawn(move || ends.send(join()));
    ended.in_time(what).await.expect("no panic")
}

impl Drop for Node {
    fn drop(&mut self) {
        let ended = self.end(End::Kill);
        if !std::thread::panicking() {
            ended.expect("a node ends without an error");
        }
    }
}

impl Cluster {
    /// A cluster of `size` nodes, none of which runs yet.
    pub fn new(size: u16) -> Self {
        Self::with_limits(size, &Limits::default())
    }

    pub fn with_limits(size: u16, limits: &Limits) -> Self {
        let bound: Vec<_> = (0..size).map(|_| (Port::take(), Port::take())).collect();
        let members: Vec<_> = (1..=size)
            .zip(&bound)
            .map(|(id, (client, internal))| InitialMember {
                id: node_id(id),
                addr: internal.addr(),
                client_addr: client.addr(),
            })
            .collect();
        let configs = members.iter().map(|member| Config {
            node: NodeConfig {
                id: member.id,
                client_addr: member.client_addr.clone(),
                internal_addr: member.addr.clone(),
                data_dir: None,
                log_format: LogFormat::Human,
            },
            cluster: ClusterConfig {
                bootstrap: true,
                wait_for_survivors: false,
                replication_factor: members.len(),
                initial_members: members.clone(),
            },
            raft: RaftConfig::default(),
            limits: limits.clone(),
        });
        Self {
            configs: configs.collect(),
            bound: bound.into_iter().map(Some).collect(),
            nodes: (0..size).map(|_| None).collect(),
        }
    }

    /// A cluster of `size` nodes that all run and follow one leader.
    pub async fn started(size: u16) -> Self {
        let mut cluster = Self::new(size);
        cluster.start_all().await;
        cluster
    }

    pub async fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.start(index);
        }
        self.leader().await;
    }

    /// Starts node `index + 1` as a new incarnation.
    pub fn start(&mut self, index: usize) {
        let config = self.configs[index].clone();
        let (client, internal) = match self.bound[index].take() {
            Some((client, internal)) => (client.listen(), internal.listen()),
            None => (
                rebind(&config.node.client_addr),
                rebind(&config.node.internal_addr),
            ),
        };
        let mut random = (INCARNATIONS.fetch_add(1, Ordering::Relaxed) + 1) << 32;
        let random = move || {
            random += 1;
            random
        };
        let (end, ended) = oneshot::channel();
        let (started, starts) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let server = Server::seeded(config, client, internal, random).await?;
                started
                    .send((server.driver(), server.local()))
                    .expect("the caller waits for the start");
                let (shut_down, shutdown) = oneshot::channel::<()>();
                let killed = async {
                    match ended.await {
                        Ok(End::Shutdown) => {
                            let _ = shut_down.send(());
                            std::future::pending().await
                        }
                        Ok(End::Kill) | Err(_) => {}
                    }
                };
                tokio::select! {
                    ended = server.run(async { let _ = shutdown.await; }) => ended,
                    () = killed => Ok(()),
                }
            })
        });
        let (handle, local) = starts.recv().expect("the node starts");
        self.nodes[index] = Some(Node {
            handle,
            local,
            end: Some(end),
            thread: Some(thread),
        });
    }

    /// A further machine, which lists the present nodes and itself and joins them later; returns its
    /// index.
    pub fn extend(&mut self) -> usize {
        let (client, internal) = (Port::take(), Port::take());
        let index = self.configs.len();
        let member = InitialMember {
            id: node_id(u16::try_from(index + 1).expect("a few nodes")),
            addr: internal.addr(),
            client_addr: client.addr(),
        };
        let mut config = self.configs[0].clone();
        config.node.id = member.id;
        config.node.client_addr.clone_from(&member.client_addr);
        config.node.internal_addr.clone_from(&member.addr);
        config.cluster.bootstrap = false;
        config.cluster.initial_members.push(member);
        self.configs.push(config);
        self.bound.push(Some((client, internal)));
        self.nodes.push(None);
        index
    }

    /// Gives node `index + 1`, which does not run, other limits.
    pub fn limit(&mut self, index: usize, limits: Limits) {
        self.configs[index].limits = limits;
    }

    /// Gives node `index + 1`, which does not run, other addresses.
    pub fn relocate(&mut self, index: usize) {
        let (client, internal) = (Port::take(), Port::take());
        let config = &mut self.configs[index];
        let id = config.node.id;
        config.node.client_addr = client.addr();
        config.node.internal_addr = internal.addr();
        let mut members = config.cluster.initial_members.iter_mut();
        let own = members.find(|member| member.id == id).expect("itself");
        own.addr.clone_from(&config.node.internal_addr);
        own.client_addr.clone_from(&config.node.client_addr);
        self.bound[index] = Some((client, internal));
    }

    /// Takes a node out, to end it.
    pub fn take(&mut self, index: usize) -> Node {
        self.nodes[index].take().expect("the node runs")
    }

    /// The store of node `index + 1`, without a connection.
    pub fn local(&self, index: usize) -> Local {
        self.node(index).local.clone()
    }

    pub fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("the node runs")
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// Waits until one node leads and every other node that runs and is not outside follows it.
    pub async fn leader(&self) -> usize {
        eventually("a leader that all follow", async || {
            let (leader, node) = self
                .running()
                .find(|(_, node)| node.status().role == Some(Role::Leader))?;
            let leads = Some(node.status().raft_id);
            self.running()
                .map(|(_, node)| node.status())
                .all(|status| status.leader == leads || status.role.is_none())
                .then_some(leader)
        })
        .await
    }

    pub fn client_addr(&self, index: usize) -> &str {
        &self.configs[index].node.client_addr
    }

    pub fn internal_addr(&self, index: usize) -> &str {
        &self.configs[index].node.internal_addr
    }

    pub fn config(&self, index: usize) -> &Config {
        &self.configs[index]
    }

    pub fn channel(&self, index: usize) -> Channel {
        channel(self.client_addr(index))
    }

    pub fn kv(&self, index: usize) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.channel(index))
    }

    pub fn admin(&self, index: usize) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel(index))
    }

    /// The status of the cluster from node `index + 1`, as soon as that reports `summary`.
    pub async fn status(&self, index: usize, summary: &str) -> StatusResponse {
        let mut admin = self.admin(index);
        eventually(summary, async || {
            let response = admin.status(StatusRequest::default()).await;
            let status = response.expect("a status").into_inner();
            (status.summary == summary).then_some(status)
        })
        .await
    }

    /// Sets a key on the node that leads, asking one after the other as often as necessary. Retries only
    /// if the write was surely not applied, or never arrived.
    pub async fn set(&self, key: &str, value: &str) -> u64 {
        let mut clients: Vec<_> = (0..self.nodes.len()).map(|index| self.kv(index)).collect();
        let mut turn = 0;
        eventually("an accepted write", async || {
            turn += 1;
            let client = turn % clients.len();
            let mut request = tonic::Request::new(SetRequest {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                session: None,
                ..SetRequest::default()
            });
            request.set_timeout(Duration::from_secs(5));
            match clients[client].set(request).await {
                Ok(answer) => Some(answer.into_inner().applied_index),
                // No listener is there.
                Err(status) if status.details().is_empty() => None,
                Err(status) => {
                    assert_eq!(refused(&status).0, Applied::No, "{status:?}");
                    None
                }
            }
        })
        .await
    }

    /// Reads a key on the node that leads.
    pub async fn get(&self, key: &str) -> Option<String> {
        let leader = self.leader().await;
        let request = GetRequest {
            key: key.to_owned().into(),
            ..GetRequest::default()
        };
        let answer = self
            .kv(leader)
            .get(request)
            .await
            .expect("a read")
            .into_inner();
        answer
            .value
            .map(|value| String::from_utf8(value.to_vec()).expect("text"))
    }
}

/// A channel that connects on first use.
pub fn channel(addr: &str) -> Channel {
    Endpoint::from_shared(format!("http://{addr}"))
        .expect("an address")
        .connect_timeout(Duration::from_secs(1))
        .timeout(TEST_TIMEOUT)
        // As in the Rust client: h2 would break the connection of a client that gives up many calls.
        .http2_max_concurrent_reset_streams(0)
        .http2_max_local_error_reset_streams(None)
        .connect_lazy()
}

/// A port that no other program can take, and without a listener yet: a node that does not run refuses
/// connections.
struct Port(Socket);

impl Port {
    fn take() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&any.into()).expect("a free port");
        Self(socket)
    }

    fn addr(&self) -> String {
        let addr = self.0.local_addr().expect("an address");
        addr.as_socket().expect("of the Internet").to_string()
    }

    fn listen(self) -> TcpListener {
        self.0.listen(1024).expect("to listen");
        self.0.into()
    }
}

/// The port may still be held by connections of an earlier incarnation for a moment.
fn rebind(addr: &str) -> TcpListener {
    let addr: SocketAddr = addr.parse().expect("an address");
    let began = std::time::Instant::now();
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return listener,
            Err(error) if began.elapsed() > Duration::from_secs(10) => panic!("{addr}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
