//! Processes, a network between them, clients and an operator, and one clock.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seshat::kv::Command;
use seshat::types::NodeId;

use crate::clients::{Clients, Waiter};
use crate::clusters::Clusters;
use crate::final_check::FinalCheck;
use crate::invariants::one_leader_a_term::Leaders;
use crate::invariants::{Verdict, Violation};
use crate::network::{Climate, Network};
use crate::numbered::Attempt;
use crate::operator::Operator;
use crate::process::{Incarnation, Input, Process, TransferId};
use crate::restarts::{Files, Healing};
use crate::sabotage::Sabotage;
use crate::setting::{Scope, Setting};
use crate::snapshots::Transfer;
use crate::summary::Summary;
use crate::trace::{Show, Trace};
use crate::watches::{self, Watching};

/// Milliseconds between two ticks of a node.
pub(crate) const TICK: u64 = 100;
/// Milliseconds before the end at which clients stop, so that all can be answered.
pub(crate) const SILENCE: u64 = 1_500;

/// The bound on the state in every third run of the wide world: less than all keys and sessions of the
/// clients.
const LITTLE_STATE: usize = 6_000;

/// The parameters of a run besides its seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) show: Show,
    pub(crate) scope: Scope,
    /// The rule that is broken on purpose.
    pub(crate) sabotage: Option<Sabotage>,
    /// How often nodes are slow or frozen and clocks stand still.
    pub(crate) troubles: HowMany,
    /// How often several nodes lose their memory at once.
    pub(crate) disasters: HowMany,
}

/// How often something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HowMany {
    Never,
    /// The seed decides.
    Drawn,
    Often,
}

impl Plan {
    /// Every fault, and every rule kept.
    pub(crate) fn new(scope: Scope, show: Show) -> Self {
        Self {
            show,
            scope,
            sabotage: None,
            troubles: HowMany::Drawn,
            disasters: HowMany::Drawn,
        }
    }
}

/// Something that happens at some time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// An input reaches a node; the process that runs there takes it, unless it is for one incarnation
    /// alone.
    Input {
        node: NodeId,
        incarnation: Option<Incarnation>,
        /// Boxed, because the agenda moves its items.
        input: Box<Input>,
    },
    /// A busy process is free again.
    Wake {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// Clients ask.
    Ask,
    /// Clients that watch take what has come, or go on at another node.
    Watch,
    /// A client with a session that lives asks.
    Live,
    /// A client that shares locks asks.
    Lock,
    /// Clients write as much as they can, for a tick.
    Load {
        until: u64,
    },
    /// A copy of a request arrives somewhere, late.
    Copy {
        attempt: Attempt,
        command: Command,
    },
    Nemesis,
    Trouble,
    Restart,
    RestartHealing {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// A node loses its memory, and may be switched off for a while.
    Accident,
    /// Several nodes lose their memory at once.
    Disaster(Vec<NodeId>),
    /// A node is cut off for a moment.
    CutOff(NodeId),
    /// A node is switched on, if it is off.
    SwitchOn(NodeId),
    /// The operator reads the status.
    Operate,
    /// The next chunk of a snapshot is due.
    Chunk(TransferId),
    /// The faults end.
    Calm,
    /// Checks the progress of the final check.
    FinalCheck,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) setting: Setting,
    pub(crate) rng: StdRng,
    pub(crate) now: u64,
    sequence: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    /// The running processes. A node without one is switched off.
    pub(crate) processes: BTreeMap<NodeId, Process>,
    pub(crate) files: Files,
    pub(crate) incarnations: Incarnation,
    pub(crate) climate: Climate,
    pub(crate) network: Network,
    /// The time at which each link has carried its messages.
    pub(crate) links: BTreeMap<(NodeId, NodeId), u64>,
    /// The arrival time of the last append, or answer to one, on a link.
    pub(crate) streams: BTreeMap<(NodeId, NodeId), u64>,
    pub(crate) transfers: BTreeMap<TransferId, Transfer>,
    pub(crate) clients: Clients,
    pub(crate) watching: Watching,
    /// Conditions that a leader has decided before its log, on purpose.
    pub(crate) decided: BTreeMap<Waiter, bool>,
    /// When all sessions were renewed, on purpose.
    pub(crate) renewed_at: u64,
    pub(crate) operator: Operator,
    pub(crate) calm: bool,
    pub(crate) healing: Option<Healing>,
    pub(crate) final_check: FinalCheck,
    pub(crate) leaders: Leaders,
    pub(crate) clusters: Clusters,
    pub(crate) summary: Summary,
    pub(crate) trace: Trace,
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
        let mut setting = match plan.scope {
            Scope::Narrow => Setting::narrow(),
            Scope::Wide => Setting::wide(&mut rng, plan.disasters),
        };
        // Every fourth run has a newer version, some from the beginning. Not drawn from the seed, which
        // would change all other runs.
        setting.upgraded_at = (seed % 4 == 1).then_some(seed % 7 * 1_500);
        setting.hangs = match plan.disasters {
            HowMany::Often => Some(4_000 + seed % 5 * 1_000),
            HowMany::Drawn | HowMany::Never => (seed % 5 == 3).then_some(2_000 + seed % 7 * 1_000),
        };
        // Some of them before a cluster forms, and some before the level is raised.
        if plan.scope == Scope::Wide && (seed % 6 == 4 || seed % 12 == 5) {
            let node = 1 + u16::try_from(seed % u64::from(setting.founders)).expect("small");
            let ahead = (seed % 24 < 12).then_some(3 * 3_600_000);
            setting.lying = Some((crate::setting::node_id(node), ahead));
        }
        setting.direct(plan.sabotage);
        setting.raft.watch = watches::bounds(seed);
        if plan.scope == Scope::Wide && seed % 3 == 2 {
            setting.raft.max_state_bytes = LITTLE_STATE;
        }
        let mut world = Self {
            seed,
            plan,
            files: Files::new(&setting),
            setting,
            rng,
            now: 0,
            sequence: 0,
            agenda: BTreeMap::new(),
            processes: BTreeMap::new(),
            incarnations: 0,
            climate,
            network: Network::healthy(),
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            transfers: BTreeMap::new(),
            clients: Clients::new(seed),
            watching: Watching::new(seed),
            decided: BTreeMap::new(),
            renewed_at: 0,
            operator: Operator::default(),
            calm: false,
            healing: None,
            final_check: FinalCheck::default(),
            leaders: Leaders::default(),
            clusters: Clusters::default(),
            summary: Summary::default(),
            trace: Trace::new(plan.show),
        };
        let setting = &world.setting;
        world
            .trace
            .line(0, format_args!("seed {seed}: {climate:?} {setting:?}"));
        world.begin_all();
        world
    }

    /// The events of every run.
    fn begin_all(&mut self) {
        for id in 1..=self.setting.founders {
            let node = crate::setting::node_id(id);
            if !self.setting.late.contains(&node) {
                self.begin(node);
            }
        }
        let first_restart = self.rng.gen_range(1..3_000);
        self.schedule(0, Happening::Nemesis);
        self.schedule(0, Happening::Ask);
        self.schedule(0, Happening::Watch);
        self.schedule(0, Happening::Live);
        self.schedule(0, Happening::Lock);
        self.schedule(1_000, Happening::Trouble);
        self.schedule(self.setting.faulty, Happening::Calm);
        if self.setting.scope == Scope::Narrow {
            self.schedule(first_restart, Happening::Restart);
            return;
        }
        self.schedule(first_restart, Happening::Accident);
        self.schedule(500, Happening::Operate);
        if let Some((at, nodes)) = self.setting.disaster.clone() {
            // The survivors do not all have the same state.
            let survivor = self
                .setting
                .node_ids()
                .into_iter()
                .rfind(|it| !nodes.contains(it));
            if let Some(survivor) = survivor.filter(|_| self.rng.gen_bool(0.7)) {
                self.schedule(at.saturating_sub(300), Happening::CutOff(survivor));
            }
            self.schedule(at, Happening::Disaster(nodes));
        }
        if self.setting.load.is_some() {
            // Much is under way when a disaster happens.
            let disaster = self.setting.disaster.as_ref();
            let at = match disaster {
                Some((at, _)) => at.saturating_sub(400),
                None => self.rng.gen_range(1_000..12_000),
            };
            let until = at + self.rng.gen_range(500..3_000);
            self.schedule(at, Happening::Load { until });
        }
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
        incarnation: Option<Incarnation>,
        input: Input,
    ) {
        let input = Box::new(input);
        self.schedule(
            delay,
            Happening::Input {
                node,
                incarnation,
                input,
            },
        );
    }

    pub(crate) fn schedule_tick(&mut self, node: NodeId, incarnation: Incarnation, delay: u64) {
        self.schedule_input(delay, node, Some(incarnation), Input::Tick);
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
        let logs = || self.clusters.logs().map(|(_, log)| log);
        Ok(Summary {
            seeds: 1,
            acknowledged: count(clients.acknowledged.len()),
            reads: clients.reads,
            refused: clients.refused,
            full: clients.full,
            numbered: count(clients.sessions.writes().count()),
            retries: clients.sessions.retries,
            suppressed: count(logs().map(|log| log.once.suppressed()).sum()),
            transactions: clients.transactions.answered,
            conditional: clients.transactions.conditional,
            terms: count(leaders.terms()),
            entries: count(logs().map(|log| log.len()).sum()),
            lives: clients.living.lives.clone(),
            hands: clients.locking.hands.clone(),
            trace: self.trace.digest(),
            ..self.summary
        })
    }

    fn run_to_the_end(&mut self) -> Verdict {
        while let Some(((now, _), happening)) = self.agenda.pop_first() {
            if now > self.setting.end() {
                break;
            }
            self.now = now;
            self.happen(happening)?;
        }
        self.finish_watches()?;
        self.clients.give_up();
        self.check_end()
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Input {
                node,
                incarnation,
                input,
            } => return self.arrive(node, incarnation, *input),
            Happening::Wake { node, incarnation } => return self.wake(node, incarnation),
            Happening::Ask => return self.ask(),
            Happening::Watch => return self.watch(),
            Happening::Live => return self.live(),
            Happening::Lock => return self.lock(),
            Happening::Load { until } => return self.load(until),
            Happening::Copy { attempt, command } => return self.ask_again(attempt, command),
            Happening::Operate => return self.operate(),
            Happening::FinalCheck => return self.advance_final_check(),
            Happening::Nemesis => self.nemesis(),
            Happening::Trouble => self.trouble(),
            Happening::Restart => self.restart(),
            Happening::RestartHealing { node, incarnation } => {
                self.restart_healing(node, incarnation)
            }
            Happening::Accident => self.accident(),
            Happening::Disaster(nodes) => self.disaster(&nodes),
            Happening::CutOff(node) => self.cut_off(node),
            Happening::SwitchOn(node) => self.switch_on(node),
            Happening::Chunk(transfer) => self.send_chunk(transfer),
            Happening::Calm => {
                self.trace.line(self.now, format_args!("calm"));
                self.calm = true;
                self.network = Network::healthy();
                self.end_troubles();
                if self.setting.scope == Scope::Wide {
                    self.schedule(0, Happening::FinalCheck);
                }
            }
        }
        Ok(())
    }

    fn nemesis(&mut self) {
        if self.calm {
            return;
        }
        self.network = self.climate.network(&mut self.rng, &self.setting);
        self.trace
            .line(self.now, format_args!("nemesis: {}", self.network));
        let next = self.rng.gen_range(500..4_000);
        self.schedule(next, Happening::Nemesis);
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("small")
}
