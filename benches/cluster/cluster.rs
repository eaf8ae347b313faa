//! Clusters of the real binary, as a user starts them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::probe;
use crate::process::{MachineTime, Process};

/// Nodes of a cluster.
const NODES: u16 = 3;
/// How long a new cluster rests before it is measured or broken: work that its formation started has
/// ended by then.
const SETTLE: Duration = Duration::from_secs(2);

/// How a cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// `seshat dev`: every node in one process.
    Dev,
    /// `seshat serve`: a process for every node.
    Processes,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dev => "`seshat dev`",
            Self::Processes => "three `seshat serve`",
        })
    }
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    shape: Shape,
    /// One per node, or one for all of them.
    processes: Vec<Process>,
    /// The client address of each node: `host:port`.
    pub(crate) client_addrs: Vec<String>,
    /// Index of the leader.
    pub(crate) leader: usize,
}

/// The resources of an idle cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// Processor time of all its nodes, as a share of one core.
    pub(crate) cpu: f64,
    /// Memory of its largest process, in KiB.
    pub(crate) resident_kib: u64,
    /// How busy the machine was meanwhile, with any work, as a share of all its cores.
    pub(crate) machine: f64,
}

impl Cluster {
    /// Starts a cluster and waits until it is at rest. Returns the time from the start of its last
    /// process to the first accepted write.
    pub(crate) async fn ready(shape: Shape) -> Result<(Self, Duration)> {
        let started = match shape {
            Shape::Dev => start_dev()?,
            Shape::Processes => start_processes()?,
        };
        let Started {
            processes,
            client_addrs,
            last_start,
        } = started;
        let write = probe::first_write(&client_addrs)
            .await
            .with_context(|| format!("{shape} accepts no write; see {}", logs().display()))?;
        tokio::time::sleep(SETTLE).await;
        let cluster = Self {
            shape,
            processes,
            client_addrs,
            leader: write.node,
        };
        Ok((cluster, write.accepted - last_start))
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The client address of the leader, and its process.
    pub(crate) fn leader(&self) -> Result<(&str, &Process)> {
        let addr = self.client_addrs.get(self.leader).context("no leader")?;
        let process = self.processes.get(self.leader);
        let process = process.or(self.processes.first()).context("no process")?;
        Ok((addr, process))
    }

    /// Kills the leader's process, and returns the client addresses of the other nodes.
    pub(crate) fn kill_leader(&mut self) -> Vec<String> {
        self.client_addrs.remove(self.leader);
        drop(self.processes.remove(self.leader));
        self.client_addrs.clone()
    }

    /// Measures the idle cluster for the time of `window`.
    pub(crate) async fn idle(&self, window: Duration) -> Result<Idle> {
        let cpu_time = || {
            self.processes
                .iter()
                .map(Process::cpu_time)
                .sum::<Result<Duration>>()
        };
        let (machine_before, before) = (MachineTime::now()?, cpu_time()?);
        tokio::time::sleep(window).await;
        let used = cpu_time()?.saturating_sub(before);
        let machine = MachineTime::now()?.busy_since(machine_before);
        let resident_kib = self.processes.iter().map(Process::resident_kib);
        let resident_kib = resident_kib.collect::<Result<Vec<_>>>()?;
        Ok(Idle {
            cpu: used.as_secs_f64() / window.as_secs_f64(),
            resident_kib: resident_kib.into_iter().max().context("no process")?,
            machine,
        })
    }
}

/// A cluster that was started and has not answered yet.
struct Started {
    processes: Vec<Process>,
    client_addrs: Vec<String>,
    last_start: Instant,
}

/// Starts `seshat dev`.
fn start_dev() -> Result<Started> {
    let ports = Ports::free()?;
    let client_port = ports.client.to_string();
    let internal_port = ports.internal.to_string();
    let arguments = [
        "dev",
        "--base-port",
        &client_port,
        "--internal-base-port",
        &internal_port,
    ];
    let last_start = Instant::now();
    let process = seshat(&arguments, "dev")?;
    Ok(Started {
        processes: vec![process],
        client_addrs: (1..=NODES).map(|id| ports.client_addr(id)).collect(),
        last_start,
    })
}

/// Starts a `seshat serve` for every node.
fn start_processes() -> Result<Started> {
    let ports = Ports::free()?;
    let mut members = String::new();
    for id in 1..=NODES {
        let (addr, client_addr) = (ports.internal_addr(id), ports.client_addr(id));
        writeln!(
            members,
            "    {{ id = {id}, addr = \"{addr}\", client_addr = \"{client_addr}\" }},"
        )?;
    }
    let mut processes = Vec::new();
    let mut last_start = Instant::now();
    for id in 1..=NODES {
        let (internal_addr, client_addr) = (ports.internal_addr(id), ports.client_addr(id));
        let config = format!(
            "[node]\nid = {id}\nclient_addr = \"{client_addr}\"\n\
             internal_addr = \"{internal_addr}\"\n\n\
             [cluster]\ninitial_members = [\n{members}]\n"
        );
        let name = format!("node-{id}");
        fs::create_dir_all(logs())?;
        let path = logs().join(format!("{name}.toml"));
        fs::write(&path, config)?;
        let path = path
            .to_str()
            .context("a temporary path that is not Unicode")?;
        last_start = Instant::now();
        processes.push(seshat(&["serve", "--config", path], &name)?);
    }
    Ok(Started {
        processes,
        client_addrs: (1..=NODES).map(|id| ports.client_addr(id)).collect(),
        last_start,
    })
}

/// Starts the binary that cargo has built for this bench. Its output goes to the file `name`.log.
fn seshat(arguments: &[&str], name: &str) -> Result<Process> {
    fs::create_dir_all(logs())?;
    let log = File::create(logs().join(format!("{name}.log")))?;
    let child = Command::new(env!("CARGO_BIN_EXE_seshat"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start seshat")?;
    Ok(Process::new(child))
}

/// The directory with the configurations and log files of the last clusters.
fn logs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-cluster")
}

/// The ports of node 1. Each further node has the next ones.
struct Ports {
    client: u16,
    internal: u16,
}

impl Ports {
    /// Above the well-known ports of services, and below the ports that the kernel gives to outgoing
    /// connections: no other program takes one between this check and the start of a node.
    const FIRST: u16 = 20_000;
    const BLOCKS: u16 = 1_000;

    /// Ports without a listener, other ones each time.
    fn free() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        (0..Self::BLOCKS)
            .map(|_| {
                let block = NEXT.fetch_add(1, Ordering::Relaxed) % Self::BLOCKS;
                let client = Self::FIRST + block * 2 * NODES;
                let internal = client + NODES;
                Self { client, internal }
            })
            .find(|ports| {
                (1..=NODES)
                    .flat_map(|id| [ports.client_addr(id), ports.internal_addr(id)])
                    .all(|addr| TcpListener::bind(addr).is_ok())
            })
            .context("no free ports")
    }

    fn client_addr(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.client + id - 1)
    }

    fn internal_addr(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.internal + id - 1)
    }
}
