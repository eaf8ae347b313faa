//! Real raft-rs nodes in memory, joined by a network that sends every message over the wire format.
//!
//! Their actions are drawn from a seed: they elect, replicate, read, transfer leadership, change their
//! members, compact their logs and fetch snapshots, while the network loses, duplicates and reorders.
//! The results do not matter, only the messages. The same seed gives the same messages.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState,
    Message, MessageType, Snapshot,
};
use raft::{
    Config, GetEntriesContext, RaftState, RawNode, SnapshotStatus, StateRole, Storage, StorageError,
};
use seshat::kv::{StateMachine, Write};
use seshat::types::ClusterId;
use seshat::wire::{decode_command, decode_snapshot, encode_command, encode_snapshot};

use crate::{Census, Kind, survives};

/// The cluster that all messages belong to.
pub const CLUSTER: ClusterId = ClusterId(0x5E5_4A7);
/// Ticks without a leader after which a node may campaign.
pub const ELECTION_TICKS: usize = 5;

/// The raft id of node `node`.
pub const fn raft_id(node: u64) -> u64 {
    node << 48 | (0xA0 + node)
}

/// The smallest store in which raft-rs can keep its log.
pub struct Store {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before the first one.
    base: (u64, u64),
    entries: Vec<Entry>,
    state_machine: StateMachine,
    applied: u64,
}

impl Store {
    /// Everything is as after a snapshot at index 1 and term 1 with these `voters`.
    pub fn with_voters(voters: Vec<u64>) -> Self {
        let mut store = Self::empty();
        store.hard_state.commit = 1;
        store.conf_state.voters = voters;
        store.base = (1, 1);
        store.applied = 1;
        store
    }

    /// Nothing, for a node that will be added. Not at term 0: there raft-rs panics when it has to refuse
    /// a vote.
    pub fn empty() -> Self {
        Self {
            hard_state: HardState {
                term: 1,
                ..HardState::default()
            },
            conf_state: ConfState::default(),
            base: (0, 0),
            entries: Vec::new(),
            state_machine: StateMachine::default(),
            applied: 0,
        }
    }

    fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> usize {
        (index - self.base.0 - 1).try_into().unwrap()
    }

    fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            let kept = self.position(first.index);
            assert!(kept <= self.entries.len(), "a gap before {}", first.index);
            self.entries.truncate(kept);
            self.entries.extend_from_slice(entries);
        }
    }

    fn restore(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.base = (metadata.index, metadata.term);
        self.entries.clear();
        self.conf_state = metadata.get_conf_state().clone();
        self.applied = metadata.index;
        self.state_machine = decode_snapshot(&snapshot.data).expect("our own bytes");
    }

    fn compact(&mut self, index: u64) {
        if index > self.base.0 && index <= self.applied {
            let term = self.term(index).unwrap();
            self.entries.drain(..=self.position(index));
            self.base = (index, term);
        }
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        let mut entries = self.entries[self.position(low)..self.position(high)].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            Ok(self.base.1)
        } else if index < self.base.0 {
            Err(StorageError::Compacted.into())
        } else {
            let entry = self.entries.get(self.position(index));
            entry
                .map(|entry| entry.term)
                .ok_or(StorageError::Unavailable.into())
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let members = &self.conf_state;
        let lists = [&members.voters, &members.learners];
        // A node that is not in it would ignore the snapshot and yet acknowledge it.
        if self.applied < request_index || !lists.into_iter().flatten().any(|id| *id == to) {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot {
            data: encode_snapshot(&self.state_machine),
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied;
        metadata.term = self.term(self.applied)?;
        metadata.set_conf_state(members.clone());
        Ok(snapshot)
    }
}

/// Whether the entry could be applied, as far as a node can tell before it takes it.
fn is_readable(entry: &Entry) -> bool {
    let command = entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty();
    !command || decode_command(entry.data.clone()).is_ok()
}

/// One raft-rs node with its store.
pub struct Node {
    /// The node.
    pub raw: RawNode<Store>,
    seed: u64,
}

impl Node {
    /// Node `id` with that `store` and `priority`; its election timeouts come from `seed`.
    pub fn new(id: u64, store: Store, priority: i64, seed: u64) -> Self {
        let config = Config {
            id,
            applied: store.applied,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: 1,
            max_size_per_msg: 200,
            max_inflight_msgs: 3,
            check_quorum: true,
            pre_vote: true,
            // With it raft-rs emits broken appends: `RaftCore::try_batching` puts entries into a
            // waiting empty append without a look at the index that this one continues.
            batch_append: false,
            priority,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, store, &logger).expect("a valid configuration");
        let mut node = Self { raw, seed };
        node.settle();
        node
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// raft-rs draws the election timeout from the thread's generator. This draws it anew.
    fn settle(&mut self) {
        let raft = &mut self.raw.raft;
        let drawn = mix(self.seed ^ raft.id ^ raft.term.wrapping_mul(31));
        let drawn = usize::try_from(drawn % ELECTION_TICKS as u64).unwrap();
        raft.set_randomized_election_timeout(ELECTION_TICKS + drawn);
    }

    /// A tick has passed.
    pub fn tick(&mut self) {
        self.raw.tick();
        self.settle();
    }

    /// Takes a message. A message that raft-rs refuses with an error is dropped, and so is an append
    /// that the node cannot read.
    pub fn step(&mut self, message: Message) {
        if message.entries.iter().all(is_readable) {
            let _ = self.raw.step(message);
        }
        self.settle();
    }

    /// Stores and applies the ready entries, and returns the messages to send.
    pub fn ready(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            sent.extend(ready.take_messages());
            if !ready.snapshot().is_empty() {
                self.raw.mut_store().restore(ready.snapshot());
            }
            let store = self.raw.mut_store();
            store.append(ready.entries());
            if let Some(hard_state) = ready.hs() {
                store.hard_state = hard_state.clone();
            }
            self.apply(ready.take_committed_entries());
            sent.extend(ready.take_persisted_messages());
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().hard_state.commit = commit;
            }
            sent.extend(light.take_messages());
            self.apply(light.take_committed_entries());
            self.raw.advance_apply();
        }
        self.settle();
        sent
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let changed = match entry.entry_type {
                EntryType::EntryNormal if entry.data.is_empty() => None,
                EntryType::EntryNormal => {
                    let command = decode_command(entry.data).expect("a command");
                    self.raw
                        .mut_store()
                        .state_machine
                        .apply(entry.index, command);
                    None
                }
                EntryType::EntryConfChange => panic!("no node proposes it: {entry:?}"),
                EntryType::EntryConfChangeV2 => {
                    let change = ConfChangeV2::parse_from_bytes(&entry.data).expect("a change");
                    Some(self.raw.apply_conf_change(&change))
                }
            };
            let store = self.raw.mut_store();
            store.applied = entry.index;
            // A change that raft-rs refuses is refused by every node alike.
            if let Some(Ok(conf_state)) = changed {
                store.conf_state = conf_state;
                // raft-rs lets a removed leader continue to lead, and panics at its next commit.
                if self.leads() && !self.raw.raft.promotable() {
                    let term = self.raw.raft.term;
                    self.raw.raft.become_follower(term, raft::INVALID_ID);
                }
            }
        }
    }
}

/// Five nodes, three of which are voters at first.
pub struct Cluster {
    nodes: BTreeMap<u64, Node>,
    network: Vec<Message>,
    cut_off: BTreeSet<u64>,
    random: u64,
    counter: u64,
    census: Census,
}

impl Cluster {
    /// The cluster whose history is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let voters: Vec<u64> = (1..=3).map(raft_id).collect();
        let nodes = (1..=5).map(raft_id).map(|id| {
            let store = if voters.contains(&id) {
                Store::with_voters(voters.clone())
            } else {
                Store::empty()
            };
            // Priorities are rare, because they keep candidates from winning.
            let priority = if seed.is_multiple_of(8) {
                (mix(seed ^ id) % 3).cast_signed() - 1
            } else {
                0
            };
            (id, Node::new(id, store, priority, seed))
        });
        Self {
            nodes: nodes.collect(),
            network: Vec::new(),
            cut_off: BTreeSet::new(),
            random: seed,
            counter: 0,
            census: Census::default(),
        }
    }

    /// Runs `rounds` events and returns the messages meanwhile.
    ///
    /// In the end followers ask for snapshots. Not earlier: a node that waits for one takes any,
    /// also one that was on its way before and holds less than the node has acknowledged, and
    /// forgets the rest (`Raft::restore` with a pending request).
    pub fn run(mut self, rounds: usize) -> Census {
        for _ in 0..rounds {
            self.act();
            self.work();
            for _ in 0..self.draw(12) {
                self.deliver();
            }
        }
        self.network.clear();
        for node in self.nodes.values_mut() {
            let _ = node.raw.request_snapshot();
        }
        self.work();
        while let Some(message) = self.network.pop() {
            self.carry(message);
        }
        self.census
    }

    /// Every node stores, applies and sends.
    fn work(&mut self) {
        for node in self.nodes.values_mut() {
            self.network.extend(node.ready());
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.random) % below
    }

    fn pick(&mut self) -> u64 {
        raft_id(1 + self.draw(5))
    }

    /// Something happens at some node.
    fn act(&mut self) {
        let id = self.pick();
        match self.draw(40) {
            0 => {
                self.cut_off.insert(id);
            }
            1..4 => self.cut_off.clear(),
            4..10 => self.propose(),
            10..12 => self.change_members(),
            12..14 => {
                self.counter += 1;
                let context = self.counter.to_be_bytes().to_vec();
                // Others would forward it.
                if let Some(leader) = self.leader() {
                    leader.raw.read_index(context);
                }
            }
            14 => {
                if let Some(leader) = self.leader() {
                    leader.raw.transfer_leader(id);
                }
            }
            15 => {
                let store = self.nodes.get_mut(&id).unwrap().raw.mut_store();
                store.compact(store.applied);
            }
            _ => self.nodes.values_mut().for_each(Node::tick),
        }
    }

    fn leader(&mut self) -> Option<&mut Node> {
        // Of two presumed leaders, the later one leads.
        let leaders = self.nodes.values_mut().filter(|node| node.leads());
        leaders.max_by_key(|node| node.raw.raft.term)
    }

    fn propose(&mut self) {
        self.counter += 1;
        let key = Bytes::from(format!("key {}", self.counter % 20));
        let value = Bytes::from(vec![7; usize::try_from(self.counter % 150).unwrap()]);
        let write = match self.counter % 5 {
            0 => Write::Delete { key },
            _ => Write::Set { key, value },
        };
        let command = encode_command(&write.into());
        if let Some(leader) = self.leader() {
            let _ = leader.raw.propose(Vec::new(), command.to_vec());
        }
    }

    /// A change of one process, in the form that Seshat proposes.
    fn change_members(&mut self) {
        let single = ConfChangeSingle {
            node_id: self.pick(),
            change_type: match self.draw(5) {
                0 => ConfChangeType::RemoveNode,
                1 | 2 => ConfChangeType::AddLearnerNode,
                _ => ConfChangeType::AddNode,
            },
            ..ConfChangeSingle::default()
        };
        if let Some(leader) = self.leader() {
            let change = ConfChangeV2 {
                changes: vec![single].into(),
                ..ConfChangeV2::default()
            };
            let _ = leader.raw.propose_conf_change(Vec::new(), change);
        }
    }

    /// Sends one of the messages that are under way, not always the next.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = match self.draw(4) {
            0 => self.draw(self.network.len() as u64),
            _ => 0,
        };
        let message = self.network.remove(at.try_into().unwrap());
        let (kind, from, to) = (message.msg_type, message.from, message.to);
        if self.draw(50) == 0 {
            self.network.push(message.clone());
        }
        let lost = self.draw(20) == 0 || [from, to].iter().any(|id| self.cut_off.contains(id));
        let arrived = self.carry(message);
        let sender = self.nodes.get_mut(&from).unwrap();
        match (kind, lost) {
            (MessageType::MsgSnapshot, true) => {
                sender.raw.report_snapshot(to, SnapshotStatus::Failure);
            }
            (MessageType::MsgSnapshot, false) => {
                sender.raw.report_snapshot(to, SnapshotStatus::Finish);
            }
            (_, true) => sender.raw.report_unreachable(to),
            (_, false) => {}
        }
        if !lost {
            self.nodes.get_mut(&to).unwrap().step(arrived);
        }
    }

    /// Carries a message over the wire, and counts it.
    fn carry(&mut self, message: Message) -> Message {
        let kind = Kind::of(&message);
        self.census
            .count(kind.unwrap_or_else(|| panic!("no node sends another this: {message:?}")));
        survives(message.clone(), CLUSTER).unwrap_or_else(|error| panic!("{error}: {message:?}"))
    }
}

/// Splitmix64's finalizer: turns a number into one that looks random.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
