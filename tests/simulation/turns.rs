//! One turn of a process: an input, the output, and the checks.

use rand::Rng;
use seshat::kv::{Command, Query, Revisions};
use seshat::node::{self, Event, Outcome, Output, Proposal, Replica};
use seshat::types::{ClusterId, NodeId};
use seshat::wire;

use crate::clients::{Request, Waiter};
use crate::invariants::{
    Verdict, acknowledged_writes_are_kept, every_client_is_answered,
    guarded_writes_are_of_the_holder, linearizable, locks_change_hands, locks_see_the_log,
    no_replica_fails, nothing_lives_for_ever, one_cluster, reads_see_the_log,
    revisions_are_given_once, scans_see_one_moment, served_after_the_calm,
    transactions_see_the_log, waiters_end_once, well_after_the_calm,
};
use crate::process::{Input, Process};
use crate::revisions::Told;
use crate::sabotage::Sabotage;
use crate::setting::Scope;
use crate::world::{TICK, World};

/// Milliseconds before the end in which a write and a read must have been answered.
const SERVED_WITHIN: u64 = 3_000;

impl World {
    /// The process at `node` takes `input`.
    pub(crate) fn take(&mut self, node: NodeId, input: Input) -> Verdict {
        let now = self.now;
        let time = self.wall_time(node);
        let Some(process) = self.processes.get_mut(&node) else {
            return Ok(());
        };
        let incarnation = process.incarnation;
        match input {
            Input::Tick if process.stalled_until > now => {
                let rest = process.stalled_until - now;
                self.schedule_tick(node, incarnation, rest.min(TICK));
                return Ok(());
            }
            Input::Tick => {
                process.ticks.push(now);
                process.replica.set_time(time);
                process.replica.tick();
                // Clocks run at different speeds.
                let next = TICK + self.rng.gen_range(0..=TICK / 20);
                self.schedule_tick(node, incarnation, next);
            }
            Input::Message { message, sent_at } => self.deliver(node, message, sent_at),
            Input::Snapshot {
                header,
                state_machine,
            } => self.install(node, header, state_machine),
            Input::Chunk { transfer, chunk } => self.receive_chunk(node, transfer, chunk),
            Input::SnapshotReport { to, delivered } => {
                process.replica.report_snapshot(to, delivered);
            }
            Input::Call { from, id, call } => self.answer_call(from, id, node, call),
            Input::Reply { id, reply } => process.replica.replied(id, reply),
            Input::Requests { requests, placed } => self.requests(node, requests, placed)?,
            Input::Turn => {}
            Input::Operator(inquiry) => self.asked_by_operator(node, inquiry)?,
            Input::Question { from, inquiry } => self.answer_question(node, from, inquiry),
            Input::Answer { inquiry, status } => self.hear_answer(node, inquiry, status)?,
            Input::Conclude(inquiry) => self.conclude(node, inquiry)?,
        }
        self.settle(node)
    }

    fn requests(
        &mut self,
        node: NodeId,
        requests: Vec<(Waiter, Request)>,
        placed: bool,
    ) -> Verdict {
        if !placed {
            for (waiter, request) in requests {
                self.request(node, waiter, request)?;
            }
            return Ok(());
        }
        let mut inputs = Vec::new();
        for (waiter, request) in requests {
            self.clients.taken(waiter);
            inputs.push(match request {
                Request::Write(command) => node::Input::Write(self.proposal(node, command, waiter)),
                Request::Read(query) => node::Input::Read { query, waiter },
                Request::KeepAlive(_) => panic!("renewals have a queue of their own"),
            });
        }
        if self.plan.sabotage == Some(Sabotage::ReadsLast) {
            inputs.sort_by_key(|input| matches!(input, node::Input::Read { .. }));
        }
        let inputs = self.clients.runs.join(inputs);
        if let Some(process) = self.processes.get_mut(&node) {
            process.replica.submit(inputs);
        }
        Ok(())
    }

    fn proposal(&mut self, node: NodeId, command: Command, waiter: Waiter) -> Proposal<Waiter> {
        let command = self.interfere(node, command, waiter);
        Proposal {
            context: Default::default(),
            command: wire::encode_command(&command),
            waiter,
        }
    }

    fn request(&mut self, node: NodeId, waiter: Waiter, request: Request) -> Verdict {
        if let Request::Read(Query::Get(key)) = &request
            && let Some(answer) = self.local_read(node, key)
        {
            self.trace.line(
                self.now,
                format_args!("{waiter} is told at once {answer:?}"),
            );
            let cluster = self.cluster_of(node);
            let log = self.clusters.log(cluster);
            let told = Told::new(Ok(answer), self.now, (cluster, log));
            return self.clients.told(waiter, &told);
        }
        if let Request::Write(command) = &request {
            self.grant_early(node, waiter, command)?;
        }
        self.clients.taken(waiter);
        let proposal = match request {
            Request::Write(command) => Some(self.proposal(node, command, waiter)),
            Request::Read(query) => {
                if let Some(process) = self.processes.get_mut(&node) {
                    process.replica.read(query, waiter);
                }
                None
            }
            Request::KeepAlive(_) => panic!("renewals have a queue of their own"),
        };
        if let (Some(proposal), Some(process)) = (proposal, self.processes.get_mut(&node)) {
            process.replica.propose(vec![proposal]);
        }
        Ok(())
    }

    /// The cluster that `node` takes part in; none is 0.
    pub(crate) fn cluster_of(&self, node: NodeId) -> ClusterId {
        let process = self.processes.get(&node);
        let raft = process.and_then(|process| process.replica.raft());
        raft.map_or(ClusterId(0), |raft| raft.cluster_id())
    }

    pub(crate) fn revisions_of(&self, node: NodeId) -> Revisions {
        let process = self.processes.get(&node);
        let raft = process.and_then(|process| process.replica.raft());
        raft.map_or_else(Revisions::default, |raft| {
            raft.storage().state_machine().revisions()
        })
    }

    /// Carries out the output of a node, and checks everything that can be checked at any moment.
    pub(crate) fn settle(&mut self, node: NodeId) -> Verdict {
        self.renew_for_all(node);
        let told_at_once = self.renew(node);
        let Some(process) = self.processes.get_mut(&node) else {
            return Ok(());
        };
        process.replica.set_uptime(process.uptime(self.now));
        process.replica.advance_clock();
        let (incarnation, raft_id) = (process.incarnation, process.replica.raft_id());
        let output = process.replica.output();
        let Output {
            answers,
            events,
            messages,
            snapshots,
            calls,
            watches,
            locks: _,
            retired: _,
        } = output.map_err(|error| no_replica_fails::broken(raft_id, &error))?;
        let mut removed = false;
        for event in events {
            self.trace.line(self.now, format_args!("{node}: {event:?}"));
            match event {
                Event::SnapshotInstalled { .. } => self.summary.snapshots += 1,
                Event::LevelRaised { .. } => self.summary.raised += 1,
                Event::Started { cluster_id } => self.started(node, cluster_id)?,
                Event::Recovered { old, new, .. } => self.recovered(node, old, new)?,
                Event::Removed { .. } => removed = true,
                Event::ClocksDiffer { .. } => self.set_clock(),
                _ => {}
            }
        }
        self.tell(node, answers)?;
        self.tell(node, told_at_once)?;
        self.send_to_watches(node, incarnation, watches);
        for message in messages {
            self.send(raft_id, message);
        }
        for snapshot in snapshots {
            self.send_snapshot(raft_id, incarnation, snapshot);
        }
        for (id, call) in calls {
            self.call(node, incarnation, id, &call);
        }
        if self.plan.sabotage == Some(Sabotage::EarlyAcknowledgements) {
            self.acknowledge_early(node);
        }
        if self.setting.remembers
            && let Some(process) = self.processes.get(&node)
            && process.replica.raft().is_some()
        {
            self.files.remember(node, process.replica.members());
        }
        self.check(node)?;
        if removed {
            self.departed(node);
        }
        let process = self.processes.get(&node);
        if process.is_some_and(|process| process.replica.clock_goes_on()) {
            self.schedule_input(0, node, Some(incarnation), Input::Turn);
        }
        Ok(())
    }

    /// The process takes all waiting renewals. Returns the answers of a harness that answers them itself.
    fn renew(&mut self, node: NodeId) -> Vec<(Waiter, Outcome)> {
        let mut told = Vec::new();
        let Some(process) = self.processes.get_mut(&node) else {
            return told;
        };
        for (client_id, waiter) in std::mem::take(&mut process.keep_alives) {
            if let Some(answer) = self.local_renewal(node, client_id) {
                told.push((waiter, Ok(answer)));
                continue;
            }
            self.clients.taken(waiter);
            if let Some(process) = self.processes.get_mut(&node) {
                process.replica.keep_alive(client_id, waiter);
            }
        }
        told
    }

    /// Callers at `node` are answered. The agreed log has what the answers depend on.
    fn tell(&mut self, node: NodeId, answers: Vec<(Waiter, Outcome)>) -> Verdict {
        let process = self.processes.get(&node);
        if let Some(raft) = process.and_then(|process| process.replica.raft()) {
            self.clusters.check(raft)?;
        }
        let cluster = self.cluster_of(node);
        let ended = self.clusters.take_ended(cluster);
        self.clients.living.ended(cluster, &ended, self.now)?;
        let notices = self.clusters.take_notices(cluster);
        let living = (&self.clients.living, self.now);
        self.clients.locking.noticed(cluster, notices, living)?;
        self.note_timers(node);
        let runs = &mut self.clients.runs;
        let answers: Vec<_> = answers
            .into_iter()
            .flat_map(|(waiter, outcome)| runs.split(waiter, outcome))
            .collect();
        for (waiter, outcome) in answers {
            self.trace.line(
                self.now,
                format_args!("{waiter} is told {}", without_state(&outcome)),
            );
            let outcome = self.falsify(node, waiter, outcome);
            let log = self.clusters.log(cluster);
            let mut told = Told::new(outcome, self.now, (cluster, log));
            if self.plan.sabotage == Some(Sabotage::NoneSkipped) {
                told.skip_nothing();
            }
            self.clients.told(waiter, &told)?;
        }
        Ok(())
    }

    /// The invariants of any moment, as far as `node` may have changed them.
    fn check(&mut self, node: NodeId) -> Verdict {
        let Some(process) = self.processes.get(&node) else {
            return Ok(());
        };
        let Some(raft) = process.replica.raft() else {
            return waiters_end_once::check(&process.replica, &self.clients);
        };
        self.leaders.check(raft)?;
        waiters_end_once::check(&process.replica, &self.clients)?;
        let leads = process.leads().is_some();
        if self.setting.scope == Scope::Narrow {
            one_cluster::check(self.members())?;
            if leads {
                self.watch_healing();
            }
        }
        Ok(())
    }

    /// All running processes.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Replica<Waiter>> {
        self.processes.values().map(|process| &process.replica)
    }

    fn check_that_all_ends(&self) -> Verdict {
        let (served, end) = (self.setting.served(), self.setting.end());
        for raft in self.processes.values().filter_map(Process::leads) {
            let state = raft.storage().state_machine();
            locks_change_hands::check(raft, &self.clients.locking, served, end)?;
            let living = &self.clients.living;
            nothing_lives_for_ever::check(raft.raft_id(), state, living, served, end)?;
        }
        Ok(())
    }

    /// The conditions at the end of the calm. Safety first: a run that halts must not be wrong.
    pub(crate) fn check_end(&self) -> Verdict {
        for raft in self.members().filter_map(|replica| replica.raft()) {
            let log = self.clusters.log(raft.cluster_id());
            log.check_map(raft.raft_id(), raft.storage())?;
        }
        if !self.clients.bereft {
            linearizable::check(&self.clients)?;
        }
        reads_see_the_log::check(&self.clients.seen, &self.clusters)?;
        scans_see_one_moment::check(&self.clients.scans.told, &self.clusters)?;
        let (locking, told) = (&self.clients.locking, &self.clients.transactions.told);
        guarded_writes_are_of_the_holder::check(told, &locking.tokens, &self.clusters)?;
        locks_see_the_log::check(&locking.told, &self.clusters)?;
        transactions_see_the_log::check(&self.clients.transactions.told, &self.clusters)?;
        revisions_are_given_once::check(&self.clusters)?;
        acknowledged_writes_are_kept::check(&self.clients.acknowledged, &self.clusters)?;
        every_client_is_answered::check(&self.clients)?;
        self.check_that_all_ends()?;
        let served_since = self.setting.end() - SERVED_WITHIN;
        served_after_the_calm::check(&self.clients, served_since)?;
        match self.setting.scope {
            Scope::Narrow => {
                let log = self.clusters.logs().next().map(|(_, log)| log);
                let log = log.expect("it has served");
                well_after_the_calm::check(self.members(), self.is_healed(), log)
            }
            Scope::Wide => self.check_end_of_final_check(),
        }
    }
}

/// The outcome, but for the state of a scan, whose parts are in no particular order.
fn without_state(outcome: &node::Outcome) -> String {
    match outcome {
        Ok(node::Answer::Part { part, revision, .. }) => format!("{part:?} at {revision}"),
        other => format!("{other:?}"),
    }
}
