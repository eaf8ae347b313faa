//! Incoming snapshots.
//!
//! Another thread checks each chunk and adds it to a state machine, before the next one is read from the
//! connection. So HTTP/2's flow control holds the leader back to the speed of this node, and the thread
//! that answers heartbeats never decodes a chunk. The received part outlives its call for a while, so
//! that the next call may resume there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::options::TransportOptions;
use super::rejection;
use crate::driver::Workers;
use crate::proto::raft::InstallSnapshotRequest;
use crate::types::{SnapshotId, SnapshotProgress, Term};
use crate::wire::{SnapshotAssembly, WireError};

/// The snapshot transfer that is coming in.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Term of the leader that sends the snapshot.
    pub(super) term: Term,
    /// Progress of the transfer.
    pub(super) progress: Arc<Progress>,
    /// Dropped when a newer transfer takes its place.
    #[expect(dead_code, reason = "held")]
    pub(super) superseded: oneshot::Sender<()>,
}

/// Progress of a transfer, in bytes.
#[derive(Debug)]
pub(super) struct Progress {
    received: AtomicU64,
    total: u64,
    id: SnapshotId,
}

impl Progress {
    /// Progress at the start of a call: everything before `first` has come.
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

/// The snapshot that `chunk` belongs to.
pub(super) fn snapshot_id(chunk: &InstallSnapshotRequest) -> SnapshotId {
    SnapshotId {
        leader: chunk.leader_id,
        term: chunk.term,
        index: chunk.last_included_index,
    }
}

/// The received part of a snapshot. A call holds the lock while it runs, and leaves the part there when
/// it dies.
pub(super) type Brought = tokio::sync::Mutex<Option<Incoming>>;

/// Frees the received part once no call has resumed it for `max_wait`.
pub(super) async fn forget(brought: Arc<Brought>, max_wait: Duration) {
    loop {
        sleep(max_wait).await;
        // Fails while a call holds the lock.
        if let Ok(mut brought) = brought.try_lock()
            && brought
                .as_ref()
                .is_none_or(|it| it.last.elapsed() >= max_wait)
        {
            *brought = None;
            return;
        }
    }
}

/// Starts the snapshot whose first chunk is `first`, or resumes the part that an earlier call has
/// received.
///
/// # Errors
///
/// The snapshot cannot be taken, or `first` does not follow the received part.
pub(super) fn open<'a>(
    brought: &'a mut Option<Incoming>,
    first: &InstallSnapshotRequest,
    progress: Arc<Progress>,
    options: &TransportOptions,
) -> Result<&'a mut Incoming, Status> {
    if first.offset == 0 {
        // The earlier part is freed first, as each takes much memory.
        *brought = None;
        let begun = Incoming::new(first, options.max_snapshot_bytes, progress, options.workers)?;
        return Ok(brought.insert(begun));
    }
    let snapshot = brought.as_mut().filter(|it| it.goes_on_with(first));
    let snapshot = snapshot.ok_or_else(|| out_of_place(first))?;
    snapshot.progress = progress;
    Ok(snapshot)
}

/// A snapshot that is being assembled. When dropped, it is freed on another thread: freeing the received
/// part may take longer than heartbeats can wait.
#[derive(Debug)]
pub(super) struct Incoming {
    assembly: Option<SnapshotAssembly>,
    progress: Arc<Progress>,
    workers: Workers,
    /// When the last chunk came.
    last: Instant,
}

impl Incoming {
    /// An empty assembly for the snapshot that the first chunk describes.
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

    /// Progress of the transfer, unless a chunk was refused.
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

    /// Checks that the last chunk has come.
    ///
    /// # Errors
    ///
    /// It has not come.
    pub(super) fn is_whole(&self) -> Result<(), Status> {
        let whole = self
            .assembly
            .as_ref()
            .map_or(Ok(()), SnapshotAssembly::is_whole);
        whole.map_err(malformed)
    }

    /// The result of `finish` for the whole snapshot.
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

/// The error for a chunk that does not follow the received part.
fn out_of_place(next: &InstallSnapshotRequest) -> Status {
    let offset = next.offset;
    malformed(WireError::new(
        "InstallSnapshotRequest",
        "offset",
        format!("{offset}, where something else is next"),
    ))
}

fn malformed(error: WireError) -> Status {
    rejection::malformed(&error)
}
