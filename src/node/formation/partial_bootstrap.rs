//! Forming a cluster although initial members are missing, on an operator's word.
//!
//! Without that word nobody can tell a member that is missing from one that is cut off and runs in
//! a cluster already. With it the rest forms as usual. What the operator says is held against what
//! can be seen: a vouched member that answers ends it, or one that may be there though it does not
//! answer, here, and at each of the rest ([`offered`](Formation::offered)).

use super::{Answering, BTreeSet, ClusterId, Formation, NodeId, Outside, Phase};
use crate::cluster::hung;
use crate::error::{Reason, Refusal};

/// Election timeouts for which an operator's word is good: time for everybody to be asked and to accept,
/// some times.
const PARTIAL_BOOTSTRAP_TIMEOUTS: u64 = 10;

/// What an operator has said.
#[derive(Debug)]
pub(super) struct PartialBootstrap {
    /// The nodes that are fresh, or gone for good.
    without: BTreeSet<NodeId>,
    /// The last tick at which that counts.
    pub(super) until: u64,
}

impl Formation {
    /// An operator vouches that the nodes `without` are fresh: no process of theirs runs, and none has
    /// ever been part of a cluster with the others that still runs. This process then offers a cluster
    /// to the rest of the initial members as soon as everybody it knows of has answered, and `without`
    /// have been found silent, within the next ten election timeouts. Asking again does no harm.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`] unless `without` are other nodes that this process knows of, fewer
    /// than half of the initial members among them. [`Reason::FailedPrecondition`] unless this process has the lowest node id of the rest,
    /// forms clusters at all and is part of none, and as long as a member of `without` answers or may
    /// hang.
    pub fn form_without(&mut self, without: BTreeSet<NodeId>) -> Result<(), Refusal> {
        self.judge(&without)?;
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

    /// Ends what [`form_without`](Self::form_without) has begun: nothing forms any more because the operator
    /// has vouched for `without`. Returns the cluster that this process takes part in by now, if any.
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
        let judged = self.judge(without);
        if self.partial.take_if(|it| it.without == *without).is_some() {
            self.withdraw();
        }
        judged.map(|()| None)
    }

    fn judge(&self, without: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        self.check_named(without).map_err(|rule| {
            let field = "without";
            Refusal::not_applied(Reason::InvalidRequest { field, rule })
        })?;
        self.check_moment(without)
            .map_err(|rule| Refusal::not_applied(Reason::FailedPrecondition { rule }))
    }

    /// Whether this process offers a cluster to all initial members but `without`, and says so of the
    /// others.
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

    /// The nodes that an operator has vouched for and that are no initial members.
    pub(super) fn excluded_others(&self) -> BTreeSet<NodeId> {
        let vouched = self.partial.iter().flat_map(|partial| &partial.without);
        let others = vouched.filter(|&&id| !self.members.contains(id));
        others.copied().collect()
    }

    fn check_named(&self, without: &BTreeSet<NodeId>) -> Result<(), String> {
        if without.is_empty() {
            return Err("names the nodes that are missing: at least one".to_owned());
        }
        if without.contains(&self.raft_id.node_id()) {
            return Err("this node is there: ask it to form without others".to_owned());
        }
        if let Some(stranger) = without.iter().find(|&&id| !self.known.contains(id)) {
            return Err(format!("node {stranger} is no initial member"));
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
            return Err(format!("node {there} is there: it needs nobody's word"));
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
        without.iter().try_for_each(|&id| self.judge_address(id))
    }

    /// Whether `node` may be gone, for all that is known. While it is still being asked it may.
    fn check_absence(&self, node: NodeId) -> Result<(), String> {
        match self.peers.get(&node).and_then(|peer| peer.found) {
            Some(Answering::Hung) => Err(hung(node)),
            Some(stranger) if !stranger.may_be_gone() => {
                let addr = self.known.get(node).map_or("", |info| &info.addr);
                Err(format!(
                    "node {node} may be there: its address, {addr}, {stranger}"
                ))
            }
            _ => Ok(()),
        }
    }

    /// A node that has lately asked this process is there, and its address is wrong here.
    fn judge_address(&self, node: NodeId) -> Result<(), String> {
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

    /// Whether all that an operator has vouched for have been asked, and none may be there.
    pub(super) fn may_leave_out(&self) -> bool {
        let vouched = self.partial.iter().flat_map(|partial| &partial.without);
        let mut peers = vouched.filter_map(|id| self.peers.get(id));
        peers.all(|peer| peer.found.is_some_and(Answering::may_be_gone))
    }

    /// Whether an operator has vouched for `node`.
    pub(super) fn is_left_out(&self, node: NodeId) -> bool {
        let partial = self.partial.as_ref();
        partial.is_some_and(|partial| partial.without.contains(&node))
    }

    /// `node` has answered, or may be there all the same: if an operator has vouched for it, that was wrong, or is no longer
    /// needed.
    pub(super) fn is_there(&mut self, node: NodeId) {
        if self.is_left_out(node) {
            self.partial = None;
            self.withdraw();
        }
    }
}
