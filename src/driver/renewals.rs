//! Renewals of sessions, and the time.

use super::{Driver, Waiter};
use crate::types::{ClientId, Millis};

impl Driver {
    /// Gives the core all waiting renewals, then the time.
    pub(super) fn advance_clock(&mut self) {
        while let Ok((client_id, waiter)) = self.keep_alives.try_recv() {
            self.keep_alive(client_id, waiter);
        }
        let uptime = self.started.elapsed().as_millis();
        self.replica
            .set_uptime(uptime.try_into().unwrap_or(Millis::MAX));
        self.replica.advance_clock();
    }

    pub(super) fn keep_alive(&mut self, client_id: ClientId, waiter: Waiter) {
        if waiter.take_up() {
            self.replica.keep_alive(client_id, waiter);
        }
    }
}
