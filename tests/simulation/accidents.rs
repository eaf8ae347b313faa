//! The loss of processes in the wide world: one after the other, as many as the cluster bears, and
//! sometimes more at once.
//!
//! The cluster bears a loss as long as most of the voters run, in the view of each running process. So
//! the next loss need not wait until the last one has healed, and may come while members change.

use std::collections::BTreeSet;

use rand::Rng;
use seshat::types::NodeId;

use crate::sabotage::Sabotage;
use crate::world::{Happening, World};

impl World {
    /// A node loses its memory, if the cluster bears that, and may be off for a while.
    pub(crate) fn accident(&mut self) {
        if self.calm {
            return;
        }
        let within = [300, 1_500, 4_000][self.rng.gen_range(0..3)];
        let next = self.rng.gen_range(1..within);
        self.schedule(next, Happening::Accident);
        let node = self.some_node(0.4);
        if !self.processes.contains_key(&node) || !self.may_lose(node) {
            return;
        }
        // Without a condition on losses, each counts as borne, even while nothing was acknowledged.
        let gated = self.plan.sabotage != Some(Sabotage::UngatedAccidents);
        if gated && self.clients.acknowledged.is_empty() {
            self.operator.disasters += 1;
        }
        self.summary.accidents += 1;
        self.kill(node);
        let off = [0, 0, 300, 2_000, 8_000][self.rng.gen_range(0..5)];
        let off = self.rng.gen_range(0..=off);
        self.schedule(off, Happening::SwitchOn(node));
    }

    /// While nothing was acknowledged, nothing can be lost.
    fn may_lose(&self, node: NodeId) -> bool {
        if self.plan.sabotage == Some(Sabotage::UngatedAccidents) {
            return true;
        }
        match self.clients.acknowledged.is_empty() {
            true => self.summary.accidents == 0,
            false => self.bears_the_loss_of(&BTreeSet::from([node])),
        }
    }

    /// These lose their memory at once, and come back at once.
    pub(crate) fn disaster(&mut self, nodes: &[NodeId]) {
        let hit = nodes.iter().copied();
        let hit: BTreeSet<_> = hit.filter(|it| self.processes.contains_key(it)).collect();
        self.trace.line(
            self.now,
            format_args!("nodes {hit:?} lose their memory at once"),
        );
        self.operator.disasters += u64::from(!self.bears_the_loss_of(&hit));
        self.summary.disasters += 1;
        for &node in &hit {
            self.kill(node);
        }
        self.hang_after_disaster();
        for node in hit {
            let off = self.rng.gen_range(0..=400);
            self.schedule(off, Happening::SwitchOn(node));
        }
        self.see_what_is_lost();
    }

    /// For a moment the node is cut off from all others.
    pub(crate) fn cut_off(&mut self, node: NodeId) {
        self.trace
            .line(self.now, format_args!("node {node} is cut off"));
        if let Some(process) = self.processes.get_mut(&node) {
            process.alone_until = self.now + 400;
        }
    }

    /// A node that is off is switched on, with empty memory.
    pub(crate) fn switch_on(&mut self, node: NodeId) {
        if !self.processes.contains_key(&node) {
            self.trace
                .line(self.now, format_args!("node {node} is switched on"));
            self.begin(node);
        }
    }

    /// The process at `node` was removed from its cluster, and ends.
    pub(crate) fn departed(&mut self, node: NodeId) {
        self.trace
            .line(self.now, format_args!("node {node} was removed"));
        self.summary.departed += 1;
        self.kill(node);
    }

    /// If no process has anything left of the acknowledged state, all begin anew.
    fn see_what_is_lost(&mut self) {
        if self.rafts().all(|raft| raft.storage().applied() == 0) {
            self.give_up_what_was_told();
        }
    }

    /// An acknowledged write is lost, as was to be expected.
    pub(crate) fn give_up_what_was_told(&mut self) {
        self.clients.bereft = true;
        self.clients.sessions.begin_anew();
    }
}
