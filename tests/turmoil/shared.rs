//! The state that the hosts of one simulated world share besides its network: the story of the run, and
//! the answers to the clients. Hosts take turns on one thread, so all events have an order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use seshat::driver::DriverHandle;
use seshat::types::{LogIndex, NodeStatus, Term};

use crate::history::{self, Break};
use crate::report::Report;
use seshat_test_support::coordination::History;

/// The shared part of a world.
pub(crate) struct Shared {
    /// Whether every line of the story is printed.
    loud: bool,
    story: RefCell<DefaultHasher>,
    /// The requests of all clients to shared keys, and the moments and values of the run.
    pub(crate) history: Arc<History>,
    recovery: Cell<Recovery>,
    nodes: RefCell<BTreeMap<u16, DriverHandle>>,
    /// The number of each event.
    pub(crate) report: RefCell<Report>,
    /// Most members of the cluster have lost their memory at once: an operator has to recover it.
    pub(crate) lost: Cell<bool>,
    /// The highest term that had a leader.
    pub(crate) highest_term: Cell<Term>,
    /// Nodes to restart once the cluster is recovered.
    pub(crate) left_over: RefCell<Vec<u32>>,
    /// The clients are to end.
    pub(crate) ending: Cell<bool>,
}

/// The recovery of a run: there is one at most.
#[derive(Debug, Clone, Copy, Default)]
struct Recovery {
    /// Start of the first attempt that may have succeeded.
    asked: Option<u64>,
    /// When it was known to have taken place.
    made: Option<u64>,
    /// The cluster that is given up, and the index up to which the log of the survivor is kept.
    old: Option<u64>,
    kept: LogIndex,
    /// Whether an attempt may have succeeded without an answer.
    in_doubt: bool,
    /// How often this has changed.
    changes: u64,
}

impl Shared {
    pub(crate) fn new(loud: bool) -> Self {
        let time = || turmoil::sim_elapsed().unwrap_or_default();
        Self {
            loud,
            story: RefCell::default(),
            history: Arc::new(History::new(time)),
            recovery: Cell::default(),
            nodes: RefCell::default(),
            report: RefCell::default(),
            lost: Cell::default(),
            highest_term: Cell::default(),
            left_over: RefCell::default(),
            ending: Cell::default(),
        }
    }

    /// Adds a line to the story. These lines decide whether two runs were the same.
    pub(crate) fn tell(&self, at: Duration, line: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} s  {line}", at.as_secs_f64());
        self.story.borrow_mut().write(line.as_bytes());
        if self.loud {
            println!("{line}");
        }
    }

    /// The story so far, as a number.
    pub(crate) fn digest(&self) -> u64 {
        self.story.borrow().finish()
    }

    /// The next moment. Moments, unlike the clocks of the hosts, put all events in the order in which
    /// they happened.
    fn moment(&self) -> u64 {
        self.history.moment().number
    }

    /// The operator asks for a recovery of the cluster `old` from a node that surely has its
    /// log up to `kept`.
    pub(crate) fn recovery_begins(&self, old: u64, kept: LogIndex) {
        let mut recovery = self.recovery.get();
        recovery.asked.get_or_insert_with(|| self.moment());
        (recovery.old, recovery.kept) = (Some(old), kept);
        recovery.changes += 1;
        self.recovery.set(recovery);
    }

    /// The recovery surely did not take place, unless an earlier attempt did.
    pub(crate) fn recovery_refused(&self) {
        let recovery = self.recovery.get();
        self.recovery.set(Recovery {
            asked: recovery.in_doubt.then_some(recovery.asked).flatten(),
            ..recovery
        });
    }

    /// It has taken place.
    pub(crate) fn recovery_made(&self) {
        let mut recovery = self.recovery.get();
        recovery.made.get_or_insert_with(|| self.moment());
        recovery.changes += 1;
        self.recovery.set(recovery);
    }

    /// The operator has seen `cluster`, and whether it has a leader. If a recovery of another one was
    /// ordered with an unknown outcome, it has taken place.
    pub(crate) fn saw_cluster(&self, cluster: Option<u64>, is_led: bool) {
        let recovery = self.recovery.get();
        let renewed = recovery.old.is_some() && cluster.is_some() && cluster != recovery.old;
        if renewed && is_led && recovery.asked.is_some() && recovery.made.is_none() {
            self.recovery_made();
        }
    }

    /// Whether the operator has asked for a recovery that may have taken place.
    pub(crate) fn may_be_recovered(&self) -> bool {
        self.recovery.get().asked.is_some()
    }

    /// Whether a recovery may take place, or have taken place, without being known.
    pub(crate) fn recovery_is_open(&self) -> bool {
        self.may_be_recovered() && !self.is_recovered()
    }

    /// It is unknown whether the recovery has taken place.
    pub(crate) fn recovery_in_doubt(&self) {
        let recovery = self.recovery.get();
        self.recovery.set(Recovery {
            in_doubt: true,
            ..recovery
        });
    }

    /// Whether it surely has.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovery.get().made.is_some()
    }

    /// Changes whenever acknowledged writes may have been lost.
    pub(crate) fn era(&self) -> u64 {
        self.recovery.get().changes
    }

    /// Panics unless all answers can be true.
    pub(crate) fn check(&self) {
        let Recovery {
            asked, made, kept, ..
        } = self.recovery.get();
        let recovery = asked
            .zip(made)
            .map(|(asked, done)| Break { asked, done, kept });
        if let Err(fault) = history::check(&self.history, recovery) {
            panic!("{fault}");
        }
    }

    /// The connection to a new incarnation of node `id`.
    pub(crate) fn born(&self, id: u16, handle: DriverHandle) {
        self.nodes.borrow_mut().insert(id, handle);
    }

    /// Node `id` no longer runs.
    pub(crate) fn died(&self, id: u16) {
        self.nodes.borrow_mut().remove(&id);
    }

    /// The status of the nodes that run, by their ids.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, NodeStatus> {
        let nodes = self.nodes.borrow();
        nodes
            .iter()
            .map(|(&id, handle)| (id, handle.status()))
            .collect()
    }

    pub(crate) fn count(&self, what: &str) {
        self.report.borrow_mut().add(what, 1);
    }
}
