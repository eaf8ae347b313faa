//! Three processes, a network between them, clients in front of them, and one clock.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seshat::kv::Command;
use seshat::node::{Event, Output, Proposal};
use seshat::types::{ClusterMembership, NodeId, NodeInfo};
use seshat::wire;

use crate::clients::{Clients, Request, Waiter};
use crate::invariants::equal_logs::Log;
use crate::invariants::one_leader_a_term::Leaders;
use crate::invariants::{
    Verdict, Violation, acknowledged_writes_are_kept, everybody_is_answered, linearizable,
    nobody_breaks, one_cluster, reads_see_the_log, served_after_the_calm, waiters_end_once,
    well_after_the_calm,
};
use crate::network::{Climate, Network};
use crate::numbered::Attempt;
use crate::process::{Input, Life, Process};
use crate::restarts::Healing;
use crate::sabotage::{Sabotage, without_number};
use crate::summary::Summary;
use crate::trace::{Show, Trace};

/// Milliseconds between two ticks of a node.
pub(crate) const TICK: u64 = 100;
/// Milliseconds for which a run has faults.
const FAULTY: u64 = 60_000;
/// Milliseconds after the last fault by which everything must be well again.
const CALM: u64 = 10_000;
/// Milliseconds before the end by which clients cease to ask, so that all can be answered.
const SILENCE: u64 = 1_500;
/// Milliseconds before the end in which a write and a read must have been answered.
const SERVED_WITHIN: u64 = 3_000;

/// What a run is, beside its seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) show: Show,
    /// The rule that is broken on purpose.
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) troubles: HowMany,
}

/// How often nodes are slow or frozen and clocks stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HowMany {
    Never,
    /// The seed decides.
    Drawn,
    Often,
}

impl Plan {
    /// Every fault, and every rule kept.
    pub(crate) fn new(show: Show) -> Self {
        Self {
            show,
            sabotage: None,
            troubles: HowMany::Drawn,
        }
    }
}

/// Something that happens at some time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Something reaches a node; whoever lives there takes it, unless it is for one life alone.
    Input {
        node: NodeId,
        life: Option<Life>,
        /// Boxed, as the agenda moves what it holds about.
        input: Box<Input>,
    },
    /// A busy process is free again.
    Wake {
        node: NodeId,
        life: Life,
    },
    /// Clients ask.
    Ask,
    /// A copy of what a client has sent arrives somewhere, late.
    Copy {
        attempt: Attempt,
        command: Command,
    },
    Weather,
    Trouble,
    Restart,
    RestartHealing {
        node: NodeId,
        life: Life,
    },
    /// The faults end.
    Calm,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: StdRng,
    pub(crate) now: u64,
    sequence: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    pub(crate) processes: BTreeMap<NodeId, Process>,
    pub(crate) lives: Life,
    pub(crate) climate: Climate,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) calm: bool,
    pub(crate) healing: Option<Healing>,
    leaders: Leaders,
    pub(crate) log: Log,
    pub(crate) summary: Summary,
    pub(crate) trace: Trace,
}

pub(crate) fn node_ids() -> Vec<NodeId> {
    (1..=3).filter_map(NodeId::new).collect()
}

pub(crate) fn membership() -> ClusterMembership {
    let info = |id: NodeId| NodeInfo {
        id,
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    };
    node_ids().into_iter().map(info).collect()
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut climate = Climate::draw(&mut rng);
        match plan.troubles {
            HowMany::Never => climate.troubles_within = None,
            HowMany::Drawn => {}
            HowMany::Often => climate.troubles_within = Some(4_000),
        }
        let mut world = Self {
            plan,
            rng,
            now: 0,
            sequence: 0,
            agenda: BTreeMap::new(),
            processes: BTreeMap::new(),
            lives: 0,
            climate,
            network: Network::healthy(),
            clients: Clients::default(),
            calm: false,
            healing: None,
            leaders: Leaders::default(),
            log: Log::default(),
            summary: Summary::default(),
            trace: Trace::new(plan.show),
        };
        world
            .trace
            .line(0, format_args!("seed {seed}: {climate:?}"));
        for node in node_ids() {
            world.begin(node);
        }
        let first_restart = world.rng.gen_range(1..3_000);
        world.schedule(0, Happening::Weather);
        world.schedule(0, Happening::Ask);
        world.schedule(1_000, Happening::Trouble);
        world.schedule(first_restart, Happening::Restart);
        world.schedule(FAULTY, Happening::Calm);
        world
    }

    pub(crate) fn schedule(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.agenda
            .insert((self.now + delay, self.sequence), happening);
    }

    pub(crate) fn schedule_input(
        &mut self,
        delay: u64,
        node: NodeId,
        life: Option<Life>,
        input: Input,
    ) {
        let input = Box::new(input);
        self.schedule(delay, Happening::Input { node, life, input });
    }

    pub(crate) fn schedule_tick(&mut self, node: NodeId, life: Life, delay: u64) {
        self.schedule_input(delay, node, Some(life), Input::Tick);
    }

    /// Runs to the end and checks everything.
    pub(crate) fn run(mut self) -> Result<Summary, Violation> {
        let verdict = self.run_to_the_end();
        verdict.map_err(|violation| {
            let at = self.now;
            Violation { at, ..violation }
        })?;
        let Self {
            clients, leaders, ..
        } = &self;
        Ok(Summary {
            seeds: 1,
            acknowledged: count(clients.acknowledged.len()),
            reads: clients.reads,
            refused: clients.refused,
            numbered: count(clients.sessions.writes().count()),
            retries: clients.sessions.retries,
            suppressed: count(self.log.once.suppressed()),
            terms: count(leaders.terms()),
            entries: count(self.log.len()),
            trace: self.trace.digest(),
            ..self.summary
        })
    }

    fn run_to_the_end(&mut self) -> Verdict {
        while let Some(((now, _), happening)) = self.agenda.pop_first() {
            if now > FAULTY + CALM {
                break;
            }
            self.now = now;
            self.happen(happening)?;
        }
        self.clients.give_up();
        self.check_end()
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Input { node, life, input } => return self.arrive(node, life, *input),
            Happening::Wake { node, life } => return self.wake(node, life),
            Happening::Ask => return self.ask(),
            Happening::Copy { attempt, command } => return self.ask_again(attempt, command),
            Happening::Weather => self.weather(),
            Happening::Trouble => self.trouble(),
            Happening::Restart => self.restart(),
            Happening::RestartHealing { node, life } => self.restart_healing(node, life),
            Happening::Calm => {
                self.trace.line(self.now, format_args!("calm"));
                self.calm = true;
                self.network = Network::healthy();
                self.end_troubles();
            }
        }
        Ok(())
    }

    fn weather(&mut self) {
        if self.calm {
            return;
        }
        self.network = self.climate.network(&mut self.rng, &node_ids());
        self.trace
            .line(self.now, format_args!("weather: {}", self.network));
        let next = self.rng.gen_range(500..4_000);
        self.schedule(next, Happening::Weather);
    }

    /// Some node; with the given probability one that believes to lead, if there is one.
    pub(crate) fn some_node(&mut self, leader: f64) -> NodeId {
        let leaders = self.processes.iter().filter(|(_, it)| it.leads().is_some());
        let leaders: Vec<_> = leaders.map(|(&node, _)| node).collect();
        let from = if !leaders.is_empty() && self.rng.gen_bool(leader) {
            leaders
        } else {
            node_ids()
        };
        from[self.rng.gen_range(0..from.len())]
    }

    /// Clients ask some node, mostly one that leads.
    fn ask(&mut self) -> Verdict {
        let next = self.rng.gen_range(1..60);
        if self.now + next < FAULTY + CALM - SILENCE {
            self.schedule(next, Happening::Ask);
        }
        let node = self.some_node(0.85);
        let mut requests = Vec::new();
        // Several callers often come in one turn of the driver.
        for _ in 0..self.rng.gen_range(1..=4) {
            let (waiter, request) = self.clients.ask(&mut self.rng, node, self.now);
            self.trace
                .line(self.now, format_args!("{waiter} asks {node}: {request:?}"));
            self.copy(node, waiter, &request, &mut requests);
            requests.push((waiter, request));
        }
        self.arrive(node, None, Input::Requests(requests))
    }

    /// What a client with a session sends may be doubled on its way: the copy comes at once, or much
    /// later and somewhere else.
    fn copy(
        &mut self,
        node: NodeId,
        waiter: Waiter,
        request: &Request,
        requests: &mut Vec<(Waiter, Request)>,
    ) {
        let (Some(attempt), Request::Write(command)) = (self.clients.attempt(waiter), request)
        else {
            return;
        };
        let command = command.clone();
        match self.rng.gen_range(0..10) {
            0 => {
                self.clients.sessions.retries += 1;
                let copy = self.clients.send(attempt, command, node, self.now);
                self.trace
                    .line(self.now, format_args!("{} is a copy of {waiter}", copy.0));
                requests.push(copy);
            }
            1 => {
                let within = [100, 2_000, 30_000][self.rng.gen_range(0..3)];
                let delay = self.rng.gen_range(1..within);
                self.schedule(delay, Happening::Copy { attempt, command });
            }
            _ => {}
        }
    }

    /// A late copy arrives.
    fn ask_again(&mut self, attempt: Attempt, command: Command) -> Verdict {
        if self.now >= FAULTY + CALM - SILENCE {
            return Ok(());
        }
        self.clients.sessions.retries += 1;
        let node = self.some_node(0.85);
        let (waiter, request) = self.clients.send(attempt, command, node, self.now);
        self.trace.line(
            self.now,
            format_args!("{waiter} is a late copy at {node}: {request:?}"),
        );
        self.arrive(node, None, Input::Requests(vec![(waiter, request)]))
    }

    /// The process at `node` takes `input`.
    pub(crate) fn take(&mut self, node: NodeId, input: Input) -> Verdict {
        let now = self.now;
        let process = self.processes.get_mut(&node).expect("every node lives");
        let life = process.life;
        match input {
            Input::Tick if process.stalled_until > now => {
                let rest = process.stalled_until - now;
                self.schedule_tick(node, life, rest.min(TICK));
                return Ok(());
            }
            Input::Tick => {
                process.ticks.push(now);
                process.member.tick();
                // Clocks do not run alike.
                let next = TICK + self.rng.gen_range(0..=TICK / 20);
                self.schedule_tick(node, life, next);
            }
            Input::Message { message, sent_at } => self.deliver(node, message, sent_at),
            Input::Snapshot {
                header,
                state_machine,
            } => self.install(node, header, state_machine),
            Input::SnapshotReport { to, delivered } => {
                process.member.report_snapshot(to, delivered);
            }
            Input::Call { from, id, call } => self.answer_call(from, id, node, call),
            Input::Reply { id, reply } => process.member.replied(id, reply),
            Input::Requests(requests) => {
                for (waiter, request) in requests {
                    self.request(node, waiter, request)?;
                }
            }
        }
        self.settle(node)
    }

    fn request(&mut self, node: NodeId, waiter: Waiter, request: Request) -> Verdict {
        if let Request::Read(key) = &request
            && let Some(answer) = self.local_read(node, key)
        {
            self.trace.line(
                self.now,
                format_args!("{waiter} is told at once {answer:?}"),
            );
            return self.clients.told(waiter, &Ok(answer), self.now);
        }
        self.clients.taken(waiter);
        let process = self.processes.get_mut(&node).expect("every node lives");
        match request {
            Request::Write(command) => {
                let command = match self.plan.sabotage {
                    Some(Sabotage::NoNumbers) => without_number(command),
                    _ => command,
                };
                process.member.propose(vec![Proposal {
                    context: Default::default(),
                    command: wire::encode_command(&command),
                    waiter,
                }]);
            }
            Request::Read(key) => process.member.read(key, waiter),
        }
        Ok(())
    }

    /// Carries out what a node puts out, and checks what can be checked at any moment.
    fn settle(&mut self, node: NodeId) -> Verdict {
        let process = self.processes.get_mut(&node).expect("every node lives");
        let (life, raft_id) = (process.life, process.member.raft_id());
        let output = process.member.output();
        let Output {
            answers,
            events,
            messages,
            snapshots,
            calls,
            retired: _,
        } = output.map_err(|error| nobody_breaks::broken(raft_id, &error))?;
        for (waiter, outcome) in answers {
            self.trace
                .line(self.now, format_args!("{waiter} is told {outcome:?}"));
            self.clients.told(waiter, &outcome, self.now)?;
        }
        for event in events {
            self.trace.line(self.now, format_args!("{node}: {event:?}"));
            if matches!(event, Event::SnapshotInstalled { .. }) {
                self.summary.snapshots += 1;
            }
        }
        for message in messages {
            self.send(raft_id, message);
        }
        for snapshot in snapshots {
            self.send_snapshot(raft_id, life, snapshot);
        }
        for (id, call) in calls {
            self.call(node, life, id, &call);
        }
        if self.plan.sabotage == Some(Sabotage::EarlyAcknowledgements) {
            self.acknowledge_early(node);
        }
        self.check(node)
    }

    /// What must hold at any moment, as far as `node` may have changed it.
    fn check(&mut self, node: NodeId) -> Verdict {
        let process = &self.processes[&node];
        let Some(raft) = process.member.raft() else {
            return waiters_end_once::check(&process.member, &self.clients);
        };
        self.leaders.check(raft)?;
        self.log.check(raft)?;
        waiters_end_once::check(&process.member, &self.clients)?;
        one_cluster::check(self.processes.values().map(|process| &process.member))?;
        if process.leads().is_some() {
            self.watch_healing();
        }
        Ok(())
    }

    /// What must hold when the calm has lasted. Safety first: a run that halts must not be wrong.
    fn check_end(&self) -> Verdict {
        let members = || self.processes.values().map(|process| &process.member);
        for raft in members().filter_map(|member| member.raft()) {
            self.log.check_map(raft.raft_id(), raft.storage())?;
        }
        linearizable::check(&self.clients)?;
        reads_see_the_log::check(&self.clients.seen, &self.log)?;
        self.clients.sessions.check(&self.log.once)?;
        acknowledged_writes_are_kept::check(&self.clients.acknowledged, &self.log)?;
        everybody_is_answered::check(&self.clients)?;
        served_after_the_calm::check(&self.clients, FAULTY + CALM - SERVED_WITHIN)?;
        well_after_the_calm::check(members(), self.healed(), &self.log)
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("small")
}
