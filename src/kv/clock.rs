//! The replicated clock, and what ends by it.
//!
//! The clock counts milliseconds. Only [`Command::Clock`](super::Command::Clock) moves it, so all nodes agree
//! at every entry of the log on what has ended. The leader proposes that command about 4 times a second
//! while anything can end, with the time that it has counted since the previous one. A step is at most
//! [`MAX_STEP`]: in a longer pause no client could have renewed anything.
//!
//! A command that starts a lifetime may stand anywhere between two steps, so the next step may hold time
//! from before it. Its deadline is [`MAX_STEP`] later for that, and no lifetime is too short. A renewal is
//! part of a step, and needs no such margin: it counts if its session lived before the step.

use imbl::OrdSet;

use super::locks::ClaimId;
use crate::types::{ClientId, Key, Millis};

/// Maximum step of the clock.
pub const MAX_STEP: Millis = 500;
/// Number of removals after which a command leaves the rest to the next one.
pub const MAX_REMOVALS: usize = 1024;
/// Maximum number of sessions that one command renews.
pub const MAX_RENEWED: usize = 8192;

/// What ends when its deadline comes. Of equal deadlines, in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mortal {
    /// A living session, with its claims and the keys that it owns.
    Session(ClientId),
    /// A claim to a lock that waits.
    Claim(ClaimId),
    /// A key with a TTL.
    Key(Key),
}

/// The replicated clock and all deadlines. A clone shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock {
    now: Millis,
    deadlines: OrdSet<(Millis, Mortal)>,
}

impl Clock {
    /// A clock from a snapshot, without deadlines.
    pub(super) fn at(now: Millis) -> Self {
        Self {
            now,
            deadlines: OrdSet::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Whether anything can ever end.
    pub fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Whether something is to be removed, without another step.
    pub fn is_due(&self) -> bool {
        let next = self.deadlines.get_min();
        next.is_some_and(|(deadline, _)| *deadline <= self.now)
    }

    pub(super) fn advance(&mut self, step: Millis) {
        self.now = self.now.saturating_add(step.min(MAX_STEP));
    }

    /// The deadline of a lifetime that begins outside of a step.
    pub(super) fn deadline(&self, ttl: Millis) -> Millis {
        self.now.saturating_add(MAX_STEP).saturating_add(ttl)
    }

    /// The deadline of a lifetime that begins anew as part of a step.
    pub(super) fn renewed(&self, ttl: Millis) -> Millis {
        self.now.saturating_add(ttl)
    }

    pub(super) fn set(&mut self, deadline: Millis, what: Mortal) {
        self.deadlines.insert((deadline, what));
    }

    pub(super) fn clear(&mut self, deadline: Millis, what: Mortal) {
        self.deadlines.remove(&(deadline, what));
    }

    /// Takes the next deadline that has come.
    pub(super) fn take_due(&mut self) -> Option<Mortal> {
        if !self.is_due() {
            return None;
        }
        self.deadlines.remove_min().map(|(_, what)| what)
    }
}
