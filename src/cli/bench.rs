//! `seshat bench`: the arguments and the exit code of the bench tool.

use std::process::ExitCode;
use std::time::Duration;

use seshat::client::{Client, MAX_MESSAGE_BYTES};

use super::entry::Json;
use super::failure::Failure;
use super::options::{ClientOptions, duration, one_cluster};
use super::pipes::print;
use super::tell;
use crate::bench::{self, BenchError, MIN_VALUE_BYTES, Op, Pipelining, Plan};

const HELP: &str = "\
Operations count from the end of the warm-up on. Latency is that of answered
operations: from when a client sends one, or, with --rate, from when it was due,
so that what waits behind a slow answer counts as slow too.

Every value names its key and its write, and every answer is checked: a read
gives the last acknowledged write or a later one, and after a run that wrote, up
to 10000 keys are read back. One wrong answer, and there are no figures: exit 3.

The keys are the run's own and begin with \"bench-\", so several runs may go on at
once. They are removed at the end; a run that is interrupted leaves them.
--timeout is how long one answer may take.

With --json:
  {\"ops_per_sec\":…,\"p50_us\":…,\"p90_us\":…,\"p99_us\":…,\"p999_us\":…,\"max_us\":…,
   \"errors\":…,\"bytes\":…,…}

Examples:
  seshat bench                              # 64 clients write for 10 seconds
  seshat bench --op get --clients 256
  seshat bench --clients 4 --pipeline 1x256   # 256 single writes in flight each
  seshat bench --op mixed --rate 5000 --duration 1m
  seshat bench --op set --value-size 4096 --json

Exit codes:
  0  measured; errors are part of the figures
  2  the command line is faulty
  3  the cluster cannot be reached, served nothing, or gave a wrong answer";

/// Longest wait for an answer, by default.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections, by default, unless there are fewer clients.
const CONNECTIONS: u16 = 4;
/// A key that is read only to connect. It may have any value or none.
const PROBED_KEY: &[u8] = b"\0";

/// Measure how fast the cluster is.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Operation of the clients
    #[arg(long, value_enum, value_name = "OP", default_value_t = Op::Set)]
    op: Op,

    /// Clients that work at the same time: each makes one call after the other
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,

    /// TCP connections that the clients share [default: 4, or one for each client]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: Option<u16>,

    /// How long to measure, such as 500ms, 10s or 2m
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// Warm-up before the measurement
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration_or_zero)]
    warm_up: Duration,

    /// Number of different keys
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,

    /// Bytes of each value, at least 16
    #[arg(long, value_name = "N", default_value_t = 64)]
    value_size: usize,

    /// Each client is one stream with WINDOW batches of BATCH commands in flight
    #[arg(long, value_name = "BATCHxWINDOW")]
    pipeline: Option<Pipelining>,

    /// Operations that are due each second, over all clients [default: as many as possible]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,

    /// Seed of the random keys [default: a new one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let plan = self.plan()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.min(plan.connections))
            .enable_all()
            .build()
            .map_err(|error| Failure::local(format!("cannot start a runtime: {error}")))?;
        let report = runtime.block_on(async {
            let clients = self.connect(&plan).await?;
            Ok::<_, Failure>(bench::run(plan, &clients, tell).await?)
        })?;
        if self.client.json {
            print(Json(&report.json()), None)?;
        } else {
            print(report.to_string().trim_end(), None)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Connections to the leader of one cluster.
    async fn connect(&self, plan: &Plan) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::with_capacity(plan.connections);
        let mut builder = self.client.builder().timeout(plan.timeout);
        for _ in 0..plan.connections {
            let client = builder.clone().build()?;
            one_cluster(&client).await?;
            client.get(PROBED_KEY).await?;
            if let Some(cluster) = *client.watch_cluster().borrow() {
                builder = builder.cluster(cluster);
            }
            clients.push(client);
        }
        Ok(clients)
    }

    fn plan(&self) -> Result<Plan, Failure> {
        if !(MIN_VALUE_BYTES..=MAX_MESSAGE_BYTES).contains(&self.value_size) {
            return Err(Failure::usage(format!(
                "--value-size: not between {MIN_VALUE_BYTES} and {MAX_MESSAGE_BYTES}"
            )));
        }
        let connections = self.connections.unwrap_or(CONNECTIONS.min(self.clients));
        if connections > self.clients {
            return Err(Failure::usage("--connections: more than --clients"));
        }
        Ok(Plan {
            op: self.op,
            clients: self.clients.into(),
            connections: connections.into(),
            warm_up: self.warm_up,
            duration: self.duration,
            keys: self.keys,
            value_size: self.value_size,
            pipeline: self.pipeline,
            rate: self.rate,
            seed: self.seed.unwrap_or_else(rand::random),
            timeout: self.client.timeout(TIMEOUT),
        })
    }
}

/// A duration that may be zero, such as `0s`.
fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write e.g. 500ms, 10s or 2m"))?;
    if duration > Duration::from_secs(24 * 60 * 60) {
        return Err("longer than 24h".to_owned());
    }
    Ok(duration)
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let message = error.to_string();
        match error {
            BenchError::TooLong => Self::usage("--duration: too long"),
            BenchError::Thread(_) | BenchError::Histogram(_) => Self::local(message),
            BenchError::Unserved { kind, .. } => Self::unmeasured(kind, message),
            BenchError::WrongAnswers { .. } => Self::wrong_answers(message),
        }
    }
}
