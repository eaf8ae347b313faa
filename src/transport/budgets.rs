//! How many calls to a peer may be under way, by what they are for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a call is for. Each purpose has a bound of its own, so that none can keep another from being
/// served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To elect a leader.
    Election,
    /// To form a cluster, and to see who lives.
    Formation,
    /// To show operators and health checks how the peer fares.
    Report,
}

/// Calls that may be under way, by their purpose.
#[derive(Debug)]
pub(super) struct Budgets {
    election: Arc<Semaphore>,
    formation: Arc<Semaphore>,
    report: Arc<Semaphore>,
}

/// Leave to make one call.
#[derive(Debug)]
pub(super) struct Leave(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Budgets {
    pub(super) fn new(each: usize) -> Self {
        let budget = || Arc::new(Semaphore::new(each));
        Self {
            election: budget(),
            formation: budget(),
            report: budget(),
        }
    }

    /// Leave to make a call for `purpose`, unless too many are under way.
    pub(super) fn take(&self, purpose: Purpose) -> Option<Leave> {
        let budget = match purpose {
            Purpose::Election => &self.election,
            Purpose::Formation => &self.formation,
            Purpose::Report => &self.report,
        };
        let permit = Arc::clone(budget).try_acquire_owned();
        permit.ok().map(Leave)
    }
}
