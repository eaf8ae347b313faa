//! Whom a process knows of before it takes part in a cluster, and what they say.
//!
//! It knows those whom its configuration names, and those whom its earlier incarnations knew last. Others may
//! tell it of more. Whoever is told of by others only can keep it from forming a cluster, which does no
//! harm, but cannot make it believe in one: anybody can tell.

use std::sync::Arc;

use super::{
    Answering, Call, CallId, ClusterId, ClusterMembership, Formation, NodeId, NodeState,
    NodeStatus, Outside, PROBE_TICKS, Phase, WAIT_TICKS,
};
use crate::types::{Introduction, Missed, NodeInfo, Reach};

/// Most nodes that others can tell a process of.
const MAX_TOLD: usize = 64;
/// Election timeouts for which a question of another process shows that it is there: it asks several times
/// in each.
const ASKS_TIMEOUTS: u64 = 2;

/// What is known of another node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// What it said of itself when it was last asked, if it answered, and when.
    pub(super) heard: Option<(NodeStatus, u64)>,
    /// What was found at its address when it was last asked, if that was not the node.
    pub(super) found: Option<Answering>,
    /// Whether configuration or earlier incarnations name it, and not only others.
    named: bool,
    /// The number of the call that is under way, and when it began.
    pub(super) asked: Option<(u64, u64)>,
    /// When a process of it asked this one last.
    asks_at: Option<u64>,
}

impl Peer {
    /// Whether it has said that it takes part in no cluster.
    pub(super) fn belongs_to_nothing(&self) -> bool {
        let heard = self.heard.as_ref();
        heard.is_some_and(|(status, _)| status.state != NodeState::Started)
    }

    /// Whether it has said that it takes part in a cluster.
    pub(super) fn has_started(&self) -> bool {
        let heard = self.heard.as_ref();
        heard.is_some_and(|(status, _)| status.state == NodeState::Started)
    }

    /// When the call was made that is answered now, if it is the one that is under way.
    pub(super) fn answers(&mut self, call: CallId) -> Option<u64> {
        let asked = self.asked.take_if(|(number, _)| *number == call.number);
        asked.map(|(_, at)| at)
    }

    /// A call that has been under way for too long counts as failed.
    pub(super) fn give_up(&mut self, now: u64, max_wait: u64) {
        if self.asked.take_if(|(_, at)| now - *at > max_wait).is_some() {
            self.heard = None;
        }
    }

    /// Forgets what it said, and the call that is under way.
    pub(super) fn forget(&mut self) {
        *self = Self {
            named: self.named,
            asks_at: self.asks_at,
            ..Self::default()
        };
    }
}

impl Formation {
    /// Everybody who may take part in a cluster that runs, as far as this process knows: itself, the
    /// configured members, those of earlier incarnations, and those of whom others have told.
    pub fn known(&self) -> &Arc<ClusterMembership> {
        &self.known
    }

    /// Former lives of this process knew `members` last. Where the configuration names one of them,
    /// it says where that is.
    pub fn remember(&mut self, members: &ClusterMembership) {
        for info in members.iter() {
            self.know(info, true);
        }
    }

    /// The nodes that are no initial members, and that have not said that they belong to nothing.
    pub fn awaits(&self) -> Vec<NodeId> {
        if !matches!(self.phase, Phase::Fresh) || self.outside.is_some() {
            return Vec::new();
        }
        let others = self.peers.iter().filter(|&(&id, peer)| {
            !self.members.contains(id) && !self.is_left_out(id) && !peer.belongs_to_nothing()
        });
        others.map(|(id, _)| *id).collect()
    }

    /// The nodes that have lately asked this process, and do not answer at their addresses: these are
    /// wrong, unless the node has just ended.
    pub fn reach(&self) -> Option<Arc<Reach>> {
        let unheard = self.peers.iter().filter(|(_, peer)| peer.heard.is_none());
        let missed = unheard.filter_map(|(&node, peer)| {
            let answering = peer.found.filter(|_| self.asks(node))?;
            Some(Missed {
                node,
                answering,
                asks: true,
            })
        });
        let missed: Vec<_> = missed.collect();
        (!missed.is_empty()).then(|| {
            Arc::new(Reach {
                missed,
                ..Reach::default()
            })
        })
    }

    /// Whether a process of `node` has lately asked this one.
    pub(super) fn asks(&self, node: NodeId) -> bool {
        let asks_at = self.peers.get(&node).and_then(|peer| peer.asks_at);
        let lately = self.pace.saturating_mul(ASKS_TIMEOUTS);
        asks_at.is_some_and(|at| self.now.saturating_sub(at) <= lately)
    }

    fn know(&mut self, info: &NodeInfo, named: bool) {
        let told = self.known.len().saturating_sub(self.members.len());
        if !self.known.contains(info.id) && (named || told < MAX_TOLD) {
            let known = Arc::make_mut(&mut self.known);
            known.members.insert(info.id, info.clone());
        }
        if info.id != self.raft_id.node_id() && self.known.contains(info.id) {
            self.peers.entry(info.id).or_default().named |= named;
        }
    }

    /// Who this process is, for whom it asks. It tells of whom it knows only if it takes part in
    /// forming clusters: whoever waits to be let into one is to hold nobody up.
    pub(in crate::node) fn introduction(&self) -> Introduction {
        Introduction {
            raft_id: self.raft_id,
            state: self.state(),
            cluster_id: self.cluster_id(),
            members: if self.bootstrap {
                Arc::clone(&self.known)
            } else {
                Arc::default()
            },
        }
    }

    /// Another process asks this one who it is. If it takes part in a cluster of which this node is a
    /// member, or is an initial member that knows of more nodes, those have to be asked before anything
    /// is formed.
    pub fn asked(&mut self, by: &Introduction) {
        let node = by.raft_id.node_id();
        let me = self.raft_id.node_id();
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.asks_at = Some(self.now);
        }
        let started = by.state == NodeState::Started;
        let concerns = by.members.contains(me) && (started || self.members.contains(node));
        if self.phase.takes_part() || !concerns || node == me {
            return;
        }
        for info in by.members.iter() {
            self.know(info, false);
        }
        if !started {
            return;
        }
        self.withdraw();
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.belongs_to_nothing()
        {
            // That was so before it started.
            peer.forget();
        }
        self.ask_at_once();
    }

    /// Asks everybody who is not being asked, once a tick.
    pub(super) fn ask_at_once(&mut self) {
        if self.probed_at < self.now {
            self.probe();
        }
    }

    /// Asks every peer that is not being asked who it is.
    pub(super) fn probe(&mut self) {
        let pause = if self.outside.is_some() {
            WAIT_TICKS
        } else {
            PROBE_TICKS
        };
        self.probe_at = self.now + pause;
        self.probed_at = self.now;
        let idle = self.peers.iter().filter(|(_, peer)| peer.asked.is_none());
        let idle: Vec<_> = idle.map(|(&id, _)| id).collect();
        for id in idle {
            let call = Call::Identify(self.introduction());
            self.call(id, call);
        }
    }

    pub(super) fn call(&mut self, to: NodeId, call: Call) {
        let number = self.next_call();
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.asked = Some((number, self.now));
            self.calls.push((CallId { to, number }, call));
        }
    }

    /// A number that no call of this process has had.
    pub(in crate::node) fn next_call(&mut self) -> u64 {
        self.calls_made += 1;
        self.calls_made
    }

    /// `node` has said who it is.
    pub(super) fn heard(&mut self, node: NodeId, status: &NodeStatus) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = Some((status.clone(), self.now));
            peer.found = None;
        }
    }

    /// `node` has not answered, and this was found at its address.
    pub(super) fn missed(&mut self, node: NodeId, found: Answering) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = None;
            peer.found = Some(found);
        }
        if !found.may_be_gone() {
            self.is_there(node);
        }
        // Silence of somebody whom the offer leaves out says nothing about it.
        if self.offers_to(node) {
            self.withdraw();
        }
    }

    /// Whether one of those that configuration or earlier incarnations name takes part in `cluster_id`.
    pub(super) fn is_confirmed(&self, cluster_id: ClusterId) -> bool {
        let mut named = self.peers.values().filter(|peer| peer.named);
        named.any(|peer| {
            let heard = peer.heard.as_ref();
            peer.has_started() && heard.is_some_and(|(it, _)| it.cluster_id == Some(cluster_id))
        })
    }

    /// A fresh process is outside as long as somebody it knows of runs in a cluster.
    pub(super) fn update_outside(&mut self) {
        let me = self.raft_id.node_id();
        let started = self.peers.values().filter(|peer| peer.has_started());
        let said = |peer: &Peer| {
            let (status, _) = peer.heard.as_ref()?;
            Some((peer.named, status.cluster_id?, status.clone()))
        };
        let said: Vec<_> = started.filter_map(said).collect();
        // Those that it was told of by its configuration count before those that others named.
        let named = said.iter().find(|(named, ..)| *named);
        let Some(&(confirmed, cluster_id, _)) = named.or(said.first()) else {
            self.outside = None;
            return;
        };
        // Who has applied most knows best who is a member. Who has applied nothing knows nobody.
        let same = said.iter().filter(|(_, id, _)| *id == cluster_id);
        let best = same.max_by_key(|(_, _, status)| status.applied_index);
        let members = best.map(|(_, _, status)| status.conf.members.as_slice());
        let is_member = members.is_none_or(|members| members.is_empty() || members.contains(&me));
        let same = said.iter().filter(|(_, id, _)| *id == cluster_id);
        let levels = same.map(|(.., status)| status.cluster_level);
        self.outside = Some(Outside {
            cluster_id,
            is_member,
            confirmed,
            level: levels.max().unwrap_or_default(),
        });
    }
}
