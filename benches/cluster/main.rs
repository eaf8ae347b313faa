//! The cost of a Seshat cluster compared with a bare gRPC echo, in one run on one machine.
//!
//! `benches/README.md` explains how to run it and what each figure means. Absolute figures are valid only
//! for the machine of the run. The ratios, and the times that depend on an election timeout, can be
//! compared with a floor.

mod cluster;
mod echo;
mod failover;
mod load;
mod probe;
mod process;
mod report;
mod throughput;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{Cluster, Shape};
use crate::report::Report;

/// How long an idle cluster is measured.
const IDLE_WINDOW: Duration = Duration::from_secs(10);
/// Number of killed leaders.
const FAILOVER_TRIALS: usize = 10;
/// Timed starts of `seshat dev`. The clusters of the failover trials are timed as well.
const DEV_STARTS: usize = 5;

/// Compares a Seshat cluster with a bare gRPC echo.
#[derive(Debug, Parser)]
#[command(name = "cluster")]
struct Arguments {
    /// Measure `seshat dev`: three nodes in one process.
    #[arg(long)]
    dev: bool,
    /// Measure three `seshat serve` processes, failover included.
    #[arg(long)]
    processes: bool,
    /// Measure both; this is the default.
    #[arg(long)]
    all: bool,
    /// Seconds that each round loads each server.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Rounds of each load. The medians of their ratios are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Report a missed floor without failing.
    #[arg(long)]
    report_only: bool,
    /// Serve as the echo until standard input ends.
    #[arg(long, hide = true)]
    echo: bool,
    /// The flag that cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn shapes(&self) -> Vec<Shape> {
        let every = self.all || self.dev == self.processes;
        let mut shapes = Vec::new();
        if every || self.dev {
            shapes.push(Shape::Dev);
        }
        if every || self.processes {
            shapes.push(Shape::Processes);
        }
        shapes
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.echo {
        echo::serve().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminated = signal(SignalKind::terminate())?;
    // In each case, dropping `measure` ends every process that it started.
    let report = tokio::select! {
        report = measure(&arguments) => report?,
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::FAILURE),
        _ = terminated.recv() => return Ok(ExitCode::FAILURE),
    };
    println!("{report}");
    if report.floors_hold() || arguments.report_only {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

async fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::default();
    for shape in arguments.shapes() {
        eprintln!("{shape}: an idle cluster, {} s", IDLE_WINDOW.as_secs());
        let (cluster, started) = Cluster::ready(shape).await?;
        report.first_write(shape, started);
        report.idle(shape, cluster.idle(IDLE_WINDOW).await?);

        throughput::measure(&cluster, arguments.seconds, arguments.rounds, &mut report).await?;
        drop(cluster);

        match shape {
            Shape::Dev => {
                eprintln!("{shape}: {DEV_STARTS} starts");
                for _ in 0..DEV_STARTS {
                    let (_cluster, started) = Cluster::ready(shape).await?;
                    report.first_write(shape, started);
                }
            }
            Shape::Processes => {
                eprintln!("{shape}: {FAILOVER_TRIALS} killed leaders");
                for _ in 0..FAILOVER_TRIALS {
                    let trial = failover::measure().await?;
                    report.first_write(shape, trial.first_write);
                    report.failover(trial.next_write);
                }
            }
        }
    }
    Ok(report)
}
