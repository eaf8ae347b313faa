//! A search: asks many nodes the same harmless question, and takes the first good answer.
//!
//! A node may be dead, cut off or paused, so the search waits for no single one. It asks the nodes in a
//! random order with short pauses between them, without waiting for earlier answers. A node that fails
//! makes the next one's turn come at once; so does a node that names the leader. A node that refuses or
//! fails is asked again, after random pauses that grow. Only the deadline ends a search, except for a
//! request that no node will ever serve.
//!
//! An address may lead to several nodes, through a load balancer or a name with several addresses. So an
//! address that refuses twice is dialled anew each time, and every address of its name is asked too. If
//! there is only one endpoint and a leader is known, the first of these attempts follow one another
//! quickly: each has the same chance to reach the leader.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::seq::SliceRandom as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Limit;
use super::builder::endpoint;
use super::call_error::{CallError, Retryability};
use super::error::{Applied, Error};
use super::nodes::{Answer, Node, Purpose, Shared};
use super::options::Backoff;
use crate::deadline::{after, since};

/// Pause between the first question to one node and the first to the next.
const STAGGER: Duration = Duration::from_millis(20);

/// Most nodes of a search, including those that other nodes name.
const MAX_NODES: usize = 128;

/// Number of refusals from which an address is dialled anew. After the first refusal the search asks the
/// leader that it names, which mostly suffices.
const DIAL_ANEW: u32 = 2;

/// How often a search dials its only endpoint before the pauses grow. A load balancer behind it leads to
/// another node each time: the leader of three or five nodes is among so many with a probability of 99.8
/// or 97 %.
const QUICK_DIALS: u32 = 16;

/// How often a search asks at an address where another cluster answers: one name may lead to both
/// clusters.
const MAX_FOREIGN: u32 = 4;

/// One question, asked of all known nodes.
pub(super) struct Search<'a, T, F> {
    shared: &'a Shared,
    limit: Limit,
    deadline: Instant,
    /// The connections that it uses.
    purpose: Purpose,
    /// Longest wait for the answer of a node before the question is repeated.
    attempt_timeout: Duration,
    ask: &'a F,
    asked: FuturesUnordered<Pin<Box<dyn Future<Output = News<T>> + Send + 'a>>>,
    nodes: BTreeMap<String, Known>,
}

/// A node of the search.
#[derive(Default)]
struct Known {
    last_word: Option<CallError>,
    /// Makes its first turn come at once.
    hurry: Arc<Notify>,
    was_asked: bool,
}

/// An event of the search.
enum News<T> {
    Asked(Box<Asked<T>>),
    /// The addresses of one name.
    Resolved(Vec<SocketAddr>),
}

/// A node that has been asked, and the outcome.
struct Asked<T> {
    candidate: Candidate,
    outcome: Result<(Node, T), CallError>,
}

/// A node that is asked until it answers.
struct Candidate {
    address: String,
    /// When to ask it.
    due: Instant,
    hurry: Option<Arc<Notify>>,
    pause: Duration,
    purpose: Purpose,
    attempt_timeout: Duration,
    /// How often a node at this address has refused a request that another one may serve.
    refusals: u32,
    /// How often another cluster has answered.
    foreign: u32,
}

impl<'a, T, F, Fut> Search<'a, T, F>
where
    T: Send + 'a,
    F: Fn(Node) -> Fut + Sync,
    Fut: Future<Output = Answer<T>> + Send + 'a,
{
    /// A search that asks all endpoints until `deadline`.
    pub(super) fn new(shared: &'a Shared, limit: Limit, deadline: Instant, ask: &'a F) -> Self {
        Self::with_attempt_timeout(shared, limit, deadline, shared.options.attempt_timeout, ask)
    }

    /// The same with another `attempt_timeout`: the longest wait for the answer of a node before the question is
    /// repeated.
    pub(super) fn with_attempt_timeout(
        shared: &'a Shared,
        limit: Limit,
        deadline: Instant,
        attempt_timeout: Duration,
        ask: &'a F,
    ) -> Self {
        let mut search = Self::of_no_node(shared, limit, deadline, ask);
        search.attempt_timeout = attempt_timeout;
        search.ask_endpoints(None);
        search
    }

    /// The same over connections for `purpose`. The node at `last` is asked after all others.
    pub(super) fn over(
        purpose: Purpose,
        shared: &'a Shared,
        limit: Limit,
        deadline: Instant,
        last: Option<&str>,
        ask: &'a F,
    ) -> Self {
        let mut search = Self::of_no_node(shared, limit, deadline, ask);
        search.purpose = purpose;
        search.ask_endpoints(last);
        search
    }

    fn of_no_node(shared: &'a Shared, limit: Limit, deadline: Instant, ask: &'a F) -> Self {
        Self {
            shared,
            limit,
            deadline,
            purpose: Purpose::Calls,
            attempt_timeout: shared.options.attempt_timeout,
            ask,
            asked: FuturesUnordered::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Asks all endpoints. The one at `last` has its turn when the others have had their time, or have failed.
    fn ask_endpoints(&mut self, last: Option<&str>) {
        let mut order: Vec<_> = self.shared.endpoints.iter().map(String::as_str).collect();
        self.shared.random(|random| order.shuffle(random));
        let mut due = Instant::now();
        for address in order {
            let is_last = last == Some(address) && self.shared.endpoints.len() > 1;
            let later = if is_last {
                self.attempt_timeout
            } else {
                Duration::ZERO
            };
            if self.insert(address, since(due, later)) {
                due = since(due, self.shared.jittered(STAGGER));
            }
        }
    }

    /// Asks these addresses too, after all others.
    pub(super) fn also(&mut self, addresses: Vec<String>) {
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let mut due = after(STAGGER.saturating_mul(nodes));
        for address in addresses {
            if self.nodes.len() < MAX_NODES && self.insert(&address, due) {
                due = since(due, self.shared.jittered(STAGGER));
            }
        }
    }

    /// Asks the node at `address` now, unless it was asked already.
    pub(super) fn add(&mut self, address: &str) {
        if self.nodes.len() < MAX_NODES {
            self.insert(address, Instant::now());
        }
        if let Some(known) = self.nodes.get(address) {
            known.hurry.notify_one();
        }
    }

    /// Adds a node. Returns whether it is new.
    fn insert(&mut self, address: &str, due: Instant) -> bool {
        let Entry::Vacant(vacant) = self.nodes.entry(address.to_owned()) else {
            return false;
        };
        let known = vacant.insert(Known::default());
        let candidate = Candidate {
            address: address.to_owned(),
            due,
            hurry: Some(Arc::clone(&known.hurry)),
            pause: self.shared.options.backoff.min,
            purpose: self.purpose,
            attempt_timeout: self.attempt_timeout,
            refusals: 0,
            foreign: 0,
        };
        self.push(candidate);
        true
    }

    fn push(&mut self, candidate: Candidate) {
        let (shared, ask, deadline) = (self.shared, self.ask, self.deadline);
        let asked =
            async move { News::Asked(Box::new(candidate.ask(shared, ask, deadline).await)) };
        self.asked.push(Box::pin(asked));
    }

    /// Resolves the name in `address`, to ask all of its addresses. Does nothing for an IP address.
    fn resolve(&mut self, address: &str) {
        if address.parse::<SocketAddr>().is_err() {
            let found = (self.shared.options.resolve)(address.to_owned());
            self.asked
                .push(Box::pin(async move { News::Resolved(found.await) }));
        }
    }

    /// The next answer, and the node that gave it. Each node answers once.
    ///
    /// # Errors
    ///
    /// The deadline has passed, the request is at fault, or no node is left to ask.
    pub(super) async fn next(&mut self) -> Result<(Node, T), Error> {
        loop {
            let next = timeout_at(self.deadline, self.asked.next()).await;
            let Asked {
                mut candidate,
                outcome,
            } = match next {
                Ok(Some(News::Asked(asked))) => *asked,
                Ok(Some(News::Resolved(addresses))) => {
                    if addresses.len() > 1 {
                        self.also(addresses.iter().map(SocketAddr::to_string).collect());
                    }
                    continue;
                }
                Ok(None) => return Err(self.no_node_serves()),
                Err(_) => return Err(self.too_late()),
            };
            let fault = match outcome {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if fault.retryability == Retryability::Nowhere {
                return Err(Error::Refused(Box::new(fault.refusal(&candidate.address))));
            }
            self.hurry(&fault);
            if candidate.refusals == DIAL_ANEW {
                self.resolve(&candidate.address);
            }
            candidate.foreign += u32::from(fault.is_other_cluster());
            let again =
                fault.retryability == Retryability::Later && candidate.foreign < MAX_FOREIGN;
            if again {
                candidate.postpone(&fault, self.shared);
            }
            let known = self.nodes.entry(candidate.address.clone()).or_default();
            known.was_asked = true;
            // After the deadline the fault is only a cancelled attempt; an earlier one says more.
            if known.last_word.is_none() || Instant::now() < self.deadline {
                known.last_word = Some(fault);
            }
            if again {
                self.push(candidate);
            }
        }
    }

    /// Makes the turn of the leader that `fault` names come at once, or else that of the next node.
    fn hurry(&mut self, fault: &CallError) {
        match fault.leader_addr().and_then(|it| endpoint(it).ok()) {
            Some(leader) => self.add(&leader),
            None => {
                let next = self.nodes.values_mut().find(|known| !known.was_asked);
                if let Some(known) = next {
                    known.was_asked = true;
                    known.hurry.notify_one();
                }
            }
        }
    }

    /// The last fault of each node. A node without one did not answer in time.
    fn last_words(&mut self) -> BTreeMap<String, CallError> {
        std::mem::take(&mut self.nodes)
            .into_iter()
            .map(|(address, known)| (address, known.last_word.unwrap_or_else(CallError::silence)))
            .collect()
    }

    fn no_node_serves(&mut self) -> Error {
        let faults = self.last_words();
        let message = format!("no node serves the request: {}", by_reason(&faults));
        let last = faults.into_iter().next();
        let last = last.map(|(address, fault)| Box::new(fault.of_read().refusal(&address)));
        Error::Unserved { message, last }
    }

    fn too_late(&mut self) -> Error {
        let faults = self.last_words();
        too_late(self.limit, faults)
    }
}

/// The error of a call whose deadline passed during the search, so that nothing was sent that may have an
/// effect. `faults` holds the last fault of every node.
pub(super) fn too_late(limit: Limit, faults: BTreeMap<String, CallError>) -> Error {
    let (timeout, words) = (limit.timeout, by_reason(&faults));
    match faults.into_iter().find(|(_, fault)| fault.answered()) {
        Some((address, fault)) => Error::Deadline {
            message: format!("the cluster did not serve the request within {timeout:?}: {words}"),
            applied: Applied::No,
            last: Some(Box::new(fault.of_read().refusal(&address))),
        },
        None => Error::Unreachable {
            message: format!("the cluster cannot be reached within {timeout:?}: {words}"),
            applied: Applied::No,
        },
    }
}

impl Candidate {
    /// Postpones the next question. The pause grows with every fault.
    fn postpone(&mut self, fault: &CallError, shared: &Shared) {
        self.due = after(shared.jittered(self.pause));
        let is_alone = shared.endpoints.len() == 1;
        let quick = is_alone && fault.leader_addr().is_some() && self.refusals <= QUICK_DIALS;
        if !quick {
            self.pause = shared.options.backoff.longer(self.pause);
        }
        if fault.silent {
            self.attempt_timeout = self.attempt_timeout.saturating_mul(2);
        }
    }

    /// Waits for its turn, and asks once.
    async fn ask<T, F, Fut>(mut self, shared: &Shared, ask: &F, deadline: Instant) -> Asked<T>
    where
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        match self.hurry.take() {
            Some(hurry) => tokio::select! {
                () = sleep_until(self.due) => {}
                () = hurry.notified() => {}
            },
            None => sleep_until(self.due).await,
        }
        let deadline = deadline.min(after(self.attempt_timeout));
        let outcome = match shared.node(self.purpose, &self.address, deadline) {
            Ok(node) => match timeout_at(deadline, ask(node.clone())).await {
                Ok(Ok(answer)) => Ok((node, answer.into_inner())),
                Ok(Err(status)) => Err((node, CallError::from(status))),
                Err(_) => Err((node, CallError::silence())),
            }
            .map_err(|(node, fault)| {
                shared.note(&node, &fault);
                self.refusals += u32::from(fault.sends_elsewhere());
                if self.refusals >= DIAL_ANEW && fault.sends_elsewhere() {
                    shared.dial_anew(&node);
                }
                fault
            }),
            Err(fault) => Err(fault),
        };
        Asked {
            candidate: self,
            outcome,
        }
    }
}

/// The faults as text, with the nodes of equal faults together.
fn by_reason(faults: &BTreeMap<String, CallError>) -> String {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (address, fault) in faults {
        nodes.entry(&fault.message).or_default().push(address);
    }
    let reasons: Vec<_> = nodes
        .into_iter()
        .map(|(reason, addresses)| format!("{}: {reason}", addresses.join(", ")))
        .collect();
    reasons.join("; ")
}

impl Backoff {
    /// The pause after `pause`.
    pub(super) fn longer(self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;
    use crate::proto::kv::NotLeader;
    use crate::proto::kv::error_detail::Reason;

    fn pauses(endpoints: usize, leader_addr: Option<&str>) -> Vec<Duration> {
        let names = (0..endpoints).map(|index| format!("kv-{index}:6379"));
        let shared = Shared::new(names.collect(), super::super::options::Options::default());
        let fault = CallError {
            reason: Some(Reason::NotLeader(NotLeader {
                leader_id: None,
                leader_addr: leader_addr.map(str::to_owned),
            })),
            ..CallError::from(Status::new(Code::FailedPrecondition, "not the leader"))
        };
        let mut candidate = Candidate {
            address: "kv-0:6379".to_owned(),
            due: Instant::now(),
            hurry: None,
            pause: shared.options.backoff.min,
            purpose: Purpose::Calls,
            attempt_timeout: Duration::from_secs(1),
            refusals: 0,
            foreign: 0,
        };
        let mut pause = || {
            candidate.refusals += 1;
            candidate.postpone(&fault, &shared);
            candidate.due - Instant::now()
        };
        (0..QUICK_DIALS).map(|_| pause()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_balancer_is_dialled_quickly_while_a_node_behind_it_leads() {
        let Backoff { min, max } = super::super::options::Options::default().backoff;
        let leader = Some("kv-1:6379");
        assert!(pauses(1, leader).iter().all(|pause| *pause <= min));
        for (endpoints, leader) in [(1, None), (3, leader)] {
            let longest = pauses(endpoints, leader).into_iter().max();
            assert!(longest > Some(max / 2), "{endpoints}: {longest:?}");
        }
    }
}
