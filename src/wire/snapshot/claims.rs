//! The records of claims to locks in a snapshot.

use super::SnapshotReader;
use crate::kv::LockName;
use crate::proto::kv as proto;
use crate::wire::{WireError, locks};

impl SnapshotReader {
    pub(super) fn take_claim(&mut self, record: proto::ClaimRecord) -> Result<(), WireError> {
        let fault = |field, reason| Err(WireError::new("ClaimRecord", field, reason));
        let (name, began, claim, token) = locks::restored_claim(record)?;
        let state = &self.state_machine;
        let client_id = claim.id.client_id;
        if state.sessions().living().get(client_id).is_none() {
            return fault("client_id", "no living session");
        }
        if state.locks().claim(claim.id).is_some() {
            return fault("sequence", "a second claim");
        }
        if token.is_some() && state.locks().holder(&name).is_some() {
            return fault("token", "a second holder");
        }
        let last = self.last_claim.as_ref();
        if last.is_some_and(|(of, at)| (&name, began) <= (of, *at)) {
            return fault("name", "not in ascending order");
        }
        self.last_claim = Some((LockName::clone(&name), began));
        self.state_machine.restore_claim(&name, began, claim, token);
        Ok(())
    }
}
