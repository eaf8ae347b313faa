//! A child process that ends when its owner does, and its figures from the kernel.

use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};

/// The unit in which Linux states processor time: `USER_HZ` is 100 on every platform that Seshat is built
/// for.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Processor time of the whole machine: in total, and not idle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineTime {
    busy: Duration,
    total: Duration,
}

impl MachineTime {
    /// The time since the machine started.
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let all_cores = stat.lines().next().context("an empty /proc/stat")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; the later fields are contained in these.
        let ticks = all_cores
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(str::parse::<u64>)
            .collect::<Result<Vec<_>, _>>()?;
        let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(10));
        let total = time(ticks.iter().sum());
        let idle = time(ticks.iter().skip(3).take(2).sum());
        let busy = total.saturating_sub(idle);
        Ok(Self { busy, total })
    }

    /// The share of the time since `earlier` that was not idle.
    pub(crate) fn busy_since(self, earlier: Self) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy);
        let total = self.total.saturating_sub(earlier.total);
        busy.as_secs_f64() / total.as_secs_f64()
    }
}

/// A running child. Dropping it is `kill -9`, so that nothing outlives a bench that fails.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// Processor time that the process has used: `utime + stime`.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.0.id());
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The name of the program comes second, in parentheses, and may contain spaces. The fields after
        // it count from the third on; utime is the 14th, stime the 15th.
        let (_, after_name) = stat.rsplit_once(')').context("a stat without a name")?;
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>)
            .sum::<Result<u32, _>>()?;
        Ok(CLOCK_TICK * ticks)
    }

    /// Resident memory of the process, in KiB: `VmRSS`.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.0.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|size| size.split_whitespace().next())
            .with_context(|| format!("{path} states no VmRSS"))?;
        Ok(size.parse()?)
    }

    /// The child itself, to take its standard streams.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error needs no action: the process may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
