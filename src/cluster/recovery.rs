//! Whether a cluster may be given up, who has most of it, and what is missing elsewhere.
//!
//! A recovery makes a new cluster of what one process, the *survivor*, still has. It must not be
//! begun while the old one may go on, and not at a process that has less than another. Both are
//! judged here, from what everybody says who answers: for the summary that recommends a recovery, for
//! the look before it, and for the recovery itself. So what is recommended is accepted.
//!
//! **A voter is lost** once another life answers in its place, or its process belongs to another
//! cluster now. One that does not answer is not lost: it may come back, it may serve somewhere, and it
//! may have more than everybody who answers. A recovery leaves such a node out only if an operator
//! vouches that its process is gone for good.
//!
//! Nobody can vouch for one in whose place something answers, or that takes connections and does not
//! answer: it may be a node that hangs, and goes on later.
//!
//! **Who has most** is a total order, [`Rank`]: the one by which Raft compares logs (paper, section
//! 5.4.1), and what decides between equal ones. The log that is up to date has everything that was
//! committed, as far as anybody who answers has it. That holds for a learner's too. But a learner's
//! log may have ended anywhere, so one that has most is taken only if an operator accepts that.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use super::Answers;
use super::words::{hung, nodes};
use crate::types::{Answering, ClusterId, NodeId, NodeState, NodeStatus, RaftId, Rank, Role};

/// What an operator orders who gives a cluster up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The cluster that is given up.
    pub cluster_id: ClusterId,
    /// The nodes whose processes, the operator vouches, are gone for good.
    pub without: BTreeSet<NodeId>,
    /// Whether the operator accepts a survivor that does not vote.
    pub incomplete: bool,
}

impl Order {
    /// To give up `cluster_id` with everybody answering and a survivor that votes.
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            cluster_id,
            without: BTreeSet::new(),
            incomplete: false,
        }
    }
}

/// How a cluster that nobody can lead now can be recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Who has most of it.
    pub survivor: Rank,
    /// Who else has state of it, in descending order of what they have.
    pub others: Vec<Rank>,
    /// Nodes that do not answer, in ascending order.
    pub silent: Vec<NodeId>,
    /// Whether nobody could be elected either if they came back: only then it is to be recommended.
    pub halted: bool,
    /// Voters that are surely lost, as the survivor has applied the voters, in ascending order.
    pub lost: Vec<NodeId>,
    /// The number of voters that the survivor has applied.
    pub voters: usize,
}

impl Way {
    /// The node that it starts from.
    pub fn from(&self) -> NodeId {
        self.survivor.raft_id.node_id()
    }

    /// The order that is accepted there, if what it vouches for is true.
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

/// Why a cluster cannot be recovered, here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Nobody who answers has anything of the cluster.
    #[error("nobody who answers has anything of this cluster that could be kept")]
    Nothing,
    /// This process has nothing of any cluster.
    #[error("this node takes part in no cluster: it has nothing that could be kept")]
    NoPart,
    /// This process takes part in another cluster.
    #[error("this node takes part in cluster {0}")]
    OtherCluster(ClusterId),
    /// Somebody leads.
    #[error("the cluster is not halted: node {0} leads it")]
    Led(NodeId),
    /// Somebody has heard of a leader a moment ago.
    #[error("the cluster is not halted: node {by} says that node {leader} leads it")]
    HeardOf {
        /// Who has heard of it.
        by: NodeId,
        /// The leader.
        leader: NodeId,
    },
    /// Those who answer can elect somebody.
    #[error("the cluster is not halted: {} can elect a leader", nodes(.0))]
    Majority(Vec<NodeId>),
    /// A node belongs to another cluster, which may have been made of what it had of this one.
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
        /// What that one has.
        best: Rank,
        /// What this one has.
        own: Rank,
    },
    /// The survivor does not vote, and the operator has not accepted that.
    #[error(
        "this node does not vote: it had not caught up with its cluster, or was removed, and nobody \
         knows how much it lacks; to keep what it has nevertheless: --incomplete"
    )]
    Incomplete,
    /// Nodes do not answer that nobody has vouched for.
    #[error("{}", silent(.0))]
    Silent(Vec<NodeId>),
    /// A node does not answer that may be there all the same: nobody can vouch that it is gone.
    #[error("{}", may_be_there(*.node, *.answering))]
    MayBeThere {
        /// The node.
        node: NodeId,
        /// What answers in its place.
        answering: Answering,
    },
    /// A node answers that is said to be gone.
    #[error("node {0} answers: it is not gone")]
    NotGone(NodeId),
    /// A node is said to be gone that nobody knows.
    #[error("node {0} has no part in this cluster")]
    Stranger(NodeId),
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
    let (verb, it, its) = match those {
        [_] => ("does not answer", "it", "its process"),
        _ => ("do not answer", "they", "their processes"),
    };
    let ids: Vec<_> = those.iter().map(NodeId::to_string).collect();
    format!(
        "{} {verb}: {it} may still serve, or have more. Connect {its} again, or start again what has \
         ended. Only if {it} can never answer again, vouch for that: --without {}",
        nodes(those),
        ids.join(",")
    )
}

/// What is left of one cluster, in the eyes of everybody who answers.
#[derive(Debug, Clone, Copy)]
pub struct Remains<'a> {
    cluster: ClusterId,
    answers: &'a Answers,
}

impl<'a> Remains<'a> {
    /// What is left of `cluster`, if this is what everybody has answered who was asked.
    pub fn new(cluster: ClusterId, answers: &'a Answers) -> Self {
        Self { cluster, answers }
    }

    /// Whether `me`, one of those who answer, may carry out `order`, and what that would be.
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
                false => Obstacle::Stranger(*node),
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

    /// How the cluster can be recovered, by whoever has most of it.
    ///
    /// # Errors
    ///
    /// The first [`Obstacle`]: somebody leads or could, or nobody has anything, or it is recovered
    /// already.
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

    /// Everybody who answers and takes part in the cluster.
    fn parts(&self) -> impl Iterator<Item = &'a NodeStatus> {
        self.answers.views().filter(|view| self.takes_part(view))
    }

    /// Those of them who have something of it. A process that has just been let in has nothing.
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

    /// A leader counts until it is surely lost. Who it is does a process say only if it has heard of
    /// it lately.
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

    /// Who belongs to nothing, or is bound, may take part by now: it is about to start.
    fn is_elsewhere(&self, view: &NodeStatus) -> bool {
        view.state == NodeState::Started && view.cluster_id != Some(self.cluster)
    }

    /// The majority of those who answer that would elect `view`, as it has the voters, if there is
    /// one. Nobody votes for a log that is behind its own, and only a voter can stand (paper, section
    /// 5.4.1): somebody whose voters are out of date may count a majority that will never elect it.
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

    /// The nodes whose processes answer and vote, as `view` has the voters.
    fn able(&self, view: &NodeStatus) -> Vec<NodeId> {
        let answers = |voter: &&RaftId| self.answers(voter.node_id()) && !self.is_lost(**voter);
        let voters = view.conf.voters.iter().filter(answers);
        voters.map(|voter| voter.node_id()).collect()
    }

    fn answers(&self, node: NodeId) -> bool {
        self.answers.views.contains_key(&node)
    }

    /// Whether nobody can ever be elected, as `view` has the voters, even if everybody who is silent
    /// came back.
    ///
    /// They may know of later voters. A voter's own word is enough nevertheless: who took a lost
    /// voter's place meanwhile answers as well, or is silent and counts. A learner's is not: it may
    /// have been promoted without having heard. Who is silent may have the longest log, and be elected
    /// by everybody who answers; so whose log is behind counts only where nobody is silent.
    fn is_hopeless(&self, view: &NodeStatus) -> bool {
        let silent = self.silent();
        if silent.is_empty() {
            return self.electors(view).is_none();
        }
        let voters: BTreeSet<_> = view.conf.voters.iter().map(|id| id.node_id()).collect();
        // A silent node that is no voter yet may have become one: one more that can vote, and one
        // more that counts.
        let unknown = silent.difference(&voters).count();
        let able = self.able(view).len() + silent.len();
        view.conf.voters.contains(&view.raft_id) && able <= (voters.len() + unknown) / 2
    }

    /// The nodes that somebody who answers knows to have a part in the cluster, and that do not
    /// answer.
    fn silent(&self) -> BTreeSet<NodeId> {
        let known = self.parts().flat_map(known);
        known.filter(|node| !self.answers(*node)).collect()
    }
}

/// The nodes that have a part in the cluster of `view`, as far as that knows: one that was made a
/// member while it was cut off is not known.
pub fn known(view: &NodeStatus) -> impl Iterator<Item = NodeId> {
    let conf = &view.conf;
    let processes = conf.voters.iter().chain(&conf.learners);
    let members = conf.members.iter().copied();
    members.chain(processes.map(|process| process.node_id()))
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
