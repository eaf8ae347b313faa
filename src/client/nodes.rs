//! The nodes that a client knows, its connections to them, and the leader.
//!
//! The first leader that is found decides which cluster a client belongs to: from then on its requests
//! name that cluster, and nodes of any other refuse them. The client follows another cluster only if that
//! says that it was recovered from the known one, and only if the client was not told to keep to the
//! known one.
//!
//! All clones of a client share this. Connections are made on first use and reconnect by themselves. A
//! connection without an answer gets a replacement; calls that still wait on it may finish.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tracing::warn;

use super::call_error::CallError;
use super::options::{MAX_MESSAGE_BYTES, Options};
use crate::proto::admin::admin_service_client::AdminServiceClient;
use crate::proto::kv::kv_service_client::KvServiceClient;
use crate::proto::lock::lock_service_client::LockServiceClient;
use crate::traceparent;

/// A trace context.
pub(super) type TraceParent = MetadataValue<Ascii>;

/// The result of a gRPC call.
pub(super) type Answer<T> = Result<Response<T>, Status>;

/// Nodes that are known besides the endpoints because other nodes named them.
const MAX_LEARNED: usize = 64;

/// Bytes of answers that may be in flight on one call or stream.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of answers that may be in flight on one connection. h2 counts each unread frame as at least 256
/// bytes, and breaks a connection whose frames take half of this: there is room for 32 768 small answers.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// An idle connection with calls on it is pinged this often, and closed when a ping stays unanswered for
/// so long.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Bytes of the answer to one scan that may be in flight. A node has at most 4 scans of several parts at a
/// time: if all are read slowly, there is still room on their connection for others.
const SCAN_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of one watch that may be in flight: less than of a scan, because a client may have many watches. h2
/// counts small messages as above, so that an unread watch may take some 500 KiB of half of the connection's
/// window. There is room for 128 watches that the program does not read.
const WATCH_WINDOW_BYTES: u32 = 64 << 10;
const WATCH_CONNECTION_WINDOW_BYTES: u32 = 128 << 20;

/// The use of a connection. What is read slowly fills its connection, and must not delay calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Calls, and pipelines.
    Calls,
    /// Answers of many parts, which the program takes when it wants.
    Streams,
    /// Watches.
    Watches,
}

/// The state that all clones of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) endpoints: Vec<String>,
    /// Held during a search for the leader: all other calls wait for its result.
    pub(super) searching: tokio::sync::Mutex<()>,
    /// The places of claims whose state is asked for. Claims take turns, first come, first served.
    pub(super) awaits: Semaphore,
    /// The cluster that requests name.
    cluster: watch::Sender<Option<u64>>,
    state: Mutex<State>,
    random: Mutex<StdRng>,
}

#[derive(Debug, Default)]
struct State {
    leader: Option<Leader>,
    /// Connections by address and purpose, each with its number. A newer connection has a higher number.
    connections: BTreeMap<(String, Purpose), Vec<(u64, Channel)>>,
    made: u64,
    turn: usize,
    /// Whether the log has a warning about another cluster.
    warned: bool,
}

/// The node that served last, and when.
#[derive(Debug)]
struct Leader {
    address: String,
    heard: Instant,
}

impl Shared {
    pub(super) fn new(endpoints: Vec<String>, options: Options) -> Self {
        let random = match options.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_entropy(),
        };
        Self {
            random: Mutex::new(random),
            awaits: Semaphore::new(options.awaits),
            cluster: watch::Sender::new(options.cluster),
            options,
            endpoints,
            searching: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
        }
    }

    /// No operation under this lock can panic half-way, so its state is valid even if the lock is
    /// poisoned.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws at random.
    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A random duration between half of `pause` and all of it: clients that failed together must not
    /// return together.
    pub(super) fn jittered(&self, pause: Duration) -> Duration {
        self.random(|random| random.gen_range(pause / 2..=pause))
    }

    /// The node that served last, if that was within `age`.
    pub(super) fn leader(&self, age: Option<Duration>) -> Option<String> {
        let state = self.state();
        let leader = state.leader.as_ref()?;
        let counts = age.is_none_or(|age| leader.heard.elapsed() < age);
        counts.then(|| leader.address.clone())
    }

    /// The node at `address` has just served a call, as only the leader does.
    pub(super) fn served(&self, address: &str) {
        match &mut self.state().leader {
            Some(leader) if leader.address == address => leader.heard = Instant::now(),
            _ => {}
        }
    }

    /// The nodes that calls went to, endpoints or not.
    pub(super) fn connected(&self) -> Vec<String> {
        let state = self.state();
        let calls = |(_, purpose): &&(String, Purpose)| *purpose == Purpose::Calls;
        let connected = state.connections.keys().filter(calls);
        connected.map(|(address, _)| address.clone()).collect()
    }

    pub(super) fn remember_leader(&self, address: &str) {
        self.state().leader = Some(Leader {
            address: address.to_owned(),
            heard: Instant::now(),
        });
    }

    /// The cluster that requests name. Changes when another one takes its place.
    pub(super) fn watch_cluster(&self) -> watch::Receiver<Option<u64>> {
        self.cluster.subscribe()
    }

    /// The leader that was found first belongs to the cluster `named`. Returns the cluster that requests
    /// name.
    pub(super) fn learn(&self, named: Option<u64>) -> Option<u64> {
        self.cluster.send_if_modified(|known| {
            let news = known.is_none() && named.is_some();
            *known = known.or(named);
            news
        });
        *self.cluster.borrow()
    }

    /// The cluster of a view, if the client was told to keep to another one.
    pub(super) fn other_than_told(&self, cluster: Option<u64>) -> Option<u64> {
        let told = self.options.cluster.filter(|_| !self.options.follows)?;
        cluster.filter(|cluster| *cluster != told)
    }

    /// The cluster `old` is no more: `new` was recovered from it.
    fn follow(&self, old: u64, new: u64) {
        let follows = self.cluster.send_if_modified(|known| {
            let follows = self.options.follows && *known == Some(old);
            if follows {
                *known = Some(new);
            }
            follows
        });
        if follows {
            warn!(
                old = %format_args!("{old:016x}"), new = %format_args!("{new:016x}"),
                "the cluster was recovered by an operator: writes that were acknowledged before may be \
                 lost, and its sessions are over. This client goes on with what was recovered",
            );
        }
    }

    /// Updates the state after a fault of `node`.
    pub(super) fn note(&self, node: &Node, fault: &CallError) {
        if let (Some(old), Some(new)) = (node.cluster, fault.successor()) {
            self.follow(old, new);
        }
        let mut state = self.state();
        if let (Some(own), Some(other), false) =
            (node.cluster, fault.unrelated_cluster(), state.warned)
        {
            state.warned = true;
            let (own, other) = (format!("{own:016x}"), format!("{other:016x}"));
            warn!(
                own,
                other,
                address = node.address,
                "an address leads to another cluster than the one that this client belongs to: it is \
                 not asked for anything",
            );
        }
        let led = |leader: &mut Leader| leader.address == node.address;
        if fault.ends_leadership() {
            state.leader.take_if(led);
        }
        // Another call may have replaced the connection in the meantime.
        let key = (node.address.clone(), node.purpose);
        let current = state.connections.get(&key);
        let is_current = |all: &Vec<_>| all.iter().any(|(number, _)| *number == node.connection);
        if fault.silent && current.is_some_and(is_current) {
            state.connections.remove(&key);
        }
    }

    /// Replaces the connection to `node`: its address may lead to another node then. Calls that still
    /// wait on the old connection are not disturbed.
    pub(super) fn dial_anew(&self, node: &Node) {
        let Ok(endpoint) = self.endpoint(node.purpose, &node.address) else {
            return;
        };
        let state = &mut *self.state();
        let key = (node.address.clone(), node.purpose);
        let connections = state.connections.get_mut(&key);
        let mut all = connections.into_iter().flatten();
        if let Some(connection) = all.find(|(number, _)| *number == node.connection) {
            state.made = state.made.wrapping_add(1);
            *connection = (state.made, (self.options.connect)(&endpoint));
        }
    }

    /// The node at `address` and a connection for `purpose`, for a call that ends at `deadline`.
    ///
    /// # Errors
    ///
    /// The address is malformed.
    pub(super) fn node(
        &self,
        purpose: Purpose,
        address: &str,
        deadline: Instant,
    ) -> Result<Node, CallError> {
        let state = &mut *self.state();
        let key = (address.to_owned(), purpose);
        if !state.connections.contains_key(&key) {
            let endpoint = self.endpoint(purpose, address)?;
            let known = self.endpoints.len().saturating_add(MAX_LEARNED);
            if state.connections.len() >= known.saturating_mul(3) {
                let known = |address: &String| self.endpoints.contains(address);
                state.connections.retain(|(address, _), _| known(address));
            }
            let number = match purpose {
                Purpose::Calls => self.options.connections,
                Purpose::Streams | Purpose::Watches => 1,
            };
            let connections = (0..number).map(|_| {
                state.made = state.made.wrapping_add(1);
                (state.made, (self.options.connect)(&endpoint))
            });
            let connections = connections.collect();
            state.connections.insert(key.clone(), connections);
        }
        state.turn = state.turn.wrapping_add(1);
        let connections = state.connections.get(&key);
        let spread = connections.and_then(|it| {
            let turn = state.turn.checked_rem(it.len())?;
            it.get(turn).cloned()
        });
        let (connection, channel) = spread.ok_or_else(|| CallError::broken("no connection"))?;
        Ok(Node {
            address: address.to_owned(),
            purpose,
            connection,
            channel,
            deadline,
            cluster: *self.cluster.borrow(),
            traceparent: None,
        })
    }

    /// The same node, over a connection for `purpose`.
    pub(super) fn over(&self, purpose: Purpose, node: Node) -> Node {
        if node.purpose == purpose {
            return node;
        }
        match self.node(purpose, &node.address, node.deadline) {
            Ok(other) => other.of(node.cluster),
            // A node has a valid address.
            Err(_) => node,
        }
    }

    fn endpoint(&self, purpose: Purpose, address: &str) -> Result<Endpoint, CallError> {
        let (stream_window, connection_window) = match purpose {
            Purpose::Calls => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
            Purpose::Streams => (SCAN_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
            Purpose::Watches => (WATCH_WINDOW_BYTES, WATCH_CONNECTION_WINDOW_BYTES),
        };
        Ok(Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| CallError::broken(&error.to_string()))?
            .tcp_nodelay(true)
            .connect_timeout(self.options.connect_timeout)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            // h2 counts the answers to cancelled calls over the whole lifetime of a connection, in two ways,
            // and would break it at some number. That must not end the writes on it.
            .http2_max_concurrent_reset_streams(0)
            .http2_max_local_error_reset_streams(None))
    }
}

/// A node and a connection to it, for one call.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) address: String,
    purpose: Purpose,
    connection: u64,
    channel: Channel,
    pub(super) deadline: Instant,
    /// The cluster that its calls name.
    pub(super) cluster: Option<u64>,
    /// The trace context that its calls carry.
    traceparent: Option<TraceParent>,
}

impl Node {
    pub(super) fn until(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }

    pub(super) fn of(self, cluster: Option<u64>) -> Self {
        Self { cluster, ..self }
    }

    pub(super) fn traced(self, traceparent: Option<TraceParent>) -> Self {
        Self {
            traceparent,
            ..self
        }
    }

    /// The node's service for reads and writes.
    pub(super) fn kv(&self) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The node's service for locks.
    pub(super) fn locks(&self) -> LockServiceClient<Channel> {
        LockServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The node's service for operators.
    pub(super) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The time that is left for the call.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A request that tells the node the time that is left for it.
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = self.open_ended(message);
        request.set_timeout(self.time_left());
        request
    }

    /// A request without a timeout.
    pub(super) fn open_ended<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(traceparent) = &self.traceparent {
            request
                .metadata_mut()
                .insert(traceparent::NAME, traceparent.clone());
        }
        request
    }
}
