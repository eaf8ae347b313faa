//! One connection of a listener, from its preface to its end.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::body::Body;

use super::answering::answering;
use super::listen_options::{ListenOptions, SlotKind};
use super::preface::{NoPreface, Prefaced};
use super::slots::Slot;
use super::unsent::Share;
use crate::error::{Reason, Refusal};
use crate::service::to_status;
use crate::telemetry::Repeats;

/// How long a new connection may take to send its preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that was told to end may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Broken frames that are tolerated, for each stream that a connection may have: h2 counts them over the
/// whole lifetime of a connection. A frame that was in flight when its stream ended is one.
const ERRORS_PER_STREAM: usize = 16;

/// Bytes of the metadata of a call above which hyper answers with HTTP status 431, before the service
/// sees the call. hyper closes the connection at four times this.
const MAX_HEADER_LIST_BYTES: u32 = 256 << 10;

/// One connection, and its slot, options and limits.
pub(super) struct Conversation {
    pub(super) peer: SocketAddr,
    pub(super) other_protocols: Arc<Repeats>,
    pub(super) slot: Arc<Slot>,
    pub(super) kind: SlotKind,
    pub(super) options: ListenOptions,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) calls: Arc<Share>,
}

impl Conversation {
    /// Serves the connection. After `stop` it answers the calls in flight and takes no more.
    pub(super) async fn hold<I, S>(mut self, io: I, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S: Send + 'static,
        S::Future: Send + 'static,
    {
        let (node, name) = (self.options.node, self.options.name);
        let io = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return,
            preface_received = Prefaced::accept(io, PREFACE_TIMEOUT, self.options.words, Arc::clone(&self.slot)) => {
                match preface_received {
                    Ok(io) => io,
                    Err(reason) => return self.turn_away(&reason),
                }
            }
        };
        let (slot, kind) = (Arc::clone(&self.slot), self.kind);
        let calls = Arc::clone(&self.calls);
        let service = service_fn(move |request| {
            let call = slot.begin();
            if kind == SlotKind::Spare {
                slot.ask_to_leave();
            }
            let Some(one) = calls.one() else {
                return Either::Left(ready(Ok(answering(call, None, too_many(calls.max())))));
            };
            let answer = service.call(request);
            Either::Right(
                answer.map(|answer| answer.map(|answer| answering(call, Some(one), answer))),
            )
        });
        let mut connection =
            pin!(builder(&self.options).serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stopped(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.slot.asked_to_leave() => {
                connection.as_mut().graceful_shutdown();
                match timeout(LEAVE_TIMEOUT, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%node, listener = name, %error, "connection ended");
        }
    }

    /// Logs why a connection was closed before it was served. A peer that speaks another protocol is most
    /// likely configured wrongly: that is a warning.
    fn turn_away(&self, reason: &NoPreface) {
        let (node, listener, peer) = (self.options.node, self.options.name, self.peer);
        match reason {
            NoPreface::OtherProtocol(_) => self.other_protocols.warn(|kept_back| {
                tracing::warn!(
                    %node, listener, %peer, kept_back,
                    "a connection that speaks no gRPC was turned away: {reason}",
                );
            }),
            _ => tracing::debug!(%node, listener, %peer, %reason, "no connection"),
        }
    }
}

fn builder(options: &ListenOptions) -> http2::Builder<TokioExecutor> {
    let max_streams = usize::try_from(options.max_concurrent_streams).unwrap_or(usize::MAX);
    let max_resets = usize::try_from(options.max_resets()).unwrap_or(usize::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_concurrent_streams(options.max_concurrent_streams)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        // All the calls of a connection may end at once, because their deadline passes. That must not end
        // the connection, and with it the writes in flight.
        .max_pending_accept_reset_streams(max_resets)
        .max_local_error_reset_streams(max_streams.saturating_mul(ERRORS_PER_STREAM))
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        // gRPC has no use for the date.
        .auto_date_header(false);
    builder
}

/// Waits until `stop` holds `true`, or until its sender is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The refusal of a call on a connection that has too many unsent answers.
fn too_many(max_calls: usize) -> Response<Body> {
    let reason = Reason::Overloaded {
        what: "max_pending_requests",
        limit: u64::try_from(max_calls).unwrap_or(u64::MAX),
    };
    to_status(&Refusal::not_applied(reason), None).into_http()
}
