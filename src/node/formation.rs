//! Formation: how processes that know nothing become one cluster, once.
//!
//! [`Formation`] is one process on its way into a cluster. It is pure: calls and their replies, offers, Raft
//! traffic and ticks are the inputs, and the calls to make are the output. A fresh process asks the nodes
//! that it knows of for their identity. Then the initial member with the lowest node id offers a cluster and
//! starts it (a two-phase commit), or the process waits until the leader of a running cluster lets it in.
//! `docs/FORMATION.md` has the states, the protocol and the proof that there is one cluster.
//!
//! `phase.rs` has the states and every possible transition. `known.rs` has the known nodes, what they
//! answered, and whether the process is outside. `offering.rs` is the coordinator, and `prepared.rs` the
//! process that accepts offers. `clocks.rs` compares the clocks of the members. `partial_bootstrap.rs` leaves out initial members that are gone according to
//! an operator's statement. This file ties them together: the questions, the replies, the timeouts.

mod clocks;
mod known;
mod offering;
mod partial_bootstrap;
mod phase;
mod prepared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::known::Peer;
use self::partial_bootstrap::PartialBootstrap;
use self::phase::{Event, Phase};
use super::seed::mix;
use super::waiting;
use super::{Call, CallId, Reply};
use crate::types::{
    Answering, ClusterId, ClusterMembership, NodeId, NodeLimits, NodeState, NodeStatus, Offer,
    ProtocolLevel, RaftId, WallTime,
};

/// Ticks between two rounds of questions while no cluster runs.
const PROBE_TICKS: u64 = 2;
/// Ticks between two rounds of questions of a process that is outside.
const WAIT_TICKS: u64 = 10;
/// Default number of ticks of an election timeout. Election timeouts are chosen for the latency of the
/// links, so every wait for an answer is a multiple of them.
const PACE: u64 = 10;
/// Election timeouts after which a call without an answer counts as failed. A later reply is ignored.
const CALL_TIMEOUTS: u64 = 6;
/// Election timeouts after which an offer is withdrawn that not every member has answered.
const OFFER_TIMEOUTS: u64 = 2;
/// Ticks for which a peer's answer shows that the peer runs. It is asked once in [`PROBE_TICKS`].
const LATELY_TICKS: u64 = 2 * PROBE_TICKS;

/// A running cluster that the process takes no part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outside {
    cluster_id: ClusterId,
    /// Whether the node of the process is a member there.
    is_member: bool,
    /// Whether a node that configuration or earlier incarnations name has answered that it takes part there.
    confirmed: bool,
    /// The protocol level of that cluster.
    level: ProtocolLevel,
}

/// One process on its way into a cluster.
#[derive(Debug)]
pub struct Formation {
    raft_id: RaftId,
    /// The initial members, of which a new cluster is formed.
    members: ClusterMembership,
    /// All nodes that may take part in a running cluster, as far as this process knows.
    known: Arc<ClusterMembership>,
    /// Whether it takes part in forming a new cluster, or only waits to be let into one.
    bootstrap: bool,
    seed: u64,
    /// The protocol level and the limits of this process.
    level: ProtocolLevel,
    limits: Option<NodeLimits>,
    /// The wall clock of the process.
    time: Option<WallTime>,
    offers_made: u64,
    /// Ticks of an election timeout.
    pace: u64,
    now: u64,
    probe_at: u64,
    /// The tick of the last round of questions.
    probed_at: u64,
    /// Before this tick it neither offers nor accepts: a survivor of a former cluster may still ask.
    forms_at: u64,
    phase: Phase,
    /// The operator's statement that initial members are gone.
    partial: Option<PartialBootstrap>,
    outside: Option<Outside>,
    /// The node that last offered a cluster of other initial members, and the tick.
    differs: Option<(NodeId, u64)>,
    peers: BTreeMap<NodeId, Peer>,
    calls_made: u64,
    calls: Vec<(CallId, Call)>,
}

impl Formation {
    /// The process `raft_id` among the initial `members`; random ids come from `seed`.
    pub fn new(raft_id: RaftId, members: &ClusterMembership, bootstrap: bool, seed: u64) -> Self {
        let mut formation = Self {
            raft_id,
            bootstrap,
            seed,
            level: ProtocolLevel::CURRENT,
            limits: None,
            time: None,
            offers_made: 0,
            pace: PACE,
            now: 0,
            probe_at: 0,
            probed_at: 0,
            forms_at: 0,
            phase: Phase::Fresh,
            partial: None,
            outside: None,
            differs: None,
            peers: BTreeMap::new(),
            members: members.clone(),
            known: Arc::default(),
            calls_made: 0,
            calls: Vec::new(),
        };
        formation.remember(members);
        formation
    }

    /// Neither offers nor accepts for the next `ticks`: a survivor of a former cluster may ask meanwhile.
    pub fn wait(&mut self, ticks: u64) {
        self.forms_at = self.now + ticks;
    }

    /// Sets the longest election timeout, in ticks. The waits for answers are multiples of it.
    pub fn pace(&mut self, ticks: u64) {
        self.pace = ticks;
    }

    /// Sets the protocol level of the process, by default [`ProtocolLevel::CURRENT`].
    pub fn speak(&mut self, level: ProtocolLevel) {
        self.level = level;
    }

    /// Sets the limits of the process, which its offers name.
    pub fn take(&mut self, limits: NodeLimits) {
        self.limits = Some(limits);
    }

    /// The state of the process.
    pub fn state(&self) -> NodeState {
        match &self.phase {
            Phase::Started { .. } | Phase::Joined { .. } => NodeState::Started,
            Phase::Prepared { .. } => NodeState::Prepared,
            Phase::Fresh | Phase::Offering { .. } if self.outside.is_some() => NodeState::Outside,
            Phase::Fresh | Phase::Offering { .. } => NodeState::Fresh,
        }
    }

    /// The cluster that it is prepared for or takes part in, or outside of which it waits.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        match &self.phase {
            Phase::Started { offer } | Phase::Prepared { offer, .. } => Some(offer.cluster_id),
            Phase::Joined { cluster_id } => Some(*cluster_id),
            Phase::Fresh | Phase::Offering { .. } => self.outside.map(|outside| outside.cluster_id),
        }
    }

    /// Whether this process is not outside, or its node is a member of the cluster that runs without it.
    pub fn is_member(&self) -> bool {
        self.outside.is_none_or(|outside| outside.is_member)
    }

    /// Whether the process is outside a cluster that it does not join, as no node that its configuration or
    /// its earlier incarnations name has answered that it takes part there.
    pub fn is_unconfirmed(&self) -> bool {
        self.outside.is_some_and(|outside| !outside.confirmed)
    }

    /// The node that lately offered a cluster of other initial members than this node is configured with.
    pub fn differs_from(&self) -> Option<NodeId> {
        let fresh = matches!(self.phase, Phase::Fresh) && self.outside.is_none();
        self.differs.filter(|_| fresh).map(|(node, _)| node)
    }

    /// The offer whose cluster the process takes part in. `None` also after it joined a running one.
    pub fn started(&self) -> Option<&Offer> {
        match &self.phase {
            Phase::Started { offer } => Some(offer),
            _ => None,
        }
    }

    /// A leader of `cluster_id` sends to this process. A fresh process takes part from now on if a node that
    /// its configuration or its earlier incarnations name has answered that it takes part in that cluster,
    /// and if the process speaks the cluster's protocol level. Otherwise it asks all nodes at once. Returns
    /// whether it joined.
    pub fn join(&mut self, cluster_id: ClusterId) -> bool {
        if !matches!(self.phase, Phase::Fresh) {
            return false;
        }
        if self.is_confirmed(cluster_id) && !self.is_too_old() {
            return self.enter(Event::LetIn(cluster_id));
        }
        self.ask_at_once();
        false
    }

    /// Whether the process is outside a cluster of a higher protocol level than its own.
    fn is_too_old(&self) -> bool {
        self.outside.is_some_and(|it| it.level > self.level)
    }

    /// An operator has recovered a new cluster from the state of this process, which takes part in it from
    /// now on.
    pub(super) fn recovered(&mut self, cluster_id: ClusterId) {
        self.enter(Event::Recover(cluster_id));
    }

    /// Takes the transition of `event`, if it is possible now; whether it is.
    fn enter(&mut self, event: Event) -> bool {
        let Some(next) = self.phase.after(event) else {
            return false;
        };
        self.phase = next;
        if !matches!(self.phase, Phase::Fresh | Phase::Offering { .. }) {
            self.outside = None;
        }
        true
    }

    /// What the process waits for, as text for the operator.
    pub fn waiting_for(&self) -> String {
        if let Some(Outside {
            cluster_id,
            is_member,
            confirmed,
            level,
        }) = self.outside
        {
            if self.is_too_old() {
                return waiting::too_old(cluster_id, level, self.level);
            }
            return waiting::outside(cluster_id, is_member, confirmed, self.bootstrap);
        }
        if !matches!(self.phase, Phase::Fresh) {
            return "every initial member has been found; the cluster is about to start".to_owned();
        }
        if let Some(other) = self.differs_from() {
            return waiting::differing(other);
        }
        let unheard = self.peers.iter().filter(|(_, peer)| peer.heard.is_none());
        let missing = unheard.filter(|&(&id, _)| !self.is_left_out(id));
        let missing: Vec<_> = missing
            .map(|(&id, peer)| {
                let addr = self.known.get(id).map_or("", |info| &info.addr);
                let found = peer.found.filter(|found| *found != Answering::Silent);
                (id, found.map(|found| (found, addr)))
            })
            .collect();
        if missing.is_empty()
            && self.bootstrap
            && let Some(clocks) = self.waiting_for_clocks()
        {
            return clocks;
        }
        waiting::fresh(&missing, self.bootstrap, self.now < self.forms_at)
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.now += 1;
        if self.phase.takes_part() {
            return;
        }
        let now = self.now;
        self.partial.take_if(|partial| partial.until < now);
        let lately = self.pace.saturating_mul(CALL_TIMEOUTS);
        self.differs.take_if(|(_, at)| now - *at > lately);
        for peer in self.peers.values_mut() {
            peer.give_up(now, self.pace.saturating_mul(CALL_TIMEOUTS));
        }
        if matches!(self.phase, Phase::Offering { since, .. } if now - since > self.pace.saturating_mul(OFFER_TIMEOUTS))
        {
            self.withdraw();
        }
        if self.probe_at <= now && !matches!(self.phase, Phase::Offering { .. }) {
            self.probe();
        }
    }

    /// The calls to make.
    pub fn take_calls(&mut self) -> Vec<(CallId, Call)> {
        std::mem::take(&mut self.calls)
    }

    /// Takes the reply to a call. Ignores one to a call that has timed out.
    pub fn replied(&mut self, call: CallId, reply: Reply) {
        let node = call.to;
        let Some(asked_at) = self
            .peers
            .get_mut(&node)
            .and_then(|peer| peer.answers(call))
        else {
            return;
        };
        match reply {
            Reply::Identified(status) if status.raft_id.node_id() == node => {
                self.heard(node, &status);
                self.is_there(node);
                self.learn(&status, asked_at);
            }
            Reply::Identified(status) => {
                let other = Answering::OtherNode(status.raft_id.node_id());
                self.missed(node, other);
            }
            Reply::Misdirected(answering) => self.missed(node, answering),
            Reply::Failed => self.missed(node, Answering::Silent),
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
}

#[cfg(test)]
#[path = "formation_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "formation_storm_tests.rs"]
mod storm;

#[cfg(test)]
#[path = "formation_growth_tests.rs"]
mod growth;
