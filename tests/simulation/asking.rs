//! The requests of clients, and their times: a few all the time, and sometimes as many as possible.

use rand::Rng;
use seshat::kv::Command;
use seshat::types::{NodeId, ProtocolLevel};

use crate::clients::{Request, Waiter};
use crate::invariants::Verdict;
use crate::numbered::Attempt;
use crate::process::Input;
use crate::setting::Scope;
use crate::world::{Happening, SILENCE, TICK, World};

impl World {
    /// A node; with the given probability one that believes that it leads, if there is one.
    pub(crate) fn some_node(&mut self, leader: f64) -> NodeId {
        let leaders = self.processes.iter().filter(|(_, it)| it.leads().is_some());
        let leaders: Vec<_> = leaders.map(|(&node, _)| node).collect();
        let from = if !leaders.is_empty() && self.rng.gen_bool(leader) {
            leaders
        } else {
            self.setting.node_ids()
        };
        from[self.rng.gen_range(0..from.len())]
    }

    /// Whether clients may still ask in so many milliseconds.
    fn may_ask_in(&self, delay: u64) -> bool {
        self.now + delay < self.setting.end() - SILENCE
    }

    /// Clients send requests to a node, mostly to one that leads.
    pub(crate) fn ask(&mut self) -> Verdict {
        let next = self.rng.gen_range(1..60);
        if self.may_ask_in(next) {
            self.schedule(next, Happening::Ask);
        }
        let node = self.some_node(0.85);
        let mut rafts = self.rafts();
        let spoken = rafts.any(|raft| raft.level() >= ProtocolLevel::SECOND);
        drop(rafts);
        self.clients.transactions.spoken = spoken;
        self.clients.transactions.owners = self.clients.living.ids();
        let mut requests = Vec::new();
        // Several requests often arrive in one turn of the driver.
        for _ in 0..self.rng.gen_range(1..=4) {
            let (waiter, request) = self.clients.ask(&mut self.rng, node, self.now);
            self.trace
                .line(self.now, format_args!("{waiter} asks {node}: {request:?}"));
            self.copy(node, waiter, &request, &mut requests);
            requests.push((waiter, request));
        }
        let placed = self.setting.scope == Scope::Wide && self.rng.gen_bool(0.5);
        self.bring(node, requests, placed)
    }

    /// A client with a session that lives asks a node, mostly one that leads.
    pub(crate) fn live(&mut self) -> Verdict {
        let next = self.rng.gen_range(30..150);
        if self.may_ask_in(next) {
            self.schedule(next, Happening::Live);
        }
        if !self.clients.transactions.spoken {
            return Ok(());
        }
        let node = self.some_node(0.85);
        let (waiter, request) = self.clients.live(node, self.now);
        self.trace
            .line(self.now, format_args!("{waiter} asks {node}: {request:?}"));
        let Request::KeepAlive(client_id) = request else {
            return self.bring(node, vec![(waiter, request)], false);
        };
        let Some(process) = self.processes.get_mut(&node) else {
            self.clients.lost(node);
            return Ok(());
        };
        process.keep_alives.push((client_id, waiter));
        self.arrive(node, None, Input::Turn)
    }

    /// A client that shares locks asks a node, mostly one that leads.
    pub(crate) fn lock(&mut self) -> Verdict {
        let next = self.clients.locking.pause(self.calm);
        if self.may_ask_in(next) {
            self.schedule(next, Happening::Lock);
        }
        if !self.clients.transactions.spoken {
            return Ok(());
        }
        let node = self.some_node(if self.calm { 1.0 } else { 0.85 });
        let (waiter, request) = self.clients.lock(node, self.calm, self.now);
        self.trace
            .line(self.now, format_args!("{waiter} asks {node}: {request:?}"));
        self.bring(node, vec![(waiter, request)], false)
    }

    /// Requests reach a node, in one batch or one by one.
    fn bring(&mut self, node: NodeId, requests: Vec<(Waiter, Request)>, placed: bool) -> Verdict {
        if !self.processes.contains_key(&node) {
            self.clients.lost(node);
            return Ok(());
        }
        if placed {
            self.clients
                .order(requests.iter().map(|(waiter, _)| *waiter));
        }
        self.arrive(node, None, Input::Requests { requests, placed })
    }

    /// Clients write as much as they can, in each tick until the time is over.
    pub(crate) fn load(&mut self, until: u64) -> Verdict {
        let Some(writes) = self.setting.load else {
            return Ok(());
        };
        if self.now + TICK < until && self.may_ask_in(TICK) {
            self.schedule(TICK, Happening::Load { until });
        }
        let node = self.some_node(1.0);
        self.trace
            .line(self.now, format_args!("{writes} writes come to {node}"));
        let mut requests = Vec::new();
        for _ in 0..writes {
            requests.push(self.clients.write(&mut self.rng, node, self.now));
        }
        self.summary.load += writes;
        self.bring(node, requests, true)
    }

    /// A request of a client with a session may be duplicated: the copy arrives at once, or much later
    /// and at another node.
    fn copy(
        &mut self,
        node: NodeId,
        waiter: Waiter,
        request: &Request,
        requests: &mut Vec<(Waiter, Request)>,
    ) {
        let (Some(attempt), Request::Write(command)) = (self.clients.attempt(waiter), request)
        else {
            return;
        };
        let command = command.clone();
        match self.rng.gen_range(0..10) {
            0 => {
                self.clients.sessions.retries += 1;
                let copy = self.clients.send(attempt, command, node, self.now);
                self.trace
                    .line(self.now, format_args!("{} is a copy of {waiter}", copy.0));
                requests.push(copy);
            }
            1 => {
                let within = [100, 2_000, 30_000][self.rng.gen_range(0..3)];
                let delay = self.rng.gen_range(1..within);
                self.schedule(delay, Happening::Copy { attempt, command });
            }
            _ => {}
        }
    }

    /// A late copy arrives.
    pub(crate) fn ask_again(&mut self, attempt: Attempt, command: Command) -> Verdict {
        if !self.may_ask_in(0) {
            return Ok(());
        }
        self.clients.sessions.retries += 1;
        let node = self.some_node(0.85);
        let (waiter, request) = self.clients.send(attempt, command, node, self.now);
        self.trace.line(
            self.now,
            format_args!("{waiter} is a late copy at {node}: {request:?}"),
        );
        self.bring(node, vec![(waiter, request)], false)
    }
}
