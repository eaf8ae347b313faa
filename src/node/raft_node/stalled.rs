//! A leader that others hear, and that cannot replicate.
//!
//! Heartbeats and appends travel apart, and a path may carry the small ones and swallow the large: then
//! everybody follows a leader that commits nothing. raft-rs's check of the quorum counts any answer. So
//! a leader watches at each tick whether the logs of the others move. Who holds all of its log, or gets
//! further in it, or is being sent a snapshot, gets on. If for some election timeouts no majority does,
//! the leader steps down, and lets the others stand first: its own log reaches furthest, so it would
//! be elected again. Stepping down is always safe, and costs an election at most once in that time,
//! whether or not anybody else fares better.

use std::collections::BTreeMap;

use raft::{Progress, ProgressState};

use super::RaftNode;
use crate::node::Event;
use crate::types::{LogIndex, Term};

/// Longest election timeouts for which no majority may get on before the leader steps down. Long enough
/// for the largest append on a link that is slow.
const STALLED_TIMEOUTS: usize = 10;

/// How the logs of the others move, while this server leads.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// For each server, what it last held, and for how many ticks it has not got on.
    still: BTreeMap<u64, (LogIndex, usize)>,
    /// The term in which this server stepped down because nobody got on.
    gave_up_in: Option<Term>,
}

impl<W> RaftNode<W> {
    /// One tick has passed.
    pub(super) fn tick_stalls(&mut self) {
        if self.leads_in.is_none() {
            self.stalls.still.clear();
            return;
        }
        let last = self.last_index();
        let longest = self.options.election_max_ticks;
        let patience = longest.saturating_mul(STALLED_TIMEOUTS);
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
        let moving = still.filter(|(_, ticks)| *ticks < patience).count();
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

    /// Whether this server has given leadership up, and nobody has stood for election since.
    pub(super) fn lets_others_stand(&self) -> bool {
        self.stalls.gave_up_in == Some(self.term())
    }
}

/// Whether a follower that held the log up to `held` at the last tick gets on, in a log up to `last`.
fn gets_on(progress: &Progress, held: LogIndex, last: LogIndex) -> bool {
    progress.state == ProgressState::Snapshot
        || progress.matched != held
        || progress.matched >= last
}
