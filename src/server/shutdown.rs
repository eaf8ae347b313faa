//! A server from its start to its orderly end.

use std::any::Any;
use std::future::Future;
use std::iter::once;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::{Server, ServerError};
use crate::deadline::after;
use crate::driver::DriverHandle;
use crate::service::{AdmissionControl, transfer_leadership};
use crate::types::{RaftId, Role};

/// The longest wait for client connections to end by themselves once every request is answered. Only a
/// watch, which never ends, keeps one open then.
const LINGER: Duration = Duration::from_millis(500);

impl Server {
    /// Serves until `shutdown` completes, then ends in order, within the shutdown timeout. Dropping the
    /// future ends the node at once, as a crash would.
    ///
    /// # Errors
    ///
    /// [`ServerError`]: the node had to stop.
    #[tracing::instrument(
        level = "debug", skip_all,
        fields(node = %self.raft_id().node_id(), raft_id = %self.raft_id()),
    )]
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let raft_id = self.raft_id();
        let Self {
            client_addr,
            internal_addr,
            local: _,
            ends,
            vital: tasks,
        } = self;
        let mut vital = JoinSet::new();
        for task in tasks {
            // A task of its own has no span unless it is given one.
            vital.spawn(task.in_current_span());
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
        // Cuts the rest: connections belong to their listener, and the end of the driver ends all
        // other waits.
        vital.shutdown().await;
        tracing::info!(node = %raft_id.node_id(), %raft_id, "ended");
        Ok(())
    }
}

/// The parts of a node that its orderly end needs.
pub(super) struct Ends {
    pub(super) raft_id: RaftId,
    pub(super) handle: DriverHandle,
    pub(super) admission: AdmissionControl,
    pub(super) shutdown_timeout: Duration,
    pub(super) transfer_timeout: Duration,
    pub(super) stop_clients: watch::Sender<bool>,
    pub(super) stop_nodes: watch::Sender<bool>,
}

impl Ends {
    async fn shut_down(&self) {
        let node = self.raft_id.node_id();
        let deadline = after(self.shutdown_timeout);
        tracing::info!(%node, timeout = ?self.shutdown_timeout, "shutting down");
        self.admission.close();
        let moment = after(self.transfer_timeout);
        let _ = timeout_at(moment.min(deadline), self.admission.drained()).await;
        if self.handle.status().role == Some(Role::Leader) {
            self.transfer_leadership(deadline).await;
        }
        let linger = LINGER.min(self.shutdown_timeout / 2);
        let drained = timeout_at(deadline - linger, self.admission.drained()).await;
        if drained.is_err() {
            tracing::warn!(%node, "requests in flight are cut off");
        }
        self.stop_clients.send_replace(true);
        let _ = timeout_at(after(linger), self.stop_clients.closed()).await;
        self.stop_nodes.send_replace(true);
    }

    /// Offers leadership to the best voter first, then to each other member in turn, for half of the time
    /// that is left: the requests that wait for a new leader need the other half.
    async fn transfer_leadership(&self, deadline: Instant) {
        let node = self.raft_id.node_id();
        let left = deadline.saturating_duration_since(Instant::now());
        let members = self.handle.members();
        let others: Vec<_> = members.ids().filter(|id| *id != node).collect();
        let transferees = once(None).chain(others.into_iter().map(Some)).cycle();
        let until = after(left / 2);
        match transfer_leadership(&self.handle, transferees, self.transfer_timeout, until).await {
            Ok(taken) => {
                tracing::info!(%node, leader = %taken.leader, term = taken.term, "transferred leadership");
            }
            Err(refusal) => tracing::warn!(%node, %refusal, "could not transfer leadership"),
        }
    }
}

/// Waits until a vital task fails. A task that ends without an error was asked to.
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
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tracing::field::{Field, Visit};
    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
    use tracing_subscriber::registry::LookupSpan;

    use super::*;
    use crate::config::Config;
    use crate::types::NodeId;

    /// The message of a log line, and the name of the span that it is in.
    type Line = (String, Option<&'static str>);

    /// The log lines of the server, and a signal for the test.
    #[derive(Clone, Default)]
    struct Lines {
        lines: Arc<Mutex<Vec<Line>>>,
        connected: Arc<Notify>,
    }

    struct Message(String);

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            if event.metadata().target().starts_with("seshat::server") {
                let mut message = Message(String::new());
                event.record(&mut message);
                let span = context.lookup_current().map(|span| span.name());
                if message.0 == "connected" {
                    self.connected.notify_one();
                }
                self.lines.lock().expect("no panic").push((message.0, span));
            }
        }
    }

    #[tokio::test]
    async fn all_that_a_server_logs_is_within_its_span() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        let _logs = tracing::subscriber::set_default(subscriber);
        let node = NodeId::new(1).expect("a node id");
        let config = Config::for_dev(node, 3, 16_379, 17_379).expect("valid");
        let port = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Server::seeded(config, port(), port(), || 6).await;
        let server = server.expect("a server");
        let _client = TcpStream::connect(server.client_addr())
            .await
            .expect("a connection");
        let wait = timeout_at(after(Duration::from_secs(20)), lines.connected.notified());
        let stop = async { wait.await.expect("the connection is not logged") };
        server.run(stop).await.expect("an orderly end");
        let lines = lines.lines.lock().expect("no panic").clone();
        let told: Vec<_> = lines.iter().map(|(line, _)| line.as_str()).collect();
        for line in ["listening", "connected", "shutting down", "ended"] {
            assert!(told.contains(&line), "{line}: {told:?}");
        }
        let outside: Vec<_> = lines
            .iter()
            .filter(|(_, span)| *span != Some("run"))
            .collect();
        assert!(outside.is_empty(), "outside of the span: {outside:?}");
    }

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
