//! The plan of a run besides its nemesis: decided by its seed before it begins.

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::node::FIRST;
use crate::world::Flaw;

/// The events that happen once in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The number of nodes: those that form the cluster, and those that are added and removed.
    pub(crate) nodes: u16,
    /// A node that does not run when the others form the cluster.
    pub(crate) absent: Option<u16>,
    /// Whether most members lose their memory at once, and an operator has to recover the cluster.
    pub(crate) halts: bool,
}

impl Plan {
    pub(crate) fn draw(rng: &mut StdRng, flaw: Flaw) -> Self {
        let grows = rng.gen_bool(0.5);
        let nodes = FIRST + if grows { rng.gen_range(1..=2) } else { 0 };
        let absent = rng.gen_bool(0.25).then(|| rng.gen_range(1..=FIRST));
        let halts = rng.gen_bool(0.35);
        match flaw {
            Flaw::Apart => Self {
                nodes: FIRST * 2,
                absent,
                halts: false,
            },
            Flaw::Overstated => Self {
                nodes: FIRST,
                absent: None,
                halts: true,
            },
            _ => Self {
                nodes,
                absent,
                halts,
            },
        }
    }
}
