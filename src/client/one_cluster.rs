//! The check that all endpoints lead to one cluster.
//!
//! A client that runs for long stays with the cluster that answered first, and notices another one
//! when it reaches it. A client that makes a single call would take the one that answers first. So it may ask
//! all endpoints before: every node that takes part in a cluster names that at once, whichever node leads
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::Client;
use super::call_error::CallError;
use super::error::{Applied, Error, Reason, Refusal};
use super::nodes::Purpose;
use crate::deadline::after;
use crate::proto::kv::{GetRequest, OtherCluster};

/// The id of no cluster, as ids are drawn at random: a node that is asked for it names its own instead.
const NO_CLUSTER: u64 = 0;

/// Longest wait for endpoints that do not answer.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);

/// Shortest wait of a call for the other endpoints when one has answered.
const GRACE: Duration = Duration::from_millis(100);

/// Endpoints by the cluster that they lead to.
pub(super) type Clusters = BTreeMap<u64, BTreeSet<String>>;

impl Client {
    /// Asks all endpoints which cluster they lead to, and makes sure that it is one. Calls name that cluster
    /// from now on; its id is returned. `None`: no endpoint has answered. A client that knows its cluster, or
    /// has a single endpoint, asks none.
    ///
    /// The wait is short: once one endpoint has answered, the others have as long again, and 100 ms at least.
    /// A cluster that was recovered from another one counts as the same.
    ///
    /// # Errors
    ///
    /// [`Error::is_other_cluster`]: there are several clusters. The message names each with its endpoints.
    pub async fn one_cluster(&self) -> Result<Option<u64>, Error> {
        let known = *self.watch_cluster().borrow();
        if known.is_some() || self.shared.endpoints.len() < 2 {
            return Ok(known);
        }
        let mut clusters = self.clusters(GRACE).await;
        if clusters.len() > 1 {
            let former = self.recovered(&clusters).await;
            clusters.retain(|id, _| !former.contains(id));
        }
        match clusters.keys().copied().collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [one] => Ok(self.shared.learn(Some(one))),
            [_, other, ..] => Err(several(&clusters, other)),
        }
    }

    /// The clusters of the endpoints that answer within [`MAX_WAIT`]. Once one has answered, the others have as long
    /// again, and at least `grace`.
    pub(super) async fn clusters<'a>(&'a self, grace: Duration) -> Clusters {
        let begun = Instant::now();
        let latest = self.deadline().min(after(MAX_WAIT));
        let ask = async |address: &'a String| {
            (address, self.cluster_of(address, NO_CLUSTER, latest).await)
        };
        let mut asked: FuturesUnordered<_> = self.shared.endpoints.iter().map(ask).collect();
        let mut until = latest;
        let mut clusters = Clusters::new();
        while let Ok(Some((address, answer))) = timeout_at(until, asked.next()).await {
            let Some(OtherCluster { cluster_id, .. }) = answer else {
                continue;
            };
            if clusters.is_empty() {
                until = until.min(after(begun.elapsed().max(grace)));
            }
            let endpoints = clusters.entry(cluster_id).or_default();
            endpoints.insert(address.clone());
        }
        clusters
    }

    /// The clusters from which another one was recovered: their remaining processes serve no requests any
    /// more.
    async fn recovered(&self, clusters: &Clusters) -> BTreeSet<u64> {
        let until = self.deadline().min(after(MAX_WAIT));
        let mut former = BTreeSet::new();
        for (id, endpoints) in clusters {
            let Some(address) = endpoints.first() else {
                continue;
            };
            for other in clusters.keys().filter(|other| *other != id) {
                let answer = self.cluster_of(address, *other, until).await;
                if answer.is_some_and(|answer| answer.successor) {
                    former.insert(*other);
                }
            }
        }
        former
    }

    /// The answer of the node at `address` to a request for the cluster `named`, if it takes part in another
    /// one.
    async fn cluster_of(&self, address: &str, named: u64, until: Instant) -> Option<OtherCluster> {
        let node = self.shared.node(Purpose::Calls, address, until).ok()?;
        // No key: a node that takes part in no cluster yet refuses that at once.
        let request = node.request(GetRequest {
            key: Bytes::new(),
            cluster_id: Some(named),
        });
        let answer = timeout_at(until, node.kv().get(request)).await.ok()?;
        match CallError::from(answer.err()?).reason {
            Some(Reason::OtherCluster(answer)) => Some(answer),
            _ => None,
        }
    }
}

/// The error of a call that could be for any of several clusters. `other` is one of them.
fn several(clusters: &Clusters, other: u64) -> Error {
    let all = clusters.iter().map(|(id, endpoints)| {
        let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
        format!("{id:016x} ({})", endpoints.join(", "))
    });
    let all: Vec<_> = all.collect();
    let message = format!(
        "the endpoints lead to {} clusters: {}",
        all.len(),
        all.join(" and ")
    );
    let endpoint = clusters.get(&other).and_then(BTreeSet::first);
    let endpoint = endpoint.cloned().unwrap_or_default();
    unserved(message, endpoint, other)
}

/// The error of a call that only the cluster `other` answers, at `endpoint`.
pub(super) fn unserved(message: String, endpoint: String, other: u64) -> Error {
    let last = Refusal {
        endpoint,
        code: Code::FailedPrecondition,
        reason: Some(Reason::OtherCluster(OtherCluster {
            cluster_id: other,
            successor: false,
        })),
        applied: Applied::No,
        message: message.clone(),
    };
    Error::Unserved {
        message,
        last: Some(Box::new(last)),
    }
}
