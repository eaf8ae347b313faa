//! Three nodes, their clients, and everything that befalls them: one run, decided by its seed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use seshat::config::Limits;
use seshat::types::NodeStatus;
use turmoil::Sim;

use crate::clients::{Client, Habits};
use crate::health::Health;
use crate::node::{Cradle, NODES};
use crate::operator;
use crate::shared::Shared;
use crate::weather::{Weather, host};

/// Hosts of clients, and the clients on each.
const CLIENT_HOSTS: u16 = 2;
const CLIENTS_PER_HOST: u16 = 3;

/// A whole cluster heals, and every client gets its last answers, within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Something between a client and a node delivers a write a second time, later.
    Repeats,
    /// A node that has forgotten everything comes back as the Raft server that it was.
    KeptIds,
}

/// A node that is down, or about to be.
struct Fallen {
    id: u16,
    /// When it starts again; unknown while it shuts down.
    back_at: Option<Duration>,
    back_after: Duration,
    /// It fell silent before it fell.
    silent: bool,
}

/// One run.
pub(crate) struct World {
    rng: StdRng,
    sim: Sim<'static>,
    shared: Rc<Shared>,
    cradles: Vec<Cradle>,
    clients: Vec<String>,
    longest_delay: Duration,
    weather: Weather,
    next_weather: Duration,
    fallen: Option<Fallen>,
    next_fall: Duration,
    /// Whether a node may fall before the cluster has formed.
    early_fall: bool,
    /// The node that is cut off so that another falls while it knows less than the third.
    trap: Option<u16>,
    health: Health,
}

impl World {
    pub(crate) fn new(seed: u64, flaw: Flaw, limits: &Limits, shared: &Rc<Shared>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
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
        let cradles: Vec<_> = (1..=NODES)
            .map(|id| {
                let keeps_id = flaw == Flaw::KeptIds;
                Cradle::new(id, limits, rng.r#gen(), keeps_id, Rc::clone(shared))
            })
            .collect();
        for (id, cradle) in (1..).zip(&cradles) {
            let cradle = cradle.clone();
            sim.host(host(id), move || cradle.clone().live());
        }
        let habits = Habits {
            patience: Duration::from_millis(rng.gen_range(300..3_000)),
            longest_pause: [10, 60, 150, 400][rng.gen_range(0..4)],
            max_padding: [0, 500, 8_000, 40_000][rng.gen_range(0..4)],
            repeats: flaw == Flaw::Repeats,
        };
        let clients = add_clients(&mut sim, &mut rng, &habits, shared);
        operator::add(&mut sim, rng.r#gen(), Rc::clone(shared));
        Self {
            sim,
            shared: Rc::clone(shared),
            cradles,
            clients,
            longest_delay,
            weather: Weather::Clear,
            next_weather: Duration::from_millis(rng.gen_range(0..5_000)),
            fallen: None,
            next_fall: Duration::from_millis(rng.gen_range(0..3_000)),
            early_fall: rng.gen_bool(0.2),
            trap: None,
            health: Health::default(),
            rng,
        }
    }

    /// Lives through a hard time, then through a calm one. Panics if a promise is broken.
    pub(crate) fn run(mut self) {
        let hard = Duration::from_millis(self.rng.gen_range(5_000..12_000));
        while self.sim.elapsed() < hard {
            self.step();
            self.change_weather();
            self.fell();
            self.raise();
        }
        self.trap = None;
        self.turn(Weather::Clear, Duration::MAX);
        let deadline = self.sim.elapsed() + PATIENCE;
        while !(self.fallen.is_none() && self.health.healed()) {
            assert!(self.sim.elapsed() < deadline, "it does not heal");
            self.step();
            self.raise();
        }
        self.tell(format_args!("healed"));
        self.shared.ending.set(true);
        let deadline = self.sim.elapsed() + PATIENCE;
        while !self.step() {
            let waiting = "a client waits for its last answers, or health for its return";
            assert!(self.sim.elapsed() < deadline, "{waiting}");
        }
        while !level(&self.shared.standings()) {
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

    /// Lets a moment pass. Says whether every client has come to its end.
    fn step(&mut self) -> bool {
        let ended = self.sim.step().expect("nodes do not fail");
        self.health.look(&self.shared.standings());
        ended
    }

    fn change_weather(&mut self) {
        if self.sim.elapsed() < self.next_weather {
            return;
        }
        let weather = Weather::draw(&mut self.rng, &self.clients);
        let spell = Duration::from_millis(self.rng.gen_range(100..4_000));
        self.turn(weather, spell);
    }

    fn turn(&mut self, weather: Weather, spell: Duration) {
        self.tell(format_args!("weather: {weather}"));
        self.shared.count(weather.name());
        self.weather.end(&mut self.sim, self.longest_delay);
        weather.begin(&mut self.sim);
        self.weather = weather;
        self.next_weather = self.sim.elapsed().saturating_add(spell);
    }

    /// Cuts node `id` off from the others.
    fn cut(&mut self, id: u16, spell: Duration) {
        let others = (1..=NODES).filter(|other| *other != id).map(host);
        self.turn(Weather::Cut(vec![host(id)], others.collect()), spell);
    }

    /// Ends a node now and then: one loss of memory at a time, the next only after healed.
    fn fell(&mut self) {
        let now = self.sim.elapsed();
        let may_fall = self.early_fall || self.health.healed();
        if self.fallen.is_some() || now < self.next_fall || !may_fall {
            return;
        }
        if self.trap.is_none() && !self.early_fall && self.rng.gen_bool(0.5) {
            return self.set_trap();
        }
        self.early_fall = false;
        let ids = (1..=NODES).filter(|id| Some(*id) != self.trap);
        let id = ids.choose(&mut self.rng).expect("a node");
        let back_after = match self.rng.gen_bool(0.3) {
            true => Duration::ZERO,
            false => Duration::from_millis(self.rng.gen_range(1..4_000)),
        };
        let cradle = &self.cradles[usize::from(id) - 1];
        let way = self.rng.gen_range(0..4);
        let silent = way == 1;
        if way == 0 {
            cradle.stop();
            self.tell(format_args!("n{id} is asked to shut down"));
            self.shared.count("shutdowns");
        } else {
            if silent {
                // The machine dies: nobody is told that its connections have ended.
                for other in self.everybody_but(id) {
                    self.sim.partition(host(id), other);
                }
            }
            self.shared.died(id);
            self.sim.crash(host(id));
            let how = if silent { "falls silent" } else { "crashes" };
            self.tell(format_args!("n{id} {how}"));
            self.shared.count("crashes");
        }
        self.fallen = Some(Fallen {
            id,
            back_at: (way != 0).then_some(now + back_after),
            back_after,
            silent,
        });
    }

    /// Prepares the worst case: a node misses writes, one of the two that have them forgets, and
    /// then the other one is cut off. Those that are left must not decide.
    fn set_trap(&mut self) {
        let behind = self.rng.gen_range(1..=NODES);
        self.cut(behind, Duration::from_secs(10));
        self.trap = Some(behind);
        self.next_fall = self.sim.elapsed() + Duration::from_millis(self.rng.gen_range(50..1_500));
    }

    /// Starts a node again that has been down for long enough.
    fn raise(&mut self) {
        let now = self.sim.elapsed();
        let Some(fallen) = &mut self.fallen else {
            return;
        };
        let id = fallen.id;
        if fallen.back_at.is_none() && !self.sim.is_host_running(host(id)) {
            fallen.back_at = Some(now + fallen.back_after);
        }
        if fallen.back_at.is_none_or(|at| now < at) {
            return;
        }
        if fallen.silent {
            for other in self.everybody_but(id) {
                self.sim.release(host(id), other);
            }
            self.weather.begin(&mut self.sim);
        }
        if let Some(behind) = self.trap.take() {
            let ahead = (1..=NODES).find(|other| ![id, behind].contains(other));
            let spell = Duration::from_millis(self.rng.gen_range(500..4_000));
            self.cut(ahead.expect("a third node"), spell);
        }
        self.fallen = None;
        self.health.memory_lost();
        self.sim.bounce(host(id));
        self.tell(format_args!("n{id} starts again"));
        self.next_fall = now + Duration::from_millis(self.rng.gen_range(1..2_000));
    }

    fn everybody_but(&self, id: u16) -> Vec<String> {
        let nodes = (1..=NODES).filter(|other| *other != id).map(host);
        nodes.chain(self.clients.iter().cloned()).collect()
    }

    fn tell(&self, line: std::fmt::Arguments<'_>) {
        self.shared.tell(self.sim.elapsed(), line);
    }
}

/// Whether all nodes have applied the same.
fn level(standings: &BTreeMap<u16, NodeStatus>) -> bool {
    let mut applied = standings
        .values()
        .map(|node| (node.applied_index, node.keys));
    let first = applied.next();
    first.is_some() && applied.all(|other| Some(other) == first)
}

fn add_clients(
    sim: &mut Sim<'static>,
    rng: &mut StdRng,
    habits: &Habits,
    shared: &Rc<Shared>,
) -> Vec<String> {
    let names: Vec<_> = (1..=CLIENT_HOSTS).map(|host| format!("c{host}")).collect();
    for name in &names {
        let crew: Vec<_> = (1..=CLIENTS_PER_HOST)
            .map(|number| (format!("{name}.{number}"), rng.r#gen()))
            .collect();
        let (habits, shared) = (habits.clone(), Rc::clone(shared));
        sim.client(name.as_str(), async move {
            let crew = crew.into_iter().map(|(name, seed)| {
                let rng = StdRng::seed_from_u64(seed);
                Client::new(name, rng, NODES, habits.clone(), Rc::clone(&shared)).run()
            });
            futures_util::future::join_all(crew).await;
            Ok(())
        });
    }
    names
}
