//! Outgoing snapshots.
//!
//! A snapshot may be far larger than a message may be, and may need more time than any fixed deadline
//! allows: a transfer goes on for as long as it makes progress. A separate thread encodes it chunk by
//! chunk, no faster than the peer takes the chunks, so neither its size nor its encoding disturbs the
//! rest of the node. When its connection breaks, the transfer resumes after the part that the peer still
//! has. If that part has not grown since the last attempt, the transfer is given up: the core offers a
//! new snapshot later, of the state at that time.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::backoff::Backoff;
use super::budgets::Purpose;
use super::peer::Peer;
use super::transfer::snapshot_id;
use crate::deadline::after;
use crate::driver::{DriverHandle, OutgoingSnapshot, Workers};
use crate::error::RpcError;
use crate::proto::raft::{IdentifyRequest, InstallSnapshotRequest};
use crate::types::{Answering, RaftId, SnapshotId};
use crate::wire::{PeerMessage, SnapshotChunks, WireError};

const RPC: &str = "InstallSnapshot";

/// Chunks that wait for the encoder's reader, and again for the connection. With the one that is being
/// encoded, three are in memory.
const QUEUED_CHUNKS: usize = 1;

/// Sends a snapshot and reports the result, once.
#[tracing::instrument(level = "debug", skip_all, fields(node = %peer.me().node_id(), raft_id = %peer.me(), peer = %peer.node(), %to))]
pub(super) async fn deliver(
    peer: Arc<Peer>,
    to: RaftId,
    backoff: Arc<Backoff>,
    snapshot: OutgoingSnapshot,
    driver: DriverHandle,
    mut gone: oneshot::Receiver<Infallible>,
) {
    let sent = tokio::select! {
        biased;
        // The node does not lead any more: the peer would refuse the snapshot.
        _ = &mut gone => None,
        sent = send(&peer, snapshot) => Some(sent),
    };
    let answer = match sent {
        Some(Ok(answer)) => {
            backoff.passed();
            Some(answer)
        }
        Some(Err(error)) => {
            let tell = backoff.failed();
            if let RpcError::NotMe { not_me, .. } = &error {
                peer.is_another(to, *not_me);
            } else if tell {
                peer.log_refusal(&error);
            }
            None
        }
        None => None,
    };
    // The guard closes before the report: the core may send the next snapshot as soon as it has the
    // report.
    drop(gone);
    // A driver that has stopped needs no report.
    let _ = driver.report_snapshot(to, answer).await;
}

/// Sends `snapshot`, in as many calls as it takes. Each call starts later in the snapshot than the one
/// before.
async fn send(peer: &Arc<Peer>, snapshot: OutgoingSnapshot) -> Result<PeerMessage, RpcError> {
    let mut from = 0;
    loop {
        let error = match attempt(peer, snapshot.clone(), from).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match reached(peer, snapshot_id(snapshot.header.request())).await {
            Some(reached) if reached > from => from = reached,
            _ => return Err(error),
        }
        let node = peer.me().node_id();
        tracing::info!(%node, peer = %peer.node(), from, %error, "a snapshot goes on where it broke off");
    }
}

/// How many bytes of a snapshot the peer has, as soon as it answers. `None` if it has another one or does
/// not answer within the bulk timeout.
async fn reached(peer: &Arc<Peer>, id: SnapshotId) -> Option<u64> {
    let options = peer.options();
    let until = after(options.bulk_timeout);
    loop {
        let asked = peer.identify(
            IdentifyRequest::default(),
            Purpose::Report,
            options.rpc_timeout,
        );
        match asked.await {
            Ok(status) => {
                let receiving = status.receiving.filter(|it| it.id == id)?;
                return Some(receiving.received);
            }
            Err(error) => match error.answering() {
                Answering::Silent | Answering::Hung if Instant::now() < until => {
                    sleep(options.backoff_max).await;
                }
                _ => return None,
            },
        }
    }
}

/// Sends `snapshot` without its first `from` bytes, in one call.
async fn attempt(
    peer: &Arc<Peer>,
    snapshot: OutgoingSnapshot,
    from: u64,
) -> Result<PeerMessage, RpcError> {
    let options = peer.options();
    let stalled = |_: Elapsed| peer.timeout(RPC, options.bulk_timeout);
    let mut encoded = encode(
        snapshot,
        from,
        options.snapshot_chunk_bytes,
        options.workers,
    );
    // The call begins once there is a chunk: the peer applies its timeout to the first chunk as to any
    // other.
    let Some(first) = encoded.recv().await else {
        return Err(peer.refused(RPC, "it was not encoded".to_owned()));
    };
    let (chunks_in, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let feed = async move {
        let mut first = Some(first);
        loop {
            // Only the peer is timed: the encoder may take its time, and it ends.
            let room = tokio::time::timeout(options.bulk_timeout, chunks_in.reserve()).await?;
            let chunk = match first.take() {
                Some(first) => Some(first),
                None => encoded.recv().await,
            };
            match (room, chunk) {
                (Ok(room), Some(chunk)) => room.send(chunk),
                // This was the last chunk, or the call has ended: its answer says why.
                _ => return Ok::<_, Elapsed>(()),
            }
        }
    };
    let mut client = peer.bulk();
    let call = client.install_snapshot(ReceiverStream::new(chunks));
    tokio::pin!(call);
    let answer = tokio::select! {
        biased;
        answer = &mut call => answer,
        fed = feed => {
            fed.map_err(stalled)?;
            // The bytes in flight may take as long as a window does; the answer may take an RPC timeout
            // more.
            let max_wait = options.bulk_timeout.saturating_add(options.rpc_timeout);
            let late = |_| peer.timeout(RPC, max_wait);
            tokio::time::timeout(max_wait, call).await.map_err(late)?
        }
    };
    let response = answer
        .map_err(|status| peer.failed(RPC, &status))?
        .into_inner();
    peer.reached();
    let malformed = |error: WireError| peer.refused(RPC, error.to_string());
    PeerMessage::try_from(response).map_err(malformed)
}

/// Encodes `snapshot` on a separate thread, unless `workers` has none. Leaves out the first `from` bytes.
/// Ends with the last chunk or when the receiver is dropped.
pub(super) fn encode(
    snapshot: OutgoingSnapshot,
    from: u64,
    chunk_bytes: usize,
    workers: Workers,
) -> mpsc::Receiver<InstallSnapshotRequest> {
    let (chunks_in, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let cut = move || {
        let OutgoingSnapshot {
            header,
            state_machine,
        } = snapshot;
        let chunks = SnapshotChunks::new(header, state_machine, chunk_bytes);
        chunks.skip_while(move |chunk| chunk.offset < from)
    };
    match workers {
        Workers::Threads => {
            tokio::task::spawn_blocking(move || {
                for chunk in cut() {
                    if chunks_in.blocking_send(chunk).is_err() {
                        return;
                    }
                }
            });
        }
        Workers::Inline => {
            tokio::spawn(async move {
                for chunk in cut() {
                    if chunks_in.send(chunk).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    chunks
}
