//! How many calls to a peer may be in flight, by their purpose.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The purpose of a call. Each has a bound of its own, so that none can starve another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To elect a leader, or to transfer leadership.
    Election,
    /// To form a cluster, and to learn which processes run.
    Formation,
    /// To show operators and health checks the state of the peer.
    Report,
}

/// Calls that may be in flight, by their purpose.
#[derive(Debug)]
pub(super) struct Budgets {
    election: Arc<Semaphore>,
    formation: Arc<Semaphore>,
    report: Arc<Semaphore>,
}

/// Permit for one call.
#[derive(Debug)]
pub(super) struct CallPermit(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Budgets {
    pub(super) fn new(each: usize) -> Self {
        let budget = || Arc::new(Semaphore::new(each));
        Self {
            election: budget(),
            formation: budget(),
            report: budget(),
        }
    }

    /// A permit for a call for `purpose`, unless too many are in flight.
    pub(super) fn take(&self, purpose: Purpose) -> Option<CallPermit> {
        let budget = match purpose {
            Purpose::Election => &self.election,
            Purpose::Formation => &self.formation,
            Purpose::Report => &self.report,
        };
        let permit = Arc::clone(budget).try_acquire_owned();
        permit.ok().map(CallPermit)
    }
}
