//! The leader brings the Raft group in line with the desired members, and the level of the cluster in line
//! with what they speak: see [`Reconciler`](crate::node::reconcile::Reconciler).

use super::Replica;
use crate::node::Event;
use crate::types::{NodeStatus, RaftId, Role};

impl<W> Replica<W> {
    /// Takes the next step towards the desired members, if this node may take one, or asks the questions
    /// that the step needs.
    pub(super) fn reconcile(&mut self) {
        let Some(raft) = &mut self.raft else { return };
        let Some(members) = raft.members() else {
            return;
        };
        if !raft.is_member() {
            if self.reconciler.may_transfer() && raft.transfer_to_a_member() {
                self.reconciler
                    .handing_over(self.options.raft.election_min_ticks);
            }
            return;
        }
        let desired = &raft.conf().members;
        let (cluster_id, level) = (raft.cluster_id(), raft.level());
        let levels = (self.options.raft.level, level);
        if let Some(change) = self.reconciler.plan((cluster_id, level), desired, &members) {
            raft.change_members(change);
        } else if let Some(level) = self.reconciler.raise(cluster_id, levels, desired, &members) {
            let differing = self.reconciler.differing_clocks(self.time);
            match self.time.filter(|_| differing.is_empty()) {
                Some(time) => raft.raise_level(level, time),
                None if self.clocks_told => {}
                None => {
                    self.clocks_told = true;
                    let differ = Event::ClocksDiffer { nodes: differing };
                    self.output.events.push(differ);
                }
            }
        }
        let questions = self.reconciler.questions();
        self.ask(questions);
    }

    /// Emits an event, once, for a process that cannot be added, that has smaller limits, or that answers
    /// in turn with another one of the same node.
    pub(super) fn look_at(&mut self, status: &NodeStatus) {
        let raft = self.raft.as_ref();
        let Some(raft) = raft.filter(|raft| raft.role() == Role::Leader) else {
            return;
        };
        let needed = raft.level();
        if self.reconciler.shows_old(status, needed) {
            self.output.events.push(Event::TooOld {
                process: status.raft_id,
                level: status.level,
                needed,
            });
        }
        let less = self.agreed.shows_less(status);
        let events = less
            .into_iter()
            .map(|(limit, there, here)| Event::TakesLess {
                process: status.raft_id,
                limit,
                there,
                here,
            });
        self.output.events.extend(events);
        self.look_for_doubles(status.raft_id);
    }

    /// Emits an event, once, if the node of the process `id`, which this leader has heard, has two processes.
    pub(super) fn look_for_doubles(&mut self, id: RaftId) {
        if let Some(processes) = self.reconciler.doubled(id) {
            let addr = self.directory.nodes().get(id.node_id());
            let addr = addr.map_or_else(String::new, |info| info.addr.clone());
            self.output.events.push(Event::Doubled { processes, addr });
        }
    }
}
