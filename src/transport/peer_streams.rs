//! The streams from a leader to one raft id: `AppendEntries` and `Heartbeat`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::backoff::Backoff;
use super::peer::Peer;
use super::queue::{Queue, Queued, queue};
use super::snapshot;
use super::{FOLLOWER_ID, LEADER_ID};
use crate::driver::{DriverHandle, OutgoingSnapshot, Stopped};
use crate::error::RpcError;
use crate::proto::raft::{AppendEntriesRequest, HeartbeatRequest};
use crate::types::RaftId;
use crate::wire::PeerMessage;

/// Bytes of heartbeats that may wait to be sent. Thousands: a peer that takes none for so long has a
/// connection that is about to break.
const HEARTBEAT_QUEUE_BYTES: usize = 256 << 10;

/// A cancel guard: dropping it tells the task to end. It is closed once the task has ended.
pub(super) type CancelGuard = oneshot::Sender<Infallible>;

/// The streams from a leader to one raft id. Dropping it closes them.
#[derive(Debug)]
pub(super) struct PeerStreams {
    to: RaftId,
    peer: Arc<Peer>,
    driver: DriverHandle,
    backoff: Arc<Backoff>,
    streams: Option<Streams>,
    /// Separate from the backoff of the streams: a peer may refuse a snapshot and take appends.
    snapshot_backoff: Arc<Backoff>,
    snapshot: Option<CancelGuard>,
}

#[derive(Debug)]
struct Streams {
    appends: Queue<AppendEntriesRequest>,
    heartbeats: Queue<HeartbeatRequest>,
    /// Whether they take messages. After no failure they do at once, as most first attempts succeed.
    /// After a failure they do only once the streams have opened, as no message should wait for a peer
    /// that is down.
    ready: Arc<AtomicBool>,
    guard: CancelGuard,
}

/// The other ends of [`Streams`].
struct Ends {
    appends: Queued<AppendEntriesRequest>,
    heartbeats: Queued<HeartbeatRequest>,
    ready: Arc<AtomicBool>,
}

impl PeerStreams {
    /// Peer streams to the incarnation `to` of `peer`. They open with the first message.
    pub(super) fn new(to: RaftId, peer: Arc<Peer>, driver: DriverHandle) -> Self {
        Self {
            to,
            backoff: Arc::new(peer.options().backoff(to.get())),
            snapshot_backoff: Arc::new(peer.options().backoff(to.get())),
            peer,
            driver,
            streams: None,
            snapshot: None,
        }
    }

    /// Whether the streams lead to `peer`, and not to the same node at an earlier address.
    pub(super) fn leads_to(&self, peer: &Arc<Peer>) -> bool {
        Arc::ptr_eq(&self.peer, peer)
    }

    /// Whether `message` of `size` bytes was taken.
    pub(super) fn append(&mut self, size: usize, message: AppendEntriesRequest) -> bool {
        self.streams()
            .is_some_and(|streams| streams.appends.push(size, message))
    }

    /// Whether `message` of `size` bytes was taken.
    pub(super) fn heartbeat(&mut self, size: usize, message: HeartbeatRequest) -> bool {
        self.streams()
            .is_some_and(|streams| streams.heartbeats.push(size, message))
    }

    /// Whether the sending of the snapshot has begun. It is refused while another one is being sent, and
    /// during the backoff after one that failed, as a snapshot is expensive to send. A refusal costs
    /// nothing.
    pub(super) fn snapshot(&mut self, snapshot: OutgoingSnapshot) -> bool {
        let under_way = self
            .snapshot
            .as_ref()
            .is_some_and(|guard| !guard.is_closed());
        let ready = self.peer.is_ready() && self.snapshot_backoff.is_ready();
        if under_way || !ready {
            return false;
        }
        self.peer.backoff().begin();
        self.snapshot_backoff.begin();
        let (guard, gone) = oneshot::channel();
        self.snapshot = Some(guard);
        let (peer, backoff) = (Arc::clone(&self.peer), Arc::clone(&self.snapshot_backoff));
        let driver = self.driver.clone();
        tokio::spawn(snapshot::deliver(
            peer, self.to, backoff, snapshot, driver, gone,
        ));
        true
    }

    /// The streams, if they take messages. Opens them if they are closed and the backoff allows it.
    fn streams(&mut self) -> Option<&Streams> {
        let open = self
            .streams
            .as_ref()
            .is_some_and(|streams| !streams.guard.is_closed());
        if !open {
            self.streams = None;
            if self.peer.is_ready() && self.backoff.is_ready() {
                self.open();
            }
        }
        self.streams
            .as_ref()
            .filter(|streams| streams.ready.load(Ordering::Relaxed))
    }

    fn open(&mut self) {
        let at_once = self.peer.backoff().is_up() && self.backoff.is_up();
        self.peer.backoff().begin();
        self.backoff.begin();
        let ready = Arc::new(AtomicBool::new(at_once));
        let (appends, queued_appends) = queue(self.peer.options().peer_queue_bytes);
        let (heartbeats, queued_heartbeats) = queue(HEARTBEAT_QUEUE_BYTES);
        let (guard, gone) = oneshot::channel();
        self.streams = Some(Streams {
            appends,
            heartbeats,
            ready: Arc::clone(&ready),
            guard,
        });
        let ends = Ends {
            appends: queued_appends,
            heartbeats: queued_heartbeats,
            ready,
        };
        let (peer, backoff) = (Arc::clone(&self.peer), Arc::clone(&self.backoff));
        tokio::spawn(carry(
            peer,
            self.to,
            backoff,
            ends,
            self.driver.clone(),
            gone,
        ));
    }
}

/// Runs the streams until they break or are no longer wanted.
#[tracing::instrument(level = "debug", skip_all, fields(node = %peer.me().node_id(), raft_id = %peer.me(), peer = %peer.node(), %to))]
async fn carry(
    peer: Arc<Peer>,
    to: RaftId,
    backoff: Arc<Backoff>,
    ends: Ends,
    driver: DriverHandle,
    mut gone: oneshot::Receiver<Infallible>,
) {
    let error = tokio::select! {
        biased;
        _ = &mut gone => return,
        ended = exchange(&peer, to, &backoff, ends, &driver) => match ended {
            Ok(never) => match never {},
            Err(Broken::Stopped) => return,
            Err(Broken::By(error)) => error,
        },
    };
    peer.note(&error);
    match &error {
        // `Peer::failed` has noted already whether the peer is there.
        RpcError::Unreachable { .. }
        | RpcError::Misdirected { .. }
        | RpcError::Unanswered { .. } => {}
        RpcError::Timeout { .. } => peer.doubted(&error),
        RpcError::NotMe { not_me, .. } => {
            peer.is_another(to, *not_me);
            backoff.failed();
        }
        RpcError::Refused { .. } => {
            if backoff.failed() {
                peer.log_refusal(&error);
            }
        }
    }
    // The guard closes before the core hears of it, so the core's next message finds the streams closed.
    drop(gone);
    // A driver that has stopped needs no report.
    let _ = driver.report_unreachable(to).await;
}

/// Why the streams ended.
enum Broken {
    /// The driver is gone.
    Stopped,
    By(RpcError),
}

impl From<Stopped> for Broken {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<RpcError> for Broken {
    fn from(error: RpcError) -> Self {
        Self::By(error)
    }
}

/// Opens both streams and hands the peer's replies to the driver, until either stream breaks. Neither
/// waits for the other: the connection for appends may take long to make, and a peer that answers
/// heartbeats meanwhile is there.
async fn exchange(
    peer: &Arc<Peer>,
    to: RaftId,
    backoff: &Backoff,
    ends: Ends,
    driver: &DriverHandle,
) -> Result<Infallible, Broken> {
    let Ends {
        appends,
        heartbeats,
        ready,
    } = ends;
    let (mut bulk, mut urgent) = (peer.appends(), peer.urgent());
    let appends = between(peer.me(), to, appends);
    let heartbeats = between(peer.me(), to, heartbeats);
    let way = Way {
        peer,
        backoff,
        driver,
    };
    let heartbeats = async {
        let rpc = "Heartbeat";
        let replies = way.open(rpc, urgent.heartbeat(heartbeats)).await?;
        ready.store(true, Ordering::Relaxed);
        way.carry(rpc, replies, PeerMessage::HeartbeatReply).await
    };
    let appends = async {
        let rpc = "AppendEntries";
        let replies = way.open(rpc, bulk.append_entries(appends)).await?;
        way.carry(rpc, replies, PeerMessage::AppendEntriesReply)
            .await
    };
    tokio::select! {
        biased;
        ended = heartbeats => ended,
        ended = appends => ended,
    }
}

/// The parts that both streams share.
#[derive(Clone, Copy)]
struct Way<'a> {
    peer: &'a Arc<Peer>,
    backoff: &'a Backoff,
    driver: &'a DriverHandle,
}

impl Way<'_> {
    /// Opens a stream.
    async fn open<T>(
        self,
        rpc: &'static str,
        opening: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Streaming<T>, RpcError> {
        let timeout = self.peer.options().rpc_timeout;
        let opened = tokio::time::timeout(timeout, opening).await;
        let opened = opened.map_err(|_| self.peer.timeout(rpc, timeout))?;
        let opened = opened.map_err(|status| self.peer.failed(rpc, &status))?;
        Ok(opened.into_inner())
    }

    /// Hands the replies on a stream to the driver, until the stream breaks.
    async fn carry<T>(
        self,
        rpc: &'static str,
        mut replies: Streaming<T>,
        wrap: fn(T) -> PeerMessage,
    ) -> Result<Infallible, Broken> {
        let mut answered = false;
        loop {
            let reply = replies.message().await;
            let reply = reply.map_err(|status| self.peer.failed(rpc, &status))?;
            let Some(reply) = reply else {
                Err(self
                    .peer
                    .refused(rpc, "the peer ended the stream".to_owned()))?
            };
            if !answered {
                answered = true;
                self.peer.reached();
                self.backoff.passed();
            }
            self.driver.step(wrap(reply)).await?;
        }
    }
}

/// A stream request whose metadata names leader and follower. The follower has to know both before the
/// first message: it may have to answer a heartbeat on a stream that no append has come on yet.
fn between<T>(leader: RaftId, follower: RaftId, messages: Queued<T>) -> Request<Queued<T>> {
    let mut request = Request::new(messages);
    let metadata = request.metadata_mut();
    metadata.insert(LEADER_ID, leader.get().into());
    metadata.insert(FOLLOWER_ID, follower.get().into());
    request
}
