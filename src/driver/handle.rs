//! The way to a driver, and what can be asked of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::{Batch, BatchItem, Waiter};
use crate::error::{Reason, Refusal};
use crate::kv::StateMachine;
use crate::node::{CallId, Outcome, PeerMessage, Recovery, Reply, SnapshotHeader};
use crate::types::{
    ClusterId, ClusterMembership, Introduction, Key, NodeId, NodeState, NodeStatus, Offer, RaftId,
};

/// The driver has stopped: the node is shutting down or has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has stopped")]
pub struct Stopped;

/// What a client wants.
pub(super) enum Request {
    Write {
        command: Bytes,
        context: Bytes,
        waiter: Waiter,
    },
    Read {
        key: Key,
        waiter: Waiter,
    },
    Batch {
        items: Vec<BatchItem>,
        batch: Arc<Batch>,
    },
}

impl Request {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Write { command, .. } => command.len(),
            Self::Read { key, .. } => key.len(),
            Self::Batch { items, .. } => items.iter().map(BatchItem::bytes).sum(),
        }
    }

    pub(super) fn commands(&self) -> usize {
        match self {
            Self::Write { .. } | Self::Read { .. } => 1,
            Self::Batch { items, .. } => items.len(),
        }
    }
}

/// What a peer, the transport or an operator wants.
#[derive(Debug)]
pub(crate) enum Notice {
    Step(PeerMessage),
    Install {
        header: SnapshotHeader,
        state_machine: StateMachine,
    },
    Unreachable(RaftId),
    SnapshotSent {
        to: RaftId,
        answer: Option<PeerMessage>,
    },
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
    Recover {
        cluster_id: ClusterId,
        dry_run: bool,
        recovered: oneshot::Sender<Result<Recovery, Refusal>>,
    },
}

/// The way to a driver. Cheap to clone.
#[derive(Clone)]
pub struct DriverHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) status: watch::Receiver<NodeStatus>,
    pub(super) members: watch::Receiver<Arc<ClusterMembership>>,
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
        self.write_traced(command, Bytes::new())
    }

    /// [`write`](Self::write) with the trace context of the caller beside the command in the log.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn write_traced(
        &self,
        command: Bytes,
        context: Bytes,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (waiter, outcome) = oneshot::channel();
        let waiter = Waiter::one(waiter);
        self.request(Request::Write {
            command,
            context,
            waiter,
        })?;
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
        let waiter = Waiter::one(waiter);
        self.request(Request::Read { key, waiter })?;
        Ok(outcome)
    }

    /// Hands in several commands at once. They take effect in their order, and in the order of the
    /// batches that one caller hands in; a read sees what the writes before it have written. The
    /// receiver gets one outcome for each, in order, when the last is known; if the driver stops
    /// first it gets an error, and the outcome of every write is unknown. `held` is dropped as soon
    /// as the last outcome is known, however late the receiver is asked for it.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write), for the whole batch.
    pub fn batch(
        &self,
        items: Vec<BatchItem>,
        held: impl Send + 'static,
    ) -> Result<oneshot::Receiver<Vec<Outcome>>, Refusal> {
        let (batch, outcomes) = Batch::new(items.len(), held);
        self.request(Request::Batch { items, batch })?;
        Ok(outcomes)
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

    /// Hands in a snapshot of the leader, put together; waits while the inbox is full.
    ///
    /// # Errors
    ///
    /// [`Stopped`], and the snapshot is lost.
    pub async fn install(
        &self,
        header: SnapshotHeader,
        state_machine: StateMachine,
    ) -> Result<(), Stopped> {
        self.notify(Notice::Install {
            header,
            state_machine,
        })
        .await
    }

    /// Says how the sending of a snapshot to `to` ended: with the follower's `answer`, or not well.
    /// Every snapshot that left through [`Network::send_snapshot`](super::Network::send_snapshot)
    /// needs exactly one such report, or the follower is never sent to again.
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

    /// Hands in what came back from a formation call.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn replied(&self, call: CallId, reply: Reply) -> Result<(), Stopped> {
        self.notify(Notice::Replied(call, reply)).await
    }

    /// Says that another process asks this one who it is. Is lost when half of the inbox is taken: who
    /// asks, asks again, and nothing that Raft waits for is to wait for this.
    pub fn asked(&self, by: Introduction) {
        if self.notices.capacity() > self.notices.max_capacity() / 2 {
            // A driver that has stopped needs no news.
            let _ = self.notices.try_send(Notice::Asked(by));
        }
    }

    /// Who this process is, for whom it asks.
    pub fn introduction(&self) -> Introduction {
        let NodeStatus {
            raft_id,
            state,
            cluster_id,
            ..
        } = self.status();
        Introduction {
            raft_id,
            state,
            cluster_id,
            members: if state == NodeState::Started {
                self.members()
            } else {
                Arc::default()
            },
        }
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

    /// Begins to form a cluster without the initial members that an operator vouches for; watch
    /// [`status`](Self::watch) for the outcome. See
    /// [`Formation::form_without`](crate::node::Formation::form_without).
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`], [`Reason::FailedPrecondition`], or [`Reason::ShuttingDown`].
    pub async fn form_without(&self, without: BTreeSet<NodeId>) -> Result<(), Refusal> {
        let (begun, outcome) = oneshot::channel();
        self.decide(Notice::Form { without, begun }, outcome).await
    }

    /// Makes a new cluster of what this node has of `cluster_id`, or only says what that would be.
    /// Whoever asks has made sure that no majority of the old cluster may live. See
    /// [`Member::recover`](crate::node::Member::recover).
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidRequest`], [`Reason::FailedPrecondition`], or [`Reason::ShuttingDown`].
    pub async fn recover(&self, cluster_id: ClusterId, dry_run: bool) -> Result<Recovery, Refusal> {
        let (recovered, outcome) = oneshot::channel();
        let notice = Notice::Recover {
            cluster_id,
            dry_run,
            recovered,
        };
        self.decide(notice, outcome).await
    }

    async fn decide<T>(
        &self,
        notice: Notice,
        outcome: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let stopped = |_| Refusal::not_applied(Reason::ShuttingDown);
        self.notify(notice).await.map_err(stopped)?;
        outcome.await.map_err(|_| stopped(Stopped))?
    }

    async fn notify(&self, notice: Notice) -> Result<(), Stopped> {
        self.notices.send(notice).await.map_err(|_| Stopped)
    }

    /// How the node stands now.
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// The members that the cluster is meant to have, as far as this node knows: the configured ones
    /// until it has applied something.
    pub fn members(&self) -> Arc<ClusterMembership> {
        Arc::clone(&self.members.borrow())
    }

    /// Watches the [`members`](Self::members).
    pub fn watch_members(&self) -> watch::Receiver<Arc<ClusterMembership>> {
        self.members.clone()
    }

    /// Watches how the node stands. The value is always current, but only a change of state,
    /// cluster, role, term, leader or conf wakes a watcher: progress of the log does not.
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }
}

/// The other end of a [`DriverHandle`] in the hands of a test.
#[cfg(test)]
pub(crate) struct Detached {
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) status: watch::Sender<NodeStatus>,
    pub(crate) members: watch::Sender<Arc<ClusterMembership>>,
    _requests: mpsc::Receiver<Request>,
}

#[cfg(test)]
impl DriverHandle {
    /// A handle without a driver: a test plays its part.
    pub(crate) fn detached(status: NodeStatus, peer_inbox_messages: usize) -> (Self, Detached) {
        let (requests_in, requests) = mpsc::channel(1);
        let (notices_in, notices) = mpsc::channel(peer_inbox_messages);
        let (status, status_out) = watch::channel(status);
        let (members, members_out) = watch::channel(Arc::default());
        let handle = Self {
            requests: requests_in,
            notices: notices_in,
            status: status_out,
            members: members_out,
        };
        let detached = Detached {
            notices,
            status,
            members,
            _requests: requests,
        };
        (handle, detached)
    }
}
