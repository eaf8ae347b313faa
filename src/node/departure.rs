//! How a process finds out that it was removed.
//!
//! An operator may remove a member. The leader then removes its process from the Raft group, and stops
//! sending to it at that moment: the process may never receive the entry that removed it. So a process
//! that has heard of no leader for a while, or that knows of the decision, asks the others for their
//! status. Their answers name the voters, learners and members. The question introduces the asking
//! process, so that members which were started again learn that something is left of their cluster (see
//! `docs/FORMATION.md`). So it asks soon.
//!
//! It must not end too early. As long as a voter that does not know of the removal could become a
//! candidate, the vote of the removed process may be needed: without it, and without the leader, the
//! others might never elect a leader. So the process ends when most of the remaining voters have applied
//! its removal: then a candidate that does not need its vote can win.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{ClusterId, Conf, LogIndex, NodeId, NodeState, NodeStatus, RaftId};

/// Ticks after which a process that counts as without a leader asks whether it still takes part.
const SILENT_TICKS: u64 = 2;
/// Ticks between two rounds of questions.
const ASK_TICKS: u64 = 5;
/// Ticks within which every reachable member hears of a process that counts as without a leader, even if
/// the first attempt to reach it fails. A process that was started again has to wait this long before it
/// may assume that nothing is left of its cluster.
pub const ANNOUNCE_TICKS: u64 = SILENT_TICKS + 2 * ASK_TICKS;
/// Ticks for which an answer counts.
const BELIEVED_TICKS: u64 = 40;

/// The knowledge of a process about its own removal.
#[derive(Debug)]
pub(super) struct Departure {
    me: RaftId,
    now: u64,
    /// The tick since which it has heard of no leader.
    silent_since: Option<u64>,
    ask_at: u64,
    heard: BTreeMap<NodeId, (NodeStatus, u64)>,
    /// The commit index when the process was last sent something. It took part then.
    took_part_at: LogIndex,
}

impl Departure {
    /// The state of the process `me` at its start.
    pub(super) fn new(me: RaftId) -> Self {
        Self {
            me,
            now: 0,
            silent_since: None,
            ask_at: 0,
            heard: BTreeMap::new(),
            took_part_at: 0,
        }
    }

    /// Records that a leader whose commit index was `committed` has sent a part of the log to the
    /// process. A leader sends only to voters and learners.
    pub(super) fn sent(&mut self, committed: LogIndex) {
        self.took_part_at = self.took_part_at.max(committed);
    }

    /// Counts one tick. `leads` is whether the process leads, `led` whether it leads or has recently
    /// heard of a leader, `conf` what it has applied, `others` the nodes that it can ask. Returns the
    /// nodes to ask for their status.
    pub(super) fn tick(
        &mut self,
        leads: bool,
        led: bool,
        conf: &Conf,
        others: impl Iterator<Item = NodeId>,
    ) -> Vec<NodeId> {
        self.now += 1;
        let now = self.now;
        self.heard.retain(|_, (_, at)| now - *at <= BELIEVED_TICKS);
        let silent_since = *self.silent_since.get_or_insert(now);
        if led {
            self.silent_since = None;
        }
        let silent = !led && now - silent_since >= SILENT_TICKS;
        // A leader transfers leadership first.
        let decided = !leads && !conf.voters.is_empty() && !self.is_desired(conf);
        if !(silent || decided) || self.ask_at > now {
            return Vec::new();
        }
        self.ask_at = now + ASK_TICKS;
        others.filter(|&node| node != self.me.node_id()).collect()
    }

    /// Records the status of a node.
    pub(super) fn heard(&mut self, node: NodeId, status: &NodeStatus) {
        if status.raft_id.node_id() == node {
            self.heard.insert(node, (status.clone(), self.now));
        }
    }

    /// Whether the process, which has applied its log of `cluster_id` up to `applied`, was removed, and
    /// its vote is no longer needed.
    pub(super) fn is_over(&self, cluster_id: ClusterId, applied: LogIndex) -> bool {
        let took_part_at = self.took_part_at.max(applied);
        let informed = |status: &&NodeStatus| {
            status.state == NodeState::Started
                && status.cluster_id == Some(cluster_id)
                // An older view may come from a time when it was not a member yet.
                && took_part_at > 0
                && status.applied_index >= took_part_at
                && self.is_out(&status.conf)
        };
        let heard = self.heard.values().map(|(status, _)| status);
        let informed: Vec<_> = heard.filter(informed).collect();
        let ids: BTreeSet<_> = informed.iter().map(|status| status.raft_id).collect();
        informed.iter().any(|status| {
            let voters = &status.conf.voters;
            let know = voters.iter().filter(|voter| ids.contains(voter)).count();
            know > voters.len() / 2
        })
    }

    /// Whether this process neither takes part in `conf` nor should.
    fn is_out(&self, conf: &Conf) -> bool {
        let Conf {
            voters, learners, ..
        } = conf;
        // A process that has applied nothing yet knows no voters.
        !voters.is_empty()
            && !self.is_desired(conf)
            && !voters.contains(&self.me)
            && !learners.contains(&self.me)
    }

    fn is_desired(&self, conf: &Conf) -> bool {
        conf.members.contains(&self.me.node_id())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn raft_id_of(id: u16) -> RaftId {
        RaftId::new(node(id), 1)
    }

    /// The status of node `id`, which has applied 9 entries. Exactly `voters` are left.
    fn says(id: u16, voters: &[u16]) -> NodeStatus {
        let conf = Conf {
            voters: voters.iter().copied().map(raft_id_of).collect(),
            learners: Vec::new(),
            members: voters.iter().copied().map(node).collect(),
        };
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(CLUSTER),
            applied_index: 9,
            conf: Arc::new(conf),
            ..NodeStatus::fresh(raft_id_of(id))
        }
    }

    /// Whether the part of process 4, which has applied 9 entries and has heard `statuses`, is over.
    fn is_over(statuses: &[NodeStatus]) -> bool {
        let mut departure = Departure::new(raft_id_of(4));
        for status in statuses {
            departure.heard(status.raft_id.node_id(), status);
        }
        departure.is_over(CLUSTER, 9)
    }

    #[test]
    fn a_process_goes_when_most_voters_have_applied_its_removal() {
        let left = [1, 2, 3];
        assert!(is_over(&[says(1, &left), says(2, &left)]));
        assert!(!is_over(&[]));
        assert!(!is_over(&[says(1, &left)]), "one may still need its vote");
        assert!(!is_over(&[says(1, &left), says(2, &[1, 2, 3, 4])]));
    }

    #[test]
    fn a_process_that_votes_or_should_vote_stays() {
        let with = |change: &dyn Fn(&mut Conf)| {
            let mut status = says(1, &[1]);
            change(Arc::make_mut(&mut status.conf));
            is_over(&[status])
        };
        assert!(with(&|_| {}));
        assert!(!with(&|conf| conf.members.push(node(4))));
        assert!(!with(&|conf| conf.learners.push(raft_id_of(4))));
        assert!(!with(&|conf| conf.voters.push(raft_id_of(4))));
    }

    #[test]
    fn an_older_status_or_one_of_another_cluster_does_not_count() {
        let old = NodeStatus {
            applied_index: 8,
            ..says(1, &[1])
        };
        let other = NodeStatus {
            cluster_id: Some(ClusterId(8)),
            ..says(1, &[1])
        };
        assert!(!is_over(&[old]));
        assert!(!is_over(&[other]));
    }

    #[test]
    fn an_added_process_ignores_a_status_from_before_its_addition() {
        let mut departure = Departure::new(raft_id_of(4));
        departure.heard(node(1), &says(1, &[1]));
        assert!(!departure.is_over(CLUSTER, 0), "nothing was sent to it");
        departure.sent(10);
        departure.sent(0);
        assert!(!departure.is_over(CLUSTER, 0), "added by entry 10");
        let later = NodeStatus {
            applied_index: 10,
            ..says(1, &[1])
        };
        departure.heard(node(1), &later);
        assert!(departure.is_over(CLUSTER, 0));
    }

    #[test]
    fn only_a_process_without_a_leader_or_a_removed_one_asks() {
        let asked = |led: bool, voters: &[u16], ticks: u64| -> usize {
            let mut departure = Departure::new(raft_id_of(4));
            let conf = says(1, voters).conf;
            let others = [1, 2, 4].map(node);
            let tick = |_| departure.tick(false, led, &conf, others.into_iter()).len();
            (0..ticks).map(tick).sum()
        };
        let all = [1, 2, 3, 4];
        assert_eq!(asked(true, &all, 100), 0);
        assert_eq!(asked(false, &all, SILENT_TICKS), 0);
        assert_eq!(asked(false, &all, SILENT_TICKS + 1), 2);
        assert_eq!(asked(false, &all, SILENT_TICKS + 1 + ASK_TICKS), 4);
        assert_eq!(asked(true, &[1, 2, 3], 1), 2);
        let conf = says(1, &[1, 2, 3]).conf;
        let others = [1, 2].map(node).into_iter();
        let asked = Departure::new(raft_id_of(4)).tick(true, true, &conf, others);
        assert!(asked.is_empty(), "a leader transfers leadership first");
    }
}
