//! What the driver shows of its node.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Driver, Network};
use crate::types::{NodeStatus, Role};

impl Driver {
    /// Updates the published status, and wakes the watchers if a relevant part changed.
    pub(super) fn publish(&mut self, mut now: NodeStatus, network: &mut impl Network) {
        now.joined_at = self.joined_at;
        self.status.send_if_modified(|shown| {
            let matters = |status: &NodeStatus| {
                let NodeStatus {
                    state,
                    cluster_id,
                    role,
                    term,
                    leader,
                    ..
                } = status;
                (*state, *cluster_id, *role, *term, *leader)
            };
            let changed = matters(shown) != matters(&now) || shown.conf != now.conf;
            if shown.role != now.role {
                network.set_leading(now.role == Some(Role::Leader));
            }
            *shown = now;
            changed
        });
        let decides = self.replica.decides();
        self.decides
            .send_if_modified(|shown| std::mem::replace(shown, decides) != decides);
    }
}

/// Publishes `news`, unless it is published already. Returns whether it changed.
pub(super) fn show<T>(shown: &watch::Sender<Arc<T>>, news: &Arc<T>) -> bool {
    shown.send_if_modified(|shown| {
        let changed = !Arc::ptr_eq(shown, news);
        *shown = Arc::clone(news);
        changed
    })
}
