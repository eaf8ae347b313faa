//! How nodes end and return in a run: one loss of memory at a time, the next only after the cluster has
//! healed; and, if the plan includes it, one loss of most members together, after which only an operator
//! can help.

use std::time::Duration;

use rand::Rng as _;
use rand::seq::IteratorRandom as _;

use crate::health;
use crate::logs::Snapshot;
use crate::nemesis::{Nemesis, host};
use crate::node::FIRST;
use crate::world::World;

/// A node that is down, or about to be.
#[derive(Debug)]
pub(crate) struct Fallen {
    id: u16,
    /// When it starts again; unknown while it shuts down.
    back_at: Option<Duration>,
    back_after: Duration,
    /// It was cut off before it ended.
    silent: bool,
}

/// Members that are about to lose their memory together.
#[derive(Debug)]
pub(crate) struct Doom {
    at: Duration,
    ids: Vec<u16>,
}

impl World {
    /// Ends a node now and then.
    pub(crate) fn fell(&mut self) {
        let now = self.sim.elapsed();
        if let Some(doom) = self.doom.take_if(|doom| doom.at <= now) {
            return self.halt(&doom.ids);
        }
        let may_fall = self.early_fall || self.health.healed();
        let busy = self.doom.is_some() || !self.fallen.is_empty();
        if busy || now < self.next_fall || !may_fall {
            return;
        }
        if self.halts_at.is_some_and(|at| at <= now) && self.health.healed() {
            return self.doom_most();
        }
        if self.trap.is_none() && !self.early_fall && self.rng.gen_bool(0.5) {
            return self.set_trap();
        }
        self.early_fall = false;
        let ids = (1..=self.plan.nodes).filter(|id| Some(*id) != self.trap);
        let id = ids.choose(&mut self.rng).expect("a node");
        if !self.sim.is_host_running(host(id)) {
            return;
        }
        let back_after = match self.rng.gen_bool(0.3) {
            true => Duration::ZERO,
            false => Duration::from_millis(self.rng.gen_range(1..4_000)),
        };
        let cradle = &self.cradles[usize::from(id) - 1];
        let way = self.rng.gen_range(0..4);
        let silent = way == 1;
        if way == 0 {
            cradle.stop();
            self.tell(format_args!("n{id} is asked to shut down"));
            self.shared.count("shutdowns");
        } else {
            if silent {
                // The machine dies: no peer is told that its connections have ended.
                for other in self.all_nodes_but(id) {
                    self.sim.partition(host(id), other);
                }
            }
            let how = if silent { "falls silent" } else { "crashes" };
            self.crash(id, how);
        }
        self.fallen.push(Fallen {
            id,
            back_at: (way != 0).then_some(now + back_after),
            back_after,
            silent,
        });
    }

    fn crash(&mut self, id: u16, how: &str) {
        self.shared.died(id);
        self.sim.crash(host(id));
        self.tell(format_args!("n{id} {how}"));
        self.shared.count("crashes");
    }

    /// Prepares the worst case: a node misses writes, one of those that have them loses its memory, and
    /// then another one is cut off. The rest must not decide anything.
    fn set_trap(&mut self) {
        let behind = self.rng.gen_range(1..=self.plan.nodes);
        self.cut(&[behind], Duration::from_secs(10));
        self.trap = Some(behind);
        self.next_fall = self.sim.elapsed() + Duration::from_millis(self.rng.gen_range(50..1_500));
    }

    /// Most members lose their memory, possibly after the others have missed writes.
    fn doom_most(&mut self) {
        self.halts_at = None;
        let members = health::members(&self.shared.statuses());
        let most = members.len() / 2 + 1;
        let ids = members.iter().copied();
        let mut doomed = ids.choose_multiple(&mut self.rng, most);
        doomed.sort_unstable();
        // A member that has just been added may have no state.
        let voters = health::voters(&self.shared.statuses());
        self.spare_one_of(&voters, &members, &mut doomed);
        let mut at = self.sim.elapsed();
        if self.overstates || self.rng.gen_bool(0.5) {
            // The survivors cannot tell the initial members that there is a cluster: all of these
            // together would form another one.
            let first: Vec<_> = (1..=FIRST).collect();
            self.spare_one_of(&first, &members, &mut doomed);
            let left: Vec<_> = members
                .into_iter()
                .filter(|id| !doomed.contains(id))
                .collect();
            self.cut(&left, Duration::from_secs(10));
            at += Duration::from_millis(self.rng.gen_range(200..1_500));
        }
        self.doom = Some(Doom { at, ids: doomed });
    }

    /// Of `these`, not all are lost: another member is, if there is one.
    fn spare_one_of(&self, these: &[u16], members: &[u16], doomed: &mut Vec<u16>) {
        if these.iter().all(|id| doomed.contains(id)) && members.len() > these.len() {
            let spared = doomed.remove(0);
            let mut others = members.iter().copied();
            let other = others.find(|id| *id != spared && !doomed.contains(id));
            doomed.extend(other);
            self.tell(format_args!("n{spared} is spared"));
        }
    }

    fn halt(&mut self, ids: &[u16]) {
        let now = self.sim.elapsed();
        self.trap = None;
        for &id in ids {
            self.crash(id, "crashes with most others");
            let back_after = Duration::from_millis(self.rng.gen_range(0..3_000));
            self.fallen.push(Fallen {
                id,
                back_at: Some(now + back_after),
                back_after,
                silent: false,
            });
        }
        self.health.memory_lost();
        self.shared.lost.set(true);
        self.shared.count("majorities lost");
        let spell = Duration::from_millis(self.rng.gen_range(100..2_000));
        self.turn(Nemesis::Clear, spell);
    }

    /// Restarts nodes that have been down for long enough.
    pub(crate) fn raise(&mut self) {
        let now = self.sim.elapsed();
        for mut fallen in std::mem::take(&mut self.fallen) {
            if fallen.back_at.is_none() && !self.sim.is_host_running(host(fallen.id)) {
                fallen.back_at = Some(now + fallen.back_after);
            }
            match fallen.back_at {
                Some(at) if at <= now => self.revive(&fallen),
                _ => self.fallen.push(fallen),
            }
        }
        if let Some(id) = self.absent.take_if(|_| self.absent_until <= now) {
            match self
                .shared
                .statuses()
                .values()
                .any(|it| it.leader.is_some())
            {
                true => self.start(id, "starts for the first time"),
                false => self.absent = Some(id),
            }
        }
        self.restart_left_over();
        // The process of a removed node has ended, and its machine restarts it.
        for id in 1..=self.plan.nodes {
            let down = self.absent == Some(id) || self.fallen.iter().any(|it| it.id == id);
            if !down && !self.sim.is_host_running(host(id)) {
                let after = self.rng.gen_range(10..3_000);
                let at = *self
                    .returns
                    .entry(id)
                    .or_insert(now + Duration::from_millis(after));
                if at <= now {
                    self.returns.remove(&id);
                    self.start(id, "starts again, though it was removed");
                }
            }
        }
    }

    /// A survivor that was not recovered from stays out of the new cluster until it is restarted, which
    /// should happen when all others vote in it: until then it is a copy.
    fn restart_left_over(&mut self) {
        let left_over = self.shared.left_over.borrow().first().copied();
        let Some(id) = left_over.and_then(|id| u16::try_from(id).ok()) else {
            return;
        };
        let statuses = self.shared.statuses();
        if !self.shared.is_recovered() || !health::all_vote_but(&statuses, id) {
            return;
        }
        self.shared.left_over.borrow_mut().clear();
        if statuses.contains_key(&id) {
            self.crash(id, "is stopped, as it has the state of the old cluster");
            self.fallen.push(Fallen {
                id,
                back_at: Some(self.sim.elapsed()),
                back_after: Duration::ZERO,
                silent: false,
            });
        }
    }

    fn start(&mut self, id: u16, how: &str) {
        self.sim.bounce(host(id));
        self.tell(format_args!("n{id} {how}"));
    }

    fn revive(&mut self, fallen: &Fallen) {
        let id = fallen.id;
        if fallen.silent {
            for other in self.all_nodes_but(id) {
                self.sim.release(host(id), other);
            }
            self.nemesis.begin(&mut self.sim);
        }
        if let Some(behind) = self.trap.take() {
            let mut others = 1..=self.plan.nodes;
            let ahead = others.find(|other| ![id, behind].contains(other));
            let spell = Duration::from_millis(self.rng.gen_range(500..4_000));
            self.cut(&[ahead.expect("a third node")], spell);
        }
        self.health.memory_lost();
        self.start(id, "starts again");
        self.next_fall = self.sim.elapsed() + Duration::from_millis(self.rng.gen_range(1..2_000));
    }

    /// Cuts a node off now and then in the middle of the chunks of a snapshot.
    pub(crate) fn tear(&mut self) {
        let now = self.sim.elapsed();
        for snapshot in self.logs.snapshots() {
            match snapshot {
                Snapshot::SentTo(id) if self.rng.gen_bool(0.7) => {
                    let share = self.rng.gen_range(0.0..2.0);
                    self.tears
                        .insert(id, now + self.longest_delay.mul_f64(share));
                }
                Snapshot::SentTo(_) => {}
                Snapshot::InstalledBy(id) => drop(self.tears.remove(&id)),
            }
        }
        let due = self.tears.iter().find(|(_, at)| **at <= now);
        let Some(id) = due.map(|(id, _)| *id) else {
            return;
        };
        self.tears.remove(&id);
        if self.trap.is_none() && self.doom.is_none() {
            self.shared.count("snapshots torn");
            let spell = Duration::from_millis(self.rng.gen_range(50..1_500));
            self.cut(&[id], spell);
        }
    }

    fn all_nodes_but(&self, id: u16) -> Vec<String> {
        let nodes = (1..=self.plan.nodes).filter(|other| *other != id).map(host);
        nodes.chain(self.clients.iter().cloned()).collect()
    }
}
