//! The faults of a message: lost, duplicated, delayed, overtaken, cut off.

use rand::Rng;
use rand::rngs::StdRng;
use seshat::types::NodeId;

use crate::setting::{Scope, Setting};

/// How rough a whole run is. Some runs have faults all the time; in most there is time to heal between
/// two phases with faults, so that a node can be lost again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Climate {
    /// Share of the phases of the network that have faults.
    pub(crate) storms: f64,
    /// Longest time in milliseconds between two faults of single nodes, if there are any.
    pub(crate) troubles_within: Option<u64>,
}

impl Climate {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        Self {
            storms: [0.1, 0.1, 0.2, 0.4, 1.0][rng.gen_range(0..5)],
            troubles_within: [None, Some(20_000), Some(8_000), Some(2_000)][rng.gen_range(0..4)],
        }
    }

    /// The network of the next phase.
    pub(crate) fn network(&self, rng: &mut StdRng, setting: &Setting) -> Network {
        if rng.gen_bool(self.storms) {
            Network::storm(rng, setting)
        } else {
            Network::fair(rng)
        }
    }
}

/// How bad a network is. Drawn anew for every phase of a run.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Share of messages that are lost.
    pub(crate) loss: f64,
    /// Share of messages that arrive twice.
    pub(crate) doubling: f64,
    /// Longest delay in milliseconds. Delays differ, so messages overtake one another.
    pub(crate) max_delay: u64,
    /// Directed links that carry nothing.
    cut: Vec<(NodeId, NodeId)>,
}

impl Network {
    /// A network without faults.
    pub(crate) fn healthy() -> Self {
        Self {
            loss: 0.0,
            doubling: 0.0,
            max_delay: 5,
            cut: Vec::new(),
        }
    }

    /// A network with ordinary delays.
    fn fair(rng: &mut StdRng) -> Self {
        Self {
            loss: [0.0, 0.005][rng.gen_range(0..2)],
            doubling: [0.0, 0.02][rng.gen_range(0..2)],
            max_delay: [2, 10, 40][rng.gen_range(0..3)],
            cut: Vec::new(),
        }
    }

    /// A network with faults.
    fn storm(rng: &mut StdRng, setting: &Setting) -> Self {
        let nodes = setting.node_ids();
        let kinds = match setting.scope {
            Scope::Narrow => 6,
            Scope::Wide => 8,
        };
        let mut network = Self {
            loss: [0.0, 0.01, 0.1, 0.3][rng.gen_range(0..4)],
            doubling: [0.0, 0.05, 0.2][rng.gen_range(0..3)],
            max_delay: [2, 20, 150, 600][rng.gen_range(0..4)],
            cut: Vec::new(),
        };
        let lonely = nodes[rng.gen_range(0..nodes.len())];
        let others = nodes.iter().copied().filter(|&node| node != lonely);
        match rng.gen_range(0..kinds) {
            // All its links are cut, both ways.
            0 => network
                .cut
                .extend(others.flat_map(|node| [(lonely, node), (node, lonely)])),
            // All links from it are cut.
            1 => network.cut.extend(others.map(|node| (lonely, node))),
            // All links to it are cut.
            2 => network.cut.extend(others.map(|node| (node, lonely))),
            // One link is dead in one direction.
            3 => network
                .cut
                .extend(others.take(1).map(|node| (lonely, node))),
            // The links between two halves are cut.
            6 => {
                let half: Vec<_> = nodes.iter().map(|_| rng.gen_bool(0.5)).collect();
                let sides = || nodes.iter().zip(&half);
                let links = sides().flat_map(|(&from, side)| {
                    let beyond = sides().filter(move |(_, other)| *other != side);
                    beyond.map(move |(&to, _)| (from, to))
                });
                network.cut.extend(links);
            }
            _ => {}
        }
        network
    }

    /// Whether a link carries nothing from one node to another.
    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// The arrival times of the copies of a message that is sent now: none, one or two.
    pub(crate) fn arrivals(&self, rng: &mut StdRng, from: NodeId, to: NodeId) -> Vec<u64> {
        let copies = if self.is_cut(from, to) || rng.gen_bool(self.loss) {
            0
        } else if rng.gen_bool(self.doubling) {
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| rng.gen_range(1..=self.max_delay))
            .collect()
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            loss,
            doubling,
            max_delay,
            cut,
        } = self;
        write!(
            f,
            "loss {loss} doubling {doubling} delay {max_delay} ms cut {cut:?}"
        )
    }
}
