//! The figures, as Markdown, and their floors.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::cluster::{Idle, Shape};
use crate::load::{Call, Callers, Sample};

/// The same load at the echo and at a leader, one right after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) echo: Sample,
    pub(crate) seshat: Sample,
}

impl Round {
    fn rate_ratio(&self) -> f64 {
        self.seshat.calls_per_second / self.echo.calls_per_second
    }

    fn p50_ratio(&self) -> f64 {
        self.seshat.p50.as_secs_f64() / self.echo.p50.as_secs_f64()
    }
}

/// All figures.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rounds: BTreeMap<(Shape, Callers, Call), Vec<Round>>,
    first_writes: BTreeMap<Shape, Vec<Duration>>,
    next_writes: Vec<Duration>,
    idle: BTreeMap<Shape, Idle>,
}

/// A bound, and the measured figure.
struct Floor {
    what: String,
    bound: String,
    measured: String,
    holds: bool,
}

impl Report {
    pub(crate) fn round(&mut self, shape: Shape, call: Call, callers: Callers, round: Round) {
        let rounds = self.rounds.entry((shape, callers, call)).or_default();
        rounds.push(round);
    }

    /// Adds the time from a start to the first accepted write.
    pub(crate) fn first_write(&mut self, shape: Shape, time: Duration) {
        self.first_writes.entry(shape).or_default().push(time);
    }

    /// Adds the time from a leader's death to the next accepted write.
    pub(crate) fn failover(&mut self, time: Duration) {
        self.next_writes.push(time);
    }

    pub(crate) fn idle(&mut self, shape: Shape, idle: Idle) {
        self.idle.insert(shape, idle);
    }

    pub(crate) fn floors_hold(&self) -> bool {
        self.floors().iter().all(|floor| floor.holds)
    }

    fn floors(&self) -> Vec<Floor> {
        let mut floors = Vec::new();
        for ((shape, callers, call), rounds) in &self.rounds {
            let at = format!("{shape}: {call}, {callers}");
            let rate = median(rounds.iter().map(Round::rate_ratio));
            let p50 = median(rounds.iter().map(Round::p50_ratio));
            match (call, callers.callers) {
                (Call::Set, 1) => floors.push(Floor {
                    what: format!("{at}: p50"),
                    bound: "≤ 2 × echo".to_owned(),
                    measured: format!("{p50:.2}"),
                    holds: p50 <= 2.0,
                }),
                (Call::Get, 1) => {}
                (call, _) => {
                    let least = match call {
                        Call::Set => 0.35,
                        Call::Get => 0.5,
                    };
                    floors.push(Floor {
                        what: format!("{at}: calls/s"),
                        bound: format!("≥ {least} × echo"),
                        measured: format!("{rate:.2}"),
                        holds: rate >= least,
                    });
                }
            }
        }
        let within_2_s = |what: String, times: &[Duration]| {
            let worst = times.iter().max().copied().unwrap_or_default();
            Floor {
                what,
                bound: "< 2 s".to_owned(),
                measured: format!("{:.2} s", worst.as_secs_f64()),
                holds: worst < Duration::from_secs(2),
            }
        };
        for (shape, times) in &self.first_writes {
            floors.push(within_2_s(
                format!("{shape}: start to first write, worst"),
                times,
            ));
        }
        if !self.next_writes.is_empty() {
            let what = "`kill -9` of the leader to next write, worst".to_owned();
            floors.push(within_2_s(what, &self.next_writes));
        }
        for (shape, idle) in &self.idle {
            floors.push(Floor {
                what: format!("{shape}: idle, processor"),
                bound: "< 2 % of a core".to_owned(),
                measured: format!("{:.1} %", idle.cpu * 100.0),
                holds: idle.cpu < 0.02,
            });
        }
        floors
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        write!(f, "Measured on {cores} cores")?;
        if let Some(busiest) = self.idle.values().map(|idle| idle.machine).reduce(f64::max) {
            write!(
                f,
                ", {:.0} % busy while the cluster was idle",
                busiest * 100.0
            )?;
        }
        writeln!(f, ". Medians of the rounds.\n")?;
        writeln!(
            f,
            "| load | echo calls/s | Seshat calls/s | ratio | echo p50 / p99 µs | \
             Seshat p50 / p99 µs | p50 ratio | echo / leader CPU µs per call |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for ((shape, callers, call), rounds) in &self.rounds {
            let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
            writeln!(
                f,
                "| {shape}: {call}, {callers} | {:.0} | {:.0} | {:.2} | {:.0} / {:.0} | \
                 {:.0} / {:.0} | {:.2} | {:.1} / {:.1} |",
                of(|round| round.echo.calls_per_second),
                of(|round| round.seshat.calls_per_second),
                of(Round::rate_ratio),
                of(|round| micros(round.echo.p50)),
                of(|round| micros(round.echo.p99)),
                of(|round| micros(round.seshat.p50)),
                of(|round| micros(round.seshat.p99)),
                of(Round::p50_ratio),
                of(|round| micros(round.echo.cpu_per_call)),
                of(|round| micros(round.seshat.cpu_per_call)),
            )?;
        }

        writeln!(f, "\n| time | trials | median s | worst s |")?;
        writeln!(f, "|---|--:|--:|--:|")?;
        for (shape, times) in &self.first_writes {
            let what = format!("{shape}: start to first write");
            write_times(f, &what, times)?;
        }
        if !self.next_writes.is_empty() {
            write_times(
                f,
                "`kill -9` of the leader to next write",
                &self.next_writes,
            )?;
        }

        writeln!(
            f,
            "\n| idle | processor, % of a core | memory of a process, MiB |"
        )?;
        writeln!(f, "|---|--:|--:|")?;
        for (shape, idle) in &self.idle {
            let mib = idle.resident_kib / 1024;
            writeln!(f, "| {shape} | {:.1} | {mib} |", idle.cpu * 100.0)?;
        }

        writeln!(f, "\n| floor | bound | measured | |")?;
        writeln!(f, "|---|--:|--:|---|")?;
        for Floor {
            what,
            bound,
            measured,
            holds,
        } in self.floors()
        {
            let verdict = if holds { "holds" } else { "**missed**" };
            writeln!(f, "| {what} | {bound} | {measured} | {verdict} |")?;
        }
        Ok(())
    }
}

fn write_times(f: &mut fmt::Formatter<'_>, what: &str, times: &[Duration]) -> fmt::Result {
    let seconds = || times.iter().map(Duration::as_secs_f64);
    let worst = seconds().fold(0.0, f64::max);
    let trials = times.len();
    writeln!(
        f,
        "| {what} | {trials} | {:.2} | {worst:.2} |",
        median(seconds())
    )
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle figure; the upper one of two in the middle.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
