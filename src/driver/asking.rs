//! The part of a [`DriverHandle`] by which processes ask one another who they are.

use std::sync::Arc;

use tokio::sync::watch;

use super::handle::{DriverHandle, Notice, Stopped};
use crate::node::{CallId, Reply};
use crate::types::{ClusterMembership, Introduction, NodeState, NodeStatus};

impl DriverHandle {
    /// Hands in what came back from a formation call.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn replied(&self, call: CallId, reply: Reply) -> Result<(), Stopped> {
        self.notify(Notice::Replied(call, reply)).await
    }

    /// Says that another process asks this one who it is. Is lost when half of the inbox is taken: who
    /// asks, asks again, and nothing that Raft waits for is to wait for this.
    pub fn asked(&self, by: Introduction) {
        if self.notices.capacity() > self.notices.max_capacity() / 2 {
            // A driver that has stopped needs no news.
            let _ = self.notices.try_send(Notice::Asked(by));
        }
    }

    /// Who this process is, for whom it asks.
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
