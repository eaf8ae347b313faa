//! Checks of all nodes at once, from outside.

use std::collections::{BTreeMap, BTreeSet};

use seshat::types::{ClusterId, LogIndex, NodeState, NodeStatus, RaftId, Role, Term};

/// The observations so far.
#[derive(Debug, Default)]
pub(crate) struct Health {
    leaders: BTreeMap<(ClusterId, Term), RaftId>,
    /// The cluster that has a leader, and the clusters that had one before it.
    serving: Option<ClusterId>,
    past: BTreeSet<ClusterId>,
    settled: Option<Settled>,
    healed: bool,
}

/// A cluster whose members all run, vote, and follow one leader.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    processes: Vec<RaftId>,
    leader: RaftId,
    /// The applied index of the leader when the cluster settled. It includes the last conf change.
    applied: LogIndex,
}

impl Health {
    /// Checks the running nodes. Panics if two nodes have led in one term (election safety: paper,
    /// figure 3), or if two clusters serve. One successor may serve, if the operator `may_have_recovered`
    /// the first cluster.
    pub(crate) fn look(&mut self, statuses: &BTreeMap<u16, NodeStatus>, may_have_recovered: bool) {
        for status in statuses.values() {
            let (Some(Role::Leader), Some(cluster)) = (status.role, status.cluster_id) else {
                continue;
            };
            let term = (cluster, status.term);
            let leader = *self.leaders.entry(term).or_insert(status.raft_id);
            let other = status.raft_id;
            assert_eq!(leader, other, "two leaders in term {}", status.term);
            self.serves(cluster, may_have_recovered);
        }
        if !self.healed {
            self.healed = self.is_settled(statuses);
        }
    }

    /// The highest term that had a leader.
    pub(crate) fn highest_term(&self) -> Term {
        self.leaders
            .keys()
            .map(|(_, term)| *term)
            .max()
            .unwrap_or(0)
    }

    fn serves(&mut self, cluster: ClusterId, may_have_recovered: bool) {
        if self.serving == Some(cluster) {
            return;
        }
        if let Some(former) = self.serving.replace(cluster) {
            let renewed = may_have_recovered && self.past.is_empty();
            assert!(renewed, "two clusters serve: {former} and {cluster}");
            self.past.insert(former);
        }
    }

    /// A node has forgotten everything.
    pub(crate) fn memory_lost(&mut self) {
        self.healed = false;
        self.settled = None;
    }

    /// Whether the cluster has settled since the last loss of memory: the voters were exactly the running
    /// processes of the members, and each of them had applied the conf change that made this so.
    ///
    /// [`seshat::cluster::ClusterView::is_healed`] requires more. This check is separate on purpose: faults
    /// come earlier than status permits, and the check does not trust the code under test. The operator of
    /// a run uses `is_healed`, and a run ends when every member reports it.
    pub(crate) fn healed(&self) -> bool {
        self.healed
    }

    fn is_settled(&mut self, statuses: &BTreeMap<u16, NodeStatus>) -> bool {
        let Some((now, members)) = settled(statuses) else {
            self.settled = None;
            return false;
        };
        let same = |then: &Settled| then.processes == now.processes && then.leader == now.leader;
        if !self.settled.as_ref().is_some_and(same) {
            self.settled = Some(now);
        }
        self.settled.as_ref().is_some_and(|settled| {
            members
                .iter()
                .all(|status| status.applied_index >= settled.applied)
        })
    }
}

/// The ids of the members in the leader's configuration, in ascending order; empty without a leader.
pub(crate) fn members(statuses: &BTreeMap<u16, NodeStatus>) -> Vec<u16> {
    let members = leader(statuses).map(|leader| {
        let ids: BTreeSet<_> = leader.conf.members.iter().map(|id| id.get()).collect();
        ids.into_iter().collect()
    });
    members.unwrap_or_default()
}

/// The node ids of the voters in the leader's configuration, in ascending order; empty without a leader.
pub(crate) fn voters(statuses: &BTreeMap<u16, NodeStatus>) -> Vec<u16> {
    let voters = leader(statuses).map(|leader| {
        let ids: BTreeSet<_> = leader
            .conf
            .voters
            .iter()
            .map(|id| id.node_id().get())
            .collect();
        ids.into_iter().collect()
    });
    voters.unwrap_or_default()
}

/// Whether every member except `except` is a voter in the cluster of the leader.
pub(crate) fn all_vote_but(statuses: &BTreeMap<u16, NodeStatus>, except: u16) -> bool {
    let Some(leader) = leader(statuses) else {
        return false;
    };
    let votes = |id: &u16| {
        statuses.get(id).is_some_and(|status| {
            status.cluster_id == leader.cluster_id && leader.conf.voters.contains(&status.raft_id)
        })
    };
    members(statuses)
        .iter()
        .all(|id| *id == except || votes(id))
}

/// Whether all members have applied the same index and have equally many keys.
pub(crate) fn have_applied_the_same(statuses: &BTreeMap<u16, NodeStatus>) -> bool {
    let members = members(statuses);
    let mut applied = members.iter().map(|id| {
        statuses
            .get(id)
            .map(|status| (status.applied_index, status.keys))
    });
    let first = applied.next().flatten();
    first.is_some() && applied.all(|other| other == first)
}

fn leader(statuses: &BTreeMap<u16, NodeStatus>) -> Option<&NodeStatus> {
    let leads = |status: &&NodeStatus| status.role == Some(Role::Leader);
    statuses.values().filter(leads).max_by_key(|it| it.term)
}

fn settled(statuses: &BTreeMap<u16, NodeStatus>) -> Option<(Settled, Vec<&NodeStatus>)> {
    let leader = leader(statuses)?;
    let members = members(statuses);
    let members: Vec<_> = members
        .iter()
        .map(|id| statuses.get(id))
        .collect::<Option<_>>()?;
    let follows = |status: &NodeStatus| {
        status.state == NodeState::Started
            && status.cluster_id == leader.cluster_id
            && status.leader == Some(leader.raft_id)
            && matches!(status.role, Some(Role::Leader | Role::Follower))
    };
    let processes: Vec<_> = members.iter().map(|status| status.raft_id).collect();
    let mut voters = leader.conf.voters.clone();
    voters.sort_unstable_by_key(|voter| voter.node_id());
    let is_settled = voters == processes && members.iter().all(|status| follows(status));
    is_settled.then_some((
        Settled {
            processes,
            leader: leader.raft_id,
            applied: leader.applied_index,
        },
        members,
    ))
}
