//! One call, from the first attempt to its deadline.
//!
//! A call goes to one node, the one that served last. If the client knows no leader, a search asks all
//! nodes for a read first: a node that answers it leads, reaches a majority, and has a working
//! connection, which keeps unknown outcomes rare. For the same reason a search goes ahead of a write that
//! may not be sent twice, if the leader has not answered lately. All calls of a client wait for one
//! search.
//!
//! A failed attempt is repeated only where that is safe: always for a read, and for a call with a session
//! number. Any other write is repeated only if it was surely not applied.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::Client;
use super::builder::endpoint;
use super::call_error::{CallError, Retryability};
use super::error::{Applied, Error};
use super::nodes::{Answer, Node, Purpose};
use super::search::{Search, too_late};
use crate::deadline::after;
use crate::proto::kv::{GetRequest, GetResponse};

/// A key that is read only to find the node that serves reads. It may have any value or none.
const PROBED_KEY: &[u8] = b"\0";

/// The shortest timeout that says anything about a node that has served other calls lately: a call may
/// have a deadline that no node can keep.
const SILENCE: Duration = Duration::from_millis(100);

/// Whether a failed attempt may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Always: it changes nothing.
    Read,
    /// Always: its effect is the same however often it is done.
    Safe,
    /// Only if it was surely not applied.
    Unsafe,
}

impl Client {
    /// Makes a call to the leader until it is answered or `deadline` has come.
    pub(super) async fn call<T, F, Fut>(
        &self,
        deadline: Instant,
        repeat: Repeat,
        make: F,
    ) -> Result<T, Error>
    where
        T: Send,
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        let options = &self.shared.options;
        let (mut pause, mut attempt_timeout) = (options.backoff.min, options.attempt_timeout);
        let mut in_doubt = false;
        let mut hint = None;
        let doubtful = |error: Error, in_doubt| match in_doubt {
            true => error.in_doubt(),
            false => error,
        };
        loop {
            let age = match repeat {
                Repeat::Unsafe => Some(options.trust),
                Repeat::Read | Repeat::Safe => None,
            };
            let leader = self.leader(deadline, age, hint.take()).await;
            let leader = leader.map_err(|error| doubtful(error, in_doubt))?;
            let until = match repeat {
                Repeat::Unsafe => deadline,
                // A third at most, so that enough time is left for another node.
                Repeat::Read | Repeat::Safe => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    deadline.min(after(attempt_timeout.min(left / 3)))
                }
            };
            let cluster = self.cluster.or(leader.cluster);
            let leader = self.shared.over(self.purpose, leader);
            let leader = leader.until(until).of(cluster);
            let leader = leader.traced(self.traceparent.clone());
            let begun = Instant::now();
            let fault = match attempt(&leader, &make).await {
                Ok(answer) => {
                    self.shared.served(&leader.address);
                    return Ok(answer);
                }
                Err(fault) if repeat == Repeat::Read => fault.of_read(),
                Err(fault) => fault,
            };
            debug!(node = leader.address, %fault, applied = %fault.applied, "an attempt failed");
            self.note(&leader, &fault, until.saturating_duration_since(begun));
            if self.purpose == Purpose::Streams && fault.sends_elsewhere() {
                self.shared.dial_anew(&leader);
            }
            in_doubt |= fault.applied == Applied::Unknown;
            let again = match (fault.applied, repeat) {
                (Applied::Unknown, Repeat::Unsafe) => false,
                // A session ends with its cluster.
                (_, Repeat::Safe) if fault.successor().is_some() => false,
                _ => fault.retryability == Retryability::Later,
            };
            let silent = fault.silent;
            hint = fault.leader_addr().and_then(|it| endpoint(it).ok());
            if !again {
                return Err(doubtful(ended(&leader, fault), in_doubt));
            }
            let end = after(self.shared.jittered(pause));
            if end >= deadline {
                let faults = [(leader.address, fault)].into();
                return Err(doubtful(too_late(self.limit, faults), in_doubt));
            }
            sleep_until(end).await;
            pause = options.backoff.longer(pause);
            if silent {
                attempt_timeout = attempt_timeout.saturating_mul(2);
            }
        }
    }

    /// Updates what is known after a fault of `node`, which had so long to answer. How long the attempt took in
    /// the end depends on the load of this machine, too.
    pub(super) fn note(&self, node: &Node, fault: &CallError, given: Duration) {
        if !(fault.silent && given < SILENCE && self.was_heard(node)) {
            self.shared.note(node, fault);
        }
    }

    /// Whether `node` has served other calls lately.
    fn was_heard(&self, node: &Node) -> bool {
        let heard = self.shared.leader(Some(self.shared.options.trust));
        heard.is_some_and(|address| address == node.address)
    }

    /// The leader, if it has served a call within `age`. If none is known, a search finds it; the node at
    /// `hint` is among the first that it asks.
    ///
    /// # Errors
    ///
    /// No leader was found until `deadline`, or none can be found.
    async fn leader(
        &self,
        deadline: Instant,
        age: Option<Duration>,
        hint: Option<String>,
    ) -> Result<Node, Error> {
        let known = || {
            let address = self.shared.leader(age)?;
            self.shared.node(Purpose::Calls, &address, deadline).ok()
        };
        if let Some(node) = known() {
            return Ok(node);
        }
        let Ok(_searching) = timeout_at(deadline, self.shared.searching.lock()).await else {
            return Err(too_late(self.limit, [].into()));
        };
        if let Some(node) = known() {
            return Ok(node);
        }
        let mut search = Search::new(&self.shared, self.limit, deadline, &probe);
        search.also(self.shared.connected());
        for address in self.shared.leader(None).into_iter().chain(hint) {
            search.add(&address);
        }
        let (leader, answer) = search.next().await?;
        let cluster = self.shared.learn(answer.cluster_id);
        debug!(node = leader.address, "found the leader");
        self.shared.remember_leader(&leader.address);
        Ok(leader.until(deadline).of(cluster))
    }
}

/// Asks a node for a read whose value is not needed.
pub(super) async fn probe(node: Node) -> Answer<GetResponse> {
    let request = GetRequest {
        key: PROBED_KEY.into(),
        cluster_id: node.cluster,
    };
    node.kv().get(node.request(request)).await
}

/// Makes a call to one node, once.
pub(super) async fn attempt<T, F, Fut>(node: &Node, make: &F) -> Result<T, CallError>
where
    F: Fn(Node) -> Fut + Sync,
    Fut: Future<Output = Answer<T>> + Send,
{
    match timeout_at(node.deadline, make(node.clone())).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::from(status)),
        Err(_) => Err(CallError::silence()),
    }
}

/// The error of a call whose last attempt may not be repeated.
pub(super) fn ended(node: &Node, fault: CallError) -> Error {
    if fault.answered() {
        return Error::Refused(Box::new(fault.refusal(&node.address)));
    }
    let message = format!("{}: {}", node.address, fault.message);
    match fault.silent {
        true => Error::Deadline {
            message,
            applied: fault.applied,
            last: None,
        },
        false => Error::Unreachable {
            message,
            applied: fault.applied,
        },
    }
}
