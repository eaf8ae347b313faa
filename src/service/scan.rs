//! `Scan`: the keys of a range, in order and at one moment.
//!
//! Most ranges fit into one part, which the core reads at once. A longer one is read again, now with a copy
//! of the state. The copy costs little, because it shares everything with the state of the node, but it
//! keeps what is overwritten meanwhile. So only a few scans may have one, and not for long. It is read part
//! by part, no faster than the client takes the parts, and other tasks run in between.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tonic::Response;
use tracing::Instrument as _;

use super::Host;
use super::parts::{Parts, Sender, parts};
use crate::deadline::after;
use crate::error::{Reason, Refusal};
use crate::kv::{Part, Scan, StateMachine};
use crate::proto::kv;
use crate::types::Revision;
use crate::wire;

/// Scans that may be in the core at the same time. The core may read the first part of all of them in one
/// turn, each for a millisecond, and must not miss a heartbeat meanwhile.
const MAX_READING: usize = 16;
/// Scans that may have a copy of the state at the same time.
const MAX_COPIES: usize = 4;
/// Longest time for which a scan may have a copy of the state.
const MAX_SCAN_TIME: Duration = Duration::from_secs(60);

/// The permits of scans.
#[derive(Debug, Clone)]
pub(super) struct Scans {
    reading: Arc<Semaphore>,
    copies: Arc<Semaphore>,
}

impl Default for Scans {
    fn default() -> Self {
        Self {
            reading: Arc::new(Semaphore::new(MAX_READING)),
            copies: Arc::new(Semaphore::new(MAX_COPIES)),
        }
    }
}

impl Scans {
    /// A permit for a read in the core, as soon as one is free.
    ///
    /// # Errors
    ///
    /// None is free until `deadline`.
    pub(super) async fn reading(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Refusal> {
        permit(&self.reading, deadline, MAX_READING).await
    }

    /// A permit for a copy of the state, as soon as one is free.
    ///
    /// # Errors
    ///
    /// None is free until `deadline`.
    pub(super) async fn copy(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Refusal> {
        permit(&self.copies, deadline, MAX_COPIES).await
    }
}

async fn permit(
    permits: &Arc<Semaphore>,
    deadline: Instant,
    limit: usize,
) -> Result<OwnedSemaphorePermit, Refusal> {
    match timeout_at(deadline, Arc::clone(permits).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        // The semaphore is never closed.
        Ok(Err(_)) | Err(_) => Err(too_many("scans", limit)),
    }
}

fn too_many(what: &'static str, limit: usize) -> Refusal {
    Refusal::not_applied(Reason::Overloaded {
        what,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
    })
}

/// A copy of the state, and the permit for it.
pub(super) struct Copied {
    state: Option<Box<StateMachine>>,
    host: Host,
    _permit: OwnedSemaphorePermit,
}

impl Copied {
    pub(super) fn new(state: Box<StateMachine>, host: Host, permit: OwnedSemaphorePermit) -> Self {
        Self {
            state: Some(state),
            host,
            _permit: permit,
        }
    }

    fn read(&self, scan: &mut Scan) -> Part {
        let state = self.state.as_ref();
        state.map_or_else(Part::default, |state| state.scan(scan))
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.host.driver.free(state);
        }
    }
}

/// Answers with `part`, and then with the parts of `scan` that `copied` has, if there are any.
pub(super) fn answer(
    host: Host,
    cluster: Option<u64>,
    part: Part,
    rest: Option<(Scan, Copied)>,
    revision: Revision,
) -> Response<Parts<kv::ScanResponse>> {
    let (parts, response) = parts();
    let sending = async move {
        let ended = tokio::select! {
            biased;
            // The client does not read any more.
            () = parts.closed() => return,
            ended = send(&host, cluster, part, rest, revision, &parts) => ended,
        };
        if let Err(refusal) = ended {
            let _ = parts.send(Err(host.refuse(&refusal))).await;
        }
    };
    tokio::spawn(sending.in_current_span());
    response
}

async fn send(
    host: &Host,
    cluster: Option<u64>,
    mut part: Part,
    mut rest: Option<(Scan, Copied)>,
    revision: Revision,
    parts: &Sender<kv::ScanResponse>,
) -> Result<(), Refusal> {
    let mut closed = pin!(host.admission.closed());
    let deadline = after(MAX_SCAN_TIME);
    let mut count = 0;
    loop {
        count += part.count;
        let last = rest.as_ref().is_none_or(|(scan, _)| part.is_last(scan));
        let held = host.account.try_hold(part.bytes())?;
        let response = kv::ScanResponse {
            count: if last { count } else { 0 },
            cluster_id: host.answering(cluster),
            ..wire::scan_response(part, revision)
        };
        tokio::select! {
            biased;
            () = &mut closed => return Err(Refusal::not_applied(Reason::ShuttingDown)),
            sent = timeout_at(deadline, parts.send(Ok((response, held)))) => {
                if sent.is_err() {
                    let limit = usize::try_from(MAX_SCAN_TIME.as_secs()).unwrap_or(usize::MAX);
                    return Err(too_many("scan_seconds", limit));
                }
            }
        }
        let Some((scan, copied)) = rest.as_mut().filter(|_| !last) else {
            return Ok(());
        };
        // A part keeps the thread busy for a millisecond at most: other tasks run first now.
        yield_now().await;
        part = copied.read(scan);
    }
}
