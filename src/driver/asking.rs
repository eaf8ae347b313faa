//! The part of a [`DriverHandle`] for `Identify` between processes.

use std::sync::Arc;

use tokio::sync::watch;

use super::handle::{DriverHandle, Notice, Stopped};
use crate::node::{CallId, Reply};
use crate::types::{ClusterMembership, Introduction, NodeState, NodeStatus};

impl DriverHandle {
    /// Hands in the reply to a formation call.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn replied(&self, call: CallId, reply: Reply) -> Result<(), Stopped> {
        self.notify(Notice::Replied(call, reply)).await
    }

    /// Reports that another process asks this one for its identity. The report is dropped when more than half
    /// of the inbox is taken: the other process asks again, and Raft messages must not wait for this.
    pub fn asked(&self, by: Introduction) {
        if self.notices.capacity() > self.notices.max_capacity() / 2 {
            // A stopped driver needs no report.
            let _ = self.notices.try_send(Notice::Asked(by));
        }
    }

    /// The identity of this process, for its own questions to others.
    pub fn introduction(&self) -> Introduction {
        let NodeStatus {
            raft_id,
            state,
            cluster_id,
            ..
        } = self.status();
        Introduction {
            raft_id,
            state,
            cluster_id,
            members: if state == NodeState::Started {
                self.members()
            } else {
                Arc::default()
            },
        }
    }

    /// Watches the [`members`](Self::members).
    pub fn watch_members(&self) -> watch::Receiver<Arc<ClusterMembership>> {
        self.members.clone()
    }
}
