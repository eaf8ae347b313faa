//! Watches: from the core to their streams, and the reports of these.
//!
//! The core hands out a bundle of messages for a watch only if at most one other is on its way. So the
//! channel of a stream has room for all that comes, and no stream can make the loop wait. A stream reports
//! each bundle that its client has taken, and its end. There are few reports for each watch, so they are
//! kept in a list without a bound: a report is never lost, and never waits.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::{Replica, Waiter};
use crate::error::Refusal;
use crate::watch::{WatchId, WatchMessage, WatchSpec};

/// Messages for the client of a watch, or the reason why it has ended.
pub type Bundle = Result<Vec<WatchMessage>, Refusal>;

/// Bundles that wait for a stream at most: two with messages, and the end.
const MAX_BUNDLES: usize = 3;

#[derive(Debug)]
enum Report {
    Taken(WatchId),
    Closed(WatchId),
}

/// The reports of all streams.
#[derive(Debug, Default)]
struct Reports {
    list: Mutex<Vec<Report>>,
    some: Notify,
}

impl Reports {
    fn add(&self, report: Report) {
        self.list().push(report);
        self.some.notify_one();
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Report>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of one watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    id: WatchId,
    bundles: mpsc::Receiver<Bundle>,
    reports: Arc<Reports>,
}

impl Watch {
    /// The next messages. `None`: the driver has stopped.
    pub async fn next(&mut self) -> Option<Bundle> {
        self.bundles.recv().await
    }

    /// Reports that the client has taken a bundle. Without the report there is no other after the next.
    pub fn taken(&self) {
        self.reports.add(Report::Taken(self.id));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reports.add(Report::Closed(self.id));
    }
}

/// A request to watch.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) spec: WatchSpec,
    /// How often the client is told that nothing has changed.
    pub(crate) progress: Option<Duration>,
    pub(crate) opened: oneshot::Sender<Result<Watch, Refusal>>,
}

/// The driver's ends of all streams.
#[derive(Debug, Default)]
pub(super) struct Watching {
    streams: HashMap<WatchId, mpsc::Sender<Bundle>>,
    reports: Arc<Reports>,
}

impl Watching {
    /// Begins a watch. Ticks have the length `tick`.
    pub(super) fn open(&mut self, opening: Opening, tick: Duration, replica: &mut Replica<Waiter>) {
        let Opening {
            mut spec,
            progress,
            opened,
        } = opening;
        spec.progress_ticks = progress.map(|interval| {
            let ticks = interval.as_micros().div_ceil(tick.as_micros().max(1));
            u64::try_from(ticks).unwrap_or(u64::MAX)
        });
        let watch = replica.open_watch(spec).map(|id| {
            let (sender, bundles) = mpsc::channel(MAX_BUNDLES);
            self.streams.insert(id, sender);
            Watch {
                id,
                bundles,
                reports: Arc::clone(&self.reports),
            }
        });
        // If the caller has gone meanwhile, dropping the watch ends it.
        let _ = opened.send(watch);
    }

    /// Waits until there may be reports.
    pub(super) async fn reported(&self) {
        self.reports.some.notified().await;
    }

    /// Tells the core what the streams have reported.
    pub(super) fn report(&mut self, replica: &mut Replica<Waiter>) {
        let reports = mem::take(&mut *self.reports.list());
        for report in reports {
            match report {
                Report::Taken(id) => replica.watch_taken(id),
                Report::Closed(id) => {
                    self.streams.remove(&id);
                    replica.close_watch(id);
                }
            }
        }
    }

    /// Hands the bundles to their streams.
    pub(super) fn deliver(&mut self, bundles: Vec<(WatchId, Bundle)>) {
        for (id, bundle) in bundles {
            let ends = bundle.is_err();
            if let Some(stream) = self.streams.get(&id) {
                // There is room. If the stream has gone, its report comes.
                let _ = stream.try_send(bundle);
            }
            if ends {
                self.streams.remove(&id);
            }
        }
    }
}
