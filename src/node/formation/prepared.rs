//! The process that is offered a cluster: it accepts one offer after the other, and starts the right one.
//!
//! It cannot know which of the offers that it has accepted were decided. Processes that have started one show
//! it, in two ways that count differently:
//!
//! * *Traffic* may be old, and its sender may be dead. It starts the current offer. It starts an earlier one
//!   only if its sender is, as that very process, a member of every offer that this process has accepted
//!   since: these offers need the acceptance of the sender, which refuses for ever, so none of them can be
//!   decided any more. Without that rule, late traffic of a dead process could pull this one into a cluster
//!   without other processes.
//! * An *answer* to a question that was asked after this process had accepted its current offer is
//!   about now: its sender runs, and takes part in that cluster. No other cluster has started, or
//!   ever will while the sender runs (`docs/FORMATION.md`). So an answer starts the accepted offer of that
//!   cluster, whichever it is. If this process has not accepted that cluster, it is not prepared any more: it
//!   is outside, and waits to be let in.

use super::{
    BTreeSet, ClusterId, Event, Formation, LATELY_TICKS, NodeState, NodeStatus, Offer, Phase,
    RaftId,
};

impl Formation {
    /// Whether this process accepts `offer`. It refuses one of other initial members than it is configured
    /// with: the proof that there is one cluster counts majorities of them.
    pub fn offered(&mut self, offer: Offer) -> bool {
        if self.phase.takes_part() {
            return false;
        }
        if !offer.membership.ids().eq(self.members.ids()) {
            self.differs = Some((offer.coordinator.node_id(), self.now));
            return false;
        }
        // A process that does not bootstrap accepts, too: the others count it as an initial member.
        let may_form = self.forms_at <= self.now && self.is_well_formed(&offer);
        if !may_form || self.leaves_out_running(&offer) || self.knows_of_more(&offer) {
            return false;
        }
        match self
            .phase
            .accepted()
            .position(|accepted| *accepted == offer)
        {
            Some(0) => return true,
            // A late copy of an earlier offer.
            Some(_) => return false,
            None => {}
        }
        let now = self.now;
        let accepted = self.enter(Event::Accept { offer, now });
        if accepted {
            self.partial = None;
        }
        accepted
    }

    /// Whether `offer` has more than half of the initial members, this process among them; whether the lowest
    /// of them coordinates; and whether this process speaks its protocol level.
    fn is_well_formed(&self, offer: &Offer) -> bool {
        let Offer {
            cluster_id: _,
            coordinator,
            members,
            membership: _,
            absent: _,
            level,
            limits: _,
            time: _,
        } = offer;
        let nodes: BTreeSet<_> = members.iter().map(|id| id.node_id()).collect();
        *level <= self.level
            && nodes.iter().all(|&id| self.members.contains(id))
            && nodes.len() == members.len()
            && 2 * nodes.len() > self.members.len()
            && members.contains(&self.raft_id)
            && nodes.first() == Some(&coordinator.node_id())
            && members.contains(coordinator)
            && *coordinator != self.raft_id
    }

    /// Whether a node that `offer` leaves out takes part in a cluster, has lately answered this process, or
    /// may hang. Then it is not gone, whatever the operator states.
    fn leaves_out_running(&self, offer: &Offer) -> bool {
        let lately = self.now.saturating_sub(LATELY_TICKS);
        let left_out = self.peers.iter().filter(|(id, _)| {
            let may_be_left_out = self.members.contains(**id) || offer.absent.contains(id);
            may_be_left_out && offer.members.iter().all(|member| member.node_id() != **id)
        });
        left_out.map(|(_, peer)| peer).any(|peer| {
            let heard = peer.heard.as_ref();
            peer.has_started()
                || heard.is_some_and(|(_, at)| *at >= lately)
                || peer.found.is_some_and(|found| !found.may_be_gone())
        })
    }

    /// Whether this process knows of a node that `offer` does not name, and that has not answered that it
    /// takes part in no cluster: the coordinator may not know of it.
    fn knows_of_more(&self, offer: &Offer) -> bool {
        let mut others = self
            .peers
            .iter()
            .filter(|(id, _)| !self.members.contains(**id) && !offer.absent.contains(id));
        others.any(|(_, peer)| !peer.belongs_to_nothing())
    }

    /// The coordinator starts a cluster; whether this process takes part in it now.
    pub fn start(&mut self, cluster_id: ClusterId, coordinator: RaftId) -> bool {
        if let Phase::Prepared { offer, .. } = &self.phase
            && (offer.cluster_id, offer.coordinator) == (cluster_id, coordinator)
        {
            self.enter(Event::Start(offer.clone()));
        }
        self.started()
            .is_some_and(|offer| offer.cluster_id == cluster_id)
    }

    /// Raft traffic of `cluster_id` came from `from`. A prepared process starts if it has accepted that
    /// cluster, and no offer since that could still start.
    pub fn hear_traffic(&mut self, cluster_id: ClusterId, from: RaftId) {
        // The latest first: every offer up to the one of `cluster_id` has to name the sender.
        let accepted = self
            .phase
            .accepted()
            .take_while(|offer| offer.members.contains(&from))
            .find(|offer| offer.cluster_id == cluster_id)
            .cloned();
        if let Some(offer) = accepted {
            self.enter(Event::Start(offer));
        }
    }

    /// A peer's answer may show a running cluster. The question was asked at tick `asked_at`.
    pub(super) fn learn(&mut self, status: &NodeStatus, asked_at: u64) {
        let (NodeState::Started, Some(cluster_id)) = (status.state, status.cluster_id) else {
            return;
        };
        let Phase::Prepared { since, .. } = &self.phase else {
            return;
        };
        // Within one tick the order of question and offer is unknown.
        if asked_at <= *since {
            self.hear_traffic(cluster_id, status.raft_id);
            return;
        }
        let accepted = self
            .phase
            .accepted()
            .find(|offer| offer.cluster_id == cluster_id)
            .cloned();
        self.enter(accepted.map_or(Event::Abandon, Event::Start));
    }
}
