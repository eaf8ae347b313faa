//! One listener and its connections.
//!
//! tonic can do this too, but it lets its connections go: they outlive the server that made them,
//! and its graceful shutdown waits for ever while a client keeps a stream open (tonic#1820). Here
//! the connections belong to the listener, which has three ends: it stops taking new ones, it lets
//! those that are there finish, and when it is dropped it cuts what is left.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::body::Body;

use super::places::{Place, Places};
use super::preface::{NoPreface, Prefaced};
use super::unsent::{Share, Unsent};
use crate::deadline::after;
use crate::error::{Reason, Refusal};
use crate::log::Repeats;
use crate::service::to_status;
use crate::types::NodeId;

/// How long a new connection may take to greet.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that was told to end may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a listener rests when the system gives it no connection, for want of descriptors.
const REST: Duration = Duration::from_millis(100);

/// Connections beyond `max_connections` that are there for one call: an operator's is served, and a
/// client's is told that the node is full.
pub(super) const SPARE_CONNECTIONS: usize = 32;

/// Connections that have given up their place and are about to end; one more is cut at once.
pub(super) const LEAVING_CONNECTIONS: usize = 16;

/// Fewest calls that a client may give up within a second, however few streams it may have.
const MIN_RESETS: u32 = 1_024;

/// Streams, of those that a connection may have, whose broken frames are borne with: h2 counts these
/// over the whole life of a connection. A frame that was under way when its stream ended is one.
const ERRORS_PER_STREAM: usize = 16;

/// Bytes of the metadata of a call above which the connection answers with HTTP status 431 before
/// anybody can say more. It closes the connection at four times this.
const MAX_HEADER_LIST_BYTES: u32 = 256 << 10;

/// Where connections come from: TCP, or a simulated network.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and who made it.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// The system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Fails only on a connection that is broken already, which its first use will show.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// Bounds of a listener and of each of its connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListenOptions {
    /// Whose listener it is, in the log.
    pub(super) node: NodeId,
    /// What the listener is for, in the log.
    pub(super) name: &'static str,
    /// The same for whoever speaks another protocol there.
    pub(super) words: &'static str,
    /// Connections at once. One more takes the place of one that makes no use of it; if there is none,
    /// it is one of [`SPARE_CONNECTIONS`].
    pub(super) max_connections: usize,
    /// Whether a connection that never got a good answer may lose its place whatever it has asked.
    pub(super) strangers_are_idle: bool,
    /// Calls and streams at once on one connection.
    pub(super) max_concurrent_streams: u32,
    /// Calls, over all connections, whose answers have not been sent.
    pub(super) max_calls: usize,
    /// Bytes that a client may send on one stream, and on all, ahead of the handlers.
    pub(super) stream_window_bytes: u32,
    pub(super) connection_window_bytes: u32,
    /// A connection is pinged this often, and closed when a ping stays unanswered for so long.
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_timeout: Duration,
}

impl ListenOptions {
    /// Most calls of a connection that may be given up within a second: all that it may have at once.
    fn max_resets(&self) -> u32 {
        self.max_concurrent_streams.max(MIN_RESETS)
    }

    fn max_tasks(&self) -> usize {
        self.max_connections
            .saturating_add(SPARE_CONNECTIONS)
            .saturating_add(LEAVING_CONNECTIONS)
    }
}

/// Whom a connection is served as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a place.
    Seated,
    /// All places are in use: it is there for one call.
    Spare,
}

/// What a listener says again and again when it is in trouble.
#[derive(Default)]
struct Warnings {
    full: Repeats,
    all_in_use: Repeats,
    cannot_accept: Repeats,
    failed: Repeats,
    strangers: Arc<Repeats>,
}

/// A listener at work.
struct Acceptor<F> {
    options: ListenOptions,
    service: F,
    stop: watch::Receiver<bool>,
    connections: JoinSet<()>,
    places: Places,
    spare: Places,
    calls: Arc<Unsent>,
    warnings: Warnings,
}

/// Serves HTTP/2 until `stop` holds `true` and every connection has ended, each connection with a
/// `service` of its own. To cut the connections, drop the future.
pub(super) async fn serve<L, F, S>(
    mut listener: L,
    service: F,
    options: ListenOptions,
    stop: watch::Receiver<bool>,
) where
    L: Listener,
    F: Fn(Standing) -> S,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    let (node, name) = (options.node, options.name);
    let mut stopping = stop.clone();
    let mut acceptor = Acceptor {
        options,
        service,
        stop,
        connections: JoinSet::new(),
        places: Places::new(options.max_connections, options.strangers_are_idle),
        spare: Places::new(SPARE_CONNECTIONS, false),
        calls: Unsent::new(options.max_calls),
        warnings: Warnings::default(),
    };
    let mut rests_until = None;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(ended) = acceptor.connections.join_next_with_id() => acceptor.see_off(ended),
            () = rest(rests_until), if rests_until.is_some() => rests_until = None,
            accepted = listener.accept(), if rests_until.is_none() => match accepted {
                Ok((io, peer)) => acceptor.admit(io, peer),
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    acceptor.warnings.cannot_accept.warn(|kept_back| {
                        tracing::warn!(%node, listener = name, %error, kept_back, "cannot accept connections");
                    });
                    // It may be for want of descriptors.
                    acceptor.places.make_room(false);
                    rests_until = Some(after(REST));
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = acceptor.connections.join_next_with_id().await {
        acceptor.see_off(ended);
    }
}

impl<F, S> Acceptor<F>
where
    F: Fn(Standing) -> S,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    /// Gives a new connection a place, or the time for one call, or nothing.
    fn admit<I>(&mut self, io: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let options = self.options;
        let (node, name) = (options.node, options.name);
        let max_connections = options.max_connections;
        let gently = self.connections.len() < options.max_tasks();
        let standing = if !self.places.is_full() {
            Standing::Seated
        } else if let Some(given_up) = self.places.make_room(gently) {
            self.warnings.full.warn(|kept_back| {
                tracing::warn!(
                    %node, listener = name, max_connections, %peer, ?given_up, kept_back,
                    "too many connections: one that makes no use of its place has to go",
                );
            });
            Standing::Seated
        } else {
            self.warnings.all_in_use.warn(|kept_back| {
                tracing::warn!(
                    %node, listener = name, max_connections, %peer, kept_back,
                    "too many connections, and all are in use",
                );
            });
            if self.spare.is_full() && self.spare.make_room(false).is_none() {
                return;
            }
            Standing::Spare
        };
        tracing::debug!(%node, listener = name, %peer, ?standing, "connected");
        let places = match standing {
            Standing::Seated => &mut self.places,
            Standing::Spare => &mut self.spare,
        };
        let place = places.prepare(options.max_resets());
        let service = (self.service)(standing);
        let conversation = Conversation {
            peer,
            strangers: Arc::clone(&self.warnings.strangers),
            place: Arc::clone(&place),
            standing,
            options,
            stop: self.stop.clone(),
            calls: self.calls.connection(),
        };
        let task = self.connections.spawn(conversation.hold(io, service));
        places.take(place, task);
    }

    /// A connection that panicked is a fault of ours, but no reason to end the others.
    fn see_off(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    let (node, name) = (self.options.node, self.options.name);
                    self.warnings.failed.warn(|kept_back| {
                        tracing::error!(%node, listener = name, %error, kept_back, "a connection failed");
                    });
                }
                error.id()
            }
        };
        self.places.free(id);
        self.spare.free(id);
    }
}

/// The refusal of a call of a connection that takes too few of its answers.
fn too_many(max_calls: usize) -> Response<Body> {
    let reason = Reason::Overloaded {
        what: "max_pending_requests",
        limit: u64::try_from(max_calls).unwrap_or(u64::MAX),
    };
    to_status(&Refusal::not_applied(reason), None).into_http()
}

async fn rest(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until).await;
    }
}

/// One connection, and what it is served by.
struct Conversation {
    peer: SocketAddr,
    strangers: Arc<Repeats>,
    place: Arc<Place>,
    standing: Standing,
    options: ListenOptions,
    stop: watch::Receiver<bool>,
    calls: Arc<Share>,
}

impl Conversation {
    /// Serves the connection. After `stop` it answers what has been asked and takes no more.
    async fn hold<I, S>(mut self, io: I, service: S)
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
            greeted = Prefaced::accept(io, PREFACE_TIMEOUT, self.options.words, Arc::clone(&self.place)) => {
                match greeted {
                    Ok(io) => io,
                    Err(reason) => return self.turn_away(&reason),
                }
            }
        };
        let (place, standing) = (Arc::clone(&self.place), self.standing);
        let calls = Arc::clone(&self.calls);
        let service = service_fn(move |request| {
            let call = place.begin();
            if standing == Standing::Spare {
                place.ask_to_leave();
            }
            let Some(one) = calls.one() else {
                return Either::Left(ready(Ok(call.answered(too_many(calls.max()), None))));
            };
            let answer = service.call(request);
            Either::Right(
                answer.map(|answer| answer.map(|answer| call.answered(answer, Some(one)))),
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
            () = self.place.asked_to_leave() => {
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

    /// Says why a connection was none. Who speaks another protocol is configured wrongly, most likely.
    fn turn_away(&self, reason: &NoPreface) {
        let (node, listener, peer) = (self.options.node, self.options.name, self.peer);
        match reason {
            NoPreface::Stranger(_) => self.strangers.warn(|kept_back| {
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
        // All the calls of a connection may end at once, because their deadline passes. That is no
        // reason to end the connection, and with it the writes that are under way.
        .max_pending_accept_reset_streams(max_resets)
        .max_local_error_reset_streams(max_streams.saturating_mul(ERRORS_PER_STREAM))
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        // gRPC has no use for the date.
        .auto_date_header(false);
    builder
}

/// Waits until `stop` holds `true`, or until nobody is left to say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether a failed accept is the fault of the one connection that was about to come.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    /// A listener to which those connections come that are handed to it.
    struct Handed(mpsc::UnboundedReceiver<DuplexStream>);

    impl Listener for Handed {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.0.recv().await {
                Some(io) => Ok((io, self.local_addr()?)),
                None => pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    /// A listener whose calls are never answered.
    struct Silent {
        door: mpsc::UnboundedSender<DuplexStream>,
        _stop: watch::Sender<bool>,
    }

    impl Silent {
        fn start(options: ListenOptions) -> Self {
            // Answers a request that fails, as tonic does.
            let service = |_| {
                service_fn(|request: Request<Incoming>| async {
                    let collected = request.into_body().collect().await;
                    match collected {
                        Ok(_) => pending().await,
                        Err(_) => Ok::<_, Infallible>(Response::new(Body::empty())),
                    }
                })
            };
            let (door, connections) = mpsc::unbounded_channel();
            let (stop, stopped) = watch::channel(false);
            tokio::spawn(serve(Handed(connections), service, options, stopped));
            Self { door, _stop: stop }
        }

        fn connect(&self) -> DuplexStream {
            let (client, io) = duplex(1 << 20);
            self.door.send(io).unwrap();
            client
        }
    }

    /// A listener that the system gives no descriptor.
    struct Without(mpsc::UnboundedSender<Instant>);

    impl Listener for Without {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
            self.0.send(Instant::now()).unwrap();
            Err(io::Error::other("too many open files"))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_gets_no_descriptor_rests_and_can_be_stopped_meanwhile() {
        let (tried, mut tries) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let service = |_| {
            service_fn(|_: Request<Incoming>| async {
                pending::<Result<Response<Body>, Infallible>>().await
            })
        };
        let listening = tokio::spawn(serve(Without(tried), service, options(16), stopped));
        let first = tries.recv().await.unwrap();
        for n in 1..10 {
            let next = tries.recv().await.unwrap();
            assert!(next - first >= REST * n, "it spins");
        }
        let told = Instant::now();
        stop.send_replace(true);
        listening.await.unwrap();
        assert_eq!(told.elapsed(), Duration::ZERO);
    }

    fn options(max_concurrent_streams: u32) -> ListenOptions {
        ListenOptions {
            max_calls: usize::MAX,
            node: NodeId::new(1).unwrap(),
            name: "test",
            words: "",
            max_connections: 16,
            strangers_are_idle: false,
            max_concurrent_streams,
            stream_window_bytes: 65_535,
            connection_window_bytes: 65_535,
            keepalive_interval: Duration::from_secs(3600),
            keepalive_timeout: Duration::from_secs(3600),
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// The kinds of the frames that come from `io`, up to the answer to a ping or the end.
    async fn frames(io: &mut DuplexStream) -> Vec<u8> {
        let mut kinds = Vec::new();
        loop {
            let mut header = [0; 9];
            if io.read_exact(&mut header).await.is_err() {
                return kinds;
            }
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            io.read_exact(&mut payload).await.unwrap();
            kinds.push(header[3]);
            if matches!(header[3], PING | GOAWAY) {
                return kinds;
            }
        }
    }

    fn greeting() -> Vec<u8> {
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(SETTINGS, 0, 0, &[]));
        sent
    }

    /// The calls `calls`, each given up at once, before the end of its request or behind it.
    fn given_up(calls: impl Iterator<Item = u32>) -> Vec<u8> {
        let call = |call| {
            let stream = 2 * call + 1;
            // POST, http and / from the static table, as complete headers.
            let flags = if call % 2 == 0 { 4 } else { 5 };
            let mut frames = frame(HEADERS, flags, stream, &[0x83, 0x86, 0x84]);
            // CANCEL.
            frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            frames
        };
        calls.flat_map(call).collect()
    }

    #[tokio::test]
    async fn calls_that_are_given_up_together_do_not_end_their_connection() {
        let calls = 200;
        let silent = Silent::start(options(calls));
        let mut client = silent.connect();
        let mut sent = greeting();
        sent.extend(given_up(0..calls));
        sent.extend(frame(PING, 0, 0, &[0; 8]));
        client.write_all(&sent).await.unwrap();
        let received = frames(&mut client).await;
        assert_eq!(received.last(), Some(&PING), "{received:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_gives_up_calls_without_end_has_to_leave() {
        let options = options(16);
        let silent = Silent::start(options);
        let mut client = silent.connect();
        client.write_all(&greeting()).await.unwrap();
        let mut next = 0;
        let mut give_up = async |calls| {
            let mut sent = given_up(next..next + calls);
            next += calls;
            sent.extend(frame(PING, 0, 0, &[0; 8]));
            // It may have been cut off.
            let _ = client.write_all(&sent).await;
            frames(&mut client).await
        };
        // For as long as it likes, below the rate.
        for _ in 0..10 {
            for _ in 0..options.max_resets() / 16 {
                let received = give_up(16).await;
                assert_eq!(received.last(), Some(&PING), "{received:?}");
            }
            sleep(Duration::from_secs(1)).await;
        }
        let mut rounds = 0;
        while give_up(16).await.last() == Some(&PING) {
            rounds += 1;
            assert!(rounds < options.max_resets() / 8, "it goes on");
        }
        // It does not care, and another client is served meanwhile.
        let mut other = silent.connect();
        let mut sent = greeting();
        sent.extend(frame(PING, 0, 0, &[0; 8]));
        other.write_all(&sent).await.unwrap();
        assert_eq!(frames(&mut other).await.last(), Some(&PING));
        let began = Instant::now();
        while !give_up(16).await.is_empty() {
            rounds += 1;
            assert!(rounds < options.max_resets() / 4, "it goes on and on");
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "it was cut at once");
    }

    /// Whether the connection is cut.
    async fn is_cut(client: &mut DuplexStream) -> bool {
        let mut rest = Vec::new();
        timeout(Duration::from_millis(1), client.read_to_end(&mut rest))
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_makes_no_use_of_a_place_loses_it_to_whoever_comes() {
        let silent = Silent::start(ListenOptions {
            max_connections: 4,
            ..options(16)
        });
        let greeted = async || {
            let mut client = silent.connect();
            client.write_all(&greeting()).await.unwrap();
            client.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap();
            assert_eq!(frames(&mut client).await.last(), Some(&PING));
            client
        };
        let mut idle = greeted().await;
        let mut busy = greeted().await;
        let call = frame(HEADERS, 5, 1, &[0x83, 0x86, 0x84]);
        busy.write_all(&call).await.unwrap();
        let mut unfinished = [silent.connect(), silent.connect()];
        for client in &mut unfinished {
            client.write_all(b"P").await.unwrap();
        }
        sleep(Duration::from_secs(2)).await;
        let mut newcomers = vec![greeted().await];
        assert!(is_cut(&mut unfinished[0]).await, "it has not greeted");
        assert!(!is_cut(&mut unfinished[1]).await, "it came later");
        newcomers.push(greeted().await);
        assert!(is_cut(&mut unfinished[1]).await);
        assert!(!is_cut(&mut idle).await);
        newcomers.push(greeted().await);
        assert_eq!(frames(&mut idle).await.last(), Some(&GOAWAY));
        assert!(!is_cut(&mut busy).await);

        // As long as somebody is idle, the next one gets in; then it is there for one call.
        for client in &mut newcomers[1..] {
            client.write_all(&call).await.unwrap();
        }
        let mut last = greeted().await;
        assert_eq!(frames(&mut newcomers[0]).await.last(), Some(&GOAWAY));
        last.write_all(&call).await.unwrap();
        let mut spare = greeted().await;
        spare.write_all(&call).await.unwrap();
        assert_eq!(frames(&mut spare).await.last(), Some(&GOAWAY));
        for client in [&mut busy, &mut last]
            .into_iter()
            .chain(&mut newcomers[1..])
        {
            assert!(!is_cut(client).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_connects_without_end_keeps_nobody_from_greeting() {
        let silent = Silent::start(ListenOptions {
            max_connections: 4,
            ..options(16)
        });
        let mut idle = Vec::new();
        for _ in 0..2 {
            let mut client = silent.connect();
            client.write_all(&greeting()).await.unwrap();
            client.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap();
            assert_eq!(frames(&mut client).await.last(), Some(&PING));
            idle.push(client);
        }
        let mut newcomers: Vec<_> = (0..4).map(|_| silent.connect()).collect();
        for client in &mut newcomers {
            assert!(!is_cut(client).await, "it has come a moment ago");
        }
        for client in &mut idle {
            assert_eq!(frames(client).await.last(), Some(&GOAWAY));
        }
        let _next = silent.connect();
        assert!(is_cut(&mut newcomers[0]).await, "there is nobody else");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_that_asks_and_gets_no_good_answer_is_idle_where_peers_are_expected() {
        let silent = Silent::start(ListenOptions {
            max_connections: 1,
            strangers_are_idle: true,
            ..options(16)
        });
        let mut sent = greeting();
        sent.extend(frame(HEADERS, 5, 1, &[0x83, 0x86, 0x84]));
        sent.extend(frame(PING, 0, 0, &[0; 8]));
        let mut stranger = silent.connect();
        stranger.write_all(&sent).await.unwrap();
        assert_eq!(frames(&mut stranger).await.last(), Some(&PING));
        let mut peer = silent.connect();
        peer.write_all(&sent).await.unwrap();
        assert_eq!(frames(&mut peer).await.last(), Some(&PING));
        assert_eq!(frames(&mut stranger).await.last(), Some(&GOAWAY));
    }
}
