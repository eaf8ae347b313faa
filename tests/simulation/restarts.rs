//! Processes that are killed and restarted, with empty memory.
//!
//! The rule of Seshat: one memory is lost at a time, the next only after the cluster has healed. The
//! first loss of a run needs no condition, because nothing was lost before: it may come while the
//! cluster is still forming.
//!
//! The node that is healing may be killed again at any time. That is no second loss, and loses nothing:
//! the other two run, with all their state, from before the first loss until the node has healed. A
//! joiner that is no voter yet has never voted, and no acknowledgement of it ever counted; the
//! incarnation before it is gone in any case. It may even be promoted and die before all others know: at
//! least one of the other two knows everything that a majority of three agreed on. Only an entry that
//! both of them hold can add the next incarnation, because without the dead one they are the only
//! majority, and an entry that both hold comes after everything that one of them knew to be committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use seshat::node::{RaftOptions, Replica, ReplicaOptions};
use seshat::types::{ClusterMembership, NodeId, RaftId, Role, WallTime};

use crate::process::{Incarnation, Process};
use crate::sabotage::Sabotage;
use crate::setting::{Setting, node_info};
use crate::world::{Happening, TICK, World};

/// The configuration of the nodes.
#[derive(Debug)]
pub(crate) struct Files {
    files: BTreeMap<NodeId, File>,
    /// The last members that each node knew, if they are stored.
    remembered: BTreeMap<NodeId, Arc<ClusterMembership>>,
}

/// The configuration of one node.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) members: ClusterMembership,
    /// Whether it may take part in forming a cluster.
    pub(crate) bootstrap: bool,
}

impl Files {
    pub(crate) fn new(setting: &Setting) -> Self {
        let members = setting.membership();
        let file = |node| {
            let members = members.clone();
            let bootstrap = true;
            (node, File { members, bootstrap })
        };
        Self {
            files: members.ids().map(file).collect(),
            remembered: BTreeMap::new(),
        }
    }

    /// The configuration of the node. A node without one knows itself alone.
    pub(crate) fn get(&self, node: NodeId) -> File {
        self.files.get(&node).cloned().unwrap_or_else(|| File {
            members: [node_info(node)].into_iter().collect(),
            bootstrap: false,
        })
    }

    /// Whether the node has been configured.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.files.contains_key(&node)
    }

    /// The last members that the node knew.
    pub(crate) fn remembered(&self, node: NodeId) -> ClusterMembership {
        let remembered = self.remembered.get(&node);
        remembered.map_or_else(Default::default, |it| ClusterMembership::clone(it))
    }

    /// The process at the node stores the members that it knows.
    pub(crate) fn remember(&mut self, node: NodeId, members: &Arc<ClusterMembership>) {
        let kept = self.remembered.get(&node);
        if kept.is_none_or(|kept| !Arc::ptr_eq(kept, members)) {
            self.remembered.insert(node, Arc::clone(members));
        }
    }

    /// The operator writes a file.
    pub(crate) fn write(&mut self, node: NodeId, file: File) {
        self.files.insert(node, file);
    }
}

/// A loss from which the cluster has not recovered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Healing {
    node: NodeId,
    /// When its present incarnation began.
    since: u64,
}

/// The largest difference between a node's clock and the time of the simulation, in milliseconds.
const CLOCK_ERROR: u64 = 500;

impl World {
    /// The wall clock of `node`, which is a little wrong, and always in the same way. That of a lying node
    /// is hours ahead, or not credible.
    pub(crate) fn wall_time(&self, node: NodeId) -> Option<WallTime> {
        let lie = self.setting.lying.filter(|(lying, _)| *lying == node);
        let ahead = lie.map_or(Some(0), |(_, ahead)| ahead)?;
        let error = self.seed.wrapping_mul(31) % 1_000 + 37 * u64::from(node.get());
        let millis = match self.plan.sabotage {
            Some(Sabotage::SameTime) => 0,
            _ => self.now + error % CLOCK_ERROR,
        };
        WallTime::new(WallTime::FIRST.micros() + 1_000 * (millis + ahead))
    }

    /// A process begins at `node`; an earlier one that ran there, if any, is gone.
    pub(crate) fn begin(&mut self, node: NodeId) {
        let drawn = RaftId::new(node, self.rng.r#gen());
        let former = self.processes.get(&node).map(|it| it.replica.raft_id());
        let raft_id = match (self.plan.sabotage, former) {
            (Some(Sabotage::SameRaftId), Some(former)) => former,
            _ => drawn,
        };
        let File { members, bootstrap } = self.files.get(node);
        let forgets = self.plan.sabotage == Some(Sabotage::Forgets);
        let options = ReplicaOptions {
            raft_id,
            members,
            remembered: if forgets {
                ClusterMembership::default()
            } else {
                self.files.remembered(node)
            },
            bootstrap,
            formation_wait_ticks: if forgets {
                0
            } else {
                self.setting.formation_wait_ticks
            },
            time: self.wall_time(node),
            raft: RaftOptions {
                level: self.setting.level(self.now),
                ..self.setting.raft
            },
            seed: self.rng.r#gen(),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        };
        self.kill(node);
        self.incarnations += 1;
        let mut process = Process::new(self.incarnations, Replica::new(options));
        process.rate = self.rate(process.rate);
        self.clusters.begins(raft_id);
        self.processes.insert(node, process);
        let phase = self.rng.gen_range(0..TICK);
        self.schedule_tick(node, self.incarnations, phase);
    }

    /// Restarts a node, if that is allowed now; otherwise a little later.
    pub(crate) fn restart(&mut self) {
        if self.calm {
            return;
        }
        let whole = self.healing.is_none();
        let first = whole && self.summary.restarts.first == 0;
        let healed = whole && self.is_healed();
        let ungated = self.plan.sabotage == Some(Sabotage::UngatedRestarts);
        let victim = if first || healed || ungated {
            self.victim(ungated)
        } else {
            None
        };
        let Some(node) = victim else {
            self.schedule(50, Happening::Restart);
            return;
        };
        let restarts = &mut self.summary.restarts;
        if first {
            restarts.first += 1;
        } else if healed {
            restarts.healed += 1;
        } else {
            restarts.ungated += 1;
        }
        self.start_again(node);
        if ungated {
            let next = self.rng.gen_range(1..10_000);
            self.schedule(next, Happening::Restart);
        }
    }

    /// The node to kill: a leader rather often. Without a condition on losses a process that takes part
    /// in the cluster must remain: when all have forgotten it, a new one forms, and that is right.
    fn victim(&mut self, ungated: bool) -> Option<NodeId> {
        let node = self.some_node(0.4);
        let takes_part = |process: &Process| process.replica.raft().is_some();
        let part = self.processes.values().filter(|it| takes_part(it)).count();
        let last = part == 1 && takes_part(&self.processes[&node]);
        (!ungated || !last).then_some(node)
    }

    /// Restarts the node that is healing, unless it has healed.
    pub(crate) fn restart_healing(&mut self, node: NodeId, incarnation: Incarnation) {
        let process = &self.processes[&node];
        let heals = self.healing.is_some_and(|healing| healing.node == node);
        if self.calm || process.incarnation != incarnation || !heals {
            return;
        }
        let id = process.replica.raft_id();
        let takes_part = process.replica.raft().is_some();
        let mut rafts = self.processes.values().filter_map(|it| it.replica.raft());
        // A voter is a process whose vote would count for another process: for one that believes it is a
        // voter.
        let votes = rafts.any(|raft| raft.voters().contains(&id));
        let restarts = &mut self.summary.restarts;
        match (votes, takes_part) {
            (true, _) => restarts.promoted += 1,
            (false, true) => restarts.joiners += 1,
            (false, false) => restarts.outside += 1,
        }
        self.start_again(node);
    }

    /// The process at `node` ends, if one runs there. Its memory is lost.
    pub(crate) fn kill(&mut self, node: NodeId) {
        let Some(process) = self.processes.remove(&node) else {
            return;
        };
        let role = process.replica.raft().map(|raft| raft.role());
        self.trace
            .line(self.now, format_args!("node {node}, {role:?}, is killed"));
        self.summary.restarts.leaders += u64::from(role == Some(Role::Leader));
        self.clients.lost(node);
        self.operator.last_loss = self.now;
    }

    fn start_again(&mut self, node: NodeId) {
        self.begin(node);
        self.healing = Some(Healing {
            node,
            since: self.now,
        });
        if self.rng.gen_bool(0.3) {
            let incarnation = self.incarnations;
            let within = [300, 1_500, 4_000][self.rng.gen_range(0..3)];
            let again = self.rng.gen_range(1..within);
            self.schedule(again, Happening::RestartHealing { node, incarnation });
        }
    }

    /// Checks whether the cluster has healed; then the next loss is near.
    pub(crate) fn watch_healing(&mut self) {
        let Some(Healing { node, since }) = self.healing.filter(|_| self.is_healed()) else {
            return;
        };
        self.healing = None;
        let took = self.now - since;
        self.summary.heal_times.push(took);
        self.trace.line(
            self.now,
            format_args!("node {node} has healed in {took} ms"),
        );
        if self.plan.sabotage != Some(Sabotage::UngatedRestarts) {
            let within = [50, 1_000, 3_000][self.rng.gen_range(0..3)];
            let next = self.rng.gen_range(1..within);
            self.schedule(next, Happening::Restart);
        }
    }
}
