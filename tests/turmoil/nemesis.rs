//! The nemesis: faults of the network between the hosts.

use std::fmt;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use turmoil::Sim;

/// One state of the network. Bytes that a cut drops are never sent again, as if it outlasted every
/// retransmission: each connection across it is dead, and no host is told.
#[derive(Debug, Clone)]
pub(crate) enum Nemesis {
    Clear,
    /// Nothing gets through between the two groups.
    Cut(Vec<String>, Vec<String>),
    /// Nothing gets through from the first group to the second.
    OneWay(Vec<String>, Vec<String>),
    /// All packets between the two groups wait until the nemesis changes.
    Held(Vec<String>, Vec<String>),
    /// All packets between the two groups take up to so long.
    Slow(Vec<String>, Vec<String>, Duration),
    /// Each packet, with this chance, takes all others under way on its link with it.
    Lossy(f64),
}

impl Nemesis {
    /// Another state for so many nodes and these clients.
    pub(crate) fn draw(rng: &mut StdRng, nodes: u16, clients: &[String]) -> Self {
        // Of five nodes, two may be cut off together.
        let few = usize::from(1 + u16::from(nodes > 4 && rng.gen_bool(0.4)));
        let some = (1..=nodes).choose_multiple(rng, few);
        let others: Vec<_> = (1..=nodes)
            .filter(|id| !some.contains(id))
            .map(host)
            .collect();
        let (node, clients) = (some.into_iter().map(host).collect(), clients.to_vec());
        let (one, other) = match rng.gen_range(0..10) {
            0..5 => (node, others),
            5..7 => (node, vec![others[rng.gen_range(0..others.len())].clone()]),
            7..9 => (node, [others, clients].concat()),
            _ => (node, clients),
        };
        match rng.gen_range(0..16) {
            0..2 => Self::Clear,
            2..6 => Self::Cut(one, other),
            6..8 => Self::OneWay(one, other),
            8..10 => Self::OneWay(other, one),
            10..12 => Self::Held(one, other),
            12..14 => Self::Slow(one, other, Duration::from_millis(rng.gen_range(100..800))),
            _ => Self::Lossy(f64::from(rng.gen_range(1..10_u32)) / 10_000.0),
        }
    }

    /// Its name in the statistics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Clear => "clear spells",
            Self::Cut(..) => "partitions",
            Self::OneWay(..) => "one-way partitions",
            Self::Held(..) => "stalls",
            Self::Slow(..) => "slow links",
            Self::Lossy(_) => "lossy spells",
        }
    }

    pub(crate) fn begin(&self, sim: &mut Sim<'_>) {
        match self {
            Self::Clear => {}
            Self::Cut(one, other) => pairs(one, other, |a, b| sim.partition(a, b)),
            Self::OneWay(from, to) => pairs(from, to, |a, b| sim.partition_oneway(a, b)),
            Self::Held(one, other) => pairs(one, other, |a, b| sim.hold(a, b)),
            Self::Slow(one, other, longest) => {
                pairs(one, other, |a, b| {
                    sim.set_link_max_message_latency(a, b, *longest);
                });
            }
            Self::Lossy(rate) => sim.set_fail_rate(*rate),
        }
    }

    /// Makes the network whole again, with its usual longest delay.
    pub(crate) fn end(&self, sim: &mut Sim<'_>, usual: Duration) {
        match self {
            Self::Clear => {}
            Self::Cut(one, other) | Self::OneWay(one, other) | Self::Held(one, other) => {
                pairs(one, other, |a, b| sim.release(a, b));
            }
            Self::Slow(one, other, _) => {
                pairs(one, other, |a, b| {
                    sim.set_link_max_message_latency(a, b, usual);
                });
            }
            Self::Lossy(_) => sim.set_fail_rate(0.0),
        }
    }
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[String]| hosts.join(" ");
        match self {
            Self::Clear => write!(f, "clear"),
            Self::Cut(one, other) => write!(f, "{} | {}", list(one), list(other)),
            Self::OneWay(from, to) => write!(f, "{} -/-> {}", list(from), list(to)),
            Self::Held(one, other) => write!(f, "{} stall {}", list(one), list(other)),
            Self::Slow(one, other, longest) => {
                write!(f, "{} up to {longest:?} from {}", list(one), list(other))
            }
            Self::Lossy(rate) => write!(f, "one packet of {:.0} breaks a link", 1.0 / rate),
        }
    }
}

/// The host of node `id`.
pub(crate) fn host(id: u16) -> String {
    format!("n{id}")
}

fn pairs(one: &[String], other: &[String], mut act: impl FnMut(&str, &str)) {
    for a in one {
        for b in other {
            act(a, b);
        }
    }
}
