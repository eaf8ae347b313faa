//! A leader that others hear, but that cannot replicate.
//!
//! Heartbeats and appends travel apart, and a path may carry small messages and swallow large ones: then
//! all members follow a leader that commits nothing. raft-rs's check of the quorum counts any answer. So
//! a leader checks at each tick whether the logs of the others advance. A log advances if it holds all of
//! the leader's log, or more of it than before, or is being sent a snapshot. If for some election
//! timeouts no majority advances, the leader steps down, and lets the others be candidates first: its own
//! log reaches furthest, so it would be elected again. Stepping down is always safe, and costs at most
//! one election in that time, whether or not another leader fares better.

use std::collections::BTreeMap;

use raft::{Progress, ProgressState};

use super::RaftNode;
use crate::node::Event;
use crate::types::{LogIndex, Term};

/// Longest election timeouts without progress of a majority after which the leader steps down. Long
/// enough for the largest append on a slow link.
const STALLED_TIMEOUTS: usize = 10;

/// The progress of the other logs, while this server leads.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// For each server, the index that it last held, and for how many ticks it has not advanced.
    still: BTreeMap<u64, (LogIndex, usize)>,
    /// The term in which this server stepped down because no majority advanced.
    gave_up_in: Option<Term>,
}

impl<W> RaftNode<W> {
    /// Counts one tick.
    pub(super) fn tick_stalls(&mut self) {
        if self.leads_in.is_none() {
            self.stalls.still.clear();
            return;
        }
        let last = self.last_index();
        let longest = self.options.election_max_ticks;
        let max_wait = longest.saturating_mul(STALLED_TIMEOUTS);
        let voters = self.voters();
        let before = std::mem::take(&mut self.stalls.still);
        for id in &voters {
            let progress = self.raw.raft.prs().get(id.get());
            let (held, ticks) = before.get(&id.get()).copied().unwrap_or_default();
            let moves = *id == self.raft_id || progress.is_none_or(|it| gets_on(it, held, last));
            let ticks = if moves { 0 } else { ticks + 1 };
            let held = progress.map_or(0, |progress| progress.matched);
            self.stalls.still.insert(id.get(), (held, ticks));
        }
        let still = self.stalls.still.values();
        let moving = still.filter(|(_, ticks)| *ticks < max_wait).count();
        if moving <= voters.len() / 2 {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        let (term, commit_index) = (self.term(), self.commit_index());
        self.stalls = Stalls {
            gave_up_in: Some(term),
            ..Stalls::default()
        };
        let gave_up = Event::GaveUp { term, commit_index };
        self.output.events.push(gave_up);
        self.raw.raft.become_follower(term, raft::INVALID_ID);
        self.settle();
    }

    /// Whether this server has given leadership up, and the term has not changed since.
    pub(super) fn lets_others_stand(&self) -> bool {
        self.stalls.gave_up_in == Some(self.term())
    }
}

/// Whether a follower that held the log up to `held` at the last tick advances, in a log up to `last`.
fn gets_on(progress: &Progress, held: LogIndex, last: LogIndex) -> bool {
    progress.state == ProgressState::Snapshot
        || progress.matched != held
        || progress.matched >= last
}
