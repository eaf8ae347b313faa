//! A cluster of three real processes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::admin::{MemberRole, StatusRequest};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;

use crate::case::Signal;
use crate::values::Names;

/// Nodes.
const NODES: usize = 3;
/// How often it is tried to form a cluster.
const ATTEMPTS: usize = 5;
/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for one answer of a node.
const ANSWER: Duration = Duration::from_secs(3);
/// Pause between two questions who leads.
const PAUSE: Duration = Duration::from_millis(50);

/// A cluster. Dropping it ends its processes.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    binary: PathBuf,
    files: TempDir,
}

#[derive(Debug)]
struct Node {
    client_addr: SocketAddr,
    process: Option<Process>,
}

/// A process. Dropping it is `kill -9`.
#[derive(Debug)]
struct Process {
    child: Child,
    is_stopped: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn signal(&mut self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        ensure!(status.success(), "kill -{name} {id}");
        self.is_stopped = name == "STOP";
        Ok(())
    }
}

impl Cluster {
    /// Starts the processes of `binary`, and waits until they have a leader. Their addresses are n1, n2 and n3.
    ///
    /// # Errors
    ///
    /// No cluster forms.
    pub(crate) async fn start(binary: &Path, names: &mut Names) -> Result<Self> {
        for _ in 1..ATTEMPTS {
            // Another process may have taken a port that was free.
            if let Ok(cluster) = Self::form(binary, names).await {
                return Ok(cluster);
            }
        }
        Self::form(binary, names).await
    }

    async fn form(binary: &Path, names: &mut Names) -> Result<Self> {
        let ports: Vec<_> = (0..2 * NODES)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<_, _>>()?;
        let addresses: Vec<_> = ports
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?;
        let (client_addrs, addrs) = addresses.split_at(NODES);
        let members: String = (1..)
            .zip(client_addrs.iter().zip(addrs))
            .map(|(id, (client_addr, addr))| {
                format!("{{ id = {id}, addr = \"{addr}\", client_addr = \"{client_addr}\" }},\n")
            })
            .collect();
        let files = tempfile::tempdir()?;
        let mut nodes = Vec::new();
        for (id, (client_addr, addr)) in (1..).zip(client_addrs.iter().zip(addrs)) {
            let config = format!(
                "[node]\nid = {id}\nclient_addr = \"{client_addr}\"\ninternal_addr = \"{addr}\"\n\n\
                 [cluster]\nbootstrap = true\ninitial_members = [\n{members}]\n"
            );
            fs::write(file(files.path(), id, "toml"), config)?;
            names
                .addresses
                .insert(format!("n{id}"), client_addr.to_string());
            nodes.push(Node {
                client_addr: *client_addr,
                process: None,
            });
        }
        drop(ports);
        let mut cluster = Self {
            nodes,
            binary: binary.to_owned(),
            files,
        };
        for node in 0..NODES {
            cluster.run(node)?;
        }
        loop {
            if let Ok(leader) = timeout(LOOK, cluster.leader()).await {
                leader?;
                return Ok(cluster);
            }
            ensure!(
                !cluster.has_ended()?,
                "a node has ended:\n{}",
                cluster.logs().join("\n")
            );
        }
    }

    fn run(&mut self, node: usize) -> Result<()> {
        let id = node + 1;
        let log = fs::File::options().create(true).append(true).open(file(
            self.files.path(),
            id,
            "log",
        ))?;
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(file(self.files.path(), id, "toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| {
                let binary = self.binary.display();
                format!("{binary} does not start: build it by `cargo build`, or name the server by --seshat")
            })?;
        let process = Process {
            child,
            is_stopped: false,
        };
        self.nodes.get_mut(node).context("a node")?.process = Some(process);
        Ok(())
    }

    /// Does it to the leader, to a follower, to node n1, n2 or n3, or to all that it concerns.
    pub(crate) async fn signal(&mut self, signal: Signal, whom: &str) -> Result<()> {
        let chosen = match whom {
            "all" => (0..NODES).collect(),
            "leader" => vec![self.leader().await?],
            "follower" => {
                let leader = self.leader().await?;
                (0..NODES)
                    .filter(|it| *it != leader && self.runs(*it))
                    .take(1)
                    .collect()
            }
            "followers" => {
                let leader = self.leader().await?;
                (0..NODES)
                    .filter(|it| *it != leader && self.runs(*it))
                    .collect()
            }
            name => {
                let id = name
                    .strip_prefix('n')
                    .and_then(|it| it.parse::<usize>().ok());
                let node = id.and_then(|it| it.checked_sub(1)).filter(|it| *it < NODES);
                vec![node.with_context(|| format!("{name:?} is no process"))?]
            }
        };
        if signal == Signal::Led {
            return Ok(());
        }
        for node in chosen {
            let process = &mut self.nodes.get_mut(node).context("a node")?.process;
            match (signal, process) {
                (Signal::Kill, process) => *process = None,
                (Signal::Stop, Some(process)) => process.signal("STOP")?,
                (Signal::Continue, Some(process)) => process.signal("CONT")?,
                (Signal::Start, None) => self.run(node)?,
                // It is so already.
                (Signal::Start | Signal::Led, _) => {}
                (Signal::Stop | Signal::Continue, None) => bail!("n{} does not run", node + 1),
            }
        }
        Ok(())
    }

    /// Whether a process has ended by itself.
    fn has_ended(&mut self) -> Result<bool> {
        let mut ended = false;
        for process in self.nodes.iter_mut().filter_map(|it| it.process.as_mut()) {
            ended |= process.child.try_wait()?.is_some();
        }
        Ok(ended)
    }

    fn runs(&self, node: usize) -> bool {
        let process = self.nodes.get(node).and_then(|it| it.process.as_ref());
        process.is_some_and(|it| !it.is_stopped)
    }

    /// The node that leads, as soon as one does.
    async fn leader(&self) -> Result<usize> {
        loop {
            for (node, Node { client_addr, .. }) in self.nodes.iter().enumerate() {
                if self.runs(node) && leads(*client_addr).await.unwrap_or(false) {
                    return Ok(node);
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// The last lines of the log of each node, for a report.
    pub(crate) fn logs(&self) -> Vec<String> {
        const LINES: usize = 10;
        let log =
            |id: usize| fs::read_to_string(file(self.files.path(), id, "log")).unwrap_or_default();
        let lines = (1..=NODES).flat_map(|id| {
            let log = log(id);
            let lines: Vec<_> = log
                .lines()
                .rev()
                .take(LINES)
                .map(|it| format!("n{id}: {it}"))
                .collect();
            lines.into_iter().rev()
        });
        lines.collect()
    }
}

/// Whether the node at `addr` leads.
async fn leads(addr: SocketAddr) -> Result<bool> {
    let asking = async {
        let channel = Endpoint::from_shared(format!("http://{addr}"))?
            .connect()
            .await?;
        let status = AdminServiceClient::new(channel)
            .status(StatusRequest::default())
            .await?;
        let status = status.into_inner();
        let mut members = status.members.iter();
        let own = members.find(|it| it.id == status.answered_by);
        Ok(own.is_some_and(|it| it.role() == MemberRole::Leader))
    };
    timeout(ANSWER, asking).await?
}

fn file(directory: &Path, id: usize, kind: &str) -> PathBuf {
    directory.join(format!("n{id}.{kind}"))
}
