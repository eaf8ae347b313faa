//! What the hosts of one simulated world share beside its network: the story of the run, and what
//! the clients were told. Hosts take turns on one thread, so there is an order to everything.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use seshat::driver::DriverHandle;
use seshat::types::NodeStatus;

use crate::checker::{self, Kind, Operation};
use crate::report::Report;

/// The shared part of a world.
#[derive(Default)]
pub(crate) struct Shared {
    /// Whether every line of the story is printed.
    loud: bool,
    story: RefCell<DefaultHasher>,
    moment: Cell<u64>,
    value: Cell<u64>,
    history: RefCell<BTreeMap<u64, Vec<Operation>>>,
    nodes: RefCell<BTreeMap<u16, DriverHandle>>,
    /// What happened how often.
    pub(crate) report: RefCell<Report>,
    /// The clients shall come to an end.
    pub(crate) ending: Cell<bool>,
}

impl Shared {
    pub(crate) fn new(loud: bool) -> Self {
        Self {
            loud,
            ..Self::default()
        }
    }

    /// Adds a line to the story. What is told here decides whether two runs were the same.
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

    /// The next moment. Moments, unlike the clocks of the hosts, put everything that happens in the
    /// order in which it was done.
    pub(crate) fn moment(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    /// A value that nobody has written yet.
    pub(crate) fn fresh_value(&self) -> u64 {
        self.value.set(self.value.get() + 1);
        self.value.get()
    }

    pub(crate) fn remember(&self, key: u64, kind: Kind, start: u64, end: Option<u64>) {
        let operation = Operation { kind, start, end };
        let mut history = self.history.borrow_mut();
        history.entry(key).or_default().push(operation);
    }

    /// Panics unless the history of every key is linearizable.
    pub(crate) fn check(&self) {
        for (key, history) in self.history.borrow().iter() {
            if let Err(fault) = checker::check(history) {
                panic!("the history of k{key} is not linearizable: {fault}");
            }
        }
    }

    /// The way to a new life of node `id`.
    pub(crate) fn born(&self, id: u16, handle: DriverHandle) {
        self.nodes.borrow_mut().insert(id, handle);
    }

    /// Node `id` runs no more.
    pub(crate) fn died(&self, id: u16) {
        self.nodes.borrow_mut().remove(&id);
    }

    /// How the nodes that run stand, by their ids.
    pub(crate) fn standings(&self) -> BTreeMap<u16, NodeStatus> {
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
