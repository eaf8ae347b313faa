//! A few members and the links between them, in simulated time: for tests of effects that only show under
//! load, or with unequal links.
//!
//! Time passes in steps of a millisecond. In each step, every member takes all messages that have come
//! for it, ticks if it is time, takes the writes of its clients if it leads, and sends its output. A link
//! keeps the order of its messages.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::seed::mix;
use super::*;
use crate::error::Refusal;
use crate::kv::{Command, Write};
use crate::types::{
    ClusterMembership, NodeId, NodeInfo, NodeLimits, ProtocolLevel, RaftId, Role, WallTime,
};
use crate::wire;

/// Milliseconds of a tick.
pub(super) const TICK: u64 = 100;

/// The properties of a link. `latency` is in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    pub(super) latency: u64,
    /// Entries that it carries in a millisecond. 0 means no bound.
    pub(super) entries: u64,
    /// Number of entries that a snapshot counts as.
    pub(super) snapshot: u64,
    /// Nothing arrives.
    pub(super) cut: bool,
    /// Messages with entries do not arrive.
    pub(super) hole: bool,
}

enum Load {
    Message(PeerMessage),
    Snapshot(Box<OutgoingSnapshot>),
    /// The transfer of a snapshot to a peer has ended.
    Report(RaftId, bool),
    /// Messages to a peer do not arrive.
    Unreachable(RaftId),
    Call(RaftId, CallId, Call),
    /// For one process only.
    Reply(RaftId, CallId, Reply),
}

/// Members, and the messages between them.
pub(super) struct Lab {
    pub(super) now: u64,
    pub(super) seed: u64,
    options: RaftOptions,
    /// Levels of the next processes of nodes, if not that of this version.
    pub(super) levels: BTreeMap<NodeId, ProtocolLevel>,
    /// Limits of the next processes of nodes, if any.
    pub(super) limits: BTreeMap<NodeId, NodeLimits>,
    /// Memory bounds of the state of the next processes of nodes, if not that of the options.
    pub(super) states: BTreeMap<NodeId, usize>,
    /// Nodes that hear no answer to their questions.
    pub(super) deaf: BTreeSet<NodeId>,
    configured: ClusterMembership,
    pub(super) replicas: BTreeMap<NodeId, Replica<u64>>,
    incarnations: u64,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// When each link is free again, in entries that it has carried.
    busy: BTreeMap<(NodeId, NodeId), u64>,
    /// Messages in flight, by time and order of arrival.
    under_way: BTreeMap<(u64, u64), (NodeId, Load)>,
    sent: u64,
    pub(super) acknowledged: u64,
    /// Refusals that callers got, and events of members about versions and limits.
    pub(super) refusals: Vec<Refusal>,
    pub(super) of_versions: Vec<(NodeId, Event)>,
    /// Number of calls that have been made.
    pub(super) calls: usize,
    /// Number of changes of voters and learners that members have applied.
    pub(super) conf_changes: usize,
    /// Number of log entries that members have left to other threads to free.
    pub(super) retired: usize,
    /// Nodes whose process has ended because it was removed.
    pub(super) gone: BTreeSet<NodeId>,
}

pub(super) fn node(id: u16) -> NodeId {
    NodeId::new(id).expect("a node id")
}

pub(super) fn info(id: NodeId) -> NodeInfo {
    NodeInfo {
        id,
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    }
}

impl Lab {
    /// Nodes 1 to `size`, without any state.
    pub(super) fn new(size: u16, seed: u64, options: RaftOptions) -> Self {
        let ids = (1..=size).map(node);
        let mut lab = Self {
            now: 0,
            seed,
            options,
            levels: BTreeMap::new(),
            limits: BTreeMap::new(),
            states: BTreeMap::new(),
            deaf: BTreeSet::new(),
            configured: ids.clone().map(info).collect(),
            replicas: BTreeMap::new(),
            incarnations: 0,
            links: BTreeMap::new(),
            busy: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            acknowledged: 0,
            refusals: Vec::new(),
            of_versions: Vec::new(),
            calls: 0,
            conf_changes: 0,
            retired: 0,
            gone: BTreeSet::new(),
        };
        for id in ids {
            lab.begin(id, true);
        }
        lab
    }

    /// Adds `id` to the initial members of every process that begins from now on.
    pub(super) fn configure(&mut self, id: NodeId) {
        self.configured.members.insert(id, info(id));
    }

    /// The leader `id` raises the level of the cluster, whether or not all members speak it.
    pub(super) fn force_level(&mut self, id: NodeId, level: ProtocolLevel) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.force_level(level);
        }
        self.settle(id);
    }

    /// Starts a process of `id`. Its current process ends.
    pub(super) fn begin(&mut self, id: NodeId, bootstrap: bool) {
        self.incarnations += 1;
        let mut members = self.configured.clone();
        members.members.entry(id).or_insert_with(|| info(id));
        let level = self.levels.get(&id).copied().unwrap_or(self.options.level);
        let raft = RaftOptions {
            level,
            limits: self.limits.get(&id).copied().unwrap_or(self.options.limits),
            max_state_bytes: self
                .states
                .get(&id)
                .copied()
                .unwrap_or(self.options.max_state_bytes),
            ..self.options
        };
        let replica = Replica::new(ReplicaOptions {
            raft_id: RaftId::new(id, self.incarnations),
            members,
            remembered: ClusterMembership::default(),
            bootstrap,
            formation_wait_ticks: 0,
            time: Some(WallTime::FIRST),
            raft,
            seed: mix(&[self.seed, self.incarnations]),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        });
        self.replicas.insert(id, replica);
    }

    /// Sets both directions between `one` and all other nodes.
    pub(super) fn link(&mut self, one: NodeId, link: Link) {
        for other in (1..=9).map(node).filter(|other| *other != one) {
            self.links.insert((one, other), link);
            self.links.insert((other, one), link);
        }
    }

    /// Sets one direction.
    pub(super) fn link_one_way(&mut self, from: NodeId, to: NodeId, link: Link) {
        self.links.insert((from, to), link);
    }

    /// An operator transfers leadership.
    pub(super) fn transfer(&mut self, leader: NodeId, to: NodeId) {
        if let Some(replica) = self.replicas.get_mut(&leader) {
            // The answer says why not.
            let _ = replica.transfer_leader(Some(to));
        }
        self.settle(leader);
    }

    /// The leader of the highest term.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads = self.replicas.iter().filter_map(|(id, replica)| {
            let raft = replica.raft().filter(|raft| raft.role() == Role::Leader)?;
            Some((raft.term(), *id))
        });
        leads.max().map(|(_, id)| id)
    }

    /// The voters, as `id` has applied them.
    pub(super) fn voters(&self, id: NodeId) -> BTreeSet<RaftId> {
        let raft = self.replicas.get(&id).and_then(Replica::raft);
        raft.map(|raft| raft.voters().into_iter().collect())
            .unwrap_or_default()
    }

    /// One millisecond passes, in which clients write `writes` entries to the leader.
    pub(super) fn step(&mut self, writes: u64) {
        self.now += 1;
        let mut woken = BTreeSet::new();
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= self.now
        {
            let (to, load) = first.remove();
            woken.insert(to);
            self.arrive(to, load);
        }
        for id in self.replicas.keys().copied().collect::<Vec<_>>() {
            // The clocks of the nodes tick at different times.
            if (self.now + 37 * u64::from(id.get())).is_multiple_of(TICK)
                && let Some(replica) = self.replicas.get_mut(&id)
            {
                replica.tick();
                woken.insert(id);
            }
        }
        if writes > 0
            && let Some(leader) = self.leader()
        {
            self.write(leader, writes);
            woken.insert(leader);
        }
        for id in woken {
            self.settle(id);
        }
    }

    /// Steps until `done`. Returns the milliseconds that it took, or `None` if it takes longer than
    /// `limit`.
    pub(super) fn until(
        &mut self,
        limit: u64,
        writes: u64,
        done: impl Fn(&Self) -> bool,
    ) -> Option<u64> {
        let began = self.now;
        while !done(self) {
            if self.now - began >= limit {
                return None;
            }
            self.step(writes);
        }
        Some(self.now - began)
    }

    fn write(&mut self, leader: NodeId, writes: u64) {
        let set = Command::from(Write::Set {
            key: "k".into(),
            value: "v".into(),
        });
        let command = wire::encode_command(&set);
        self.propose(leader, (0..writes).map(|_| command.clone()).collect());
    }

    pub(super) fn command(&mut self, id: NodeId, command: &Command) {
        self.propose(id, vec![wire::encode_command(command)]);
        self.settle(id);
    }

    fn propose(&mut self, id: NodeId, commands: Vec<Bytes>) {
        let proposal = |command| Proposal {
            command,
            context: Bytes::new(),
            waiter: 0,
        };
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.propose(commands.into_iter().map(proposal).collect());
        }
    }

    fn arrive(&mut self, to: NodeId, load: Load) {
        match load {
            Load::Message(message) => {
                if let Some(replica) = self.replicas.get_mut(&to) {
                    // A refused message is lost.
                    let _ = replica.step(message);
                }
            }
            Load::Snapshot(snapshot) => {
                let OutgoingSnapshot {
                    header,
                    state_machine,
                } = *snapshot;
                let envelope = header.envelope().expect("an envelope");
                let replica = self.replicas.get_mut(&to);
                let taken = replica.is_some_and(|it| it.install(header, state_machine).is_ok());
                let report = Load::Report(envelope.to, taken);
                self.send(to, envelope.from.node_id(), 0, report);
            }
            Load::Report(peer, delivered) => {
                if let Some(replica) = self.replicas.get_mut(&to) {
                    replica.report_snapshot(peer, delivered);
                }
            }
            Load::Unreachable(peer) => {
                if let Some(replica) = self.replicas.get_mut(&to) {
                    replica.report_unreachable(peer);
                }
            }
            Load::Call(caller, call_id, call) => self.serve(to, caller, call_id, call),
            Load::Reply(caller, call_id, reply) => {
                if let Some(replica) = self.replicas.get_mut(&to)
                    && !self.deaf.contains(&to)
                    && replica.raft_id() == caller
                {
                    replica.replied(call_id, reply);
                }
            }
        }
    }

    fn serve(&mut self, to: NodeId, caller: RaftId, call_id: CallId, call: Call) {
        let Some(replica) = self.replicas.get_mut(&to) else {
            return;
        };
        let me = replica.raft_id();
        let reply = match call {
            Call::Identify(by) => {
                replica.asked(&by);
                Reply::Identified(Box::new(replica.status()))
            }
            Call::Offer(offer) | Call::Start(offer) if !offer.members.contains(&me) => {
                Reply::Failed
            }
            Call::Offer(offer) => Reply::Offered {
                cluster_id: offer.cluster_id,
                accepted: replica.offered(offer),
            },
            Call::Start(offer) => {
                replica.start(offer.cluster_id, offer.coordinator);
                Reply::Started
            }
            Call::Yield { to, .. } if to != me => Reply::Failed,
            Call::Yield { claim, .. } => Reply::Yielded {
                attempt: claim.attempt,
                answer: replica.yield_to(&claim),
            },
        };
        self.send(to, caller.node_id(), 0, Load::Reply(caller, call_id, reply));
    }

    fn settle(&mut self, id: NodeId) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        let me = replica.raft_id();
        let output = replica.output().expect("no broken invariant");
        let acknowledged = output.answers.iter().filter(|(_, outcome)| outcome.is_ok());
        self.acknowledged += u64::try_from(acknowledged.count()).expect("few");
        let refusals = output.answers.into_iter().filter_map(|(_, it)| it.err());
        self.refusals.extend(refusals);
        let of_versions = |event: &&Event| {
            matches!(
                event,
                Event::TooOld { .. }
                    | Event::LevelRaised { .. }
                    | Event::Unreadable { .. }
                    | Event::TakesLess { .. }
            )
        };
        let of_versions = output.events.iter().filter(of_versions);
        self.of_versions
            .extend(of_versions.map(|it| (id, it.clone())));
        for retired in output.retired {
            if let Retired::Log(cut) = retired {
                self.retired += cut.len();
            }
        }
        for message in output.messages {
            let peer = message.envelope().expect("an envelope").to;
            let to = peer.node_id();
            if self.lost(id, to) {
                self.send(id, id, 0, Load::Unreachable(peer));
                continue;
            }
            let entries = match &message {
                PeerMessage::AppendEntries(request) => request.entries.len(),
                _ => 0,
            };
            if entries > 0 && self.links.get(&(id, to)).is_some_and(|link| link.hole) {
                continue;
            }
            let entries = u64::try_from(entries).expect("few");
            self.send(id, to, entries, Load::Message(message));
        }
        for snapshot in output.snapshots {
            let peer = snapshot.header.envelope().expect("an envelope").to;
            if self.lost(id, peer.node_id()) {
                self.send(id, id, 0, Load::Report(peer, false));
            } else {
                let link = self.links.get(&(id, peer.node_id()));
                let entries = link.map_or(0, |link| link.snapshot);
                self.send(
                    id,
                    peer.node_id(),
                    entries,
                    Load::Snapshot(Box::new(snapshot)),
                );
            }
        }
        self.calls += output.calls.len();
        for (call_id, call) in output.calls {
            self.send(id, call_id.to, 0, Load::Call(me, call_id, call));
        }
        let changed = |event: &&Event| matches!(event, Event::ConfChanged { .. });
        self.conf_changes += output.events.iter().filter(changed).count();
        let removed = |event: &Event| matches!(event, Event::Removed { .. });
        if output.events.iter().any(removed) {
            self.replicas.remove(&id);
            self.gone.insert(id);
        }
    }

    fn lost(&self, from: NodeId, to: NodeId) -> bool {
        let cut = self.links.get(&(from, to)).is_some_and(|link| link.cut);
        cut || !self.replicas.contains_key(&to)
    }

    fn send(&mut self, from: NodeId, to: NodeId, entries: u64, load: Load) {
        if self.lost(from, to) {
            return;
        }
        let link = self.links.get(&(from, to)).copied().unwrap_or_default();
        // Counted in entries, so that a link may carry several in a millisecond.
        let rate = link.entries.max(1);
        let busy = self.busy.entry((from, to)).or_default();
        if link.entries > 0 {
            *busy = (*busy).max(self.now * rate) + entries;
        }
        let free = if link.entries > 0 {
            *busy / rate
        } else {
            self.now
        };
        self.sent += 1;
        let at = free.max(self.now) + link.latency.max(1);
        self.under_way.insert((at, self.sent), (to, load));
    }
}
