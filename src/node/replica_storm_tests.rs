//! Clusters of four to seven nodes whose members come, go, transfer leadership, are cut off and lose
//! their memory, at any moment, with orders that no operator should give. Seed by seed.
//!
//! Invariants at every moment: no process fails or panics, and no term has two leaders. The cluster
//! itself may halt. But if it has a leader once the faults have ended, that leader serves.

use std::collections::BTreeMap;

use super::lab::{Lab, Link, TICK, info, node};
use super::seed::mix;
use super::*;
use crate::kv::Command;
use crate::types::{ClusterId, NodeId, RaftId, Role, Term};

/// Runs of each number of nodes.
const RUNS: u64 = 8;
/// Events in one run before the faults end.
const STORM: usize = 80;
/// Maximum number of nodes.
const NODES: u16 = 8;

/// Number of events of the tested kind.
#[derive(Debug, Default)]
struct Tally {
    conf_changes: usize,
    removed: usize,
    served: u64,
    halted: u64,
}

struct Storm {
    lab: Lab,
    draws: u64,
    leaders: BTreeMap<(ClusterId, Term), RaftId>,
}

impl Storm {
    fn draw(&mut self, bound: u64) -> u64 {
        self.draws += 1;
        mix(&[self.lab.seed, self.draws]) % bound
    }

    fn any_node(&mut self) -> NodeId {
        let id = self.draw(u64::from(NODES)) + 1;
        node(u16::try_from(id).expect("few"))
    }

    fn event(&mut self) {
        let (id, other) = (self.any_node(), self.any_node());
        let leader = self.lab.leader();
        let runs = self.lab.replicas.contains_key(&id);
        match (self.draw(10), leader) {
            (0 | 1, Some(leader)) => self.lab.command(leader, &Command::RemoveMember(id)),
            (2, Some(leader)) => {
                self.lab.command(leader, &Command::AddMember(info(id)));
                if !runs {
                    self.lab.begin(id, false);
                }
            }
            (3, Some(leader)) => self.lab.transfer(leader, id),
            (4, _) if runs => self.lab.begin(id, true),
            (5, _) => self.lab.replicas.remove(&id).map_or((), drop),
            (6 | 7, _) => {
                let link = Link {
                    latency: self.draw(200),
                    cut: self.draw(2) == 0,
                    ..Link::default()
                };
                self.lab.link_one_way(id, other, link);
            }
            (8, _) => self.lab.link(id, Link::default()),
            _ if !runs => self.lab.begin(id, true),
            _ => {}
        }
    }

    /// Milliseconds pass, in some of which clients write.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            let writes = u64::from(self.draw(4) == 0);
            self.lab.step(writes);
            self.check();
        }
    }

    fn check(&mut self) {
        for raft in self.lab.replicas.values().filter_map(Replica::raft) {
            if raft.role() == Role::Leader {
                let leads = (raft.cluster_id(), raft.term());
                let first = *self.leaders.entry(leads).or_insert(raft.raft_id());
                let seed = self.lab.seed;
                assert_eq!(
                    first,
                    raft.raft_id(),
                    "seed {seed}: two leaders of {leads:?}"
                );
            }
        }
    }

    fn run(seed: u64, size: u16, tally: &mut Tally) {
        let options = RaftOptions {
            compact_after_entries: 20,
            compact_keep_entries: 5,
            ..RaftOptions::default()
        };
        let mut storm = Self {
            lab: Lab::new(size, seed, options),
            draws: 0,
            leaders: BTreeMap::new(),
        };
        println!("seed {seed}");
        storm.pass(15 * TICK);
        for _ in 0..STORM {
            let millis = storm.draw(150);
            storm.pass(millis);
            storm.event();
        }
        for id in 1..=NODES {
            storm.lab.link(node(id), Link::default());
        }
        storm.pass(60 * TICK);
        let acknowledged = storm.lab.acknowledged;
        let led = storm.lab.leader().is_some();
        storm.pass(20 * TICK);
        let served = storm.lab.acknowledged > acknowledged;
        assert!(!led || served, "seed {seed}: a leader that does not serve");
        tally.served += u64::from(served);
        tally.halted += u64::from(!served);
        tally.conf_changes += storm.lab.conf_changes;
        tally.removed += storm.lab.gone.len();
    }
}

#[test]
fn no_replica_fails_whatever_happens_to_the_members() {
    let mut tally = Tally::default();
    for size in 4..=7 {
        for run in 0..RUNS {
            Storm::run(u64::from(size) * 1_000_000 + run, size, &mut tally);
        }
    }
    println!("{tally:?}");
    assert!(tally.served > RUNS / 2, "{tally:?}");
    assert!(tally.removed > 0 && tally.conf_changes > 0, "{tally:?}");
}
