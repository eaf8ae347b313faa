//! How processes that know nothing become a cluster, once.
//!
//! A process begins *fresh*. The initial member with the lowest node id coordinates: it asks the
//! others who they are until all of them have answered that they belong to no running cluster, then
//! offers them a new one: a random cluster id and the exact raft ids that it heard. Who accepts is
//! *bound*. When all have accepted, the coordinator starts the cluster and says so; a bound process
//! starts on that word, or on Raft traffic of its cluster. A *started* process refuses every offer,
//! and leaves its cluster only for one that an operator makes of it.
//!
//! Anyone may die at any point. An offer names processes, not machines, so that a process which
//! was started again is not taken for the one that accepted. A coordinator that dies before it has
//! started leaves bound processes behind; its next life finds them and offers anew, and the new
//! offer overrides the old. It must not strand them, though: the old coordinator may have started
//! and reached one of them before it died. So a bound process remembers the offers it accepted
//! before, and `bound.rs` says when it goes back to one of them.
//!
//! Members that are missing for good would hold the others up for ever. An operator may vouch that
//! they are fresh (`vouch.rs`): then the lowest of the rest coordinates, and offers a cluster of the
//! rest alone, whose members are all initial members nevertheless. The missing ones are let in like
//! any process that was started again.
//!
//! # Why there is one cluster
//!
//! An offer is *decided* when its coordinator starts it. What is vouched for is true: no process of
//! a vouched member runs when the operator asks, and none belongs to a cluster that still does.
//! Then **when an offer is decided, no living process has started another cluster.** The steps:
//!
//! 1. The coordinator of a decided offer is no member, as that very process, of another decided
//!    one: it would have had to accept that before it offered, and who is bound offers nothing, or
//!    after, and who is offering or started refuses.
//! 2. Decided offers were made one after the other, never at the same time. Say node 2 offers
//!    without node 1 while node 1, which has appeared meanwhile, offers to all. Node 1 has asked
//!    after it began, so it has heard the process of node 2 that is offering. That is a member of
//!    node 1's offer, which by step 1 is not decided. In general: of two coordinators that live at
//!    the same time the one with the higher node id was vouched to be without the lower one, so it
//!    lived before the lower one began, and is a member of whatever that one offers.
//! 3. So a process that accepted two decided offers accepted the earlier one first, and starts
//!    neither on the word of a member of both: whoever had started the earlier one would have
//!    refused the later one. A member of the earlier offer alone is dead by the time of the later
//!    one, as another life of its node is a member of that, or its node was vouched for.
//!
//! Undecided offers harm nobody, in whatever order they arrive, since nobody ever starts them.
//!
//! A fresh process that finds a member running in a cluster knows that it is *outside*: it was part
//! of that cluster in an earlier life, and has lost its memory, or it is new to it. It waits until the
//! leader lets it in, which the leader's first message says, and goes on asking meanwhile. The leader
//! lets in members only; whether its node is one, the process learns from what the others say.

mod bound;
mod vouch;

use std::collections::{BTreeMap, BTreeSet};

use self::vouch::Vouch;
use super::seed::mix;
use super::waiting;
use super::{Call, Reply};
use crate::types::{
    Answering, ClusterId, ClusterMembership, NodeId, NodeState, NodeStatus, Offer, RaftId,
};

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
/// Ticks for which what a peer said of itself counts as now, while it is asked all the time.
const LATELY_TICKS: u64 = 2 * PROBE_TICKS;

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
    /// What it said of itself when it was last asked, if it answered, and when.
    heard: Option<(NodeStatus, u64)>,
    /// What else was found at its address, if that was the last that was found there.
    stranger: Option<Answering>,
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
    /// Offers accepted before the current one, the latest first.
    earlier: Vec<Offer>,
    /// When the current offer was accepted.
    accepted_at: u64,
    /// The initial members that an operator has vouched for.
    vouch: Option<Vouch>,
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
            accepted_at: 0,
            vouch: None,
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

    /// An operator has made a new cluster of what this process had: it takes part in that one from
    /// now on.
    pub(super) fn recovered(&mut self, cluster_id: ClusterId) {
        self.phase = Phase::Joined { cluster_id };
    }

    /// What the process waits for, in words.
    pub fn waiting_for(&self) -> String {
        if let Some((cluster_id, is_member)) = self.outside {
            return waiting::outside(cluster_id, is_member, self.bootstrap);
        }
        if !matches!(self.phase, Phase::Fresh) {
            return "every initial member has been found; the cluster is about to start".to_owned();
        }
        let unheard = self.peers.iter().filter(|(_, peer)| peer.heard.is_none());
        let missing = unheard.filter(|&(&id, _)| !self.is_vouched(id));
        let missing: Vec<_> = missing
            .map(|(&id, peer)| {
                let addr = self.members.get(id).map_or("", |info| &info.addr);
                (id, peer.stranger.map(|stranger| (stranger, addr)))
            })
            .collect();
        waiting::fresh(&missing, self.bootstrap)
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.now += 1;
        if matches!(self.phase, Phase::Started { .. } | Phase::Joined { .. }) {
            return;
        }
        let now = self.now;
        self.vouch.take_if(|vouch| vouch.until < now);
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
        let asked_at = peer.asked_at.take();
        match reply {
            Reply::Identified(status) if status.raft_id.node_id() == node => {
                peer.heard = Some((status.clone(), self.now));
                peer.stranger = None;
                self.is_there(node);
                self.learn(&status, asked_at);
            }
            Reply::Identified(_) | Reply::Failed | Reply::Stranger(_) => {
                peer.heard = None;
                peer.stranger = match reply {
                    Reply::Identified(status) => {
                        Some(Answering::OtherNode(status.raft_id.node_id()))
                    }
                    Reply::Stranger(stranger) => Some(stranger),
                    _ => None,
                };
                // Silence of somebody whom the offer leaves out says nothing about it.
                if self.offers_to(node) {
                    self.withdraw();
                }
            }
            Reply::Offered {
                cluster_id,
                accepted,
            } => self.offer_answered(node, cluster_id, accepted),
            Reply::Started | Reply::Yielded { .. } => {}
        }
        if matches!(self.phase, Phase::Fresh) {
            self.update_outside();
            self.maybe_offer();
        }
    }

    /// A fresh process is outside as long as some member runs in a cluster.
    fn update_outside(&mut self) {
        let heard = self.peers.values().filter_map(|peer| peer.heard.as_ref());
        let started = heard.filter(|(status, _)| status.state == NodeState::Started);
        let Some((first, _)) = started.clone().next() else {
            self.outside = None;
            return;
        };
        // Who has applied most knows best who is a member. Who has applied nothing knows nobody.
        let same = started.filter(|(status, _)| status.cluster_id == first.cluster_id);
        let best = same.max_by_key(|(status, _)| status.applied_index);
        let members = best.map(|(status, _)| status.conf.members.as_slice());
        let is_member = members
            .is_none_or(|members| members.is_empty() || members.contains(&self.raft_id.node_id()));
        self.outside = first.cluster_id.map(|cluster_id| (cluster_id, is_member));
    }

    /// The coordinator offers a cluster when every other initial member that nobody has vouched for
    /// has said that it runs in none. It does not matter how long ago, or whether one is being asked
    /// again: distant members may answer in turn, never close together, and to a life that has ended
    /// meanwhile the offer means nothing.
    fn maybe_offer(&mut self) {
        let me = self.raft_id.node_id();
        let rest = || {
            let peers = self.peers.iter();
            peers.filter(|&(&id, _)| !self.is_vouched(id))
        };
        let coordinates =
            self.bootstrap && self.outside.is_none() && rest().all(|(&id, _)| me < id);
        let ready = rest().all(|(_, peer)| {
            let heard = peer.heard.as_ref();
            heard.is_some_and(|(status, _)| status.state != NodeState::Started)
        });
        if !coordinates || !ready {
            return;
        }
        let heard = rest().filter_map(|(_, peer)| peer.heard.as_ref());
        let others = heard.map(|(status, _)| status.raft_id);
        let members = std::iter::once(self.raft_id).chain(others).collect();
        self.offers_made += 1;
        let offer = Offer {
            cluster_id: ClusterId(mix(&[self.seed, self.raft_id.get(), self.offers_made])),
            coordinator: self.raft_id,
            members,
            membership: self.members.clone(),
        };
        self.phase = Phase::Offering {
            offer: offer.clone(),
            accepted: BTreeSet::new(),
            since: self.now,
        };
        self.call_members(&offer, &Call::Offer(offer.clone()));
    }

    fn call_members(&mut self, offer: &Offer, call: &Call) {
        for member in &offer.members {
            self.call(member.node_id(), call.clone());
        }
    }

    /// Whether this process offers a cluster to `node`.
    fn offers_to(&self, node: NodeId) -> bool {
        match &self.phase {
            Phase::Offering { offer, .. } => {
                offer.members.iter().any(|member| member.node_id() == node)
            }
            _ => false,
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
        if accepted.len() + 1 == offer.members.len() {
            let offer = offer.clone();
            self.phase = Phase::Started {
                offer: offer.clone(),
            };
            self.call_members(&offer, &Call::Start(offer.clone()));
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
}

#[cfg(test)]
#[path = "formation_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "formation_storm_tests.rs"]
mod storm;
