//! The leader's part in the replicated clock: it proposes the steps, with the sessions that are renewed.
//!
//! A step is the time that this server has counted since its previous one, or since it began to lead, so no
//! time counts twice, and none counts in which there was no leader. There are no steps while nothing can
//! end. One step at a time is in the log and not applied: if the log stands still, so does the clock.
//!
//! One command holds a bounded number of renewals. Those that came before a step are in its command or in an
//! earlier one, which advances the clock by nothing: no session ends while its client waits for a renewal.
//!
//! Whether a session lives is decided where its renewal is applied. A leader that was replaced may not know a
//! session that its successor has opened, and must not call it expired.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::Entry;

use super::RaftNode;
use crate::error::{Reason, Refusal};
use crate::kv::{Command, MAX_LIVING_SESSIONS, MAX_RENEWED, MAX_STEP};
use crate::node::Answer;
use crate::types::{ClientId, LogIndex, Millis, Revision};
use crate::wire;

/// Time between two steps.
pub const CLOCK_INTERVAL: Millis = 250;
/// Maximum number of calls that wait for the renewal of one session: a client needs one.
const MAX_CALLS: usize = 4;

/// Calls that wait for the renewals of their sessions.
type Calls<W> = BTreeMap<ClientId, Vec<W>>;

/// The time that this server counts, and the renewals.
pub(super) struct LeaderClock<W> {
    /// Time since some moment, by the monotonic clock of the process.
    uptime: Millis,
    /// The uptime up to which all time is part of a step. `None` until the uptime is known at which this server
    /// began to lead.
    counted: Option<Millis>,
    /// Renewals that are not proposed.
    waiting: Calls<W>,
    /// The sessions of `waiting`, in the order in which they came.
    order: VecDeque<ClientId>,
    /// The next step, if it is time for it.
    next: Option<Step>,
    /// The uptime at which raft-rs refused a proposal, during a transfer of leadership.
    refused_at: Option<Millis>,
    /// The command that is not applied.
    proposed: Option<(LogIndex, Calls<W>)>,
}

/// A step of the clock.
#[derive(Clone, Copy)]
struct Step {
    /// The uptime up to which it counts.
    until: Millis,
    /// The number of renewals that came before.
    renewals: usize,
}

impl<W> Default for LeaderClock<W> {
    fn default() -> Self {
        Self {
            uptime: 0,
            counted: None,
            waiting: Calls::new(),
            order: VecDeque::new(),
            next: None,
            refused_at: None,
            proposed: None,
        }
    }
}

impl<W> LeaderClock<W> {
    pub(super) fn uptime(&self) -> Millis {
        self.uptime
    }

    /// The number of calls that wait.
    pub(super) fn len(&self) -> usize {
        let proposed = self.proposed.iter().flat_map(|(_, calls)| calls.values());
        proposed.chain(self.waiting.values()).map(Vec::len).sum()
    }

    /// Adds a call. Returns one that has no place: this one, or an earlier one for the same session, whose
    /// client has probably given it up.
    fn push(&mut self, client_id: ClientId, waiter: W) -> Option<(W, Reason)> {
        let full = |waiter, what, limit: usize| {
            let limit = u64::try_from(limit).unwrap_or(u64::MAX);
            Some((waiter, Reason::Overloaded { what, limit }))
        };
        let is_full = self.waiting.len() >= MAX_LIVING_SESSIONS;
        match self.waiting.get_mut(&client_id) {
            Some(calls) => {
                let oldest = (calls.len() >= MAX_CALLS).then(|| calls.remove(0));
                calls.push(waiter);
                full(oldest?, "keep_alives_of_a_session", MAX_CALLS)
            }
            None if is_full => full(waiter, "keep_alives", MAX_LIVING_SESSIONS),
            None => {
                self.waiting.insert(client_id, vec![waiter]);
                self.order.push_back(client_id);
                None
            }
        }
    }

    /// Whether raft-rs has refused a proposal a moment ago.
    fn holds_off(&self) -> bool {
        let refused = self.refused_at;
        refused.is_some_and(|at| self.uptime.saturating_sub(at) < CLOCK_INTERVAL)
    }

    /// The command that is to be proposed now: its step, and the sessions that it renews. `is_due`: something is
    /// to be removed without a step.
    fn next_command(&mut self, is_due: bool) -> Option<(Millis, Vec<ClientId>)> {
        let counted = self.counted?;
        let (until, renewals) = (self.uptime, self.order.len());
        if self.next.is_none() && until.saturating_sub(counted) >= CLOCK_INTERVAL {
            self.next = Some(Step { until, renewals });
        }
        if self.next.is_none() && !is_due {
            return None;
        }
        let step = self.next.filter(|next| next.renewals <= MAX_RENEWED);
        let step = step.map_or(0, |next| next.until.saturating_sub(counted).min(MAX_STEP));
        Some((step, self.order.iter().take(MAX_RENEWED).copied().collect()))
    }

    /// Moves the calls for `renewed`, the first in order, to the command at `index`.
    fn propose(&mut self, index: LogIndex, renewed: &[ClientId]) {
        self.order.drain(..renewed.len());
        let calls = renewed
            .iter()
            .filter_map(|id| self.waiting.remove_entry(id));
        self.proposed = Some((index, calls.collect()));
        match &mut self.next {
            Some(next) if next.renewals > MAX_RENEWED => next.renewals -= MAX_RENEWED,
            next => self.counted = next.take().map(|next| next.until).or(self.counted),
        }
    }

    /// Removes all calls: those whose renewal is in the log, and the others. No time counts up to the next
    /// one that is set.
    pub(super) fn restart(&mut self) -> (Vec<W>, Vec<W>) {
        let uptime = self.uptime;
        let Self {
            waiting, proposed, ..
        } = std::mem::take(self);
        self.uptime = uptime;
        let proposed = proposed.into_iter().flat_map(|(_, calls)| calls);
        (
            proposed.flat_map(|(_, calls)| calls).collect(),
            waiting.into_values().flatten().collect(),
        )
    }
}

impl<W> RaftNode<W> {
    /// Sets the time of the monotonic clock of the process. Only differences count.
    pub fn set_uptime(&mut self, uptime: Millis) {
        let uptime = self.clock.uptime.max(uptime);
        self.clock.uptime = uptime;
        self.clock.counted.get_or_insert(uptime);
    }

    /// Renews a session with the next step of the clock. No other request keeps it waiting.
    pub fn keep_alive(&mut self, client_id: ClientId, waiter: W) {
        let refused = match self.serves() {
            Ok(()) => self.clock.push(client_id, waiter),
            Err(reason) => Some((waiter, reason)),
        };
        if let Some((waiter, reason)) = refused {
            self.refuse(waiter, Refusal::not_applied(reason));
        }
    }

    /// Whether the clock may go on: this server leads, and no command waits.
    fn has_clock(&self) -> bool {
        self.leads_in.is_some() && self.clock.proposed.is_none() && !self.clock.holds_off()
    }

    /// Whether the clock is to go on at once: more is to be removed or renewed than one command may.
    pub fn clock_goes_on(&self) -> bool {
        self.has_clock() && (self.clock.next.is_some() || self.is_due())
    }

    fn is_due(&self) -> bool {
        self.raw.store().state_machine().clock().is_due()
    }

    /// Proposes a command of the clock if it is time. To be called only when all calls of [`keep_alive`] that have
    /// come have been handed in: otherwise a session could end although its client has asked for a renewal.
    ///
    /// [`keep_alive`]: Self::keep_alive
    pub fn advance_clock(&mut self) {
        let has_deadlines = self.raw.store().state_machine().clock().has_deadlines();
        if !self.has_clock() || !has_deadlines && self.clock.order.is_empty() {
            return;
        }
        let is_due = self.is_due();
        let Some((step, renewed)) = self.clock.next_command(is_due) else {
            return;
        };
        let command = Command::Clock {
            step,
            renewed: renewed.clone(),
        };
        let entry = Entry {
            data: wire::encode_command(&command),
            ..Entry::default()
        };
        if self.put_into_log(vec![entry], Vec::new()) {
            self.clock.propose(self.last_index(), &renewed);
        } else {
            self.clock.next = None;
            self.clock.refused_at = Some(self.clock.uptime);
        }
        self.settle();
    }

    /// Answers the calls that waited for the step at `index`, which has been applied.
    pub(super) fn clock_advanced(&mut self, index: LogIndex, revision: Revision) {
        let proposed = self.clock.proposed.take_if(|(at, _)| *at == index);
        for (client_id, calls) in proposed.into_iter().flat_map(|(_, calls)| calls) {
            let ttl = self.raw.store().state_machine().session_ttl(client_id);
            for waiter in calls {
                let outcome = match ttl {
                    Some(ttl) => Ok(Answer::Renewed { ttl, revision }),
                    None => Err(Refusal::not_applied(Reason::SessionNotLiving { client_id })),
                };
                self.output.answers.push((waiter, outcome));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that has begun to count at 0, and its time now.
    fn clock(uptime: Millis) -> LeaderClock<u64> {
        LeaderClock {
            uptime,
            counted: Some(0),
            ..LeaderClock::default()
        }
    }

    /// Takes the next command: its step, and the number of renewals.
    fn take(clock: &mut LeaderClock<u64>) -> Option<(Millis, usize)> {
        let (step, renewed) = clock.next_command(false)?;
        clock.propose(1, &renewed);
        clock.proposed = None;
        Some((step, renewed.len()))
    }

    #[test]
    fn no_time_counts_before_the_renewals_that_came_earlier() {
        let renewals = 2 * MAX_RENEWED + 10;
        let mut clock = clock(300);
        let mut ids = 1u64..;
        let mut come = |clock: &mut LeaderClock<u64>, calls| {
            for id in ids.by_ref().take(calls) {
                assert_eq!(clock.push(ClientId(id), id), None);
            }
        };
        come(&mut clock, renewals);
        assert_eq!(take(&mut clock), Some((0, MAX_RENEWED)));
        // Those that come now do not hold up the time.
        clock.uptime = 1_000;
        come(&mut clock, MAX_RENEWED);
        assert_eq!(take(&mut clock), Some((0, MAX_RENEWED)));
        assert_eq!(take(&mut clock), Some((300, MAX_RENEWED)));
        assert_eq!(take(&mut clock), Some((MAX_STEP, 10)), "700 ms since then");
        assert_eq!(take(&mut clock), None);
    }

    #[test]
    fn time_counts_from_when_it_is_first_known() {
        let mut clock = clock(1_000);
        clock.restart();
        clock.uptime = 60_000;
        assert_eq!(clock.next_command(true), None);
        clock.counted = Some(60_000);
        assert_eq!(clock.next_command(false), None);
        assert_eq!(clock.next_command(true), Some((0, vec![])));
        clock.uptime = 60_250;
        assert_eq!(clock.next_command(false), Some((250, vec![])));
    }

    #[test]
    fn the_last_calls_for_a_session_wait() {
        let mut clock = clock(0);
        for call in 1..=4 {
            assert_eq!(clock.push(ClientId(7), call), None);
        }
        let (limit, what) = (4, "keep_alives_of_a_session");
        let refused = Some((1, Reason::Overloaded { what, limit }));
        assert_eq!(clock.push(ClientId(7), 5), refused);
        assert_eq!(clock.len(), 4);
    }
}
