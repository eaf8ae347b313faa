//! How a process comes to take part: it forms a cluster with others, or is added to a running one.

use super::Replica;
use crate::node::{Event, RaftNode, ReplicaOptions};
use crate::types::{ClusterId, NodeState, Offer, RaftId};
use crate::wire::Envelope;

impl<W> Replica<W> {
    /// Takes the offer of a new cluster. Returns whether it is accepted.
    pub fn offered(&mut self, offer: Offer) -> bool {
        let (coordinator, limits) = (offer.coordinator, offer.limits);
        let accepted = self.formation.offered(offer);
        if accepted {
            self.agreed.takes(coordinator, limits);
        }
        self.follow_formation();
        accepted
    }

    /// Takes the coordinator's start of a cluster. Returns whether this process takes part in it now.
    pub fn start(&mut self, cluster_id: ClusterId, coordinator: RaftId) -> bool {
        let started = self.formation.start(cluster_id, coordinator);
        self.follow_formation();
        started
    }

    /// Creates the Raft server as soon as the cluster starts, and emits events for changes.
    pub(super) fn follow_formation(&mut self) {
        if self.raft.is_none()
            && self.broken.is_none()
            && let Some(offer) = self.formation.started()
        {
            let started = RaftNode::start(
                self.options.raft_id,
                offer,
                self.options.raft,
                self.options.seed,
                &self.options.logger,
            );
            match started {
                Ok(mut raft) => {
                    // All others wait for their timeout, so the first election is quick.
                    if offer.coordinator == self.options.raft_id {
                        raft.campaign();
                    }
                    self.raft = Some(raft);
                }
                Err(error) => self.broken = Some(error),
            }
        }
        if self.raft.is_none() {
            self.directory.learn(self.formation.known());
        }
        let now @ (state, cluster_id, is_member) = (
            self.formation.state(),
            self.formation.cluster_id(),
            self.formation.is_member(),
        );
        if std::mem::replace(&mut self.shown, now) == now {
            return;
        }
        if let Some(cluster_id) = cluster_id {
            match state {
                NodeState::Fresh => {}
                NodeState::Prepared => self.output.events.push(Event::Prepared { cluster_id }),
                NodeState::Started => self.output.events.push(Event::Started { cluster_id }),
                NodeState::Outside => self.output.events.push(Event::Outside {
                    cluster_id,
                    is_member,
                }),
            }
        }
    }

    fn join(&mut self, cluster_id: ClusterId) {
        let ReplicaOptions {
            raft_id,
            members: _,
            remembered: _,
            bootstrap: _,
            formation_wait_ticks: _,
            time: _,
            raft,
            seed,
            logger,
        } = &self.options;
        match RaftNode::join(*raft_id, cluster_id, *raft, *seed, logger) {
            Ok(raft) => self.raft = Some(raft),
            Err(error) => self.broken = Some(error),
        }
        self.follow_formation();
    }

    /// Checks whether Raft traffic admits this process to a cluster.
    pub(super) fn hear_traffic(&mut self, envelope: Envelope) {
        if envelope.to == self.options.raft_id {
            self.formation
                .hear_traffic(envelope.cluster_id, envelope.from);
            self.follow_formation();
            if self.raft.is_none() && self.formation.join(envelope.cluster_id) {
                self.join(envelope.cluster_id);
            }
        }
    }
}
