//! How processes that know nothing become a cluster, once.
//!
//! A process begins *fresh*. The initial member with the lowest node id coordinates: it asks the
//! others who they are until all of them have answered that they belong to no running cluster, then
//! offers them a new one: a random cluster id and the exact raft ids that it heard. Who accepts is
//! *bound*. When all have accepted, the coordinator starts the cluster and says so; a bound process
//! starts on that word, or on Raft traffic of its cluster. A *started* process never leaves its
//! cluster and refuses every offer.
//!
//! Anyone may die at any point. An offer names processes, not machines, so that a process which
//! was started again is not taken for the one that accepted. A coordinator that dies before it has
//! started leaves bound processes behind; its next life finds them and offers anew, and the new
//! offer overrides the old. It must not strand them, though: the old coordinator may have started
//! and reached one of them before it died. So a bound process remembers the offers it accepted
//! before, and also starts on traffic of one of those, if that comes from another process than its
//! coordinator. That is safe: the sender has started the older cluster while it was bound to it,
//! and refuses the newer offer from then on, so the newer cluster can never start.
//!
//! A fresh process that finds a member running in a cluster knows that it is *outside*: it was part
//! of that cluster in an earlier life, and has lost its memory, or it is new to it. It waits until the
//! leader lets it in, which the leader's first message says, and goes on asking meanwhile. The leader
//! lets in members only; whether its node is one, the process learns from what the others say.

use std::collections::{BTreeMap, BTreeSet};

use super::seed::mix;
use super::waiting;
use crate::types::{ClusterId, ClusterMembership, NodeId, NodeState, NodeStatus, Offer, RaftId};

/// Ticks between two rounds of questions while the cluster is not there yet.
const PROBE_TICKS: u64 = 2;
/// Ticks between two rounds of questions of a process that cannot do anything but wait.
const WAIT_TICKS: u64 = 10;
/// Ticks after which a call that was not answered counts as failed: longer than any call may take.
const CALL_TICKS: u64 = 60;
/// Ticks after which an offer that not everybody has answered is given up.
const OFFER_TICKS: u64 = 20;
/// Earlier offers that a bound process remembers.
const MAX_EARLIER_OFFERS: usize = 16;

/// A call to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Who are you?
    Identify,
    /// Will you be part of this cluster? The receiver is the offer's member of that node.
    Offer(Offer),
    /// The cluster starts. The receiver is the offer's member of that node.
    Start(Offer),
}

/// What came back from a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Who the node is.
    Identified(NodeStatus),
    /// Whether it accepted the offer of this cluster.
    Offered {
        /// The offered cluster.
        cluster_id: ClusterId,
        /// Whether it accepted.
        accepted: bool,
    },
    /// It heard that the cluster starts.
    Started,
    /// No answer, or none that makes sense.
    Failed,
}

/// Where a process stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Belongs to nothing.
    Fresh,
    /// Is the coordinator of an offer and counts the nodes that have accepted.
    Offering {
        offer: Offer,
        accepted: BTreeSet<NodeId>,
        since: u64,
    },
    /// Has accepted an offer.
    Bound { offer: Offer },
    /// Takes part in the cluster of an offer.
    Started { offer: Offer },
    /// Was let into a running cluster.
    Joined { cluster_id: ClusterId },
}

/// What is known of another initial member.
#[derive(Debug, Default)]
struct Peer {
    /// What it said of itself when it was last asked, if it answered.
    heard: Option<NodeStatus>,
    /// When the call that is under way began.
    asked_at: Option<u64>,
}

/// One process on its way into a cluster.
#[derive(Debug)]
pub struct Formation {
    raft_id: RaftId,
    members: ClusterMembership,
    /// Whether it takes part in forming a new cluster, or only waits to be let into one.
    bootstrap: bool,
    seed: u64,
    offers_made: u64,
    now: u64,
    probe_at: u64,
    phase: Phase,
    /// Offers accepted before the current one.
    earlier: Vec<Offer>,
    /// The cluster that runs without it, and whether its node is a member there.
    outside: Option<(ClusterId, bool)>,
    peers: BTreeMap<NodeId, Peer>,
    calls: Vec<(NodeId, Call)>,
}

impl Formation {
    /// The process `raft_id` among the initial `members`; random ids come from `seed`.
    pub fn new(raft_id: RaftId, members: &ClusterMembership, bootstrap: bool, seed: u64) -> Self {
        let others = members.ids().filter(|&id| id != raft_id.node_id());
        Self {
            raft_id,
            bootstrap,
            seed,
            offers_made: 0,
            now: 0,
            probe_at: 0,
            phase: Phase::Fresh,
            earlier: Vec::new(),
            outside: None,
            peers: others.map(|id| (id, Peer::default())).collect(),
            members: members.clone(),
            calls: Vec::new(),
        }
    }

    /// Where the process stands.
    pub fn state(&self) -> NodeState {
        match &self.phase {
            Phase::Started { .. } | Phase::Joined { .. } => NodeState::Started,
            Phase::Bound { .. } => NodeState::Bound,
            Phase::Fresh | Phase::Offering { .. } if self.outside.is_some() => NodeState::Outside,
            Phase::Fresh | Phase::Offering { .. } => NodeState::Fresh,
        }
    }

    /// The cluster that it is bound to or takes part in, or outside of which it waits.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        match &self.phase {
            Phase::Started { offer } | Phase::Bound { offer } => Some(offer.cluster_id),
            Phase::Joined { cluster_id } => Some(*cluster_id),
            Phase::Fresh | Phase::Offering { .. } => self.outside.map(|(id, _)| id),
        }
    }

    /// Whether the node of this process is a member of the cluster that runs without it, or there is
    /// no such cluster.
    pub fn is_member(&self) -> bool {
        self.outside.is_none_or(|(_, is_member)| is_member)
    }

    /// The cluster that the process takes part in, once it does.
    pub fn started(&self) -> Option<&Offer> {
        match &self.phase {
            Phase::Started { offer } => Some(offer),
            _ => None,
        }
    }

    /// The leader of `cluster_id` counts this process among its members: it takes part from now on,
    /// unless it is bound to another cluster or takes part in one.
    pub fn join(&mut self, cluster_id: ClusterId) -> bool {
        if matches!(self.phase, Phase::Fresh) {
            self.phase = Phase::Joined { cluster_id };
            self.outside = None;
            return true;
        }
        false
    }

    /// What the process waits for, in words.
    pub fn waiting_for(&self) -> String {
        if let Some((cluster_id, is_member)) = self.outside {
            return waiting::outside(cluster_id, is_member, self.bootstrap);
        }
        if !matches!(self.phase, Phase::Fresh) {
            return "every initial member has been found; the cluster is about to start".to_owned();
        }
        let silent = self.peers.iter().filter(|(_, peer)| peer.heard.is_none());
        let silent: Vec<_> = silent.map(|(&id, _)| id).collect();
        waiting::fresh(&silent, self.bootstrap)
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.now += 1;
        if matches!(self.phase, Phase::Started { .. } | Phase::Joined { .. }) {
            return;
        }
        let now = self.now;
        for peer in self.peers.values_mut() {
            if peer.asked_at.take_if(|at| now - *at > CALL_TICKS).is_some() {
                peer.heard = None;
            }
        }
        if matches!(self.phase, Phase::Offering { since, .. } if now - since > OFFER_TICKS) {
            self.withdraw();
        }
        if self.probe_at <= now && !matches!(self.phase, Phase::Offering { .. }) {
            self.probe();
        }
    }

    /// Asks every peer that is not being asked who it is.
    fn probe(&mut self) {
        let pause = if self.outside.is_some() {
            WAIT_TICKS
        } else {
            PROBE_TICKS
        };
        self.probe_at = self.now + pause;
        let idle = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.asked_at.is_none());
        let idle: Vec<_> = idle.map(|(&id, _)| id).collect();
        for id in idle {
            self.call(id, Call::Identify);
        }
    }

    fn call(&mut self, to: NodeId, call: Call) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.asked_at = Some(self.now);
            self.calls.push((to, call));
        }
    }

    /// The calls to make.
    pub fn take_calls(&mut self) -> Vec<(NodeId, Call)> {
        std::mem::take(&mut self.calls)
    }

    /// `node` replied to a call.
    pub fn replied(&mut self, node: NodeId, reply: Reply) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.asked_at = None;
        match reply {
            Reply::Identified(status) if status.raft_id.node_id() == node => {
                peer.heard = Some(status.clone());
                self.learn(&status);
            }
            Reply::Identified(_) | Reply::Failed => {
                peer.heard = None;
                self.withdraw();
            }
            Reply::Offered {
                cluster_id,
                accepted,
            } => self.offer_answered(node, cluster_id, accepted),
            Reply::Started => {}
        }
        if matches!(self.phase, Phase::Fresh) {
            self.update_outside();
            self.maybe_offer();
        }
    }

    /// What a peer's place means for this process: a cluster that it has accepted may be running.
    fn learn(&mut self, status: &NodeStatus) {
        if let (NodeState::Started, Some(cluster_id)) = (status.state, status.cluster_id) {
            self.hear_traffic(cluster_id, status.raft_id);
        }
    }

    /// A fresh process is outside as long as some member runs in a cluster.
    fn update_outside(&mut self) {
        let heard = self.peers.values().filter_map(|peer| peer.heard.as_ref());
        let started = heard.filter(|status| status.state == NodeState::Started);
        let Some(first) = started.clone().next() else {
            self.outside = None;
            return;
        };
        // Who has applied most knows best who is a member. Who has applied nothing knows nobody.
        let same = started.filter(|status| status.cluster_id == first.cluster_id);
        let best = same.max_by_key(|status| status.applied_index);
        let members = best.map(|status| status.conf.members.as_slice());
        let is_member = members
            .is_none_or(|members| members.is_empty() || members.contains(&self.raft_id.node_id()));
        self.outside = first.cluster_id.map(|cluster_id| (cluster_id, is_member));
    }

    /// The coordinator offers a cluster when every other initial member has said that it runs in
    /// none. It does not matter how long ago, or whether one is being asked again: distant members
    /// may answer in turn, never close together, and to a life that has ended meanwhile the offer
    /// means nothing.
    fn maybe_offer(&mut self) {
        let me = self.raft_id.node_id();
        let coordinates = self.bootstrap && self.peers.keys().all(|&id| me < id);
        let ready = self.peers.values().all(|peer| {
            let heard = peer.heard.as_ref();
            heard.is_some_and(|status| status.state != NodeState::Started)
        });
        if !coordinates || !ready {
            return;
        }
        let heard = self.peers.values().filter_map(|peer| peer.heard.as_ref());
        let others = heard.map(|status| status.raft_id);
        self.offers_made += 1;
        let offer = Offer {
            cluster_id: ClusterId(mix(&[self.seed, self.raft_id.get(), self.offers_made])),
            coordinator: self.raft_id,
            members: std::iter::once(self.raft_id).chain(others).collect(),
            membership: self.members.clone(),
        };
        self.phase = Phase::Offering {
            offer: offer.clone(),
            accepted: BTreeSet::new(),
            since: self.now,
        };
        self.call_all(&Call::Offer(offer));
    }

    fn call_all(&mut self, call: &Call) {
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.call(id, call.clone());
        }
    }

    fn offer_answered(&mut self, node: NodeId, cluster_id: ClusterId, accepts: bool) {
        let Phase::Offering {
            offer, accepted, ..
        } = &mut self.phase
        else {
            return;
        };
        // The answer to an offer that was given up says nothing about this one.
        if offer.cluster_id != cluster_id {
            return;
        }
        if !accepts {
            self.withdraw();
            return;
        }
        accepted.insert(node);
        if accepted.len() == self.peers.len() {
            let offer = offer.clone();
            self.phase = Phase::Started {
                offer: offer.clone(),
            };
            self.call_all(&Call::Start(offer));
        }
    }

    /// Gives up an offer that not everybody accepted, and asks everybody anew.
    fn withdraw(&mut self) {
        if matches!(self.phase, Phase::Offering { .. }) {
            self.phase = Phase::Fresh;
            for peer in self.peers.values_mut() {
                *peer = Peer::default();
            }
        }
    }

    /// Takes an offer; whether it is accepted.
    pub fn offered(&mut self, offer: Offer) -> bool {
        let expected: BTreeSet<_> = self
            .peers
            .keys()
            .copied()
            .chain([self.raft_id.node_id()])
            .collect();
        let named: BTreeSet<_> = offer.members.iter().map(|id| id.node_id()).collect();
        let well_formed = offer.members.contains(&self.raft_id)
            && named == expected
            && offer.members.len() == expected.len()
            && expected.first() == Some(&offer.coordinator.node_id())
            && offer.coordinator != self.raft_id;
        if !self.bootstrap || !well_formed {
            return false;
        }
        match &self.phase {
            Phase::Started { .. } | Phase::Joined { .. } | Phase::Offering { .. } => return false,
            Phase::Bound { offer: current } if *current == offer => return true,
            Phase::Bound { offer: current } => {
                self.earlier.insert(0, current.clone());
                self.earlier.truncate(MAX_EARLIER_OFFERS);
            }
            Phase::Fresh => {}
        }
        self.outside = None;
        self.phase = Phase::Bound { offer };
        true
    }

    /// The coordinator says that a cluster starts; whether this process takes part in it now.
    pub fn start(&mut self, cluster_id: ClusterId, coordinator: RaftId) -> bool {
        if let Phase::Bound { offer } = &self.phase
            && (offer.cluster_id, offer.coordinator) == (cluster_id, coordinator)
        {
            self.phase = Phase::Started {
                offer: offer.clone(),
            };
        }
        self.started()
            .is_some_and(|offer| offer.cluster_id == cluster_id)
    }

    /// Raft traffic of `cluster_id` came from `from`, or `from` says that it runs in it: a bound
    /// process starts if it has accepted that cluster. The module's head says why an earlier offer
    /// counts only when `from` is not its coordinator.
    pub fn hear_traffic(&mut self, cluster_id: ClusterId, from: RaftId) {
        let Phase::Bound { offer } = &self.phase else {
            return;
        };
        let accepted = if offer.cluster_id == cluster_id {
            Some(offer)
        } else {
            self.earlier
                .iter()
                .find(|offer| offer.cluster_id == cluster_id && offer.coordinator != from)
        };
        if let Some(offer) = accepted.filter(|offer| offer.members.contains(&from)) {
            self.phase = Phase::Started {
                offer: offer.clone(),
            };
        }
    }
}

#[cfg(test)]
#[path = "formation_tests.rs"]
mod tests;
