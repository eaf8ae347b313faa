//! The nodes, their clients, and their faults: one run, decided by its seed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seshat::config::Limits;
use turmoil::Sim;

use crate::clients::Habits;
use crate::crew;
use crate::falls::{Doom, Fallen};
use crate::health::{self, Health};
use crate::logs::Logs;
use crate::nemesis::{Nemesis, host};
use crate::node::Cradle;
use crate::operator;
use crate::plan::Plan;
use crate::runs;
use crate::shared::Shared;

/// The longest time in which a whole cluster heals, and every client gets its last answers.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The flaw of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// The network delivers a write a second time, later.
    Repeats,
    /// A node without memory returns under its former raft id.
    KeptIds,
    /// A repeated write of a session does not carry its number.
    Unnumbered,
    /// A conditional write that may have been applied is sent again without a session.
    Resent,
    /// Clients do not ask whether they have lost their living sessions.
    Trusting,
    /// Clients do not ask whether they have lost their locks, and their writes do not need these.
    Unfenced,
    /// The nodes that are to be added form a cluster of their own.
    Apart,
    /// The operator who recovers the cluster believes that the survivor had every write.
    Overstated,
}

impl Flaw {
    /// All of them, and none.
    pub(crate) const ALL: [Self; 9] = [
        Self::None,
        Self::Repeats,
        Self::KeptIds,
        Self::Unnumbered,
        Self::Resent,
        Self::Trusting,
        Self::Unfenced,
        Self::Apart,
        Self::Overstated,
    ];
}

/// One run.
pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) sim: Sim<'static>,
    pub(crate) shared: Rc<Shared>,
    pub(crate) logs: Logs,
    pub(crate) plan: Plan,
    pub(crate) cradles: Vec<Cradle>,
    pub(crate) clients: Vec<String>,
    /// When the client that may crash does so, or starts again.
    pub(crate) next_client_fall: Duration,
    pub(crate) longest_delay: Duration,
    pub(crate) nemesis: Nemesis,
    next_nemesis: Duration,
    pub(crate) fallen: Vec<Fallen>,
    pub(crate) next_fall: Duration,
    /// Whether a node may end before the cluster has formed.
    pub(crate) early_fall: bool,
    /// The node that is cut off so that another ends while it knows less than the third.
    pub(crate) trap: Option<u16>,
    /// The time from which on most members may lose their memory together.
    pub(crate) halts_at: Option<Duration>,
    pub(crate) doom: Option<Doom>,
    /// The longest time in which a cluster heals.
    max_wait: Duration,
    /// Whether the survivors are always cut off before that.
    pub(crate) overstates: bool,
    /// The node that has not been started yet, and its earliest start.
    pub(crate) absent: Option<u16>,
    pub(crate) absent_until: Duration,
    /// When removed nodes restart.
    pub(crate) returns: BTreeMap<u16, Duration>,
    /// Nodes that will be cut off while they receive a snapshot.
    pub(crate) tears: BTreeMap<u16, Duration>,
    pub(crate) health: Health,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        flaw: Flaw,
        limits: &Limits,
        logs: &Logs,
        shared: &Rc<Shared>,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng, flaw);
        let longest_delay = Duration::from_millis([1, 5, 20, 60][rng.gen_range(0..4)]);
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.r#gen())
            .epoch(std::time::UNIX_EPOCH)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis([1, 2, 4][rng.gen_range(0..3)]))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(longest_delay)
            .tcp_capacity([64, 256, 1024][rng.gen_range(0..3)])
            .enable_random_order()
            .build();
        let cradles: Vec<_> = (1..=plan.nodes)
            .map(|id| Cradle::new(id, limits, rng.r#gen(), flaw, Rc::clone(shared)))
            .collect();
        for (id, cradle) in (1..).zip(&cradles) {
            let cradle = cradle.clone();
            sim.host(host(id), move || cradle.clone().live());
        }
        if let Some(absent) = plan.absent {
            sim.crash(host(absent));
        }
        let habits = Habits {
            max_wait: Duration::from_millis(rng.gen_range(300..3_000)),
            longest_pause: [10, 60, 150, 400][rng.gen_range(0..4)],
            max_padding: [0, 500, 8_000, 40_000][rng.gen_range(0..4)],
            repeats: flaw == Flaw::Repeats,
            unnumbered: flaw == Flaw::Unnumbered,
            resends: flaw == Flaw::Resent,
            trusting: flaw == Flaw::Trusting,
            unfenced: flaw == Flaw::Unfenced,
        };
        let clients = crew::add(&mut sim, &mut rng, plan.nodes, &habits, shared);
        operator::add(&mut sim, rng.r#gen(), plan, flaw, Rc::clone(shared));
        let early_fall = rng.gen_bool(0.2) && plan.absent.is_none() && !plan.halts;
        let soon = Duration::from_millis(rng.gen_range(1_000..4_000));
        // The network is calm until most are lost: the cluster has to be healed then.
        let mut within = |longest| match plan.halts {
            true => soon,
            false => Duration::from_millis(rng.gen_range(0..longest)),
        };
        let (next_fall, next_nemesis) = (within(3_000), within(5_000));
        Self {
            sim,
            shared: Rc::clone(shared),
            logs: logs.clone(),
            plan,
            cradles,
            clients,
            next_client_fall: Duration::from_millis(rng.gen_range(500..4_000)),
            longest_delay,
            nemesis: Nemesis::Clear,
            next_nemesis,
            fallen: Vec::new(),
            next_fall,
            early_fall,
            trap: None,
            halts_at: plan.halts.then_some(soon),
            doom: None,
            // The check is to see that it does not heal.
            max_wait: if flaw == Flaw::KeptIds {
                TEST_TIMEOUT / 4
            } else {
                TEST_TIMEOUT
            },
            overstates: flaw == Flaw::Overstated,
            absent: plan.absent,
            absent_until: soon / 2,
            returns: BTreeMap::new(),
            tears: BTreeMap::new(),
            health: Health::default(),
            rng,
        }
    }

    /// Runs through a hard time, then through a calm one. Panics if a promise is broken.
    pub(crate) fn run(mut self) {
        self.tell(format_args!("{:?}", self.plan));
        let hard = Duration::from_millis(self.rng.gen_range(5_000..12_000));
        while self.sim.elapsed() < hard {
            self.step();
            self.change_nemesis();
            self.tear();
            self.fell();
            self.raise();
            self.fell_client();
        }
        self.trap = None;
        self.turn(Nemesis::Clear, Duration::MAX);
        // The planned events of a healed cluster happen now at the latest.
        let deadline = self.sim.elapsed() + TEST_TIMEOUT;
        while (self.halts_at.is_some() || self.doom.is_some()) && self.sim.elapsed() < deadline {
            self.step();
            self.fell();
            self.raise();
        }
        self.turn(Nemesis::Clear, Duration::MAX);
        let deadline = self.sim.elapsed() + self.max_wait;
        while !self.is_well() {
            assert!(self.sim.elapsed() < deadline, "it does not heal");
            self.step();
            self.raise();
        }
        self.tell(format_args!("healed"));
        self.shared.ending.set(true);
        let deadline = self.sim.elapsed() + TEST_TIMEOUT;
        while !self.step() {
            let waiting = "a client waits for its last answers, or health for its return";
            assert!(self.sim.elapsed() < deadline, "{waiting}");
            self.raise();
        }
        while !health::have_applied_the_same(&self.shared.statuses()) {
            assert!(self.sim.elapsed() < deadline, "a node stays behind");
            self.step();
        }
        self.shared.check();
        let seconds = self.sim.elapsed().as_secs();
        self.tell(format_args!("the end"));
        self.shared
            .report
            .borrow_mut()
            .add("simulated seconds", seconds);
    }

    /// Whether all nodes run, and no wait is open.
    fn is_well(&self) -> bool {
        let recovered = !self.shared.lost.get() || self.shared.is_recovered();
        let all = self.fallen.is_empty() && self.absent.is_none();
        all && recovered && self.health.healed()
    }

    /// Lets a moment pass. Returns whether every client has ended.
    fn step(&mut self) -> bool {
        let ended = self.sim.step().expect("nodes do not fail");
        runs::moment_passed();
        let may_be_another = self.shared.may_be_recovered();
        self.health.look(&self.shared.statuses(), may_be_another);
        self.shared.highest_term.set(self.health.highest_term());
        ended
    }

    fn change_nemesis(&mut self) {
        if self.sim.elapsed() < self.next_nemesis {
            return;
        }
        let nemesis = Nemesis::draw(&mut self.rng, self.plan.nodes, &self.clients);
        let spell = Duration::from_millis(self.rng.gen_range(100..4_000));
        self.turn(nemesis, spell);
    }

    pub(crate) fn turn(&mut self, nemesis: Nemesis, spell: Duration) {
        self.tell(format_args!("nemesis: {nemesis}"));
        self.shared.count(nemesis.name());
        self.nemesis.end(&mut self.sim, self.longest_delay);
        nemesis.begin(&mut self.sim);
        self.nemesis = nemesis;
        self.next_nemesis = self.sim.elapsed().saturating_add(spell);
    }

    /// Cuts nodes off from the others.
    pub(crate) fn cut(&mut self, ids: &[u16], spell: Duration) {
        let others = (1..=self.plan.nodes).filter(|id| !ids.contains(id));
        let ids = ids.iter().copied().map(host).collect();
        self.turn(Nemesis::Cut(ids, others.map(host).collect()), spell);
    }

    pub(crate) fn tell(&self, line: std::fmt::Arguments<'_>) {
        self.shared.tell(self.sim.elapsed(), line);
    }
}
