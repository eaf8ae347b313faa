//! Snapshots, cut into chunks on one side and put together on the other.
//!
//! A snapshot may be far larger than a message may be, and slower than any flat deadline allows: a
//! transfer goes on for as long as it makes progress. The chunks share the memory of the snapshot;
//! the receiver takes memory as they come and not as they announce.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::gate::Gate;
use super::peer::Peer;
use crate::driver::DriverHandle;
use crate::error::RpcError;
use crate::proto::raft::InstallSnapshotRequest;
use crate::types::RaftId;
use crate::wire::{PeerMessage, WireError};

const RPC: &str = "InstallSnapshot";

/// Sends a snapshot and reports how it ended, once.
#[tracing::instrument(level = "debug", skip_all, fields(peer = %peer.node(), %to))]
pub(super) async fn deliver(
    peer: Arc<Peer>,
    to: RaftId,
    gate: Arc<Gate>,
    snapshot: InstallSnapshotRequest,
    driver: DriverHandle,
    mut gone: oneshot::Receiver<Infallible>,
) {
    let sent = tokio::select! {
        biased;
        // Nobody leads here any more: what this sends would be refused.
        _ = &mut gone => None,
        sent = send(&peer, snapshot) => Some(sent),
    };
    match &sent {
        Some(Ok(_)) => {
            gate.passed();
        }
        Some(Err(error)) => {
            let tell = gate.failed();
            if let RpcError::NotMe { not_me, .. } = error {
                peer.is_another(to, *not_me);
            } else if tell {
                peer.log_refusal(error);
            }
        }
        None => {}
    }
    // From here on the next one may be sent: the core will as soon as it has the report.
    drop(gone);
    // A driver that has stopped needs no news.
    let reply = sent.and_then(Result::ok);
    let _ = driver.report_snapshot(to, reply.is_some()).await;
    if let Some(reply) = reply {
        let _ = driver.step(reply).await;
    }
}

async fn send(peer: &Peer, snapshot: InstallSnapshotRequest) -> Result<PeerMessage, RpcError> {
    let timeout = peer.options().rpc_timeout;
    let stalled = |_| peer.timeout(RPC, timeout);
    let (chunks_in, chunks_out) = mpsc::channel(1);
    let cut = Chunks::new(snapshot, peer.options().snapshot_chunk_bytes);
    let feed = async move {
        for chunk in cut {
            let taken = tokio::time::timeout(timeout, chunks_in.send(chunk)).await?;
            if taken.is_err() {
                // Nobody reads any more: the call says why.
                break;
            }
        }
        Ok(())
    };
    let mut client = peer.own_connection();
    let call = client.install_snapshot(ReceiverStream::new(chunks_out));
    tokio::pin!(call);
    let answer = tokio::select! {
        biased;
        answer = &mut call => answer,
        fed = feed => {
            fed.map_err(stalled)?;
            tokio::time::timeout(timeout, call).await.map_err(stalled)?
        }
    };
    let response = answer
        .map_err(|status| peer.failed(RPC, &status))?
        .into_inner();
    peer.reached();
    PeerMessage::try_from(response).map_err(|error| peer.refused(RPC, error.to_string()))
}

/// The chunks of a snapshot, in order. There is always one, even of nothing.
struct Chunks {
    rest: Bytes,
    crc32: crc32fast::Hasher,
    chunk_bytes: usize,
    next: Option<InstallSnapshotRequest>,
}

impl Chunks {
    fn new(mut snapshot: InstallSnapshotRequest, chunk_bytes: usize) -> Self {
        let rest = std::mem::take(&mut snapshot.data);
        snapshot.offset = 0;
        snapshot.total_size = size(rest.len());
        Self {
            rest,
            crc32: crc32fast::Hasher::new(),
            chunk_bytes: chunk_bytes.max(1),
            next: Some(snapshot),
        }
    }
}

impl Iterator for Chunks {
    type Item = InstallSnapshotRequest;

    fn next(&mut self) -> Option<InstallSnapshotRequest> {
        let mut chunk = self.next.take()?;
        chunk.data = self.rest.split_to(self.chunk_bytes.min(self.rest.len()));
        chunk.done = self.rest.is_empty();
        self.crc32.update(&chunk.data);
        chunk.crc32 = self.crc32.clone().finalize();
        if !chunk.done {
            self.next = Some(InstallSnapshotRequest {
                data: Bytes::new(),
                offset: chunk.offset.saturating_add(size(chunk.data.len())),
                ..chunk.clone()
            });
        }
        Some(chunk)
    }
}

/// A snapshot on its way in.
#[derive(Debug)]
pub(super) struct Assembly {
    /// What every chunk repeats.
    header: InstallSnapshotRequest,
    data: BytesMut,
    crc32: crc32fast::Hasher,
    done: bool,
}

impl Assembly {
    /// Begins with what the first chunk says of the whole.
    pub(super) fn new(first: &InstallSnapshotRequest, max_bytes: u64) -> Result<Self, WireError> {
        let total = first.total_size;
        if total > max_bytes {
            return Err(fault(
                "total_size",
                format!("{total} bytes are too large: at most {max_bytes}"),
            ));
        }
        Ok(Self {
            header: InstallSnapshotRequest {
                data: Bytes::new(),
                offset: 0,
                done: false,
                crc32: 0,
                ..first.clone()
            },
            data: BytesMut::new(),
            crc32: crc32fast::Hasher::new(),
            done: false,
        })
    }

    /// Adds the next chunk.
    pub(super) fn add(&mut self, mut chunk: InstallSnapshotRequest) -> Result<(), WireError> {
        let data = std::mem::take(&mut chunk.data);
        let offset = std::mem::take(&mut chunk.offset);
        let done = std::mem::take(&mut chunk.done);
        let crc32 = std::mem::take(&mut chunk.crc32);
        let (received, total) = (size(self.data.len()), self.header.total_size);
        let reached = received.saturating_add(size(data.len()));
        if self.done {
            return Err(fault("done", "a chunk after the last"));
        }
        if chunk != self.header {
            return Err(fault("data", "a chunk of another snapshot"));
        }
        if offset != received {
            return Err(fault(
                "offset",
                format!("{offset}, where {received} is next"),
            ));
        }
        if reached > total {
            return Err(fault(
                "data",
                format!("{reached} bytes, where {total} were announced"),
            ));
        }
        if done != (reached == total) {
            return Err(fault(
                "done",
                format!("{done} at {reached} of {total} bytes"),
            ));
        }
        // Without this a peer could send chunks for ever.
        if data.is_empty() && !done {
            return Err(fault("data", "an empty chunk"));
        }
        self.crc32.update(&data);
        if crc32 != self.crc32.clone().finalize() {
            return Err(fault("crc32", "the snapshot is damaged"));
        }
        self.data.extend_from_slice(&data);
        self.done = done;
        Ok(())
    }

    /// The whole snapshot.
    pub(super) fn finish(self) -> Result<InstallSnapshotRequest, WireError> {
        if !self.done {
            return Err(fault("done", "the call ended before the last chunk"));
        }
        Ok(InstallSnapshotRequest {
            data: self.data.freeze(),
            done: true,
            crc32: self.crc32.finalize(),
            ..self.header
        })
    }
}

fn fault(field: &'static str, reason: impl Into<String>) -> WireError {
    WireError::new("InstallSnapshotRequest", field, reason)
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
