//! The lookout: asks the other members for a leader, while this node knows none.
//!
//! A cut link between a node and the leader makes the node wait for an election that never comes: the
//! other members hear the leader, and do not vote. The cluster is well, but requests to this node would
//! be refused. So once a request has waited here for the longest election timeout, the node asks the
//! other members which leader they follow. By then an ordinary election is over, and no member follows a
//! leader that has died.
//!
//! One lookout serves all requests that wait, from the first of them until the node knows a leader again.
//! It asks once in the longest election timeout.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::surveys::Surveys;
use crate::cluster::{ClusterView, Elsewhere};
use crate::driver::DriverHandle;
use crate::types::{NodeId, NodeState};

/// The lookout of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lookout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    driver: DriverHandle,
    surveys: Surveys,
    /// The longest election timeout.
    max_wait: Duration,
    /// The last result. The sender is gone if no lookout runs.
    seen: Mutex<watch::Receiver<Elsewhere>>,
}

impl Lookout {
    /// A lookout that asks through `surveys`, for the node behind `driver`.
    pub(super) fn new(driver: DriverHandle, surveys: Surveys, max_wait: Duration) -> Self {
        let seen = Mutex::new(watch::channel(Elsewhere::default()).1);
        Self(Arc::new(Inner {
            driver,
            surveys,
            max_wait,
            seen,
        }))
    }

    /// Waits until other members name a leader while this node has none. Waits for ever if they name
    /// none, or if this node knows a leader again.
    pub(super) async fn led_elsewhere(&self) -> NodeId {
        if self.0.driver.look(|status| status.state) == NodeState::Started {
            let mut seen = self.watch();
            let led = |seen: &Elsewhere| matches!(seen, Elsewhere::Led(_));
            if let Ok(seen) = seen.wait_for(led).await
                && let Elsewhere::Led(leader) = *seen
            {
                return leader;
            }
        }
        std::future::pending().await
    }

    /// Whether no other member answered when the lookout asked last.
    pub(super) fn is_cut_off(&self) -> bool {
        let seen = self.seen();
        seen.has_changed().is_ok() && *seen.borrow() == Elsewhere::CutOff
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, watch::Receiver<Elsewhere>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The results from now on. Starts the lookout if it does not run.
    fn watch(&self) -> watch::Receiver<Elsewhere> {
        let mut seen = self.seen();
        if seen.has_changed().is_err() {
            let (publish, new) = watch::channel(Elsewhere::default());
            *seen = new;
            let lookout = self.clone();
            tokio::spawn(async move { lookout.look(&publish).await });
        }
        seen.clone()
    }

    /// Asks repeatedly until the node can decide again.
    #[tracing::instrument(level = "debug", skip_all)]
    async fn look(&self, publish: &watch::Sender<Elsewhere>) {
        let Inner {
            driver,
            surveys,
            max_wait,
            ..
        } = &*self.0;
        let looking = async {
            loop {
                sleep(*max_wait).await;
                let survey = surveys.recent(surveys.member_timeout()).await;
                let now = ClusterView::new(&survey).elsewhere();
                publish.send_if_modified(|seen| std::mem::replace(seen, now) != now);
            }
        };
        let mut decides = driver.watch_decides();
        tokio::select! {
            biased;
            _ = decides.wait_for(|decides| *decides) => {}
            () = looking => {}
        }
    }
}
