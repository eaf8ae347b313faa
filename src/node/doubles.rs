//! Two processes of one node.
//!
//! A restarted process replaces its earlier incarnation, which never answers again. So if incarnations of
//! one node answer in turn, two processes run with its id: a configuration was copied, or an address
//! leads to two machines. Each of them would count as the next incarnation of the other, and the voters
//! would change with each answer. So both are named, and no incarnation is replaced while they go on.

use std::collections::BTreeMap;

use crate::types::{NodeId, RaftId};

/// Number of times that an incarnation has to answer again after another one has, before the two count as
/// two processes. A single late answer looks like two such returns.
const RETURNS: u32 = 4;
/// Ticks after the last return for which they count as two processes.
const REMEMBERED_TICKS: u64 = 600;
/// Ticks for which a process has to go on asking before it surely runs: its questions may be delayed for
/// long, and it may have ended meanwhile.
const ASKING_TICKS: u64 = 100;
/// Ticks after its last question at which a process has stopped asking.
const PAUSE_TICKS: u64 = 40;

/// The incarnations that have answered in turn, as a leader has heard, and the processes that go on asking.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    incarnations: BTreeMap<NodeId, Incarnations>,
    asking: BTreeMap<NodeId, Asking>,
}

/// A process that asks.
#[derive(Debug)]
struct Asking {
    process: RaftId,
    since: u64,
    last: u64,
}

#[derive(Debug)]
struct Incarnations {
    last: RaftId,
    /// The incarnation that answered before the last one.
    other: Option<RaftId>,
    returns: u32,
    returned_at: u64,
}

impl Incarnations {
    fn are_two(&self, now: u64) -> bool {
        self.returns >= RETURNS && now.saturating_sub(self.returned_at) <= REMEMBERED_TICKS
    }

    fn heard(&mut self, id: RaftId, now: u64) {
        if id == self.last {
            return;
        }
        // Returns that lie far apart are those of late answers.
        let recent = now.saturating_sub(self.returned_at) <= REMEMBERED_TICKS;
        self.returns = match self.other {
            Some(other) if other == id && recent => self.returns.saturating_add(1),
            Some(other) if other == id => 1,
            _ => 0,
        };
        self.returned_at = now;
        self.other = Some(std::mem::replace(&mut self.last, id));
    }
}

impl Doubles {
    /// Records that the process `id`, which takes no part, has asked at tick `now`. Returns whether it
    /// has gone on asking for so long that it surely runs.
    pub(super) fn asked(&mut self, id: RaftId, now: u64) -> bool {
        let new = Asking {
            process: id,
            since: now,
            last: now,
        };
        let asking = self.asking.entry(id.node_id()).or_insert(new);
        if asking.process != id || now.saturating_sub(asking.last) > PAUSE_TICKS {
            (asking.process, asking.since) = (id, now);
        }
        asking.last = now;
        now.saturating_sub(asking.since) >= ASKING_TICKS
    }

    /// Records that the process `id` has answered at tick `now`. Returns whether that shows for the first
    /// time that its node has two.
    pub(super) fn heard(&mut self, id: RaftId, now: u64) -> bool {
        let incarnations = self
            .incarnations
            .entry(id.node_id())
            .or_insert(Incarnations {
                last: id,
                other: None,
                returns: 0,
                returned_at: now,
            });
        let before = incarnations.are_two(now);
        incarnations.heard(id, now);
        incarnations.are_two(now) && !before
    }

    /// The two processes of `node`, if it has two at tick `now`, in ascending order.
    pub(super) fn of(&self, node: NodeId, now: u64) -> Option<[RaftId; 2]> {
        let incarnations = self
            .incarnations
            .get(&node)
            .filter(|incarnations| incarnations.are_two(now))?;
        let other = incarnations.other?;
        Some([incarnations.last.min(other), incarnations.last.max(other)])
    }

    /// All such pairs.
    pub(super) fn all(&self, now: u64) -> Vec<[RaftId; 2]> {
        let two = self
            .incarnations
            .iter()
            .filter(|(_, incarnations)| incarnations.are_two(now));
        two.filter_map(|(node, _)| self.of(*node, now)).collect()
    }

    /// Forgets nodes that are not among the desired members `desired`.
    pub(super) fn retain(&mut self, desired: &[NodeId]) {
        self.incarnations.retain(|node, _| desired.contains(node));
        self.asking.retain(|node, _| desired.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raft_id_of(incarnation: u64) -> RaftId {
        RaftId::new(NodeId::new(3).expect("a node id"), incarnation)
    }

    /// The state at tick `now` after these incarnations have answered, one every tick.
    fn after(incarnations: &[u64], now: u64) -> Vec<[RaftId; 2]> {
        let mut doubles = Doubles::default();
        for (tick, incarnation) in (0..).zip(incarnations) {
            doubles.heard(raft_id_of(*incarnation), tick);
        }
        doubles.all(now)
    }

    #[test]
    fn incarnations_that_answer_in_turn_are_two_processes() {
        let both = vec![[raft_id_of(1), raft_id_of(2)]];
        assert_eq!(after(&[1, 2, 1, 2, 1, 2], 6), both);
        assert_eq!(after(&[1, 1, 2, 2, 1, 1, 2, 1, 2], 9), both);
        let later = after(&[1, 2, 1, 2, 1, 2], 6 + REMEMBERED_TICKS);
        assert!(later.is_empty(), "{later:?}");
    }

    #[test]
    fn a_node_that_is_started_again_is_one_process() {
        let late_answer = &[1, 2, 1, 2, 2, 2];
        for incarnations in [&[1, 1, 1][..], &[1, 2, 3, 4, 5, 6, 7, 8], late_answer] {
            let found = after(incarnations, 9);
            assert!(found.is_empty(), "{incarnations:?}: {found:?}");
        }
    }

    #[test]
    fn a_process_that_stops_asking_does_not_count() {
        let counted = |asked: &[u64]| {
            let mut doubles = Doubles::default();
            let asked = asked.iter().map(|now| doubles.asked(raft_id_of(2), *now));
            asked.last() == Some(true)
        };
        let steady: Vec<_> = (0..=ASKING_TICKS).step_by(10).collect();
        assert!(counted(&steady));
        assert!(!counted(&steady[..steady.len() - 1]));
        assert!(!counted(&[0, 20, 40, 60, 60 + PAUSE_TICKS + 1, 120]));
    }

    #[test]
    fn it_is_told_once() {
        let mut doubles = Doubles::default();
        let told = (0..20).filter(|tick| doubles.heard(raft_id_of(tick % 2), *tick));
        assert_eq!(told.count(), 1);
    }
}
