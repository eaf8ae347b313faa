//! A few replicas and a network that does nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use seshat::cluster::recovery::Order;
use seshat::error::Refusal;
use seshat::node::{
    Call, CallId, Event, Input, Outcome, OutgoingSnapshot, Output, PeerMessage, Proposal, RaftNode,
    RaftOptions, Recovery, Replica, ReplicaOptions, Reply, StepError,
};
use seshat::types::{
    ClientId, ClusterId, ClusterMembership, Key, Millis, NodeId, NodeInfo, NodeState, NodeStatus,
    ProtocolLevel, RaftId, Role, Term, WallTime,
};
use seshat::watch::WatchSpec;
use seshat::{kv, wire};

use crate::show::{self, Names};

/// Decides all election timeouts. With this one no node times out within the shortest timeout, 5
/// ticks, in the first terms, so the nodes can be brought to the end of the leader's lease together.
const SEED: u64 = 632_924_848;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The caller that a replica answers. Not `Clone`: the core can answer it only by returning it.
pub(crate) struct Waiter(usize);

/// A packet under way from one node to another.
enum Content {
    Message(PeerMessage),
    Snapshot(Box<OutgoingSnapshot>),
    Call(RaftId, CallId, Call),
    /// To the process that called; it is meaningless to another incarnation of its node.
    Reply(RaftId, CallId, Reply),
}

struct Packet {
    from: NodeId,
    to: NodeId,
    content: Content,
}

/// The packets of a command: those that meet every condition, at most `limit` of them.
#[derive(Default)]
pub(crate) struct Filter {
    pub(crate) from: Option<NodeId>,
    pub(crate) to: Option<NodeId>,
    /// The name of a message, as the traces show it.
    pub(crate) kind: Option<String>,
    pub(crate) limit: Option<usize>,
}

impl Filter {
    fn holds(&self, packet: &Packet) -> bool {
        let kind = match &packet.content {
            Content::Message(message) => message.name(),
            Content::Snapshot(_) => "InstallSnapshot",
            Content::Call(_, _, Call::Identify(_)) => "Identify",
            Content::Call(_, _, Call::Offer(_)) => "Offer",
            Content::Call(_, _, Call::Start(_)) => "Start",
            Content::Call(_, _, Call::Yield { .. }) => "Yield",
            Content::Reply(..) => "Reply",
        };
        self.from.is_none_or(|from| from == packet.from)
            && self.to.is_none_or(|to| to == packet.to)
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind)
    }
}

/// Milliseconds of a tick.
const TICK: Millis = 100;

pub(crate) fn info(id: NodeId) -> NodeInfo {
    NodeInfo {
        id,
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    }
}

/// The replicas, the network, and all callers that wait.
pub(crate) struct Cluster {
    raft: RaftOptions,
    node_ids: Vec<NodeId>,
    /// The configuration of each node: the listed nodes, and whether it takes part in forming a cluster.
    configured: BTreeMap<NodeId, (Vec<NodeId>, bool)>,
    replicas: BTreeMap<NodeId, Replica<Waiter>>,
    incarnations: BTreeMap<NodeId, u64>,
    /// The protocol levels of nodes, if they differ from that of this version.
    levels: BTreeMap<NodeId, ProtocolLevel>,
    /// The wall clocks of nodes, if they differ from the others, which stand still.
    clocks: BTreeMap<NodeId, Option<WallTime>>,
    /// The monotonic clocks of nodes, in milliseconds. Each tick is 100 ms.
    uptimes: BTreeMap<NodeId, Millis>,
    network: Vec<Packet>,
    /// Directed links that carry nothing.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// The request of each caller, in the order of arrival, and the asked node; `None` once it has been
    /// answered.
    callers: Vec<Option<(NodeId, String)>>,
    leaders: BTreeMap<(ClusterId, Term), RaftId>,
    names: Names,
    /// The events since the last [`Cluster::take_trace`].
    trace: String,
    /// The messages for watches since the last [`Cluster::show_watches`].
    watched: String,
}

impl Cluster {
    /// Nodes 1 to `size`, all of them just started and without knowledge of one another.
    pub(crate) fn new(size: u16, raft: RaftOptions) -> Self {
        let node_ids: Vec<_> = (1..=size).filter_map(NodeId::new).collect();
        let mut cluster = Self {
            raft,
            node_ids: node_ids.clone(),
            configured: BTreeMap::new(),
            replicas: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            levels: BTreeMap::new(),
            clocks: BTreeMap::new(),
            uptimes: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            callers: Vec::new(),
            leaders: BTreeMap::new(),
            names: Names::default(),
            trace: String::new(),
            watched: String::new(),
        };
        for &node in &node_ids {
            let configured = (node_ids.clone(), true);
            cluster.configured.insert(node, configured);
            cluster.begin(node);
        }
        cluster
    }

    /// A node that was not there in the beginning: its process waits to be added, and asks the nodes
    /// that are there.
    pub(crate) fn join(&mut self, node: NodeId) -> Result<()> {
        if self.node_ids.contains(&node) {
            return Err(format!("node {node} is there").into());
        }
        self.node_ids.push(node);
        let configured = (self.node_ids.clone(), false);
        self.configured.insert(node, configured);
        self.begin(node);
        Ok(())
    }

    fn begin(&mut self, node: NodeId) {
        let incarnation = self.incarnations.entry(node).or_default();
        *incarnation += 1;
        let raft_id = RaftId::new(node, *incarnation);
        self.names.learn(raft_id);
        let (configured, bootstrap) = self.configured.get(&node).cloned().unwrap_or_default();
        let options = ReplicaOptions {
            raft_id,
            members: configured.into_iter().map(info).collect(),
            bootstrap,
            remembered: ClusterMembership::default(),
            formation_wait_ticks: 0,
            time: self.clock(node),
            raft: RaftOptions {
                level: self.levels.get(&node).copied().unwrap_or(self.raft.level),
                ..self.raft
            },
            seed: SEED,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        };
        self.replicas.insert(node, Replica::new(options));
    }

    fn clock(&self, node: NodeId) -> Option<WallTime> {
        let clock = self.clocks.get(&node).copied();
        clock.unwrap_or(Some(WallTime::FIRST))
    }

    /// Sets the wall clock of `node`.
    pub(crate) fn set_clock(&mut self, node: NodeId, time: Option<WallTime>) {
        self.clocks.insert(node, time);
    }

    pub(crate) fn line(&mut self, line: impl fmt::Display) {
        self.trace.push_str(&format!("{line}\n"));
    }

    pub(crate) fn take_trace(&mut self) -> String {
        std::mem::take(&mut self.trace)
    }

    pub(crate) fn node_ids(&self) -> Vec<NodeId> {
        self.node_ids.clone()
    }

    fn replica(&mut self, node: NodeId) -> Result<&mut Replica<Waiter>> {
        let replica = self.replicas.get_mut(&node);
        replica.ok_or_else(|| format!("node {node} does not run").into())
    }

    fn alive(&self, node: NodeId) -> bool {
        self.replicas.contains_key(&node)
    }

    pub(crate) fn status(&mut self, node: NodeId) -> Result<NodeStatus> {
        Ok(self.replica(node)?.status())
    }

    pub(crate) fn raft(&mut self, node: NodeId) -> Result<&RaftNode<Waiter>> {
        let raft = self.replica(node)?.raft();
        raft.ok_or_else(|| format!("node {node} takes part in no cluster").into())
    }

    pub(crate) fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// The unanswered requests.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let callers = self.callers.iter().enumerate();
        callers
            .filter_map(|(number, caller)| {
                let (node, what) = caller.as_ref()?;
                Some(format!("n{node} #{} {what}", number + 1))
            })
            .collect()
    }

    /// Nothing is put out: the next [`Cluster::settle`] does that.
    fn new_caller(&mut self, node: NodeId, what: String) -> Waiter {
        self.callers.push(Some((node, what)));
        Waiter(self.callers.len() - 1)
    }

    pub(crate) fn propose(&mut self, node: NodeId, commands: Vec<kv::Command>) -> Result<()> {
        self.replica(node)?;
        let proposals = commands
            .into_iter()
            .map(|command| Proposal {
                context: Default::default(),
                waiter: self.new_caller(node, show::command(&command)),
                command: wire::encode_command(&command),
            })
            .collect();
        self.replica(node)?.propose(proposals);
        self.settle(node)
    }

    /// Writes, and reads among them: a pair binds, a key alone is read.
    pub(crate) fn submit(
        &mut self,
        node: NodeId,
        commands: Vec<(String, Option<String>)>,
    ) -> Result<()> {
        self.replica(node)?;
        let inputs = commands.into_iter().map(|(key, value)| match value {
            None => Input::Read {
                waiter: self.new_caller(node, format!("get {key}")),
                query: Key::from(key).into(),
            },
            Some(value) => {
                let command = kv::Command::from(kv::Write::Set {
                    key: key.into(),
                    value: value.into(),
                });
                Input::Write(Proposal {
                    context: Default::default(),
                    waiter: self.new_caller(node, show::command(&command)),
                    command: wire::encode_command(&command),
                })
            }
        });
        let inputs = inputs.collect();
        self.replica(node)?.submit(inputs);
        self.settle(node)
    }

    /// A node's knowledge of the members: the members, the processes that take part, and those that it
    /// can reach.
    pub(crate) fn show_members(&mut self, node: NodeId) -> Result<String> {
        let replica = self.replica(node)?;
        let ids = |ids: &mut dyn Iterator<Item = NodeId>| {
            let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
            ids.join(" ")
        };
        let members = ids(&mut replica.members().ids());
        let reaches = ids(&mut replica.nodes().ids());
        let conf = Arc::clone(&replica.status().conf);
        let voters = show::processes(conf.voters.iter().copied());
        let learners = show::processes(conf.learners.iter().copied());
        Ok(format!(
            "n{node} members {{{members}}} voters {voters} learners {learners} reaches {{{reaches}}}"
        ))
    }

    pub(crate) fn read(&mut self, node: NodeId, keys: Vec<String>) -> Result<()> {
        self.replica(node)?;
        for key in keys {
            let waiter = self.new_caller(node, format!("get {key}"));
            self.replica(node)?.read(Key::from(key), waiter);
        }
        self.settle(node)
    }

    /// The messages that watches have got since the last call.
    pub(crate) fn show_watches(&mut self) {
        let watched = std::mem::take(&mut self.watched);
        self.trace.push_str(&watched);
    }

    /// A client that takes each bundle at once.
    pub(crate) fn watch(&mut self, node: NodeId, spec: WatchSpec) -> Result<()> {
        if let Err(refusal) = self.replica(node)?.open_watch(spec) {
            let refusal = self.names.tidy(&refusal);
            self.line(format_args!("n{node} takes no watch: {refusal}"));
        }
        self.settle(node)
    }

    /// A transaction that writes nothing.
    pub(crate) fn read_txn(&mut self, node: NodeId, txn: kv::Txn) -> Result<()> {
        let what = show::txn(&txn);
        self.query(node, what, kv::Query::Txn(Box::new(txn)))
    }

    pub(crate) fn transfer(&mut self, node: NodeId, to: Option<NodeId>) -> Result<()> {
        match self.replica(node)?.transfer_leader(to) {
            Ok(transferee) => self.line(format_args!(
                "n{node} transfers leadership to n{transferee}"
            )),
            Err(refusal) => self.line(format_args!(
                "n{node} does not transfer leadership: {refusal}"
            )),
        }
        self.settle(node)
    }

    pub(crate) fn form_without(&mut self, node: NodeId, without: BTreeSet<NodeId>) -> Result<()> {
        if let Err(refusal) = self.replica(node)?.form_without(without) {
            let refusal = self.names.tidy(&refusal);
            self.line(format_args!("n{node} forms no cluster: {refusal}"));
        }
        self.settle(node)
    }

    /// An operator lets `node` recover its cluster. With `dry_run` nothing happens; with `stray` another
    /// cluster is named.
    pub(crate) fn recover(
        &mut self,
        node: NodeId,
        mut order: Order,
        dry_run: bool,
        stray: bool,
    ) -> Result<()> {
        let ClusterId(id) = self.status(node)?.cluster_id.unwrap_or(ClusterId(0));
        order.cluster_id = ClusterId(id ^ u64::from(stray));
        let views = self.views(node);
        let replica = self.replica(node)?;
        let ended = if dry_run {
            Some(replica.may_recover(&order, views))
        } else {
            match replica.recover(order, views) {
                Ok(()) => None,
                Err(refusal) => Some(Err(refusal)),
            }
        };
        if let Some(ended) = ended {
            self.recovered(node, &ended);
        }
        self.settle(node)
    }

    /// The statuses of the others that `node` can reach.
    fn views(&self, node: NodeId) -> BTreeMap<NodeId, NodeStatus> {
        let cut = |to| self.cut.contains(&(node, to)) || self.cut.contains(&(to, node));
        let others = self.replicas.iter().filter(|(id, _)| !cut(**id));
        others
            .map(|(id, replica)| (*id, replica.status()))
            .collect()
    }

    fn recovered(&mut self, node: NodeId, ended: &std::result::Result<Recovery, Refusal>) {
        let text = match ended {
            Ok(recovery) => self.names.recovery(recovery),
            Err(refusal) => format!("recovers nothing: {}", self.names.tidy(refusal)),
        };
        self.line(format_args!("n{node} {text}"));
    }

    pub(crate) fn report_unreachable(&mut self, node: NodeId, peer: NodeId) -> Result<()> {
        let peer = self.status(peer)?.raft_id;
        self.replica(node)?.report_unreachable(peer);
        self.settle(node)
    }

    pub(crate) fn report_snapshot(
        &mut self,
        node: NodeId,
        peer: NodeId,
        delivered: bool,
    ) -> Result<()> {
        let peer = self.status(peer)?.raft_id;
        self.replica(node)?.report_snapshot(peer, delivered);
        self.settle(node)
    }

    pub(crate) fn tick(&mut self, node: NodeId) -> Result<()> {
        let time = self.clock(node);
        self.replica(node)?.set_time(time);
        self.pass(node, TICK);
        self.replica(node)?.tick();
        self.settle(node)
    }

    /// Time passes at `node`, without a tick.
    pub(crate) fn pass(&mut self, node: NodeId, millis: Millis) {
        *self.uptimes.entry(node).or_default() += millis;
    }

    /// Renews sessions: each caller asks for one.
    pub(crate) fn keep_alive(&mut self, node: NodeId, sessions: &[u64]) -> Result<()> {
        self.replica(node)?;
        for &session in sessions {
            let waiter = self.new_caller(node, format!("keep {session} alive"));
            self.replica(node)?.keep_alive(ClientId(session), waiter);
        }
        self.settle(node)
    }

    /// A page of the living sessions.
    pub(crate) fn list_sessions(&mut self, node: NodeId, after: u64, limit: usize) -> Result<()> {
        let after = ClientId(after);
        let query = kv::Query::Sessions { after, limit };
        self.query(node, "list sessions".to_owned(), query)
    }

    /// A read by one caller.
    pub(crate) fn query(&mut self, node: NodeId, what: String, query: kv::Query) -> Result<()> {
        let waiter = self.new_caller(node, what);
        self.replica(node)?.read(query, waiter);
        self.settle(node)
    }

    /// Ticks a node that hears of no leader until it asks for votes.
    pub(crate) fn time_out(&mut self, node: NodeId) -> Result<()> {
        if self.status(node)?.role == Some(Role::Leader) {
            return Err(format!("node {node} leads").into());
        }
        let before = self.take_trace();
        for tick in 1..=self.raft.election_max_ticks {
            self.tick(node)?;
            if self.trace.contains(" RequestVote ") {
                let told = self.take_trace();
                self.trace = format!("{before}n{node} times out after {tick} ticks\n{told}");
                return Ok(());
            }
        }
        Err(format!("node {node} asks for no votes").into())
    }

    /// The process of `node` ends; its state and its waiting callers are lost.
    pub(crate) fn crash(&mut self, node: NodeId) -> Result<()> {
        self.replica(node)?;
        self.replicas.remove(&node);
        let mut lost = String::new();
        for (number, caller) in self.callers.iter_mut().enumerate() {
            if let Some((_, what)) = caller.take_if(|(owner, _)| *owner == node) {
                lost.push_str(&format!(
                    "n{node} ⇒ #{} {what}: lost with its node\n",
                    number + 1
                ));
            }
        }
        self.trace.push_str(&lost);
        Ok(())
    }

    pub(crate) fn restart(&mut self, node: NodeId, level: Option<ProtocolLevel>) -> Result<()> {
        if let Some(level) = level {
            self.levels.insert(node, level);
        }
        if self.alive(node) {
            self.crash(node)?;
        }
        self.begin(node);
        Ok(())
    }

    /// Cuts the link from one node to another, in that direction only.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Carries out the output of a replica, as the driver does: answers, events, messages, calls.
    fn settle(&mut self, node: NodeId) -> Result<()> {
        if let Some(ended) = self.replica(node)?.take_recovered() {
            self.recovered(node, &ended);
        }
        let uptime = self.uptimes.get(&node).copied().unwrap_or_default();
        let replica = self.replica(node)?;
        replica.set_uptime(uptime);
        replica.advance_clock();
        let (raft_id, output) = (replica.raft_id(), replica.output());
        let Output {
            answers,
            events,
            messages,
            snapshots,
            calls,
            watches,
            locks: _,
            retired: _,
        } = output.map_err(|error| format!("node {node} has failed: {error}"))?;
        let name = show::process(raft_id);
        let removed = |event: &Event| matches!(event, Event::Removed { .. });
        let ends = events.iter().any(removed);
        for (waiter, outcome) in answers {
            self.answer(&name, waiter, &outcome)?;
        }
        if !events.is_empty() {
            let events: Vec<_> = events.iter().map(|event| self.names.event(event)).collect();
            self.line(format_args!("{name}: {}", events.join("; ")));
        }
        for message in messages {
            let to = message.envelope()?.to;
            let text = show::message(&message);
            self.send(
                raft_id,
                to.node_id(),
                '→',
                &show::process(to),
                &text,
                Content::Message(message),
            );
        }
        for snapshot in snapshots {
            let to = snapshot.header.envelope()?.to;
            let text = show::snapshot(&snapshot);
            self.send(
                raft_id,
                to.node_id(),
                '→',
                &show::process(to),
                &text,
                Content::Snapshot(Box::new(snapshot)),
            );
        }
        for (id, call) in calls {
            let to = id.to;
            let text = self.names.call(&call);
            self.send(
                raft_id,
                to,
                '⇢',
                &format!("n{to}"),
                &text,
                Content::Call(raft_id, id, call),
            );
        }
        for (id, bundle) in watches {
            let text = self.names.bundle(&bundle);
            let line = format!("{name} ⇒ watch {}: {text}\n", id.0);
            self.watched.push_str(&line);
            self.replica(node)?.watch_taken(id);
        }
        if self.replica(node)?.has_watch_output() {
            return self.settle(node);
        }
        if ends {
            // The driver ends with it.
            return self.crash(node);
        }
        self.check(node)
    }

    fn answer(&mut self, name: &str, Waiter(number): Waiter, outcome: &Outcome) -> Result<()> {
        let caller = self.callers.get_mut(number).and_then(Option::take);
        let (_, what) = caller.ok_or_else(|| format!("#{} is answered twice", number + 1))?;
        let outcome = self.names.tidy(&show::outcome(outcome));
        self.line(format_args!("{name} ⇒ #{} {what}: {outcome}", number + 1));
        Ok(())
    }

    /// The invariants of any moment: a replica owes answers to exactly the callers that wait for it, and
    /// no term has two leaders.
    fn check(&mut self, node: NodeId) -> Result<()> {
        let replica = self.replica(node)?;
        let owed = replica.raft().map_or(0, RaftNode::waiting);
        let leads = replica.raft().filter(|raft| raft.role() == Role::Leader);
        let leads = leads.map(|raft| (raft.cluster_id(), raft.term(), raft.raft_id()));
        let callers = self.callers.iter().flatten();
        let waiting = callers.filter(|(owner, _)| *owner == node).count();
        if owed != waiting {
            return Err(format!("node {node} owes {owed} answers, and {waiting} wait").into());
        }
        if let Some((cluster, term, raft_id)) = leads {
            let leader = *self.leaders.entry((cluster, term)).or_insert(raft_id);
            if leader != raft_id {
                return Err(format!("{leader} and {raft_id} lead in term {term}").into());
            }
        }
        Ok(())
    }

    /// Sends a packet, or loses it on a link that is cut or leads nowhere.
    fn send(
        &mut self,
        from: RaftId,
        to: NodeId,
        arrow: char,
        to_name: &str,
        text: &str,
        content: Content,
    ) {
        let name = show::process(from);
        let from = from.node_id();
        if self.cut.contains(&(from, to)) || !self.alive(to) {
            self.line(format_args!("{name} ✗ {to_name} {text}"));
            // The caller learns that its call failed. The sender of a message learns nothing.
            if let Content::Call(caller, id, _) = content {
                self.fail(caller, id);
            }
        } else {
            self.line(format_args!("{name} {arrow} {to_name} {text}"));
            self.network.push(Packet { from, to, content });
        }
    }

    fn fail(&mut self, caller: RaftId, id: CallId) {
        self.network.push(Packet {
            from: id.to,
            to: caller.node_id(),
            content: Content::Reply(caller, id, Reply::Failed),
        });
    }

    /// Sends a message that no replica has sent. Its link may be cut.
    pub(crate) fn inject(&mut self, message: PeerMessage) -> Result<()> {
        let (from, to) = (message.envelope()?.from, message.envelope()?.to);
        self.names.learn(from);
        let text = show::message(&message);
        self.line(format_args!(
            "{} → {} {text}",
            show::process(from),
            show::process(to)
        ));
        self.network.push(Packet {
            from: from.node_id(),
            to: to.node_id(),
            content: Content::Message(message),
        });
        Ok(())
    }

    /// As [`inject`](Self::inject), for a snapshot.
    pub(crate) fn inject_snapshot(&mut self, snapshot: OutgoingSnapshot) -> Result<()> {
        let envelope = snapshot.header.envelope()?;
        self.names.learn(envelope.from);
        let text = show::snapshot(&snapshot);
        self.line(format_args!(
            "{} → {} {text}",
            show::process(envelope.from),
            show::process(envelope.to)
        ));
        self.network.push(Packet {
            from: envelope.from.node_id(),
            to: envelope.to.node_id(),
            content: Content::Snapshot(Box::new(snapshot)),
        });
        Ok(())
    }

    fn take(&mut self, filter: &Filter) -> Vec<Packet> {
        let mut limit = filter.limit.unwrap_or(usize::MAX);
        let network = std::mem::take(&mut self.network);
        let (taken, left) = network.into_iter().partition(|packet| {
            let take = limit > 0 && filter.holds(packet);
            limit -= usize::from(take);
            take
        });
        self.network = left;
        taken
    }

    /// Delivers the packets under way, not the packets that result. As the driver does, a replica takes
    /// all its packets before it puts anything out. Returns the number of packets.
    pub(crate) fn deliver(&mut self, filter: &Filter) -> Result<usize> {
        let mut arrived = BTreeMap::<NodeId, Vec<Packet>>::new();
        let taken = self.take(filter);
        let count = taken.len();
        for packet in taken {
            arrived.entry(packet.to).or_default().push(packet);
        }
        for (node, packets) in arrived {
            for packet in packets {
                self.deliver_packet(packet)?;
            }
            if self.alive(node) {
                self.settle(node)?;
            }
        }
        Ok(count)
    }

    /// Loses the packets under way.
    pub(crate) fn lose(&mut self, filter: &Filter) {
        for Packet { from, to, content } in self.take(filter) {
            match content {
                Content::Message(message) => {
                    self.line(format_args!("n{from} ✗ n{to} {}", show::message(&message)));
                }
                Content::Snapshot(snapshot) => {
                    let text = show::snapshot(&snapshot);
                    self.line(format_args!("n{from} ✗ n{to} {text}"));
                }
                Content::Call(caller, id, call) => {
                    let text = self.names.call(&call);
                    self.line(format_args!("n{from} ✗ n{to} {text}"));
                    self.fail(caller, id);
                }
                Content::Reply(caller, id, reply) => {
                    let text = self.names.reply(&reply);
                    self.line(format_args!("n{from} ✗ n{to} {text}"));
                    self.fail(caller, id);
                }
            }
        }
    }

    fn deliver_packet(&mut self, Packet { from, to, content }: Packet) -> Result<()> {
        if !self.alive(to) {
            if let Content::Call(caller, id, _) = content {
                self.fail(caller, id);
            }
            return Ok(());
        }
        match content {
            Content::Message(message) => {
                let what = message.name();
                let stepped = self.replica(to)?.step(message);
                self.refused(from, to, what, stepped)?;
            }
            Content::Snapshot(snapshot) => {
                let OutgoingSnapshot {
                    header,
                    state_machine,
                } = *snapshot;
                let installed = self.replica(to)?.install(header, state_machine);
                self.refused(from, to, "InstallSnapshot", installed)?;
            }
            Content::Call(caller, id, call) => {
                let raft_id = self.status(to)?.raft_id;
                let reply = self.serve(to, call)?;
                let text = self.names.reply(&reply);
                let caller_name = show::process(caller);
                self.send(
                    raft_id,
                    from,
                    '⇢',
                    &caller_name,
                    &text,
                    Content::Reply(caller, id, reply),
                );
            }
            Content::Reply(caller, id, reply) => {
                if self.status(to)?.raft_id == caller {
                    self.replica(to)?.replied(id, reply);
                }
            }
        }
        Ok(())
    }

    fn refused(
        &mut self,
        from: NodeId,
        to: NodeId,
        what: &str,
        taken: std::result::Result<(), StepError>,
    ) -> Result<()> {
        if let Err(error) = taken {
            let error = self.names.tidy(&error);
            let to = show::process(self.status(to)?.raft_id);
            self.line(format_args!("{to} refuses {what} of n{from}: {error}"));
        }
        Ok(())
    }

    /// The reply of a replica to a call, as the transport carries it: an outside process reports that it
    /// is fresh, and an offer or a start is for the process that it names.
    fn serve(&mut self, node: NodeId, call: Call) -> Result<Reply> {
        let replica = self.replica(node)?;
        let raft_id = replica.raft_id();
        Ok(match call {
            Call::Identify(by) => {
                replica.asked(&by);
                let mut status = replica.status();
                if status.state == NodeState::Outside {
                    status.state = NodeState::Fresh;
                    status.cluster_id = None;
                }
                Reply::Identified(Box::new(status))
            }
            Call::Offer(offer) | Call::Start(offer) if !offer.members.contains(&raft_id) => {
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
            Call::Yield { to, .. } if to != raft_id => Reply::Failed,
            Call::Yield { claim, .. } => Reply::Yielded {
                attempt: claim.attempt,
                answer: replica.yield_to(&claim),
            },
        })
    }
}
