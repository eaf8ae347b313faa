//! One listener and its connections.
//!
//! tonic can do this too, but it lets its connections go: they outlive the server that made them,
//! and its graceful shutdown waits for ever while a client keeps a stream open (tonic#1820). Here
//! the connections belong to the listener, which has three ends: it stops taking new ones, it lets
//! those that are there finish, and when it is dropped it cuts what is left.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tonic::body::Body;

use super::preface::Prefaced;

/// How long a new connection may take to greet.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the log says that connections are refused, at most.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long a listener rests when the system gives it no connection, for want of descriptors.
const REST: Duration = Duration::from_millis(100);

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
    /// What the listener is for, in the log.
    pub(super) name: &'static str,
    /// Connections at once. One more is closed as soon as it comes, so that a client can turn to
    /// another node instead of waiting.
    pub(super) max_connections: usize,
    /// Calls and streams at once on one connection.
    pub(super) max_concurrent_streams: u32,
    /// Bytes that a client may send on one stream, and on all, ahead of the handlers.
    pub(super) stream_window_bytes: u32,
    pub(super) connection_window_bytes: u32,
    /// A connection is pinged this often, and closed when a ping stays unanswered for so long.
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_timeout: Duration,
}

/// Serves HTTP/2 until `stop` holds `true` and every connection has ended, each connection with a
/// `service` of its own. To cut the connections, drop the future.
pub(super) async fn serve<L, S>(
    mut listener: L,
    service: impl Fn() -> S,
    options: ListenOptions,
    mut stop: watch::Receiver<bool>,
) where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    let name = options.name;
    let mut connections = JoinSet::new();
    let mut complained: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(ended) = connections.join_next() => see_off(name, ended),
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= options.max_connections => {
                    if complained.is_none_or(|at| at.elapsed() >= REFUSAL_LOG_INTERVAL) {
                        complained = Some(Instant::now());
                        let max_connections = options.max_connections;
                        tracing::warn!(listener = name, max_connections, %peer, "too many connections");
                    }
                }
                Ok((io, peer)) => {
                    tracing::debug!(listener = name, %peer, "connected");
                    connections.spawn(converse(io, service(), options, stop.clone()));
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = name, %error, "cannot accept connections");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        see_off(name, ended);
    }
}

/// A connection that panicked is a fault of ours, but no reason to end the others.
fn see_off(name: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener = name, %error, "a connection failed");
    }
}

/// Serves one connection. After `stop` it answers what has been asked and takes no more.
async fn converse<I, S>(io: I, service: S, options: ListenOptions, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    let io = tokio::select! {
        biased;
        () = stopped(&mut stop) => return,
        greeted = Prefaced::accept(io, PREFACE_TIMEOUT) => match greeted {
            Ok(io) => io,
            Err(reason) => {
                tracing::debug!(listener = options.name, %reason, "no connection");
                return;
            }
        },
    };
    let max_resets = usize::try_from(options.max_concurrent_streams).unwrap_or(usize::MAX);
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .max_concurrent_streams(options.max_concurrent_streams)
            .keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            // All the calls of a connection may end at once, because their deadline passes. That is no
            // reason to end the connection, and with it the writes that are under way.
            .max_pending_accept_reset_streams(max_resets)
            // gRPC has no use for the date.
            .auto_date_header(false)
            .serve_connection(TokioIo::new(io), service)
    );
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(listener = options.name, %error, "connection ended");
    }
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

    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    /// A listener to which one connection comes.
    struct One(Option<DuplexStream>);

    impl Listener for One {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.0.take() {
                Some(io) => Ok((io, self.local_addr()?)),
                None => pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    fn options(max_concurrent_streams: u32) -> ListenOptions {
        ListenOptions {
            name: "test",
            max_connections: 16,
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

    #[tokio::test]
    async fn calls_that_are_given_up_together_do_not_end_their_connection() {
        let (mut client, io) = duplex(1 << 20);
        let service = || {
            service_fn(|_: Request<Incoming>| async {
                pending::<Result<Response<Body>, Infallible>>().await
            })
        };
        let (_stop, stopped) = watch::channel(false);
        let calls = 200;
        tokio::spawn(serve(One(Some(io)), service, options(calls), stopped));

        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(SETTINGS, 0, 0, &[]));
        for call in 0..calls {
            let stream = 2 * call + 1;
            // POST, http and / from the static table, as complete headers and the end of the stream.
            sent.extend(frame(HEADERS, 5, stream, &[0x83, 0x86, 0x84]));
            // CANCEL.
            sent.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        sent.extend(frame(PING, 0, 0, &[0; 8]));
        client.write_all(&sent).await.unwrap();
        let received = frames(&mut client).await;
        assert_eq!(received.last(), Some(&PING), "{received:?}");
    }
}
