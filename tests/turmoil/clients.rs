//! Clients that write and read all the time over gRPC, and record the answers.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rand::Rng as _;
use rand::rngs::StdRng;
use seshat::proto::kv::error_detail::Reason;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::{Applied, ErrorDetail, GetRequest, NotLeader, SetRequest};
use seshat::wire::find_detail;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::network::{channel, client_addr};
use crate::shared::Shared;
use seshat_test_support::coordination::{Record, Version, decode, encode};

/// Keys that the clients share: few, so that they meet.
pub(crate) const KEYS: u64 = 6;

/// The behaviour of clients.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    /// The longest wait for an answer.
    pub(crate) max_wait: Duration,
    /// The longest pause between two operations, in milliseconds.
    pub(crate) longest_pause: u64,
    /// Bound of the padding of a value.
    pub(crate) max_padding: u64,
    /// A flaw for the negative control: writes are repeated later, although they took effect.
    pub(crate) repeats: bool,
    /// A flaw for another: writes of sessions are sent without their numbers.
    pub(crate) unnumbered: bool,
    /// A flaw for a third: conditional writes that may have been applied are sent again.
    pub(crate) resends: bool,
    /// A flaw for a fourth: clients take their living sessions for held without asking.
    pub(crate) trusting: bool,
    /// A flaw for a fifth: clients take their locks for held without asking, and write without them.
    pub(crate) unfenced: bool,
}

/// A channel to node `id`, of a client that soon gives up a silent connection.
pub(crate) fn to_node(id: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", client_addr(id)));
    let endpoint = endpoint
        .expect("an address")
        .connect_timeout(Duration::from_millis(500))
        .http2_keep_alive_interval(Duration::from_millis(500))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true);
    channel(&endpoint)
}

/// The outcome of an attempt.
enum Told<T> {
    /// It took place.
    Answer(T),
    /// It surely did not.
    Refused,
    /// Unknown.
    Nothing,
}

/// One client: it makes one request at a time, to the presumed leader.
pub(crate) struct Client {
    name: String,
    rng: StdRng,
    nodes: Vec<KvServiceClient<Channel>>,
    target: usize,
    habits: Habits,
    shared: Rc<Shared>,
}

impl Client {
    /// A client with connections of its own to `nodes` nodes.
    pub(crate) fn new(
        name: String,
        rng: StdRng,
        nodes: u16,
        habits: Habits,
        shared: Rc<Shared>,
    ) -> Self {
        let nodes = (1..=nodes).map(|id| KvServiceClient::new(to_node(id)));
        Self {
            name,
            rng,
            nodes: nodes.collect(),
            target: 0,
            habits,
            shared,
        }
    }

    /// Makes one request after the other until the run ends, then writes and reads each key until it is
    /// answered.
    pub(crate) async fn run(mut self) {
        while !self.shared.ending.get() {
            // Clients find the leader in different ways, and may believe in different ones.
            if self.rng.gen_bool(0.1) {
                self.target = self.rng.gen_range(0..self.nodes.len());
            }
            let key = self.rng.gen_range(0..KEYS);
            if self.rng.gen_bool(0.5) {
                self.write(key).await;
            } else {
                self.read(key).await;
            }
            let pause = self.rng.gen_range(0..=self.habits.longest_pause);
            sleep(Duration::from_millis(pause)).await;
        }
        for key in 0..KEYS {
            while !self.read(key).await {
                sleep(Duration::from_millis(50)).await;
            }
            while !self.write(key).await {
                sleep(Duration::from_millis(50)).await;
            }
            while !self.read(key).await {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Writes a fresh value. Returns whether it is acknowledged.
    async fn write(&mut self, key: u64) -> bool {
        let history = Arc::clone(&self.shared.history);
        let value = history.fresh_value();
        let message = SetRequest {
            key: name(key).into(),
            value: encode(value, self.habits.max_padding),
            session: None,
            ..SetRequest::default()
        };
        let size = message.value.len();
        let start = history.moment();
        let mut node = self.nodes[self.target].clone();
        let request = self.request(message.clone());
        let told = timeout(self.habits.max_wait * 2, node.set(request)).await;
        let told = self.told(told);
        let what = format!("set k{key} = {value} ({size} B)");
        match told {
            Told::Answer(answer) => {
                let index = answer.applied_index;
                self.tell(format_args!("{what}: applied at {index}"));
                self.shared.count("writes");
                let answer = Some((history.moment(), index));
                history.remember(Record::write(&name(key), start, value, answer));
                self.repeat(message);
                true
            }
            Told::Refused => {
                self.tell(format_args!("{what}: not applied"));
                self.shared.count("writes refused");
                false
            }
            Told::Nothing => {
                self.tell(format_args!("{what}: unknown"));
                self.shared.count("writes with unknown outcome");
                history.remember(Record::write(&name(key), start, value, None));
                false
            }
        }
    }

    /// The flaw of the negative control: the network delivers a write once more, later.
    fn repeat(&mut self, message: SetRequest) {
        if self.habits.repeats && self.rng.gen_bool(0.1) {
            let mut node = self.nodes[self.target].clone();
            tokio::task::spawn_local(async move {
                sleep(Duration::from_millis(500)).await;
                let _ = node.set(message).await;
            });
        }
    }

    /// Reads a key. Returns whether it was answered.
    async fn read(&mut self, key: u64) -> bool {
        let history = Arc::clone(&self.shared.history);
        let start = history.moment();
        let mut node = self.nodes[self.target].clone();
        let request = self.request(GetRequest {
            key: name(key).into(),
            ..GetRequest::default()
        });
        let told = timeout(self.habits.max_wait * 2, node.get(request)).await;
        let Told::Answer(answer) = self.told(told) else {
            self.tell(format_args!("get k{key}: refused"));
            self.shared.count("reads refused");
            return false;
        };
        let revision = answer.revision;
        let found = answer.value.map(|value| Version {
            value: decode(&value, self.habits.max_padding),
            revision,
        });
        self.tell(format_args!("get k{key}: {found:?}"));
        self.shared.count("reads");
        let (end, revision) = (history.moment(), answer.applied_index);
        history.remember(Record::read(&name(key), start, end, found, revision));
        true
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.habits.max_wait);
        request
    }

    /// The outcome of an attempt. Turns to another node if that may help.
    fn told<T>(
        &mut self,
        answer: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
    ) -> Told<T> {
        let status = match answer {
            Ok(Ok(answer)) => return Told::Answer(answer.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer"),
        };
        self.tell(format_args!("{:?}: {}", status.code(), status.message()));
        let detail = detail(&status);
        let hint = match detail.as_ref().and_then(|detail| detail.reason.as_ref()) {
            Some(Reason::NotLeader(NotLeader { leader_id, .. })) => *leader_id,
            _ => None,
        };
        self.target = match hint {
            Some(id) => usize::try_from(id).expect("a small number") - 1,
            None => (self.target + 1) % self.nodes.len(),
        };
        match detail.map(|detail| detail.applied()) {
            Some(Applied::No) => Told::Refused,
            _ => Told::Nothing,
        }
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        let now = turmoil::sim_elapsed().expect("on a simulated host");
        let node = self.target + 1;
        self.shared
            .tell(now, format_args!("{} at n{node}: {what}", self.name));
    }
}

pub(crate) fn name(key: u64) -> String {
    format!("k{key}")
}

/// The outcome that a refusal states, if a node has made it.
fn detail(status: &Status) -> Option<ErrorDetail> {
    let packed = tonic_types::pb::Status::decode(status.details()).ok()?;
    find_detail(&packed.details)
}
