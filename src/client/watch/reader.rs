//! The reader of a watch: at one node after the other, for as long as the caller likes.
//!
//! Every node that takes part in the cluster serves watches. The reader takes the first one that answers, in a
//! random order, so that watches spread over the nodes. When it loses the connection, or nothing comes for three
//! progress intervals, it says elsewhere where its caller stands, and goes on from there.
//!
//! A node of another cluster does not refuse a watch: it sends a reset and its own state. So the reader asks a node
//! that resets for its cluster, before the caller is told to forget anything. The successor of the cluster, which an
//! operator has recovered from it, is accepted as it is by calls. An unrelated cluster is accepted only if no node of
//! the former one answers, because it has formed anew then; and not if the client was told its cluster.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status, Streaming};
use tracing::{Instrument as _, debug, debug_span};

use super::assembly::Assembly;
use super::update::{Position, Update};
use crate::client::call_error::{CallError, or_older};
use crate::client::nodes::{Answer, Node, Purpose};
use crate::client::one_cluster::MAX_WAIT;
use crate::client::search::Search;
use crate::client::{Client, Error, KeyRange, Reason};
use crate::deadline::after;
use crate::proto::kv;
use crate::proto::kv::watch_response::Message;

/// Silent intervals after which a connection counts as lost.
const SILENT_INTERVALS: u32 = 3;

/// Shortest time for which nodes are asked before the caller is told that none serves.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(1);

/// What is watched.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) range: KeyRange,
    pub(super) keys_only: bool,
    pub(super) progress_interval: Duration,
}

/// Reads message after message.
#[derive(Debug)]
pub(super) struct Reader {
    client: Client,
    query: Query,
    assembly: Assembly,
    /// The cluster of the last complete state.
    cluster: Option<u64>,
    /// Whether any cluster is accepted, because none of the nodes belongs to that one any more.
    any_cluster: bool,
    connection: Option<Connection>,
    /// The node whose connection was lost.
    lost: Option<String>,
    /// The pause before the next connection.
    pause: Duration,
    /// Whether the caller knows of the present outage.
    outage_told: bool,
}

/// The messages of one node.
#[derive(Debug)]
struct Connection {
    node: Node,
    messages: Streaming<kv::WatchResponse>,
    first: Option<kv::WatchResponse>,
    /// The cluster of the node, if it has to be a certain one.
    cluster: Option<u64>,
    begun: Instant,
}

impl Reader {
    pub(super) fn new(client: &Client, query: Query, resume: Option<Position>, floor: u64) -> Self {
        Self {
            query,
            assembly: Assembly::new(resume, floor),
            cluster: resume.map(|position| position.cluster_id),
            any_cluster: false,
            connection: None,
            lost: None,
            pause: client.shared.options.backoff.min,
            outage_told: false,
            client: client.with_timeout(client.limit.timeout.max(SHORTEST_OUTAGE)),
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.assembly.position()
    }

    /// The next news.
    pub(super) async fn next(mut self) -> (Self, Result<Update, Error>) {
        let update = self.update().instrument(debug_span!("watch")).await;
        (self, update)
    }

    async fn update(&mut self) -> Result<Update, Error> {
        loop {
            let Some(mut connection) = self.connection.take() else {
                match self.connect().await {
                    Ok(connection) => self.connection = Some(connection),
                    Err(_) if !self.any_cluster && self.is_replaced().await => {
                        self.any_cluster = true;
                    }
                    Err(error) if is_final(&error) => return Err(error),
                    Err(_) if self.outage_told => {}
                    Err(error) => {
                        self.outage_told = true;
                        return Ok(Update::Disconnected(error));
                    }
                }
                continue;
            };
            match self.receive(&mut connection).await {
                Ok(update) => {
                    self.connection = Some(connection);
                    if let Some(update) = update {
                        return Ok(update);
                    }
                }
                Err(fault) => self.lose(connection, &fault).await,
            }
        }
    }

    /// Whether every node that answers belongs to another cluster than the watch, as after a loss of all data.
    async fn is_replaced(&self) -> bool {
        if self.client.shared.options.cluster.is_some() {
            return false;
        }
        let Some(ours) = self.known_cluster() else {
            return false;
        };
        // A node of the cluster that is slow to answer proves as much as a fast one.
        let clusters = self.client.clusters(MAX_WAIT).await;
        !clusters.is_empty() && !clusters.contains_key(&ours)
    }

    /// The cluster that the watch belongs to.
    fn known_cluster(&self) -> Option<u64> {
        self.cluster.or(*self.client.watch_cluster().borrow())
    }

    /// Connects to any node that serves.
    async fn connect(&self) -> Result<Connection, Error> {
        let open = |node: Node| self.open(node);
        let (shared, last) = (&self.client.shared, self.lost.as_deref());
        let (limit, deadline) = (self.client.limit, self.client.deadline());
        let mut search = Search::over(Purpose::Watches, shared, limit, deadline, last, &open);
        search.also(shared.connected());
        let (node, connection) = search.next().await?;
        debug!(node = node.address, "watches");
        Ok(connection)
    }

    /// Begins a watch at `node`, and waits for its first message.
    async fn open(&self, node: Node) -> Answer<Connection> {
        let begun = Instant::now();
        let node = node.traced(self.client.traceparent.clone());
        let request = node.open_ended(self.request());
        let messages = node.kv().watch(request).await;
        let mut messages = messages
            .map_err(|status| or_older(status, OLDER_VERSION))?
            .into_inner();
        let first = messages.message().await?;
        let first = first.ok_or_else(|| Status::unavailable(ENDED))?;
        let cluster = match self.position() {
            _ if is_reset(&first) => self.cluster_of(&node).await?,
            Some(position) => Some(position.cluster_id),
            None => return Err(Status::internal("a watch begins without a reset")),
        };
        Ok(Response::new(Connection {
            node,
            messages,
            first: Some(first),
            cluster,
            begun,
        }))
    }

    fn request(&self) -> kv::WatchRequest {
        let Query {
            range,
            keys_only,
            progress_interval,
        } = self.query.clone();
        let position = self.position();
        kv::WatchRequest {
            range: Some(range.into()),
            cluster_id: position.map(|position| position.cluster_id),
            after_revision: position.map_or(0, |position| position.revision),
            min_revision: self.assembly.floor(),
            keys_only,
            progress_interval: progress_interval.try_into().ok(),
        }
    }

    /// The cluster of `node`, whose state is about to take the place of what the caller has. `None`: any cluster
    /// is accepted.
    ///
    /// # Errors
    ///
    /// The node takes part in another cluster than the one that this watch belongs to, or does not answer.
    async fn cluster_of(&self, node: &Node) -> Result<Option<u64>, Status> {
        let known = match self.any_cluster {
            true => None,
            false => self.known_cluster(),
        };
        let Some(ours) = known else {
            return Ok(None);
        };
        // A node of this cluster refuses at once that there is no key.
        let request = node.request(kv::GetRequest {
            key: Bytes::new(),
            cluster_id: known,
        });
        let Err(status) = node.kv().get(request).await else {
            return Ok(known);
        };
        let fault = CallError::from(status.clone());
        match fault.reason {
            Some(Reason::InvalidRequest(_)) => Ok(known),
            Some(Reason::OtherCluster(other))
                if other.successor && self.client.shared.options.follows =>
            {
                self.client
                    .shared
                    .note(&node.clone().of(Some(ours)), &fault);
                Ok(Some(other.cluster_id))
            }
            _ => Err(status),
        }
    }

    /// Takes the next message. Returns what the caller is to be told, if anything.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    async fn receive(&mut self, connection: &mut Connection) -> Result<Option<Update>, CallError> {
        let message = match connection.first.take() {
            Some(first) => first,
            None => {
                let silence = self.query.progress_interval * SILENT_INTERVALS;
                let next = timeout_at(after(silence), connection.messages.message()).await;
                let message = next.map_err(|_| CallError::silence())??;
                let message = message.ok_or_else(|| CallError::broken(ENDED))?;
                if is_reset(&message) {
                    let asking = connection.node.clone().until(after(silence));
                    let cluster = timeout_at(asking.deadline, self.cluster_of(&asking)).await;
                    connection.cluster = cluster.map_err(|_| CallError::silence())??;
                }
                message
            }
        };
        if let Some(Message::Synced(synced)) = &message.message {
            self.belongs(connection, synced.cluster_id)?;
        }
        let update = self.assembly.add(message)?;
        if matches!(update, Some(Update::Synced { .. })) {
            self.outage_told = false;
        }
        Ok(update)
    }

    /// Notes that a complete state has come from the cluster `id`.
    ///
    /// # Errors
    ///
    /// The watch belongs to another cluster.
    fn belongs(&mut self, connection: &Connection, id: u64) -> Result<(), CallError> {
        let expected = match (connection.cluster, self.any_cluster) {
            (None, false) => self.client.shared.learn(Some(id)),
            (expected, _) => expected,
        };
        if expected.is_some_and(|expected| expected != id) {
            return Err(CallError::broken("the node has changed its cluster"));
        }
        self.cluster = Some(id);
        self.any_cluster = false;
        Ok(())
    }

    /// Drops a connection, and waits before the next one.
    async fn lose(&mut self, connection: Connection, fault: &CallError) {
        let Connection { node, begun, .. } = connection;
        debug!(node = node.address, %fault, "a watch was cut off");
        let (shared, backoff) = (&self.client.shared, self.client.shared.options.backoff);
        shared.note(&node, fault);
        if fault.sends_elsewhere() {
            shared.dial_anew(&node);
        }
        self.assembly.cut_off();
        self.lost = Some(node.address);
        if begun.elapsed() > backoff.max {
            self.pause = backoff.min;
        }
        let pause = shared.jittered(self.pause);
        self.pause = backoff.longer(self.pause);
        sleep(pause).await;
    }
}

/// Whether no node will ever serve the watch.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused(_) | Error::Unserved { .. } | Error::Invalid { .. }
    )
}

/// The message of the refusal of a node that does not know watches.
const OLDER_VERSION: &str = "this node runs an older version, which knows no watches (not applied)";

const ENDED: &str = "the node ended the watch";

fn is_reset(message: &kv::WatchResponse) -> bool {
    matches!(message.message, Some(Message::Reset(_)))
}
