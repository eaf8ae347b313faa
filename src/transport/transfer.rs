//! Snapshots on their way in.
//!
//! Each chunk is checked and becomes a part of a state machine on another thread, before the next one
//! is taken from the connection: HTTP/2's flow control holds the leader back to the speed of this
//! node, and the thread that answers heartbeats never sees what is in a chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tonic::Status;

use super::status;
use crate::driver::Workers;
use crate::proto::raft::InstallSnapshotRequest;
use crate::types::{SnapshotProgress, Term};
use crate::wire::{SnapshotAssembly, WireError};

/// The snapshot that is coming in.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Term of the leader that sends it.
    pub(super) term: Term,
    /// How far it has come.
    pub(super) progress: Arc<Progress>,
    /// Dropped when a newer one takes its place.
    #[expect(dead_code, reason = "held")]
    pub(super) superseded: oneshot::Sender<()>,
}

/// How far a transfer has come.
#[derive(Debug)]
pub(super) struct Progress {
    received: AtomicU64,
    total: u64,
}

impl Progress {
    /// Nothing of the snapshot has come of which `first` is the first chunk.
    pub(super) fn new(first: &InstallSnapshotRequest) -> Arc<Self> {
        Arc::new(Self {
            received: AtomicU64::new(0),
            total: first.total_size,
        })
    }

    pub(super) fn get(&self) -> SnapshotProgress {
        SnapshotProgress {
            received: self.received.load(Ordering::Relaxed),
            total: self.total,
        }
    }
}

/// A snapshot that is being put together. Dropped, it is freed on another thread: to free what a
/// broken transfer has brought may take longer than heartbeats can wait.
#[derive(Debug)]
pub(super) struct Incoming {
    assembly: Option<SnapshotAssembly>,
    progress: Arc<Progress>,
    workers: Workers,
}

impl Incoming {
    /// Begins with what the first chunk says of the whole.
    pub(super) fn new(
        first: &InstallSnapshotRequest,
        max_bytes: usize,
        progress: Arc<Progress>,
        workers: Workers,
    ) -> Result<Self, Status> {
        let assembly = SnapshotAssembly::new(first, max_bytes);
        Ok(Self {
            assembly: Some(assembly.map_err(malformed)?),
            progress,
            workers,
        })
    }

    /// Adds the next chunk.
    pub(super) async fn add(&mut self, chunk: InstallSnapshotRequest) -> Result<(), Status> {
        let Some(mut assembly) = self.assembly.take() else {
            return Err(Status::internal("a chunk behind a refused one"));
        };
        let add = move || {
            assembly.add(chunk)?;
            Ok(assembly)
        };
        let assembly = run(self.workers, add).await?;
        self.progress
            .received
            .store(assembly.received_bytes(), Ordering::Relaxed);
        self.assembly = Some(assembly);
        Ok(())
    }

    /// The whole, as `finish` has it.
    pub(super) async fn finish<T: Send + 'static>(
        mut self,
        finish: fn(SnapshotAssembly) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        let Some(assembly) = self.assembly.take() else {
            return Err(Status::internal("the end of a refused snapshot"));
        };
        run(self.workers, move || finish(assembly)).await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(assembly) = self.assembly.take() {
            self.workers.free(assembly);
        }
    }
}

async fn run<T: Send + 'static>(
    workers: Workers,
    work: impl FnOnce() -> Result<T, WireError> + Send + 'static,
) -> Result<T, Status> {
    match workers.run(work).await {
        Ok(done) => done.map_err(malformed),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

fn malformed(error: WireError) -> Status {
    status::malformed(&error)
}
