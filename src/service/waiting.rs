//! Waiting for a leader.

use tokio::sync::watch::{Receiver, error::RecvError};

use super::Host;
use crate::error::{Applied, Reason, Refusal};
use crate::types::NodeState;

impl Host {
    /// Whether the reason of the refusal may end by itself.
    pub(super) fn may_end(&self, refusal: &Refusal) -> bool {
        match (refusal.applied, &refusal.reason) {
            (Applied::No, Reason::NoQuorum | Reason::NotLeader { leader_id: None }) => true,
            (Applied::No, Reason::Forming { .. }) => {
                self.driver.status().state != NodeState::Outside
            }
            _ => false,
        }
    }
}

/// Waits until the node can decide again, after it could not.
pub(super) async fn decided(decides: &mut Receiver<bool>) -> Result<(), RecvError> {
    loop {
        decides.changed().await?;
        if *decides.borrow_and_update() {
            return Ok(());
        }
    }
}
