//! The results of a run, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::progress::per_second;
use super::tally::Tally;

/// Longest bar of the histogram.
const WIDTH: u64 = 40;

/// The figures of a run in which no answer was wrong.
#[derive(Debug)]
pub(crate) struct Report {
    pub(super) plan: Plan,
    pub(super) tally: Tally,
    /// From the end of the warm-up to the last answer.
    pub(super) elapsed: Duration,
    /// Operations that were due and never sent, because no client was free.
    pub(super) missed: u64,
}

impl Report {
    fn ops_per_sec(&self) -> u64 {
        per_second(self.tally.ops, self.elapsed)
    }

    /// One object. The first eight fields are stable; more may follow them.
    pub(crate) fn json(&self) -> Value {
        let Self { plan, tally, .. } = self;
        let micros = |part| micros(tally.quantile(part));
        let by_kind: Map<_, _> = tally
            .errors
            .iter()
            .map(|(kind, errors)| ((*kind).to_owned(), errors.count.into()))
            .collect();
        json!({
            "ops_per_sec": self.ops_per_sec(),
            "p50_us": micros(0.5),
            "p90_us": micros(0.9),
            "p99_us": micros(0.99),
            "p999_us": micros(0.999),
            "max_us": self::micros(tally.longest),
            "errors": tally.failed(),
            "bytes": tally.bytes,
            "op": plan.op.to_string(),
            "clients": plan.clients,
            "connections": plan.connections,
            "pipeline": plan.pipeline.map(|pipelining| pipelining.to_string()),
            "rate": plan.rate,
            "duration_s": self.elapsed.as_secs_f64(),
            "ops": tally.ops,
            "errors_by_kind": by_kind,
            "missed": self.missed,
            "keys": plan.keys,
            "value_size": plan.value_size,
            "seed": plan.seed,
        })
    }

    fn errors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  errors     {}", grouped(self.tally.failed()))?;
        for (kind, errors) in &self.tally.errors {
            writeln!(
                f,
                "    {kind}: {}, such as: {}",
                grouped(errors.count),
                errors.first
            )?;
        }
        if self.missed > 0 {
            let missed = grouped(self.missed);
            writeln!(
                f,
                "  not sent   {missed}: due, and no client was free before the end"
            )?;
        }
        Ok(())
    }

    /// One row for each doubling of the latency.
    fn histogram(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = rows(&self.tally);
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
        for (below, count) in rows {
            let bar = usize::try_from(scaled(count, WIDTH, most)).unwrap_or(0);
            let permille = scaled(count, 1000, self.tally.ops);
            let share = format!("{}.{} %", permille / 10, permille % 10);
            let below = format!("< {}", short(below));
            writeln!(f, "  {below:>10} {share:>8} {}", "#".repeat(bar))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, tally, .. } = self;
        let (op, keys, size) = (plan.op, plan.keys, plan.value_size);
        let shape = plan
            .pipeline
            .map_or(String::new(), |it| format!(", each with {it} in flight"));
        let rate = plan
            .rate
            .map_or(String::new(), |rate| format!(", {rate} due a second"));
        writeln!(
            f,
            "{op}: {} clients on {} connections{shape}{rate}\n\
             {keys} keys, values of {size} bytes, seed {}\n",
            plan.clients, plan.connections, plan.seed
        )?;
        writeln!(f, "  ops/s      {}", grouped(self.ops_per_sec()))?;
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "  ops        {} in {seconds:.2} s", grouped(tally.ops))?;
        let rate = grouped(per_second(tally.bytes, self.elapsed) / 1_000_000);
        writeln!(f, "  bytes      {} ({rate} MB/s)", grouped(tally.bytes))?;
        self.errors(f)?;
        writeln!(f, "\n  latency")?;
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            writeln!(f, "  {name:<10} {}", short(tally.quantile(part)))?;
        }
        writeln!(f, "  {:<10} {}\n", "max", short(tally.longest))?;
        self.histogram(f)
    }
}

/// Upper bounds that double, and the number of operations between each and the previous one.
fn rows(tally: &Tally) -> Vec<(Duration, u64)> {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    for value in tally.latencies.iter_recorded() {
        let micros = value.value_iterated_to() / 1_000;
        let below = micros.saturating_add(1).next_power_of_two();
        match rows.last_mut() {
            Some((last, count)) if *last == below => *count += value.count_since_last_iteration(),
            _ => rows.push((below, value.count_since_last_iteration())),
        }
    }
    let rows = rows.into_iter();
    rows.map(|(below, count)| (Duration::from_micros(below), count))
        .collect()
}

fn scaled(part: u64, to: u64, whole: u64) -> u64 {
    let scaled = (u128::from(part) * u128::from(to)).div_ceil(u128::from(whole.max(1)));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

/// The latency as text: three or four digits, and the unit.
fn short(latency: Duration) -> String {
    match latency.as_micros() {
        0..10_000 => format!("{} µs", latency.as_micros()),
        10_000..10_000_000 => format!("{} ms", latency.as_millis()),
        _ => format!("{} s", latency.as_secs()),
    }
}

/// The number with a space between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_latencies_short() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(short(Duration::from_micros(1500)), "1500 µs");
        assert_eq!(short(Duration::from_millis(1500)), "1500 ms");
    }

    #[test]
    fn every_operation_is_in_one_row() {
        let mut tally = Tally::new().unwrap();
        for micros in [0, 1, 3, 3, 100, 5000] {
            tally.answered(Duration::from_micros(micros), 0);
        }
        let rows = rows(&tally);
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), 6);
        assert!(rows.is_sorted());
        assert_eq!(rows.last(), Some(&(Duration::from_micros(8192), 1)));
    }
}
