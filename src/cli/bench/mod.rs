//! `seshat bench`: measures the speed of the cluster, and checks every answer.
//!
//! | file | |
//! |---|---|
//! | `plan.rs` | the arguments |
//! | `target.rs`, `grpc.rs` | the target of the load: a trait, and the cluster behind it |
//! | `pace.rs`, `load.rs` | when operations are due, and the clients that carry them out |
//! | `values.rs`, `ledger.rs`, `wrong.rs` | which answers are wrong |
//! | `bulk.rs` | keys are written before a run, read back after it, and removed |
//! | `tally.rs`, `report.rs`, `progress.rs` | the figures |
//!
//! The figures of a cluster that loses or mixes up data are worthless. So every value names its key and
//! the write that it comes from, every answer is checked against the acknowledged writes, and a run with
//! one wrong answer has no figures.

mod bulk;
mod grpc;
mod ledger;
mod load;
mod pace;
mod plan;
mod progress;
mod report;
mod tally;
mod target;
mod values;
mod wrong;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use seshat::client::MAX_MESSAGE_BYTES;

use super::failure::Failure;
use super::options::{ClientOptions, duration};
use super::pipes::print;
use super::tell;
use bulk::{Task, each};
use grpc::Link;
use ledger::Ledger;
use load::Run;
use pace::Pace;
use plan::{Op, Pipelining, Plan};
use progress::Progress;
use report::Report;
use tally::Tally;
use target::Target;
use values::{MIN_VALUE_BYTES, Values};
use wrong::WrongAnswers;

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
/// Keys that are read back after a run.
const READ_BACK: usize = 10_000;

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
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = plan::duration)]
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
            let mut links = Vec::with_capacity(plan.connections);
            let mut builder = self.client.builder().timeout(plan.timeout);
            for _ in 0..plan.connections {
                let link = Link::new(builder.clone()).await?;
                if let Some(cluster) = link.cluster() {
                    builder = builder.cluster(cluster);
                }
                links.push(link);
            }
            bench(plan, &links).await
        })?;
        if self.client.json {
            print(report.json(), None)?;
        } else {
            print(report.to_string().trim_end(), None)?;
        }
        Ok(ExitCode::SUCCESS)
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

/// Prepares the keys, measures, checks, and cleans up.
async fn bench<T: Target>(plan: Plan, targets: &[T]) -> Result<Report, Failure> {
    let timeout = plan.timeout;
    // Independent of the seed: a second run with the same seed must not meet the values of the first.
    let values = Values::new(rand::thread_rng().r#gen(), plan.value_size);
    let ledger = Arc::new(Ledger::new(values, plan.keys));
    let wrong = Arc::new(WrongAnswers::new(plan.seed));
    let checked = async {
        if plan.op.needs_keys() {
            let _progress = Progress::of("writing the keys");
            let keys: Vec<_> = (0..plan.keys).collect();
            each(Task::Write, &keys, targets, &ledger, &wrong, timeout).await?;
            wrong.none()?;
        }
        let report = measure(plan, targets, &ledger, &wrong).await?;
        wrong.none()?;
        let _progress = Progress::of("reading back");
        read_back(&report.plan, targets, &ledger, &wrong).await?;
        wrong.none()?;
        Ok(report)
    };
    let checked = checked.await;
    let _progress = Progress::of("removing the keys");
    let written = ledger.written();
    if let Err(failure) = each(Task::Remove, &written, targets, &ledger, &wrong, timeout).await {
        let prefix = ledger.values().prefix();
        tell(format_args!(
            "warning: keys that begin with {prefix} are left: {}",
            failure.message()
        ));
    }
    checked
}

async fn measure<T: Target>(
    plan: Plan,
    targets: &[T],
    ledger: &Arc<Ledger>,
    wrong: &Arc<WrongAnswers>,
) -> Result<Report, Failure> {
    let too_long = || Failure::usage("--duration: too long");
    let begin = Instant::now();
    let start = begin.checked_add(plan.warm_up).ok_or_else(too_long)?;
    let end = start.checked_add(plan.duration).ok_or_else(too_long)?;
    let pace = Pace::start(begin, end, plan.rate)
        .map_err(|error| Failure::local(format!("cannot start a thread: {error}")))?;
    let empty = Tally::new()
        .map_err(|error| Failure::local(format!("cannot make a histogram: {error}")))?;
    let run = Arc::new(Run {
        plan,
        ledger: Arc::clone(ledger),
        pace,
        start,
        wrong: Arc::clone(wrong),
        over: AtomicU64::new(0),
    });
    let tally = {
        let _progress = Progress::of_run(&run);
        run.measure(targets, &empty).await
    };
    wrong.none()?;
    if tally.ops == 0 {
        return Err(nothing_served(&tally));
    }
    Ok(Report {
        plan: run.plan.clone(),
        // The last answers come after the end of the run.
        elapsed: start.elapsed(),
        missed: run.pace.missed(),
        tally,
    })
}

fn nothing_served(tally: &Tally) -> Failure {
    let errors: Vec<_> = tally
        .errors
        .iter()
        .map(|(kind, errors)| format!("{kind} ({}): {}", errors.count, errors.first))
        .collect();
    let why = match errors.as_slice() {
        [] => "none was due or answered in time".to_owned(),
        errors => errors.join("; "),
    };
    let first = tally.errors.keys().next();
    Failure::unmeasured(
        first.unwrap_or(&"unmeasured"),
        format!("no operation was answered: {why}"),
    )
}

/// Reads back some keys with known state: the latest acknowledged writes must still be there.
async fn read_back<T: Target>(
    plan: &Plan,
    targets: &[T],
    ledger: &Arc<Ledger>,
    wrong: &Arc<WrongAnswers>,
) -> Result<(), Failure> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for (task, mut keys) in [
        (Task::Read, ledger.known()),
        (Task::ReadMissing, ledger.gone()),
    ] {
        let (some, _) = keys.partial_shuffle(&mut rng, READ_BACK);
        each(task, some, targets, ledger, wrong, plan.timeout).await?;
    }
    Ok(())
}
