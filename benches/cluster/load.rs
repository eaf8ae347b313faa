//! Callers that call as fast as they are answered, and their figures.
//!
//! Each connection has its own thread and current-thread runtime, with its share of the callers. A call
//! never crosses threads, so the client costs little, and the same for every server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{GetRequest, SetRequest};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::process::Process;

/// The 64 bytes that every key is bound to.
pub(crate) const VALUE: &[u8] = &[b'v'; 64];
/// Keys that are written and read. They are so few that the size of the state does not affect the
/// figures.
const KEYS: usize = 10_000;
/// How long callers call before the measurement begins.
const WARM_UP: Duration = Duration::from_millis(200);

/// The method that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Set,
    Get,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Set => "SET",
            Self::Get => "GET",
        })
    }
}

/// The number of concurrent callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Callers {
    /// Calls in flight at any time.
    pub(crate) callers: usize,
    /// HTTP/2 connections that they share evenly.
    pub(crate) connections: usize,
}

impl std::fmt::Display for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            callers,
            connections,
        } = self;
        match (callers, connections) {
            (1, _) => write!(f, "1 caller"),
            (_, 1) => write!(f, "{callers} callers on 1 connection"),
            (_, _) => write!(f, "{callers} callers on {connections} connections"),
        }
    }
}

/// The figures of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) calls_per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of the serving process, per call.
    pub(crate) cpu_per_call: Duration,
}

/// Binds every key that a load uses.
pub(crate) async fn bind_keys(addr: &str) -> Result<()> {
    const WRITERS: usize = 64;
    let client = connect(addr).await?;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            for key in keys().skip(number).step_by(WRITERS) {
                client.set(set_request(key)).await?;
            }
            anyhow::Ok(())
        });
    }
    for written in writers.join_all().await {
        written.context("a write was refused while nothing else went on")?;
    }
    Ok(())
}

/// Loads the server at `addr`, which is `process`, for `seconds`.
pub(crate) async fn run(
    addr: &str,
    process: &Process,
    call: Call,
    callers: Callers,
    seconds: f64,
) -> Result<Sample> {
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs_f64(seconds);
    let share = callers.callers.div_ceil(callers.connections);
    let connections: Vec<_> = (0..callers.connections)
        .map(|number| {
            let connection = Connection {
                addr: addr.to_owned(),
                callers: (number * share..callers.callers).take(share).collect(),
                call,
                from,
                until,
            };
            thread::spawn(move || connection.run())
        })
        .collect();

    tokio::time::sleep_until(from.into()).await;
    let cpu_before = process.cpu_time()?;
    tokio::time::sleep_until(until.into()).await;
    let cpu_time = process.cpu_time()?.saturating_sub(cpu_before);

    let mut latencies = Vec::new();
    for connection in connections {
        let joined = connection.join().ok().context("a connection panicked")?;
        latencies.extend(joined.with_context(|| format!("{call} failed at {addr}"))?);
    }
    latencies.sort_unstable();
    let calls = u32::try_from(latencies.len())?;
    ensure!(
        calls > 0,
        "no {call} was answered at {addr} within {seconds} s"
    );
    Ok(Sample {
        calls_per_second: f64::from(calls) / seconds,
        p50: percentile(&latencies, 50)?,
        p99: percentile(&latencies, 99)?,
        cpu_per_call: cpu_time / calls,
    })
}

/// One HTTP/2 connection and its callers.
struct Connection {
    addr: String,
    /// The numbers of its callers, among all.
    callers: Vec<usize>,
    call: Call,
    /// Calls that begin earlier do not count.
    from: Instant,
    /// Calls that end later do not count.
    until: Instant,
}

impl Connection {
    /// Calls, and returns the latency of every call that counts.
    fn run(self) -> Result<Vec<Duration>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = connect(&self.addr).await?;
            let mut callers = JoinSet::new();
            for number in &self.callers {
                let keys = keys().cycle().skip(number * 101);
                let client = client.clone();
                callers.spawn(calls(client, keys, self.call, self.from, self.until));
            }
            let mut latencies = Vec::new();
            for caller in callers.join_all().await {
                latencies.extend(caller?);
            }
            Ok(latencies)
        })
    }
}

/// One caller: a call, its answer, the next call.
async fn calls(
    mut client: KvServiceClient<Channel>,
    keys: impl Iterator<Item = Bytes>,
    call: Call,
    from: Instant,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for key in keys {
        let begun = Instant::now();
        match call {
            Call::Set => {
                client.set(set_request(key)).await?;
            }
            Call::Get => {
                let answer = client
                    .get(GetRequest {
                        key,
                        ..GetRequest::default()
                    })
                    .await?
                    .into_inner();
                let value = answer.value.unwrap_or_default();
                ensure!(value == VALUE, "a read did not return what was written");
            }
        }
        let ended = Instant::now();
        if ended >= until {
            break;
        }
        if begun >= from {
            latencies.push(ended - begun);
        }
    }
    Ok(latencies)
}

/// Connects with the settings that every load uses.
async fn connect(addr: &str) -> Result<KvServiceClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{addr}"))?
        .tcp_nodelay(true)
        .connect()
        .await
        .with_context(|| format!("cannot connect to {addr}"))?;
    Ok(KvServiceClient::new(channel))
}

/// The keys, 16 bytes each.
fn keys() -> impl Iterator<Item = Bytes> + Clone {
    (0..KEYS).map(|number| Bytes::from(format!("key-{number:012}")))
}

fn set_request(key: Bytes) -> SetRequest {
    let value = Bytes::from_static(VALUE);
    SetRequest {
        key,
        value,
        session: None,
        ..SetRequest::default()
    }
}

/// The latency that `percent` of the sorted `latencies` do not exceed.
fn percentile(latencies: &[Duration], percent: usize) -> Result<Duration> {
    let rank = latencies.len() * percent / 100;
    latencies.get(rank).copied().context("no latencies")
}
