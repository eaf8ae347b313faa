//! File, environment and flags become one checked [`Config`].
//!
//! Every bound that Seshat has is a named field of [`Limits`] or [`RaftConfig`], with its unit in
//! its name. A field is looked up in this order, and the first that names it wins:
//!
//! 1. flags ([`Overrides`]): `--id 2`, or for any field `--set raft.heartbeat_interval_ms=50`;
//! 2. the environment: `SESHAT_<SECTION>__<FIELD>`, with two underscores between, for example
//!    `SESHAT_NODE__ID=2`. An empty variable counts as unset. Other variables that begin with
//!    `SESHAT_`, such as `SESHAT_ENDPOINTS`, are not configuration and are left alone;
//! 3. the TOML file, with the sections `[node]`, `[cluster]`, `[raft]` and `[limits]`;
//! 4. the default. Only `node.id` and `cluster.initial_members` have none.
//!
//! The members can be written in one line, for a variable or a flag:
//! `1=kvstore-1:7379/kvstore-1:6379,2=…`, each being `ID=ADDR/CLIENT_ADDR`.
//!
//! A faulty configuration never starts a node, and [`ConfigError`] holds *every* fault. Values are read
//! one by one, without stopping at the first faulty one; then the rules are checked. A rule about a value
//! that could not be read is skipped. Two faults hide the rest: a file that cannot be read, and one that
//! is not TOML.
//!
//! Names are not resolved here. An address stays the text that was written, and is resolved each time
//! that a connection is made.
//!
//! The layers are merged here, without a crate for it: they are maps from fields to values, so merging is
//! one insertion. The `config` crate forgets the line of a value and the name of a variable, which a good
//! report needs.

mod fault;
mod fields;
mod memory;
mod numbers;
mod read;
mod reader;
mod rules;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::telemetry::LogFormat;
use crate::types::{ClusterMembership, NodeId, NodeInfo};

pub use fault::{ConfigError, Origin, Problem};
pub use memory::Memory;
pub use numbers::{Limits, RaftConfig};
pub use sources::{Overrides, process_env};

use fault::Problems;
use settings::Settings;

/// Room in a gRPC message for everything except keys and values: field numbers, ids, log positions,
/// names.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Section `[node]`: the settings that differ from machine to machine.
    pub node: NodeConfig,
    /// Section `[cluster]`: the same on every machine.
    pub cluster: ClusterConfig,
    /// Section `[raft]`: the same on every machine.
    pub raft: RaftConfig,
    /// Section `[limits]`: the same on every machine.
    pub limits: Limits,
}

/// Section `[node]`: the settings that differ from machine to machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node id of this machine, one of `cluster.initial_members`. No default.
    pub id: NodeId,
    /// The address on which the node listens for clients: `host:port`. Default `0.0.0.0:6379`.
    pub client_addr: String,
    /// The address on which the node listens for other nodes: `host:port`. Default `0.0.0.0:7379`. The
    /// node trusts the traffic here: protect the port.
    pub internal_addr: String,
    /// A directory of this node alone, which is made if it does not exist. The node keeps a small file in
    /// it: ids and addresses of the members and **nothing of the state**, which is in memory only. After
    /// a restart, the node asks these members too before it helps to form a new cluster. Default none:
    /// then `cluster.initial_members` has to list the present members.
    pub data_dir: Option<PathBuf>,
    /// The form of log lines: `human`, or `json` for one JSON object a line. Default `human`.
    pub log_format: LogFormat,
}

/// Section `[cluster]`: the members that form the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Whether this node forms a new cluster with the others. With `false` it waits until a running
    /// cluster lets it in. Use this for a machine that replaces a lost one or is added later. Such a node
    /// takes part in forming a cluster only if all others do whose files list the same initial members.
    /// Default `true`: a cluster forms only when *all* initial members are fresh, so that a restarted
    /// node can never form a second one.
    pub bootstrap: bool,
    /// Whether this node waits a moment before it helps to form a new cluster. A member of an earlier
    /// cluster may need so long to notice that it has no leader and to announce itself: the longest
    /// election timeout and some ticks. Default `true`; `false` is for clusters that start and end as a
    /// whole, for example in tests.
    pub wait_for_survivors: bool,
    /// The machines that form the cluster: an odd number, at least 3. With `bootstrap = false`: this node
    /// and the members that it asks, at least 2. No default. Once the cluster has formed, the members are
    /// part of the replicated state, and operators change them there. Then this list should be changed as
    /// well, unless `node.data_dir` is set: after a restart a node asks these members before it helps to
    /// form a new cluster, and one of them must answer before it joins a running one.
    pub initial_members: Vec<InitialMember>,
    /// The number of nodes that hold each key. Every member of a Seshat cluster holds every key, so the
    /// only valid value is the number of initial members, which is the default. The field makes a promise
    /// explicit: a file that promises three copies and then lists five members is refused. The number is
    /// odd, because four nodes survive no more failures than three. Not checked with `bootstrap = false`.
    pub replication_factor: usize,
}

/// One initial member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Its node id.
    pub id: NodeId,
    /// Its address for other nodes: `host:port`.
    pub addr: String,
    /// Its address for clients: `host:port`. Clients are sent here when this member leads.
    pub client_addr: String,
}

impl Config {
    /// Reads the file at `path`, if any, then `env`, then `overrides`, and checks the result.
    ///
    /// `env` is the environment as names and values; a process passes [`process_env`].
    ///
    /// # Errors
    /// Every fault of the configuration, in the order of its fields.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let text = path.map(sources::read_file).transpose()?;
        Self::assemble(path.zip(text.as_deref()), env, overrides)
    }

    /// [`load`](Self::load) with the text of the file.
    fn assemble(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut faults = Problems::default();
        let mut settings = Settings::default();
        if let Some((path, text)) = file {
            settings.add_file(path, text, &mut faults)?;
        }
        settings.add_env(env, &mut faults);
        settings.add_flags(overrides, &mut faults);

        let config = read::config(settings, &mut faults);
        rules::validate(&config, &mut faults);
        faults.into_result(config, fields::position)
    }

    /// Checks a configuration that was made in code.
    ///
    /// # Errors
    /// Every rule that it breaks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Problems::default();
        rules::validate(self, &mut faults);
        faults.into_result((), fields::position)
    }

    /// The configuration of node `id` in a cluster of `nodes` nodes on this machine: node 1 listens
    /// on `127.0.0.1` at the two base ports, each further node one port up. They share the memory.
    ///
    /// # Errors
    /// An even number of nodes, fewer than 3 nodes, an `id` beyond them, or ports that overlap or exceed
    /// 65535.
    pub fn for_dev(
        id: NodeId,
        nodes: u16,
        base_client_port: u16,
        base_internal_port: u16,
    ) -> Result<Self, ConfigError> {
        // A port beyond 65535 makes an address that the rules refuse.
        let addr = |base: u16, id: NodeId| {
            let port = u32::from(base) + u32::from(id.get()) - 1;
            format!("127.0.0.1:{port}")
        };
        let mut limits = Limits::default();
        limits.max_state_bytes /= usize::from(nodes.max(1));
        let initial_members: Vec<_> = (1..=nodes)
            .filter_map(NodeId::new)
            .map(|id| InitialMember {
                id,
                addr: addr(base_internal_port, id),
                client_addr: addr(base_client_port, id),
            })
            .collect();
        let config = Self {
            node: NodeConfig {
                id,
                client_addr: addr(base_client_port, id),
                internal_addr: addr(base_internal_port, id),
                data_dir: None,
                log_format: LogFormat::default(),
            },
            cluster: ClusterConfig {
                bootstrap: true,
                wait_for_survivors: false,
                replication_factor: initial_members.len(),
                initial_members,
            },
            raft: RaftConfig::default(),
            limits,
        };
        config.check()?;
        Ok(config)
    }

    /// The initial members as the type of the rest of the library.
    pub(crate) fn membership(&self) -> ClusterMembership {
        let members = self.cluster.initial_members.iter();
        members
            .map(|member| NodeInfo {
                id: member.id,
                addr: member.addr.clone(),
                client_addr: member.client_addr.clone(),
            })
            .collect()
    }
}

impl RaftConfig {
    /// Time between two heartbeats, which is the length of one Raft tick.
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.heartbeat_interval_ms)
    }

    /// Shortest time without a leader after which a follower stands for election.
    pub fn election_timeout_min(&self) -> Duration {
        Duration::from_millis(self.election_timeout_min_ms)
    }

    /// Upper bound of that time, exclusive.
    pub fn election_timeout_max(&self) -> Duration {
        Duration::from_millis(self.election_timeout_max_ms)
    }

    /// The election timeout in ticks: each is drawn from `min..max`.
    pub fn election_ticks(&self) -> (usize, usize) {
        let ticks = |millis: u64| {
            let ticks = millis.checked_div(self.heartbeat_interval_ms);
            usize::try_from(ticks.unwrap_or(0)).unwrap_or(usize::MAX)
        };
        (
            ticks(self.election_timeout_min_ms),
            ticks(self.election_timeout_max_ms),
        )
    }

    /// Longest duration of a call to another node. Snapshots are exempt: they may take as long as they
    /// make progress.
    pub fn rpc_timeout(&self) -> Duration {
        Duration::from_secs(self.raft_rpc_timeout_secs)
    }
}

impl Limits {
    /// Longest wait of a client's request on the node.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Longest duration of a shutdown, before open connections are cut.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}
