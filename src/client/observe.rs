//! Observers of a lock: who holds it, now and after every change.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout_at};
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};
use tracing::{Instrument as _, debug, debug_span};

use super::call::{Repeat, ended};
use super::call_error::{CallError, Retryability, or_older};
use super::claim::OLDER_VERSION;
use super::nodes::Node;
use super::{Applied, Client, Error, Holder};
use crate::proto::lock;

impl Client {
    /// Observes who holds the lock `name`, or who leads under that name: first the present state, then every change.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let mut holders = client.observe("indexer");
    /// while let Some(holder) = holders.next().await {
    ///     match holder? {
    ///         Some(holder) => println!("{:?} leads", holder.value),
    ///         None => println!("no process leads"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(&self, name: impl Into<String>) -> Holders {
        Holders {
            observer: Some(Observer {
                // Their own connection, as what is told may wait for the program.
                client: self.for_streams(),
                name: name.into(),
                messages: None,
                told: None,
            }),
            observing: None,
        }
    }
}

/// The next holder, or why the stream ends.
type Told = Result<Option<Holder>, Error>;

/// The holders of a lock, one after the other: a [`Stream`] without an end. `None`: the lock is free.
///
/// It asks the leader when it is first polled, and goes on at the next one when that is lost. No item equals the one
/// before, and none is older; of changes that follow one another quickly, or while there is no leader, only the last
/// one is told. What was told may be over: a client that acts on it passes the token.
///
/// It has no timeout, and waits while the cluster has no leader; a deadline of [`Client::within`] ends it. Otherwise
/// it ends with an error only if no node will ever serve it: the request is invalid, the nodes run a version without
/// locks, or belong to another cluster. Dropping it ends the call.
#[must_use = "nothing is observed before it is polled"]
pub struct Holders {
    /// The observer, while it waits for nothing. `None` at the end.
    observer: Option<Observer>,
    observing: Option<BoxFuture<'static, (Observer, Told)>>,
}

impl Holders {
    /// The next holder. Nothing is lost if the future is dropped. `None` after an error.
    ///
    /// # Errors
    ///
    /// The lock cannot be observed any more; the stream has ended.
    pub async fn next(&mut self) -> Option<Result<Option<Holder>, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Holders {
    type Item = Result<Option<Holder>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(observer) = self.observer.take() {
            self.observing = Some(Box::pin(observer.next()));
        }
        let Some(observing) = &mut self.observing else {
            return Poll::Ready(None);
        };
        let (observer, told) = ready!(observing.as_mut().poll(context));
        self.observing = None;
        self.observer = Some(observer).filter(|_| told.is_ok());
        Poll::Ready(Some(told))
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holders").finish_non_exhaustive()
    }
}

/// Observes at one leader after the other.
struct Observer {
    client: Client,
    name: String,
    messages: Option<(Node, Streaming<lock::ObserveResponse>)>,
    /// What was told last.
    told: Option<Option<Holder>>,
}

impl Observer {
    async fn next(mut self) -> (Self, Told) {
        let told = self.within_limit().instrument(debug_span!("observe"));
        let told = told.await;
        (self, told)
    }

    async fn within_limit(&mut self) -> Told {
        let Some(deadline) = self.client.limit.deadline else {
            return self.news().await;
        };
        let told = timeout_at(deadline, self.news()).await;
        told.unwrap_or_else(|_| {
            Err(Error::Deadline {
                message: "the lock has no other holder as yet".to_owned(),
                applied: Applied::No,
                last: None,
            })
        })
    }

    /// The next holder that the caller does not know.
    async fn news(&mut self) -> Told {
        let backoff = self.client.shared.options.backoff;
        let mut pause = backoff.min;
        loop {
            let message = match self.messages.take() {
                Some((node, messages)) => self.receive(node, messages, &mut pause).await?,
                None => self.begin().await?,
            };
            let Some(message) = message else { continue };
            let holder = message.holder.map(Holder::from);
            if self.told.as_ref() != Some(&holder) {
                self.told = Some(holder.clone());
                return Ok(holder);
            }
        }
    }

    /// Asks the leader. `None`: there is none as yet.
    async fn begin(&mut self) -> Result<Option<lock::ObserveResponse>, Error> {
        let name = &self.name;
        let begin = |node: Node| {
            let request = node.open_ended(lock::ObserveRequest {
                name: name.clone(),
                cluster_id: node.cluster,
            });
            async move {
                let messages = node.locks().observe(request).await;
                let messages = messages.map_err(|status| or_older(status, OLDER_VERSION))?;
                let mut messages = messages.into_inner();
                let first = messages.message().await?;
                let first = first.ok_or_else(|| Status::unavailable(ENDED))?;
                Ok(Response::new((node, messages, first)))
            }
        };
        let deadline = self.client.deadline();
        match self.client.call(deadline, Repeat::Read, begin).await {
            Ok((node, messages, first)) => {
                self.messages = Some((node, messages));
                Ok(Some(first))
            }
            Err(error) if error.is_outage() && self.client.limit.deadline.is_none() => {
                debug!(%error, "no node tells who holds the lock");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The next message of a leader. `None`: it is lost.
    async fn receive(
        &mut self,
        node: Node,
        mut messages: Streaming<lock::ObserveResponse>,
        pause: &mut Duration,
    ) -> Result<Option<lock::ObserveResponse>, Error> {
        let fault = match messages.message().await {
            Ok(Some(message)) => {
                self.messages = Some((node, messages));
                return Ok(Some(message));
            }
            Ok(None) => CallError::broken(ENDED),
            Err(status) => CallError::from(status),
        };
        let fault = fault.of_read();
        debug!(node = node.address, %fault, "observing was cut off");
        self.client.shared.note(&node, &fault);
        if fault.retryability != Retryability::Later {
            return Err(ended(&node, fault));
        }
        let shared = &self.client.shared;
        sleep(shared.jittered(*pause)).await;
        *pause = shared.options.backoff.longer(*pause);
        Ok(None)
    }
}

const ENDED: &str = "the node ended the stream";
