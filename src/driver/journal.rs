//! The log lines of a node about its Raft group. Every line says where it happened, under the same four
//! names: `node`, `raft_id`, `term` and `index`. No line is written per write: replication and commits
//! are logged once a message or a turn, and only on request ([`REPLICATION`]).

use crate::node::{Event, PeerMessage, Replica, StepError};
use crate::telemetry::Repeats;
use crate::types::{LogIndex, NodeId, NodeStatus, RaftId, Term};

/// The target of the log lines about replication and commits, all of them at `debug`.
const REPLICATION: &str = "seshat::replication";

/// The position of an event: node, process, term and index.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: NodeId,
    raft_id: RaftId,
    term: Term,
    index: LogIndex,
}

impl Place {
    /// The position of the process: its term, and its commit index.
    fn of(status: &NodeStatus) -> Self {
        Self {
            node: status.raft_id.node_id(),
            raft_id: status.raft_id,
            term: status.term,
            index: status.commit_index,
        }
    }

    /// The term and the index of `event`. Where the event has none, those of the process.
    fn at(self, event: &Event) -> Self {
        let (term, index) = match *event {
            Event::TermChanged { term } | Event::LeaderChanged { term, .. } => (term, self.index),
            Event::RoleChanged {
                term, last_index, ..
            } => (term, last_index),
            Event::GaveUp { term, commit_index } => (term, commit_index),
            Event::LevelRaised { index, term, .. }
            | Event::SnapshotInstalled { index, term, .. }
            | Event::TracedApplied { index, term, .. } => (term, index),
            Event::Recovered { last_index, .. } => (self.term, last_index),
            Event::Unreadable { index, .. }
            | Event::ConfChanged { index, .. }
            | Event::SnapshotSent { index, .. } => (self.term, index),
            Event::LogCompacted { first_index } => (self.term, first_index),
            _ => (self.term, self.index),
        };
        Self {
            term,
            index,
            ..self
        }
    }
}

/// Writes one log line with its position.
macro_rules! say {
    ($level:ident, target: $target:expr, $place:expr, $($rest:tt)+) => {
        tracing::$level!(
            target: $target,
            node = %$place.node, raft_id = %$place.raft_id, term = $place.term, index = $place.index,
            $($rest)+
        )
    };
    ($level:ident, $place:expr, $($rest:tt)+) => {
        say!($level, target: module_path!(), $place, $($rest)+)
    };
}

/// Writes the log line of one event of the process with this `status`.
pub(super) fn log(status: &NodeStatus, event: &Event) {
    let at = Place::of(status).at(event);
    match event {
        Event::Prepared { cluster_id } => {
            say!(info, at, %cluster_id, "accepted the offer of a cluster")
        }
        Event::Started { cluster_id } => say!(info, at, %cluster_id, "takes part in the cluster"),
        Event::Recovered {
            old,
            new,
            commit_index,
            last_index: _,
        } => say!(
            warn, at, committed = commit_index, %old, %new,
            "an operator made a new cluster of what this node had: acknowledged writes behind the \
             index, if there were any, are lost. Other nodes with state of the old cluster join \
             when they are started again, which should wait until every other replica takes part",
        ),
        Event::Yielded { to } => say!(
            warn, at, %to,
            "leaves the recovery of the cluster to another process, and takes no part in it any \
             more, unless that fails",
        ),
        Event::ClaimVoid { from } => say!(
            warn, at, %from,
            "takes part in the cluster again: the process that was about to recover it has ended or \
             given up",
        ),
        Event::Outside {
            cluster_id,
            is_member: true,
        } => say!(
            warn, at, %cluster_id,
            "the cluster runs without this process, which holds nothing: a node that was started \
             again has lost its memory. It waits until the leader lets it in",
        ),
        Event::Outside {
            cluster_id,
            is_member: false,
        } => say!(
            warn, at, %cluster_id,
            "this node is no member of the cluster that runs: it waits until an operator adds it",
        ),
        Event::Removed { cluster_id } => say!(
            error, at, %cluster_id,
            "this node was removed from the cluster: it is no member any more, and ends",
        ),
        Event::Doubled {
            processes: [one, other],
            addr,
        } => say!(
            warn, at, double = %one.node_id(), %one, %other, addr,
            "two processes run as one node: stop one of them. No other one is let in before",
        ),
        Event::TooOld {
            process,
            level,
            needed,
        } => say!(
            error, at, %process, %level, %needed,
            "a process is not let in: it runs an older version, and the cluster has been raised to \
             a protocol level that it does not speak. Start a newer version on node {}",
            process.node_id(),
        ),
        Event::ClocksDiffer { nodes } if nodes.is_empty() => say!(
            error,
            at,
            "the protocol level of the cluster is not raised: the clock of this node is wrong. It is \
             before 2026, or after 2199. Set it",
        ),
        Event::ClocksDiffer { nodes } => say!(
            error,
            at,
            ?nodes,
            "the protocol level of the cluster is not raised: the clocks of these nodes differ from that \
             of this node by more than an hour. Set the wrong ones",
        ),
        Event::TakesLess {
            process,
            limit,
            there,
            here,
        } => say!(
            warn, at, %process, limit, there, here,
            "a member takes less than this node, and so does the cluster: set the limit alike on \
             every node",
        ),
        Event::LevelRaised { level, .. } => say!(
            info, at, %level,
            "every member speaks a higher protocol level, and so does the cluster from now on: \
             older versions are not let in any more",
        ),
        Event::Unreadable { from, reason, .. } => say!(
            error, at, %from, %reason,
            "cannot read an entry of the log, as the leader runs a newer version: this node holds \
             what came before and receives nothing more. Start a newer version of it",
        ),
        Event::TermChanged { .. } => say!(info, at, "term changed"),
        Event::RoleChanged { role, .. } => say!(info, at, "became {role}"),
        Event::GaveUp { .. } => say!(
            warn,
            at,
            "gives up leadership: heartbeats arrive, but for some election timeouts no majority has \
             stored what this node sends. Look at the network for large packets",
        ),
        Event::LeaderChanged {
            leader: Some(leader),
            ..
        } => say!(info, at, %leader, "follows a leader"),
        Event::LeaderChanged { leader: None, .. } => say!(info, at, "knows no leader"),
        Event::ConfChanged {
            voters, learners, ..
        } => say!(info, at, ?voters, ?learners, "voters and learners changed"),
        Event::SnapshotSent { to, keys, .. } => say!(info, at, %to, keys, "sends a snapshot"),
        Event::SnapshotInstalled { keys, .. } => say!(info, at, keys, "installed a snapshot"),
        Event::TracedApplied {
            context, revision, ..
        } => say!(
            debug, target: "seshat::trace", at, revision,
            traceparent = %String::from_utf8_lossy(context), "applied",
        ),
        Event::LogCompacted { .. } => say!(debug, at, "compacted the log"),
    }
}

/// Logs the progress of replication at this process: one line for every message with entries, and one for
/// every turn in which the commit index rose. Costs nothing while the target is disabled.
#[derive(Default)]
pub(super) struct Replication {
    committed: LogIndex,
}

impl Replication {
    /// Logs that `message` leaves the process `raft_id`.
    pub(super) fn sends(&self, raft_id: RaftId, message: &PeerMessage) {
        if let Some(Entries {
            at,
            first,
            bytes,
            to,
            ..
        }) = Entries::of(raft_id, message)
        {
            say!(debug, target: REPLICATION, at, first, bytes, peer = %to, "sends entries");
        }
    }

    /// Logs that `message` has come to the process `raft_id`.
    pub(super) fn receives(&self, raft_id: RaftId, message: &PeerMessage) {
        if let Some(Entries {
            at,
            first,
            bytes,
            from,
            ..
        }) = Entries::of(raft_id, message)
        {
            say!(debug, target: REPLICATION, at, first, bytes, peer = %from, "receives entries");
        }
    }

    /// Logs the commit index in `status`, if it rose.
    pub(super) fn commits(&mut self, status: &NodeStatus) {
        let index = status.commit_index;
        // A lower index belongs to another cluster, which begins anew.
        if index > self.committed {
            let first = self.committed + 1;
            say!(debug, target: REPLICATION, Place::of(status), first, "committed");
        }
        self.committed = index;
    }
}

/// The entries of one message. Its position is that of the last entry.
struct Entries {
    at: Place,
    first: LogIndex,
    bytes: usize,
    from: NodeId,
    to: NodeId,
}

impl Entries {
    /// The entries of `message`, if it has any and the target is enabled.
    fn of(raft_id: RaftId, message: &PeerMessage) -> Option<Self> {
        if !tracing::enabled!(target: REPLICATION, tracing::Level::DEBUG) {
            return None;
        }
        let PeerMessage::AppendEntries(request) = message else {
            return None;
        };
        let envelope = message.envelope().ok()?;
        let at = Place {
            node: raft_id.node_id(),
            raft_id,
            term: envelope.term,
            index: request.entries.last()?.index,
        };
        Some(Self {
            at,
            first: request.entries.first()?.index,
            bytes: message.size_hint(),
            from: envelope.from.node_id(),
            to: envelope.to.node_id(),
        })
    }
}

/// Logs peer messages that the core refused. Repetitions are bounded: a faulty peer must not fill the disk.
#[derive(Default)]
pub(super) struct RefusedMessages {
    repeats: Repeats,
}

impl RefusedMessages {
    pub(super) fn record(&self, status: &NodeStatus, error: &StepError) {
        let at = Place::of(status);
        say!(debug, at, %error, "refused a peer message");
        self.repeats
            .warn(|kept_back| say!(warn, at, %error, kept_back, "refused a peer message"));
    }
}

/// Logs what the process waits for before it takes part in a cluster: once, and again after each change.
#[derive(Default)]
pub(super) struct Waiting {
    said: String,
}

impl Waiting {
    pub(super) fn log_changes<W>(&mut self, replica: &Replica<W>) {
        if replica.raft().is_some() {
            return;
        }
        let waiting_for = replica.waiting_for();
        if self.said != waiting_for {
            let at = Place::of(&replica.status());
            say!(info, at, "waits: {waiting_for}");
            self.said = waiting_for;
        }
    }
}
