//! Processes of the real binary, with a network between them that a test controls.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::{MemberRole, MemberStatus, StatusRequest, StatusResponse};
use tempfile::TempDir;

use crate::links::{Links, Proxies};
use crate::openers::Openers;
use crate::operator::{Said, seshat};
use seshat_test_support::cluster::channel;
use seshat_test_support::eventually;

/// Nodes that form a cluster.
const FIRST_NODES: usize = 3;
/// Nodes that a cluster may have, including those that are added later.
pub(crate) const MOST_NODES: usize = 5;
/// Longest wait for a node's status: longer than it waits for the other nodes.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);
/// Exit code of a node that an operator has removed.
const REMOVED: i32 = 4;
/// Lines of each node's log that are shown when a scenario fails.
const LOG_LINES: usize = 30;

/// A cluster of processes. Dropping it ends them.
pub(crate) struct Cluster {
    pub(crate) links: Arc<Links>,
    openers: Openers,
    proxies: Proxies,
    addresses: Vec<Addresses>,
    nodes: Vec<Option<Process>>,
    /// Most addresses that a process may use, in KiB.
    addresses_kib: Option<u64>,
    files: TempDir,
}

/// The addresses of a node.
struct Addresses {
    client_addr: String,
    /// The address at which it listens for other nodes.
    internal_addr: SocketAddr,
    /// The address at which they reach it.
    addr: SocketAddr,
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
        let mut cluster = Self {
            links: Arc::new(Links::new()),
            openers: Openers::default(),
            proxies: Proxies::default(),
            addresses: Vec::new(),
            nodes: Vec::new(),
            addresses_kib: None,
            files: tempfile::tempdir().expect("a directory"),
        };
        for _ in 0..FIRST_NODES {
            cluster.add_addresses().await;
        }
        for node in 0..FIRST_NODES {
            cluster.configure(node, true, limits);
        }
        cluster
    }

    /// Prepares one more node, which does not run and is no member yet.
    pub(crate) async fn extend(&mut self) -> usize {
        let node = self.addresses.len();
        self.add_addresses().await;
        self.configure(node, false, "");
        node
    }

    async fn add_addresses(&mut self) {
        let node = self.addresses.len();
        let port = free_ports(2);
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let internal_addr = at(port + 1);
        let proxy = self
            .proxies
            .add(&self.links, &self.openers, node, internal_addr);
        self.addresses.push(Addresses {
            client_addr: at(port).to_string(),
            internal_addr,
            addr: proxy.await,
        });
        self.nodes.push(None);
    }

    /// Writes the configuration of `node`, which knows every possible node.
    fn configure(&self, node: usize, bootstrap: bool, limits: &str) {
        let Addresses {
            client_addr,
            internal_addr,
            ..
        } = &self.addresses[node];
        let members: String = (1..)
            .zip(&self.addresses)
            .map(|(id, node_addresses)| {
                let (addr, client_addr) = (node_addresses.addr, &node_addresses.client_addr);
                format!("{{ id = {id}, addr = \"{addr}\", client_addr = \"{client_addr}\" }},\n")
            })
            .collect();
        let config = format!(
            "[node]\nid = {}\nclient_addr = \"{client_addr}\"\n\
             internal_addr = \"{internal_addr}\"\n\n\
             [cluster]\nbootstrap = {bootstrap}\ninitial_members = [\n{members}]\n\n\
             [limits]\n{limits}",
            node + 1,
        );
        fs::write(config_file(self.files.path(), node), config).expect("a file");
    }

    /// The client addresses of the nodes.
    pub(crate) fn client_addrs(&self) -> Vec<String> {
        let addresses = self.addresses.iter();
        addresses
            .map(|node_addresses| node_addresses.client_addr.clone())
            .collect()
    }

    /// Nodes that start from now on may use so many KiB of addresses: a larger allocation fails, and
    /// ends the process.
    pub(crate) fn limit_addresses(&mut self, kib: u64) {
        self.addresses_kib = Some(kib);
    }

    /// Starts the nodes that form the cluster.
    pub(crate) fn start_all(&mut self) {
        for node in 0..FIRST_NODES {
            self.start(node);
        }
    }

    /// Starts a node as a new incarnation.
    pub(crate) fn start(&mut self, node: usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file(self.files.path(), node))
            .expect("a file");
        self.start_with(node, log.into());
    }

    /// Starts a node as a new incarnation, whose log has no reader: each line of it fails.
    pub(crate) fn start_unread(&mut self, node: usize) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        self.start_with(node, writer.into());
    }

    fn start_with(&mut self, node: usize, log: Stdio) {
        let limit = match self.addresses_kib {
            Some(kib) => format!("ulimit -v {kib} && "),
            None => String::new(),
        };
        // The shell becomes the node, so they are one process.
        let child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_seshat"))
            .args(["serve", "--config"])
            .arg(config_file(self.files.path(), node))
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| name == "SESHAT_LOG"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("seshat starts");
        self.openers.set(node, Some(child.id()));
        self.nodes[node] = Some(Process(child));
    }

    fn process(&self, node: usize) -> &Process {
        self.nodes[node].as_ref().expect("the node runs")
    }

    /// Waits until a node has ended. Until then it may send to the others.
    async fn ended(&mut self, node: usize) -> ExitStatus {
        let process = self.nodes[node].as_mut().expect("the node runs");
        let ended = eventually("the end of a node", async || {
            process.0.try_wait().expect("a child")
        });
        let ended = ended.await;
        self.forget(node);
        ended
    }

    /// A node is gone, or goes now.
    fn forget(&mut self, node: usize) {
        // Drop waits until the process has gone.
        self.nodes[node] = None;
        self.openers.set(node, None);
    }

    /// `kill -9`, to several nodes at once.
    pub(crate) fn kill(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.process(node).signal("KILL");
        }
        for &node in nodes {
            self.forget(node);
        }
    }

    /// Stops nodes at the same time as an operator does, and waits until they have ended.
    pub(crate) async fn stop(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.process(node).signal("TERM");
        }
        for &node in nodes {
            let ended = self.ended(node).await;
            assert!(ended.success(), "node {}: {ended}", node + 1);
        }
    }

    /// Waits until a removed node has ended, and checks that this is the reason.
    pub(crate) async fn ends_as_removed(&mut self, node: usize) {
        let ended = self.ended(node).await;
        assert_eq!(ended.code(), Some(REMOVED), "node {}: {ended}", node + 1);
    }

    /// Sends the signal that a node gets when its terminal is closed.
    pub(crate) fn hang_up(&self, node: usize) {
        self.process(node).signal("HUP");
    }

    /// The addresses at which the running nodes listen, for clients and for nodes.
    pub(crate) fn listeners(&self) -> Vec<SocketAddr> {
        let running = self.addresses.iter().zip(&self.nodes);
        let running = running.filter(|(_, process)| process.is_some());
        let of = |node_addresses: &Addresses| {
            let client_addr = node_addresses.client_addr.parse().expect("an address");
            [client_addr, node_addresses.internal_addr]
        };
        running
            .flat_map(|(node_addresses, _)| of(node_addresses))
            .collect()
    }

    pub(crate) fn pause(&self, node: usize) {
        self.process(node).signal("STOP");
    }

    pub(crate) fn resume(&self, node: usize) {
        self.process(node).signal("CONT");
    }

    /// Fails unless every node runs that was started and not stopped.
    pub(crate) fn assert_all_run(&mut self) {
        for (node, process) in self.nodes.iter_mut().enumerate() {
            let ended = process
                .as_mut()
                .and_then(|it| it.0.try_wait().expect("a child"));
            assert_eq!(ended, None, "node {} has ended", node + 1);
        }
    }

    /// Memory of a node that is in use and not swapped out, in KiB.
    pub(crate) fn resident_kib(&self, node: usize) -> u64 {
        let path = format!("/proc/{}/status", self.process(node).0.id());
        let status = fs::read_to_string(path).expect("a process");
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = size.and_then(|size| size.split_whitespace().next());
        size.and_then(|size| size.parse().ok()).expect("VmRSS")
    }

    /// The node's status of the cluster, if it answers.
    pub(crate) async fn status(&self, node: usize) -> Option<StatusResponse> {
        let mut admin = AdminServiceClient::new(channel(&self.addresses[node].client_addr));
        let answer = admin.status(StatusRequest::default());
        let answer = tokio::time::timeout(STATUS_TIMEOUT, answer).await;
        Some(answer.ok()?.ok()?.into_inner())
    }

    /// The node's own status, as soon as it answers.
    pub(crate) async fn own_status(&self, node: usize) -> MemberStatus {
        eventually("a member's status", async || {
            member(self.status(node).await?, node)
        })
        .await
    }

    /// The node that leads, as soon as one does.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", async || {
            for node in (0..self.nodes.len()).filter(|&node| self.nodes[node].is_some()) {
                let own = member(self.status(node).await?, node);
                if own.is_some_and(|own| own.role() == MemberRole::Leader) {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    /// The output of `seshat` with `args`, run by an operator who knows every node's address.
    pub(crate) async fn seshat(&self, args: &[&str]) -> Said {
        seshat(&self.client_addrs().join(","), args).await
    }

    /// Makes `node` a member as an operator does, and waits until the cluster is healed. Returns the ids
    /// of the members.
    pub(crate) async fn add_member(&self, node: usize) -> Vec<u64> {
        let Addresses {
            client_addr, addr, ..
        } = &self.addresses[node];
        let (id, addr) = ((node + 1).to_string(), addr.to_string());
        let add = ["member", "add", &id, &addr, client_addr, "--json"];
        changed_members(self.seshat(&add).await)
    }

    /// Removes the member `node`, and waits until the cluster is healed. Returns the ids of the
    /// remaining members.
    pub(crate) async fn remove_member(&self, node: usize) -> Vec<u64> {
        let id = (node + 1).to_string();
        changed_members(self.seshat(&["member", "remove", &id, "--json"]).await)
    }

    /// Waits as an operator does, until the cluster is healed.
    pub(crate) async fn wait_until_healed(&self) -> Healed {
        self.wait_until_healed_within("30s").await
    }

    /// The same with another limit.
    pub(crate) async fn wait_until_healed_within(&self, limit: &str) -> Healed {
        let began = Instant::now();
        let args = ["status", "--wait", "healed", "--timeout", limit, "--json"];
        let status = self.seshat(&args).await.json();
        let after = began.elapsed();
        assert_eq!(status["state"], "healthy", "{status}");
        let members = status["members"].as_array().expect("members");
        assert!(members.iter().all(|member| member["reachable"] == true));
        let ids = members.iter().filter_map(|member| member["id"].as_u64());
        Healed {
            after,
            cluster_id: status["cluster_id"].as_str().expect("an id").to_owned(),
            members: ids.collect(),
        }
    }
}

/// A cluster that is healed.
#[derive(Debug, Clone)]
pub(crate) struct Healed {
    /// The time that it took. The command asks five times a second.
    pub(crate) after: Duration,
    pub(crate) cluster_id: String,
    /// Node ids.
    pub(crate) members: Vec<u64>,
}

fn changed_members(said: Said) -> Vec<u64> {
    let said = said.json();
    assert_eq!(said["healed"], true, "{said}");
    let members = said["members"].as_array().expect("members");
    members.iter().filter_map(Value::as_u64).collect()
}

/// The entry for `node` in `status`.
pub(crate) fn member(status: StatusResponse, node: usize) -> Option<MemberStatus> {
    let mut members = status.members.into_iter();
    members.find(|member| usize::try_from(member.id) == Ok(node + 1))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in 0..self.nodes.len() {
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
/// They lie below the ports that the system gives to outgoing connections and to listeners on port 0, so
/// that no other program takes them before the node does, or while it is down.
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
