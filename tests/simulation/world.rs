//! Three processes, a network between them, clients in front of them, and one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seshat::node::{
    Call, Event, Member, MemberOptions, OutgoingSnapshot, Output, PeerMessage, Proposal,
    RaftOptions, Reply,
};
use seshat::types::{ClusterMembership, NodeId, NodeInfo, NodeState, RaftId, Role};
use seshat::wire;

use crate::clients::{Clients, Request, Waiter};
use crate::invariants::equal_logs::Log;
use crate::invariants::one_leader_a_term::Leaders;
use crate::invariants::{acknowledged_writes_are_kept, linearizable, waiters_end_once};
use crate::network::Network;

/// Milliseconds between two ticks of a node.
const TICK: u64 = 100;
/// Milliseconds for which a run has faults.
const FAULTY: u64 = 20_000;
/// Milliseconds after the last fault by which everything must be well again.
const CALM: u64 = 10_000;

/// Something that happens at some time.
#[derive(Debug)]
enum Happening {
    Tick(RaftId),
    Message(PeerMessage),
    Snapshot(OutgoingSnapshot),
    SnapshotReport {
        from: RaftId,
        to: RaftId,
        delivered: bool,
    },
    Call {
        from: RaftId,
        to: NodeId,
        call: Call,
    },
    Reply {
        to: RaftId,
        from: NodeId,
        reply: Reply,
    },
    Ask,
    Weather,
    Restart,
    Calm,
}

/// What a run amounted to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) refused: u64,
    pub(crate) terms: u64,
    pub(crate) entries: u64,
    pub(crate) snapshots: u64,
    pub(crate) restarts: u64,
    pub(crate) trace_bytes: u64,
    pub(crate) trace_digest: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.refused += other.refused;
        self.terms += other.terms;
        self.entries += other.entries;
        self.snapshots += other.snapshots;
        self.restarts += other.restarts;
        self.trace_bytes += other.trace_bytes;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs, {} writes acknowledged, {} reads answered, {} requests refused, {} terms, \
             {} log entries, {} snapshots installed, {} restarts; none lost, none stale",
            self.seeds,
            self.acknowledged,
            self.reads,
            self.refused,
            self.terms,
            self.entries,
            self.snapshots,
            self.restarts
        )
    }
}

/// Everything that happens, in a form that can be read, and its digest.
struct Trace {
    print: bool,
    bytes: u64,
    digest: DefaultHasher,
}

impl Trace {
    fn line(&mut self, now: u64, line: fmt::Arguments<'_>) {
        let line = format!("{now:>6} {line}\n");
        if self.print {
            print!("{line}");
        }
        self.bytes += u64::try_from(line.len()).expect("small");
        self.digest.write(line.as_bytes());
    }
}

pub(crate) struct World {
    seed: u64,
    rng: StdRng,
    now: u64,
    sequence: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    members: BTreeMap<NodeId, Member<Waiter>>,
    network: Network,
    clients: Clients,
    calm: bool,
    leaders: Leaders,
    log: Log,
    snapshots: u64,
    restarts: u64,
    trace: Trace,
}

fn node_ids() -> Vec<NodeId> {
    (1..=3).filter_map(NodeId::new).collect()
}

fn membership() -> ClusterMembership {
    let info = |id: NodeId| NodeInfo {
        id,
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    };
    node_ids().into_iter().map(info).collect()
}

impl World {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        let mut world = Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            sequence: 0,
            agenda: BTreeMap::new(),
            members: BTreeMap::new(),
            network: Network::healthy(),
            clients: Clients::default(),
            calm: false,
            leaders: Leaders::default(),
            log: Log::default(),
            snapshots: 0,
            restarts: 0,
            trace: Trace {
                print,
                bytes: 0,
                digest: DefaultHasher::new(),
            },
        };
        for node in node_ids() {
            world.begin(node);
        }
        world.schedule(0, Happening::Weather);
        world.schedule(0, Happening::Ask);
        world.schedule(1_000, Happening::Restart);
        world.schedule(FAULTY, Happening::Calm);
        world
    }

    fn begin(&mut self, node: NodeId) {
        let raft_id = RaftId::new(node, self.rng.r#gen());
        let options = MemberOptions {
            raft_id,
            members: membership(),
            bootstrap: true,
            // Small bounds, so that batches are cut and logs compacted all the time.
            raft: RaftOptions {
                max_append_bytes: 256,
                max_inflight_appends: 4,
                max_read_batch: 3,
                compact_after_entries: 40,
                compact_keep_entries: 10,
                ..RaftOptions::default()
            },
            seed: self.rng.r#gen(),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        };
        self.members.insert(node, Member::new(options));
        let phase = self.rng.gen_range(0..TICK);
        self.schedule(phase, Happening::Tick(raft_id));
    }

    fn schedule(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda
            .insert((self.now + delay, self.sequence), happening);
    }

    /// Runs to the end and checks everything.
    pub(crate) fn run(mut self) -> Summary {
        while let Some(((now, _), happening)) = self.agenda.pop_first() {
            if now > FAULTY + CALM {
                break;
            }
            self.now = now;
            if let Some(node) = self.happen(happening) {
                self.settle(node);
            }
        }
        self.check_end();
        Summary {
            seeds: 1,
            acknowledged: count(self.clients.acknowledged.len()),
            reads: self.clients.reads,
            refused: self.clients.refused,
            terms: count(self.leaders.terms()),
            entries: count(self.log.len()),
            snapshots: self.snapshots,
            restarts: self.restarts,
            trace_bytes: self.trace.bytes,
            trace_digest: self.trace.digest.finish(),
        }
    }

    /// Lets it happen; which node has something to put out then.
    fn happen(&mut self, happening: Happening) -> Option<NodeId> {
        match happening {
            Happening::Tick(raft_id) => {
                let member = self.alive(raft_id)?;
                member.tick();
                // Clocks do not run alike.
                let next = TICK + self.rng.gen_range(0..=TICK / 20);
                self.schedule(next, Happening::Tick(raft_id));
                Some(raft_id.node_id())
            }
            Happening::Message(message) => self.deliver(message),
            Happening::Snapshot(snapshot) => self.install(snapshot),
            Happening::SnapshotReport {
                from,
                to,
                delivered,
            } => {
                self.alive(from)?.report_snapshot(to, delivered);
                Some(from.node_id())
            }
            Happening::Call { from, to, call } => self.answer_call(from, to, call),
            Happening::Reply { to, from, reply } => {
                self.alive(to)?.replied(from, reply);
                Some(to.node_id())
            }
            Happening::Ask => self.ask(),
            Happening::Weather => {
                if !self.calm {
                    self.network = Network::draw(&mut self.rng, &node_ids());
                    let network = self.network.clone();
                    self.trace
                        .line(self.now, format_args!("weather: {network}"));
                    let next = self.rng.gen_range(500..4_000);
                    self.schedule(next, Happening::Weather);
                }
                None
            }
            Happening::Restart => self.restart(),
            Happening::Calm => {
                self.calm = true;
                self.network = Network::healthy();
                self.trace.line(self.now, format_args!("calm"));
                None
            }
        }
    }

    /// Starts some node again. One memory loss at a time, the next only after healed.
    fn restart(&mut self) -> Option<NodeId> {
        if self.calm {
            return None;
        }
        if !self.healed() {
            self.schedule(50, Happening::Restart);
            return None;
        }
        let node = node_ids()[self.rng.gen_range(0..3)];
        self.restarts += 1;
        self.trace
            .line(self.now, format_args!("node {node} is started again"));
        self.clients.lost(node);
        self.begin(node);
        let next = self.rng.gen_range(1..1_000);
        self.schedule(next, Happening::Restart);
        None
    }

    /// Whether the voters are exactly the processes that live, and all of them know it.
    fn healed(&self) -> bool {
        let living = self.members.values().map(Member::raft_id).collect();
        self.members.values().all(|member| member.raft().is_some())
            && self.members.values().any(|member| member.healed(&living))
    }

    /// The process `raft_id`, if it still lives.
    fn alive(&mut self, raft_id: RaftId) -> Option<&mut Member<Waiter>> {
        let member = self.members.get_mut(&raft_id.node_id())?;
        (member.raft_id() == raft_id).then_some(member)
    }

    fn deliver(&mut self, message: PeerMessage) -> Option<NodeId> {
        let to = message.envelope().expect("made by a node").to.node_id();
        let member = self.members.get_mut(&to)?;
        let name = message.name();
        let outcome = member.step(message);
        self.trace
            .line(self.now, format_args!("{to} takes {name}: {outcome:?}"));
        Some(to)
    }

    fn install(&mut self, snapshot: OutgoingSnapshot) -> Option<NodeId> {
        let OutgoingSnapshot {
            header,
            state_machine,
        } = snapshot;
        let to = header.envelope().expect("made by a node").to.node_id();
        let member = self.members.get_mut(&to)?;
        let outcome = member.install(header, state_machine);
        self.trace
            .line(self.now, format_args!("{to} takes a snapshot: {outcome:?}"));
        Some(to)
    }

    fn answer_call(&mut self, from: RaftId, to: NodeId, call: Call) -> Option<NodeId> {
        let member = self.members.get_mut(&to)?;
        let meant = |offer: &seshat::types::Offer| offer.members.contains(&member.raft_id());
        let reply = match call {
            Call::Identify => Reply::Identified(wire_view(member.status())),
            Call::Offer(ref offer) | Call::Start(ref offer) if !meant(offer) => Reply::Failed,
            Call::Offer(offer) => Reply::Offered {
                cluster_id: offer.cluster_id,
                accepted: member.offered(offer),
            },
            Call::Start(offer) => {
                member.start(offer.cluster_id, offer.coordinator);
                Reply::Started
            }
        };
        self.trace
            .line(self.now, format_args!("{to} replies to {from}: {reply:?}"));
        self.send_reply(to, from, reply);
        Some(to)
    }

    fn send_reply(&mut self, from: NodeId, to: RaftId, reply: Reply) {
        for delay in self.network.arrivals(&mut self.rng, from, to.node_id()) {
            let reply = reply.clone();
            self.schedule(delay, Happening::Reply { to, from, reply });
        }
    }

    /// A client asks some node, mostly one that leads.
    fn ask(&mut self) -> Option<NodeId> {
        let next = self.rng.gen_range(1..60);
        if self.now + next < FAULTY + CALM / 2 {
            self.schedule(next, Happening::Ask);
        }
        let leads = |member: &&Member<Waiter>| member.status().role == Some(Role::Leader);
        let leaders: Vec<_> = self
            .members
            .values()
            .filter(leads)
            .map(Member::raft_id)
            .collect();
        let node = if leaders.is_empty() || self.rng.gen_bool(0.1) {
            node_ids()[self.rng.gen_range(0..3)]
        } else {
            leaders[self.rng.gen_range(0..leaders.len())].node_id()
        };
        // Several callers often come in one turn of the driver.
        for _ in 0..self.rng.gen_range(1..=4) {
            let (waiter, request) = self.clients.ask(&mut self.rng, node, self.now);
            self.trace
                .line(self.now, format_args!("{waiter} asks {node}: {request:?}"));
            let member = self.members.get_mut(&node)?;
            match request {
                Request::Write(command) => member.propose(vec![Proposal {
                    command: wire::encode_command(&command),
                    waiter,
                }]),
                Request::Read(key) => member.read(key, waiter),
            }
        }
        Some(node)
    }

    /// Carries out what a node puts out, and checks what can be checked at any moment.
    fn settle(&mut self, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else {
            return;
        };
        let raft_id = member.raft_id();
        let output = member.output().expect("no invariant is broken");
        let member = &self.members[&node];
        self.leaders.check(member);
        if let Some(raft) = member.raft() {
            self.log.check(raft);
        }
        let Output {
            answers,
            events,
            messages,
            snapshots,
            calls,
            retired: _,
        } = output;
        for (waiter, outcome) in answers {
            self.trace
                .line(self.now, format_args!("{waiter} is told {outcome:?}"));
            self.clients.told(waiter, &outcome, self.now);
        }
        waiters_end_once::check(&self.members[&node], &self.clients);
        for event in events {
            self.trace.line(self.now, format_args!("{node}: {event:?}"));
            if matches!(event, Event::SnapshotInstalled { .. }) {
                self.snapshots += 1;
            }
        }
        for message in messages {
            self.send(raft_id, message);
        }
        for snapshot in snapshots {
            self.send_snapshot(raft_id, snapshot);
        }
        for (to, call) in calls {
            let arrivals = self.network.arrivals(&mut self.rng, node, to);
            if arrivals.is_empty() && self.rng.gen_bool(0.5) {
                let reply = Reply::Failed;
                self.schedule(
                    50,
                    Happening::Reply {
                        to: raft_id,
                        from: to,
                        reply,
                    },
                );
            }
            for delay in arrivals {
                let call = call.clone();
                self.schedule(
                    delay,
                    Happening::Call {
                        from: raft_id,
                        to,
                        call,
                    },
                );
            }
        }
    }

    fn send(&mut self, from: RaftId, message: PeerMessage) {
        let to = message.envelope().expect("made by a node").to;
        let arrivals = self
            .network
            .arrivals(&mut self.rng, from.node_id(), to.node_id());
        self.trace.line(
            self.now,
            format_args!(
                "{from} sends {} to {to}, arriving in {arrivals:?}",
                message.name()
            ),
        );
        if arrivals.is_empty()
            && self.rng.gen_bool(0.1)
            && let Some(member) = self.alive(from)
        {
            member.report_unreachable(to);
        }
        for delay in arrivals {
            self.schedule(delay, Happening::Message(message.clone()));
        }
    }

    fn send_snapshot(&mut self, from: RaftId, snapshot: OutgoingSnapshot) {
        let to = snapshot.header.envelope().expect("made by a node").to;
        let arrivals = self
            .network
            .arrivals(&mut self.rng, from.node_id(), to.node_id());
        self.trace.line(
            self.now,
            format_args!("{from} sends a snapshot to {to}, arriving in {arrivals:?}"),
        );
        // The transport always says how it went; sometimes it is wrong about a success, when the
        // answer is lost.
        let delivered = !arrivals.is_empty() && self.rng.gen_bool(0.8);
        let delay = arrivals.iter().max().copied().unwrap_or(200) + 1;
        self.schedule(
            delay,
            Happening::SnapshotReport {
                from,
                to,
                delivered,
            },
        );
        for delay in arrivals {
            self.schedule(delay, Happening::Snapshot(snapshot.clone()));
        }
    }

    fn check_end(&mut self) {
        assert_eq!(
            self.clients.waiting(),
            0,
            "somebody still waits after the calm"
        );
        linearizable::check(&self.clients);
        acknowledged_writes_are_kept::check(&self.clients.acknowledged, &self.log);
        self.check_well();
    }

    /// After the calm there is one cluster with a leader, every process takes part in it, however
    /// often it was started again, and all hold equal maps.
    fn check_well(&self) {
        let started: Vec<_> = self.members.values().filter_map(Member::raft).collect();
        let clusters: BTreeSet<_> = started.iter().map(|raft| raft.cluster_id()).collect();
        assert_eq!(clusters.len(), 1, "seed {}: {clusters:?}", self.seed);
        assert_eq!(started.len(), 3, "everybody takes part");
        assert!(self.healed(), "healed");
        let leaders: Vec<_> = started
            .iter()
            .filter(|raft| raft.role() == Role::Leader)
            .collect();
        assert_eq!(leaders.len(), 1, "after the calm");
        for raft in &started {
            assert_eq!(raft.storage().applied(), leaders[0].storage().applied());
            self.log.check_map(raft.storage());
        }
    }
}

/// What a status becomes on its way over the wire: an outside process says that it is fresh.
fn wire_view(mut status: seshat::types::NodeStatus) -> seshat::types::NodeStatus {
    if status.state == NodeState::Outside {
        status.state = NodeState::Fresh;
        status.cluster_id = None;
    }
    status
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("small")
}
