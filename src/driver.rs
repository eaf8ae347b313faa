//! The one loop that owns the core: commands in, outputs out.
//!
//! Everything that wants something of a node sends it here, through a [`DriverHandle`]. The loop
//! gathers what has come, hands it to the [`Member`], and carries out the [`Output`]: answers to
//! their callers, messages to the [`Network`]. It is the only task that touches the core, so the
//! core needs no lock, and it never waits for a peer or a caller, so neither can stall it.
//!
//! One turn takes whatever waits, up to a bound: all proposals of a turn become one message to each
//! follower, all reads of a turn one round of heartbeats. Under load turns grow by themselves, and
//! with them the batches; without load a turn serves one caller at once.
//!
//! Two queues lead in, both bounded. Clients' requests are refused when theirs is full
//! (`Overloaded`); peers' messages wait, which holds back the stream that they came on. Peers go
//! first: what they bring finishes what clients wait for.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::error::{Reason, Refusal, RpcError};
use crate::node::{Event, Member, NodeError, Outcome, Output, PeerMessage, Proposal, StepError};
use crate::types::{ClusterId, Key, NodeId, NodeStatus, Offer, RaftId, Role};

pub use crate::node::{Call, Reply};

/// How often refused peer messages are summed up in the log, at most.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the driver needs of the network. Nothing here may block.
pub trait Network: Send + 'static {
    /// Sends a message to the process that it is addressed to, in order with those before it.
    /// `false` if it was dropped, because the peer is down or its queue is full. Replies whose
    /// stream or call is gone count as sent: nobody waits for them.
    fn send(&mut self, message: PeerMessage) -> bool;

    /// Makes a formation call. The reply, or [`Reply::Failed`], comes back through
    /// [`DriverHandle::replied`].
    fn call(&mut self, to: NodeId, call: Call);

    /// Says whether this node leads. A node that does not lead keeps no streams open.
    fn set_leading(&mut self, leading: bool);
}

/// What an operator needs of the network: to see the other nodes. A trait object, so that whoever
/// answers operators need not know how nodes reach one another.
pub trait Probe: Send + Sync + 'static {
    /// Asks `node` who it is and how it fares, and waits at most `timeout`.
    fn identify(&self, node: NodeId, timeout: Duration) -> Identifying<'_>;
}

/// A call of [`Probe::identify`] under way.
pub type Identifying<'a> = Pin<Box<dyn Future<Output = Result<NodeStatus, RpcError>> + Send + 'a>>;

/// Bounds of the driver's queues and turns, from [`Limits`](crate::config::Limits).
#[derive(Debug, Clone, Copy)]
pub struct DriverOptions {
    /// Length of one Raft tick: the heartbeat interval.
    pub tick: Duration,
    /// Client requests that may wait for a turn. One more is refused as overloaded.
    pub max_pending_requests: usize,
    /// Peer messages that may wait for a turn. The stream of one more is held back.
    pub peer_inbox_messages: usize,
    /// Client requests that one turn takes.
    pub max_batch_requests: usize,
    /// Bytes of commands at which a turn takes no more client requests.
    pub max_batch_bytes: usize,
}

/// The driver has stopped: the node is shutting down or has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has stopped")]
pub struct Stopped;

type Waiter = oneshot::Sender<Outcome>;

/// What a client wants.
enum Request {
    Write { command: Bytes, waiter: Waiter },
    Read { key: Key, waiter: Waiter },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Write { command, .. } => command.len(),
            Self::Read { key, .. } => key.len(),
        }
    }
}

/// What a peer, the transport or an operator wants.
#[derive(Debug)]
pub(crate) enum Notice {
    Step(PeerMessage),
    Unreachable(RaftId),
    SnapshotSent {
        to: RaftId,
        delivered: bool,
    },
    Replied(NodeId, Reply),
    Offered(Offer, oneshot::Sender<bool>),
    Start {
        cluster_id: ClusterId,
        coordinator: RaftId,
        started: oneshot::Sender<bool>,
    },
    Transfer {
        to: Option<NodeId>,
        accepted: oneshot::Sender<Result<NodeId, Refusal>>,
    },
}

/// The way to a driver. Cheap to clone.
#[derive(Clone)]
pub struct DriverHandle {
    requests: mpsc::Sender<Request>,
    notices: mpsc::Sender<Notice>,
    status: watch::Receiver<NodeStatus>,
}

impl std::fmt::Debug for DriverHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriverHandle")
            .field("raft_id", &self.status.borrow().raft_id)
            .finish_non_exhaustive()
    }
}

impl DriverHandle {
    /// Hands in an encoded command. The receiver gets exactly one outcome; if the driver stops
    /// first it gets an error, and the outcome of the write is unknown.
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`] when the queue is full, [`Reason::ShuttingDown`] when the driver has
    /// stopped; in both cases the write was surely not applied.
    pub fn write(&self, command: Bytes) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (waiter, outcome) = oneshot::channel();
        self.request(Request::Write { command, waiter })?;
        Ok(outcome)
    }

    /// Asks for a linearizable read. The receiver gets exactly one outcome, or an error if the
    /// driver stops first.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn read(&self, key: Key) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (waiter, outcome) = oneshot::channel();
        self.request(Request::Read { key, waiter })?;
        Ok(outcome)
    }

    fn request(&self, request: Request) -> Result<(), Refusal> {
        self.requests.try_send(request).map_err(|error| {
            Refusal::not_applied(match error {
                mpsc::error::TrySendError::Full(_) => Reason::Overloaded {
                    what: "max_pending_requests",
                    limit: u64::try_from(self.requests.max_capacity()).unwrap_or(u64::MAX),
                },
                mpsc::error::TrySendError::Closed(_) => Reason::ShuttingDown,
            })
        })
    }

    /// Hands in a message of a peer; waits while the inbox is full.
    ///
    /// # Errors
    ///
    /// [`Stopped`], and the message is lost.
    pub async fn step(&self, message: PeerMessage) -> Result<(), Stopped> {
        self.notify(Notice::Step(message)).await
    }

    /// Says that messages to `peer` do not arrive.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn report_unreachable(&self, peer: RaftId) -> Result<(), Stopped> {
        self.notify(Notice::Unreachable(peer)).await
    }

    /// Says how the sending of a snapshot to `to` ended. Every snapshot that left through
    /// [`Network::send`] needs exactly one such report, or the follower is never sent to again.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn report_snapshot(&self, to: RaftId, delivered: bool) -> Result<(), Stopped> {
        self.notify(Notice::SnapshotSent { to, delivered }).await
    }

    /// Hands in what `node` replied to a formation call.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn replied(&self, node: NodeId, reply: Reply) -> Result<(), Stopped> {
        self.notify(Notice::Replied(node, reply)).await
    }

    /// Hands in the offer of a new cluster; whether it was accepted.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn offered(&self, offer: Offer) -> Result<bool, Stopped> {
        let (accepted, outcome) = oneshot::channel();
        self.notify(Notice::Offered(offer, accepted)).await?;
        outcome.await.map_err(|_| Stopped)
    }

    /// Hands in the coordinator's word that every member has accepted; whether this node takes
    /// part in that cluster now.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn start(&self, cluster_id: ClusterId, coordinator: RaftId) -> Result<bool, Stopped> {
        let (started, outcome) = oneshot::channel();
        self.notify(Notice::Start {
            cluster_id,
            coordinator,
            started,
        })
        .await?;
        outcome.await.map_err(|_| Stopped)
    }

    /// Begins to hand leadership to `to`, or to the best caught-up voter; who shall lead. raft-rs
    /// gives up silently after an election timeout: watch [`status`](Self::watch) for the outcome.
    ///
    /// # Errors
    ///
    /// [`Reason::NotLeader`] and the like, [`Reason::InvalidRequest`] when `to` cannot lead.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        let (accepted, outcome) = oneshot::channel();
        let stopped = |_| Refusal::not_applied(Reason::ShuttingDown);
        self.notify(Notice::Transfer { to, accepted })
            .await
            .map_err(stopped)?;
        outcome.await.map_err(|_| stopped(Stopped))?
    }

    async fn notify(&self, notice: Notice) -> Result<(), Stopped> {
        self.notices.send(notice).await.map_err(|_| Stopped)
    }

    /// How the node stands now.
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// Watches how the node stands. The value is always current, but only a change of state,
    /// cluster, role, term or leader wakes a watcher: progress of the log does not.
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }
}

/// The other end of a [`DriverHandle`] in the hands of a test.
#[cfg(test)]
pub(crate) struct Detached {
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) status: watch::Sender<NodeStatus>,
    _requests: mpsc::Receiver<Request>,
}

#[cfg(test)]
impl DriverHandle {
    /// A handle without a driver: a test plays its part.
    pub(crate) fn detached(status: NodeStatus, peer_inbox_messages: usize) -> (Self, Detached) {
        let (requests_in, requests) = mpsc::channel(1);
        let (notices_in, notices) = mpsc::channel(peer_inbox_messages);
        let (status, status_out) = watch::channel(status);
        let handle = Self {
            requests: requests_in,
            notices: notices_in,
            status: status_out,
        };
        let detached = Detached {
            notices,
            status,
            _requests: requests,
        };
        (handle, detached)
    }
}

/// The loop. Made by [`new`](Self::new), driven by [`run`](Self::run).
pub struct Driver {
    member: Member<Waiter>,
    options: DriverOptions,
    requests: mpsc::Receiver<Request>,
    notices: mpsc::Receiver<Notice>,
    status: watch::Sender<NodeStatus>,
    joined_at: Option<SystemTime>,
    refused: RefusedMessages,
}

impl Driver {
    /// A driver that owns `member`, and the way to it.
    pub fn new(member: Member<Waiter>, options: DriverOptions) -> (Self, DriverHandle) {
        let (requests_in, requests) = mpsc::channel(options.max_pending_requests.max(1));
        let (notices_in, notices) = mpsc::channel(options.peer_inbox_messages.max(1));
        let (status, status_out) = watch::channel(member.status());
        let handle = DriverHandle {
            requests: requests_in,
            notices: notices_in,
            status: status_out,
        };
        let driver = Self {
            member,
            options,
            requests,
            notices,
            status,
            joined_at: None,
            refused: RefusedMessages::default(),
        };
        (driver, handle)
    }

    /// Runs until an invariant breaks. To stop a driver, drop the future: whoever still waits for
    /// an outcome learns that there will be none.
    ///
    /// # Errors
    ///
    /// [`NodeError`]: the node must not go on.
    pub async fn run(mut self, mut network: impl Network) -> Result<(), NodeError> {
        let mut ticker = tokio::time::interval(self.options.tick);
        // After a pause of the process one tick is enough: a burst of them would look like many
        // silent heartbeat intervals and start an election that nobody needs.
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = ticker.tick() => {
                    self.member.tick();
                    self.refused.log_at_intervals();
                }
                Some(notice) = self.notices.recv() => self.take_notice(notice),
                Some(request) = self.requests.recv() => batch.push(request),
            }
            self.gather(&mut batch);
            self.submit(&mut batch);
            self.settle(&mut network)?;
            // Lets the connections run, so that the next turn finds all that has come meanwhile.
            tokio::task::yield_now().await;
        }
    }

    /// Takes what else waits, up to the bounds of a turn.
    fn gather(&mut self, batch: &mut Vec<Request>) {
        for _ in 0..self.options.peer_inbox_messages {
            let Ok(notice) = self.notices.try_recv() else {
                break;
            };
            self.take_notice(notice);
        }
        let mut bytes: usize = batch.iter().map(Request::bytes).sum();
        while batch.len() < self.options.max_batch_requests && bytes < self.options.max_batch_bytes
        {
            let Ok(request) = self.requests.try_recv() else {
                break;
            };
            bytes += request.bytes();
            batch.push(request);
        }
    }

    fn submit(&mut self, batch: &mut Vec<Request>) {
        let mut proposals = Vec::new();
        for request in batch.drain(..) {
            match request {
                Request::Write { command, waiter } => proposals.push(Proposal { command, waiter }),
                Request::Read { key, waiter } => self.member.read(key, waiter),
            }
        }
        if !proposals.is_empty() {
            self.member.propose(proposals);
        }
    }

    fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Step(message) => {
                if let Err(error) = self.member.step(message) {
                    self.refused.record(error);
                }
            }
            Notice::Unreachable(peer) => self.member.report_unreachable(peer),
            Notice::SnapshotSent { to, delivered } => self.member.report_snapshot(to, delivered),
            Notice::Replied(node, reply) => self.member.replied(node, reply),
            // Whoever asked may have gone meanwhile: then nobody needs the answer.
            Notice::Offered(offer, accepted) => {
                let _ = accepted.send(self.member.offered(offer));
            }
            Notice::Start {
                cluster_id,
                coordinator,
                started,
            } => {
                let _ = started.send(self.member.start(cluster_id, coordinator));
            }
            Notice::Transfer { to, accepted } => {
                let _ = accepted.send(self.member.transfer_leader(to));
            }
        }
    }

    /// Carries out what the core wants, until it wants nothing more.
    fn settle(&mut self, network: &mut impl Network) -> Result<(), NodeError> {
        let Output {
            answers,
            events,
            messages,
            calls,
        } = self.member.output()?;
        for (waiter, outcome) in answers {
            // A caller that has gone away needs no answer.
            let _ = waiter.send(outcome);
        }
        for event in &events {
            self.log(event);
        }
        self.publish(network);
        for message in messages {
            self.send(network, message);
        }
        for (to, call) in calls {
            network.call(to, call);
        }
        Ok(())
    }

    fn send(&mut self, network: &mut impl Network, message: PeerMessage) {
        let to = message.envelope().map(|envelope| envelope.to);
        let snapshot = matches!(message, PeerMessage::InstallSnapshot(..));
        if network.send(message) {
            return;
        }
        // What this makes the core say goes out with the next turn: at the latest the next tick.
        if let Ok(to) = to {
            self.member.report_unreachable(to);
            if snapshot {
                self.member.report_snapshot(to, false);
            }
        }
    }

    /// Updates what the status shows, and wakes watchers where it matters to them.
    fn publish(&mut self, network: &mut impl Network) {
        let mut now = self.member.status();
        now.joined_at = self.joined_at;
        self.status.send_if_modified(|shown| {
            let matters = |status: &NodeStatus| {
                let NodeStatus {
                    state,
                    cluster_id,
                    role,
                    term,
                    leader,
                    ..
                } = status;
                (*state, *cluster_id, *role, *term, *leader)
            };
            let changed = matters(shown) != matters(&now);
            if shown.role != now.role {
                network.set_leading(now.role == Some(Role::Leader));
            }
            *shown = now;
            changed
        });
    }

    fn log(&mut self, event: &Event) {
        let raft_id = self.member.raft_id();
        let node = raft_id.node_id();
        match event {
            Event::Bound { cluster_id } => {
                tracing::info!(%node, %raft_id, %cluster_id, "accepted the offer of a cluster");
            }
            Event::Started { cluster_id } => {
                self.joined_at = Some(SystemTime::now());
                tracing::info!(%node, %raft_id, %cluster_id, "takes part in the cluster");
            }
            Event::Outside { cluster_id } => tracing::warn!(
                %node, %raft_id, %cluster_id,
                "this node was started again while its cluster was running: it has lost its \
                 memory and waits outside, without voting or serving",
            ),
            Event::TermChanged { term } => {
                tracing::info!(%node, %raft_id, term, "term changed");
            }
            Event::RoleChanged {
                role,
                term,
                last_index,
            } => tracing::info!(%node, %raft_id, term, index = last_index, "became {role}"),
            Event::LeaderChanged { leader, term } => match leader {
                Some(leader) => {
                    tracing::info!(%node, %raft_id, term, leader = %leader, "follows a leader");
                }
                None => tracing::info!(%node, %raft_id, term, "knows no leader"),
            },
            Event::ConfChanged {
                voters,
                learners,
                index,
            } => tracing::info!(%node, %raft_id, index, ?voters, ?learners, "members changed"),
            Event::SnapshotSent { to, index, bytes } => {
                tracing::info!(%node, %raft_id, %to, index, bytes, "sends a snapshot");
            }
            Event::SnapshotInstalled { index, term, keys } => {
                tracing::info!(%node, %raft_id, term, index, keys, "installed a snapshot");
            }
            Event::LogCompacted { first_index } => {
                tracing::debug!(%node, %raft_id, index = first_index, "compacted the log");
            }
        }
    }
}

/// Peer messages that the core refused since the log last spoke of them: a peer that sends nothing
/// but garbage must not fill the disk.
#[derive(Default)]
struct RefusedMessages {
    count: u64,
    last: Option<StepError>,
    logged_at: Option<tokio::time::Instant>,
}

impl RefusedMessages {
    fn record(&mut self, error: StepError) {
        tracing::debug!(%error, "refused a peer message");
        self.count = self.count.saturating_add(1);
        self.last = Some(error);
    }

    fn log_at_intervals(&mut self) {
        let Some(last) = &self.last else { return };
        if self
            .logged_at
            .is_some_and(|at| at.elapsed() < REFUSAL_LOG_INTERVAL)
        {
            return;
        }
        tracing::warn!(count = self.count, %last, "refused peer messages");
        *self = Self {
            logged_at: Some(tokio::time::Instant::now()),
            ..Self::default()
        };
    }
}
