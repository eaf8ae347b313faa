//! Claims: what a session does to hold a lock, and to give it back.
//!
//! A claim has a number of its session. Its Acquire is repeated under that number until it is answered, and its
//! Release uses the number up, so a copy of the Acquire that arrives later claims nothing. A caller
//! that gives up on the way may have a claim nevertheless; so it is released then, too.

use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status};
use tracing::{Instrument as _, debug, debug_span};

use super::call::Repeat;
use super::call_error::or_older;
use super::issuer::next;
use super::lifetime::to_proto;
use super::nodes::{Answer, Node};
use super::{Applied, Client, Error, Holder, LivingSession, Lost};
use crate::deadline::after;
use crate::proto::lock;
use crate::proto::lock::acquire_response::Result as Acquired;
use crate::proto::lock::await_response::Result as Awaited;

/// The message of the refusal of a node that does not know locks.
pub(super) const OLDER_VERSION: &str =
    "this node runs an older version, which knows no locks (not applied)";

/// What is claimed.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) value: Bytes,
    /// `None`: the claim waits as long as its session lives.
    pub(super) max_wait: Option<Duration>,
}

/// What has come of a claim.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It holds the lock, under this token.
    Held(u64),
    /// Another claim held the lock, and this one was not to wait.
    Occupied(Holder),
    /// It has waited in vain.
    Gone,
}

/// A claim that was made, or may have been. If this is dropped, it is released in the background.
#[derive(Debug)]
pub(super) struct Claim {
    id: ClaimId,
    /// Whether its session is used for nothing else, and ends with it.
    is_alone: bool,
    /// Whether it may still be there.
    is_open: bool,
    /// Where it is released in the background.
    runtime: Option<Handle>,
}

/// A claim, as requests name it.
#[derive(Debug, Clone)]
struct ClaimId {
    session: LivingSession,
    name: String,
    number: u64,
}

impl Claim {
    /// Claims a lock, and waits until the claim holds it or has ended.
    ///
    /// # Errors
    ///
    /// The claim is given up, and released: its session is lost, or nodes refused it, or did not answer in time.
    pub(super) async fn make(
        session: LivingSession,
        is_alone: bool,
        asked: &Asked,
    ) -> Result<(Self, Outcome), Error> {
        let lost = session.clone();
        tokio::select! {
            biased;
            why = lost.lost() => Err(Error::SessionLost { why }),
            made = Self::make_in(session, is_alone, asked) => made,
        }
    }

    async fn make_in(
        session: LivingSession,
        is_alone: bool,
        asked: &Asked,
    ) -> Result<(Self, Outcome), Error> {
        let number = next(session.numbers(), session.deadline()).await?;
        let mut claim = Self {
            id: ClaimId {
                session,
                name: asked.name.clone(),
                number: number.sequence(),
            },
            is_alone,
            is_open: true,
            runtime: Handle::try_current().ok(),
        };
        let acquired = claim.id.acquire(asked).await;
        // The claim goes on, and further writes of the session need the place of its number.
        drop(number);
        claim.is_open = !matches!(&acquired, Err(error) if error.applied() == Applied::No);
        let outcome = match acquired? {
            Acquired::Held(lock::Held { token }) => Outcome::Held(token),
            Acquired::Waiting(_) => claim.id.granted().await?,
            Acquired::Occupied(occupied) => {
                Outcome::Occupied(occupied.holder.unwrap_or_default().into())
            }
            Acquired::Gone(_) => Outcome::Gone,
        };
        claim.is_open = matches!(outcome, Outcome::Held(_));
        if !claim.is_open && asked.max_wait.is_none() {
            // Only the end of its session ends such a claim.
            let why = Lost::Ended;
            claim.id.session.lose(why);
            return Err(Error::SessionLost { why });
        }
        Ok((claim, outcome))
    }

    pub(super) fn session(&self) -> &LivingSession {
        &self.id.session
    }

    pub(super) fn name(&self) -> &str {
        &self.id.name
    }

    /// Releases the claim. If this future is dropped, or ends with an error, it is released in the background.
    pub(super) async fn release(mut self) -> Result<(), Error> {
        match self.is_alone {
            true => self.id.session.close().await?,
            false => self.id.release(self.id.session.deadline()).await?,
        }
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Without the clock, which is that of a runtime: it may have ended. To release a claim that has ended does no
        // harm.
        if !self.is_open || self.id.session.is_noted_as_lost() {
            return;
        }
        match &self.runtime {
            _ if self.is_alone => self.id.session.end(),
            Some(runtime) => {
                let span = debug_span!("release", lock = self.id.name);
                drop(runtime.spawn(self.id.clone().release_at_last().instrument(span)));
            }
            None => {}
        }
    }
}

impl ClaimId {
    fn client(&self) -> Client {
        self.session.client()
    }

    async fn acquire(&self, asked: &Asked) -> Result<Acquired, Error> {
        let acquire = |node: Node| {
            let request = node.request(lock::AcquireRequest {
                name: self.name.clone(),
                session: Some(self.session.numbers().stamp(self.number)),
                value: asked.value.clone(),
                max_wait: asked.max_wait.map(to_proto),
                cluster_id: node.cluster,
            });
            async move {
                let answer = node.locks().acquire(request).await;
                let answer = answer.map_err(|status| or_older(status, OLDER_VERSION))?;
                known(answer, |it| it.result)
            }
        };
        let deadline = self.session.deadline();
        let client = self.client();
        let call = client.call(deadline, Repeat::Safe, acquire);
        call.instrument(debug_span!("acquire")).await
    }

    /// Waits until the claim holds the lock or has ended.
    async fn granted(&self) -> Result<Outcome, Error> {
        // Waiting calls have a connection of their own, where they delay no renewal.
        let client = self.client().for_streams();
        loop {
            let turn = self.turn(&client).await?;
            let deadline = client.deadline();
            let state = client.call(deadline, Repeat::Safe, |node| self.state(node));
            let state = state.instrument(debug_span!("await")).await;
            drop(turn);
            match state {
                Ok(Awaited::Held(lock::Held { token })) => return Ok(Outcome::Held(token)),
                Ok(Awaited::Gone(_)) => return Ok(Outcome::Gone),
                Ok(Awaited::Waiting(_)) => {}
                // The claim waits, whether there is a leader or not.
                Err(error) if error.is_outage() && client.limit.deadline.is_none() => {
                    debug!(%error, "the state of a claim is unknown");
                }
                Err(error) => return Err(error),
            }
            if client.limit.deadline.is_some() && Instant::now() >= deadline {
                return Err(not_free());
            }
        }
    }

    /// Waits until the state of this claim may be asked for.
    ///
    /// # Errors
    ///
    /// The deadline of the caller has come.
    async fn turn<'a>(&self, client: &'a Client) -> Result<Option<SemaphorePermit<'a>>, Error> {
        let turn = client.shared.awaits.acquire();
        let turn = match client.limit.deadline {
            Some(deadline) => timeout_at(deadline, turn).await.map_err(|_| not_free())?,
            None => turn.await,
        };
        // It is never closed.
        Ok(turn.ok())
    }

    /// The state of the claim, as soon as it waits no more, or when the time for this attempt is over.
    async fn state(&self, node: Node) -> Answer<Awaited> {
        let request = node.request(lock::AwaitRequest {
            name: self.name.clone(),
            client_id: self.session.id(),
            claim: self.number,
            cluster_id: node.cluster,
        });
        known(node.locks().r#await(request).await?, |it| it.result)
    }

    async fn release(&self, deadline: Instant) -> Result<(), Error> {
        self.session.numbers().holds()?;
        let release = |node: Node| {
            let request = node.request(lock::ReleaseRequest {
                name: self.name.clone(),
                session: Some(self.session.numbers().stamp(self.number)),
                cluster_id: node.cluster,
            });
            async move { node.locks().release(request).await }
        };
        let client = self.client();
        client.call(deadline, Repeat::Safe, release).await.map(drop)
    }

    /// Releases the claim, however long that takes, unless the session ends with it.
    async fn release_at_last(self) {
        let client = self.client();
        let options = &client.shared.options;
        let (timeout, mut pause) = (options.timeout, options.backoff.min);
        loop {
            match self.release(after(timeout)).await {
                Err(error) if error.is_outage() => {
                    debug!(%error, "a claim could not be released");
                    sleep(pause).await;
                    pause = options.backoff.longer(pause);
                }
                Err(error) => return debug!(%error, "a claim was not released"),
                Ok(()) => return,
            }
        }
    }
}

fn not_free() -> Error {
    Error::Deadline {
        message: "the lock was not free in time".to_owned(),
        applied: Applied::No,
        last: None,
    }
}

/// The answer that `field` takes out of a response.
fn known<M, T>(answer: Response<M>, field: impl FnOnce(M) -> Option<T>) -> Answer<T> {
    let (metadata, message, extensions) = answer.into_parts();
    let result = field(message).ok_or_else(|| Status::internal(ASTRAY))?;
    Ok(Response::from_parts(metadata, result, extensions))
}

const ASTRAY: &str = "the node answered with a state that this version does not know";
