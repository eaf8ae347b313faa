//! The loop that owns the core: commands in, outputs out.
//!
//! All requests to a node arrive here, through a [`DriverHandle`]. The loop gathers the waiting requests,
//! hands them to the [`Replica`], and carries out the [`Output`]: answers to their callers, messages to
//! the [`Network`]. It is the only task that touches the core, so the core needs no lock. It never waits
//! for a peer or a caller, so neither can stall it.
//!
//! One turn takes all that waits, up to a bound: all proposals of a turn become one message to each
//! follower, all reads of a turn one round of heartbeats. Under load turns grow by themselves, and the
//! batches with them. Without load a turn serves one caller at once. Commands beyond one turn wait in the
//! `Backlog`, from which each turn takes equal parts of all sources. And no turn gives the core more than
//! it has room for: the Raft log is a single queue without turns, so it has to be short.
//!
//! Three queues lead in, all bounded. Clients' requests are refused when their queue is full
//! (`Overloaded`). Peers' messages wait, which holds back their stream. Peers go first, because their
//! messages finish the requests that clients wait for. Renewals of sessions have a queue of their own, which
//! every turn empties before the replicated clock goes on: no load may end a session whose client renews it.

mod asking;
mod backlog;
mod batch;
mod fair;
mod handle;
mod journal;
mod network;
mod opening;
mod operator;
mod options;
mod publish;
mod renewals;
mod runs;
mod signals;
mod single;
#[cfg(test)]
mod tests;
mod unread;
mod watching;
mod workers;

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::Refusal;
use crate::node::{CLOCK_INTERVAL, Event, NodeError, Output, PeerMessage, Replica, StepError};
use crate::types::{ClientId, ClusterId, ClusterMembership, NodeStatus, WallTime};

use backlog::{Backlog, Turn};
use fair::Source;
use handle::{Bounds, Ends, Request};
use journal::{RefusedMessages, Replication, Waiting};
use publish::show;
use watching::Watching;

pub use crate::node::{Answer, Call, CallId, Outcome, OutgoingSnapshot, Recovery, Reply};
pub use batch::{Answered, BatchItem, Pending, PendingBatch, Waiter};
#[cfg(test)]
pub(crate) use handle::Detached;
pub(crate) use handle::Notice;
pub use handle::{DriverHandle, Stopped};
pub use network::{Identifying, Network, Probe};
pub use options::DriverOptions;
pub use signals::{LockSignals, Signal};
pub use unread::{Account, Held, Reader, Unread, ValueRoom};
pub use watching::{Bundle, Watch};
pub use workers::Workers;

/// Number of times that the loop polls for more before it lets its thread sleep, once it has served a
/// client. A sleeping thread has to be woken, by a peer's answer and then by the next request, and each
/// wake-up takes longer than all of the thread's work for a write. So polling saves a lone caller a third
/// of its latency. It ends after some tens of microseconds and costs an idle node nothing. A count,
/// unlike a time, needs no clock.
const LOOKS: u32 = 64;

/// The process was removed from its cluster: its part in the cluster is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The cluster.
    pub cluster_id: ClusterId,
}

/// The loop. Created by [`new`](Self::new), driven by [`run`](Self::run).
pub struct Driver {
    replica: Replica<Waiter>,
    options: DriverOptions,
    requests: mpsc::Receiver<(Source, Request)>,
    backlog: Backlog,
    notices: mpsc::Receiver<Notice>,
    keep_alives: mpsc::Receiver<(ClientId, Waiter)>,
    started: Instant,
    status: watch::Sender<NodeStatus>,
    members: watch::Sender<Arc<ClusterMembership>>,
    /// The nodes that the network was last told.
    nodes: watch::Sender<Arc<ClusterMembership>>,
    decides: watch::Sender<bool>,
    joined_at: Option<SystemTime>,
    clock: fn() -> Option<WallTime>,
    refused: RefusedMessages,
    waiting: Waiting,
    replication: Replication,
    watching: Watching,
    locks: LockSignals,
    /// The operator's call that waits for the end of a recovery.
    recovering: Option<oneshot::Sender<Result<Recovery, Refusal>>>,
    /// Number of polls left before the loop waits.
    looks: u32,
}

impl Driver {
    /// A driver that owns `member`, and a handle for it.
    pub fn new(replica: Replica<Waiter>, options: DriverOptions) -> (Self, DriverHandle) {
        let bounds = Bounds {
            requests: options.max_pending_requests,
            notices: options.peer_inbox_messages,
            max_inflight: replica.max_inflight(),
            workers: options.workers,
        };
        let max_run = replica.max_run().min(options.max_batch_requests);
        let members = Arc::clone(replica.members());
        let nodes = Arc::clone(replica.nodes());
        let (handle, ends) =
            DriverHandle::new(&bounds, replica.status(), members, nodes, replica.decides());
        let Ends {
            requests,
            notices,
            keep_alives,
            status,
            members,
            nodes,
            decides,
        } = ends;
        let driver = Self {
            replica,
            requests,
            backlog: Backlog::new(options.max_pending_requests, max_run),
            options,
            notices,
            keep_alives,
            started: Instant::now(),
            status,
            members,
            nodes,
            decides,
            joined_at: None,
            clock: wall_time,
            refused: RefusedMessages::default(),
            waiting: Waiting::default(),
            replication: Replication::default(),
            watching: Watching::default(),
            locks: handle.lock_signals().clone(),
            recovering: None,
            looks: 0,
        };
        (driver, handle)
    }

    /// Reads the wall clock by `clock` instead, so that a simulation can repeat it.
    pub fn set_clock(&mut self, clock: fn() -> Option<WallTime>) {
        self.clock = clock;
    }

    /// Runs until the process is removed from its cluster, or an invariant breaks. To stop a driver, drop
    /// the future: callers that still wait for an outcome learn that there will be none.
    ///
    /// # Errors
    ///
    /// [`NodeError`]: the node must not go on.
    #[tracing::instrument(
        level = "debug", skip_all,
        fields(node = %self.replica.raft_id().node_id(), raft_id = %self.replica.raft_id()),
    )]
    pub async fn run(mut self, mut network: impl Network) -> Result<Removed, NodeError> {
        let mut ticker = tokio::time::interval(self.options.tick);
        // After a pause of the process one tick is enough: a burst of ticks would look like many silent
        // heartbeat intervals and start an unnecessary election.
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The replicated clock goes on by ticks, unless these are too far apart.
        let interval = Duration::from_millis(CLOCK_INTERVAL);
        let mut clock = tokio::time::interval(interval);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Ticks come before all other work: those of a leader are its heartbeats.
            tokio::select! {
                biased;
                _ = ticker.tick() => {
                    self.replica.set_time((self.clock)());
                    self.replica.tick();
                    self.waiting.log_changes(&self.replica);
                }
                Some(notice) = self.notices.recv() => self.take_notice(notice),
                Some((source, request)) = self.requests.recv(), if self.backlog.has_place() => {
                    self.backlog.push(source, request);
                }
                Some((client_id, waiter)) = self.keep_alives.recv() => {
                    self.keep_alive(client_id, waiter);
                }
                () = ready(()), if self.goes_on() => {}
                _ = clock.tick(), if self.options.tick > interval => {}
                () = self.watching.reported() => {}
                () = tokio::task::yield_now(), if self.looks > 0 => {
                    self.looks -= 1;
                    continue;
                }
            }
            self.gather();
            self.advance_clock();
            self.submit();
            if let Some(removed) = self.settle(&mut network)? {
                return Ok(removed);
            }
            // Lets the connections run, so that the next turn finds all requests that have come meanwhile.
            tokio::task::yield_now().await;
        }
    }

    /// Whether there is more to do at once.
    fn goes_on(&self) -> bool {
        let replica = &self.replica;
        self.backlog.goes_on() || replica.clock_goes_on() || replica.has_watch_output()
    }

    /// Takes all other waiting requests, up to the bounds of the queues.
    fn gather(&mut self) {
        self.watching.report(&mut self.replica);
        for _ in 0..self.options.peer_inbox_messages {
            let Ok(notice) = self.notices.try_recv() else {
                break;
            };
            self.take_notice(notice);
        }
        while self.backlog.has_place()
            && let Ok((source, request)) = self.requests.try_recv()
        {
            self.backlog.push(source, request);
        }
    }

    /// Gives the core the waiting requests of this turn.
    fn submit(&mut self) {
        let DriverOptions {
            max_batch_requests,
            max_batch_bytes,
            ..
        } = self.options;
        let room = self.replica.room();
        let Turn { inputs, reads } = self.backlog.turn(max_batch_requests, max_batch_bytes, room);
        for (query, waiter) in reads {
            self.replica.read(query, waiter);
        }
        if !inputs.is_empty() {
            self.replica.submit(inputs);
        }
    }

    fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Step(message) => self.step(message),
            Notice::Install {
                header,
                state_machine,
            } => {
                let installed = self.replica.install(header, *state_machine);
                self.note(installed);
            }
            Notice::Unreachable(peer) => self.replica.report_unreachable(peer),
            Notice::SnapshotSent { to, answer } => {
                // The report and the answer go in one turn, the report first. raft-rs resumes behind the
                // index that it had noted, until the answer says that the snapshot reached further.
                // Entries that it sent in between could be compacted already, and then it would send
                // another snapshot.
                self.replica.report_snapshot(to, answer.is_some());
                if let Some(answer) = answer {
                    self.step(answer);
                }
            }
            Notice::Watch(opening) => {
                let tick = self.options.tick;
                self.watching.open(opening, tick, &mut self.replica);
            }
            Notice::Replied(call, reply) => self.replica.replied(call, reply),
            Notice::Asked(by) => self.replica.asked(&by),
            // If the caller has gone meanwhile, the answer is dropped.
            Notice::Offered(offer, accepted) => {
                let _ = accepted.send(self.replica.offered(offer));
            }
            Notice::Start {
                cluster_id,
                coordinator,
                started,
            } => {
                let _ = started.send(self.replica.start(cluster_id, coordinator));
            }
            Notice::Transfer { to, accepted } => {
                let _ = accepted.send(self.replica.transfer_leader(to));
            }
            Notice::Form { without, begun } => {
                let _ = begun.send(self.replica.form_without(without));
            }
            Notice::StopForming { without, stopped } => {
                let _ = stopped.send(self.replica.stop_forming(&without));
            }
            Notice::Yield(claim, yielded) => {
                let _ = yielded.send(self.replica.yield_to(&claim));
            }
            Notice::Recover {
                order,
                answers,
                dry_run: true,
                recovered,
            } => {
                let _ = recovered.send(self.replica.may_recover(&order, answers));
            }
            Notice::Recover {
                order,
                answers,
                dry_run: false,
                recovered,
            } => match self.replica.recover(order, answers) {
                Ok(()) => self.recovering = Some(recovered),
                Err(refusal) => {
                    let _ = recovered.send(Err(refusal));
                }
            },
        }
    }

    fn step(&mut self, message: PeerMessage) {
        self.replication.receives(self.replica.raft_id(), &message);
        let stepped = self.replica.step(message);
        self.note(stepped);
    }

    fn note(&self, taken: Result<(), StepError>) {
        if let Err(error) = taken {
            self.refused.record(&self.status.borrow(), &error);
        }
    }

    /// Carries out the output of the core. Returns `Some` if the process was removed.
    fn settle(&mut self, network: &mut impl Network) -> Result<Option<Removed>, NodeError> {
        let Output {
            answers,
            events,
            messages,
            snapshots,
            calls,
            watches,
            locks,
            retired,
        } = self.replica.output()?;
        if !answers.is_empty() || self.replica.raft().is_some_and(|raft| raft.waiting() > 0) {
            self.looks = LOOKS;
        }
        if !answers.is_empty() {
            self.backlog.go_on();
        }
        batch::deliver(answers);
        let now = self.replica.status();
        let mut removed = None;
        for event in &events {
            match event {
                Event::Started { .. } => self.joined_at = (self.clock)().map(SystemTime::from),
                &Event::Removed { cluster_id } => removed = Some(Removed { cluster_id }),
                _ => {}
            }
            journal::log(&now, event);
        }
        self.replication.commits(&now);
        self.publish(now, network);
        if let Some(outcome) = self.replica.take_recovered()
            && let Some(recovered) = self.recovering.take()
        {
            let _ = recovered.send(outcome);
        }
        self.follow_members(network);
        for message in messages {
            self.send(network, message);
        }
        for snapshot in snapshots {
            self.send_snapshot(network, snapshot);
        }
        for (id, call) in calls {
            network.call(id, call);
        }
        self.watching.deliver(watches);
        for change in &locks {
            self.locks.raise(change);
        }
        if !retired.is_empty() {
            self.options.workers.free(retired);
        }
        Ok(removed)
    }

    /// Runs before messages are sent: one may be for a member that has just been added.
    fn follow_members(&mut self, network: &mut impl Network) {
        if show(&self.nodes, self.replica.nodes()) {
            network.set_members(self.replica.nodes());
        }
        show(&self.members, self.replica.members());
    }

    fn send(&mut self, network: &mut impl Network, message: PeerMessage) {
        self.replication.sends(self.replica.raft_id(), &message);
        let to = message.envelope().map(|envelope| envelope.to);
        if network.send(message) {
            return;
        }
        // The core's reaction to this leaves with the next turn, at the latest at the next tick.
        if let Ok(to) = to {
            self.replica.report_unreachable(to);
        }
    }

    fn send_snapshot(&mut self, network: &mut impl Network, snapshot: OutgoingSnapshot) {
        let to = snapshot.header.envelope().map(|envelope| envelope.to);
        if !network.send_snapshot(snapshot)
            && let Ok(to) = to
        {
            // raft-rs waits for the next answer to a heartbeat before it tries again.
            self.replica.report_snapshot(to, false);
        }
    }
}

/// The time of the wall clock. `None` if it is not credible.
pub fn wall_time() -> Option<WallTime> {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    WallTime::new(u64::try_from(since.as_micros()).ok()?)
}
