//! The checks of an observer who sees all nodes at once.

use std::collections::{BTreeMap, BTreeSet};

use seshat::types::{ClusterId, LogIndex, NodeState, NodeStatus, RaftId, Role, Term};

/// The observations so far.
#[derive(Debug, Default)]
pub(crate) struct Health {
    leaders: BTreeMap<(ClusterId, Term), RaftId>,
    /// The cluster that has a leader, and those that had one before it.
    serving: Option<ClusterId>,
    past: BTreeSet<ClusterId>,
    whole: Option<Whole>,
    healed: bool,
}

/// A cluster whose members all run, vote, and follow one leader.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    processes: Vec<RaftId>,
    leader: RaftId,
    /// The leader's applied index when this began, the last change of members included.
    applied: LogIndex,
}

impl Health {
    /// Checks the running nodes. Panics if two have led in one term (election safety: paper, figure 3),
    /// or if two clusters serve: another one may begin to once, if the operator `may_have_recovered` the
    /// first.
    pub(crate) fn look(&mut self, standings: &BTreeMap<u16, NodeStatus>, may_have_recovered: bool) {
        for status in standings.values() {
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
            self.healed = self.is_whole(standings);
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
        self.whole = None;
    }

    /// Whether, since the last loss of memory, the voters were exactly the running processes of the
    /// members, and all of them knew that this is committed: each had applied the leader's applied index
    /// of the time when all were voters.
    ///
    /// This is not [`seshat::cluster::ClusterView::is_healed`], on purpose: it asks for less, so that nodes
    /// fall earlier than status permits, and it does not trust the judgement that is under test. The
    /// operator asks that one, and a run ends when every member gives it.
    pub(crate) fn healed(&self) -> bool {
        self.healed
    }

    fn is_whole(&mut self, standings: &BTreeMap<u16, NodeStatus>) -> bool {
        let Some((now, members)) = whole(standings) else {
            self.whole = None;
            return false;
        };
        let same = |then: &Whole| then.processes == now.processes && then.leader == now.leader;
        if !self.whole.as_ref().is_some_and(same) {
            self.whole = Some(now);
        }
        self.whole.as_ref().is_some_and(|whole| {
            members
                .iter()
                .all(|status| status.applied_index >= whole.applied)
        })
    }
}

/// The members as the leader knows them, in the order of their ids; none without a leader.
pub(crate) fn members(standings: &BTreeMap<u16, NodeStatus>) -> Vec<u16> {
    let members = leader(standings).map(|leader| {
        let ids: BTreeSet<_> = leader.conf.members.iter().map(|id| id.get()).collect();
        ids.into_iter().collect()
    });
    members.unwrap_or_default()
}

/// The nodes that vote, as the leader knows them; none without a leader.
pub(crate) fn voters(standings: &BTreeMap<u16, NodeStatus>) -> Vec<u16> {
    let voters = leader(standings).map(|leader| {
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

/// Whether all members but `except` vote in the cluster that has a leader.
pub(crate) fn all_vote_but(standings: &BTreeMap<u16, NodeStatus>, except: u16) -> bool {
    let Some(leader) = leader(standings) else {
        return false;
    };
    let votes = |id: &u16| {
        standings.get(id).is_some_and(|status| {
            status.cluster_id == leader.cluster_id && leader.conf.voters.contains(&status.raft_id)
        })
    };
    members(standings)
        .iter()
        .all(|id| *id == except || votes(id))
}

/// Whether all members have applied the same.
pub(crate) fn level(standings: &BTreeMap<u16, NodeStatus>) -> bool {
    let members = members(standings);
    let mut applied = members.iter().map(|id| {
        standings
            .get(id)
            .map(|status| (status.applied_index, status.keys))
    });
    let first = applied.next().flatten();
    first.is_some() && applied.all(|other| other == first)
}

fn leader(standings: &BTreeMap<u16, NodeStatus>) -> Option<&NodeStatus> {
    let leads = |status: &&NodeStatus| status.role == Some(Role::Leader);
    standings.values().filter(leads).max_by_key(|it| it.term)
}

fn whole(standings: &BTreeMap<u16, NodeStatus>) -> Option<(Whole, Vec<&NodeStatus>)> {
    let leader = leader(standings)?;
    let members = members(standings);
    let members: Vec<_> = members
        .iter()
        .map(|id| standings.get(id))
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
    let well = voters == processes && members.iter().all(|status| follows(status));
    well.then_some((
        Whole {
            processes,
            leader: leader.raft_id,
            applied: leader.applied_index,
        },
        members,
    ))
}
