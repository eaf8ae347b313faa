//! The renewal of a living session: one task, as long as the session is in use.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, debug, debug_span};

use super::call::Repeat;
use super::lease::{Lease, Lost};
use super::nodes::Node;
use super::{Client, Error};
use crate::deadline::after;
use crate::proto::kv::{CloseSessionRequest, KeepAliveRequest};

/// The task that renews a session. When this is dropped, it ends the session as well as it can.
#[derive(Debug)]
pub(super) struct Renewal {
    lease: Arc<Lease>,
    closings: mpsc::UnboundedSender<Closing>,
}

/// A caller that wants to end the session.
struct Closing {
    deadline: Instant,
    closed: oneshot::Sender<Result<(), Error>>,
}

impl Renewal {
    /// Begins to renew the session `client_id` of `client`'s cluster, within the runtime of the caller.
    pub(super) fn begin(client: Client, client_id: u64, lease: Lease) -> Self {
        let lease = Arc::new(lease);
        let (closings, asked) = mpsc::unbounded_channel();
        let task = Task {
            client,
            client_id,
            lease: Arc::clone(&lease),
        };
        let span = debug_span!("renew_session", session = %format_args!("{client_id:016x}"));
        tokio::spawn(task.run(asked).instrument(span));
        Self { lease, closings }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Returns an error if the session is lost.
    pub(super) fn holds(&self) -> Result<(), Error> {
        match self.lease.is_lost() {
            None => Ok(()),
            Some(why) => Err(Error::SessionLost { why }),
        }
    }

    /// Ends the session in the background, as well as it can.
    pub(super) fn end(&self) {
        let (closed, _) = oneshot::channel();
        // Then it ends by itself.
        let deadline = after(self.lease.ttl());
        let _ = self.closings.send(Closing { deadline, closed });
    }

    /// Ends the session, also if this future is dropped after it was polled.
    pub(super) async fn close(&self, deadline: Instant) -> Result<(), Error> {
        self.holds()?;
        let (closed, outcome) = oneshot::channel();
        // A task that has ended takes none.
        let _ = self.closings.send(Closing { deadline, closed });
        outcome.await.unwrap_or_else(|_| {
            let why = self.lease.is_lost().unwrap_or(Lost::Ended);
            Err(Error::SessionLost { why })
        })
    }
}

/// What the task works with.
struct Task {
    client: Client,
    client_id: u64,
    lease: Arc<Lease>,
}

impl Task {
    async fn run(self, mut asked: mpsc::UnboundedReceiver<Closing>) {
        let closing = tokio::select! {
            closing = asked.recv() => closing,
            why = self.renew() => return debug!(%why, "the session is lost"),
        };
        // Callers have to know it before the cluster does.
        self.lease.lose(Lost::Closed);
        let usual = after(self.client.shared.options.timeout);
        let closed = self.close(closing.as_ref().map_or(usual, |it| it.deadline));
        let closed = closed.await;
        asked.close();
        let mut next = closing;
        while let Some(closing) = next {
            let _ = closing.closed.send(closed.clone());
            next = asked.recv().await;
        }
    }

    /// Renews it until it is lost.
    async fn renew(&self) -> Lost {
        let backoff = self.client.shared.options.backoff;
        let renewals = async {
            let mut pause = backoff.min;
            loop {
                self.lease.aged(self.lease.ttl() / 3).await;
                match self.keep_alive().await {
                    Ok(()) => pause = backoff.min,
                    Err(error) if error.is_session_expired() => return,
                    Err(error) => {
                        debug!(%error, "a renewal failed");
                        sleep(self.client.shared.jittered(pause)).await;
                        pause = backoff.longer(pause);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            why = self.lease.lost() => return why,
            () = renewals => self.lease.lose(Lost::Ended),
        }
        self.lease.lost().await
    }

    async fn keep_alive(&self) -> Result<(), Error> {
        let keep_alive = |node: Node| {
            let sent = self.lease.now();
            let request = node.request(KeepAliveRequest {
                client_id: self.client_id,
                cluster_id: node.cluster,
            });
            async move {
                let answer = node.kv().keep_alive(request).await;
                answer.map(|answer| answer.map(|_| sent))
            }
        };
        let sent = self
            .client
            .call(self.lease.end(), Repeat::Safe, keep_alive)
            .await?;
        self.lease.renew(sent);
        Ok(())
    }

    async fn close(&self, deadline: Instant) -> Result<(), Error> {
        let close = |node: Node| {
            let request = node.request(CloseSessionRequest {
                client_id: self.client_id,
                cluster_id: node.cluster,
            });
            async move { node.kv().close_session(request).await }
        };
        let mut closed = self.client.call(deadline, Repeat::Safe, close).await;
        // A cluster that was recovered has the session too, until its TTL has passed there.
        if closed.as_ref().is_err_and(Error::is_successor) {
            let successor = self.client.bound_to(None);
            closed = successor.call(deadline, Repeat::Safe, close).await;
        }
        closed.map(drop)
    }
}
