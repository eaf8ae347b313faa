//! Whether a cluster may be recovered from a lost quorum, from which process, and what other nodes lack.
//!
//! A recovery makes a new cluster from the state of one process, the *survivor*. It must not begin while
//! the old cluster may go on, and not at a process that has less than another. Both are decided here,
//! from the statuses of all nodes that answer: for the summary that recommends a recovery, for the dry
//! run before it, and for the recovery itself. So a recommended recovery is accepted.
//!
//! **A voter is lost** once another incarnation answers at its address, or its process belongs to another
//! cluster now. A voter that does not answer is not lost: it may come back, it may serve somewhere, and
//! it may have more than all nodes that answer. A recovery leaves such a node out only if an operator
//! states that its process is gone for good.
//!
//! An operator cannot state this of a node if something else answers at its address, or if it accepts
//! connections and does not answer: it may be a node that hangs, and continues later.
//!
//! **Which process has most** is decided by a total order, [`Rank`]: the order by which Raft compares
//! logs (paper, section 5.4.1), with tie-breakers for equal logs. The most up-to-date log has everything
//! that was committed, as far as any node that answers has it. That holds for a learner's log too. But a
//! learner's log may end anywhere, so a learner that has most is taken only if an operator accepts that.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use super::Answers;
use super::phrases::{hung, nodes};
use crate::types::{Answering, ClusterId, NodeId, NodeState, NodeStatus, RaftId, Rank, Role};

/// An operator's order to recover a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The cluster that the recovery replaces.
    pub cluster_id: ClusterId,
    /// The nodes whose processes are gone for good, as the operator states.
    pub without: BTreeSet<NodeId>,
    /// Whether the operator accepts a survivor that is no voter.
    pub incomplete: bool,
}

impl Order {
    /// The order to recover `cluster_id` with all nodes answering and a survivor that is a voter.
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            cluster_id,
            without: BTreeSet::new(),
            incomplete: false,
        }
    }
}

/// A possible recovery of a cluster that has no leader and cannot elect one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The process that has most of it.
    pub survivor: Rank,
    /// The other processes that have state of it, in descending order of their ranks.
    pub others: Vec<Rank>,
    /// Nodes that do not answer, in ascending order.
    pub silent: Vec<NodeId>,
    /// Whether no leader could be elected even if they came back. Only then a recovery is recommended.
    pub halted: bool,
    /// Nodes of the surely lost voters, among the voters that the survivor has applied, in ascending order.
    pub lost: Vec<NodeId>,
    /// The number of voters that the survivor has applied.
    pub voters: usize,
}

impl Way {
    /// The node of the survivor.
    pub fn from(&self) -> NodeId {
        self.survivor.raft_id.node_id()
    }

    /// The order that this node accepts, if the operator's statement in it is true.
    pub fn order(&self) -> Order {
        Order {
            cluster_id: self.cluster_id,
            without: self.silent.iter().copied().collect(),
            incomplete: !self.survivor.votes,
        }
    }
}

/// The command that gives the order.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seshat recover --from {}", self.from())?;
        if !self.survivor.votes {
            f.write_str(" --incomplete")?;
        }
        if !self.silent.is_empty() {
            let ids: Vec<_> = self.silent.iter().map(NodeId::to_string).collect();
            write!(f, " --without {}", ids.join(","))?;
        }
        Ok(())
    }
}

/// The reason why a cluster cannot be recovered here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// No node that answers has any state of the cluster.
    #[error("no node that answers has any state of this cluster")]
    Nothing,
    /// This process has no state of any cluster.
    #[error("this node takes part in no cluster: it has no state to keep")]
    NoPart,
    /// This process takes part in another cluster.
    #[error("this node takes part in cluster {0}")]
    OtherCluster(ClusterId),
    /// A leader leads it.
    #[error("the cluster is not halted: node {0} leads it")]
    Led(NodeId),
    /// A node has heard of a leader a moment ago.
    #[error("the cluster is not halted: node {by} says that node {leader} leads it")]
    HeardOf {
        /// The node that has heard of it.
        by: NodeId,
        /// The leader.
        leader: NodeId,
    },
    /// The nodes that answer can elect a leader.
    #[error("the cluster is not halted: {} can elect a leader", nodes(.0))]
    Majority(Vec<NodeId>),
    /// A node belongs to another cluster, which may have been recovered from this one.
    #[error(
        "node {node} takes part in cluster {cluster_id}. If that was recovered from this one, this node \
         is left over: once every other member takes part there, start it again. If it was formed anew, \
         this node may have the last copy: leave it running, and start the others again"
    )]
    Elsewhere {
        /// The node.
        node: NodeId,
        /// Its cluster.
        cluster_id: ClusterId,
    },
    /// A recovery has begun and not ended.
    #[error("node {0} is about to recover this cluster: look at seshat status in a few seconds")]
    UnderWay(NodeId),
    /// Another process has more.
    #[error("{}", better(.best, .own))]
    Better {
        /// The rank of that process.
        best: Rank,
        /// The rank of this process.
        own: Rank,
    },
    /// The survivor is no voter, and the operator has not accepted that.
    #[error(
        "this node does not vote: it had not caught up with its cluster, or was removed, and may lack any \
         part of the whole; to keep its state nevertheless: --incomplete"
    )]
    Incomplete,
    /// Some nodes do not answer, and the operator has not stated that they are gone.
    #[error("{}", silent(.0))]
    Silent(Vec<NodeId>),
    /// A node does not answer but may run nevertheless. An operator cannot state that it is gone.
    #[error("{}", may_be_there(*.node, *.answering))]
    MayBeThere {
        /// The node.
        node: NodeId,
        /// What answers at its address.
        answering: Answering,
    },
    /// The order says that a node is gone, but it answers.
    #[error("node {0} answers: it is not gone")]
    NotGone(NodeId),
    /// The order says that a node is gone, but no answering process knows it.
    #[error("node {0} has no part in this cluster")]
    NotInCluster(NodeId),
}

fn better(best: &Rank, own: &Rank) -> String {
    let node = best.raft_id.node_id();
    let has = match best.cmp_log(own) {
        Ordering::Greater if best.last_term == own.last_term => format!(
            "has more: its log reaches {}, this one's {}",
            best.last_index, own.last_index
        ),
        Ordering::Greater => format!("has more: its log reaches {best}, this one's {own}"),
        Ordering::Equal | Ordering::Less => "has as much, and goes first".to_owned(),
    };
    format!("node {node} {has}; seshat recover --from {node}")
}

fn may_be_there(node: NodeId, answering: Answering) -> String {
    match answering {
        Answering::Hung => hung(node),
        answering => format!(
            "node {node} may be there, and have more: its address {answering}. Start it there again; or, if \
             it is gone for good, end or disconnect what is there"
        ),
    }
}

fn silent(those: &[NodeId]) -> String {
    let (verb, it, restart) = match those {
        [_] => (
            "does not answer",
            "it",
            "its process, or start it again if it has ended",
        ),
        _ => (
            "do not answer",
            "they",
            "their processes, or start them again if they have ended",
        ),
    };
    let ids: Vec<_> = those.iter().map(NodeId::to_string).collect();
    format!(
        "{} {verb}: {it} may still serve, or have more. Reconnect {restart}. Only if {it} can never \
         answer again, state that: --without {}",
        nodes(those),
        ids.join(",")
    )
}

/// The remains of one cluster, according to the nodes that answer.
#[derive(Debug, Clone, Copy)]
pub struct Remains<'a> {
    cluster: ClusterId,
    answers: &'a Answers,
}

impl<'a> Remains<'a> {
    /// The remains of `cluster`, given the answers of all nodes that were asked.
    pub fn new(cluster: ClusterId, answers: &'a Answers) -> Self {
        Self { cluster, answers }
    }

    /// Whether `me`, one of the nodes that answer, may carry out `order`, and what that would do.
    ///
    /// # Errors
    ///
    /// The first [`Obstacle`].
    pub fn may_recover(&self, me: NodeId, order: &Order) -> Result<Way, Obstacle> {
        let own = self.answers.views.get(&me).ok_or(Obstacle::NoPart)?;
        match own.cluster_id {
            Some(cluster) if own.state == NodeState::Started => {
                if cluster != self.cluster {
                    return Err(Obstacle::OtherCluster(cluster));
                }
            }
            _ => return Err(Obstacle::NoPart),
        }
        let way = self.way()?;
        if way.survivor.raft_id != own.raft_id {
            return Err(Obstacle::Better {
                best: way.survivor,
                own: Rank::of(own),
            });
        }
        if let Some(node) = order.without.iter().find(|id| !way.silent.contains(id)) {
            return Err(match self.answers(*node) {
                true => Obstacle::NotGone(*node),
                false => Obstacle::NotInCluster(*node),
            });
        }
        let answering = |id: &NodeId| (*id, self.answers.answering(*id));
        let mut found = way.silent.iter().map(answering);
        if let Some((node, answering)) = found.find(|(_, it)| !it.may_be_gone()) {
            return Err(Obstacle::MayBeThere { node, answering });
        }
        let silent = way.silent.iter().copied();
        let silent: Vec<_> = silent.filter(|id| !order.without.contains(id)).collect();
        if !silent.is_empty() {
            return Err(Obstacle::Silent(silent));
        }
        if !way.survivor.votes && !order.incomplete {
            return Err(Obstacle::Incomplete);
        }
        Ok(way)
    }

    /// How the cluster can be recovered, from the process that has most of it.
    ///
    /// # Errors
    ///
    /// The first [`Obstacle`]: there is a leader or could be one, or nothing is left, or the cluster is
    /// recovered already.
    pub fn way(&self) -> Result<Way, Obstacle> {
        if let Some((node, cluster_id)) = self.elsewhere() {
            return Err(Obstacle::Elsewhere { node, cluster_id });
        }
        self.is_led()?;
        let mut survivors: Vec<_> = self.survivors().collect();
        survivors.sort_by_key(|view| std::cmp::Reverse(Rank::of(view)));
        let (best, others) = survivors.split_first().ok_or(Obstacle::Nothing)?;
        let electors = survivors.iter().find_map(|view| self.electors(view));
        if let Some(electors) = electors {
            return Err(Obstacle::Majority(electors));
        }
        if let Some(view) = self.parts().find(|view| view.recovery.under_way) {
            return Err(Obstacle::UnderWay(view.raft_id.node_id()));
        }
        let voters = &best.conf.voters;
        let lost: BTreeSet<_> = voters
            .iter()
            .filter(|voter| self.is_lost(**voter))
            .map(|voter| voter.node_id())
            .collect();
        Ok(Way {
            cluster_id: self.cluster,
            survivor: Rank::of(best),
            others: others.iter().map(|view| Rank::of(view)).collect(),
            silent: self.silent().into_iter().collect(),
            halted: survivors.iter().all(|view| self.is_hopeless(view)),
            lost: lost.into_iter().collect(),
            voters: voters.len(),
        })
    }

    /// The answering processes that take part in the cluster.
    fn parts(&self) -> impl Iterator<Item = &'a NodeStatus> {
        self.answers.views().filter(|view| self.takes_part(view))
    }

    /// Those of them that have state of it. A process that has just been added has none.
    fn survivors(&self) -> impl Iterator<Item = &'a NodeStatus> {
        self.parts()
            .filter(|view| view.last_index > 0 && !view.conf.voters.is_empty())
    }

    fn takes_part(&self, view: &NodeStatus) -> bool {
        view.state == NodeState::Started && view.cluster_id == Some(self.cluster)
    }

    fn elsewhere(&self) -> Option<(NodeId, ClusterId)> {
        let mut started = self.answers.views.iter().filter_map(|(node, view)| {
            let cluster = view.cluster_id?;
            (view.state == NodeState::Started).then_some((*node, cluster))
        });
        started.find(|(_, cluster)| *cluster != self.cluster)
    }

    /// A leader counts until it is surely lost. A process names a leader only if it has recently heard of it.
    fn is_led(&self) -> Result<(), Obstacle> {
        let leads = |view: &&NodeStatus| view.role == Some(Role::Leader);
        if let Some(leader) = self.parts().find(leads) {
            return Err(Obstacle::Led(leader.raft_id.node_id()));
        }
        for view in self.parts() {
            if let Some(leader) = view.leader
                && !self.is_lost(leader)
            {
                return Err(Obstacle::HeardOf {
                    by: view.raft_id.node_id(),
                    leader: leader.node_id(),
                });
            }
        }
        Ok(())
    }

    /// Whether the process has surely ended, or has left the cluster for another one.
    fn is_lost(&self, process: RaftId) -> bool {
        self.answers
            .views
            .get(&process.node_id())
            .is_some_and(|view| view.raft_id != process || self.is_elsewhere(view))
    }

    /// A process that is fresh, outside or prepared may take part by now: it may be about to start.
    fn is_elsewhere(&self, view: &NodeStatus) -> bool {
        view.state == NodeState::Started && view.cluster_id != Some(self.cluster)
    }

    /// The answering majority that would elect `view`, according to its own voters, if there is one. No
    /// process votes for a log that is behind its own, and only a voter can be a candidate (paper, section
    /// 5.4.1): a process whose voters are out of date may count a majority that will never elect it.
    fn electors(&self, view: &NodeStatus) -> Option<Vec<NodeId>> {
        let own = Rank::of(view);
        let is_behind = |voter: &NodeId| {
            let other = self.answers.views.get(voter);
            other.is_some_and(|other| own.cmp_log(&Rank::of(other)) == Ordering::Less)
        };
        let mut electors = self.able(view);
        electors.retain(|voter| !is_behind(voter));
        (own.votes && electors.len() > view.conf.voters.len() / 2).then_some(electors)
    }

    /// The nodes whose processes answer and are voters, according to the voters of `view`.
    fn able(&self, view: &NodeStatus) -> Vec<NodeId> {
        let answers = |voter: &&RaftId| self.answers(voter.node_id()) && !self.is_lost(**voter);
        let voters = view.conf.voters.iter().filter(answers);
        voters.map(|voter| voter.node_id()).collect()
    }

    fn answers(&self, node: NodeId) -> bool {
        self.answers.views.contains_key(&node)
    }

    /// Whether no leader can ever be elected, according to the voters of `view`, even if all silent nodes
    /// came back.
    ///
    /// Silent nodes may know of later voters. A voter's own status is enough nevertheless: a process that
    /// replaced a lost voter meanwhile answers as well, or is silent and counts. A learner's status is
    /// not enough: it may have been promoted without knowing. A silent node may have the longest log, and
    /// be elected by all nodes that answer. So logs that are behind count only if no node is silent.
    fn is_hopeless(&self, view: &NodeStatus) -> bool {
        let silent = self.silent();
        if silent.is_empty() {
            return self.electors(view).is_none();
        }
        let voters: BTreeSet<_> = view.conf.voters.iter().map(|id| id.node_id()).collect();
        // A silent node that is not known as a voter may have become one: one more vote, and one more
        // voter to count.
        let unknown = silent.difference(&voters).count();
        let able = self.able(view).len() + silent.len();
        view.conf.voters.contains(&view.raft_id) && able <= (voters.len() + unknown) / 2
    }

    /// The nodes that do not answer, but have a part in the cluster as some answering process knows.
    fn silent(&self) -> BTreeSet<NodeId> {
        let known = self.parts().flat_map(known);
        known.filter(|node| !self.answers(*node)).collect()
    }
}

/// The nodes that have a part in the cluster of `view`, as far as that process knows. It does not know a
/// node that became a member while it was cut off.
pub fn known(view: &NodeStatus) -> impl Iterator<Item = NodeId> {
    let conf = &view.conf;
    let processes = conf.voters.iter().chain(&conf.learners);
    let members = conf.members.iter().copied();
    members.chain(processes.map(|process| process.node_id()))
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
