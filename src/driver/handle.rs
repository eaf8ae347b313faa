//! The handle of a driver: all requests and reports to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::{Batch, BatchItem, Pending, PendingBatch, Waiter};
use super::fair::Source;
use super::signals::LockSignals;
use super::unread::ValueRoom;
use super::watching::Opening;
use super::workers::Workers;
use crate::cluster::Answers;
use crate::cluster::recovery::Order;
use crate::error::{Reason, Refusal};
use crate::kv::{Query, StateMachine};
#[cfg(test)]
use crate::node::Outcome;
use crate::node::{CallId, InstallSnapshotHeader, PeerMessage, Recovery, Reply};
use crate::types::{
    ClientId, ClusterId, ClusterMembership, Introduction, NodeId, NodeStatus, Offer, RaftId,
    RecoveryClaim,
};

/// Maximum number of renewals that wait for a turn. One more waits for its place: every turn takes all of them.
const KEEP_ALIVES: usize = 8192;

/// The driver has stopped: the node is shutting down or has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has stopped")]
pub struct Stopped;

/// A request of a client.
pub(super) enum Request {
    Write {
        command: Bytes,
        context: Bytes,
        waiter: Waiter,
    },
    Read {
        query: Query,
        waiter: Waiter,
    },
    Batch {
        items: Vec<BatchItem>,
        batch: Arc<Batch>,
    },
}

/// A message or report of a peer or the transport, or an order of an operator.
#[derive(Debug)]
pub(crate) enum Notice {
    Step(PeerMessage),
    Install {
        header: InstallSnapshotHeader,
        state_machine: Box<StateMachine>,
    },
    Unreachable(RaftId),
    SnapshotSent {
        to: RaftId,
        answer: Option<PeerMessage>,
    },
    Watch(Opening),
    Replied(CallId, Reply),
    Asked(Introduction),
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
    Form {
        without: BTreeSet<NodeId>,
        begun: oneshot::Sender<Result<(), Refusal>>,
    },
    StopForming {
        without: BTreeSet<NodeId>,
        stopped: oneshot::Sender<Result<Option<ClusterId>, Refusal>>,
    },
    Yield(RecoveryClaim, oneshot::Sender<Result<(), String>>),
    Recover {
        order: Order,
        answers: Answers,
        dry_run: bool,
        recovered: oneshot::Sender<Result<Recovery, Refusal>>,
    },
}

/// A handle of a driver, for one source of requests. Its clones share the turns of that source, which
/// together count as one. Cheap to clone.
#[derive(Clone)]
pub struct DriverHandle {
    source: Source,
    sources: Arc<AtomicU64>,
    max_inflight: usize,
    workers: Workers,
    requests: mpsc::Sender<(Source, Request)>,
    pub(super) notices: mpsc::Sender<Notice>,
    keep_alives: mpsc::Sender<(ClientId, Waiter)>,
    pub(super) locks: LockSignals,
    status: watch::Receiver<NodeStatus>,
    pub(super) members: watch::Receiver<Arc<ClusterMembership>>,
    pub(super) nodes: watch::Receiver<Arc<ClusterMembership>>,
    decides: watch::Receiver<bool>,
}

impl std::fmt::Debug for DriverHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriverHandle")
            .field("raft_id", &self.status.borrow().raft_id)
            .finish_non_exhaustive()
    }
}

/// The driver's ends of the channels of a [`DriverHandle`].
pub(super) struct Ends {
    pub(super) requests: mpsc::Receiver<(Source, Request)>,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) keep_alives: mpsc::Receiver<(ClientId, Waiter)>,
    pub(super) status: watch::Sender<NodeStatus>,
    pub(super) members: watch::Sender<Arc<ClusterMembership>>,
    pub(super) nodes: watch::Sender<Arc<ClusterMembership>>,
    pub(super) decides: watch::Sender<bool>,
}

/// Bounds of the queues between a handle and its driver.
pub(super) struct Bounds {
    pub(super) requests: usize,
    pub(super) notices: usize,
    /// Maximum number of requests in the core at once. Used only in refusals.
    pub(super) max_inflight: usize,
    /// The threads that free states.
    pub(super) workers: Workers,
}

impl DriverHandle {
    pub(super) fn new(
        bounds: &Bounds,
        status: NodeStatus,
        members: Arc<ClusterMembership>,
        nodes: Arc<ClusterMembership>,
        decides: bool,
    ) -> (Self, Ends) {
        let (requests, requests_out) = mpsc::channel(bounds.requests.max(1));
        let (notices, notices_out) = mpsc::channel(bounds.notices.max(1));
        let (keep_alives, keep_alives_out) = mpsc::channel(KEEP_ALIVES);
        let (status_in, status) = watch::channel(status);
        let (members_in, members) = watch::channel(members);
        let (nodes_in, nodes) = watch::channel(nodes);
        let (decides_in, decides) = watch::channel(decides);
        let handle = Self {
            source: Source(0),
            sources: Arc::new(AtomicU64::new(1)),
            max_inflight: bounds.max_inflight,
            workers: bounds.workers,
            requests,
            notices,
            keep_alives,
            locks: LockSignals::default(),
            status,
            members,
            nodes,
            decides,
        };
        let ends = Ends {
            requests: requests_out,
            notices: notices_out,
            keep_alives: keep_alives_out,
            status: status_in,
            members: members_in,
            nodes: nodes_in,
            decides: decides_in,
        };
        (handle, ends)
    }

    /// A handle of the same driver for another source of requests, such as a connection. The new source
    /// gets its share of every turn, whatever the load of the others.
    #[must_use]
    pub fn for_another_source(&self) -> Self {
        Self {
            source: Source(self.sources.fetch_add(1, Ordering::Relaxed)),
            ..self.clone()
        }
    }

    /// Hands in an encoded command. There is exactly one outcome. If the driver stops first there is
    /// none, and the outcome of the write is unknown.
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`] when the queue is full, [`Reason::ShuttingDown`] when the driver has
    /// stopped; in both cases the write was surely not applied.
    pub fn write(&self, command: Bytes) -> Result<Pending, Refusal> {
        self.write_traced(command, Bytes::new())
    }

    /// [`write`](Self::write) with the caller's trace context, which the Raft log holds beside the command.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn write_traced(&self, command: Bytes, context: Bytes) -> Result<Pending, Refusal> {
        let (waiter, pending) = Waiter::one();
        self.request(Request::Write {
            command,
            context,
            waiter,
        })?;
        Ok(pending)
    }

    /// Asks for a linearizable read. There is exactly one outcome, unless the driver stops first.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn read(&self, query: impl Into<Query>) -> Result<Pending, Refusal> {
        let (waiter, pending) = Waiter::one();
        let query = query.into();
        self.request(Request::Read { query, waiter })?;
        Ok(pending)
    }

    /// Asks for the renewal of a living session. Waits while the queue of renewals is full. There is exactly one
    /// outcome, unless the driver stops first.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn keep_alive(&self, client_id: ClientId) -> Result<Pending, Stopped> {
        let (waiter, pending) = Waiter::one();
        let sent = self.keep_alives.send((client_id, waiter)).await;
        sent.map(|()| pending).map_err(|_| Stopped)
    }

    /// Hands in several commands at once. They take effect in their order, and in the order of the
    /// batches of one source. A read sees the effects of the writes before it. There is one outcome for
    /// each command, in order, delivered when the last one is known. If the driver stops first there are
    /// none, and the outcome of every write is unknown. `permit` is dropped as soon as the last outcome is
    /// known, however late the caller polls. The values that were read keep their `room` until the caller
    /// drops them.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write), for the whole batch.
    pub fn batch(
        &self,
        items: Vec<BatchItem>,
        room: ValueRoom,
        permit: impl Send + 'static,
    ) -> Result<PendingBatch, Refusal> {
        let (batch, pending) = Batch::new(items.len(), room, permit);
        self.request(Request::Batch { items, batch })?;
        Ok(pending)
    }

    /// Frees a state that a caller has read, on another thread.
    pub fn free(&self, state: Box<StateMachine>) {
        self.workers.free(state);
    }

    /// The refusal for a request that its caller took back before its turn: the core already had its
    /// maximum of requests.
    pub fn no_turn(&self) -> Refusal {
        Refusal::not_applied(Reason::Overloaded {
            what: "max_inflight_requests",
            limit: u64::try_from(self.max_inflight).unwrap_or(u64::MAX),
        })
    }

    fn request(&self, request: Request) -> Result<(), Refusal> {
        let request = (self.source, request);
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

    /// Hands in a message of a peer. Waits while the inbox is full.
    ///
    /// # Errors
    ///
    /// [`Stopped`], and the message is lost.
    pub async fn step(&self, message: PeerMessage) -> Result<(), Stopped> {
        self.notify(Notice::Step(message)).await
    }

    /// Reports that messages to `peer` do not arrive.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn report_unreachable(&self, peer: RaftId) -> Result<(), Stopped> {
        self.notify(Notice::Unreachable(peer)).await
    }

    /// Hands in a complete snapshot of the leader. Waits while the inbox is full.
    ///
    /// # Errors
    ///
    /// [`Stopped`], and the snapshot is lost.
    pub async fn install(
        &self,
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
    ) -> Result<(), Stopped> {
        self.notify(Notice::Install {
            header,
            state_machine: Box::new(state_machine),
        })
        .await
    }

    /// Reports how the transfer of a snapshot to `to` ended: with the follower's `answer`, or with a
    /// failure (`None`). Every snapshot that left through
    /// [`Network::send_snapshot`](super::Network::send_snapshot) needs exactly one such report. Without
    /// it raft-rs never sends to that follower again.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn report_snapshot(
        &self,
        to: RaftId,
        answer: Option<PeerMessage>,
    ) -> Result<(), Stopped> {
        self.notify(Notice::SnapshotSent { to, answer }).await
    }

    /// Hands in the offer of a new cluster. Returns whether it was accepted.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn offered(&self, offer: Offer) -> Result<bool, Stopped> {
        let (accepted, outcome) = oneshot::channel();
        self.notify(Notice::Offered(offer, accepted)).await?;
        outcome.await.map_err(|_| Stopped)
    }

    /// Hands in the coordinator's `Start`, which says that every member has accepted. Returns whether
    /// this node takes part in that cluster now.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    #[tracing::instrument(level = "debug", skip_all)]
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

    /// Hands in the claim of another process to recover the cluster. Returns whether this process yields,
    /// or why not, see [`Replica::yield_to`](crate::node::Replica::yield_to).
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn yield_to(&self, claim: RecoveryClaim) -> Result<Result<(), String>, Stopped> {
        let (yielded, outcome) = oneshot::channel();
        self.notify(Notice::Yield(claim, yielded)).await?;
        outcome.await.map_err(|_| Stopped)
    }

    /// Begins to transfer leadership to `to`, or to the best caught-up voter, and returns the transferee.
    /// raft-rs gives up silently after an election timeout: watch [`status`](Self::watch) for the outcome.
    ///
    /// # Errors
    ///
    /// [`Reason::NotLeader`] and the like, [`Reason::InvalidRequest`] when `to` cannot lead.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        let (accepted, outcome) = oneshot::channel();
        let stopped = |_| Refusal::not_applied(Reason::ShuttingDown);
        self.notify(Notice::Transfer { to, accepted })
            .await
            .map_err(stopped)?;
        outcome.await.map_err(|_| stopped(Stopped))?
    }

    pub(super) async fn decide<T>(
        &self,
        notice: Notice,
        outcome: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let stopped = |_| Refusal::not_applied(Reason::ShuttingDown);
        self.notify(notice).await.map_err(stopped)?;
        outcome.await.map_err(|_| stopped(Stopped))?
    }

    pub(super) async fn notify(&self, notice: Notice) -> Result<(), Stopped> {
        self.notices.send(notice).await.map_err(|_| Stopped)
    }

    /// The current status of the node.
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// Reads the current status without a copy.
    pub fn look<T>(&self, at: impl FnOnce(&NodeStatus) -> T) -> T {
        at(&self.status.borrow())
    }

    /// The desired members of the cluster, as far as this node knows: the configured ones until it has
    /// applied an entry or a snapshot.
    pub fn members(&self) -> Arc<ClusterMembership> {
        Arc::clone(&self.members.borrow())
    }

    /// The nodes that this one knows to take part, or that should take part: the members, and former
    /// members that still vote. Before it takes part itself: all nodes that it has heard of.
    pub fn nodes(&self) -> Arc<ClusterMembership> {
        Arc::clone(&self.nodes.borrow())
    }

    /// Watches the status of the node. The value is always current, but only a change of state, cluster,
    /// role, term, leader or conf wakes a watcher: progress of the log does not.
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// Watches whether the node can serve a client now, or tell it which node to ask instead. While this
    /// is `false`, requests have to wait, and a caller that waits needs to watch nothing else.
    pub fn watch_decides(&self) -> watch::Receiver<bool> {
        self.decides.clone()
    }
}

/// The driver's end of a [`DriverHandle`], for a test.
#[cfg(test)]
pub(crate) struct Detached {
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) status: watch::Sender<NodeStatus>,
    pub(crate) decides: watch::Sender<bool>,
    pub(crate) members: watch::Sender<Arc<ClusterMembership>>,
    pub(crate) nodes: watch::Sender<Arc<ClusterMembership>>,
    requests: mpsc::Receiver<(Source, Request)>,
    _keep_alives: mpsc::Receiver<(ClientId, Waiter)>,
}

#[cfg(test)]
impl Detached {
    /// Answers all waiting requests with `outcome`. Returns their number.
    pub(crate) fn answer_all(&mut self, outcome: &Outcome) -> usize {
        let mut answered = 0;
        while let Ok((_, request)) = self.requests.try_recv() {
            if let Request::Write { waiter, .. } | Request::Read { waiter, .. } = request
                && waiter.take_up()
            {
                waiter.answer(outcome.clone());
            }
            answered += 1;
        }
        answered
    }
}

#[cfg(test)]
impl DriverHandle {
    /// A handle without a driver. A test plays the driver.
    pub(crate) fn detached(status: NodeStatus, peer_inbox_messages: usize) -> (Self, Detached) {
        let bounds = Bounds {
            requests: 1024,
            notices: peer_inbox_messages,
            max_inflight: 1024,
            workers: Workers::Inline,
        };
        let none = Arc::default;
        let (handle, ends) = Self::new(&bounds, status, none(), none(), false);
        let Ends {
            requests,
            notices,
            keep_alives: _keep_alives,
            status,
            members,
            nodes,
            decides,
        } = ends;
        let detached = Detached {
            notices,
            status,
            decides,
            members,
            nodes,
            requests,
            _keep_alives,
        };
        (handle, detached)
    }
}
