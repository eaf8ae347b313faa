//! A new cluster from the state that this server has of a halted one.
//!
//! The whole log is kept, including the entries behind the commit index. The lost majority may have committed
//! and acknowledged those entries, and an acknowledged write must not be given up as long as it exists here.
//! An entry that was never acknowledged may be applied as well: its caller was told that the outcome is
//! unknown, or got no answer, and a write that was refused as "not applied" never entered a log.
//!
//! There is no second copy of anything: the state machine moves from the old server to the new one, and
//! the log is freed on the way. A cluster may have halted because memory ran out. So every step that can
//! fail is tried before anything has changed.
//!
//! The new server has the raft id of the old one, although it has forgotten, on purpose, the votes and
//! acknowledgements of the old one. That is safe because it is in another cluster: every message names
//! its cluster, in both directions, and a message of the old cluster is refused before raft-rs sees it.
//! No promise of one cluster can count in the other. The old server promises nothing any more: to the
//! rest of its cluster it has died.

use super::RaftNode;
use crate::error::{Reason, Refusal};
use crate::kv::{Command, Revisions, StateMachine, Write};
use crate::node::{MemoryStorage, NodeError};
use crate::types::{ClusterId, EntryPayload, LogIndex, NodeInfo, VersionedLogEntry, WallTime};
use crate::wire;

impl<W> RaftNode<W> {
    /// The server of the new cluster `cluster_id`, its only voter, with all the state of this one. It
    /// campaigns at once. It takes over the waiters of this one, which must not be used any more. There
    /// must be no [`output`](Self::output) left.
    ///
    /// The node of this server is a member of the new cluster, at the addresses `own` if its removal was
    /// applied: no other node could add the others.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the log cannot be applied. This server is unchanged then.
    pub(in crate::node) fn recover(
        &mut self,
        cluster_id: ClusterId,
        own: NodeInfo,
        now: Option<WallTime>,
        logger: &slog::Logger,
    ) -> Result<Self, NodeError> {
        self.check_log()?;
        let at = (self.last_index(), self.last_term());
        // A term of its own, so that the two clusters can be told apart in a log.
        let term = self.term().saturating_add(1);
        let storage = MemoryStorage::recovered(self.raft_id, at, term);
        let mut new = Self::with_storage(
            self.raft_id,
            cluster_id,
            storage,
            self.options,
            self.seed,
            logger,
        )?;
        let mut state_machine = self.take_everything(own, now);
        state_machine.recover_from(self.cluster_id());
        new.begin_with(state_machine);
        new.take_watches_of(self);
        let (writes, reads) = self.waiters.take_all();
        let (renewing, not_renewed) = self.clock.restart();
        new.set_uptime(self.clock.uptime());
        new.output = std::mem::take(&mut self.output);
        for waiter in writes.into_iter().chain(renewing) {
            new.refuse(waiter, Refusal::unknown(Reason::NoQuorum));
        }
        for waiter in reads.into_iter().chain(not_renewed) {
            new.refuse(waiter, Refusal::not_applied(Reason::NoQuorum));
        }
        new.shown = self.shown;
        new.campaign();
        Ok(new)
    }

    /// Whether all of the log can be applied. Reads it, and keeps nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::Apply`] of the first entry that cannot be applied.
    pub(in crate::node) fn check_log(&self) -> Result<(), NodeError> {
        let storage = self.raw.store();
        for index in storage.applied() + 1..=self.last_index() {
            let entry = storage.entry(index).ok_or_else(|| NodeError::Apply {
                index,
                reason: "the log does not hold it".to_owned(),
            })?;
            command(entry)?;
        }
        Ok(())
    }

    /// Takes the state machine out and applies the rest of the log. Each entry is freed as soon as it is
    /// applied. Changes of voters are skipped, because the new cluster has its own, and so is the removal
    /// of this member. Behind the commit index the lost majority may have decided other entries, and have
    /// given their revisions away: see [`Revisions`](crate::kv::Revisions). The conditions there name other
    /// entries by the revisions that these had, and hold as they did.
    fn take_everything(&mut self, own: NodeInfo, now: Option<WallTime>) -> StateMachine {
        let me = own.id;
        let storage = std::mem::take(self.raw.mut_store());
        let applied = storage.applied();
        let committed = storage.hard_state().commit;
        let (mut state_machine, tail) = storage.into_parts();
        if !state_machine.members().contains(me) {
            state_machine.apply(applied, Command::AddMember(own));
        }
        let apply = |state_machine: &mut StateMachine, index, command| {
            if command != Command::RemoveMember(me) {
                state_machine.apply(index, command);
            }
        };
        // The whole log has been checked.
        let commands = tail.filter_map(|entry| command(entry).ok().flatten());
        let mut commands = commands.peekable();
        while let Some((index, decided)) = commands.next_if(|(index, _)| *index <= committed) {
            apply(&mut state_machine, index, decided);
        }
        let mut former = state_machine.revisions();
        state_machine.skip_revisions(committed.max(applied), now);
        for (index, mut command) in commands {
            match &mut command {
                Command::RaiseLevel { revision, .. } => {
                    former.begin(index, *revision);
                    *revision = Revisions::above(*revision, now);
                }
                Command::Write {
                    write: Write::Txn(txn),
                    ..
                } => {
                    let revisions = state_machine.revisions();
                    let undecided = committed + 1..=index;
                    txn.rename_revisions(|revision| {
                        former.renamed(revision, undecided.clone(), &revisions)
                    });
                }
                _ => {}
            }
            apply(&mut state_machine, index, command);
        }
        state_machine
    }

    /// Starts with `state_machine` at the applied index.
    fn begin_with(&mut self, state_machine: StateMachine) {
        self.raw.mut_store().begin_with(state_machine);
        self.conf = std::sync::Arc::new(self.raw.store().conf());
        self.settle();
    }
}

/// The command of an entry, if it holds one.
fn command(entry: VersionedLogEntry) -> Result<Option<(LogIndex, Command)>, NodeError> {
    let index = entry.index;
    let EntryPayload::Command(data) = entry.payload else {
        return Ok(None);
    };
    let command = wire::decode_command(data).map_err(|error| NodeError::Apply {
        index,
        reason: error.to_string(),
    })?;
    Ok(Some((index, command)))
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{Entry, EntryType};

    use bytes::Bytes;

    use super::*;
    use crate::kv::{Changes, Condition, KeyTest, Operation, SetLifetime, Txn};
    use crate::node::RaftOptions;
    use crate::types::{ClusterMembership, NodeId, Offer, RaftId, Revision};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn info(id: u16) -> NodeInfo {
        NodeInfo {
            id: node(id),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        }
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

    fn offer() -> Offer {
        let members: ClusterMembership = [1, 2, 3].map(node).into();
        Offer {
            cluster_id: ClusterId(7),
            coordinator: RaftId::new(node(1), 1),
            members: [1, 2, 3].map(|id| RaftId::new(node(id), 1)).to_vec(),
            membership: members,
            absent: std::collections::BTreeSet::new(),
            level: crate::types::ProtocolLevel::FIRST,
            limits: None,
            time: None,
        }
    }

    /// A follower of three whose log ends with `tail`. It does not know any of these entries to be committed.
    fn survivor(tail: Vec<Entry>) -> RaftNode<u8> {
        let offer = offer();
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
        let set = set("k", "v");
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
        let mut new = old
            .recover(ClusterId(8), info(2), None, &logger())
            .expect("a server");
        let _ = new.output().expect("no broken invariant");
        assert_eq!(new.cluster_id(), ClusterId(8));
        assert_eq!(new.leader(), Some(new.raft_id()));
        assert_eq!(new.voters(), [new.raft_id()]);
        assert!(new.term() > old.term());
        // The new leader's first entry follows the kept entries.
        assert_eq!((new.last_index(), new.commit_index()), (7, 7));
        let state = new.storage().state_machine();
        assert_eq!(state.get(b"k").map(AsRef::as_ref), Some(&b"v"[..]));
        let members: Vec<_> = state.members().ids().collect();
        assert_eq!(members, [node(1), node(2)]);
        assert_eq!(state.recovered_from()[..], [ClusterId(7)]);
    }

    fn set(key: &str, value: &str) -> Command {
        Command::from(Write::Set {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
        })
    }

    /// A server whose state machine has `keys` keys, all applied.
    fn with_keys(keys: u64) -> RaftNode<u8> {
        let mut raft = survivor(Vec::new());
        for key in 0..keys {
            let index = raft.last_index() + 1;
            let command = set(&key.to_string(), "old");
            let storage = raft.raw.mut_store();
            storage
                .append(vec![entry(index, Some(command.clone()))])
                .expect("no gap");
            storage
                .apply(index, 1, Some(command), &mut Changes::ignored())
                .expect("in order");
        }
        raft
    }

    /// The tail touches every part of the map, and no part is copied for it: nothing else shares it.
    #[test]
    fn nothing_is_copied_and_the_log_is_freed() {
        let keys = 20_000;
        let mut old = with_keys(keys);
        let first = old.last_index() + 1;
        let tail = (0..keys).map(|key| entry(first + key, Some(set(&key.to_string(), "new"))));
        let tail: Vec<_> = tail.collect();
        let payloads: Vec<_> = tail.iter().map(|entry| entry.data.clone()).collect();
        old.raw.mut_store().append(tail).expect("no gap");
        let before = old.storage().state_machine().places();
        let new = old
            .recover(ClusterId(8), info(2), None, &logger())
            .expect("a server");
        let state = new.storage().state_machine();
        assert_eq!(state.len(), usize::try_from(keys).expect("few"));
        assert!(state.pairs().all(|pair| pair.value() == b"new"));
        let copied = state
            .places()
            .iter()
            .zip(&before)
            .filter(|(new, old)| new != old)
            .count();
        assert_eq!(copied, 0, "of {} parts", before.len());
        // The old server still exists, but its log does not.
        assert!(payloads.iter().all(bytes::Bytes::is_unique));
        drop(old);
    }

    /// A survivor of a cluster that has revisions, and knows its log up to `committed` to be committed.
    fn survivor_with_revisions(committed: u64, tail: Vec<Entry>) -> RaftNode<u8> {
        let level = crate::types::ProtocolLevel::SECOND;
        let time = Some(WallTime::FIRST);
        let raft_id = RaftId::new(node(2), 1);
        let offer = Offer {
            level,
            time,
            ..offer()
        };
        let options = RaftOptions {
            level,
            ..RaftOptions::default()
        };
        let mut raft = RaftNode::start(raft_id, &offer, options, 42, &logger()).expect("a server");
        let storage = raft.raw.mut_store();
        storage.append(tail).expect("no gap");
        storage.set_commit(committed);
        raft
    }

    /// Binds `key` to `value` if the write `revision` has bound it.
    fn swap(key: &str, revision: Revision, value: &str) -> Command {
        let key = Bytes::from(key.to_owned());
        Command::from(Write::Txn(Box::new(Txn {
            conditions: vec![Condition::Key {
                key: key.clone(),
                test: KeyTest::Revision(revision),
            }],
            success: vec![Operation::Set {
                key,
                value: value.to_owned().into(),
                lifetime: SetLifetime::default(),
            }],
            failure: Vec::new(),
        })))
    }

    /// The entry that `key` is bound to after a recovery at `now`, and its revision after the formation.
    fn recovered(mut old: RaftNode<u8>, now: Option<WallTime>, key: &str) -> (String, Revision) {
        let new = old
            .recover(ClusterId(8), info(2), now, &logger())
            .expect("a server");
        let entry = new.storage().state_machine().entry(key.as_bytes());
        let entry = entry.expect("it is bound");
        let value = String::from_utf8_lossy(&entry.value).into_owned();
        (value, entry.revision - WallTime::FIRST.micros())
    }

    /// A new leader sends the entries of a former one, and transactions that name them, before it knows that
    /// any is committed: so the survivor may not know either, although all were acknowledged.
    #[test]
    fn transactions_behind_the_commit_index_are_decided_as_before() {
        let base = WallTime::FIRST.micros();
        let log = vec![
            entry(2, Some(set("k", "1"))),
            entry(3, Some(swap("k", base + 2, "2"))),
            entry(4, Some(swap("k", base + 3, "3"))),
            entry(5, Some(swap("k", base + 3, "no"))),
        ];
        let old = survivor_with_revisions(2, log);
        let now = WallTime::new(base + 2_000_000);
        assert_eq!(recovered(old, now, "k"), ("3".to_owned(), 2_000_001));
    }

    fn later(micros: u64) -> Option<WallTime> {
        WallTime::new(WallTime::FIRST.micros() + micros)
    }

    #[test]
    fn revisions_are_kept_up_to_the_commit_index_and_go_on_at_the_time() {
        let log = || vec![entry(2, Some(set("a", "1"))), entry(3, Some(set("b", "1")))];
        let kept = |key| recovered(survivor_with_revisions(2, log()), later(2_000_000), key).1;
        assert_eq!((kept("a"), kept("b")), (2, 2_000_000));
        // A clock that is behind, or wrong, is not used.
        for clock in [later(2), None] {
            let (_, revision) = recovered(survivor_with_revisions(2, log()), clock, "b");
            assert_eq!(revision, 2 + (1 << 28), "{clock:?}");
        }
        let all = recovered(survivor_with_revisions(3, log()), later(2_000_000), "b");
        assert_eq!(all.1, 3, "it is committed");
    }

    #[test]
    fn a_level_that_was_raised_behind_the_commit_index_begins_revisions_anew() {
        let base = WallTime::FIRST.micros();
        let raise = Command::RaiseLevel {
            level: crate::types::ProtocolLevel::SECOND,
            revision: base + 100,
        };
        let log = || {
            vec![
                entry(2, Some(set("a", "1"))),
                entry(3, Some(raise.clone())),
                entry(4, Some(swap("a", base + 100, "2"))),
                entry(5, Some(swap("a", base + 101, "3"))),
            ]
        };
        for (clock, first) in [(later(2_000_000), 2_000_000), (None, 100 + (1 << 28))] {
            let mut old = survivor(log());
            old.options.level = crate::types::ProtocolLevel::SECOND;
            assert_eq!(recovered(old, clock, "a"), ("3".to_owned(), first + 2));
        }
        let mut old = survivor(log());
        old.raw.mut_store().set_commit(3);
        assert_eq!(
            recovered(old, later(2_000_000), "a"),
            ("3".to_owned(), 2_000_001),
            "the raise is committed, and keeps its revision"
        );
    }

    #[test]
    fn a_survivor_whose_own_removal_was_applied_is_a_member_again() {
        let mut old = survivor(Vec::new());
        let storage = old.raw.mut_store();
        let removal = Command::RemoveMember(node(2));
        storage
            .append(vec![entry(2, Some(removal.clone()))])
            .expect("no gap");
        storage
            .apply(2, 1, Some(removal), &mut Changes::ignored())
            .expect("in order");
        let mut new = old
            .recover(ClusterId(8), info(2), None, &logger())
            .expect("a server");
        let _ = new.output().expect("no broken invariant");
        let members: Vec<_> = new.conf().members.clone();
        assert_eq!(members, [1, 2, 3].map(node));
        assert_eq!(
            new.storage().state_machine().members().get(node(2)),
            Some(&info(2))
        );
        assert!(new.is_member(), "so it lets the others in");
        assert_eq!(new.leader(), Some(new.raft_id()));
    }

    #[test]
    fn a_log_that_cannot_be_applied_leaves_the_old_server_as_it_was() {
        let mut damaged = entry(2, None);
        damaged.data = vec![0xff].into();
        damaged.index = 3;
        let mut old = survivor(vec![entry(2, Some(set("k", "v"))), damaged]);
        assert!(matches!(
            old.recover(ClusterId(8), info(2), None, &logger()),
            Err(NodeError::Apply { index: 3, .. })
        ));
        assert_eq!(old.cluster_id(), ClusterId(7));
        assert_eq!(old.last_index(), 3);
        assert_eq!(old.storage().log_entries(), 2);
        assert_eq!(
            old.storage().applied(),
            1,
            "not even the first entry was applied"
        );
        assert_eq!(old.voters().len(), 3);
    }
}
