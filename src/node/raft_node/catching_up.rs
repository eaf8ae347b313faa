//! Which servers keep up with the leader's log.
//!
//! A number of entries says little about how far a follower is behind: under load hundreds of them are
//! always on their way to a follower that is a few milliseconds away, and in a quiet cluster a dozen
//! may be all that there ever was. So it is measured in time, as the dissertation does for new servers
//! (section 4.2.1): replication is seen as rounds, each of which replicates what the log held when the
//! round began, and a server has caught up when a round takes it less than an election timeout. Were
//! it to lead or to be waited for then, nobody would notice a longer pause than an election makes.
//!
//! A round begins with each tick, and all of them are watched at once: a server keeps up as long as it
//! has acknowledged what the log held an election timeout ago. This one measure decides who is promoted,
//! to whom leadership is handed over, and whom status and health call healthy.

use std::collections::VecDeque;

use raft::ProgressState;

use super::RaftNode;
use crate::types::{LogIndex, RaftId};

/// Where the leader's log ended at the beginning of each round that may still be under way.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Rounds that are watched: as many as an election timeout has ticks.
    limit: usize,
    /// Last index of the log, oldest round first. Empty while this server does not lead.
    ends: VecDeque<LogIndex>,
}

impl Rounds {
    /// The rounds of a server that does not lead yet; one may take up to `limit` ticks.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            ends: VecDeque::new(),
        }
    }

    /// Leadership has ended, or begun with a log that ends at `last_index`.
    pub(super) fn restart(&mut self, last_index: Option<LogIndex>) {
        self.ends.clear();
        self.ends.extend(last_index);
    }

    /// One tick has passed: the next round replicates what the log holds now.
    pub(super) fn tick(&mut self, last_index: LogIndex) {
        if self.ends.is_empty() {
            return;
        }
        self.ends.push_back(last_index);
        while self.ends.len() > self.limit {
            self.ends.pop_front();
        }
    }

    /// What everybody holds that keeps up; `None` while this server does not lead.
    fn due(&self) -> Option<LogIndex> {
        self.ends.front().copied()
    }
}

impl<W> RaftNode<W> {
    /// Whether the server `id` keeps up with the log of this one, which leads: whether it has
    /// acknowledged everything that the log held an election timeout ago (or when leadership began, if
    /// that is less). This server itself keeps up while it has committed as much. `false` for
    /// everybody if this server does not lead. It says nothing about who lives *now*: in a quiet cluster
    /// there is nothing to acknowledge.
    pub(in crate::node) fn keeps_up(&self, id: RaftId) -> bool {
        let raft = &self.raw.raft;
        let Some(due) = self.rounds.due() else {
            return false;
        };
        if id == self.raft_id {
            return raft.raft_log.committed >= due;
        }
        raft.prs().get(id.get()).is_some_and(|progress| {
            progress.state != ProgressState::Snapshot && progress.matched >= due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_may_take_less_than_an_election_timeout() {
        let mut rounds = Rounds::new(3);
        rounds.tick(5);
        assert_eq!(rounds.due(), None, "it does not lead");
        rounds.restart(Some(10));
        assert_eq!(rounds.due(), Some(10));
        rounds.tick(20);
        rounds.tick(30);
        assert_eq!(rounds.due(), Some(10), "two ticks ago");
        rounds.tick(40);
        assert_eq!(rounds.due(), Some(20));
        rounds.restart(None);
        assert_eq!(rounds.due(), None);
    }
}
