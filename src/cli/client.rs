//! Finds the leader and speaks with it.
//!
//! A node that does not lead refuses, so a client has to find the one that does; and a node may be
//! dead, cut off or paused, so a client must not wait for any single one. Hence a *search*: it asks
//! all known nodes the same harmless question at once, keeps asking those that refuse or fail, with
//! growing pauses, and takes the first good answer. A refusal that names a leader which nobody has
//! told us of adds that node to the search. Nothing but the time limit of the whole command ends a
//! search, except a request that no node will ever serve.
//!
//! A read is such a question: asking twice does no harm. A write is none, for a write that was sent
//! and not answered may have been applied, and sending it again may apply it twice. So a write goes
//! to one node only, the one that has just answered a read: it leads, it reaches a majority, and
//! the connection to it works, which keeps unknown outcomes rare. If it refuses nevertheless and
//! says that the write was *not applied*, the search begins again. In any other case the outcome is
//! unknown, and that is what the user is told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::Rng as _;
use seshat::proto::admin::admin_service_client::AdminServiceClient;
use seshat::proto::kv::GetRequest;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::failure::{Applied, Failure, Hope, Refusal};
use super::options::endpoint;

/// Largest message that a client takes: the upper bound of `limits.max_grpc_message_bytes`.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// How long one node may take to answer the first time that it is asked; twice as long each further
/// time, so that a large answer over a slow network arrives in the end.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A key that is read only to learn who serves reads. It may hold anything or nothing.
const PROBED_KEY: &[u8] = b"\0";

/// What a call returns.
pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// A client of one cluster, for one command.
#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Vec<String>,
    timeout: Duration,
    deadline: Instant,
}

impl Client {
    /// A client that knows the nodes at `endpoints`, and has `timeout` from now.
    pub(crate) fn new(endpoints: impl IntoIterator<Item = String>, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            endpoints: endpoints.into_iter().collect(),
            timeout,
            deadline: now.checked_add(timeout).unwrap_or(now),
        }
    }

    /// Asks a question that may be asked of many nodes and many times.
    pub(crate) async fn read<T>(&self, ask: impl AsyncFn(Node) -> Answer<T>) -> Result<T, Failure> {
        let mut search = self.search(&ask);
        search.next().await.map(|(_, answer)| answer)
    }

    /// The answers to a question, as the nodes give them.
    pub(crate) fn search<'a, T, F>(&'a self, ask: &'a F) -> Search<'a, T, F>
    where
        T: 'a,
        F: AsyncFn(Node) -> Answer<T>,
    {
        let mut search = Search {
            client: self,
            ask,
            asked: FuturesUnordered::new(),
            refusals: BTreeMap::new(),
        };
        for address in &self.endpoints {
            search.add(address);
        }
        search
    }

    /// The node that serves reads, and so leads.
    pub(crate) async fn find_leader(&self) -> Result<Node, Failure> {
        let (leader, _) = self.search(&probe).next().await?;
        Ok(leader)
    }

    /// Makes a request of the leader that must not be made twice.
    pub(crate) async fn write<T>(
        &self,
        make: impl AsyncFn(Node) -> Answer<T>,
    ) -> Result<T, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let leader = self.find_leader().await?;
            let address = leader.address.clone();
            let refusal = match self.attempt(leader, &make).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            match (refusal.applied, refusal.hope) {
                (Applied::Unknown, _) => return Err(unknown(&address, &refusal)),
                (Applied::No, Hope::Later) => {}
                (Applied::No, _) => return Err(refused(&address, refusal)),
            }
            if !self.pause(jittered(pause)).await {
                return Err(self.too_late(&BTreeMap::from([(address, refusal)])));
            }
            pause = longer(pause);
        }
    }

    /// Makes a request of one node, once.
    pub(crate) async fn once<T>(
        &self,
        node: Node,
        make: impl AsyncFn(Node) -> Answer<T>,
    ) -> Result<T, Failure> {
        let address = node.address.clone();
        let made = self.attempt(node, &make).await;
        made.map_err(|refusal| match refusal.applied {
            Applied::Unknown => unknown(&address, &refusal),
            Applied::No => refused(&address, refusal),
        })
    }

    async fn attempt<T>(
        &self,
        node: Node,
        make: &impl AsyncFn(Node) -> Answer<T>,
    ) -> Result<T, Refusal> {
        match timeout_at(self.deadline, make(node.until(self.deadline))).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Refusal::from(status)),
            Err(_) => Err(Refusal::timeout(true)),
        }
    }

    /// Waits for `pause`, unless time runs out before its end; whether it did not.
    pub(crate) async fn pause(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let in_time = end < self.deadline;
        if in_time {
            sleep_until(end).await;
        }
        in_time
    }

    /// The whole time that the command has, for people.
    pub(crate) fn timeout(&self) -> impl std::fmt::Display + use<> {
        humantime::format_duration(self.timeout)
    }

    /// Time ran out. `refusals` holds the last word of every node.
    fn too_late(&self, refusals: &BTreeMap<String, Refusal>) -> Failure {
        let timeout = self.timeout();
        let alive = refusals.values().find(|refusal| refusal.answered);
        let (kind, what) = match alive {
            Some(refusal) => (refusal.kind, "the cluster did not serve the request"),
            None => ("unreachable", "the cluster cannot be reached"),
        };
        let message = format!("{what} within {timeout}: {}", by_reason(refusals));
        Failure::unserved(kind, message, Applied::No)
    }
}

async fn probe(node: Node) -> Answer<seshat::proto::kv::GetResponse> {
    let key = PROBED_KEY.into();
    node.kv().get(node.request(GetRequest { key })).await
}

/// A node to which there is a connection, for the time of one call.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    address: String,
    channel: Channel,
    deadline: Instant,
}

impl Node {
    fn until(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }

    /// The node's service for reads and writes.
    pub(crate) fn kv(&self) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The node's service for operators.
    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// How long the call may take.
    pub(crate) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A request that tells the node how long the call may take.
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.time_left());
        request
    }
}

/// One question, asked of all known nodes at once.
pub(crate) struct Search<'a, T, F> {
    client: &'a Client,
    ask: &'a F,
    asked: FuturesUnordered<Pin<Box<dyn Future<Output = Asked<T>> + 'a>>>,
    /// The last word of every node that was asked, or nothing yet.
    refusals: BTreeMap<String, Option<Refusal>>,
}

/// A node that has been asked, and what came of it.
struct Asked<T> {
    candidate: Candidate,
    outcome: Result<(Node, T), Refusal>,
}

/// A node that is asked until it answers.
struct Candidate {
    address: String,
    /// The connection, while it is believed to be good.
    channel: Option<Channel>,
    /// When to ask.
    due: Instant,
    pause: Duration,
    patience: Duration,
}

impl<'a, T, F> Search<'a, T, F>
where
    T: 'a,
    F: AsyncFn(Node) -> Answer<T>,
{
    /// Adds the node at `address`, unless it is known.
    pub(crate) fn add(&mut self, address: &str) {
        if self.refusals.contains_key(address) {
            return;
        }
        self.refusals.insert(address.to_owned(), None);
        self.ask(Candidate {
            address: address.to_owned(),
            channel: None,
            due: Instant::now(),
            pause: FIRST_PAUSE,
            patience: FIRST_PATIENCE,
        });
    }

    fn ask(&mut self, candidate: Candidate) {
        let (ask, deadline) = (self.ask, self.client.deadline);
        self.asked.push(Box::pin(candidate.ask(ask, deadline)));
    }

    /// The next answer, and the node that gave it. Each node answers once.
    ///
    /// # Errors
    ///
    /// Time is up, the request is at fault, or no node is left to ask.
    pub(crate) async fn next(&mut self) -> Result<(Node, T), Failure> {
        loop {
            let Asked {
                mut candidate,
                outcome,
            } = match timeout_at(self.client.deadline, self.asked.next()).await {
                Ok(Some(asked)) => asked,
                Ok(None) => return Err(self.nobody_left()),
                Err(_) => return Err(self.client.too_late(&self.last_words())),
            };
            let refusal = match outcome {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            if refusal.hope == Hope::Nowhere {
                return Err(refused(&candidate.address, refusal));
            }
            if let Some(leader) = refusal
                .leader_addr
                .as_deref()
                .and_then(|addr| endpoint(addr).ok())
            {
                self.add(&leader);
            }
            let last_word = self.refusals.entry(candidate.address.clone()).or_default();
            let again = refusal.hope == Hope::Later;
            if again {
                candidate.postpone(&refusal);
            }
            // Once time is up, who was cut short has said more before.
            if last_word.is_none() || Instant::now() < self.client.deadline {
                *last_word = Some(refusal);
            }
            if again {
                self.ask(candidate);
            }
        }
    }

    /// What each node said last. A node that never said anything did not answer in time.
    fn last_words(&mut self) -> BTreeMap<String, Refusal> {
        std::mem::take(&mut self.refusals)
            .into_iter()
            .map(|(address, refusal)| (address, refusal.unwrap_or(Refusal::timeout(true))))
            .collect()
    }

    fn nobody_left(&mut self) -> Failure {
        let refusals = self.last_words();
        let kind = refusals
            .values()
            .next()
            .map_or("refused", |refusal| refusal.kind);
        let message = format!("no node serves the request: {}", by_reason(&refusals));
        Failure::unserved(kind, message, Applied::No)
    }
}

impl Candidate {
    /// Puts the next question off, as after every failure a little longer.
    fn postpone(&mut self, refusal: &Refusal) {
        self.due = Instant::now() + jittered(self.pause);
        self.pause = longer(self.pause);
        if !refusal.answered {
            self.channel = None;
            self.patience = self.patience.saturating_mul(2);
        }
    }

    /// Connects if need be, and asks once.
    async fn ask<T>(
        mut self,
        ask: &impl AsyncFn(Node) -> Answer<T>,
        deadline: Instant,
    ) -> Asked<T> {
        sleep_until(self.due).await;
        let deadline = deadline.min(Instant::now() + self.patience);
        let mut connected = self.channel.is_some();
        let attempt = async {
            let channel = match self.channel.take() {
                Some(channel) => channel,
                None => connect(&self.address).await?,
            };
            connected = true;
            self.channel = Some(channel.clone());
            let node = Node {
                address: self.address.clone(),
                channel,
                deadline,
            };
            let answer = ask(node.clone()).await.map_err(Refusal::from)?;
            Ok((node, answer.into_inner()))
        };
        let outcome = match timeout_at(deadline, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refusal::timeout(connected)),
        };
        Asked {
            candidate: self,
            outcome,
        }
    }
}

async fn connect(address: &str) -> Result<Channel, Refusal> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Refusal::unreachable(&error))?;
    // Nobody but this client knows when the call ends, so there is no time limit here.
    endpoint
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| Refusal::unreachable(&error))
}

/// A write that was sent, and of which nobody says that it was not applied.
fn unknown(address: &str, refusal: &Refusal) -> Failure {
    let message = format!(
        "outcome unknown: {address}: {refusal}; the request may have been carried out, or may yet \
         be, and was not repeated"
    );
    Failure::unserved(refusal.kind, message, Applied::Unknown)
}

fn refused(address: &str, refusal: Refusal) -> Failure {
    Failure::unserved(refusal.kind, format!("{address}: {refusal}"), Applied::No)
}

/// What every node said, with those together that said the same.
fn by_reason(refusals: &BTreeMap<String, Refusal>) -> String {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (address, refusal) in refusals {
        nodes.entry(&refusal.message).or_default().push(address);
    }
    let reasons: Vec<_> = nodes
        .into_iter()
        .map(|(reason, addresses)| format!("{}: {reason}", addresses.join(", ")))
        .collect();
    reasons.join("; ")
}

fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(LONGEST_PAUSE)
}

/// Between half of `pause` and all of it: clients that failed together must not return together.
fn jittered(pause: Duration) -> Duration {
    rand::thread_rng().gen_range(pause / 2..=pause)
}
