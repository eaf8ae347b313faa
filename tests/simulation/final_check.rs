//! The final check of a run in the wide world: the faults are over, though distances and slow nodes
//! remain. The cluster must heal within a limited time, with the help of the operator. Then one node is
//! restarted, as status permits, while clients write as much as the slowest node can take. The cluster
//! must heal within a limited time again.

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
pub(crate) enum FinalCheck {
    /// The cluster is to heal.
    #[default]
    Ahead,
    /// The node was restarted.
    Healing { node: NodeId, since: u64 },
    /// It has healed.
    Passed,
}

impl World {
    /// Moves the final check forward, if the cluster is ready for its next part.
    pub(crate) fn advance_final_check(&mut self) -> Verdict {
        let well = self.is_well();
        match self.final_check {
            FinalCheck::Passed => return Ok(()),
            FinalCheck::Ahead if well.is_ok() => self.begin_final_check(),
            FinalCheck::Ahead => {
                let late = self.now > self.setting.faulty + WELL_WITHIN;
                if let Some(violation) = well.err().filter(|_| late) {
                    return Err(violation);
                }
            }
            FinalCheck::Healing { since, .. } if well.is_ok() => {
                self.summary.heal_times.push(self.now - since);
                self.trace
                    .line(self.now, format_args!("the final check has passed"));
                self.final_check = FinalCheck::Passed;
                self.setting.calm = self.now + REST - self.setting.faulty;
            }
            FinalCheck::Healing { node, since } => {
                let state = || format!("{:?}", well.err());
                healing_ends_under_load::check(node, self.now - since, HEALED_WITHIN, state)?;
            }
        }
        self.schedule(LOOK, Happening::FinalCheck);
        Ok(())
    }

    fn begin_final_check(&mut self) {
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
            format_args!("final check: node {node} is started again"),
        );
        self.begin(node);
        let since = self.now;
        self.final_check = FinalCheck::Healing { node, since };
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
    pub(crate) fn check_end_of_final_check(&self) -> Verdict {
        if self.final_check != FinalCheck::Passed {
            let reason = format!(
                "the final check has not passed: {:?}, {:?}",
                self.final_check,
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
