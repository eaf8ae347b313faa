//! The conformance runner: whether a client keeps its promises.

mod case;
mod cluster;
mod expect;
mod golden;
mod known;
mod program;
mod report;
mod run;
mod schema;
mod values;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tokio::sync::mpsc;
use tokio::time::Instant;

use case::Case;
use program::{Program, Start};
use report::{Report, Verdict};
use run::{Setting, run};
use schema::Schema;

const HELP: &str = "\
The program is a thin layer over the client of its language. It reads requests from its standard
input and writes responses to its standard output, as
conformance/proto/seshat/conformance/v1/conformance.proto says. docs/CLIENTS.md says what a client
promises; each case is a file, see conformance/cases/README.md.

Exit codes:
  0    every case passes, except for the known failures
  1    a case fails, or a known failure passes
  2    the command line, a case, or the file of known failures is faulty

Examples:
  conformance --client target/debug/conformance-client
  conformance --client path/to/program --case leader/hint
  conformance --list --case watch/";

/// Check whether a client of Seshat keeps its promises: one line a case, and a summary.
#[derive(Debug, Parser)]
#[command(name = "conformance", version, after_help = HELP)]
struct Args {
    /// The client program
    #[arg(long, value_name = "PROGRAM", required_unless_present = "list")]
    client: Option<PathBuf>,

    /// File with the cases that the client does not pass: a line "name: reason" for each
    #[arg(long, value_name = "FILE")]
    known_failures: Option<PathBuf>,

    /// Only the cases whose names begin so; may be repeated
    #[arg(long, value_name = "PREFIX")]
    case: Vec<String>,

    /// Print the names of the cases, and what they promise
    #[arg(long)]
    list: bool,

    /// Cases at a time, each with a process of the program
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: usize,

    /// Directory of the cases
    #[arg(long, value_name = "DIRECTORY", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))]
    cases: PathBuf,

    /// The server; default: the file `seshat` beside this one
    #[arg(long, value_name = "FILE")]
    seshat: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match checked(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs what is asked for. Returns whether all is as it should be.
async fn checked(args: Args) -> Result<bool> {
    let schema = Schema::new()?;
    let all = case::all(&args.cases, &schema)?;
    let known = match &args.known_failures {
        Some(file) => known::read(file, &all)?,
        None => known::Known::new(),
    };
    let is_chosen =
        |case: &Case| args.case.is_empty() || args.case.iter().any(|it| case.name.starts_with(it));
    let cases: Vec<_> = all.into_iter().filter(is_chosen).collect();
    ensure!(
        !cases.is_empty(),
        "no case begins with {}",
        args.case.join(" or ")
    );
    if args.list {
        cases
            .iter()
            .for_each(|case| println!("{:<40} {}", case.name, case.about()));
        return Ok(true);
    }
    let client = program::path_of(args.client.as_deref().context("no client")?);
    let start = Start {
        path: client,
        response: schema.response.clone(),
    };
    let setting = Setting {
        schema,
        seshat: seshat(args.seshat.as_deref())?,
    };
    let mut report = Report::new(known);
    run_all(cases, args.jobs.max(1), start, setting, &mut report).await;
    Ok(report.end())
}

/// The binary of the server.
fn seshat(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("seshat"))
}

/// Runs `cases`, so many at a time.
async fn run_all(
    cases: Vec<Case>,
    jobs: usize,
    start: Start,
    setting: Setting,
    report: &mut Report,
) {
    let shared = Arc::new((cases, start, setting));
    let next = Arc::new(AtomicUsize::new(0));
    let (verdicts, mut ended) = mpsc::unbounded_channel();
    for _ in 0..jobs {
        let (shared, next, verdicts) = (Arc::clone(&shared), Arc::clone(&next), verdicts.clone());
        tokio::spawn(async move { worker(&shared, &next, &verdicts).await });
    }
    drop(verdicts);
    while let Some((at, verdict)) = ended.recv().await {
        if let Some(case) = shared.0.get(at) {
            report.add(&case.name, verdict);
        }
    }
}

/// Runs one case after the other with a program of its own, which is started anew after a failure: it may hang.
async fn worker(
    shared: &(Vec<Case>, Start, Setting),
    next: &AtomicUsize,
    verdicts: &mpsc::UnboundedSender<(usize, Verdict)>,
) {
    let (cases, start, setting) = shared;
    let mut program: Option<Program> = None;
    let mut last = None;
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(case) = cases.get(at) else { break };
        let began = Instant::now();
        let running = async {
            let running = match program.take() {
                Some(running) => running,
                None => Program::start(start)?,
            };
            let running = program.insert(running);
            run(case, u64::try_from(at)? + 1, running, setting).await
        };
        let outcome = running.await;
        if outcome.is_err() || program.as_ref().is_some_and(Program::has_ended) {
            program = None;
        }
        if let Some((at, verdict)) = last.replace((at, Verdict::new(outcome, began.elapsed()))) {
            let _ = verdicts.send((at, verdict));
        }
    }
    // What the program does at its end belongs to the last case.
    let ended = match program {
        Some(program) => program.end().await,
        None => Ok(()),
    };
    if let Some((at, verdict)) = last {
        let _ = verdicts.send((at, verdict.and(ended)));
    }
}
