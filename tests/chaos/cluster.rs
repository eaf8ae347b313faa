//! Three processes of the real binary, with a network between them that a test controls.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::{ClusterState, MemberRole, MemberStatus, StatusRequest, StatusResponse};
use tempfile::TempDir;

use crate::common::cluster::channel;
use crate::common::eventually;
use crate::links::{Links, Proxies};

/// Nodes of a cluster.
pub(crate) const NODES: usize = 3;
/// Longest wait for a node's status: longer than it waits for the other nodes.
const STATUS_PATIENCE: Duration = Duration::from_secs(3);
/// Lines of each node's log that are shown when a scenario fails.
const LOG_LINES: usize = 30;

/// A cluster of three processes. Dropping it ends them.
pub(crate) struct Cluster {
    pub(crate) links: Arc<Links>,
    _proxies: Proxies,
    client_addrs: Vec<String>,
    nodes: Vec<Option<Process>>,
    files: TempDir,
}

/// A running process. Dropping it is `kill -9`.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(kill.expect("kill").success(), "kill -{name} {id}");
    }
}

impl Cluster {
    /// A cluster whose nodes have `limits` (TOML) and do not run yet.
    pub(crate) async fn new(limits: &str) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let ports = free_ports(6);
        let ports: Vec<_> = (ports..).take(2 * NODES).collect();
        let addr = |port: usize| SocketAddr::from(([127, 0, 0, 1], ports[port]));
        let client_addrs: Vec<_> = (0..NODES).map(|node| addr(node).to_string()).collect();
        let links = Arc::new(Links::new());
        let mut proxies = Proxies::default();
        for node in 0..NODES {
            let internal_addr = |node| addr(NODES + node);
            let mut config = format!(
                "[node]\nid = {}\nclient_addr = \"{}\"\ninternal_addr = \"{}\"\n\n[cluster]\n\
                 initial_members = [\n",
                node + 1,
                addr(node),
                internal_addr(node),
            );
            for peer in 0..NODES {
                let way = match peer == node {
                    true => internal_addr(peer),
                    false => proxies.add(&links, (node, peer), internal_addr(peer)).await,
                };
                let (id, client_addr) = (peer + 1, addr(peer));
                writeln!(
                    config,
                    "{{ id = {id}, addr = \"{way}\", client_addr = \"{client_addr}\" }},"
                )
                .expect("a string");
            }
            write!(config, "]\n\n[limits]\n{limits}").expect("a string");
            fs::write(config_file(files.path(), node), config).expect("a file");
        }
        Self {
            links,
            _proxies: proxies,
            client_addrs,
            nodes: (0..NODES).map(|_| None).collect(),
            files,
        }
    }

    /// Where clients reach the nodes.
    pub(crate) fn client_addrs(&self) -> &[String] {
        &self.client_addrs
    }

    pub(crate) fn start_all(&mut self) {
        for node in 0..NODES {
            self.start(node);
        }
    }

    /// Starts a node in a new life.
    pub(crate) fn start(&mut self, node: usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file(self.files.path(), node))
            .expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_seshat"))
            .args(["serve", "--config"])
            .arg(config_file(self.files.path(), node))
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| name == "SESHAT_LOG"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("seshat starts");
        self.nodes[node] = Some(Process(child));
    }

    fn process(&self, node: usize) -> &Process {
        self.nodes[node].as_ref().expect("the node runs")
    }

    /// `kill -9`, to several nodes at once.
    pub(crate) fn kill(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.process(node).signal("KILL");
        }
        for &node in nodes {
            // Drop waits until the process has gone.
            self.nodes[node] = None;
        }
    }

    /// Stops a node as an operator does, and waits until it has ended.
    pub(crate) async fn stop(&mut self, node: usize) {
        self.process(node).signal("TERM");
        let mut process = self.nodes[node].take().expect("the node runs");
        let ended = eventually("the end of a node", async || {
            process.0.try_wait().expect("a child")
        });
        let ended = ended.await;
        assert!(ended.success(), "node {}: {ended}", node + 1);
    }

    pub(crate) fn pause(&self, node: usize) {
        self.process(node).signal("STOP");
    }

    pub(crate) fn resume(&self, node: usize) {
        self.process(node).signal("CONT");
    }

    /// Memory of a node that is in use and not swapped out, in KiB.
    pub(crate) fn resident_kib(&self, node: usize) -> u64 {
        let path = format!("/proc/{}/status", self.process(node).0.id());
        let status = fs::read_to_string(path).expect("a process");
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = size.and_then(|size| size.split_whitespace().next());
        size.and_then(|size| size.parse().ok()).expect("VmRSS")
    }

    /// What a node says of the cluster, if it says anything.
    pub(crate) async fn status(&self, node: usize) -> Option<StatusResponse> {
        let mut admin = AdminServiceClient::new(channel(&self.client_addrs[node]));
        let answer = admin.status(StatusRequest::default());
        let answer = tokio::time::timeout(STATUS_PATIENCE, answer).await;
        Some(answer.ok()?.ok()?.into_inner())
    }

    /// What a node says of itself, as soon as it says anything.
    pub(crate) async fn own_status(&self, node: usize) -> MemberStatus {
        let status = eventually("a status", async || self.status(node).await).await;
        status.members[node].clone()
    }

    /// The node that leads, as soon as one does.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", async || {
            for node in (0..NODES).filter(|&node| self.nodes[node].is_some()) {
                let role = self.status(node).await?.members[node].role();
                if role == MemberRole::Leader {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    /// Waits until every node says that the cluster is healthy and every member is there. Gives the
    /// time that it took, and the id of the cluster.
    pub(crate) async fn wait_until_healed(&self) -> Healed {
        let began = Instant::now();
        let cluster_id = eventually("a healthy cluster", async || {
            let mut cluster_id = None;
            for node in 0..NODES {
                let status = self.status(node).await?;
                let whole = status.state() == ClusterState::Healthy
                    && status.members.iter().all(|member| member.reachable);
                if !whole {
                    return None;
                }
                cluster_id = status.cluster_id;
            }
            cluster_id
        });
        let cluster_id = cluster_id.await;
        Healed {
            after: began.elapsed(),
            cluster_id,
        }
    }
}

/// A cluster that is whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Healed {
    /// How long it took.
    pub(crate) after: Duration,
    pub(crate) cluster_id: u64,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in 0..NODES {
            let log = fs::read_to_string(log_file(self.files.path(), node)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.len().saturating_sub(LOG_LINES);
            eprintln!("--- node {}, {tail} earlier lines left out", node + 1);
            eprintln!("{}", lines[tail..].join("\n"));
        }
    }
}

fn config_file(files: &Path, node: usize) -> PathBuf {
    files.join(format!("node-{}.toml", node + 1))
}

fn log_file(files: &Path, node: usize) -> PathBuf {
    files.join(format!("node-{}.log", node + 1))
}

/// The first of `count` free ports in a row, each given out once.
///
/// They lie below those that the system gives to outgoing connections and to whoever binds port 0,
/// so that nobody takes them before the node does, or while it is down.
fn free_ports(count: u16) -> u16 {
    static NEXT: LazyLock<Mutex<u16>> = LazyLock::new(|| {
        let anywhere = std::process::id().wrapping_mul(97) % 20_000;
        Mutex::new(10_000 + u16::try_from(anywhere).expect("less than 20 000"))
    });
    let mut next = NEXT.lock().expect("not poisoned");
    loop {
        let base = *next;
        *next = if base > 32_000 { 10_000 } else { base + count };
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..).take(count.into()).all(free) {
            return base;
        }
    }
}
