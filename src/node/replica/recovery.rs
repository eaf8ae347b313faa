//! How one process recovers a cluster alone, although others could as well.
//!
//! With a check before an action, two survivors could act at the same time, and make two clusters of one.
//! So a survivor *claims* the recovery first: it asks every other process of the cluster that answers to
//! yield. A process that yields is *frozen*: it neither votes, nor becomes a candidate, nor acknowledges
//! anything in the old cluster any more, and recovers nothing itself. The claimant is frozen too while it
//! asks, so the state that it compared does not change. It acts when all have yielded, and gives up when
//! one refuses, or after a timeout.
//!
//! A process yields only to one that ranks above it ([`Rank`]), and its state does not change from then
//! on. So of two claimants that hear of one another the lesser never gets the consent of the greater, and
//! yields to it. Both may fail, because another process had already yielded to the lesser one, or because
//! the network loses their messages. Then nothing has changed, and a retry succeeds.
//!
//! No process has to be told that an attempt has failed, so no such message can be lost: a process that
//! has yielded asks the claimant for its status. It takes part again when another incarnation answers
//! there, or when the claimant has given up. If the claimant has recovered the cluster, it never takes
//! part again: it is left over until it is started again. While the claimant is silent it stays frozen.
//! An operator may state that the claimant is gone for good, which a recovery needs anyway for every node
//! that is silent.

use std::collections::BTreeSet;

use super::Replica;
use crate::cluster::recovery::{Order, Way};
use crate::cluster::{Answers, nodes};
use crate::error::Refusal;
use crate::node::{Call, Event, Recovery};
use crate::types::{NodeId, NodeStatus, RaftId, Rank, RecoveryAttempt, RecoveryClaim};

/// Ticks after which an attempt without all answers is given up.
const ATTEMPT_TICKS: u64 = 60;
/// Ticks between two questions to the process that this one has yielded to.
const ASK_TICKS: u64 = 5;

/// The part of a process in recoveries of its cluster.
#[derive(Debug, Default)]
pub(super) struct Claims {
    now: u64,
    /// Number of claims of this process so far.
    number: u64,
    /// Its own claim, while it waits for the others.
    own: Option<Attempt>,
    /// The claim that it has yielded to.
    yielded: Option<Yielded>,
    /// The result of its own last attempt, until it is taken.
    ended: Option<Result<Recovery, Refusal>>,
}

/// A claim of this process.
#[derive(Debug)]
struct Attempt {
    order: Order,
    way: Way,
    /// The processes that have not yielded yet.
    awaited: BTreeSet<RaftId>,
    until: u64,
}

/// A claim of another process.
#[derive(Debug, Clone, Copy)]
struct Yielded {
    claim: RecoveryClaim,
    ask_at: u64,
}

impl Yielded {
    fn to(&self) -> RaftId {
        self.claim.rank.raft_id
    }

    /// Whether the claim is void, given this status of its node: another incarnation answers, or the
    /// claimant has given up. An answer from before the claim says nothing.
    fn is_void(&self, status: &NodeStatus) -> bool {
        let RecoveryAttempt { number, under_way } = status.recovery;
        let RecoveryClaim {
            cluster_id,
            attempt,
            ..
        } = self.claim;
        let given_up = number > attempt || (number == attempt && !under_way);
        status.raft_id.node_id() == self.to().node_id()
            && (status.raft_id != self.to() || (status.cluster_id == Some(cluster_id) && given_up))
    }
}

impl Claims {
    /// The last attempt of this process.
    pub(super) fn attempt(&self) -> RecoveryAttempt {
        RecoveryAttempt {
            number: self.number,
            under_way: self.own.is_some(),
        }
    }

    /// The process for which this one is frozen, if it is: another claimant, or itself.
    pub(super) fn frozen_for(&self, me: RaftId) -> Option<RaftId> {
        let other = self.yielded.map(|yielded| yielded.to());
        other.or_else(|| self.own.is_some().then_some(me))
    }

    /// The node of the process that this one has yielded to, unless `order` states that it is gone.
    pub(super) fn held_by_another(&self, order: &Order) -> Option<NodeId> {
        let node = self.yielded.map(|yielded| yielded.to().node_id());
        node.filter(|node| !order.without.contains(node))
    }

    /// Drops the claim that this process has yielded to if `status` makes it void. Returns the claimant.
    fn heard(&mut self, status: &NodeStatus) -> Option<RaftId> {
        let void = self.yielded.take_if(|yielded| yielded.is_void(status));
        void.map(|yielded| yielded.to())
    }
}

impl<W> Replica<W> {
    /// Recovers a new cluster, whose only voter is this process, from its whole log of the cluster that
    /// `order` names. `answers` are those of all nodes that were asked. The members stay the same: the
    /// new leader adds their current incarnations as after any loss of memory.
    ///
    /// The other processes that still have a part in the old cluster are asked to yield first, so
    /// [`take_recovered`](Self::take_recovered) returns the result at once or later.
    ///
    /// # Errors
    ///
    /// As for [`may_recover`](Self::may_recover). Nothing has changed then.
    pub fn recover(&mut self, order: Order, answers: impl Into<Answers>) -> Result<(), Refusal> {
        let way = self.way(&order, answers.into())?;
        // A claimant that this process had yielded to is gone.
        self.claims.yielded = None;
        self.claims.number += 1;
        let claim = RecoveryClaim {
            cluster_id: order.cluster_id,
            attempt: self.claims.number,
            rank: way.survivor,
        };
        let awaited: BTreeSet<_> = way.others.iter().map(|other| other.raft_id).collect();
        for to in &awaited {
            let call = Call::Yield { claim, to: *to };
            self.call(to.node_id(), call);
        }
        self.claims.own = Some(Attempt {
            order,
            way,
            awaited,
            until: self.claims.now + ATTEMPT_TICKS,
        });
        self.carry_on();
        Ok(())
    }

    /// What [`recover`](Self::recover) would keep.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`](crate::error::Reason::InvalidRequest) if the order is not for this
    /// cluster, or leaves out a node that answers;
    /// [`Reason::FailedPrecondition`](crate::error::Reason::FailedPrecondition) with the obstacle, see
    /// [`Obstacle`](crate::cluster::recovery::Obstacle).
    pub fn may_recover(
        &mut self,
        order: &Order,
        answers: impl Into<Answers>,
    ) -> Result<Recovery, Refusal> {
        let way = self.way(order, answers.into())?;
        Ok(self.facts(order, &way))
    }

    /// The result of the last recovery that began here, once.
    pub fn take_recovered(&mut self) -> Option<Result<Recovery, Refusal>> {
        self.claims.ended.take()
    }

    /// Takes the claim of another process to recover the cluster. If this process yields, it takes no
    /// part in the cluster any more, unless the attempt fails.
    ///
    /// # Errors
    ///
    /// The reason why this process does not yield, as text that follows its name: it has heard of a
    /// leader, it has yielded to another claimant, or it has more.
    pub fn yield_to(&mut self, claim: &RecoveryClaim) -> Result<(), String> {
        // Entries that raft-rs has taken but not handed out yet belong to the log.
        self.take_what_is_ready()
            .map_err(|refusal| refusal.to_string())?;
        let own = Rank::of(&self.status());
        let Some(raft) = &self.raft else {
            return Err("takes part in no cluster".to_owned());
        };
        let to = claim.rank.raft_id;
        if raft.cluster_id() != claim.cluster_id {
            return Err(format!("takes part in cluster {}", raft.cluster_id()));
        }
        if raft.is_led() {
            return Err("has heard of a leader a moment ago".to_owned());
        }
        if own > claim.rank {
            return Err(format!("has more by now: its log reaches {own}"));
        }
        match self.claims.yielded {
            Some(earlier) if earlier.to() != to => {
                let node = earlier.to().node_id();
                return Err(format!("has left the recovery to node {node}"));
            }
            Some(earlier) if earlier.claim.attempt > claim.attempt => {
                return Err("has heard of a later attempt".to_owned());
            }
            Some(_) => {}
            None => self.output.events.push(Event::Yielded { to }),
        }
        self.give_up(&format!(
            "node {} recovers it, which has more",
            to.node_id()
        ));
        self.claims.yielded = Some(Yielded {
            claim: *claim,
            ask_at: self.claims.now + ASK_TICKS,
        });
        Ok(())
    }

    /// Takes the answer of `node` to the claim `attempt`.
    pub(super) fn answered_claim(
        &mut self,
        node: NodeId,
        attempt: u64,
        answer: Result<(), String>,
    ) {
        if attempt != self.claims.number {
            return;
        }
        let Some(own) = &mut self.claims.own else {
            return;
        };
        match answer {
            Ok(()) => {
                own.awaited.retain(|process| process.node_id() != node);
                self.carry_on();
            }
            Err(reason) => self.give_up(&format!("node {node} {reason}")),
        }
    }

    /// Acts once all have yielded.
    fn carry_on(&mut self) {
        let all_have_yielded = |own: &mut Attempt| own.awaited.is_empty();
        if let Some(Attempt { order, way, .. }) = self.claims.own.take_if(all_have_yielded) {
            let outcome = self.carry_out(&order, &way);
            self.claims.ended = Some(outcome);
        }
    }

    fn give_up(&mut self, reason: &str) {
        if self.claims.own.take().is_some() {
            self.claims.ended = Some(Err(Refusal::precondition(format!(
                "nothing was changed: {reason}; look at seshat status, then try again"
            ))));
        }
    }

    /// Counts one tick.
    pub(super) fn tick_claims(&mut self) {
        self.claims.now += 1;
        let now = self.claims.now;
        if let Some(own) = &self.claims.own
            && own.until < now
        {
            let silent: Vec<_> = own.awaited.iter().map(|id| id.node_id()).collect();
            self.give_up(&format!("{} did not answer in time", nodes(&silent)));
        }
        if let Some(yielded) = &mut self.claims.yielded
            && yielded.ask_at <= now
        {
            yielded.ask_at = now + ASK_TICKS;
            let node = yielded.to().node_id();
            self.ask([node]);
        }
    }

    /// Takes the status of a node.
    pub(super) fn heard_of_claimant(&mut self, status: &NodeStatus) {
        if let Some(from) = self.claims.heard(status) {
            self.output.events.push(Event::ClaimVoid { from });
        }
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
