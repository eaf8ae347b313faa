//! The bench tool: measures the speed of a cluster, and checks every answer.
//!
//! | file | |
//! |---|---|
//! | `plan.rs` | the settings of a run |
//! | `target.rs`, `grpc.rs` | the target of the load: a trait, and the cluster behind it |
//! | `pace.rs`, `load.rs` | when operations are due, and the clients that carry them out |
//! | `values.rs`, `ledger.rs`, `wrong.rs` | which answers are wrong |
//! | `bulk.rs` | keys are written before a run, read back after it, and removed |
//! | `tally.rs`, `report.rs`, `progress.rs` | the figures |
//! | `error.rs` | why a run has no figures |
//!
//! The figures of a cluster that loses or mixes up data are worthless. So every value names its key and
//! the write that it comes from, every answer is checked against the acknowledged writes, and a run with
//! one wrong answer has no figures.
//!
//! `benches/cluster` shares none of this. It compares a leader with a bare gRPC echo under the same load, so
//! its callers are as cheap as possible: generated stubs, one thread for each connection, all latencies kept
//! and sorted. The clients here are those of the library, keep a ledger, and count in a histogram, which
//! bounds the memory of a run of any length. Common to both is the notion of a quantile; to share it, this
//! module of the binary would have to become public.

mod bulk;
mod error;
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

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use seshat::client::Client;

pub(crate) use error::BenchError;
pub(crate) use plan::{Op, Pipelining, Plan};
pub(crate) use report::Report;
pub(crate) use values::MIN_VALUE_BYTES;

use bulk::{Task, each};
use ledger::Ledger;
use load::Run;
use pace::Pace;
use progress::Progress;
use tally::Tally;
use target::Target;
use values::Values;
use wrong::WrongAnswers;

/// Keys that are read back after a run.
const READ_BACK: usize = 10_000;

/// Prepares the keys, measures, checks, and cleans up. Each of `targets` is a connection to the same
/// cluster; the clients of the plan share them. Progress goes to standard error, if that is a terminal.
/// `warn` gets a message if keys could not be removed.
///
/// # Errors
///
/// The run has no figures: [`BenchError`] says why.
pub(crate) async fn run(
    plan: Plan,
    targets: &[Client],
    warn: impl FnOnce(String),
) -> Result<Report, BenchError> {
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
    if let Err(error) = each(Task::Remove, &written, targets, &ledger, &wrong, timeout).await {
        let prefix = ledger.values().prefix();
        warn(format!(
            "warning: keys that begin with {prefix} are left: {error}"
        ));
    }
    checked
}

async fn measure<T: Target>(
    plan: Plan,
    targets: &[T],
    ledger: &Arc<Ledger>,
    wrong: &Arc<WrongAnswers>,
) -> Result<Report, BenchError> {
    let begin = Instant::now();
    let start = begin.checked_add(plan.warm_up);
    let start = start.ok_or(BenchError::TooLong)?;
    let end = start.checked_add(plan.duration);
    let end = end.ok_or(BenchError::TooLong)?;
    let pace = Pace::start(begin, end, plan.rate).map_err(BenchError::Thread)?;
    let empty = Tally::new().map_err(BenchError::Histogram)?;
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

fn nothing_served(tally: &Tally) -> BenchError {
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
    BenchError::Unserved {
        kind: first.unwrap_or(&"unmeasured"),
        message: format!("no operation was answered: {why}"),
    }
}

/// Reads back some keys with known state: the latest acknowledged writes must still be there.
async fn read_back<T: Target>(
    plan: &Plan,
    targets: &[T],
    ledger: &Arc<Ledger>,
    wrong: &Arc<WrongAnswers>,
) -> Result<(), BenchError> {
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
