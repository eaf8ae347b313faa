//! The faults of a running process: it is slow, it is frozen, or its clock stands still.
//!
//! A process takes its inputs one after the other. While it is busy they wait in order, as they do in
//! the buffers of a socket. A slow process is busy for a while after each input. A frozen one
//! (`SIGSTOP`) is busy for one long while, and takes all waiting inputs at once when it continues
//! (`SIGCONT`). Ticks wait as well, and the next one counts from the time of the last one: a clock runs
//! slow on a slow machine. A clock can also stand still on its own, in a process that still answers
//! clients, and possibly no other process.

use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;
use seshat::types::{Answering, NodeId};

use crate::invariants::Verdict;
use crate::process::{Incarnation, Input};
use crate::sabotage::Sabotage;
use crate::world::{Happening, World};

/// A fault of a process, for so many milliseconds.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It works up to so many milliseconds on each input.
    Slow { each: u64, lasting: u64 },
    /// It does nothing.
    Frozen { lasting: u64 },
    /// It does not tick; if it is `alone`, it is also cut off.
    Stalled { lasting: u64, alone: bool },
}

impl Trouble {
    fn draw(rng: &mut StdRng) -> Self {
        match rng.gen_range(0..3) {
            0 => Self::Slow {
                each: [4, 30, 150][rng.gen_range(0..3)],
                lasting: rng.gen_range(500..5_000),
            },
            1 => Self::Frozen {
                lasting: rng.gen_range(200..5_000),
            },
            _ => Self::Stalled {
                lasting: rng.gen_range(200..5_000),
                alone: rng.gen_bool(0.5),
            },
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow { each, lasting } => write!(
                f,
                "is slow for {lasting} ms: up to {each} ms for each input"
            ),
            Self::Frozen { lasting } => write!(f, "is frozen for {lasting} ms"),
            Self::Stalled { lasting, alone } => {
                let alone = if *alone { ", and is cut off" } else { "" };
                write!(f, "has a clock that stands still for {lasting} ms{alone}")
            }
        }
    }
}

impl World {
    /// A process gets a fault.
    pub(crate) fn trouble(&mut self) {
        let Some(within) = self.climate.troubles_within.filter(|_| !self.calm) else {
            return;
        };
        let next = self.rng.gen_range(1..=within);
        self.schedule(next, Happening::Trouble);
        let node = self.some_node(0.4);
        let trouble = Trouble::draw(&mut self.rng);
        self.trace
            .line(self.now, format_args!("node {node} {trouble}"));
        let now = self.now;
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        match trouble {
            Trouble::Slow { each, lasting } => {
                process.slow = Some((now + lasting, each));
                self.summary.troubles.slow += 1;
            }
            Trouble::Frozen { lasting } => {
                self.summary.troubles.frozen += 1;
                self.busy(node, lasting);
            }
            Trouble::Stalled { lasting, alone } => {
                process.stalled_until = now + lasting;
                process.alone_until = if alone { now + lasting } else { 0 };
                self.summary.troubles.stalled += 1;
            }
        }
    }

    /// One survivor of a disaster hangs, perhaps the last one with any state.
    pub(crate) fn hang_after_disaster(&mut self) {
        let survivor = self.processes.keys().next_back().copied();
        let (Some(lasting), Some(node)) = (self.setting.hangs, survivor) else {
            return;
        };
        self.trace
            .line(self.now, format_args!("node {node} hangs for {lasting} ms"));
        self.summary.troubles.frozen += 1;
        self.busy(node, lasting);
    }

    /// The answer that `from` gets at `node`, which does not answer itself.
    pub(crate) fn found(&self, from: NodeId, node: NodeId) -> Answering {
        let silent = self.plan.sabotage == Some(Sabotage::HungIsSilent);
        match self.takes_connections(from, node) && !silent {
            true => Answering::Hung,
            false => Answering::Silent,
        }
    }

    /// Whether `from` can connect to `node`: the kernel there accepts connections as long as a process
    /// runs.
    pub(crate) fn takes_connections(&self, from: NodeId, node: NodeId) -> bool {
        let cut = self.network.is_cut(from, node) || self.network.is_cut(node, from);
        self.is_reachable(from) && self.is_reachable(node) && !cut
    }

    /// Whether the process at `node` does nothing now.
    pub(crate) fn hangs(&self, node: NodeId) -> bool {
        let process = self.processes.get(&node);
        process.is_some_and(|process| process.busy_until > self.now)
    }

    /// All faults end.
    pub(crate) fn end_troubles(&mut self) {
        for node in self.setting.node_ids() {
            let Some(process) = self.processes.get_mut(&node) else {
                continue;
            };
            process.slow = None;
            (process.stalled_until, process.alone_until) = (0, 0);
            process.busy_until = self.now;
            let incarnation = process.incarnation;
            self.schedule(0, Happening::Wake { node, incarnation });
        }
    }

    /// The process at `node` does nothing for `lasting` milliseconds from now on, or longer.
    fn busy(&mut self, node: NodeId, lasting: u64) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        process.busy_until = process.busy_until.max(self.now + lasting);
        let incarnation = process.incarnation;
        self.schedule(lasting, Happening::Wake { node, incarnation });
    }

    /// `input` reaches `node`, which takes it now or later. Input for another `incarnation` is
    /// lost.
    pub(crate) fn arrive(
        &mut self,
        node: NodeId,
        incarnation: Option<Incarnation>,
        input: Input,
    ) -> Verdict {
        let Some(process) = self.processes.get_mut(&node) else {
            return Ok(());
        };
        if incarnation.is_some_and(|incarnation| incarnation != process.incarnation) {
            return Ok(());
        }
        if process.busy_until > self.now || !process.inbox.is_empty() {
            process.inbox.push_back(input);
            return Ok(());
        }
        self.work(node, input)
    }

    /// A busy process takes the inputs that have arrived meanwhile.
    pub(crate) fn wake(&mut self, node: NodeId, incarnation: Incarnation) -> Verdict {
        loop {
            let Some(process) = self.processes.get_mut(&node) else {
                return Ok(());
            };
            if process.incarnation != incarnation || process.busy_until > self.now {
                return Ok(());
            }
            let Some(input) = process.inbox.pop_front() else {
                return Ok(());
            };
            self.work(node, input)?;
        }
    }

    /// The process takes `input`, which takes a while if it is slow.
    fn work(&mut self, node: NodeId, input: Input) -> Verdict {
        self.take(node, input)?;
        let slow = self.processes.get(&node).and_then(|process| process.slow);
        let slow = slow.filter(|(until, _)| *until > self.now);
        let sluggish = self
            .setting
            .sluggish
            .filter(|(sluggish, _)| *sluggish == node);
        if let Some((_, each)) = slow.or(sluggish.map(|(_, each)| (0, each))) {
            let lasting = self.rng.gen_range(0..=each);
            self.busy(node, lasting);
        }
        Ok(())
    }
}
