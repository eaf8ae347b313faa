//! Leadership transfer (dissertation, section 3.10).
//!
//! An operator, a shutdown, and a leader whose node is no member any more all transfer leadership, and all
//! three choose the transferee here. raft-rs brings the transferee's log up to date, tells it to stand for
//! election at once (`MsgTimeoutNow`), and gives up without a word after an election timeout. Meanwhile
//! the leader takes no writes.

use super::RaftNode;
use crate::error::{Reason, Refusal};
use crate::types::{NodeId, RaftId};

impl<W> RaftNode<W> {
    /// Begins to transfer leadership to the voter of node `to`, or to the best transferee: the member
    /// whose log reaches furthest, preferably one that has answered lately and keeps up. Returns the node
    /// that is to lead.
    ///
    /// # Errors
    ///
    /// [`Reason::NotLeader`] and [`Reason::NoQuorum`] if this node does not lead;
    /// [`Reason::InvalidRequest`] if `to` has no voter; [`Reason::FailedPrecondition`] in a cluster of one.
    pub fn transfer_leader(&mut self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        self.serves().map_err(Refusal::not_applied)?;
        let me = self.raft_id.node_id();
        let transferee = match to {
            Some(to) if to == me => return Ok(to),
            Some(to) => {
                let mut voters = self.voters().into_iter();
                voters.find(|voter| voter.node_id() == to).ok_or_else(|| {
                    Refusal::invalid("to", format!("node {to} is no voting member"))
                })?
            }
            None => match self.best_transferee() {
                Some((transferee, _)) => transferee,
                None if self.conf.members == [me] => {
                    return Err(Refusal::precondition(
                        "the cluster has one member, so no other member can lead",
                    ));
                }
                // A member may come to vote in a moment.
                None => return Err(Refusal::not_applied(Reason::NoQuorum)),
            },
        };
        self.begin_transfer(transferee);
        Ok(transferee.node_id())
    }

    /// Begins to transfer leadership to the best transferee, if that has answered lately and keeps up;
    /// whether it does.
    pub(in crate::node) fn transfer_to_a_member(&mut self) -> bool {
        match self.best_transferee() {
            Some((transferee, true)) => {
                self.begin_transfer(transferee);
                true
            }
            _ => false,
        }
    }

    /// Whether a transfer is under way.
    pub fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// The best transferee, and whether it has answered lately and keeps up.
    fn best_transferee(&self) -> Option<(RaftId, bool)> {
        let tracker = self.raw.raft.prs();
        self.voters()
            .into_iter()
            .filter(|&voter| voter != self.raft_id)
            .filter(|voter| self.conf.members.contains(&voter.node_id()))
            .filter_map(|voter| {
                let progress = tracker.get(voter.get())?;
                let keeps_up = progress.recent_active && self.has_caught_up(voter);
                Some((keeps_up, progress.recent_active, progress.matched, voter))
            })
            .max()
            .map(|(keeps_up, _, _, voter)| (voter, keeps_up))
    }

    fn begin_transfer(&mut self, transferee: RaftId) {
        self.raw.transfer_leader(transferee.get());
        self.settle();
    }
}
