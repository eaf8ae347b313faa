//! Which servers keep up with the leader's log.
//!
//! A number of entries says little about how far a follower is behind: under load hundreds of entries are
//! always on their way to a follower that is a few milliseconds away, and in a quiet cluster a dozen may
//! be the whole log. So the measure is time, as in the dissertation for new servers (section 4.2.1):
//! replication is seen as rounds, each of which replicates the log as it was when the round began, and a
//! server has caught up when a round takes it less than an election timeout. If it became leader or part
//! of the quorum then, the pause would be no longer than that of an election.
//!
//! A round begins with each tick, and all rounds are watched at once: a server keeps up as long as it has
//! acknowledged the log as it was an election timeout ago. Under more load than the voters themselves can
//! carry no server does. So a server to be promoted or to lead only has to hold the entries that were
//! *committed* an election timeout ago: then it is no worse than the servers that the leader waits for.
//! This one measure decides which learner is promoted, which voter leadership is transferred to, and
//! which voters the cluster can do without. With the longest election timeout it also decides which
//! servers status and health call healthy.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::{Progress, ProgressState};

use super::RaftNode;
use crate::types::{Following, LogIndex, RaftId};

/// The log that a round replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// Last index of the leader's log when it began.
    last_index: LogIndex,
    /// Highest committed index when it began.
    committed: LogIndex,
}

/// The rounds that may still be under way.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// One for each of the last ticks, the oldest first. Empty while this server does not lead.
    begun: VecDeque<Round>,
    following: Option<Arc<Following>>,
}

impl Rounds {
    /// Begins the next round. Forgets the rounds that began more than `limit` ticks ago.
    fn begin(&mut self, round: Round, limit: usize) {
        self.begun.push_back(round);
        while self.begun.len() > limit.saturating_add(1) {
            self.begun.pop_front();
        }
    }

    /// The round that began `ticks` ago, or the first one if there are fewer. `None` while this server
    /// does not lead.
    fn due(&self, ticks: usize) -> Option<Round> {
        let due = self.begun.len().saturating_sub(ticks.saturating_add(1));
        self.begun.get(due).copied()
    }
}

impl<W> RaftNode<W> {
    /// Restarts the rounds when leadership begins or ends.
    pub(super) fn restart_rounds(&mut self) {
        self.rounds = Rounds::default();
        self.begin_round();
    }

    /// Counts one tick.
    pub(super) fn tick_rounds(&mut self) {
        if self.leads_in.is_some() {
            self.begin_round();
            self.rounds.following = self.look_back().map(Arc::new);
        }
    }

    fn begin_round(&mut self) {
        if self.leads_in.is_some() {
            let round = Round {
                last_index: self.last_index(),
                committed: self.commit_index(),
            };
            self.rounds.begin(round, self.options.election_max_ticks);
        }
    }

    /// The servers that have acknowledged the log as it was the longest election timeout ago.
    fn look_back(&self) -> Option<Following> {
        let Round {
            last_index,
            committed: commit_index,
        } = self.rounds.due(self.options.election_max_ticks)?;
        let ids = self.raw.raft.prs().iter();
        let ids = ids.filter_map(|(id, _)| RaftId::try_from(*id).ok());
        let mut acknowledged_by: Vec<_> = ids
            .filter(|&id| id == self.raft_id || self.holds(id, last_index))
            .collect();
        // raft-rs keeps them in no order, and the same inputs have to give the same outputs.
        acknowledged_by.sort_unstable();
        Some(Following {
            last_index,
            commit_index,
            acknowledged_by,
        })
    }

    /// Which logs follow the log of this server, at the last tick. `None` until the first tick of its
    /// leadership, and if it does not lead.
    pub(in crate::node) fn following(&self) -> Option<Arc<Following>> {
        self.rounds.following.clone()
    }

    /// Whether the server `id` could replace one of those that the leader waits for: whether it has
    /// acknowledged all entries that were committed the shortest election timeout ago (or when leadership
    /// began, if that is later). Always `false` if this server does not lead.
    pub(in crate::node) fn has_caught_up(&self, id: RaftId) -> bool {
        let due = self.rounds.due(self.options.election_min_ticks);
        due.is_some_and(|round| self.holds(id, round.committed))
    }

    fn holds(&self, id: RaftId, index: LogIndex) -> bool {
        let holds = |progress: &Progress| {
            progress.state != ProgressState::Snapshot && progress.matched >= index
        };
        self.raw.raft.prs().get(id.get()).is_some_and(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_due_after_a_number_of_ticks() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.due(2), None, "it does not lead");
        let round = |last_index| Round {
            last_index,
            committed: last_index - 1,
        };
        for last_index in [10, 20, 30] {
            rounds.begin(round(last_index), 3);
            assert_eq!(rounds.due(2), Some(round(10)));
        }
        rounds.begin(round(40), 3);
        rounds.begin(round(50), 3);
        assert_eq!(rounds.due(0), Some(round(50)));
        assert_eq!(rounds.due(2), Some(round(30)));
        assert_eq!(rounds.due(3), Some(round(20)));
        assert_eq!(rounds.due(9), Some(round(20)), "forgotten");
    }
}
