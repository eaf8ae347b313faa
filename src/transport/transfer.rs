//! Snapshots on their way in.
//!
//! Each chunk is checked and becomes a part of a state machine on another thread, before the next one
//! is taken from the connection: HTTP/2's flow control holds the leader back to the speed of this
//! node, and the thread that answers heartbeats never sees what is in a chunk. What a call has brought
//! outlives it for a while, so that the next one may go on there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::options::TransportOptions;
use super::status;
use crate::driver::Workers;
use crate::proto::raft::InstallSnapshotRequest;
use crate::types::{SnapshotId, SnapshotProgress, Term};
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
    id: SnapshotId,
}

impl Progress {
    /// Nothing of the snapshot has come but what is before `first`.
    pub(super) fn new(first: &InstallSnapshotRequest) -> Arc<Self> {
        Arc::new(Self {
            received: AtomicU64::new(first.offset.min(first.total_size)),
            total: first.total_size,
            id: snapshot_id(first),
        })
    }

    pub(super) fn get(&self) -> SnapshotProgress {
        SnapshotProgress {
            received: self.received.load(Ordering::Relaxed),
            total: self.total,
            id: self.id,
        }
    }
}

/// Which snapshot `chunk` is of.
pub(super) fn snapshot_id(chunk: &InstallSnapshotRequest) -> SnapshotId {
    SnapshotId {
        leader: chunk.leader_id,
        term: chunk.term,
        index: chunk.last_included_index,
    }
}

/// What has come of a snapshot. A call holds it for as long as it lasts; its own death leaves there what
/// it has brought.
pub(super) type Brought = tokio::sync::Mutex<Option<Incoming>>;

/// Frees what a call has brought once nobody has gone on with it for as long as `patience`.
pub(super) async fn forget(brought: Arc<Brought>, patience: Duration) {
    loop {
        sleep(patience).await;
        // Unless a call holds it.
        if let Ok(mut brought) = brought.try_lock()
            && brought
                .as_ref()
                .is_none_or(|it| it.last.elapsed() >= patience)
        {
            *brought = None;
            return;
        }
    }
}

/// Begins with the snapshot of which `first` is the first chunk, or goes on with what an earlier call has
/// brought of it.
///
/// # Errors
///
/// It cannot be taken, or `first` does not follow what has come.
pub(super) fn open<'a>(
    brought: &'a mut Option<Incoming>,
    first: &InstallSnapshotRequest,
    progress: Arc<Progress>,
    options: &TransportOptions,
) -> Result<&'a mut Incoming, Status> {
    if first.offset == 0 {
        // Freed before, as each takes much memory.
        *brought = None;
        let begun = Incoming::new(first, options.max_snapshot_bytes, progress, options.workers)?;
        return Ok(brought.insert(begun));
    }
    let snapshot = brought.as_mut().filter(|it| it.goes_on_with(first));
    let snapshot = snapshot.ok_or_else(|| out_of_place(first))?;
    snapshot.progress = progress;
    Ok(snapshot)
}

/// A snapshot that is being put together. Dropped, it is freed on another thread: to free what a
/// broken transfer has brought may take longer than heartbeats can wait.
#[derive(Debug)]
pub(super) struct Incoming {
    assembly: Option<SnapshotAssembly>,
    progress: Arc<Progress>,
    workers: Workers,
    /// When the last chunk came.
    last: Instant,
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
            last: Instant::now(),
        })
    }

    /// How far it has come, unless it was refused.
    pub(super) fn progress(&self) -> Option<SnapshotProgress> {
        self.assembly.as_ref().map(|_| self.progress.get())
    }

    fn goes_on_with(&self, next: &InstallSnapshotRequest) -> bool {
        let assembly = self.assembly.as_ref();
        assembly.is_some_and(|assembly| assembly.goes_on_with(next))
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
        self.last = Instant::now();
        Ok(())
    }

    /// Whether the last chunk has come.
    ///
    /// # Errors
    ///
    /// It has not.
    pub(super) fn is_whole(&self) -> Result<(), Status> {
        let whole = self
            .assembly
            .as_ref()
            .map_or(Ok(()), SnapshotAssembly::is_whole);
        whole.map_err(malformed)
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

/// `next` does not follow what has come.
fn out_of_place(next: &InstallSnapshotRequest) -> Status {
    let offset = next.offset;
    malformed(WireError::new(
        "InstallSnapshotRequest",
        "offset",
        format!("{offset}, where something else is next"),
    ))
}

fn malformed(error: WireError) -> Status {
    status::malformed(&error)
}
