//! The state that the commands in the log have produced.

use std::sync::Arc;

use super::map::{Map, Shards};
use super::txn::{MAX_TXN_ANSWER_BYTES, Operation, Txn, TxnOutcome};
use super::{
    Changes, Clock, Command, Effect, Entry, Found, Lifetimes, Limit, Locks, Pair, Part, Query,
    Revisions, Scan, Session, Sessions, SetLifetime, Stamp, Verdict, Write, Written,
};
use crate::types::{
    ClientId, ClusterId, ClusterMembership, Key, LogIndex, Millis, ProtocolLevel, Revision, Value,
    WallTime,
};

/// Maximum number of earlier clusters that a state remembers.
pub const MAX_RECOVERED_FROM: usize = 16;

/// A map of bytes to bytes, the lifetimes of its keys, the sessions of clients, the locks, the clock, the
/// desired members of the cluster, the protocol level of the cluster, and the clusters from which it was recovered.
///
/// A clone costs some tens of microseconds, whatever the size of the state, and shares everything that
/// neither copy changes. A snapshot is made from a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateMachine {
    pub(super) map: Map,
    pub(super) lifetimes: Lifetimes,
    pub(super) sessions: Sessions,
    pub(super) locks: Locks,
    pub(super) clock: Clock,
    members: Arc<ClusterMembership>,
    recovered_from: Arc<[ClusterId]>,
    level: ProtocolLevel,
    revisions: Revisions,
}

impl StateMachine {
    /// The state of a cluster that begins with `members` and no keys.
    pub fn new(members: ClusterMembership) -> Self {
        Self {
            members: Arc::new(members),
            ..Self::default()
        }
    }

    /// The same state with other members.
    #[must_use]
    pub fn with_members(self, members: ClusterMembership) -> Self {
        Self {
            members: Arc::new(members),
            ..self
        }
    }

    /// The same state with another protocol level.
    #[must_use]
    pub fn with_level(self, level: ProtocolLevel) -> Self {
        Self { level, ..self }
    }

    /// The same state in a cluster whose revisions begin at `time`.
    #[must_use]
    pub fn with_revisions_from(self, time: Option<WallTime>) -> Self {
        self.with_revisions(Revisions {
            base: time.map_or(0, WallTime::micros),
            oldest: 0,
        })
    }

    /// The same state at another time of the clock. Only for a state without deadlines.
    #[must_use]
    pub fn with_clock(self, now: Millis) -> Self {
        let clock = Clock::at(now);
        Self { clock, ..self }
    }

    /// The same state with other revisions.
    #[must_use]
    pub fn with_revisions(self, revisions: Revisions) -> Self {
        Self { revisions, ..self }
    }

    /// Applies the command at `index`. A write of a session that was applied before is not applied again:
    /// the result is its first effect, and the revision of that.
    pub fn apply(&mut self, index: LogIndex, command: Command) -> Written {
        self.apply_noting(index, command, &mut Changes::ignored())
    }

    /// [`apply`](Self::apply), which adds the changes of keys to `changes`.
    pub fn apply_noting(
        &mut self,
        index: LogIndex,
        command: Command,
        changes: &mut Changes,
    ) -> Written {
        let effect = match command {
            Command::Write { write, stamp: None } => self.write(index, write, None, changes),
            Command::Write {
                write,
                stamp: Some(stamp),
            } => return self.write_once(index, write, &stamp, changes),
            Command::OpenSession(client_id) => self.open_session(client_id, index),
            Command::OpenLivingSession { client_id, ttl } => {
                self.open_living(client_id, ttl, index)
            }
            Command::CloseSession(client_id) => self.close_session(index, client_id, changes),
            Command::Clock { step, renewed } => {
                self.advance_clock(index, (step, &renewed), changes)
            }
            Command::AddMember(info) => {
                let members = Arc::make_mut(&mut self.members);
                members.members.insert(info.id, info);
                Effect::MembersDecided
            }
            Command::RemoveMember(id) => {
                let members = Arc::make_mut(&mut self.members);
                if members.members.len() > 1 {
                    members.members.remove(&id);
                }
                Effect::MembersDecided
            }
            Command::RaiseLevel { level, revision } => {
                self.level = self.level.max(level);
                self.revisions.begin(index, revision);
                Effect::LevelRaised
            }
        };
        self.written(index, effect)
    }

    pub(super) fn written(&self, index: LogIndex, effect: Effect) -> Written {
        let revision = self.revisions.at(index);
        Written { effect, revision }
    }

    fn write(
        &mut self,
        index: LogIndex,
        write: Write,
        stamp: Option<&Stamp>,
        changes: &mut Changes,
    ) -> Effect {
        match write {
            Write::Set { key, value } => {
                self.bind(index, (&key, &value), SetLifetime::default(), changes);
                Effect::Set
            }
            Write::Delete { key } => Effect::Deleted {
                existed: self.unbind(index, &key, changes),
            },
            Write::Txn(txn) => self.carry_out(index, &txn, stamp, changes),
            Write::Acquire(acquire) => self.acquire(index, &acquire, stamp, changes),
            // A release has a number: see `write_once`.
            Write::Release(_) => Effect::SessionDoesNotLive,
        }
    }

    fn carry_out(
        &mut self,
        index: LogIndex,
        txn: &Txn,
        stamp: Option<&Stamp>,
        changes: &mut Changes,
    ) -> Effect {
        let outcome = self.outcome(txn, self.revisions.at(index));
        let branch = txn.branch(outcome.succeeded);
        let fits = match stamp {
            Some(stamp) => self
                .sessions
                .fits(stamp.client_id, self.clock.now(), &outcome),
            None if outcome.bytes() > MAX_TXN_ANSWER_BYTES => Err(Effect::AnswerTooLarge {
                limit: MAX_TXN_ANSWER_BYTES,
            }),
            None => Ok(()),
        };
        if let Err(effect) = fits.and_then(|()| self.owners_allow(branch)) {
            return effect;
        }
        for operation in branch {
            match operation {
                Operation::Set {
                    key,
                    value,
                    lifetime,
                } => self.bind(index, (key, value), *lifetime, changes),
                Operation::Get(_) => {}
                Operation::Delete(key) => {
                    self.unbind(index, key, changes);
                }
            }
        }
        Effect::Txn(Arc::new(outcome))
    }

    pub(super) fn outcome(&self, txn: &Txn, revision: Revision) -> TxnOutcome {
        txn.outcome(revision, |key| self.entry(key), |name| self.token(name))
    }

    fn open_session(&mut self, client_id: ClientId, index: LogIndex) -> Effect {
        if let Some(open) = self.opens_living_again(client_id) {
            return open;
        }
        self.sessions.open(client_id, index);
        Effect::SessionOpened { ttl: None }
    }

    /// The answer to `query`, when the command at `applied` has been applied.
    pub fn find(&self, query: &Query, applied: LogIndex) -> Found {
        match query {
            Query::Get(key) => Found::Value(self.get_with_revision(key)),
            Query::Gets(keys) => {
                let found = keys.iter().map(|key| self.get_with_revision(key));
                Found::Values(found.collect())
            }
            Query::Txn(txn) => {
                let revision = self.revisions.at(applied);
                Found::Txn(self.outcome(txn, revision))
            }
            Query::Scan { scan, keeps } => {
                let mut scan = Scan::clone(scan);
                let part = self.scan(&mut scan);
                let keeps = *keeps && !part.is_last(&scan);
                let state = keeps.then(|| Box::new(self.clone()));
                Found::Part(Box::new((part, scan)), state)
            }
            Query::Sessions { after, limit } => {
                let (sessions, more) = self.session_page(*after, *limit);
                Found::Sessions(sessions, more)
            }
            Query::Claim { name, id } => Found::Claim(self.claim_state(name, *id)),
            Query::Lock(name) => Found::Lock(Box::new(self.lock_state(name))),
            Query::Locks {
                after,
                limit,
                bytes,
            } => Found::Locks(self.lock_page(after.as_ref(), *limit, *bytes)),
        }
    }

    fn write_once(
        &mut self,
        index: LogIndex,
        write: Write,
        stamp: &Stamp,
        changes: &mut Changes,
    ) -> Written {
        if let Write::Release(name) = &write {
            return self.release(index, name, stamp, changes);
        }
        let verdict = self.verdict(stamp);
        self.sessions.acknowledge(stamp, index);
        match verdict {
            Verdict::Applied(written) => self.again(index, &write, stamp, written),
            Verdict::Expired => self.written(index, Effect::SessionExpired),
            Verdict::New if !self.sessions.has_room(stamp.client_id) => {
                self.written(index, Effect::AnswersFull)
            }
            Verdict::New => {
                let effect = self.write(index, write, Some(stamp), changes);
                let written = self.written(index, effect);
                if written.effect != Effect::AnswersFull {
                    self.sessions.remember(stamp, index, written.clone());
                }
                written
            }
        }
    }

    /// Binds a key from a snapshot, with its stored revision. Its owner must have been restored.
    pub fn restore(&mut self, key: &[u8], value: &[u8], revision: Revision, limit: Option<Limit>) {
        self.map.set(key, value, revision, limit.is_some());
        if let Some(limit) = limit {
            self.begin_lifetime(key, limit);
        }
    }

    /// How revisions follow from log indices.
    pub fn revisions(&self) -> Revisions {
        self.revisions
    }

    /// Skips the revisions that a lost part of the cluster may have given to entries after `last`: see
    /// [`Revisions`].
    pub fn skip_revisions(&mut self, last: LogIndex, now: Option<WallTime>) {
        self.revisions.skip(last, now);
    }

    /// The bytes of the value that `key` is bound to.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.map.pair(key).map(Pair::value)
    }

    /// The pair of `key`, and the revision of the write that has bound it.
    pub fn get_with_revision(&self, key: &[u8]) -> Option<(Pair, Revision)> {
        let pair = self.map.pair(key)?;
        Some((pair.clone(), self.revisions.of_key(pair.revision())))
    }

    /// The entry of `key`, if it is bound.
    pub fn entry(&self, key: &[u8]) -> Option<Entry> {
        let pair = self.map.pair(key)?;
        Some(Entry {
            key: Key::copy_from_slice(pair.key()),
            value: pair.clone().into_value(),
            revision: self.revisions.of_key(pair.revision()),
            lifetime: self.lifetime(pair),
        })
    }

    /// Reads the next part of `scan`, which goes on behind it.
    pub fn scan(&self, scan: &mut Scan) -> Part {
        let range = scan.range.clone();
        let pairs = self.map.range(&range);
        let entries = pairs.map(|pair| (pair, self.revisions.of_key(pair.revision())));
        scan.take(entries, |pair| self.lifetime(pair))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Memory of keys, values, lifetimes, sessions and claims in bytes. An estimate, rather too high than too low. Equal
    /// states give the same number on every node.
    pub fn memory(&self) -> usize {
        self.map
            .memory()
            .saturating_add(self.lifetimes.memory())
            .saturating_add(self.sessions.memory())
            .saturating_add(self.locks.memory())
    }

    /// The desired members of the cluster. The voters and learners of the Raft group follow: see
    /// [`Replica`](crate::node::Replica).
    pub fn members(&self) -> &Arc<ClusterMembership> {
        &self.members
    }

    /// The clusters from which this one was recovered, the last first: at most
    /// [`MAX_RECOVERED_FROM`].
    pub fn recovered_from(&self) -> &Arc<[ClusterId]> {
        &self.recovered_from
    }

    /// Records that this is from now on the state of a cluster that was recovered from `cluster_id`.
    pub fn recover_from(&mut self, cluster_id: ClusterId) {
        let earlier = self.recovered_from.iter().copied();
        let all = std::iter::once(cluster_id).chain(earlier);
        self.recovered_from = all.take(MAX_RECOVERED_FROM).collect();
    }

    /// Restores the earlier clusters from a snapshot.
    pub fn restore_recovered_from(&mut self, clusters: impl IntoIterator<Item = ClusterId>) {
        self.recovered_from = clusters.into_iter().take(MAX_RECOVERED_FROM).collect();
    }

    /// The protocol level of the cluster.
    pub fn level(&self) -> ProtocolLevel {
        self.level
    }

    /// The sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Restores a session from a snapshot, one that does not live.
    pub fn restore_session(&mut self, client_id: ClientId, session: Session) {
        self.sessions.insert(client_id, session);
    }

    /// Every pair, in no particular order.
    pub fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.map.iter()
    }

    /// The address of each part of the map in memory. A copied part has another address.
    #[cfg(test)]
    pub(crate) fn places(&self) -> Vec<*const ()> {
        self.map.places()
    }

    /// The pairs in the order of a snapshot.
    pub fn into_shards(self) -> Shards {
        self.map.into_shards()
    }

    /// Every pair in ascending order of its key, for tests and tools. It sorts: O(n log n), and a vector
    /// of n pairs.
    pub fn sorted_pairs(&self) -> Vec<(Key, Value)> {
        let pairs = self.map.iter();
        let pairs = pairs.map(|it| (Key::copy_from_slice(it.key()), it.clone().into_value()));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        pairs
    }
}

/// A state without members. The last value of a repeated key counts.
impl FromIterator<(Key, Value)> for StateMachine {
    fn from_iter<I: IntoIterator<Item = (Key, Value)>>(pairs: I) -> Self {
        let mut state_machine = Self::default();
        for (key, value) in pairs {
            state_machine.restore(&key, &value, 0, None);
        }
        state_machine
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::kv::{
        Condition, KeyTest, Lifetime, MAX_REMEMBERED_BYTES, OperationResult, pair_memory,
    };
    use crate::types::{NodeId, NodeInfo};

    /// Applies a command at index 1.
    fn apply(kv: &mut StateMachine, command: impl Into<Command>) -> Effect {
        kv.apply(1, command.into()).effect
    }

    fn set(key: &'static str, value: &'static str) -> Write {
        Write::Set {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    fn delete(key: &'static str) -> Write {
        Write::Delete {
            key: Bytes::from_static(key.as_bytes()),
        }
    }

    #[test]
    fn set_binds_and_binds_again() {
        let mut kv = StateMachine::default();
        assert!(kv.is_empty());
        assert_eq!(apply(&mut kv, set("k", "1")), Effect::Set);
        assert_eq!(apply(&mut kv, set("k", "2")), Effect::Set);
        assert_eq!(kv.get(b"k"), Some(&b"2"[..]));
        assert_eq!(kv.len(), 1);
        assert!(!kv.is_empty());
    }

    #[test]
    fn only_what_is_new_takes_more_memory() {
        let mut kv = StateMachine::default();
        apply(&mut kv, set("k", "1"));
        let growth = |kv: &StateMachine, write: Write| kv.growth(&write.into());
        assert_eq!(growth(&kv, set("k", "")), 0);
        assert_eq!(growth(&kv, set("k", "123")), 2);
        assert_eq!(growth(&kv, set("j", "123")), pair_memory(1, 3));
        assert_eq!(growth(&kv, delete("k")), 0);
        let other = [
            Command::OpenSession(ClientId(7)),
            Command::RemoveMember(NodeId::new(1).unwrap()),
            Command::RaiseLevel {
                level: ProtocolLevel::FIRST,
                revision: 0,
            },
        ];
        assert!(other.iter().all(|command| kv.growth(command) == 0));

        apply(&mut kv, Command::OpenSession(ClientId(7)));
        let retried = Command::Write {
            write: set("large", "value"),
            stamp: Some(Stamp {
                client_id: ClientId(7),
                sequence: 1,
                first_outstanding: 1,
            }),
        };
        assert_eq!(kv.growth(&retried), pair_memory(5, 5));
        apply(&mut kv, retried.clone());
        apply(&mut kv, delete("large"));
        assert_eq!(kv.growth(&retried), 0, "it is not applied again");
    }

    fn set_operation(key: &str, value: &str) -> Operation {
        Operation::Set {
            key: Bytes::from(key.to_owned()),
            value: Bytes::from(value.to_owned()),
            lifetime: SetLifetime::default(),
        }
    }

    fn txn(success: Vec<Operation>, failure: Vec<Operation>) -> Txn {
        Txn {
            conditions: Vec::new(),
            success,
            failure,
        }
    }

    fn command(txn: Txn) -> Command {
        Write::Txn(Box::new(txn)).into()
    }

    #[test]
    fn a_transaction_may_grow_by_its_larger_branch() {
        let mut kv = StateMachine::default();
        apply(&mut kv, set("k", "123"));
        let growth = |success, failure| kv.growth(&command(txn(success, failure)));
        let delete = || Operation::Delete(Bytes::from("k"));
        let get = || Operation::Get(Bytes::from("k"));
        let (little, much) = (pair_memory(1, 1), pair_memory(1, 1) + pair_memory(1, 2));
        let one = || vec![set_operation("a", "1")];
        let two = || vec![set_operation("a", "1"), delete(), set_operation("b", "22")];
        assert_eq!(growth(one(), two()), much);
        assert_eq!(growth(two(), one()), much);
        assert_eq!(growth(one(), vec![]), little);
        assert_eq!(growth(vec![delete()], vec![get()]), 0, "that makes room");
        assert_eq!(growth(vec![set_operation("k", "12345")], vec![]), 2);
        assert_eq!(growth(vec![set_operation("k", "")], vec![]), 0);
    }

    #[test]
    fn a_command_belongs_to_the_session_that_it_names() {
        let client_id = ClientId(7);
        let stamp = Stamp {
            client_id,
            sequence: 1,
            first_outstanding: 1,
        };
        let write = |stamp| Command::Write {
            write: delete("k"),
            stamp,
        };
        assert_eq!(write(Some(stamp)).client_id(), Some(client_id));
        assert_eq!(write(None).client_id(), None);
        let (ttl, step, renewed) = (2_000, 1, vec![client_id]);
        for command in [
            Command::OpenSession(client_id),
            Command::OpenLivingSession { client_id, ttl },
            Command::CloseSession(client_id),
        ] {
            assert_eq!(command.client_id(), Some(client_id));
        }
        assert_eq!(Command::Clock { step, renewed }.client_id(), None);
        let leaves = Command::RemoveMember(NodeId::new(1).unwrap());
        assert_eq!(leaves.client_id(), None);
    }

    #[test]
    fn an_empty_value_is_not_a_missing_one() {
        let mut kv = StateMachine::default();
        apply(&mut kv, set("k", ""));
        assert_eq!(kv.get(b"k"), Some(&b""[..]));
        assert_eq!(kv.get(b"other"), None);
    }

    #[test]
    fn delete_says_whether_the_key_existed() {
        let mut kv = StateMachine::default();
        apply(&mut kv, set("k", "1"));
        assert_eq!(
            apply(&mut kv, delete("k")),
            Effect::Deleted { existed: true }
        );
        assert_eq!(
            apply(&mut kv, delete("k")),
            Effect::Deleted { existed: false }
        );
        assert_eq!(kv.get(b"k"), None);
    }

    #[test]
    fn keys_and_values_are_bytes_not_text() {
        let mut kv = StateMachine::default();
        let key = Bytes::from_static(&[0, 0xff, 0]);
        let value = Bytes::from_static(&[0xfe, 0]);
        apply(
            &mut kv,
            Write::Set {
                key: key.clone(),
                value: value.clone(),
            },
        );
        assert_eq!(kv.get(&key), Some(&value[..]));
        assert_eq!(kv.get(&[0, 0xff]), None);
    }

    #[test]
    fn pairs_come_in_the_order_of_their_keys() {
        let kv: StateMachine = ["b", "", "a", "aa"]
            .map(|key| (Bytes::from_static(key.as_bytes()), Bytes::new()))
            .into_iter()
            .collect();
        let keys: Vec<_> = kv.sorted_pairs().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [&b""[..], b"a", b"aa", b"b"]);
    }

    #[test]
    fn a_numbered_write_is_applied_once() {
        let mut kv = StateMachine::default();
        let stamp = Stamp {
            client_id: ClientId(7),
            sequence: 1,
            first_outstanding: 1,
        };
        let numbered = |write| Command::Write {
            write,
            stamp: Some(stamp),
        };
        let expired = kv.apply(2, numbered(set("k", "1")));
        assert_eq!(expired.effect, Effect::SessionExpired);
        assert!(kv.is_empty());
        kv.apply(3, Command::OpenSession(ClientId(7)));
        let first = kv.apply(4, numbered(set("k", "1")));
        kv.apply(5, set("k", "2").into());
        assert_eq!(kv.apply(6, numbered(set("k", "1"))), first);
        assert_eq!((first.effect, first.revision), (Effect::Set, 4));
        assert_eq!(kv.get(b"k"), Some(&b"2"[..]));
    }

    const BASE: u64 = WallTime::FIRST.micros();

    /// A state with revisions, and with session 7.
    fn with_revisions() -> StateMachine {
        let mut kv = StateMachine::default()
            .with_level(ProtocolLevel::SECOND)
            .with_revisions_from(Some(WallTime::FIRST));
        kv.apply(2, Command::OpenSession(ClientId(7)));
        kv
    }

    /// Number `sequence` of session 7.
    fn stamped(txn: Txn, sequence: u64) -> Command {
        Command::Write {
            write: Write::Txn(Box::new(txn)),
            stamp: Some(Stamp {
                client_id: ClientId(7),
                sequence,
                first_outstanding: 1,
            }),
        }
    }

    fn succeeded(written: &Written) -> bool {
        matches!(&written.effect, Effect::Txn(outcome) if outcome.succeeded)
    }

    #[test]
    fn all_keys_of_a_transaction_have_its_revision() {
        let mut kv = with_revisions();
        let both = || vec![set_operation("a", "1"), set_operation("b", "2")];
        let written = kv.apply(3, command(txn(both(), vec![])));
        assert_eq!(written.revision, BASE + 3);
        for (key, value) in [("a", "1"), ("b", "2")] {
            let (pair, revision) = kv.get_with_revision(key.as_bytes()).unwrap();
            assert_eq!((pair.value(), revision), (value.as_bytes(), BASE + 3));
        }
        let delete = Operation::Delete(Bytes::from("a"));
        kv.apply(4, command(txn(vec![delete], vec![])));
        assert_eq!(kv.entry(b"a"), None);
        assert_eq!(kv.entry(b"b").map(|entry| entry.revision), Some(BASE + 3));
    }

    /// The answer to the first attempt was lost, and the key has another value by now.
    #[test]
    fn a_compare_and_set_that_is_retried_says_again_that_it_has_succeeded() {
        let mut kv = with_revisions();
        kv.apply(3, set("k", "1").into());
        let swap = Txn {
            conditions: vec![Condition::Key {
                key: Bytes::from("k"),
                test: KeyTest::Revision(BASE + 3),
            }],
            ..txn(vec![set_operation("k", "2")], vec![])
        };
        let first = kv.apply(4, stamped(swap.clone(), 1));
        assert!(succeeded(&first));
        kv.apply(5, set("k", "3").into());
        assert_eq!(kv.apply(6, stamped(swap.clone(), 1)), first);
        assert_eq!(kv.get(b"k"), Some(&b"3"[..]));
        assert!(
            !succeeded(&kv.apply(7, command(swap))),
            "without its number"
        );
    }

    /// A state that binds `k` so that an answer which reads it has `bytes`.
    fn with_answer_of(bytes: usize) -> (StateMachine, Txn) {
        let mut kv = with_revisions();
        let value = Bytes::from(vec![0; bytes - 1]);
        let key = Bytes::from("k");
        kv.apply(
            3,
            Write::Set {
                key: key.clone(),
                value,
            }
            .into(),
        );
        let success = vec![set_operation("other", ""), Operation::Get(key)];
        (kv, txn(success, vec![]))
    }

    #[test]
    fn an_answer_that_is_too_large_changes_nothing() {
        let (mut kv, largest) = with_answer_of(MAX_TXN_ANSWER_BYTES);
        assert!(succeeded(&kv.apply(4, command(largest))));
        let (mut kv, larger) = with_answer_of(MAX_TXN_ANSWER_BYTES + 1);
        let effect = kv.apply(4, command(larger)).effect;
        let limit = MAX_TXN_ANSWER_BYTES;
        assert_eq!(effect, Effect::AnswerTooLarge { limit });
        assert_eq!(kv.get(b"other"), None);
    }

    #[test]
    fn a_session_remembers_an_answer_of_64_kib_and_no_larger_one() {
        let (mut kv, largest) = with_answer_of(MAX_REMEMBERED_BYTES);
        assert!(succeeded(&kv.apply(4, stamped(largest, 1))));
        let (mut kv, larger) = with_answer_of(MAX_REMEMBERED_BYTES + 1);
        let refused = kv.apply(4, stamped(larger.clone(), 1));
        let limit = MAX_REMEMBERED_BYTES;
        assert_eq!(refused.effect, Effect::AnswerTooLarge { limit });
        assert_eq!(kv.get(b"other"), None);
        // A retry is not carried out either, although it might be now.
        kv.apply(5, set("k", "").into());
        assert_eq!(kv.apply(6, stamped(larger.clone(), 1)), refused);
        assert_eq!(kv.get(b"other"), None);
        assert!(succeeded(&kv.apply(7, stamped(larger, 2))));
    }

    #[test]
    fn a_query_sees_the_state_and_its_revision() {
        let mut kv = with_revisions();
        kv.apply(3, set("k", "1").into());
        let key = Bytes::from("k");
        let found = kv.find(&Query::Get(key.clone()), 3);
        let pair = Pair::new(b"k", b"1", BASE + 3, false);
        assert_eq!(found, Found::Value(Some((pair.clone(), BASE + 3))));
        let found = kv.find(&Query::Gets(vec!["missing".into(), key.clone()]), 3);
        assert_eq!(found, Found::Values(vec![None, Some((pair, BASE + 3))]));
        let read = txn(vec![Operation::Get(key.clone())], vec![]);
        let outcome = TxnOutcome {
            succeeded: true,
            results: vec![OperationResult::Got(kv.entry(b"k"))],
        };
        let found = kv.find(&Query::Txn(Box::new(read)), 3);
        assert_eq!(found, Found::Txn(outcome));
        assert_eq!(kv.entry(b"k").map(|entry| entry.key), Some(key));
    }

    /// Members that have restored a snapshot of the first level do not know when a key was bound.
    #[test]
    fn keys_of_the_first_level_have_the_revision_of_the_raise() {
        let mut kv = StateMachine::default();
        assert_eq!(kv.apply(2, set("old", "1").into()).revision, 2);
        assert_eq!(kv.entry(b"old").map(|entry| entry.revision), Some(0));
        let raise = |revision| Command::RaiseLevel {
            level: ProtocolLevel::SECOND,
            revision,
        };
        assert_eq!(kv.apply(3, raise(BASE)).revision, BASE);
        kv.apply(4, set("new", "1").into());
        assert_eq!(kv.entry(b"old").map(|entry| entry.revision), Some(BASE));
        assert_eq!(kv.entry(b"new").map(|entry| entry.revision), Some(BASE + 1));
        let again = kv.apply(5, raise(2 * BASE));
        assert_eq!(again.revision, BASE + 2, "they begin once");
    }

    fn info(id: u16, addr: &str) -> NodeInfo {
        NodeInfo {
            id: NodeId::new(id).expect("a node id"),
            addr: addr.to_owned(),
            client_addr: format!("{addr}:client"),
        }
    }

    #[test]
    fn members_come_move_and_go_but_never_the_last() {
        let one = info(1, "one");
        let mut kv = StateMachine::new([one.clone()].into_iter().collect());
        let members = |kv: &StateMachine| kv.members().iter().cloned().collect::<Vec<_>>();
        apply(&mut kv, Command::AddMember(info(2, "two")));
        apply(&mut kv, Command::AddMember(info(2, "elsewhere")));
        assert_eq!(members(&kv), [one.clone(), info(2, "elsewhere")]);
        apply(&mut kv, Command::RemoveMember(one.id));
        apply(&mut kv, Command::RemoveMember(one.id));
        assert_eq!(members(&kv), [info(2, "elsewhere")]);
        apply(&mut kv, Command::RemoveMember(info(2, "").id));
        assert_eq!(members(&kv), [info(2, "elsewhere")]);
    }

    #[test]
    fn a_state_knows_the_clusters_that_it_came_from_the_last_first() {
        let mut kv = StateMachine::default();
        let ids =
            |numbers: &mut dyn Iterator<Item = u64>| numbers.map(ClusterId).collect::<Vec<_>>();
        kv.recover_from(ClusterId(1));
        kv.recover_from(ClusterId(2));
        assert_eq!(kv.recovered_from()[..], ids(&mut [2, 1].into_iter()));
        for id in 3..=20 {
            kv.recover_from(ClusterId(id));
        }
        assert_eq!(kv.recovered_from()[..], ids(&mut (5..=20).rev()));
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let key = || "[a-e]".prop_map(Bytes::from);
        let value = "[x-z]{0,3}".prop_map(Bytes::from);
        prop_oneof![
            (key(), value).prop_map(|(key, value)| Operation::Set {
                key,
                value,
                lifetime: SetLifetime::default(),
            }),
            key().prop_map(Operation::Get),
            key().prop_map(Operation::Delete),
        ]
    }

    /// Operations of which none writes a key that an earlier one has written.
    fn branch() -> impl Strategy<Value = Vec<Operation>> {
        let branch = prop::collection::vec(operation(), 0..5);
        branch.prop_map(|mut operations| {
            let mut written = std::collections::BTreeSet::new();
            operations.retain(|it| !it.writes() || written.insert(it.key().clone()));
            operations
        })
    }

    /// Commands are at the indices from 1 on, so some conditions name the revisions of earlier ones.
    fn txns() -> impl Strategy<Value = Txn> {
        let test = prop_oneof![
            any::<bool>().prop_map(KeyTest::Exists),
            (0u64..100).prop_map(|index| KeyTest::Revision(BASE + index)),
            Just(KeyTest::Revision(0)),
            "[x-z]?".prop_map(|value| KeyTest::Value(value.into())),
        ];
        let condition = ("[a-e]", test).prop_map(|(key, test)| Condition::Key {
            key: key.into(),
            test,
        });
        let held = Just(Condition::Held {
            name: "a".into(),
            token: BASE,
        });
        let condition = prop_oneof![20 => condition, 1 => held];
        let conditions = prop::collection::vec(condition, 0..3);
        (conditions, branch(), branch()).prop_map(|(conditions, success, failure)| Txn {
            conditions,
            success,
            failure,
        })
    }

    fn commands() -> impl Strategy<Value = Vec<Write>> {
        let key = "[a-e]{1,2}".prop_map(Bytes::from);
        let value = "[x-z]{0,3}".prop_map(Bytes::from);
        let command = prop_oneof![
            2 => (key.clone(), value).prop_map(|(key, value)| Write::Set { key, value }),
            1 => key.prop_map(|key| Write::Delete { key }),
            2 => txns().prop_map(|txn| Write::Txn(Box::new(txn))),
            1 => Just(Write::Release("a".into())),
        ];
        prop::collection::vec(command, 0..200)
    }

    type Model = std::collections::BTreeMap<Key, Entry>;

    /// The effect of `write`, which changes the model.
    fn carry_out(model: &mut Model, write: Write, revision: Revision) -> Effect {
        let txn = match write {
            Write::Set { key, value } => {
                model.insert(
                    key.clone(),
                    Entry {
                        key,
                        value,
                        revision,
                        lifetime: Lifetime::Unlimited,
                    },
                );
                return Effect::Set;
            }
            Write::Delete { key } => {
                let existed = model.remove(&key).is_some();
                return Effect::Deleted { existed };
            }
            Write::Txn(txn) => txn,
            Write::Acquire(_) | Write::Release(_) => return Effect::SessionDoesNotLive,
        };
        let holds = |condition: &Condition| {
            let Condition::Key { key, test } = condition else {
                return false;
            };
            match (model.get(key), test) {
                (entry, KeyTest::Exists(exists)) => entry.is_some() == *exists,
                (entry, KeyTest::Revision(0)) => entry.is_none(),
                (None, _) => false,
                (Some(entry), KeyTest::Revision(revision)) => entry.revision == *revision,
                (Some(entry), KeyTest::Value(value)) => entry.value == value,
            }
        };
        let succeeded = txn.conditions.iter().all(holds);
        let branch = if succeeded { txn.success } else { txn.failure };
        let results = branch.into_iter().map(|operation| match operation {
            Operation::Set { key, value, .. } => {
                model.insert(
                    key.clone(),
                    Entry {
                        key,
                        value,
                        revision,
                        lifetime: Lifetime::Unlimited,
                    },
                );
                OperationResult::Set
            }
            Operation::Get(key) => OperationResult::Got(model.get(&key).cloned()),
            Operation::Delete(key) => OperationResult::Deleted {
                existed: model.remove(&key).is_some(),
            },
        });
        Effect::Txn(Arc::new(TxnOutcome {
            succeeded,
            results: results.collect(),
        }))
    }

    proptest! {
        /// The map agrees with a `BTreeMap`, and two maps with different hash seeds that apply the same
        /// commands give the same answers and hold the same pairs.
        #[test]
        fn equal_commands_give_equal_maps(commands in commands()) {
            let mut model = Model::new();
            let empty = || StateMachine::default().with_revisions_from(Some(WallTime::FIRST));
            let (mut one, mut other) = (empty(), empty());
            for (index, command) in (1..).zip(commands) {
                let written = one.apply(index, command.clone().into());
                prop_assert_eq!(&written, &other.apply(index, command.clone().into()));
                prop_assert_eq!(written.revision, BASE + index);
                prop_assert_eq!(written.effect, carry_out(&mut model, command, BASE + index));
            }
            let pairs = one.sorted_pairs().into_iter();
            let entries = pairs.filter_map(|(key, _)| one.entry(&key));
            prop_assert!(entries.eq(model.values().cloned()));
            prop_assert_eq!(&one, &other);
            let mut restored = empty();
            for Entry { key, value, revision, .. } in model.into_values() {
                restored.restore(&key, &value, revision, None);
            }
            prop_assert_eq!(restored, one);
        }
    }
}
