//! From the start of a server to its orderly end.

use std::any::Any;
use std::future::Future;
use std::iter::once;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Server, ServerError};
use crate::deadline::after;
use crate::driver::DriverHandle;
use crate::service::{Gate, hand_over};
use crate::types::{RaftId, Role};

/// The longest wait for clients' connections to end by themselves once every request is answered.
/// What still keeps one open then is a watch, which never ends.
const LINGER: Duration = Duration::from_millis(500);

impl Server {
    /// Serves until `shutdown` completes, then ends in order, at the latest after the shutdown
    /// timeout. Dropping the future ends the node at once, as a crash would.
    ///
    /// # Errors
    ///
    /// [`ServerError`]: the node could not go on.
    #[tracing::instrument(
        level = "debug", skip_all,
        fields(node = %self.raft_id().node_id(), raft_id = %self.raft_id()),
    )]
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let raft_id = self.raft_id();
        let Self {
            client_addr,
            internal_addr,
            ends,
            vital: tasks,
        } = self;
        let mut vital = JoinSet::new();
        for task in tasks {
            vital.spawn(task);
        }
        tracing::info!(node = %raft_id.node_id(), %raft_id, %client_addr, %internal_addr, "listening");
        tokio::select! {
            biased;
            failure = failure(&mut vital) => {
                tracing::error!(node = %raft_id.node_id(), %raft_id, error = %failure, "ended");
                return Err(failure);
            }
            () = async { shutdown.await; ends.shut_down().await } => {}
        }
        // Cuts what is left: connections belong to their listener, and everybody else is told by
        // the driver's end.
        vital.shutdown().await;
        tracing::info!(node = %raft_id.node_id(), %raft_id, "ended");
        Ok(())
    }
}

/// What it takes to end a node in order.
pub(super) struct Ends {
    pub(super) raft_id: RaftId,
    pub(super) handle: DriverHandle,
    pub(super) gate: Gate,
    pub(super) shutdown_timeout: Duration,
    pub(super) handover_patience: Duration,
    pub(super) stop_clients: watch::Sender<bool>,
    pub(super) stop_nodes: watch::Sender<bool>,
}

impl Ends {
    async fn shut_down(&self) {
        let node = self.raft_id.node_id();
        let deadline = after(self.shutdown_timeout);
        tracing::info!(%node, timeout = ?self.shutdown_timeout, "shutting down");
        self.gate.close();
        let moment = after(self.handover_patience);
        let _ = timeout_at(moment.min(deadline), self.gate.drained()).await;
        if self.handle.status().role == Some(Role::Leader) {
            self.hand_over(deadline).await;
        }
        let linger = LINGER.min(self.shutdown_timeout / 2);
        let drained = timeout_at(deadline - linger, self.gate.drained()).await;
        if drained.is_err() {
            tracing::warn!(%node, "requests in flight are cut off");
        }
        self.stop_clients.send_replace(true);
        let _ = timeout_at(after(linger), self.stop_clients.closed()).await;
        self.stop_nodes.send_replace(true);
    }

    /// Offers leadership to the best voter first, then to each of the others, for half of the time
    /// that is left: the requests that wait for a new leader need time as well.
    async fn hand_over(&self, deadline: Instant) {
        let node = self.raft_id.node_id();
        let left = deadline.saturating_duration_since(Instant::now());
        let members = self.handle.members();
        let others: Vec<_> = members.ids().filter(|id| *id != node).collect();
        let heirs = once(None).chain(others.into_iter().map(Some)).cycle();
        let until = after(left / 2);
        match hand_over(&self.handle, heirs, self.handover_patience, until).await {
            Ok(taken) => {
                tracing::info!(%node, leader = %taken.leader, term = taken.term, "handed leadership over");
            }
            Err(refusal) => tracing::warn!(%node, %refusal, "could not hand leadership over"),
        }
    }
}

/// Waits until a vital task fails. Those that end without an error were asked to.
async fn failure(vital: &mut JoinSet<Result<(), ServerError>>) -> ServerError {
    loop {
        match vital.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return error,
            Some(Err(error)) => {
                return ServerError::Failed(match error.try_into_panic() {
                    Ok(panic) => panic_message(panic.as_ref()),
                    Err(error) => error.to_string(),
                });
            }
            None => return std::future::pending().await,
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panics_or_fails_ends_the_server() {
        let mut vital = JoinSet::new();
        vital.spawn(async { Ok(()) });
        vital.spawn(async { panic!("out of {}", "luck") });
        let error = failure(&mut vital).await;
        assert_eq!(
            error.to_string(),
            "a part of the server failed: out of luck"
        );

        vital.spawn(async { Err(ServerError::Failed("gone".to_owned())) });
        assert_eq!(
            failure(&mut vital).await.to_string(),
            "a part of the server failed: gone"
        );
    }
}
