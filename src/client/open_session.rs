//! Calls that open a session.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::Rng as _;
use tonic::Status;
use tracing::{Instrument as _, debug_span};

use super::call::Repeat;
use super::call_error::or_older;
use super::clock::Moment;
use super::lease::Lease;
use super::lifetime::to_proto;
use super::nodes::Node;
use super::numbers::Numbers;
use super::renewal::Renewal;
use super::running::Running;
use super::{Client, Error, LivingSession, Session};
use crate::proto::kv::OpenSessionRequest;

/// The message of the refusal by a node that does not know TTLs of sessions.
pub(super) const OLDER_VERSION: &str =
    "this node runs an older version, which knows no living sessions (not applied)";

impl Client {
    /// Opens a session: each of its writes is applied once, however often it has to be sent. With a
    /// [TTL](OpenSession::ttl) it is a living one.
    ///
    /// # Errors
    ///
    /// No session was opened in time. One that a lost attempt opened is never used.
    pub fn session(&self) -> OpenSession<'_> {
        OpenSession {
            client: self,
            running: Running::default(),
        }
    }
}

/// A call that opens a session: see [`Client::session`].
///
/// A future, which begins when it is polled. Before that it may get a TTL. Dropping it does no harm.
#[derive(Debug)]
#[must_use = "nothing is opened before it is awaited"]
pub struct OpenSession<'a> {
    client: &'a Client,
    running: Running<'a, Session>,
}

impl<'a> OpenSession<'a> {
    /// Opens a living session: it ends when it was not renewed for `ttl`, and may own keys until then. The
    /// client renews it by itself. From 2 s to 1 h; 10 s is a good choice, and below 5 s an election may cost
    /// the session.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn serve() {}
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let session = client.session().ttl(Duration::from_secs(10)).await?;
    /// session.set("service/web/1", "10.0.0.7:80").owned_by(&session).await?;
    /// tokio::select! {
    ///     () = serve() => session.close().await?,
    ///     why = session.lost() => eprintln!("the session is lost: {why}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// No session was opened in time. One that a lost attempt opened is never used, and ends after its TTL. An
    /// error with [`Code::Unimplemented`](tonic::Code::Unimplemented) or
    /// [`Reason::FailedPrecondition`](super::Reason::FailedPrecondition) names a node that runs an older
    /// version.
    pub fn ttl(self, ttl: Duration) -> OpenLivingSession<'a> {
        OpenLivingSession {
            client: self.client,
            ttl,
            running: Running::default(),
        }
    }
}

impl Future for OpenSession<'_> {
    type Output = Result<Session, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { client, running } = &mut *self;
        let client = *client;
        running.poll(context, || async {
            let opened = Opened::new(client, None).await?;
            let numbers = Numbers::new(opened.client_id, None);
            Ok(Session::new(client.clone(), opened.cluster, numbers))
        })
    }
}

/// A call that opens a living session: see [`OpenSession::ttl`].
///
/// A future, which begins when it is polled. If it is dropped after that, a session may stay open in the
/// cluster until its TTL has passed.
#[derive(Debug)]
#[must_use = "nothing is opened before it is awaited"]
pub struct OpenLivingSession<'a> {
    client: &'a Client,
    ttl: Duration,
    running: Running<'a, LivingSession>,
}

impl Future for OpenLivingSession<'_> {
    type Output = Result<LivingSession, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            client,
            ttl,
            running,
        } = &mut *self;
        let (client, ttl) = (*client, *ttl);
        running.poll(context, || open_living(client, ttl))
    }
}

/// Opens a living session, which the client renews.
pub(super) async fn open_living(client: &Client, ttl: Duration) -> Result<LivingSession, Error> {
    let opened = Opened::new(client, Some(ttl)).await?;
    let Opened {
        client_id,
        cluster,
        sent,
        ..
    } = opened;
    let lease = Lease::new(opened.ttl, client.shared.options.clock, sent);
    let renewing = client.bound_to(cluster);
    let renewal = Arc::new(Renewal::begin(renewing, client_id, lease));
    let numbers = Numbers::new(client_id, Some(Arc::clone(&renewal)));
    let session = Session::new(client.clone(), cluster, numbers);
    Ok(LivingSession::new(session, renewal))
}

/// A session that was opened.
struct Opened {
    client_id: u64,
    cluster: Option<u64>,
    /// When the request was sent.
    sent: Moment,
    /// Zero if it does not live.
    ttl: Duration,
}

impl Opened {
    async fn new(client: &Client, ttl: Option<Duration>) -> Result<Self, Error> {
        // Every attempt opens a new session. A late copy of an attempt must not reopen a session that has
        // expired meanwhile: it would not remember the writes that were applied.
        let open = |node: Node| {
            let options = &client.shared.options;
            let mut opened = Self {
                client_id: client
                    .shared
                    .random(|random| random.gen_range(1..=u64::MAX)),
                cluster: node.cluster,
                sent: Moment::now(options.clock),
                ttl: Duration::ZERO,
            };
            let request = node.request(OpenSessionRequest {
                client_id: opened.client_id,
                cluster_id: opened.cluster,
                ttl: ttl.map(to_proto),
            });
            async move {
                let answer = node.kv().open_session(request).await;
                if ttl.is_none() {
                    return answer.map(|answer| answer.map(|_| opened));
                }
                let answer = answer.map_err(|status| or_older(status, OLDER_VERSION))?;
                let granted = answer.get_ref().ttl;
                let granted = granted.and_then(|ttl| Duration::try_from(ttl).ok());
                opened.ttl = granted.ok_or_else(|| Status::unimplemented(OLDER_VERSION))?;
                Ok(answer.map(|_| opened))
            }
        };
        // A session that was opened by a lost attempt does no harm, so the call may be repeated like a
        // read.
        let call = client.call(client.deadline(), Repeat::Read, open);
        call.instrument(debug_span!("open_session")).await
    }
}
