//! The cost of a snapshot that is being sent: the effect on writes, time, and memory.
//!
//! `benches/README.md` explains how to run it and what each figure means. It only reports: absolute
//! figures are valid only for the machine, and only figures of one run can be compared.

mod load;
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use seshat::proto::raft::Role;

use crate::load::{Client, Steady, Write};
use crate::nodes::Nodes;

/// Connections of the client.
const CONNECTIONS: usize = 4;
/// How long a node may take to become a full member again.
const GIVE_UP: Duration = Duration::from_secs(300);
/// How long a write may still take after the time window in which it was due.
const GRACE: Duration = Duration::from_secs(2);

/// Measures the cost of a snapshot that is being sent.
#[derive(Debug, Parser)]
#[command(name = "snapshot")]
struct Arguments {
    /// Number of keys, which are loaded first.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Writes a second, in an open loop.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Seconds in which writes are counted without a snapshot, and without the node that needs it.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Number of nodes that are killed and restarted.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only how one node gets 1 GiB back, in keys of 1 KiB, without other load.
    #[arg(long)]
    gib: bool,
    /// Overwrite 10 000 keys of 1 KiB, for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    endless: Option<u64>,
    /// Bytes of one chunk of a snapshot.
    #[arg(long, default_value_t = 128 << 10)]
    chunk_bytes: usize,
    /// The flag that cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(seconds) = arguments.endless {
        endless(seconds, arguments.chunk_bytes).await
    } else if arguments.gib {
        let arguments = Arguments {
            keys: 1 << 20,
            value_bytes: 1 << 10,
            ..arguments
        };
        let mut nodes = filled(&arguments).await?;
        let follower = nodes.follower(0);
        nodes.kill(follower)?;
        let healed = heal(&mut nodes, follower).await?;
        println!("1 GiB back in {:.2?}", healed.time);
        print!("{}", healed.memory);
        Ok(())
    } else {
        steady(&arguments).await
    }
}

async fn clients(nodes: &Nodes) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(nodes.client(nodes.leader).await?);
    }
    Ok(clients)
}

async fn filled(arguments: &Arguments) -> Result<Nodes> {
    let nodes = Nodes::ready(arguments.chunk_bytes).await?;
    let begun = Instant::now();
    let value = load::value(arguments.value_bytes);
    load::fill(&clients(&nodes).await?, arguments.keys, value).await?;
    println!(
        "{} keys of {} bytes loaded in {:.1?}; MiB: {}",
        arguments.keys,
        arguments.value_bytes,
        begun.elapsed(),
        nodes.resident()
    );
    Ok(nodes)
}

/// The recovery of a node.
struct Healed {
    begun: Instant,
    ended: Instant,
    time: Duration,
    /// The memory of leader and joiner over time.
    memory: String,
}

/// Starts a node that was killed, and waits until it votes again.
async fn heal(nodes: &mut Nodes, follower: usize) -> Result<Healed> {
    let begun = Instant::now();
    let before = nodes.memory(nodes.leader)?;
    nodes.start(follower)?;
    let mut memory = String::from("     s  leader  joiner  received of total, MiB\n");
    let mut shown = Duration::ZERO;
    let mut peaks = (before.now, 0);
    loop {
        let status = nodes.identify(follower).await;
        let (leader, joiner) = (nodes.memory(nodes.leader)?, nodes.memory(follower)?);
        peaks = (peaks.0.max(leader.now), peaks.1.max(joiner.peak));
        let elapsed = begun.elapsed();
        let voter = status.as_ref().is_some_and(|status| {
            status.role() == Role::Follower && status.voters.contains(&status.raft_id)
        });
        if voter || elapsed >= shown {
            shown = elapsed + Duration::from_millis(250);
            let progress = status.and_then(|status| status.receiving);
            let progress = progress.map_or_else(String::new, |progress| {
                format!(
                    "{} of {}",
                    progress.received_bytes >> 20,
                    progress.total_bytes >> 20
                )
            });
            memory.push_str(&format!(
                "{:>6.2} {:>7} {:>7}  {progress}\n",
                elapsed.as_secs_f64(),
                leader.now,
                joiner.now
            ));
        }
        if voter {
            memory.push_str(&format!(
                "peak   {:>7} {:>7}  (the leader had {} before)\n",
                peaks.0, peaks.1, before.now
            ));
            return Ok(Healed {
                begun,
                ended: Instant::now(),
                time: elapsed,
                memory,
            });
        }
        ensure!(
            elapsed < GIVE_UP,
            "not healed within {GIVE_UP:?}:\n{memory}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Measures steady writes with all nodes, without one, and while that one gets its snapshot.
async fn steady(arguments: &Arguments) -> Result<()> {
    let mut nodes = filled(arguments).await?;
    let value = load::value(arguments.value_bytes);
    let mut writes = Steady::new(
        clients(&nodes).await?,
        arguments.rate,
        arguments.keys,
        value,
    );
    let window = Duration::from_secs(arguments.seconds);
    let (mut all, mut without, mut during) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        let from = Instant::now();
        tokio::time::sleep(window).await;
        let killed = Instant::now();
        let follower = nodes.follower(round);
        nodes.kill(follower)?;
        tokio::time::sleep(window).await;
        let healed = heal(&mut nodes, follower).await?;
        tokio::time::sleep(GRACE).await;
        all.extend(writes.between(from, killed));
        without.extend(writes.between(killed, healed.begun));
        during.extend(writes.between(healed.begun, healed.ended));
        println!("round {}: healed in {:.2?}", round + 1, healed.time);
        print!("{}", healed.memory);
    }
    let (all, without) = (Latencies::of(all)?, Latencies::of(without)?);
    let during = Latencies::of(during)?;
    println!("\n{} writes a second:", arguments.rate);
    println!("three nodes:              {all}");
    println!("one is down:              {without}");
    println!("a snapshot is under way:  {during}");
    println!("ratio to three nodes:     {}", during.ratio(&all));
    println!("ratio to one down:        {}", during.ratio(&without));
    Ok(())
}

/// Latencies of writes.
struct Latencies {
    count: usize,
    refused: usize,
    /// The latencies at 50, 99 and 99.9 %, and the longest one.
    at: [Duration; 4],
}

impl Latencies {
    fn of(writes: Vec<Write>) -> Result<Self> {
        let refused = writes.iter().filter(|write| !write.accepted).count();
        let mut latencies: Vec<_> = writes.iter().map(|write| write.latency).collect();
        latencies.sort_unstable();
        let count = latencies.len();
        let at = |per_mille: usize| {
            let rank = (count * per_mille / 1000).min(count.saturating_sub(1));
            latencies.get(rank).copied().context("no write was due")
        };
        Ok(Self {
            count,
            refused,
            at: [at(500)?, at(990)?, at(999)?, at(1000)?],
        })
    }

    fn ratio(&self, base: &Self) -> String {
        let ratios = self.at.iter().zip(base.at);
        let ratios = ratios.map(|(one, base)| one.as_secs_f64() / base.as_secs_f64());
        let ratios: Vec<_> = ratios.map(|ratio| format!("{ratio:.2}")).collect();
        format!("p50, p99, p999, max: {}", ratios.join(", "))
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            count,
            refused,
            at: [p50, p99, p999, max],
        } = self;
        write!(
            f,
            "{count} writes, {refused} refused, p50 {p50:.2?} p99 {p99:.2?} p999 {p999:.2?} \
             max {max:.2?}"
        )
    }
}

/// Overwrites a bounded set of keys without end, and shows the memory meanwhile.
async fn endless(seconds: u64, chunk_bytes: usize) -> Result<()> {
    const KEYS: u64 = 10_000;
    let nodes = Nodes::ready(chunk_bytes).await?;
    let value = load::value(1 << 10);
    let written = Arc::new(AtomicU64::new(0));
    let writers = load::overwrite(&clients(&nodes).await?, KEYS, &value, &written);
    println!(
        "     s    writes  MiB of nodes 1, 2, 3; node {} leads",
        nodes.leader + 1
    );
    let begun = Instant::now();
    for second in 0..=seconds {
        tokio::time::sleep_until((begun + Duration::from_secs(second)).into()).await;
        let count = written.load(Ordering::Relaxed);
        println!("{second:>6} {count:>9}  {}", nodes.resident());
    }
    drop(writers);
    Ok(())
}
