//! One running node: bound, wired, started, and ended in order.
//!
//! A server is a handful of tasks on the caller's runtime, which should be single-threaded: the core is,
//! and a wake-up on the same thread is the cheapest there is. The tasks are vital. If one of them ends or
//! panics, the node cannot keep its promises any more, and [`Server::run`] ends with an error instead of
//! going on without it. It also ends with an error when an operator has removed the node.
//!
//! A shutdown loses nothing, as far as its time allows:
//!
//! 1. admission control closes: new requests are refused as not applied, health says NOT_SERVING;
//! 2. the requests in flight get a moment to finish, because a change of leadership would leave their
//!    outcome unknown;
//! 3. a leader transfers leadership and waits until the transferee has taken it, so that no request has
//!    to wait for an election timeout;
//! 4. the requests in flight are drained;
//! 5. the listener for clients lets its connections finish;
//! 6. the remaining connections are cut.

mod answering;
mod binding;
mod conversation;
mod descriptors;
mod listen;
mod listen_options;
mod misdirected;
mod options;
mod preface;
mod reflection;
mod remembered;
mod resets;
mod shutdown;
mod slots;
mod unsent;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use hyper::service::service_fn;
use tokio::sync::watch;
use tonic::codegen::Service as _;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::config::{Config, ConfigError};
use crate::driver::{Driver, DriverHandle, Probe, Removed, Unread, wall_time};
use crate::node::{NodeError, Replica};
use crate::proto::admin::admin_service_server::AdminServiceServer;
use crate::proto::kv::kv_service_server::KvServiceServer;
use crate::proto::lock::lock_service_server::LockServiceServer;
use crate::proto::raft::raft_service_server::RaftServiceServer;
use crate::service::{
    AdminService, AdmissionControl, Health, Host, KvService, LockService, Router,
};
use crate::telemetry;

use crate::transport::{Connector, Inbound, Transport};
use crate::types::{ClusterId, ClusterMembership, NodeId, NodeStatus, RaftId, WallTime};

use binding::{adopt, bind};
use listen_options::SlotKind;
use misdirected::Misdirected;
use reflection::with_reflection;
use remembered::Remembered;
use shutdown::Ends;

pub use descriptors::{Descriptors, RESERVED_DESCRIPTORS};
#[doc(hidden)]
pub use listen::Listener;

pub use crate::service::Local;
pub use crate::transport::InvalidAddress;

/// Why a server did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener could not be bound.
    #[error("node.{field}: cannot listen on {addr}: {source}")]
    Bind {
        /// The field of the configuration.
        field: &'static str,
        /// The address.
        addr: String,
        /// The system's error.
        source: io::Error,
    },
    /// A member has an address that no connection can be made to.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// `node.data_dir` names something that is not a directory.
    #[error("node.data_dir: {} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    /// The file of an earlier incarnation of the node cannot be relied on.
    #[error(
        "node.data_dir: {}: {reason}. It names the nodes to ask before a new cluster is formed: delete it \
         if no other member is left of a former cluster",
        path.display()
    )]
    Remembered {
        /// The file.
        path: PathBuf,
        /// The fault of the file.
        reason: String,
    },
    /// The descriptors of the protocol cannot be served.
    #[error("server reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// An invariant of the node is broken.
    #[error("the node had to stop: {0}")]
    Node(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An operator has removed the node from its cluster.
    #[error("node {node} was removed from cluster {cluster_id}: ended")]
    Removed {
        /// The node.
        node: NodeId,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// A task of the server panicked or ended, although it was not asked to.
    #[error("a part of the server failed: {0}")]
    Failed(String),
}

impl From<NodeError> for ServerError {
    fn from(error: NodeError) -> Self {
        Self::Node(Box::new(error))
    }
}

type Task = Pin<Box<dyn Future<Output = Result<(), ServerError>> + Send>>;

/// A node that is bound and wired. It does nothing until it is [`run`](Self::run).
#[must_use = "a server does nothing unless it is run"]
pub struct Server {
    client_addr: SocketAddr,
    internal_addr: SocketAddr,
    local: Local,
    ends: Ends,
    /// Driver, listeners and health.
    vital: Vec<Task>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("raft_id", &self.raft_id())
            .field("client_addr", &self.client_addr)
            .field("internal_addr", &self.internal_addr)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Binds both listeners of `config` and wires a node to them.
    ///
    /// # Errors
    ///
    /// [`ServerError`]: the configuration is faulty, or an address is taken.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        config.check()?;
        let client = bind("client_addr", &config.node.client_addr).await?;
        let internal = bind("internal_addr", &config.node.internal_addr).await?;
        Self::new(
            config,
            client,
            internal,
            &Connector::tcp(),
            rand::random,
            wall_time,
        )
        .await
    }

    /// [`bind`](Self::bind) with listeners that are bound already. The addresses that `config` gives this
    /// node are not used.
    ///
    /// # Errors
    ///
    /// [`ServerError`]: the configuration is faulty, or a listener is not usable.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn from_listeners(
        config: Config,
        client: std::net::TcpListener,
        internal: std::net::TcpListener,
    ) -> Result<Self, ServerError> {
        Self::seeded(config, client, internal, rand::random).await
    }

    /// [`from_listeners`](Self::from_listeners) with an incarnation and seeds from `random`, so that a test
    /// can repeat them.
    ///
    /// # Errors
    ///
    /// As for [`from_listeners`](Self::from_listeners).
    #[doc(hidden)]
    pub async fn seeded(
        config: Config,
        client: std::net::TcpListener,
        internal: std::net::TcpListener,
        random: impl FnMut() -> u64,
    ) -> Result<Self, ServerError> {
        config.check()?;
        let client = adopt("client_addr", &config.node.client_addr, client)?;
        let internal = adopt("internal_addr", &config.node.internal_addr, internal)?;
        Self::new(
            config,
            client,
            internal,
            &Connector::tcp(),
            random,
            wall_time,
        )
        .await
    }

    /// Wires a node to the network that `client`, `internal` and `connector` belong to. `clock` is its wall
    /// clock. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    #[doc(hidden)]
    pub async fn new<L: Listener>(
        config: Config,
        client: L,
        internal: L,
        connector: &Connector,
        mut random: impl FnMut() -> u64,
        clock: fn() -> Option<WallTime>,
    ) -> Result<Self, ServerError> {
        let raft_id = RaftId::new(config.node.id, random());
        let logger = telemetry::raft_logger(config.node.id.get(), |id| {
            RaftId::try_from(id).map_or_else(|_| id.to_string(), |id| id.to_string())
        });
        let (file, remembered) = match &config.node.data_dir {
            Some(dir) => {
                let opened = Remembered::open(dir, config.node.id, connector.workers()).await?;
                opened.0.try_out().await;
                (Some(opened.0), opened.1)
            }
            None => (None, ClusterMembership::default()),
        };
        let replica = options::replica(&config, remembered, raft_id, random(), logger);
        let replica = Replica::new(replica);
        let known = Arc::clone(replica.nodes());
        let (mut driver, handle) =
            Driver::new(replica, options::driver(&config, connector.workers()));
        driver.set_clock(clock);
        let transport_options = options::transport(&config, &known, random());
        let internal_options = options::internal_listener(config.node.id, &transport_options);
        let Transport {
            network,
            service: raft,
            prober,
        } = Transport::new(transport_options, handle.clone(), connector)?;

        let service_options = options::service(&config);
        let limits = &config.limits;
        let admission =
            AdmissionControl::new(limits.max_pending_requests, limits.max_pending_bytes);
        let prober: Arc<dyn Probe> = Arc::new(prober);
        let host = Host::new(
            handle.clone(),
            admission.clone(),
            service_options,
            Arc::clone(&prober),
        );
        let health = Health::new(handle.clone(), admission.clone()).await;
        let admin = AdminServiceServer::new(AdminService::new(host.clone(), prober));
        let routes = Routes::default()
            .add_service(health.service())
            .add_service(Misdirected::node())
            .add_service(admin);
        let unread = Arc::clone(host.unread());
        let local = Local::new(host.for_another_connection(unread.reader()));
        let router = Router::new(host, with_reflection(routes, &CLIENT_SERVICES)?);
        let kv = Misdirected::<KvServiceServer<KvService>>::client(config.node.id, &known);
        let lock = Misdirected::<LockServiceServer<LockService>>::client(config.node.id, &known);
        let operator =
            Misdirected::<AdminServiceServer<AdminService>>::client(config.node.id, &known);
        let routes = Routes::default()
            .add_service(raft)
            .add_service(kv)
            .add_service(lock)
            .add_service(operator);
        let nodes = with_reflection(routes, &NODE_SERVICES)?.prepare();

        let addr = |field, addr: &str, listener: &L| {
            listener.local_addr().map_err(|source| ServerError::Bind {
                field,
                addr: addr.to_owned(),
                source,
            })
        };
        let client_addr = addr("client_addr", &config.node.client_addr, &client)?;
        let internal_addr = addr("internal_addr", &config.node.internal_addr, &internal)?;
        let max_connections = limits.max_connections;
        let (stop_clients, clients_stopped) = watch::channel(false);
        let (stop_nodes, nodes_stopped) = watch::channel(false);
        let clients = listen::serve(
            client,
            move |kind, reader| {
                let router = match kind {
                    SlotKind::Regular => router.for_another_connection(reader),
                    SlotKind::Spare => router.for_operators(reader, max_connections),
                };
                service_fn(move |request| router.call(request))
            },
            options::client_listener(&config),
            unread,
            clients_stopped,
        );
        let nodes = listen::serve(
            internal,
            move |_, _| {
                let nodes = nodes.clone();
                service_fn(move |request| nodes.clone().call(request))
            },
            internal_options,
            // Between nodes, the sender bounds the messages in flight.
            Unread::new(usize::MAX),
            nodes_stopped,
        );
        let remember = file.map(|file| file.follow(handle.clone()));
        let vital: Vec<Task> = vec![
            Box::pin(async move {
                if let Some(remember) = remember {
                    remember.await;
                }
                Ok(())
            }),
            Box::pin(async move {
                let Removed { cluster_id } = driver.run(network).await?;
                let node = raft_id.node_id();
                Err(ServerError::Removed { node, cluster_id })
            }),
            Box::pin(async {
                clients.await;
                Ok(())
            }),
            Box::pin(async {
                nodes.await;
                Ok(())
            }),
            Box::pin(async {
                health.follow().await;
                Ok(())
            }),
        ];
        Ok(Self {
            client_addr,
            internal_addr,
            local,
            ends: Ends {
                raft_id,
                handle,
                admission,
                shutdown_timeout: limits.shutdown_timeout(),
                transfer_timeout: service_options.transfer_timeout,
                stop_clients,
                stop_nodes,
            },
            vital,
        })
    }

    /// The raft id of this incarnation of the node.
    pub fn raft_id(&self) -> RaftId {
        self.ends.raft_id
    }

    /// The address on which the node listens for clients.
    pub fn client_addr(&self) -> SocketAddr {
        self.client_addr
    }

    /// The address on which the node listens for other nodes.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal_addr
    }

    /// The store, for callers in this process.
    pub fn local(&self) -> Local {
        self.local.clone()
    }

    /// The driver of the node, for tests.
    #[doc(hidden)]
    pub fn driver(&self) -> DriverHandle {
        self.ends.handle.clone()
    }

    /// The status of the node.
    pub fn status(&self) -> NodeStatus {
        self.ends.handle.status()
    }
}

/// The services of the listener for clients.
const CLIENT_SERVICES: [&str; 4] = [
    <KvServiceServer<KvService> as NamedService>::NAME,
    <LockServiceServer<LockService> as NamedService>::NAME,
    <AdminServiceServer<AdminService> as NamedService>::NAME,
    "grpc.health.v1.Health",
];

/// The services of the listener for nodes.
const NODE_SERVICES: [&str; 1] = [<RaftServiceServer<Inbound> as NamedService>::NAME];
