//! What a node's log says of its Raft group: every event with its node id, raft id, term and log
//! index, and nothing per write.

use crate::log::Repeats;
use crate::node::{Event, Member, StepError};
use crate::types::NodeStatus;

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
        Event::Recovered {
            old,
            new,
            commit_index,
            last_index,
        } => tracing::warn!(
            %node, %raft_id, term = now, index = last_index, committed = commit_index, %old, %new,
            "an operator made a new cluster of what this node had: acknowledged writes behind the \
             index, if there were any, are lost. Other nodes with state of the old cluster join \
             when they are started again, which should wait until every other member takes part",
        ),
        Event::Yielded { to } => tracing::warn!(
            %node, %raft_id, term = now, index = committed, %to,
            "leaves the recovery of the cluster to another process, and takes no part in it any \
             more, unless that fails",
        ),
        Event::ClaimVoid { from } => tracing::warn!(
            %node, %raft_id, term = now, index = committed, %from,
            "takes part in the cluster again: the process that was about to recover it has ended or \
             given up",
        ),
        Event::Outside {
            cluster_id,
            is_member: true,
        } => tracing::warn!(
            %node, %raft_id, %cluster_id,
            "the cluster runs without this process, which holds nothing: a node that was started \
             again has lost its memory. It waits until the leader lets it in",
        ),
        Event::Outside {
            cluster_id,
            is_member: false,
        } => tracing::warn!(
            %node, %raft_id, %cluster_id,
            "this node is no member of the cluster that runs: it waits until an operator adds it",
        ),
        Event::Removed { cluster_id } => tracing::error!(
            %node, %raft_id, %cluster_id, term = now, index = committed,
            "this node was removed from the cluster: it is no member any more, and ends",
        ),
        Event::Doubled {
            processes: [one, other],
            addr,
        } => tracing::warn!(
            %node, %raft_id, term = now, index = committed, double = %one.node_id(), %one, %other, addr,
            "two processes answer in turn as one node: stop one of them. Neither is let in before",
        ),
        Event::TooOld {
            process,
            level,
            needed,
        } => tracing::error!(
            %node, %raft_id, term = now, index = committed, %process, %level, %needed,
            "a process is not let in: it runs an older version, and the cluster has been raised to \
             a protocol level that it does not speak. Start a newer version on node {}",
            process.node_id(),
        ),
        Event::TakesLess {
            process,
            limit,
            there,
            here,
        } => tracing::warn!(
            %node, %raft_id, term = now, index = committed, %process, limit, there, here,
            "a member takes less than this node, and so does the cluster: set the limit alike on \
             every node",
        ),
        Event::LevelRaised { level, index, term } => tracing::info!(
            %node, %raft_id, term, index, %level,
            "every member speaks a higher protocol level, and so does the cluster from now on: \
             older versions are not let in any more",
        ),
        Event::Unreadable {
            from,
            index,
            reason,
        } => tracing::error!(
            %node, %raft_id, term = now, index, %from, %reason,
            "cannot read an entry of the log, as the leader runs a newer version: this node holds \
             what came before and receives nothing more. Start a newer version of it",
        ),
        Event::TermChanged { term } => {
            tracing::info!(%node, %raft_id, term, index = committed, "term changed");
        }
        Event::RoleChanged {
            role,
            term,
            last_index,
        } => tracing::info!(%node, %raft_id, term, index = last_index, "became {role}"),
        Event::GaveUp { term, commit_index } => tracing::warn!(
            %node, %raft_id, term, index = commit_index,
            "gives up leadership: heartbeats arrive, but for some election timeouts no majority has \
             stored what this node sends. Look at the network for large packets",
        ),
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
            %node, %raft_id, term = now, index, ?voters, ?learners, "voters and learners changed",
        ),
        Event::SnapshotSent { to, index, keys } => {
            tracing::info!(%node, %raft_id, term = now, %to, index, keys, "sends a snapshot");
        }
        Event::SnapshotInstalled { index, term, keys } => {
            tracing::info!(%node, %raft_id, term, index, keys, "installed a snapshot");
        }
        Event::TracedApplied {
            context,
            index,
            term,
        } => {
            let traceparent = String::from_utf8_lossy(context);
            tracing::debug!(
                target: "seshat::trace", %node, %raft_id, term, index, %traceparent, "applied",
            );
        }
        Event::LogCompacted { first_index } => {
            tracing::debug!(%node, %raft_id, term = now, index = first_index, "compacted the log");
        }
    }
}

/// Peer messages that the core refused: a peer that sends nothing but garbage must not fill the disk.
#[derive(Default)]
pub(super) struct RefusedMessages {
    repeats: Repeats,
}

impl RefusedMessages {
    pub(super) fn record(&self, error: &StepError) {
        tracing::debug!(%error, "refused a peer message");
        self.repeats
            .warn(|kept_back| tracing::warn!(%error, kept_back, "refused a peer message"));
    }
}

/// What the process waits for before it takes part in a cluster: said once, and again whenever it is
/// something else.
#[derive(Default)]
pub(super) struct Waiting {
    said: String,
}

impl Waiting {
    pub(super) fn log_changes<W>(&mut self, member: &Member<W>) {
        if member.raft().is_some() {
            return;
        }
        let waiting_for = member.waiting_for();
        if self.said != waiting_for {
            let raft_id = member.raft_id();
            tracing::info!(node = %raft_id.node_id(), %raft_id, "waits: {waiting_for}");
            self.said = waiting_for;
        }
    }
}
