//! What a node's log says of its Raft group: every event with its node id, raft id, term and log
//! index, and nothing per write.

use std::time::Duration;

use crate::node::{Event, StepError};
use crate::types::NodeStatus;

/// How often refused peer messages are summed up, at most.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Writes one event into the log of the process that stands as `status` says. Term and index are the
/// event's own, or where it has none, the term and the commit index of the process.
pub(super) fn log(status: &NodeStatus, event: &Event) {
    let raft_id = status.raft_id;
    let node = raft_id.node_id();
    let (now, committed) = (status.term, status.commit_index);
    match event {
        Event::Bound { cluster_id } => {
            tracing::info!(%node, %raft_id, %cluster_id, "accepted the offer of a cluster");
        }
        Event::Started { cluster_id } => {
            tracing::info!(%node, %raft_id, %cluster_id, "takes part in the cluster");
        }
        Event::Outside { cluster_id } => tracing::warn!(
            %node, %raft_id, %cluster_id,
            "this node was started again while its cluster was running: it has lost its \
             memory, and waits until the leader takes it back",
        ),
        Event::TermChanged { term } => {
            tracing::info!(%node, %raft_id, term, index = committed, "term changed");
        }
        Event::RoleChanged {
            role,
            term,
            last_index,
        } => tracing::info!(%node, %raft_id, term, index = last_index, "became {role}"),
        Event::LeaderChanged { leader, term } => match leader {
            Some(leader) => {
                tracing::info!(
                    %node, %raft_id, term, index = committed, %leader, "follows a leader",
                );
            }
            None => tracing::info!(%node, %raft_id, term, index = committed, "knows no leader"),
        },
        Event::ConfChanged {
            voters,
            learners,
            index,
        } => tracing::info!(
            %node, %raft_id, term = now, index, ?voters, ?learners, "members changed",
        ),
        Event::SnapshotSent { to, index, keys } => {
            tracing::info!(%node, %raft_id, term = now, %to, index, keys, "sends a snapshot");
        }
        Event::SnapshotInstalled { index, term, keys } => {
            tracing::info!(%node, %raft_id, term, index, keys, "installed a snapshot");
        }
        Event::LogCompacted { first_index } => {
            tracing::debug!(%node, %raft_id, term = now, index = first_index, "compacted the log");
        }
    }
}

/// Peer messages that the core refused since the log last spoke of them: a peer that sends nothing
/// but garbage must not fill the disk.
#[derive(Default)]
pub(super) struct RefusedMessages {
    count: u64,
    last: Option<StepError>,
    logged_at: Option<tokio::time::Instant>,
}

impl RefusedMessages {
    pub(super) fn record(&mut self, error: StepError) {
        tracing::debug!(%error, "refused a peer message");
        self.count = self.count.saturating_add(1);
        self.last = Some(error);
    }

    pub(super) fn log_at_intervals(&mut self) {
        let Some(last) = &self.last else { return };
        if self
            .logged_at
            .is_some_and(|at| at.elapsed() < REFUSAL_LOG_INTERVAL)
        {
            return;
        }
        tracing::warn!(count = self.count, %last, "refused peer messages");
        *self = Self {
            logged_at: Some(tokio::time::Instant::now()),
            ..Self::default()
        };
    }
}
