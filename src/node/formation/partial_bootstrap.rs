//! Partial bootstrap: the operator states that initial members are gone, and the rest forms a cluster.
//!
//! Without that statement no process can tell a member that is gone from one that is cut off and takes part
//! in a cluster already. With it the rest forms as usual. The statement is checked against what can be seen,
//! here and at each of the rest ([`offered`](Formation::offered)): it ends when a member that is left out
//! answers, or may run although it does not answer.

use super::{Answering, BTreeSet, ClusterId, Formation, NodeId, Outside, Phase};
use crate::cluster::hung;
use crate::error::{Reason, Refusal};

/// Election timeouts for which an operator's statement counts: enough for all members to be asked and to
/// accept, several times.
const PARTIAL_BOOTSTRAP_TIMEOUTS: u64 = 10;

/// An operator's statement.
#[derive(Debug)]
pub(super) struct PartialBootstrap {
    /// The nodes that are fresh, or gone for good.
    without: BTreeSet<NodeId>,
    /// The last tick at which the statement counts.
    pub(super) until: u64,
}

impl Formation {
    /// The operator states that the nodes `without` are gone: no process of theirs runs, and none has ever
    /// been part of a cluster with the others that still runs. This process then offers a cluster to the rest
    /// of the initial members as soon as all other nodes that it knows of have answered, and `without` have
    /// been found silent, within the next ten election timeouts. The call may be repeated.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`] unless `without` are other nodes that this process knows of, fewer than
    /// half of the initial members among them. [`Reason::FailedPrecondition`] unless this process has the
    /// lowest node id of the rest, forms clusters (`cluster.bootstrap`), takes part in none and has accepted
    /// none; and as long as a node of `without` answers, may hang, or has lately asked this process.
    pub fn form_without(&mut self, without: BTreeSet<NodeId>) -> Result<(), Refusal> {
        self.check(&without)?;
        if !self.offers_without(&without) {
            self.withdraw();
        }
        self.partial = Some(PartialBootstrap {
            without,
            until: self
                .now
                .saturating_add(self.pace.saturating_mul(PARTIAL_BOOTSTRAP_TIMEOUTS)),
        });
        if matches!(self.phase, Phase::Fresh) {
            self.maybe_offer();
        }
        Ok(())
    }

    /// Withdraws the statement of [`form_without`](Self::form_without): nothing forms any more because of it.
    /// Returns the cluster that this process takes part in by now, if any.
    ///
    /// # Errors
    ///
    /// Those of [`form_without`](Self::form_without): the reason may have become known meanwhile.
    pub fn stop_forming(
        &mut self,
        without: &BTreeSet<NodeId>,
    ) -> Result<Option<ClusterId>, Refusal> {
        if self.phase.takes_part() {
            return Ok(self.cluster_id());
        }
        let checked = self.check(without);
        if self.partial.take_if(|it| it.without == *without).is_some() {
            self.withdraw();
        }
        checked.map(|()| None)
    }

    fn check(&self, without: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        self.check_named(without).map_err(|rule| {
            let field = "without";
            Refusal::not_applied(Reason::InvalidRequest { field, rule })
        })?;
        self.check_moment(without)
            .map_err(|rule| Refusal::not_applied(Reason::FailedPrecondition { rule }))
    }

    /// Whether the current offer leaves out exactly `without`, initial members and others.
    fn offers_without(&self, without: &BTreeSet<NodeId>) -> bool {
        let Phase::Offering { offer, .. } = &self.phase else {
            return false;
        };
        let mut peers = self.peers.keys();
        peers.all(|&id| match self.members.contains(id) {
            true => self.offers_to(id) != without.contains(&id),
            false => offer.absent.contains(&id) == without.contains(&id),
        })
    }

    /// The nodes that are left out and are no initial members.
    pub(super) fn excluded_others(&self) -> BTreeSet<NodeId> {
        let left_out = self.partial.iter().flat_map(|partial| &partial.without);
        let others = left_out.filter(|&&id| !self.members.contains(id));
        others.copied().collect()
    }

    fn check_named(&self, without: &BTreeSet<NodeId>) -> Result<(), String> {
        if without.is_empty() {
            return Err("names the nodes that are missing: at least one".to_owned());
        }
        if without.contains(&self.raft_id.node_id()) {
            return Err("this node is there: ask it to form without others".to_owned());
        }
        if let Some(other) = without.iter().find(|&&id| !self.known.contains(id)) {
            return Err(format!("node {other} is no initial member"));
        }
        let missing = without.iter().filter(|&&id| self.members.contains(id));
        let (missing, all) = (missing.count(), self.members.len());
        if 2 * missing >= all {
            return Err(format!(
                "more than half of the initial members have to be there: without {missing} of \
                 {all} there would be {}",
                all - missing
            ));
        }
        Ok(())
    }

    fn check_moment(&self, without: &BTreeSet<NodeId>) -> Result<(), String> {
        if self.phase.takes_part()
            && let Some(cluster_id) = self.cluster_id()
        {
            return Err(format!("this node takes part in cluster {cluster_id}"));
        }
        if let Some(Outside { cluster_id, .. }) = self.outside {
            return Err(format!(
                "cluster {cluster_id} is running: this node waits until its leader takes it back"
            ));
        }
        if !self.bootstrap {
            return Err("this node forms no cluster: its cluster.bootstrap is false".to_owned());
        }
        if let Some(there) = without.iter().find(|&id| {
            let peer = self.peers.get(id);
            peer.is_some_and(|peer| peer.heard.is_some())
        }) {
            return Err(format!("node {there} answers: it is not gone"));
        }
        let lowest = self.members.ids().find(|id| !without.contains(id));
        if let Some(lowest) = lowest.filter(|&id| id != self.raft_id.node_id()) {
            return Err(format!(
                "ask node {lowest}: of the members that are there, it has the lowest id"
            ));
        }
        for &id in without {
            self.check_absence(id)?;
        }
        if let Phase::Prepared { offer, .. } = &self.phase {
            return Err(format!(
                "this node has accepted a cluster that node {} has offered. If that node is gone \
                 for good, start this one again, and ask once more",
                offer.coordinator.node_id()
            ));
        }
        without.iter().try_for_each(|&id| self.check_address(id))
    }

    /// Refuses a `node` that may run although it does not answer. One that is still being asked may be gone.
    fn check_absence(&self, node: NodeId) -> Result<(), String> {
        match self.peers.get(&node).and_then(|peer| peer.found) {
            Some(Answering::Hung) => Err(hung(node)),
            Some(found) if !found.may_be_gone() => {
                let addr = self.known.get(node).map_or("", |info| &info.addr);
                Err(format!(
                    "node {node} may be there: its address, {addr}, {found}"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a `node` that has lately asked this process: it runs, and this process has a wrong address of
    /// it.
    fn check_address(&self, node: NodeId) -> Result<(), String> {
        if !self.asks(node) {
            return Ok(());
        }
        let addr = self.known.get(node).map_or("", |info| &info.addr);
        let found = self.peers.get(&node).and_then(|peer| peer.found);
        Err(format!(
            "node {node} was there a moment ago: it asked this node, although its address, {addr}, {}. \
             Correct that address in the file of node {}, or, if the node has just ended, ask once more",
            found.unwrap_or(Answering::Silent),
            self.raft_id.node_id()
        ))
    }

    /// Whether all nodes that are left out have been asked, and all of them may be gone.
    pub(super) fn may_leave_out(&self) -> bool {
        let left_out = self.partial.iter().flat_map(|partial| &partial.without);
        let mut peers = left_out.filter_map(|id| self.peers.get(id));
        peers.all(|peer| peer.found.is_some_and(Answering::may_be_gone))
    }

    /// Whether the operator's statement leaves out `node`.
    pub(super) fn is_left_out(&self, node: NodeId) -> bool {
        let partial = self.partial.as_ref();
        partial.is_some_and(|partial| partial.without.contains(&node))
    }

    /// `node` has answered, or may run although it does not. A statement that leaves it out is wrong, or not
    /// needed any more, and ends.
    pub(super) fn is_there(&mut self, node: NodeId) {
        if self.is_left_out(node) {
            self.partial = None;
            self.withdraw();
        }
    }
}
