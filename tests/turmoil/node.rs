//! One node of the simulated world: the whole server, on a host of its own.

use std::cell::Cell;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use seshat::config::{ClusterConfig, Config, Limits, Member, NodeConfig, RaftConfig};
use seshat::server::Server;
use seshat::types::NodeId;
use tokio::sync::Notify;

use crate::network::{CLIENT_PORT, INTERNAL_PORT, Listener, connector};
use crate::shared::Shared;

/// Nodes of the cluster.
pub(crate) const NODES: u16 = 3;

/// Limits at which a few writes already fill what is limited.
pub(crate) fn limits(rng: &mut StdRng) -> Limits {
    let compact_keep_entries = rng.gen_range(1..20);
    Limits {
        max_value_bytes: 64 * 1024,
        max_append_bytes: [1024, 16 * 1024, 64 * 1024][rng.gen_range(0..3)],
        max_grpc_message_bytes: 256 * 1024,
        snapshot_chunk_bytes: [1024, 4096, 16 * 1024][rng.gen_range(0..3)],
        max_inflight_appends: [1, 4, 16][rng.gen_range(0..3)],
        compact_after_entries: compact_keep_entries + rng.gen_range(1..50),
        compact_keep_entries,
        request_timeout_ms: 2_000,
        shutdown_timeout_ms: 2_000,
        ..Limits::default()
    }
}

/// What makes the lives of one node.
#[derive(Clone)]
pub(crate) struct Cradle {
    id: u16,
    config: Config,
    seed: u64,
    /// Whether the next life keeps the raft id of the last: the flaw of a negative control.
    keeps_id: bool,
    lives: Rc<Cell<u64>>,
    stop: Rc<Notify>,
    shared: Rc<Shared>,
}

impl Cradle {
    pub(crate) fn new(
        id: u16,
        limits: &Limits,
        seed: u64,
        keeps_id: bool,
        shared: Rc<Shared>,
    ) -> Self {
        Self {
            id,
            config: config(id, limits),
            seed,
            keeps_id,
            lives: Rc::default(),
            stop: Rc::default(),
            shared,
        }
    }

    /// Asks the present life to end in order.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// A life, from its start to its orderly end. A crash drops it on the way.
    pub(crate) async fn live(self) -> turmoil::Result {
        let client = Listener::bind(CLIENT_PORT).await?;
        let internal = Listener::bind(INTERNAL_PORT).await?;
        if !self.keeps_id {
            self.lives.set(self.lives.get() + 1);
        }
        let life = u64::from(self.id) << 32 | self.lives.get();
        let mut random = StdRng::seed_from_u64(self.seed ^ life);
        let random = move || random.next_u64();
        let server = Server::new(self.config, client, internal, &connector(), random).await?;
        self.shared.born(self.id, server.handle());
        let stop = self.stop;
        let ended = server.run(async move { stop.notified().await }).await;
        self.shared.died(self.id);
        Ok(ended?)
    }
}

fn config(id: u16, limits: &Limits) -> Config {
    let node = |id| NodeId::new(id).expect("a node id");
    let members = (1..=NODES).map(|id| Member {
        id: node(id),
        addr: format!("n{id}:{INTERNAL_PORT}"),
        client_addr: format!("n{id}:{CLIENT_PORT}"),
    });
    let config = Config {
        node: NodeConfig {
            id: node(id),
            client_addr: format!("0.0.0.0:{CLIENT_PORT}"),
            internal_addr: format!("0.0.0.0:{INTERNAL_PORT}"),
            data_dir: None,
        },
        cluster: ClusterConfig {
            bootstrap: true,
            wait_for_survivors: false,
            replication_factor: usize::from(NODES),
            initial_members: members.collect(),
        },
        raft: RaftConfig::default(),
        limits: limits.clone(),
    };
    config.check().expect("a valid configuration");
    config
}
