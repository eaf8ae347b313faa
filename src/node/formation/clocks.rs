//! The clocks of the initial members, which have to agree before a cluster with revisions forms.
//!
//! Revisions begin at the time of the formation. A clock that is far ahead would take revisions away from
//! later clusters, and one that is far behind would give those of earlier clusters again. So no cluster
//! forms while the clock of a member differs by more than an hour from that of the coordinator.

use super::known::Peer;
use super::{Formation, NodeId, ProtocolLevel, waiting};
use crate::types::WallTime;

impl Formation {
    /// Sets the time of the wall clock of this process. `None` if it is not credible.
    pub fn set_time(&mut self, time: Option<WallTime>) {
        self.time = time;
    }

    /// The time of the formation of a cluster of `level`, which all clocks agree about: the latest of them.
    /// `None` at the first level, which has no revisions.
    ///
    /// # Errors
    ///
    /// The clock of this process or of another initial member is wrong.
    pub(super) fn formation_time(
        &self,
        level: ProtocolLevel,
    ) -> Result<Option<WallTime>, ClocksDiffer> {
        if level == ProtocolLevel::FIRST {
            return Ok(None);
        }
        let own = self.time.ok_or(ClocksDiffer)?;
        if !self.differing_clocks().is_empty() {
            return Err(ClocksDiffer);
        }
        let others = self.heard_initial().filter_map(|(_, time)| time);
        Ok(Some(others.fold(own, WallTime::max)))
    }

    /// The initial members whose clocks differ from that of this process by more than an hour, or are not
    /// credible. None if the clock of this process is not credible itself.
    pub(super) fn differing_clocks(&self) -> Vec<NodeId> {
        let Some(own) = self.time else {
            return Vec::new();
        };
        let agrees = |time: Option<WallTime>| time.is_some_and(|time| time.agrees_with(own));
        let heard = self.heard_initial();
        let differing = heard.filter(|&(_, time)| !agrees(time));
        differing.map(|(node, _)| node).collect()
    }

    /// Which clocks are wrong, as text. `None` if none is.
    pub(super) fn waiting_for_clocks(&self) -> Option<String> {
        let all_tell = self.initial().count() == self.heard_initial().count();
        if self.level == ProtocolLevel::FIRST || !all_tell {
            return None;
        }
        if self.time.is_none() {
            return Some(waiting::no_clock());
        }
        let differing = self.differing_clocks();
        (!differing.is_empty()).then(|| waiting::clocks(&differing))
    }

    /// The initial members that have answered, and the time in their answers. Without those of the first
    /// protocol level, which tell no time.
    fn heard_initial(&self) -> impl Iterator<Item = (NodeId, Option<WallTime>)> {
        self.initial().filter_map(|(&id, peer)| {
            let (status, _) = peer.heard.as_ref()?;
            (status.level > ProtocolLevel::FIRST).then_some((id, status.time))
        })
    }

    /// The initial members beside this one that are to form the cluster.
    fn initial(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        let peers = self.peers.iter();
        peers.filter(|&(&id, _)| self.members.contains(id) && !self.is_left_out(id))
    }
}

/// The clocks of the initial members differ, or one of them is not credible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClocksDiffer;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::node::{Call, CallId, Reply};
    use crate::types::{Answering, NodeStatus, RaftId};

    const FIRST: ProtocolLevel = ProtocolLevel::FIRST;
    const SECOND: ProtocolLevel = ProtocolLevel::SECOND;
    const MINUTE: u64 = 60_000_000;

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn minutes(minutes: u64) -> Option<WallTime> {
        WallTime::new(WallTime::FIRST.micros() + minutes * MINUTE)
    }

    /// Node 1 of three, at this time.
    fn at(time: Option<WallTime>) -> Formation {
        let members = [1, 2, 3].map(node).into();
        let mut formation = Formation::new(RaftId::new(node(1), 1), &members, true, 42);
        formation.set_time(time);
        formation
    }

    /// Node `id` answers.
    fn hear(formation: &mut Formation, id: u16, reply: Reply) {
        let to = node(id);
        formation.call(to, Call::Identify(formation.introduction()));
        let (CallId { number, .. }, _) = formation.take_calls().pop().expect("a call");
        formation.replied(CallId { to, number }, reply);
    }

    fn says(id: u16, level: ProtocolLevel, time: Option<WallTime>) -> Reply {
        Reply::Identified(Box::new(NodeStatus {
            level,
            time,
            ..NodeStatus::fresh(RaftId::new(node(id), 1))
        }))
    }

    /// Node 1 after the other two have told their times.
    fn heard(own: Option<WallTime>, others: [Option<WallTime>; 2]) -> Formation {
        let mut formation = at(own);
        for (id, time) in [2, 3].into_iter().zip(others) {
            hear(&mut formation, id, says(id, SECOND, time));
        }
        formation
    }

    #[test]
    fn a_cluster_forms_at_the_latest_time() {
        let latest = Ok(minutes(60));
        let formation = heard(minutes(0), [minutes(60), minutes(30)]);
        assert_eq!(formation.formation_time(SECOND), latest);
        assert_eq!(formation.waiting_for_clocks(), None);
        let formation = heard(minutes(60), [minutes(0), minutes(30)]);
        assert_eq!(formation.formation_time(SECOND), latest);
    }

    #[test]
    fn no_cluster_forms_while_clocks_differ_and_each_is_named() {
        for time in [minutes(61), None] {
            let formation = heard(minutes(0), [minutes(1), time]);
            assert_eq!(formation.formation_time(SECOND), Err(ClocksDiffer));
            let words = formation.waiting_for_clocks().expect("it waits");
            assert!(words.starts_with("the clock of node 3 differs"), "{words}");
        }
        let formation = heard(minutes(62), [minutes(0), minutes(1)]);
        let words = formation.waiting_for_clocks().expect("it waits");
        assert!(
            words.starts_with("the clocks of nodes 2 and 3 differ"),
            "{words}"
        );
    }

    #[test]
    fn a_process_whose_own_clock_is_wrong_says_that() {
        let formation = heard(None, [minutes(0), minutes(0)]);
        assert_eq!(formation.formation_time(SECOND), Err(ClocksDiffer));
        assert_eq!(formation.differing_clocks(), []);
        assert_eq!(formation.waiting_for_clocks(), Some(waiting::no_clock()));
    }

    #[test]
    fn a_cluster_of_the_first_level_needs_no_clock() {
        let mut formation = at(None);
        hear(&mut formation, 2, says(2, SECOND, None));
        hear(&mut formation, 3, says(3, FIRST, None));
        assert_eq!(formation.formation_time(FIRST), Ok(None));
        assert_eq!(formation.waiting_for_clocks(), None);
    }

    #[test]
    fn nothing_is_said_before_all_have_told_their_times() {
        let mut formation = at(minutes(0));
        hear(&mut formation, 2, says(2, SECOND, None));
        assert_eq!(formation.waiting_for_clocks(), None);
        hear(&mut formation, 3, says(3, SECOND, minutes(0)));
        assert!(formation.waiting_for_clocks().is_some());
    }

    #[test]
    fn a_node_that_is_left_out_has_no_clock() {
        let mut formation = at(minutes(0));
        hear(&mut formation, 2, says(2, SECOND, minutes(61)));
        hear(&mut formation, 3, Reply::Misdirected(Answering::Silent));
        assert_eq!(formation.form_without(BTreeSet::from([node(3)])), Ok(()));
        hear(&mut formation, 2, says(2, SECOND, minutes(61)));
        let words = formation.waiting_for_clocks().expect("it waits");
        assert!(words.starts_with("the clock of node 2 differs"), "{words}");
    }
}
