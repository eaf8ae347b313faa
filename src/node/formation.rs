//! How processes that know nothing become a cluster, once.
//!
//! A process begins *fresh*. The initial member with the lowest node id coordinates: it asks all that
//! it knows of who they are until every one has answered that it belongs to no running cluster, then
//! offers the initial members a new one: a random cluster id and the exact raft ids that it heard. Who
//! accepts is
//! *bound*. When all have accepted, the coordinator starts the cluster and says so; a bound process
//! starts on that word, or on Raft traffic of its cluster. A *started* process refuses every offer,
//! and leaves its cluster only for one that an operator makes of it.
//!
//! Anyone may die at any point. An offer names processes, not machines, so that a process which
//! was started again is not taken for the one that accepted. A coordinator that dies before it has
//! started leaves bound processes behind; its next incarnation finds them and offers anew, and the new
//! offer overrides the old. It must not strand them, though: the old coordinator may have started
//! and reached one of them before it died. So a bound process remembers the offers it accepted
//! before, and `prepared.rs` says when it goes back to one of them.
//!
//! Members that are missing for good would hold the others up for ever. An operator may vouch that
//! they are fresh (`partial_bootstrap.rs`): then the lowest of the rest coordinates, and offers a cluster of the
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
//!    one, as another incarnation of its node is a member of that, or its node was vouched for.
//!
//! Undecided offers harm nobody, in whatever order they arrive, since nobody ever starts them.
//!
//! # Former clusters
//!
//! The steps above speak of the initial members, as all that offer and accept are of them. A former
//! cluster may have had others: the initial members may have lost their memory all at once while
//! members that were added later hold the last copies. So a process asks everybody it *knows of*
//! (`known.rs`): the initial members, the last members of its earlier incarnations, which `data_dir` holds, and
//! whom others have told it of. It offers nothing, and accepts nothing, before each of those has
//! answered that it belongs to no cluster, or is vouched for; an offer names the vouched ones, so that
//! each who accepts holds it against what it knows itself. Two more things help who remembers
//! nothing: a started process that hears no leader asks all members who they are, and so tells those
//! that were started again that it is there; and a fresh process waits for as long as that takes before
//! it offers or accepts anything. So no cluster is formed beside one of which a living process is
//! known to any that would take part in forming it.
//!
//! # Outside
//!
//! A fresh process that finds a member running in a cluster knows that it is *outside*: it was part
//! of that cluster in an earlier life, and has lost its memory, or it is new to it. It waits until the
//! leader lets it in, which the leader's first message says, and goes on asking meanwhile. It believes
//! no message of a cluster before a member that it was told of by its configuration or its former
//! incarnations has said, asked by it, that it takes part there. The leader lets in members only; whether its
//! node is one, the process learns from what the others say.

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
    ProtocolLevel, RaftId,
};

/// Ticks between two rounds of questions while the cluster is not there yet.
const PROBE_TICKS: u64 = 2;
/// Ticks between two rounds of questions of a process that cannot do anything but wait.
const WAIT_TICKS: u64 = 10;
/// Ticks of an election timeout, unless it is told otherwise: what nodes take to answer over the links
/// that they have.
const PACE: u64 = 10;
/// Election timeouts after which a call that was not answered counts as failed. A reply that comes
/// later answers no question any more.
const CALL_TIMEOUTS: u64 = 6;
/// Election timeouts after which an offer that not everybody has answered is given up.
const OFFER_TIMEOUTS: u64 = 2;
/// Ticks for which what a peer said of itself counts as now, while it is asked all the time.
const LATELY_TICKS: u64 = 2 * PROBE_TICKS;

/// A cluster that runs without the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outside {
    cluster_id: ClusterId,
    /// Whether the node of the process is a member there.
    is_member: bool,
    /// Whether one of those has said so that configuration or earlier incarnations name.
    confirmed: bool,
    /// What that cluster speaks.
    level: ProtocolLevel,
}

/// One process on its way into a cluster.
#[derive(Debug)]
pub struct Formation {
    raft_id: RaftId,
    /// The initial members: a new cluster is made of them.
    members: ClusterMembership,
    /// Everybody who may take part in a cluster that runs.
    known: Arc<ClusterMembership>,
    /// Whether it takes part in forming a new cluster, or only waits to be let into one.
    bootstrap: bool,
    seed: u64,
    /// What the process speaks, and what it takes.
    level: ProtocolLevel,
    limits: Option<NodeLimits>,
    offers_made: u64,
    /// Ticks of an election timeout.
    pace: u64,
    now: u64,
    probe_at: u64,
    /// When everybody was last asked.
    probed_at: u64,
    /// Before this tick it forms nothing: a survivor of a former cluster may still make itself known.
    forms_at: u64,
    phase: Phase,
    /// The initial members that an operator has vouched for.
    partial: Option<PartialBootstrap>,
    outside: Option<Outside>,
    /// Who has offered a cluster of other initial members, and when.
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

    /// Forms nothing, and helps nobody to, for the next `ticks`: a survivor of a former cluster may
    /// make itself known meanwhile.
    pub fn wait(&mut self, ticks: u64) {
        self.forms_at = self.now + ticks;
    }

    /// The longest election timeout has so many ticks: the waits for answers are multiples of it.
    pub fn pace(&mut self, ticks: u64) {
        self.pace = ticks;
    }

    /// The process speaks `level` instead of what its version does.
    pub fn speak(&mut self, level: ProtocolLevel) {
        self.level = level;
    }

    /// Its offers say that the process takes `limits`.
    pub fn take(&mut self, limits: NodeLimits) {
        self.limits = Some(limits);
    }

    /// Where the process stands.
    pub fn state(&self) -> NodeState {
        match &self.phase {
            Phase::Started { .. } | Phase::Joined { .. } => NodeState::Started,
            Phase::Prepared { .. } => NodeState::Prepared,
            Phase::Fresh | Phase::Offering { .. } if self.outside.is_some() => NodeState::Outside,
            Phase::Fresh | Phase::Offering { .. } => NodeState::Fresh,
        }
    }

    /// The cluster that it is bound to or takes part in, or outside of which it waits.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        match &self.phase {
            Phase::Started { offer } | Phase::Prepared { offer, .. } => Some(offer.cluster_id),
            Phase::Joined { cluster_id } => Some(*cluster_id),
            Phase::Fresh | Phase::Offering { .. } => self.outside.map(|outside| outside.cluster_id),
        }
    }

    /// Whether the node of this process is a member of the cluster that runs without it, or there is
    /// no such cluster.
    pub fn is_member(&self) -> bool {
        self.outside.is_none_or(|outside| outside.is_member)
    }

    /// Whether a cluster runs without the process that it does not join, as nobody whom it was told to
    /// ask takes part there.
    pub fn is_unconfirmed(&self) -> bool {
        self.outside.is_some_and(|outside| !outside.confirmed)
    }

    /// The node that offers a cluster of other initial members than this one is configured with.
    pub fn differs_from(&self) -> Option<NodeId> {
        let fresh = matches!(self.phase, Phase::Fresh) && self.outside.is_none();
        self.differs.filter(|_| fresh).map(|(node, _)| node)
    }

    /// The cluster that the process takes part in, once it does.
    pub fn started(&self) -> Option<&Offer> {
        match &self.phase {
            Phase::Started { offer } => Some(offer),
            _ => None,
        }
    }

    /// A leader of `cluster_id` sends to this process, so that it takes part from now on: if it is
    /// fresh, and a member that it was told of by configuration or earlier incarnations has said that it
    /// takes part in that cluster. Otherwise it asks them at once.
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

    /// Whether the process does not speak what the cluster does that runs without it.
    fn is_too_old(&self) -> bool {
        self.outside.is_some_and(|it| it.level > self.level)
    }

    /// An operator has made a new cluster of what this process had: it takes part in that one from
    /// now on.
    pub(super) fn recovered(&mut self, cluster_id: ClusterId) {
        self.enter(Event::Recover(cluster_id));
    }

    /// Takes the step of `event`, if that is possible now; whether it is.
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

    /// What the process waits for, in words.
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
                let stranger = peer.found.filter(|found| *found != Answering::Silent);
                (id, stranger.map(|stranger| (stranger, addr)))
            })
            .collect();
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

    /// A reply to a call has come.
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
            Reply::Stranger(stranger) => self.missed(node, stranger),
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
