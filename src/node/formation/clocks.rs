//! The clocks of the initial members, which have to agree before a cluster with revisions forms.
//!
//! Revisions begin at the time of the formation. A clock that is far ahead would take revisions away from
//! later clusters, and one that is far behind would give those of earlier clusters again. So no cluster
//! forms while the clock of a member differs by more than an hour from that of the coordinator.

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
        let initial = self.peers.keys().filter(|id| self.members.contains(**id));
        let all_tell = initial.count() == self.heard_initial().count();
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
        let peers = self.peers.iter();
        let initial = peers.filter(|&(&id, _)| self.members.contains(id) && !self.is_left_out(id));
        initial.filter_map(|(&id, peer)| {
            let (status, _) = peer.heard.as_ref()?;
            (status.level > ProtocolLevel::FIRST).then_some((id, status.time))
        })
    }
}

/// The clocks of the initial members differ, or one of them is not credible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClocksDiffer;
