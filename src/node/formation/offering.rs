//! The coordinator: it offers a cluster to the processes that take part in none, and starts it when all of
//! them have accepted.

use super::known::Peer;
use super::{Call, ClusterId, Event, Formation, NodeId, Offer, Phase, ProtocolLevel, mix};

impl Formation {
    /// Offers a cluster if this process coordinates, and every node that it knows of and that is not left out
    /// has answered that it takes part in none. It does not matter how old an answer is, or whether the node
    /// is being asked again: distant members may answer in turn, never close together, and an incarnation
    /// that has ended meanwhile cannot accept.
    pub(super) fn maybe_offer(&mut self) {
        let me = self.raft_id.node_id();
        let rest = || {
            let peers = self.peers.iter();
            peers.filter(|&(&id, _)| !self.is_left_out(id))
        };
        let initial = || rest().filter(|(id, _)| self.members.contains(**id));
        let coordinates = self.bootstrap
            && self.forms_at <= self.now
            && self.outside.is_none()
            && initial().all(|(&id, _)| me < id);
        if !coordinates
            || !self.may_leave_out()
            || !rest().all(|(_, peer)| peer.belongs_to_nothing())
        {
            return;
        }
        let heard = initial().filter_map(|(_, peer)| peer.heard.as_ref());
        let heard: Vec<_> = heard.map(|(it, _)| (it.raft_id, it.level)).collect();
        let others = heard.iter().map(|(raft_id, _)| *raft_id);
        let members = std::iter::once(self.raft_id).chain(others).collect();
        let levels = heard.iter().map(|(_, level)| *level);
        let level = levels.fold(self.level, ProtocolLevel::min);
        let Ok(time) = self.formation_time(level) else {
            return;
        };
        self.offers_made += 1;
        let offer = Offer {
            cluster_id: ClusterId(mix(&[self.seed, self.raft_id.get(), self.offers_made])),
            coordinator: self.raft_id,
            members,
            membership: self.members.clone(),
            absent: self.excluded_others(),
            level,
            limits: self.limits,
            time,
        };
        let now = self.now;
        self.enter(Event::Offer {
            offer: offer.clone(),
            now,
        });
        self.call_members(&offer, &Call::Offer(offer.clone()));
    }

    pub(super) fn call_members(&mut self, offer: &Offer, call: &Call) {
        for member in &offer.members {
            self.call(member.node_id(), call.clone());
        }
    }

    /// Whether this process offers a cluster to `node`.
    pub(super) fn offers_to(&self, node: NodeId) -> bool {
        match &self.phase {
            Phase::Offering { offer, .. } => {
                offer.members.iter().any(|member| member.node_id() == node)
            }
            _ => false,
        }
    }

    pub(super) fn offer_answered(&mut self, node: NodeId, cluster_id: ClusterId, accepts: bool) {
        let Phase::Offering {
            offer, accepted, ..
        } = &mut self.phase
        else {
            return;
        };
        // The answer to a withdrawn offer says nothing about this one.
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
            self.enter(Event::Start(offer.clone()));
            self.call_members(&offer, &Call::Start(offer.clone()));
        }
    }

    /// Withdraws the offer, if there is one, and forgets all answers, so that every peer is asked again.
    pub(super) fn withdraw(&mut self) {
        if self.enter(Event::Withdraw) {
            self.peers.values_mut().for_each(Peer::forget);
        }
    }
}
