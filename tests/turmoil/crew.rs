//! The clients of a run, each on one of a few hosts.

use std::rc::Rc;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join_all};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use turmoil::Sim;

use crate::actors;
use crate::clients::{Client, Habits};
use crate::holders::{self, Held, Holder};
use crate::library::User;
use crate::shared::Shared;

const HOSTS: u16 = 2;

/// The clients of a host: some call the protocol, the others use the Rust client.
const CREW: [Kind; 6] = [
    Kind::Caller,
    Kind::Caller,
    Kind::User,
    Kind::Actor,
    Kind::Holder,
    Kind::Reader,
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Caller,
    User,
    Actor,
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
    let names: Vec<_> = (1..=HOSTS).map(|host| format!("c{host}")).collect();
    let held = Held::default();
    for name in &names {
        let members = CREW.iter().zip(1..).map(|(kind, number)| {
            let name = format!("{name}.{kind:?}{number}").to_lowercase();
            (*kind, name, StdRng::seed_from_u64(rng.r#gen()))
        });
        let members: Vec<_> = members.collect();
        let (habits, held, shared) = (habits.clone(), Rc::clone(&held), Rc::clone(shared));
        sim.client(name.as_str(), async move {
            let runs = members.into_iter().map(|(kind, name, rng)| {
                let (habits, held, shared) = (habits.clone(), Rc::clone(&held), Rc::clone(&shared));
                run(kind, name, rng, nodes, held, habits, shared)
            });
            join_all(runs).await;
            Ok(())
        });
    }
    names
}

/// Runs one client until the run ends.
fn run(
    kind: Kind,
    name: String,
    rng: StdRng,
    nodes: u16,
    held: Held,
    habits: Habits,
    shared: Rc<Shared>,
) -> LocalBoxFuture<'static, ()> {
    match kind {
        Kind::Caller => Client::new(name, rng, nodes, habits, shared)
            .run()
            .boxed_local(),
        Kind::User => User::new(name, rng, nodes, habits, shared)
            .run()
            .boxed_local(),
        Kind::Actor => actors::run(name, rng, nodes, habits, shared).boxed_local(),
        Kind::Holder => Holder::new(name, rng, nodes, held, habits, shared)
            .run()
            .boxed_local(),
        Kind::Reader => holders::read(nodes, rng, held, shared).boxed_local(),
    }
}
