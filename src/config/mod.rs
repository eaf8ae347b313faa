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
//! A faulty configuration never starts a node, and [`ConfigError`] holds *every* fault: values are
//! read one by one instead of stopping at the first that does not fit, and then the rules are
//! judged. A rule that looks at a value which could not be read is not judged. Two things hide the
//! rest: a file that cannot be read, and one that is no TOML.
//!
//! Names are not resolved here. An address stays the text that was written, and is looked up each
//! time that a connection is made.
//!
//! Why the layers are merged here and not by a crate for it: they are a map from a field to a
//! value, so merging is one insertion. The `config` crate forgets the line of a value and the name
//! of a variable, which a good report needs.

mod fault;
mod memory;
mod numbers;
mod read;
mod rules;
mod sources;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::LogFormat;
use crate::types::{ClusterMembership, NodeId, NodeInfo};

pub use fault::{ConfigError, Fault, Origin};
pub use memory::Memory;
pub use numbers::{Limits, RaftConfig};
pub use sources::{Overrides, process_env};

use fault::Faults;
use sources::Settings;

/// Room in a gRPC message for everything but keys and values: field numbers, ids, positions in the
/// log, names.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;

/// Everything that a node is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Section `[node]`: what differs from machine to machine.
    pub node: NodeConfig,
    /// Section `[cluster]`: the same on every machine.
    pub cluster: ClusterConfig,
    /// Section `[raft]`: the same on every machine.
    pub raft: RaftConfig,
    /// Section `[limits]`: the same on every machine.
    pub limits: Limits,
}

/// Section `[node]`: what differs from machine to machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Which of `cluster.initial_members` this machine is. No default.
    pub id: NodeId,
    /// Where the node listens for clients: `host:port`. Default `0.0.0.0:6379`.
    pub client_addr: String,
    /// Where the node listens for other nodes: `host:port`. Default `0.0.0.0:7379`. The traffic
    /// here is trusted: keep it from strangers.
    pub internal_addr: String,
    /// A directory of this node alone, which is made if it is not there. The node keeps a small file
    /// in it: who the members are, ids and addresses and **nothing of the state**, which is in memory
    /// only. Started again, the node asks these members as well before it helps to form a new cluster.
    /// Default none: then `cluster.initial_members` has to list the present members.
    pub data_dir: Option<PathBuf>,
    /// What log lines look like: `human`, or `json` for one JSON object a line. Default `human`.
    pub log_format: LogFormat,
}

/// Section `[cluster]`: who belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Whether this node forms a new cluster with the others. With `false` it waits until a running
    /// cluster lets it in, which is what a machine should do that replaces a lost one or is added
    /// later, and takes part in forming one only if all others do whose files list the same initial
    /// members.
    /// Default `true`: a cluster forms only when *all* initial members are fresh, so that a
    /// restarted node can never form a second one.
    pub bootstrap: bool,
    /// Whether this node waits a moment before it helps to form a new cluster: as long as a member of
    /// a former one may need to notice that it has no leader and to say that it is there, which is the
    /// longest election timeout and some ticks. Default `true`; `false` is for clusters that live
    /// and die as a whole, in tests, say.
    pub wait_for_survivors: bool,
    /// The machines that form the cluster: an odd number, at least 3. With `bootstrap = false`, this
    /// node and those that it asks, at least 1. No default. From then on the members are part of the
    /// replicated state, and operators change them there. Then this list should be changed as well,
    /// unless `node.data_dir` is set: it is whom a node asks, when it is started again, before it
    /// helps to form a new cluster, and whom it has to hear before it joins a running one.
    pub initial_members: Vec<InitialMember>,
    /// How many nodes hold each key. Every member of a Seshat cluster holds every key, so the only
    /// right value is the number of initial members, which is the default. The field is there to be
    /// explicit: a file that promises three copies and then lists five members is refused. It is
    /// odd, because a fourth node survives no more failures than three nodes do. Not judged with
    /// `bootstrap = false`.
    pub replication_factor: usize,
}

/// One initial member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Its node id.
    pub id: NodeId,
    /// Where other nodes reach it: `host:port`.
    pub addr: String,
    /// Where clients reach it: `host:port`. Clients are sent here when this member leads.
    pub client_addr: String,
}

impl Config {
    /// Reads the file at `path`, if any, then `env`, then `overrides`, and judges the result.
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

    /// [`load`](Self::load) with the text of the file in hand.
    fn assemble(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut faults = Faults::default();
        let mut settings = Settings::default();
        if let Some((path, text)) = file {
            settings.add_file(path, text, &mut faults)?;
        }
        settings.add_env(env, &mut faults);
        settings.add_flags(overrides, &mut faults);

        let config = read::config(settings, &mut faults);
        rules::judge(&config, &mut faults);
        faults.into_result(config)
    }

    /// Judges a configuration that was made in code.
    ///
    /// # Errors
    /// Every rule that it breaks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        rules::judge(self, &mut faults);
        faults.into_result(())
    }

    /// The configuration of node `id` in a cluster of `nodes` nodes on this machine: node 1 listens
    /// on `127.0.0.1` at the two base ports, each further node one port up. They share the memory.
    ///
    /// # Errors
    /// An even number of nodes or fewer than 3, an `id` beyond them, or ports that overlap or run
    /// past 65535.
    pub fn for_dev(
        id: NodeId,
        nodes: u16,
        base_client_port: u16,
        base_internal_port: u16,
    ) -> Result<Self, ConfigError> {
        // A port past the end makes an address that the rules refuse.
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

    /// The initial members as the rest of the library knows them.
    pub fn membership(&self) -> ClusterMembership {
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

    /// Bound of the time without a leader after which a follower stands for election.
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

    /// Longest that a call to another node may take. Snapshots are exempt: they may take as long as
    /// they make progress.
    pub fn rpc_timeout(&self) -> Duration {
        Duration::from_secs(self.raft_rpc_timeout_secs)
    }
}

impl Limits {
    /// Longest that a client's request waits on the node.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Longest that a shutdown takes before what is still open is cut.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}
