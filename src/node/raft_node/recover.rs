//! A new cluster of what this server has of one that has halted.
//!
//! All of the log is kept, also what stands behind the commit index. The lost majority may have
//! committed and acknowledged those entries, and what was acknowledged must not be given up here as
//! long as it is there. An entry that was never acknowledged may be applied as well: its caller was
//! told that the outcome is unknown, or has heard nothing, and a write that was refused as "not
//! applied" never entered a log.
//!
//! The new server has the raft id of the old one, although it has forgotten, on purpose, what that
//! has voted for and acknowledged. That is safe because it is in another cluster: every message
//! names its cluster, in both directions, and one of the old cluster is refused before raft-rs sees
//! it. Nothing that was promised there can be counted here, and nothing that is promised here can
//! be counted there. The old server promises nothing any more: to what is left of its cluster it
//! has died.

use super::RaftNode;
use crate::error::{Reason, Refusal};
use crate::kv::{Command, StateMachine};
use crate::node::{MemoryStorage, NodeError};
use crate::types::{ClusterId, EntryPayload};
use crate::wire;

impl<W> RaftNode<W> {
    /// The server of the new cluster `cluster_id`, its only voter, with everything that this one
    /// has. It stands for election at once. It takes over whom this one owes an answer; this one
    /// must not be used any more. There must be nothing left to [`output`](Self::output).
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the log cannot be applied: this server goes on as if nothing had happened.
    pub(in crate::node) fn recover(
        &mut self,
        cluster_id: ClusterId,
        logger: &slog::Logger,
    ) -> Result<Self, NodeError> {
        let storage = self.raw.store();
        let last_index = self.last_index();
        let last_term = self.raw.raft.raft_log.last_term();
        let state_machine = self.everything_applied(storage)?;
        // A term of its own, so that the two clusters can be told apart in a log.
        let term = self.term().saturating_add(1);
        let storage =
            MemoryStorage::recovered(self.raft_id, state_machine, (last_index, last_term), term);
        let mut new = Self::with_storage(
            self.raft_id,
            cluster_id,
            storage,
            self.options,
            self.seed,
            logger,
        )?;
        let (writes, reads) = self.waiters.take_all();
        new.output = std::mem::take(&mut self.output);
        for waiter in writes {
            new.refuse(waiter, Refusal::unknown(Reason::NoQuorum));
        }
        for waiter in reads {
            new.refuse(waiter, Refusal::not_applied(Reason::NoQuorum));
        }
        new.shown = self.shown;
        new.campaign();
        Ok(new)
    }

    /// The state machine after the last entry of the log. Changes of voters are passed over, as the
    /// new cluster has its own, and so is the removal of this very member, which the new cluster
    /// cannot do without.
    fn everything_applied(&self, storage: &MemoryStorage) -> Result<StateMachine, NodeError> {
        let mut state_machine = storage.state_machine().clone();
        for index in storage.applied() + 1..=self.last_index() {
            let damaged = |reason: String| NodeError::Apply { index, reason };
            let entry = storage
                .entry(index)
                .ok_or_else(|| damaged("the log does not hold it".to_owned()))?;
            let EntryPayload::Command(data) = entry.payload else {
                continue;
            };
            let command = wire::decode_command(data).map_err(|error| damaged(error.to_string()))?;
            if command != Command::RemoveMember(self.raft_id.node_id()) {
                state_machine.apply(index, command);
            }
        }
        Ok(state_machine)
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, EntryType};

    use super::*;
    use crate::kv::Write;
    use crate::node::RaftOptions;
    use crate::types::{ClusterMembership, NodeId, Offer, RaftId};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn entry(index: u64, data: Option<Command>) -> Entry {
        let mut entry = Entry {
            index,
            term: 1,
            data: data.map_or_else(Default::default, |it| wire::encode_command(&it)),
            ..Entry::default()
        };
        entry.set_entry_type(EntryType::EntryNormal);
        entry
    }

    /// A follower of three whose log ends with `tail`, none of which it knows to be committed.
    fn survivor(tail: Vec<Entry>) -> RaftNode<u8> {
        let members: ClusterMembership = [1, 2, 3].map(node).into();
        let offer = Offer {
            cluster_id: ClusterId(7),
            coordinator: RaftId::new(node(1), 1),
            members: [1, 2, 3].map(|id| RaftId::new(node(id), 1)).to_vec(),
            membership: members,
            absent: std::collections::BTreeSet::new(),
        };
        let raft_id = RaftId::new(node(2), 1);
        let options = RaftOptions::default();
        let mut raft = RaftNode::start(raft_id, &offer, options, 42, &logger()).expect("a server");
        raft.raw.mut_store().append(tail).expect("no gap");
        raft
    }

    fn logger() -> slog::Logger {
        slog::Logger::root(slog::Discard, slog::o!())
    }

    #[test]
    fn the_tail_is_applied_without_what_the_new_cluster_cannot_use() {
        let set = Command::from(Write::Set {
            key: "k".into(),
            value: "v".into(),
        });
        let mut conf_change = entry(4, None);
        conf_change.set_entry_type(EntryType::EntryConfChangeV2);
        conf_change.data = vec![0xff].into();
        let mut old = survivor(vec![
            entry(2, Some(set)),
            entry(3, None),
            conf_change,
            entry(5, Some(Command::RemoveMember(node(2)))),
            entry(6, Some(Command::RemoveMember(node(3)))),
        ]);
        let mut new = old.recover(ClusterId(8), &logger()).expect("a server");
        let _ = new.output().expect("no broken invariant");
        assert_eq!(new.cluster_id(), ClusterId(8));
        assert_eq!(new.leader(), Some(new.raft_id()));
        assert_eq!(new.voters(), [new.raft_id()]);
        assert!(new.term() > old.term());
        // The new leader's first entry follows what was kept.
        assert_eq!((new.last_index(), new.commit_index()), (7, 7));
        let state = new.storage().state_machine();
        assert_eq!(state.get(b"k").map(AsRef::as_ref), Some(&b"v"[..]));
        let members: Vec<_> = state.members().ids().collect();
        assert_eq!(members, [node(1), node(2)]);
    }

    #[test]
    fn a_log_that_cannot_be_applied_leaves_the_old_server_as_it_was() {
        let mut damaged = entry(2, None);
        damaged.data = vec![0xff].into();
        let mut old = survivor(vec![damaged]);
        assert!(matches!(
            old.recover(ClusterId(8), &logger()),
            Err(NodeError::Apply { index: 2, .. })
        ));
        assert_eq!(old.cluster_id(), ClusterId(7));
        assert_eq!(old.last_index(), 2);
        assert_eq!(old.voters().len(), 3);
    }
}
