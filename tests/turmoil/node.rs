//! One node of the simulated world: the whole server, on a host of its own.

use std::cell::Cell;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use seshat::config::{ClusterConfig, Config, InitialMember, Limits, NodeConfig, RaftConfig};
use seshat::server::{Server, ServerError};
use seshat::telemetry::LogFormat;
use seshat::types::{NodeId, WallTime};
use tokio::sync::Notify;

use crate::network::{CLIENT_PORT, INTERNAL_PORT, Listener, client_addr, connector, internal_addr};
use crate::shared::Shared;
use crate::world::Flaw;

/// Nodes that form the cluster. Others are added later.
pub(crate) const FIRST: u16 = 3;

/// Limits that a few writes reach.
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

/// The factory of the incarnations of one node.
#[derive(Clone)]
pub(crate) struct Cradle {
    id: u16,
    config: Config,
    seed: u64,
    flaw: Flaw,
    incarnations: Rc<Cell<u64>>,
    stop: Rc<Notify>,
    shared: Rc<Shared>,
}

impl Cradle {
    pub(crate) fn new(id: u16, limits: &Limits, seed: u64, flaw: Flaw, shared: Rc<Shared>) -> Self {
        Self {
            id,
            config: config(id, limits, flaw),
            seed,
            flaw,
            incarnations: Rc::default(),
            stop: Rc::default(),
            shared,
        }
    }

    /// Asks the present incarnation to end in order.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// The configuration of the incarnation that begins. The operator keeps the files up to date: each
    /// names all nodes that any process counts among the members, so that a process without memory knows
    /// which nodes to believe.
    fn file(&self) -> Config {
        let mut config = self.config.clone();
        let named = |id: u16, config: &Config| {
            let mut members = config.cluster.initial_members.iter();
            members.any(|member| member.id.get() == id)
        };
        for status in self.shared.statuses().values() {
            for id in &status.conf.members {
                if self.flaw != Flaw::Apart && !named(id.get(), &config) {
                    config.cluster.initial_members.push(member(id.get()));
                }
            }
        }
        config.cluster.replication_factor = config.cluster.initial_members.len();
        config
    }

    /// An incarnation, from its start to its orderly end. A crash drops it on the way.
    pub(crate) async fn live(self) -> turmoil::Result {
        let client = Listener::bind(CLIENT_PORT).await?;
        let internal = Listener::bind(INTERNAL_PORT).await?;
        if self.flaw != Flaw::KeptIds {
            self.incarnations.set(self.incarnations.get() + 1);
        }
        let incarnation = u64::from(self.id) << 32 | self.incarnations.get();
        let mut random = StdRng::seed_from_u64(self.seed ^ incarnation);
        let random = move || random.next_u64();
        let server = Server::new(
            self.file(),
            client,
            internal,
            &connector(),
            random,
            simulated_time,
        )
        .await?;
        self.shared.born(self.id, server.driver());
        let stop = self.stop;
        let ended = server.run(async move { stop.notified().await }).await;
        self.shared.died(self.id);
        match ended {
            Err(ServerError::Removed { .. }) => {
                self.shared.count("processes ended by their removal");
                Ok(())
            }
            ended => Ok(ended?),
        }
    }
}

fn member(id: u16) -> InitialMember {
    InitialMember {
        id: NodeId::new(id).expect("a node id"),
        addr: internal_addr(id),
        client_addr: client_addr(id),
    }
}

fn config(id: u16, limits: &Limits, flaw: Flaw) -> Config {
    let joins = id > FIRST;
    let apart = joins && flaw == Flaw::Apart;
    let known: Vec<_> = match apart {
        true => (FIRST + 1..=FIRST * 2).collect(),
        false => (1..=FIRST).chain(joins.then_some(id)).collect(),
    };
    let members: Vec<_> = known.into_iter().map(member).collect();
    let config = Config {
        node: NodeConfig {
            id: member(id).id,
            client_addr: format!("0.0.0.0:{CLIENT_PORT}"),
            internal_addr: format!("0.0.0.0:{INTERNAL_PORT}"),
            data_dir: None,
            log_format: LogFormat::Human,
        },
        cluster: ClusterConfig {
            bootstrap: !joins || apart,
            wait_for_survivors: false,
            replication_factor: members.len(),
            initial_members: members,
        },
        raft: RaftConfig::default(),
        limits: limits.clone(),
    };
    config.check().expect("a valid configuration");
    config
}

/// The wall clock of every node.
fn simulated_time() -> Option<WallTime> {
    let micros = turmoil::sim_elapsed()?.as_micros();
    WallTime::new(WallTime::FIRST.micros() + u64::try_from(micros).ok()?)
}
