//! The nodes that a process knows of before it takes part in a cluster, and what they answer.
//!
//! The configuration names nodes, and so does the last membership that earlier incarnations knew. Other
//! processes may name more. A node that only other processes name can keep this process from forming a
//! cluster, which does no harm. It cannot make this process believe in a running cluster, as any process can
//! name nodes.

use std::sync::Arc;

use super::{
    Answering, Call, CallId, ClusterId, ClusterMembership, Formation, NodeId, NodeState,
    NodeStatus, Outside, PROBE_TICKS, Phase, WAIT_TICKS,
};
use crate::types::{Introduction, Missed, NodeInfo, Reach};

/// Most nodes that other processes can make known to a process.
const MAX_TOLD: usize = 64;
/// Election timeouts for which a question of another process shows that it runs. It asks several times in
/// each.
const ASKS_TIMEOUTS: u64 = 2;

/// The knowledge of another node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its last answer and the tick of that; `None` if the last question was not answered.
    pub(super) heard: Option<(NodeStatus, u64)>,
    /// What was at its address instead of the node when it was last asked.
    pub(super) found: Option<Answering>,
    /// Whether configuration or earlier incarnations name it, and not only other processes.
    named: bool,
    /// The number of the call in flight, and the tick at which it was made.
    pub(super) asked: Option<(u64, u64)>,
    /// The tick at which a process of this node last asked.
    asks_at: Option<u64>,
}

impl Peer {
    /// Whether its last answer says that it takes part in no cluster.
    pub(super) fn belongs_to_nothing(&self) -> bool {
        let heard = self.heard.as_ref();
        heard.is_some_and(|(status, _)| status.state != NodeState::Started)
    }

    /// Whether its last answer says that it takes part in a cluster.
    pub(super) fn has_started(&self) -> bool {
        let heard = self.heard.as_ref();
        heard.is_some_and(|(status, _)| status.state == NodeState::Started)
    }

    /// Ends `call`, if it is the one in flight, and returns the tick at which it was made.
    pub(super) fn answers(&mut self, call: CallId) -> Option<u64> {
        let asked = self.asked.take_if(|(number, _)| *number == call.number);
        asked.map(|(_, at)| at)
    }

    /// Makes a call fail that has been in flight for more than `max_wait` ticks.
    pub(super) fn give_up(&mut self, now: u64, max_wait: u64) {
        if self.asked.take_if(|(_, at)| now - *at > max_wait).is_some() {
            self.heard = None;
        }
    }

    /// Forgets its last answer and the call in flight.
    pub(super) fn forget(&mut self) {
        *self = Self {
            named: self.named,
            asks_at: self.asks_at,
            ..Self::default()
        };
    }
}

impl Formation {
    /// All nodes that may take part in a running cluster, as far as this process knows: its own, the
    /// configured members, those that earlier incarnations knew, and those that other processes have named.
    pub fn known(&self) -> &Arc<ClusterMembership> {
        &self.known
    }

    /// Adds `members`, the last ones that earlier incarnations of this node knew. Where the configuration
    /// names one of them too, its addresses count.
    pub fn remember(&mut self, members: &ClusterMembership) {
        for info in members.iter() {
            self.know(info, true);
        }
    }

    /// The known nodes that are no initial members and that have not answered that they take part in no
    /// cluster. Empty unless this process is fresh and not outside.
    pub fn awaits(&self) -> Vec<NodeId> {
        if !matches!(self.phase, Phase::Fresh) || self.outside.is_some() {
            return Vec::new();
        }
        let others = self.peers.iter().filter(|&(&id, peer)| {
            !self.members.contains(id) && !self.is_left_out(id) && !peer.belongs_to_nothing()
        });
        others.map(|(id, _)| *id).collect()
    }

    /// The nodes that have lately asked this process and do not answer at their addresses. Those addresses
    /// are wrong, unless the process has just ended.
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

    /// The introduction of this process when it asks others. It names the nodes that it knows of only if it
    /// takes part in forming clusters: a process that only waits to be let into one must not delay others.
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

    /// Another process asks this one for its identity. The nodes that it knows of have to be asked before a
    /// cluster is formed if it takes part in a cluster of which this node is a member, or if it is an initial
    /// member.
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
            // It gave that answer before it started.
            peer.forget();
        }
        self.ask_at_once();
    }

    /// Asks every peer without a call in flight for its identity, at most once a tick.
    pub(super) fn ask_at_once(&mut self) {
        if self.probed_at < self.now {
            self.probe();
        }
    }

    /// Asks every peer without a call in flight for its identity.
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

    /// A number that no other call of this process has.
    pub(in crate::node) fn next_call(&mut self) -> u64 {
        self.calls_made += 1;
        self.calls_made
    }

    /// `node` has answered with its identity.
    pub(super) fn heard(&mut self, node: NodeId, status: &NodeStatus) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = Some((status.clone(), self.now));
            peer.found = None;
        }
    }

    /// `node` has not answered; `found` is what was at its address.
    pub(super) fn missed(&mut self, node: NodeId, found: Answering) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = None;
            peer.found = Some(found);
        }
        if !found.may_be_gone() {
            self.is_there(node);
        }
        // The offer does not depend on the answer of a node that it leaves out.
        if self.offers_to(node) {
            self.withdraw();
        }
    }

    /// Whether a node that configuration or earlier incarnations name takes part in `cluster_id`.
    pub(super) fn is_confirmed(&self, cluster_id: ClusterId) -> bool {
        let mut named = self.peers.values().filter(|peer| peer.named);
        named.any(|peer| {
            let heard = peer.heard.as_ref();
            peer.has_started() && heard.is_some_and(|(it, _)| it.cluster_id == Some(cluster_id))
        })
    }

    /// A fresh process is outside as long as a node that it knows of takes part in a cluster.
    pub(super) fn update_outside(&mut self) {
        let me = self.raft_id.node_id();
        let started = self.peers.values().filter(|peer| peer.has_started());
        let said = |peer: &Peer| {
            let (status, _) = peer.heard.as_ref()?;
            Some((peer.named, status.cluster_id?, status.clone()))
        };
        let said: Vec<_> = started.filter_map(said).collect();
        // The nodes that configuration or earlier incarnations name count before those that others name.
        let named = said.iter().find(|(named, ..)| *named);
        let Some(&(confirmed, cluster_id, _)) = named.or(said.first()) else {
            self.outside = None;
            return;
        };
        // The process that has applied most knows the members best. One that has applied nothing knows none.
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
