//! Writes to every node repeatedly until one accepts, like a client that knows only the nodes of a
//! cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use seshat::proto::kv::SetRequest;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

/// Pause after a refusal, and so the precision of the measured time.
const PAUSE: Duration = Duration::from_millis(5);
/// How long one write may wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long the whole probe may take before the cluster counts as broken.
const GIVE_UP: Duration = Duration::from_secs(30);

/// The first write that was accepted.
#[derive(Debug)]
pub(crate) struct FirstWrite {
    /// Index of the node that accepted it, which is the leader.
    pub(crate) node: usize,
    pub(crate) accepted: Instant,
}

/// Waits for the first accepted write at one of `client_addrs`.
pub(crate) async fn first_write(client_addrs: &[String]) -> Result<FirstWrite> {
    let mut probes = JoinSet::new();
    for (node, addr) in client_addrs.iter().enumerate() {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.timeout(TIMEOUT);
        probes.spawn(async move {
            let mut client = KvServiceClient::new(endpoint.connect_lazy());
            let key = Bytes::from_static(b"probe");
            let value = Bytes::from_static(b"probe");
            let request = SetRequest {
                key,
                value,
                session: None,
                ..SetRequest::default()
            };
            while client.set(request.clone()).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            let accepted = Instant::now();
            FirstWrite { node, accepted }
        });
    }
    // Dropping the set ends the probes of the other nodes.
    let first = tokio::time::timeout(GIVE_UP, probes.join_next()).await;
    let first = first.with_context(|| format!("not within {} s", GIVE_UP.as_secs()))?;
    Ok(first.context("no nodes")??)
}
