//! The operator of the nodes: reads their status and follows it.
//!
//! The operator knows no more than a real one: the answers of a node that asked the others, over the
//! same network, at slightly different moments. It knows which nodes are switched off. It obeys: if
//! status is `healthy` it may restart any one node, if status recommends a recovery it recovers, and it
//! follows the refusals. If that loses an acknowledged write, or makes two clusters that serve, the run
//! fails.

mod inquiry;
mod judgement;
mod orders;

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use seshat::types::{NodeId, RaftId};

use crate::final_check::FinalCheck;
use crate::invariants::{Verdict, healthy_means_any_one_may_go, no_copy_is_given_up};
use crate::restarts::File;
use crate::sabotage::Sabotage;
use crate::setting::node_info;
use crate::world::{Happening, World};

pub(crate) use inquiry::InquiryId;
use inquiry::{Inquiry, Wish};
use judgement::View;
pub(crate) use judgement::is_healed;
use orders::Claim;

/// Milliseconds for which a removal may be under way.
const LEAVING: u64 = 8_000;

/// The message of a process whose file names no node that takes part.
const LIST_THE_MEMBERS: &str = "list its present members in cluster.initial_members";

/// The state of the operator.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    asked: InquiryId,
    inquiries: BTreeMap<InquiryId, Inquiry>,
    /// Losses that the cluster could not bear.
    pub(crate) disasters: u64,
    /// Time of the last loss of memory.
    pub(crate) last_loss: u64,
    /// Time of its last change of members.
    last_change: u64,
    leaving: Option<(NodeId, u64)>,
    claims: BTreeMap<RaftId, Claim>,
}

impl Operator {
    /// The node whose removal may be under way.
    /// Nothing is left of the cluster that was to remove a member.
    pub(crate) fn forget_removals(&mut self) {
        self.leaving = None;
    }

    pub(crate) fn leaving(&self) -> Option<NodeId> {
        self.leaving.map(|(node, _)| node)
    }
}

impl World {
    /// The operator reads the status of some node that is on.
    pub(crate) fn operate(&mut self) -> Verdict {
        let within = if self.calm { 500 } else { 1_500 };
        let next = self.rng.gen_range(100..within);
        self.schedule(next, Happening::Operate);
        let now = self.now;
        self.operator.leaving.take_if(|(_, until)| *until < now);
        if self.final_check != FinalCheck::Ahead {
            return Ok(());
        }
        let on: Vec<_> = self.processes.keys().copied().collect();
        if on.is_empty() {
            return Ok(());
        }
        let node = on[self.rng.gen_range(0..on.len())];
        self.ask_node(node, Wish::Look);
        Ok(())
    }

    /// The operator reads the status and acts on it. `since` is the time at which it began to ask.
    fn decide(&mut self, view: &View, since: u64) -> Verdict {
        self.trace
            .line(self.now, format_args!("the operator sees {view:?}"));
        if let Some(way) = &view.way {
            healthy_means_any_one_may_go::halted(self.operator.disasters, view.asked)?;
            self.order_recovery(way, view);
            return Ok(());
        }
        for &node in &view.left_over {
            self.start_as_told(node)?;
        }
        if view.forming {
            return self.help_forming(view);
        }
        if self.calm {
            for &node in &view.silent {
                self.switch_on(node);
            }
        }
        if view.leader.is_none() {
            return Ok(());
        }
        for &node in &view.old {
            self.start_as_told(node)?;
        }
        // A moment later, status might have shown that this one takes part again.
        let left_over = view.elsewhere.iter().find(|it| Some(**it) != view.leader);
        if let Some(&node) = left_over.filter(|_| self.operator.last_loss <= since) {
            self.start_as_told(node)?;
        }
        self.rewrite_files_as_told(view)?;
        if self.calm {
            return Ok(());
        }
        if self.plan.sabotage == Some(Sabotage::AlwaysHealthy) {
            return self.do_something(view, self.now);
        }
        if view.healthy {
            return self.do_something(view, since);
        }
        let off = view.silent.iter().copied();
        let off: Vec<_> = off.filter(|it| !self.processes.contains_key(it)).collect();
        if let Some(&node) = off.first() {
            match self.rng.gen_range(0..4) {
                0 => self.switch_on(node),
                1 if view.members.len() > 3 => self.order_removal(view, node),
                2 => self.order_addition(view),
                _ => {}
            }
        }
        Ok(())
    }

    /// The cluster is healthy: the operator may do what it likes.
    fn do_something(&mut self, view: &View, since: u64) -> Verdict {
        if self.setting.rewrites_files && view.members.len() % 2 == 1 {
            self.rewrite_files(&view.members);
        }
        let members: Vec<_> = view.members.iter().copied().collect();
        let grown = members.len() > usize::from(self.setting.founders);
        if self.plan.sabotage == Some(Sabotage::Forgets) && !grown {
            self.order_addition(view);
            return Ok(());
        }
        let node = match self.rng.gen_bool(0.3) {
            true => self.some_node(1.0),
            false => members[self.rng.gen_range(0..members.len())],
        };
        match self.rng.gen_range(0..8) {
            // A moment later, status would not have said so.
            0..=2 if self.operator.last_loss.max(self.operator.last_change) <= since => {
                let bears = self.bears_the_loss_of(&BTreeSet::from([node]));
                healthy_means_any_one_may_go::check(node, bears)?;
                self.summary.obeyed.restarts += 1;
                self.start_as_told(node)?;
            }
            3 | 4 => self.order_addition(view),
            5 if members.len() > 3 => self.order_removal(view, node),
            6 => return self.transfer_leadership(view.leader.unwrap_or(node)),
            _ => {}
        }
        Ok(())
    }

    /// A node is restarted because the operator was told that it may, or must be.
    fn start_as_told(&mut self, node: NodeId) -> Verdict {
        if !self.processes.contains_key(&node) {
            return Ok(());
        }
        let before = self.holders();
        self.trace.line(
            self.now,
            format_args!("the operator starts node {node} again"),
        );
        self.kill(node);
        let off = self.rng.gen_range(0..=200);
        self.schedule(off, Happening::SwitchOn(node));
        match before {
            0 => Ok(()),
            _ => no_copy_is_given_up::last(node, self.holders()),
        }
    }

    /// The number of processes with state of a cluster.
    fn holders(&self) -> usize {
        self.rafts()
            .filter(|raft| raft.storage().applied() > 0)
            .count()
    }

    /// Whether the operator states that a node is gone: it has switched that off, or nothing answers
    /// there, and status does not contradict.
    fn takes_for_gone(&self, node: NodeId, view: &View) -> bool {
        let off = !self.processes.contains_key(&node);
        off || (self.hangs(node) && self.is_reachable(node) && view.gone.contains(&node))
    }

    /// The operator sets the clock that is wrong.
    pub(crate) fn set_clock(&mut self) {
        if let Some((node, _)) = self.setting.lying.take() {
            self.trace.line(
                self.now,
                format_args!("the operator sets the clock of {node}"),
            );
            self.summary.obeyed.clocks += 1;
        }
    }

    /// Sets the clock if the node that was asked waits for that.
    fn set_clock_as_told(&mut self, node: NodeId) {
        let process = self.processes.get(&node);
        let words = process.map(|it| it.replica.waiting_for());
        if words.is_some_and(|it| it.contains("clock")) {
            self.set_clock();
        }
    }

    /// Initial members are missing: the operator states that they are fresh, or switches them on.
    fn help_forming(&mut self, view: &View) -> Verdict {
        self.set_clock_as_told(view.asked);
        if let Some((node, other)) = view.differ {
            // It has nothing to lose.
            self.files.write(node, self.files.get(other));
            return self.start_as_told(node);
        }
        let gone = |node: &NodeId| self.takes_for_gone(*node, view);
        let missing: Vec<_> = view.silent.iter().copied().collect();
        let Some(&first) = missing.iter().find(|node| gone(node)) else {
            return Ok(());
        };
        let all_gone = missing.iter().all(gone);
        let few = 2 * missing.len() < view.members.len();
        if !all_gone || !few || self.calm || self.rng.gen_bool(0.5) {
            self.switch_on(first);
            return Ok(());
        }
        let there = view.members.difference(&view.silent).next();
        if let Some(&lowest) = there {
            self.ask_node(lowest, Wish::Form(missing.into_iter().collect()));
        }
        Ok(())
    }

    /// A process reports that none of the nodes in its file takes part in the running cluster, and that
    /// the file has to name the present members: it does from now on, and the process is restarted.
    fn rewrite_files_as_told(&mut self, view: &View) -> Verdict {
        let Some(cluster) = view.cluster else {
            return Ok(());
        };
        let runs = format!("cluster {cluster} runs");
        for &node in &view.members {
            let process = self.processes.get(&node);
            let words = process.map(|it| it.replica.waiting_for());
            if words.is_some_and(|it| it.starts_with(&runs) && it.ends_with(LIST_THE_MEMBERS)) {
                let file = File {
                    members: view.members.iter().copied().map(node_info).collect(),
                    ..self.files.get(node)
                };
                self.files.write(node, file);
                self.start_as_told(node)?;
            }
        }
        Ok(())
    }

    /// The files of all nodes name the members.
    fn rewrite_files(&mut self, members: &BTreeSet<NodeId>) {
        let file = File {
            members: members.iter().copied().map(node_info).collect(),
            bootstrap: true,
        };
        for &node in members {
            self.files.write(node, file.clone());
        }
    }
}
