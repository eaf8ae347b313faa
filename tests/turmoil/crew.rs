//! The clients of a run, each on one of a few hosts, and how one of them falls.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join_all};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use turmoil::Sim;

use crate::actors::Setting;
use crate::clients::{Client, Habits};
use crate::holders::{self, Held, Holder};
use crate::library::User;
use crate::shared::Shared;
use crate::world::World;

const HOSTS: u16 = 2;

/// The clients of a host: some call the protocol, the others use the Rust client.
const CREW: [Kind; 8] = [
    Kind::Caller,
    Kind::Caller,
    Kind::User,
    Kind::Actor,
    Kind::Watcher,
    Kind::Locker,
    Kind::Holder,
    Kind::Reader,
];

/// The host of a client that takes locks, and crashes now and then.
const MORTAL: &str = "c0";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Caller,
    User,
    Actor,
    Watcher,
    Locker,
    /// It holds living sessions.
    Holder,
    /// It reads what these own.
    Reader,
}

/// Adds the hosts of the clients. Returns their names.
pub(crate) fn add(
    sim: &mut Sim<'static>,
    rng: &mut StdRng,
    nodes: u16,
    habits: &Habits,
    shared: &Rc<Shared>,
) -> Vec<String> {
    let mut names: Vec<_> = (1..=HOSTS).map(|host| format!("c{host}")).collect();
    let setting = |name: String, seed| Setting {
        name,
        rng: StdRng::seed_from_u64(seed),
        nodes,
        habits: habits.clone(),
        shared: Rc::clone(shared),
    };
    let held = Held::default();
    for name in &names {
        let members = CREW.iter().zip(1..).map(|(kind, number)| {
            let name = format!("{name}.{kind:?}{number}").to_lowercase();
            (*kind, setting(name, rng.r#gen()))
        });
        let members: Vec<_> = members.collect();
        let held = Rc::clone(&held);
        sim.client(name.as_str(), async move {
            let members = members.into_iter();
            let runs = members.map(|(kind, setting)| run(kind, setting, Rc::clone(&held)));
            join_all(runs).await;
            Ok(())
        });
    }
    let mortal = setting(format!("{MORTAL}.locker"), 0);
    let (seed, lives) = (rng.r#gen::<u64>(), Cell::new(0));
    sim.host(MORTAL, move || {
        lives.set(lives.get() + 1);
        let life = Setting {
            rng: StdRng::seed_from_u64(seed ^ lives.get()),
            ..mortal.clone()
        };
        async move {
            life.lock().await;
            Ok(())
        }
    });
    names.push(MORTAL.to_owned());
    names
}

/// Runs one client until the run ends.
fn run(kind: Kind, setting: Setting, held: Held) -> LocalBoxFuture<'static, ()> {
    let Setting {
        name,
        rng,
        nodes,
        habits,
        shared,
    } = setting.clone();
    match kind {
        Kind::Caller => {
            let caller = Client::new(name, rng, nodes, habits, shared);
            caller.run().boxed_local()
        }
        Kind::User => {
            let user = User::new(name, rng, nodes, habits, shared);
            user.run().boxed_local()
        }
        Kind::Actor => setting.act().boxed_local(),
        Kind::Watcher => setting.watch().boxed_local(),
        Kind::Locker => setting.lock().boxed_local(),
        Kind::Holder => {
            let holder = Holder::new(name, rng, nodes, held, habits, shared);
            holder.run().boxed_local()
        }
        Kind::Reader => holders::read(nodes, rng, held, shared).boxed_local(),
    }
}

impl World {
    /// Crashes a client now and then, and starts it again as another process.
    pub(crate) fn fell_client(&mut self) {
        let now = self.sim.elapsed();
        if now < self.next_client_fall {
            return;
        }
        let wait = Duration::from_millis(self.rng.gen_range(500..4_000));
        self.next_client_fall = now + wait;
        if self.sim.is_host_running(MORTAL) {
            self.sim.crash(MORTAL);
            self.shared.count("clients crashed");
            self.tell(format_args!("{MORTAL} crashes"));
        } else {
            self.sim.bounce(MORTAL);
            self.tell(format_args!("{MORTAL} starts again"));
        }
    }
}
