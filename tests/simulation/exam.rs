//! The final check of a run in the wide world: the faults are over, though distances and slow nodes
//! remain. The cluster must heal within a limited time, with the operator's help. Then one node is
//! restarted, as the operator is allowed to, while clients write as much as the slowest node can take;
//! that must heal within a limited time, too.

use rand::Rng;
use seshat::node::RaftNode;
use seshat::types::{NodeId, Role};

use crate::clients::Waiter;
use crate::invariants::{Verdict, Violation, healing_ends_under_load, well_after_the_calm};
use crate::world::{Happening, World};

/// Milliseconds between two checks.
const LOOK: u64 = 100;
/// Milliseconds after the last fault by which the cluster must be healed.
const WELL_WITHIN: u64 = 12_000;
/// Milliseconds within which a restarted node must vote, under any load.
const HEALED_WITHIN: u64 = 8_000;

/// Milliseconds for which the run continues afterwards.
const REST: u64 = 4_000;

/// The progress of the final check.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exam {
    /// The cluster is to heal.
    #[default]
    Ahead,
    /// The node was restarted.
    Healing { node: NodeId, since: u64 },
    /// It has healed.
    Passed,
}

impl World {
    /// Checks the progress.
    pub(crate) fn examine(&mut self) -> Verdict {
        let well = self.is_well();
        match self.exam {
            Exam::Passed => return Ok(()),
            Exam::Ahead if well.is_ok() => self.begin_exam(),
            Exam::Ahead => {
                let late = self.now > self.setting.faulty + WELL_WITHIN;
                if let Some(violation) = well.err().filter(|_| late) {
                    return Err(violation);
                }
            }
            Exam::Healing { since, .. } if well.is_ok() => {
                self.summary.heal_times.push(self.now - since);
                self.trace
                    .line(self.now, format_args!("the exam is passed"));
                self.exam = Exam::Passed;
                self.setting.calm = self.now + REST - self.setting.faulty;
            }
            Exam::Healing { node, since } => {
                let state = || format!("{:?}", well.err());
                healing_ends_under_load::check(node, self.now - since, HEALED_WITHIN, state)?;
            }
        }
        self.schedule(LOOK, Happening::Exam);
        Ok(())
    }

    fn begin_exam(&mut self) {
        let members: Vec<_> = match self.leader() {
            Some(leader) => leader.conf().members.clone(),
            None => return,
        };
        let node = match self.rng.gen_bool(0.3) {
            true => self.some_node(1.0),
            false => members[self.rng.gen_range(0..members.len())],
        };
        self.trace.line(
            self.now,
            format_args!("the exam: node {node} is started again"),
        );
        self.begin(node);
        let since = self.now;
        self.exam = Exam::Healing { node, since };
        self.setting.load = Some(self.setting.bearable_load());
        let until = self.now + HEALED_WITHIN;
        self.schedule(0, Happening::Load { until });
    }

    /// The leader.
    pub(crate) fn leader(&self) -> Option<&RaftNode<Waiter>> {
        let leaders = self.rafts().filter(|raft| raft.role() == Role::Leader);
        leaders.max_by_key(|raft| raft.term())
    }

    /// Whether every member takes part and follows, and no other process does.
    pub(crate) fn is_well(&self) -> Verdict {
        let members = self.leader().map(|leader| leader.conf().members.clone());
        let members = members.unwrap_or_default();
        let desired = self
            .members()
            .filter(|replica| members.contains(&replica.raft_id().node_id()));
        let healed = !members.is_empty() && self.is_healed();
        well_after_the_calm::check_members(desired, healed)?;
        Ok(())
    }

    /// The conditions at the end.
    pub(crate) fn check_exam(&self) -> Verdict {
        if self.exam != Exam::Passed {
            let reason = format!(
                "the exam is not over: {:?}, {:?}",
                self.exam,
                self.is_well()
            );
            return Err(Violation::liveness("healing_ends_under_load", reason));
        }
        self.is_well()?;
        let Some(leader) = self.leader() else {
            return Ok(());
        };
        let members = &leader.conf().members;
        let desired = self
            .members()
            .filter(|replica| members.contains(&replica.raft_id().node_id()));
        let log = self.clusters.log(leader.cluster_id());
        well_after_the_calm::check(desired, true, log)
    }
}
