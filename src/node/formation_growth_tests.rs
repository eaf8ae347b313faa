//! Formation beside clusters that grow and shrink: nodes are added and removed, all initial members are
//! started again at once, all nodes are, nodes are cut off. Seed by seed.
//!
//! The tests simulate Raft itself: a cluster has members and voters, continues as long as most voters run,
//! and lets in members that it can reach.
//!
//! What must hold: no two living processes are in different clusters, if processes remember the last
//! members that they knew, or else if the survivors of a cluster are heard in time. And once the world is
//! calm, every process that can be is in one cluster: the rest of a former one, or a new one.

use super::*;
use crate::types::{Conf, Introduction};

/// With the election timeout that a formation has by itself.
const CALL_TICKS: u64 = CALL_TIMEOUTS * PACE;

const RUNS: u64 = 250;
const STORM: usize = 400;
const CALM: u64 = 2 * CALL_TICKS;
/// Initial members, and nodes at all.
const INITIAL: u16 = 3;
const NODES: u16 = 6;
/// Ticks between two questions of a process that has started, and how long a fresh one waits.
const ASK: u64 = 3;
const WAIT: u64 = 8;

#[derive(Debug)]
struct Process {
    formation: Formation,
    /// The members that it has applied; empty before it has applied anything.
    applied: ClusterMembership,
}

#[derive(Debug)]
struct Cluster {
    members: ClusterMembership,
    voters: BTreeMap<NodeId, RaftId>,
}

struct Packet {
    from: RaftId,
    to: NodeId,
    load: Load,
}

enum Load {
    Call(CallId, Call),
    Reply(RaftId, CallId, Reply),
    Traffic(RaftId, ClusterId),
}

#[derive(Debug, Default)]
struct Tally {
    grown: u64,
    shrunk: u64,
    let_in: u64,
    initial_lost: u64,
    all_lost: u64,
    left_out: u64,
    kept_by_survivors: u64,
    formed_anew: u64,
}

/// How processes know of former clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// They have a file each. Anything may be late or lost, nodes are cut off.
    Files,
    /// They wait, and everything arrives within a tick.
    Words,
    /// Nothing: the control.
    None,
}

#[derive(Debug)]
struct World {
    seed: u64,
    draws: u64,
    incarnations: u64,
    memory: Memory,
    processes: BTreeMap<NodeId, Process>,
    /// Nodes that have run and may return, and nodes that were removed for good.
    machines: BTreeSet<NodeId>,
    removed: BTreeSet<NodeId>,
    files: BTreeMap<NodeId, ClusterMembership>,
    clusters: BTreeMap<ClusterId, Cluster>,
    cut: Option<NodeId>,
    now: u64,
    tally: Tally,
    network: Network,
}

#[derive(Default)]
struct Network(Vec<Packet>);

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets", self.0.len())
    }
}

fn node(id: u16) -> NodeId {
    NodeId::new(id).expect("a node id")
}

fn membership(ids: impl IntoIterator<Item = u16>) -> ClusterMembership {
    let info = |id: u16| crate::types::NodeInfo {
        id: node(id),
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    };
    ids.into_iter().map(info).collect()
}

impl World {
    fn new(seed: u64, memory: Memory) -> Self {
        let mut world = Self {
            seed,
            draws: 0,
            incarnations: 0,
            memory,
            processes: BTreeMap::new(),
            machines: BTreeSet::new(),
            removed: BTreeSet::new(),
            files: BTreeMap::new(),
            clusters: BTreeMap::new(),
            cut: None,
            now: 0,
            tally: Tally::default(),
            network: Network::default(),
        };
        (1..=INITIAL).for_each(|id| world.begin(node(id)));
        for _ in 0..2 * WAIT {
            world.tick_all();
            world.deliver_all();
        }
        world
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.draws += 1;
        mix(&[self.seed, self.draws]) % bound
    }

    fn pick(&mut self, nodes: &[NodeId]) -> Option<NodeId> {
        let nth = self.draw(u64::try_from(nodes.len().max(1)).expect("few"));
        nodes.get(usize::try_from(nth).expect("few")).copied()
    }

    /// A new incarnation of `id`. The files of the initial members list exactly these, as long as it
    /// has been so.
    fn begin(&mut self, id: NodeId) {
        self.incarnations += 1;
        let (members, bootstrap) = match id.get() {
            ..=INITIAL => (membership(1..=INITIAL), true),
            joins => (membership((1..=INITIAL).chain([joins])), false),
        };
        let raft_id = RaftId::new(id, self.incarnations);
        let mut formation = Formation::new(raft_id, &members, bootstrap, self.seed);
        if let (Memory::Files, Some(file)) = (self.memory, self.files.get(&id)) {
            formation.remember(file);
        }
        if self.memory == Memory::Words {
            formation.wait(WAIT);
        }
        let process = Process {
            formation,
            applied: ClusterMembership::default(),
        };
        self.processes.insert(id, process);
        self.machines.insert(id);
    }

    fn cluster_of(&self, id: NodeId) -> Option<ClusterId> {
        let formation = &self.processes.get(&id)?.formation;
        let started = formation.state() == NodeState::Started;
        formation.cluster_id().filter(|_| started)
    }

    /// Whether this very process runs, takes part in `cluster_id`, and can be reached.
    fn votes(&self, process: RaftId, cluster_id: ClusterId) -> bool {
        let node = process.node_id();
        let incarnations = self.processes.get(&node);
        incarnations.is_some_and(|it| it.formation.raft_id == process)
            && self.cluster_of(node) == Some(cluster_id)
            && self.cut != Some(node)
    }

    fn serves(&self, cluster_id: ClusterId, voters: &BTreeMap<NodeId, RaftId>) -> bool {
        let live = voters.values().filter(|id| self.votes(**id, cluster_id));
        2 * live.count() > voters.len()
    }

    /// The cluster that has a leader.
    fn serving(&self) -> Option<ClusterId> {
        let mut clusters = self.clusters.iter();
        clusters.find_map(|(&id, it)| self.serves(id, &it.voters).then_some(id))
    }

    fn apply(&mut self, id: NodeId, members: &ClusterMembership) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.applied = members.clone();
            self.files.insert(id, members.clone());
        }
    }

    /// A change of members is committed: most voters apply it at once, others perhaps later.
    fn change(&mut self, cluster_id: ClusterId, members: ClusterMembership) {
        let cluster = self.clusters.get_mut(&cluster_id).expect("it serves");
        cluster.members = members.clone();
        let voters = cluster.voters.clone();
        let mut live: Vec<_> = voters.values().copied().collect();
        live.retain(|id| self.votes(*id, cluster_id));
        for (nth, id) in live.iter().enumerate() {
            if 2 * nth <= voters.len() || self.draw(2) == 0 {
                self.apply(id.node_id(), &members);
            }
        }
    }

    fn grow(&mut self) {
        let Some(id) = self.serving() else { return };
        let mut members = self.clusters[&id].members.clone();
        let mut spare: Vec<_> = (1..=NODES).map(node).collect();
        spare.retain(|it| !members.contains(*it) && !self.removed.contains(it));
        if let Some(new) = self.pick(&spare) {
            if !self.processes.contains_key(&new) {
                self.begin(new);
            }
            members.members.extend(membership([new.get()]).members);
            self.tally.grown += 1;
            self.change(id, members);
        }
    }

    fn shrink(&mut self) {
        let Some(id) = self.serving() else { return };
        let mut members = self.clusters[&id].members.clone();
        let ids: Vec<_> = members.ids().collect();
        let Some(gone) = self.pick(&ids) else { return };
        let mut voters = self.clusters[&id].voters.clone();
        voters.remove(&gone);
        if members.len() > 3 && self.serves(id, &voters) {
            members.members.remove(&gone);
            self.tally.shrunk += 1;
            self.change(id, members);
            self.clusters.get_mut(&id).expect("it serves").voters = voters;
            // It ends, and the machine with it.
            self.processes.remove(&gone);
            self.machines.remove(&gone);
            self.removed.insert(gone);
        }
    }

    /// The leader sends to a member that is no voter, and makes one of it that has joined.
    fn let_in(&mut self) {
        let Some(cluster_id) = self.serving() else {
            return;
        };
        let Cluster { members, voters } = &self.clusters[&cluster_id];
        let (members, mut voters) = (members.clone(), voters.clone());
        let candidates: Vec<_> = members
            .ids()
            .filter_map(|id| Some(self.processes.get(&id)?.formation.raft_id))
            .filter(|id| voters.get(&id.node_id()) != Some(id) && self.cut != Some(id.node_id()))
            .collect();
        let leader = voters
            .values()
            .copied()
            .find(|id| self.votes(*id, cluster_id));
        let Some(leader) = leader else { return };
        for id in candidates {
            if self.votes(id, cluster_id) {
                self.apply(id.node_id(), &members);
                voters.insert(id.node_id(), id);
                if self.serves(cluster_id, &voters) {
                    self.tally.let_in += 1;
                    let cluster = self.clusters.get_mut(&cluster_id);
                    cluster.expect("it serves").voters = voters.clone();
                }
            } else {
                self.network.0.push(Packet {
                    from: leader,
                    to: id.node_id(),
                    load: Load::Traffic(id, cluster_id),
                });
            }
        }
    }

    fn tick_all(&mut self) {
        self.now += 1;
        for id in self.processes.keys().copied().collect::<Vec<_>>() {
            self.tick(id);
        }
        self.let_in();
    }

    fn tick(&mut self, id: NodeId) {
        let asks = self.now.is_multiple_of(ASK) || self.memory == Memory::Files;
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        process.formation.tick();
        if process.formation.state() == NodeState::Started && asks {
            let me = process.formation.introduction();
            let members = match process.applied.is_empty() {
                true => Arc::clone(process.formation.known()),
                false => Arc::new(process.applied.clone()),
            };
            let by = Introduction { members, ..me };
            for to in by.members.ids().filter(|to| *to != id) {
                let number = process.formation.next_call();
                self.network.0.push(Packet {
                    from: by.raft_id,
                    to,
                    load: Load::Call(CallId { to, number }, Call::Identify(by.clone())),
                });
            }
        }
        self.follow(id);
    }

    /// Carries out what a process wants, and notices a cluster that it has started.
    fn follow(&mut self, id: NodeId) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let from = process.formation.raft_id;
        for (id, call) in process.formation.take_calls() {
            self.network.0.push(Packet {
                from,
                to: id.to,
                load: Load::Call(id, call),
            });
        }
        let Some(offer) = process.formation.started().cloned() else {
            return;
        };
        let applied = process.applied.clone();
        let cluster = Cluster {
            members: offer.membership.clone(),
            voters: offer.members.iter().map(|id| (id.node_id(), *id)).collect(),
        };
        if !self.clusters.contains_key(&offer.cluster_id) {
            self.tally.formed_anew += u64::from(!self.clusters.is_empty());
            self.clusters.insert(offer.cluster_id, cluster);
        }
        if applied.is_empty() {
            self.apply(id, &offer.membership);
        }
    }

    fn deliver(&mut self, Packet { from, to, load }: Packet) {
        let reached = self
            .cut
            .is_none_or(|cut| cut != to && cut != from.node_id());
        let process = self.processes.get_mut(&to).filter(|_| reached);
        match load {
            Load::Call(id, call) => {
                let (callee, reply) = process.map_or_else(
                    || (RaftId::new(to, 0), Reply::Failed),
                    |process| serve(process, call),
                );
                let load = Load::Reply(from, id, reply);
                let to = from.node_id();
                self.network.0.push(Packet {
                    from: callee,
                    to,
                    load,
                });
            }
            Load::Reply(caller, id, reply) => {
                // A caller that is cut off notices a missing reply, too.
                let process = match reply {
                    Reply::Failed => self.processes.get_mut(&to),
                    _ => process,
                };
                if let Some(it) = process.filter(|it| it.formation.raft_id == caller) {
                    it.formation.replied(id, reply);
                }
            }
            Load::Traffic(receiver, cluster_id) => {
                if let Some(it) = process.filter(|it| it.formation.raft_id == receiver) {
                    it.formation.hear_traffic(cluster_id, from);
                    it.formation.join(cluster_id);
                }
            }
        }
        self.follow(to);
    }

    fn deliver_all(&mut self) {
        while !self.network.0.is_empty() {
            let packet = self.network.0.remove(0);
            self.deliver(packet);
            self.check();
        }
    }

    /// The operator states which nodes are gone, when nothing is left of any cluster.
    fn leave_out(&mut self) {
        let left = self
            .processes
            .keys()
            .any(|&id| self.cluster_of(id).is_some());
        let ids: Vec<_> = self.processes.keys().copied().collect();
        let Some(at) = self.pick(&ids).filter(|_| !left) else {
            return;
        };
        let process = self.processes.get_mut(&at).expect("it runs");
        let known = Arc::clone(process.formation.known());
        let gone = known.ids().filter(|id| !ids.contains(id)).collect();
        let left_out = process.formation.form_without(gone).is_ok();
        self.tally.left_out += u64::from(left_out);
        self.follow(at);
    }

    fn happen(&mut self) {
        let living: Vec<_> = self.processes.keys().copied().collect();
        match self.draw(1_000) {
            0..40 => self.grow(),
            40..60 => self.shrink(),
            60..75 => {
                if let Some(id) = self.pick(&living) {
                    self.begin(id);
                }
            }
            75..85 => {
                if let Some(id) = self.pick(&living) {
                    self.processes.remove(&id);
                }
            }
            85..125 => {
                let machines: Vec<_> = self.machines.iter().copied().collect();
                if let Some(id) = self.pick(&machines)
                    && !living.contains(&id)
                {
                    self.begin(id);
                }
            }
            125..131 => {
                self.tally.initial_lost += 1;
                let initial = (1..=INITIAL).map(node);
                let there: Vec<_> = initial.filter(|id| self.machines.contains(id)).collect();
                there.into_iter().for_each(|id| self.begin(id));
            }
            131..133 => {
                self.tally.all_lost += 1;
                living.into_iter().for_each(|id| self.begin(id));
            }
            133..143 if self.memory == Memory::Files => self.cut = self.pick(&living),
            143..183 => self.cut = None,
            183..203 => self.leave_out(),
            203..350 => self.tick_all(),
            _ if self.memory == Memory::Files => {
                for _ in 0..8 {
                    if self.network.0.is_empty() {
                        break;
                    }
                    let packet = self.network.0.remove(0);
                    match self.draw(20) {
                        0 => {}
                        1..3 => self.network.0.push(packet),
                        _ => self.deliver(packet),
                    }
                    self.check();
                }
            }
            _ => self.tick_all(),
        }
        if self.memory != Memory::Files {
            self.deliver_all();
        }
        self.check();
    }

    fn is_torn(&self) -> bool {
        let ids = self.processes.keys();
        let clusters: BTreeSet<_> = ids.filter_map(|id| self.cluster_of(*id)).collect();
        clusters.len() > 1
    }

    fn check(&self) {
        let allowed = self.memory == Memory::None;
        assert!(
            allowed || !self.is_torn(),
            "seed {}: {}",
            self.seed,
            self.sketch()
        );
    }

    /// The state of every process and cluster.
    fn sketch(&self) -> String {
        let processes = self.processes.values().map(|process| {
            let it = &process.formation;
            let ids = |members: &ClusterMembership| members.ids().collect::<Vec<_>>();
            format!(
                "{} {} in {:?}: knows {:?}, has applied {:?}, {}",
                it.raft_id,
                it.state(),
                it.cluster_id(),
                ids(&it.known),
                ids(&process.applied),
                it.waiting_for(),
            )
        });
        let clusters = self.clusters.iter().map(|(id, it)| {
            let members: Vec<_> = it.members.ids().collect();
            format!("{id}: {members:?}, {:?}", it.voters.values())
        });
        processes.chain(clusters).collect::<Vec<_>>().join("\n")
    }

    /// Every node runs, and everything arrives.
    fn calm_down(&mut self) {
        self.cut = None;
        let survivors = self
            .processes
            .keys()
            .filter(|id| self.cluster_of(**id).is_some());
        let survive = survivors.count() > 0;
        for id in (1..=NODES).map(node) {
            if self.machines.contains(&id) && !self.processes.contains_key(&id) {
                self.begin(id);
            }
        }
        let before: BTreeSet<_> = self.clusters.keys().copied().collect();
        for _ in 0..CALM {
            self.tick_all();
            self.deliver_all();
        }
        let after: BTreeSet<_> = self.clusters.keys().copied().collect();
        if survive {
            self.tally.kept_by_survivors += 1;
        }
        let serving = self.serving();
        let gone_for_good = !survive && !self.removed.is_empty();
        let found = |id: &NodeId| {
            let formation = &self.processes[id].formation;
            match formation.state() {
                NodeState::Started => true,
                NodeState::Outside => serving.is_none_or(|id| {
                    let members = &self.clusters[&id].members;
                    !members.contains(formation.raft_id.node_id()) || !formation.is_confirmed(id)
                }),
                // A further node finds no cluster where the nodes that it asks are in none, and to form
                // without a remembered node that is gone for good takes an operator.
                NodeState::Fresh => id.get() > INITIAL || gone_for_good,
                NodeState::Prepared => gone_for_good,
            }
        };
        let all_found = self.processes.keys().all(found);
        // A cluster that is left is kept, whatever it is worth.
        assert!(
            all_found && (!survive || before == after),
            "seed {} waits for ever, or forms a cluster without need: {}",
            self.seed,
            self.sketch(),
        );
    }
}

fn serve(process: &mut Process, call: Call) -> (RaftId, Reply) {
    let Process { formation, applied } = process;
    let me = formation.raft_id;
    let reply = match call {
        Call::Yield { .. } => Reply::Failed,
        Call::Identify(by) => {
            formation.asked(&by);
            let conf = Conf {
                members: applied.ids().collect(),
                ..Conf::default()
            };
            Reply::Identified(Box::new(NodeStatus {
                state: formation.state(),
                cluster_id: formation.cluster_id(),
                conf: Arc::new(conf),
                ..NodeStatus::fresh(me)
            }))
        }
        Call::Offer(offer) | Call::Start(offer) if !offer.members.contains(&me) => Reply::Failed,
        Call::Offer(offer) => Reply::Offered {
            cluster_id: offer.cluster_id,
            accepted: formation.offered(offer),
        },
        Call::Start(offer) => {
            formation.start(offer.cluster_id, offer.coordinator);
            Reply::Started
        }
    };
    (me, reply)
}

fn worlds(memory: Memory) {
    let mut all = Tally::default();
    for seed in 0..RUNS {
        let mut world = World::new(seed, memory);
        (0..STORM).for_each(|_| world.happen());
        world.calm_down();
        let Tally {
            grown,
            shrunk,
            let_in,
            initial_lost,
            all_lost,
            left_out,
            kept_by_survivors,
            formed_anew,
        } = world.tally;
        all.grown += grown;
        all.shrunk += shrunk;
        all.let_in += let_in;
        all.initial_lost += initial_lost;
        all.all_lost += all_lost;
        all.left_out += left_out;
        all.kept_by_survivors += kept_by_survivors;
        all.formed_anew += formed_anew;
    }
    println!("seeds 0 to {RUNS}, {memory:?}: {all:?}");
    // The cases that the tests are for have occurred.
    assert!(all.grown > 0 && all.shrunk > 0 && all.let_in > 0 && all.left_out > 0);
    assert!(all.initial_lost > 0 && all.all_lost > 0);
    assert!(all.kept_by_survivors > 0 && all.formed_anew > 0);
}

#[test]
fn processes_that_remember_the_last_members_form_no_second_cluster() {
    worlds(Memory::Files);
}

#[test]
fn processes_that_wait_for_survivors_form_no_second_cluster() {
    worlds(Memory::Words);
}

/// The control: the tests above can fail.
#[test]
fn processes_that_neither_remember_nor_wait_form_a_second_cluster() {
    let torn = |&seed: &u64| {
        let mut world = World::new(seed, Memory::None);
        (0..STORM).any(|_| {
            world.happen();
            world.is_torn()
        })
    };
    let seed = (0..RUNS).find(torn).expect("two clusters");
    println!("seed {seed}: two clusters");
}
