//! Whether the endpoints lead to one cluster.
//!
//! A client that runs for long stays with the cluster that answered first, and hears of another one
//! when it meets it. One that makes a single call would take whichever answers first, so it may ask
//! all endpoints before: every node that takes part in a cluster says at once in which, whoever leads
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
use crate::deadline::after;
use crate::proto::kv::{GetRequest, OtherCluster};

/// The id of no cluster, as they are drawn at random: who is asked for it names its own instead.
const NO_CLUSTER: u64 = 0;

/// Longest wait for endpoints that say nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shortest wait for the others when one endpoint has answered; they have as long again as that took.
const GRACE: Duration = Duration::from_millis(100);

/// Endpoints by the cluster that they lead to.
type Clusters = BTreeMap<u64, BTreeSet<String>>;

impl Client {
    /// Asks all endpoints which cluster they lead to, and makes sure that it is one. That is the one
    /// that calls name from now on; its id is returned. `None`: nobody has said. A client that knows its
    /// cluster asks nobody, and neither does one with a single endpoint.
    ///
    /// Who does not answer is not waited for: once one endpoint has answered, the others have as long
    /// again, and 100 ms at least. A cluster that was recovered from another one is the same as that.
    ///
    /// # Errors
    ///
    /// [`Error::is_other_cluster`]: there are several, and the message says which endpoints lead to
    /// which.
    pub async fn one_cluster(&self) -> Result<Option<u64>, Error> {
        let known = *self.watch_cluster().borrow();
        if known.is_some() || self.shared.endpoints.len() < 2 {
            return Ok(known);
        }
        let mut clusters = self.clusters().await;
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

    /// The clusters that the endpoints lead to, as far as they say so soon.
    async fn clusters<'a>(&'a self) -> Clusters {
        let begun = Instant::now();
        let latest = self.deadline().min(after(PATIENCE));
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
                until = until.min(after(begun.elapsed().max(GRACE)));
            }
            let endpoints = clusters.entry(cluster_id).or_default();
            endpoints.insert(address.clone());
        }
        clusters
    }

    /// Those of which another one was recovered: what is left of them serves nobody any more.
    async fn recovered(&self, clusters: &Clusters) -> BTreeSet<u64> {
        let until = self.deadline().min(after(PATIENCE));
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

    /// What the node at `address` says when it is asked for the cluster `named` and takes part in
    /// another one.
    async fn cluster_of(&self, address: &str, named: u64, until: Instant) -> Option<OtherCluster> {
        let node = self.shared.node(address, until).ok()?;
        // No key: a node that takes part in nothing yet refuses that at once.
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

/// What a call ends with that may be for any of several clusters. `other` is one of them.
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

/// What a call ends with for which nobody but the cluster `other` answers, at `endpoint`.
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
