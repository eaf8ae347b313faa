//! One cluster, and one fault after the other, drawn at random.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::clients::{Caller, Load};
use crate::cluster::Cluster;
use crate::history::{History, now};
use crate::holder::Holder;
use crate::links::Fate;
use crate::misbehaving::{MisbehavingClients, Misbehaviour};
use crate::{caller, ms, scenario};

/// Seconds that the soak takes in an ordinary test run.
const DEFAULT_SECONDS: u64 = 6;
/// The fourth member.
const GUEST: usize = 3;
/// Length of a fault, in milliseconds.
const HOLD: std::ops::Range<u64> = 200..5_000;

fn env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

#[test]
fn soak() {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let seed = env("CHAOS_SEED").unwrap_or(u64::from(clock.subsec_nanos()));
    let seconds = env("CHAOS_SECONDS");
    println!("soak: CHAOS_SEED={seed}");
    scenario("soak", async |cluster| {
        assert_eq!(cluster.extend().await, GUEST);
        let mut soak = Soak {
            rng: StdRng::seed_from_u64(seed),
            caller: caller(cluster),
            longest_hold: if seconds.is_some() {
                HOLD.end
            } else {
                HOLD.end / 4
            },
            held: BTreeMap::new(),
        };
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS)) {
            rounds += 1;
            soak.round(cluster, rounds).await;
        }
        soak.check().await;
        format!(
            "CHAOS_SEED={seed}, {rounds} troubles, {} keys",
            soak.held.len()
        )
    });
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Kill,
    Stop,
    Pause,
    Isolate,
    Mute,
    Deafen,
    Disconnect,
    Slow,
    /// A fourth member is added and removed.
    Guest,
    /// The terminal that a node was started from is closed.
    Hangup,
    /// A node is restarted with a log without a reader.
    UnreadLog,
    /// A process that asks for the lock of the others is killed.
    Holder,
    /// Many clients misbehave at every port of every node.
    Clients(Misbehaviour),
    Nothing,
}

const TROUBLES: [Trouble; 18] = [
    Trouble::Kill,
    Trouble::Stop,
    Trouble::Pause,
    Trouble::Isolate,
    Trouble::Mute,
    Trouble::Deafen,
    Trouble::Disconnect,
    Trouble::Slow,
    Trouble::Guest,
    Trouble::Hangup,
    Trouble::UnreadLog,
    Trouble::Holder,
    Trouble::Clients(Misbehaviour::Idle),
    Trouble::Clients(Misbehaviour::Stuck),
    Trouble::Clients(Misbehaviour::SlowReader),
    Trouble::Clients(Misbehaviour::Cancelling),
    Trouble::Clients(Misbehaviour::OtherProtocol),
    Trouble::Nothing,
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed",
            Self::Stop => "stopped well",
            Self::Pause => "paused",
            Self::Isolate => "isolated",
            Self::Mute => "not heard",
            Self::Deafen => "hears nothing",
            Self::Disconnect => "every connection broken",
            Self::Slow => "100 ms on each link",
            Self::Guest => "has a fourth member beside it",
            Self::Hangup => "loses its terminal",
            Self::UnreadLog => "has a log without a reader",
            Self::Holder => "has a client that is killed under its lock",
            Self::Clients(what) => return write!(f, "gets many clients that misbehave: {what:?}"),
            Self::Nothing => "left alone",
        })
    }
}

impl Trouble {
    /// Returns what runs until the fault is over. `lock` is the one that the clients of the round share.
    async fn begin(self, cluster: &mut Cluster, node: usize, lock: &str) -> Running {
        let mut clients = Vec::new();
        let mut holder = None;
        match self {
            Self::Kill => cluster.kill(&[node]),
            Self::Stop => cluster.stop(&[node]).await,
            Self::Pause => cluster.pause(node),
            Self::Isolate => cluster.links.isolate(node, Fate::Vanish),
            Self::Mute => cluster.links.outgoing(node, Fate::Vanish),
            Self::Deafen => cluster.links.incoming(node, Fate::Vanish),
            Self::Disconnect => cluster.links.isolate(node, Fate::Break),
            Self::Slow => cluster.links.delay(Duration::from_millis(100)),
            Self::Guest => {
                cluster.start(GUEST);
                cluster.add_member(GUEST).await;
            }
            Self::Hangup => cluster.hang_up(node),
            Self::UnreadLog => {
                cluster.stop(&[node]).await;
                cluster.start_unread(node);
            }
            Self::Clients(what) => {
                for addr in cluster.listeners() {
                    clients.push(MisbehavingClients::at(addr, what).await);
                }
            }
            Self::Holder => holder = Some(Holder::start(cluster, lock)),
            Self::Nothing => {}
        }
        Running {
            _clients: clients,
            _holder: holder,
        }
    }

    async fn end(self, cluster: &mut Cluster, node: usize) {
        match self {
            Self::Kill | Self::Stop => cluster.start(node),
            Self::Pause => cluster.resume(node),
            Self::Isolate | Self::Mute | Self::Deafen | Self::Disconnect | Self::Slow => {
                cluster.links.heal();
            }
            Self::Guest => {
                cluster.remove_member(GUEST).await;
                cluster.ends_as_removed(GUEST).await;
            }
            Self::Hangup | Self::UnreadLog | Self::Holder | Self::Clients(_) | Self::Nothing => {}
        }
    }
}

/// The clients and the holder of a fault. Dropping this ends them.
struct Running {
    _clients: Vec<MisbehavingClients>,
    _holder: Option<Holder>,
}

struct Soak {
    rng: StdRng,
    caller: Caller,
    longest_hold: u64,
    /// The possible values of each key of earlier rounds.
    held: BTreeMap<String, Vec<Option<u64>>>,
}

impl Soak {
    /// One fault, with keys and a history of its own, so that neither grows for ever.
    async fn round(&mut self, cluster: &mut Cluster, round: u64) {
        let trouble = *TROUBLES.choose(&mut self.rng).expect("not empty");
        let victim = self.rng.gen_range(0..3);
        let hold = self.rng.gen_range(HOLD.start..self.longest_hold);
        let leader = cluster.leader().await;
        let node = (leader + victim) % 3;

        let history = Arc::new(History::default());
        let load = Load::start(
            &self.caller.with_history(&history),
            leader,
            &format!("{round}-"),
        );
        load.write_after(now()).await;
        let lock = load.lock().expect("clients that lock").to_owned();
        let running = trouble.begin(cluster, node, &lock).await;
        let begun = now();
        tokio::time::sleep(Duration::from_millis(hold)).await;
        drop(running);
        trouble.end(cluster, node).await;
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;
        let served = history.first_write_after(begun).unwrap_or_default();
        let counts = load.check().await;
        self.held.extend(history.possible_values());

        let role = if node == leader {
            "the leader"
        } else {
            "a follower"
        };
        println!(
            "soak {round}: {role} {trouble} for {hold} ms: served after {}, healed {}; {counts}",
            ms(served),
            ms(healed.after)
        );
    }

    /// Fails unless every key still has its value from the end of its round.
    async fn check(&self) {
        let reader = self.caller.with_history(&Arc::default());
        let mut node = 0;
        for (key, possible) in &self.held {
            let value;
            (node, value) = reader.read_anywhere(node, key).await;
            assert!(
                possible.contains(&value),
                "{key} holds {value:?}, not one of {possible:?}"
            );
        }
    }
}
