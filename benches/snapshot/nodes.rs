//! Three `seshat serve` processes. Each can be killed and restarted.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use seshat::proto::kv::SetRequest;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::raft::raft_service_client::RaftServiceClient;
use seshat::proto::raft::{IdentifyRequest, IdentifyResponse};
use tonic::transport::{Channel, Endpoint};

const NODES: usize = 3;

/// The memory of a process according to the kernel, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// In use now: `VmRSS`.
    pub(crate) now: u64,
    /// The maximum so far: `VmHWM`.
    pub(crate) peak: u64,
}

/// One node. Dropping it is `kill -9`.
struct Node {
    config: PathBuf,
    log: PathBuf,
    client_addr: String,
    internal_addr: String,
    process: Option<Child>,
}

impl Node {
    fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(env!("CARGO_BIN_EXE_seshat"))
            .args(["serve", "--config"])
            .arg(&self.config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start seshat")?;
        self.process = Some(child);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The process may be gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The cluster.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// Index of the leader.
    pub(crate) leader: usize,
}

impl Nodes {
    /// Starts a cluster and waits until it accepts a write.
    pub(crate) async fn ready(chunk_bytes: usize) -> Result<Self> {
        // All ports at once, so that the kernel gives different ones.
        let listeners = (0..2 * NODES)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>()?;
        let addrs = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.to_string()))
            .collect::<Result<Vec<_>>>()?;
        drop(listeners);
        let (clients, internals) = addrs.split_at(NODES);
        let mut members = String::new();
        for (id, (addr, client_addr)) in (1..).zip(internals.iter().zip(clients)) {
            writeln!(
                members,
                "    {{ id = {id}, addr = \"{addr}\", client_addr = \"{client_addr}\" }},"
            )?;
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-snapshot");
        fs::create_dir_all(&directory)?;
        let mut nodes = Vec::new();
        for (id, (internal_addr, client_addr)) in (1..).zip(internals.iter().zip(clients)) {
            let config = directory.join(format!("node-{id}.toml"));
            fs::write(
                &config,
                format!(
                    "[node]\nid = {id}\nclient_addr = \"{client_addr}\"\n\
                     internal_addr = \"{internal_addr}\"\n\n\
                     [cluster]\ninitial_members = [\n{members}]\n\n\
                     [limits]\nsnapshot_chunk_bytes = {chunk_bytes}\n"
                ),
            )?;
            let log = directory.join(format!("node-{id}.log"));
            File::create(&log)?;
            let mut node = Node {
                config,
                log,
                client_addr: client_addr.clone(),
                internal_addr: internal_addr.clone(),
                process: None,
            };
            node.start()?;
            nodes.push(node);
        }
        let mut cluster = Self { nodes, leader: 0 };
        cluster.find_leader().await?;
        Ok(cluster)
    }

    async fn find_leader(&mut self) -> Result<()> {
        for _ in 0..600 {
            for index in 0..NODES {
                let Ok(mut client) = self.client(index).await else {
                    continue;
                };
                let probe = SetRequest {
                    key: "probe".into(),
                    value: "probe".into(),
                    session: None,
                    ..SetRequest::default()
                };
                if client.set(probe).await.is_ok() {
                    self.leader = index;
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("no node accepts a write")
    }

    fn node(&self, index: usize) -> Result<&Node> {
        self.nodes.get(index).context("no such node")
    }

    fn node_mut(&mut self, index: usize) -> Result<&mut Node> {
        self.nodes.get_mut(index).context("no such node")
    }

    /// A follower, a different one each round.
    pub(crate) fn follower(&self, round: usize) -> usize {
        (self.leader + 1 + round % (NODES - 1)) % NODES
    }

    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.kill();
        Ok(())
    }

    pub(crate) fn start(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.start()
    }

    pub(crate) async fn client(&self, index: usize) -> Result<KvServiceClient<Channel>> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.node(index)?.client_addr))?;
        let channel = endpoint.tcp_nodelay(true).connect().await?;
        Ok(KvServiceClient::new(channel).max_encoding_message_size(usize::MAX))
    }

    /// The status of a node, if it answers.
    pub(crate) async fn identify(&self, index: usize) -> Option<IdentifyResponse> {
        let addr = format!("http://{}", self.node(index).ok()?.internal_addr);
        let channel = Endpoint::from_shared(addr).ok()?.connect().await.ok()?;
        let request = IdentifyRequest::default();
        let response = RaftServiceClient::new(channel).identify(request).await;
        Some(response.ok()?.into_inner())
    }

    pub(crate) fn memory(&self, index: usize) -> Result<Memory> {
        let process = self.node(index)?.process.as_ref();
        let id = process.context("the node does not run")?.id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let size = line.and_then(|line| line.split_whitespace().next());
            Ok(size.context("no such field")?.parse::<u64>()? / 1024)
        };
        Ok(Memory {
            now: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }

    /// Memory of every node, in MiB, in the order of their ids; `-` for one that does not run.
    pub(crate) fn resident(&self) -> String {
        let sizes = (0..NODES).map(|index| match self.memory(index) {
            Ok(memory) => format!("{:>6}", memory.now),
            Err(_) => format!("{:>6}", "-"),
        });
        sizes.collect::<Vec<_>>().join(" ")
    }
}
