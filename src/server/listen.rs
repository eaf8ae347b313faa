//! One listener and its connections.
//!
//! tonic can do this too, but its connections are detached: they outlive the server that made them, and
//! its graceful shutdown waits for ever while a client keeps a stream open (tonic#1820). Here the
//! connections belong to the listener. It ends in three ways: it stops accepting, it lets its connections
//! finish, and when it is dropped it cuts those that are left.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::body::Body;

use super::conversation::{Conversation, stopped};
use super::listen_options::{ListenOptions, SPARE_CONNECTIONS, SlotKind};
use super::slots::Slots;
use super::unsent::Unsent;
use crate::deadline::after;
use crate::driver::{Reader, Unread};
use crate::telemetry::Repeats;

/// How long a listener pauses when the system gives it no connection, for lack of descriptors.
const REST: Duration = Duration::from_millis(100);

/// How long a connection may take no bytes of its answers while other connections find no room for
/// theirs: as long as a ping may stay unanswered.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest pause between two searches for such connections.
const STALL_PAUSE: Duration = Duration::from_millis(100);

/// The source of connections: TCP, or a simulated network.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and the address of its peer.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// The system does not know it.
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

/// Warnings that a listener repeats while it is in trouble, each bounded in rate.
#[derive(Default)]
struct Warnings {
    full: Repeats,
    all_in_use: Repeats,
    cannot_accept: Repeats,
    failed: Repeats,
    stalled: Repeats,
    other_protocols: Arc<Repeats>,
}

/// The state of a running listener.
struct Acceptor<F> {
    options: ListenOptions,
    service: F,
    stop: watch::Receiver<bool>,
    connections: JoinSet<()>,
    slots: Slots,
    spare: Slots,
    calls: Arc<Unsent>,
    /// The bytes that answers hold, on all connections.
    unread: Arc<Unread>,
    warnings: Warnings,
}

/// Serves HTTP/2 until `stop` holds `true` and every connection has ended. Each connection gets a
/// `service` of its own, whose answers count as `unread`. To cut the connections, drop the future.
pub(super) async fn serve<L, F, S>(
    mut listener: L,
    service: F,
    options: ListenOptions,
    unread: Arc<Unread>,
    stop: watch::Receiver<bool>,
) where
    L: Listener,
    F: Fn(SlotKind, Arc<Reader>) -> S,
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
        slots: Slots::new(options.max_connections, options.unserved_are_idle),
        spare: Slots::new(SPARE_CONNECTIONS, false),
        calls: Unsent::new(options.max_calls),
        unread: Arc::clone(&unread),
        warnings: Warnings::default(),
    };
    let mut rests_until = None;
    let mut short = pin!(is_short(&unread));
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(ended) = acceptor.connections.join_next_with_id() => acceptor.see_off(ended),
            () = rest(rests_until), if rests_until.is_some() => rests_until = None,
            () = short.as_mut() => {
                acceptor.cut_stalled();
                short.set(is_short(&unread));
            }
            accepted = listener.accept(), if rests_until.is_none() => match accepted {
                Ok((io, peer)) => acceptor.admit(io, peer),
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    acceptor.warnings.cannot_accept.warn(|kept_back| {
                        tracing::warn!(%node, listener = name, %error, kept_back, "cannot accept connections");
                    });
                    // The reason may be a lack of descriptors.
                    acceptor.slots.make_room(false);
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
    F: Fn(SlotKind, Arc<Reader>) -> S,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    /// Gives a new connection a slot, or one call, or closes it.
    fn admit<I>(&mut self, io: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let options = self.options;
        let (node, name) = (options.node, options.name);
        let max_connections = options.max_connections;
        let gently = self.connections.len() < options.max_tasks();
        let kind = if !self.slots.is_full() {
            SlotKind::Regular
        } else if let Some(given_up) = self.slots.make_room(gently) {
            self.warnings.full.warn(|kept_back| {
                tracing::warn!(
                    %node, listener = name, max_connections, %peer, ?given_up, kept_back,
                    "too many connections: an unused one is closed",
                );
            });
            SlotKind::Regular
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
            SlotKind::Spare
        };
        tracing::debug!(%node, listener = name, %peer, ?kind, "connected");
        let slots = match kind {
            SlotKind::Regular => &mut self.slots,
            SlotKind::Spare => &mut self.spare,
        };
        let reader = self.unread.reader();
        let slot = slots.prepare(peer, Arc::clone(&reader), options.max_resets());
        let service = (self.service)(kind, reader);
        let conversation = Conversation {
            peer,
            other_protocols: Arc::clone(&self.warnings.other_protocols),
            slot: Arc::clone(&slot),
            kind,
            options,
            stop: self.stop.clone(),
            calls: self.calls.connection(),
        };
        let task = self.connections.spawn(conversation.hold(io, service));
        slots.take(slot, task);
    }

    /// Cuts a connection that takes none of its answers, because another one found no room for an answer.
    fn cut_stalled(&mut self) {
        let [regular, spare] = [&mut self.slots, &mut self.spare];
        let cut = regular.cut_stalled(STALL_TIMEOUT);
        if let Some((peer, held)) = cut.or_else(|| spare.cut_stalled(STALL_TIMEOUT)) {
            let ListenOptions { node, name, .. } = self.options;
            let max_unread_bytes = self.unread.max();
            self.warnings.stalled.warn(|kept_back| {
                tracing::warn!(
                    %node, listener = name, %peer, held, max_unread_bytes, kept_back,
                    "a client takes none of its answers, and others find no room: disconnected",
                );
            });
        }
    }

    /// Frees the slot of a connection that ended. One that panicked is a bug of ours, but no reason to
    /// end the others.
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
        self.slots.free(id);
        self.spare.free(id);
    }
}

/// Waits until an answer finds no room, then for [`STALL_PAUSE`].
async fn is_short(unread: &Unread) {
    unread.short().await;
    sleep(STALL_PAUSE).await;
}

async fn rest(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until).await;
    }
}

/// Whether a failed accept is the fault of the one connection that was to be accepted.
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
    use std::future::{pending, ready};

    use http_body_util::BodyExt as _;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::service::{Holds, to_status};
    use crate::types::NodeId;

    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    /// A listener that accepts the connections that a test hands to it.
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
            let service = |_, _| {
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
            let unread = Unread::new(usize::MAX);
            tokio::spawn(serve(
                Handed(connections),
                service,
                options,
                unread,
                stopped,
            ));
            Self { door, _stop: stop }
        }

        fn connect(&self) -> DuplexStream {
            let (client, io) = duplex(1 << 20);
            self.door.send(io).unwrap();
            client
        }
    }

    /// A listener to which the system gives no descriptor.
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
        let service = |_, _| {
            service_fn(|_: Request<Incoming>| async {
                pending::<Result<Response<Body>, Infallible>>().await
            })
        };
        let unread = Unread::new(usize::MAX);
        let listening = tokio::spawn(serve(Without(tried), service, options(16), unread, stopped));
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
            unserved_are_idle: false,
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

    /// The types of the frames that come from `io`, up to the answer to a ping, GOAWAY or the end.
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

    fn preface() -> Vec<u8> {
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(SETTINGS, 0, 0, &[]));
        sent
    }

    /// The calls `calls`, each cancelled at once, before the end of its request or after it.
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
        let mut sent = preface();
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
        client.write_all(&preface()).await.unwrap();
        let mut next = 0;
        let mut give_up = async |calls| {
            let mut sent = given_up(next..next + calls);
            next += calls;
            sent.extend(frame(PING, 0, 0, &[0; 8]));
            // The connection may have been cut.
            let _ = client.write_all(&sent).await;
            frames(&mut client).await
        };
        // Below the rate the client may go on for any time.
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
        // The client ignores the request to leave; another client is served meanwhile.
        let mut other = silent.connect();
        let mut sent = preface();
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
    async fn an_unused_connection_loses_its_slot_to_a_new_one() {
        let silent = Silent::start(ListenOptions {
            max_connections: 4,
            ..options(16)
        });
        let preface_received = async || {
            let mut client = silent.connect();
            client.write_all(&preface()).await.unwrap();
            client.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap();
            assert_eq!(frames(&mut client).await.last(), Some(&PING));
            client
        };
        let mut idle = preface_received().await;
        let mut busy = preface_received().await;
        let call = frame(HEADERS, 5, 1, &[0x83, 0x86, 0x84]);
        busy.write_all(&call).await.unwrap();
        let mut unfinished = [silent.connect(), silent.connect()];
        for client in &mut unfinished {
            client.write_all(b"P").await.unwrap();
        }
        sleep(Duration::from_secs(2)).await;
        let mut newcomers = vec![preface_received().await];
        assert!(is_cut(&mut unfinished[0]).await, "it has sent no preface");
        assert!(!is_cut(&mut unfinished[1]).await, "it came later");
        newcomers.push(preface_received().await);
        assert!(is_cut(&mut unfinished[1]).await);
        assert!(!is_cut(&mut idle).await);
        newcomers.push(preface_received().await);
        assert_eq!(frames(&mut idle).await.last(), Some(&GOAWAY));
        assert!(!is_cut(&mut busy).await);

        // While a connection is idle, the next one gets its slot; then the next one gets one call.
        for client in &mut newcomers[1..] {
            client.write_all(&call).await.unwrap();
        }
        let mut last = preface_received().await;
        assert_eq!(frames(&mut newcomers[0]).await.last(), Some(&GOAWAY));
        last.write_all(&call).await.unwrap();
        let mut spare = preface_received().await;
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
    async fn endless_connections_keep_no_client_from_sending_a_preface() {
        let silent = Silent::start(ListenOptions {
            max_connections: 4,
            ..options(16)
        });
        let mut idle = Vec::new();
        for _ in 0..2 {
            let mut client = silent.connect();
            client.write_all(&preface()).await.unwrap();
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
        assert!(
            is_cut(&mut newcomers[0]).await,
            "there is no other connection"
        );
    }

    /// A listener that answers calls with `bytes` that count as unread, or refuses them.
    fn answers(bytes: usize, unread: Arc<Unread>) -> mpsc::UnboundedSender<DuplexStream> {
        let service = move |_, reader: Arc<Reader>| {
            let account = reader.account(usize::MAX);
            service_fn(move |_: Request<Incoming>| {
                let answer = match account.try_hold(bytes) {
                    Ok(held) => {
                        let holds = Holds::default();
                        holds.add(held);
                        let data = http_body_util::Full::new(vec![0; bytes].into());
                        let mut answer = Response::new(Body::new(data));
                        answer.extensions_mut().insert(holds);
                        answer
                    }
                    Err(refusal) => to_status(&refusal, None).into_http(),
                };
                ready(Ok::<_, Infallible>(answer))
            })
        };
        let (door, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let (_stop, stopped) = watch::channel(false);
            serve(Handed(connections), service, options(16), unread, stopped).await;
        });
        door
    }

    /// Makes calls until one is refused, and reads no answer. Returns the answers and the connection.
    async fn hog(door: &mpsc::UnboundedSender<DuplexStream>) -> (Vec<h2::RecvStream>, Client) {
        let mut client = Client::connect(door, 0).await;
        let mut waiting = Vec::new();
        while let Some(answer) = client.ask().await {
            waiting.push(answer);
        }
        (waiting, client)
    }

    struct Client {
        calls: h2::client::SendRequest<bytes::Bytes>,
        connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
    }

    impl Client {
        async fn connect(door: &mpsc::UnboundedSender<DuplexStream>, window: u32) -> Self {
            let (client, io) = duplex(1 << 20);
            door.send(io).unwrap();
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window);
            let (calls, connection) = builder.handshake(client).await.unwrap();
            let connection = tokio::spawn(connection);
            Self { calls, connection }
        }

        /// The body of the answer; `None` if it is a refusal.
        async fn ask(&mut self) -> Option<h2::RecvStream> {
            let request = Request::post("http://x/").body(()).unwrap();
            let (answer, _) = self.calls.send_request(request, true).unwrap();
            let answer = answer.await.unwrap();
            let refused = answer.headers().contains_key("grpc-status");
            (!refused).then(|| answer.into_body())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_none_of_its_answers_is_cut_when_another_finds_no_room() {
        let unread = Unread::new(1000);
        let door = answers(100, Arc::clone(&unread));
        let (waiting, mut first) = hog(&door).await;
        assert_eq!(waiting.len(), 5, "half of the room");
        let (rest, second) = hog(&door).await;
        assert_eq!(rest.len(), 2, "half of the rest");
        let others = [hog(&door).await, hog(&door).await];

        let mut reader = Client::connect(&door, 1 << 16).await;
        assert!(reader.ask().await.is_none());
        sleep(STALL_TIMEOUT - STALL_PAUSE * 2).await;
        assert!(reader.ask().await.is_none());
        sleep(STALL_PAUSE).await;
        assert!(!first.connection.is_finished(), "it has some time left");

        sleep(STALL_PAUSE * 2).await;
        assert_eq!(
            unread.held(),
            900,
            "there is room unless another connection wants it"
        );
        assert!(reader.ask().await.is_none());
        let cut = timeout(STALL_PAUSE * 2, &mut first.connection).await;
        assert!(cut.is_ok(), "it held most");
        drop((waiting, first));
        let mut answer = reader.ask().await.expect("there is room again");
        let data = answer.data().await.unwrap().unwrap();
        assert_eq!(data.len(), 100);
        assert!(!second.connection.is_finished());
        assert!(others.iter().all(|(_, it)| !it.connection.is_finished()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_of_its_answers_is_not_cut() {
        let unread = Unread::new(1000);
        let door = answers(100, Arc::clone(&unread));
        let mut slow = Client::connect(&door, 1).await;
        let mut waiting = Vec::new();
        while let Some(answer) = slow.ask().await {
            waiting.push(answer);
        }
        let mut reader = Client::connect(&door, 1 << 16).await;
        let mut hogs = Vec::new();
        while reader.ask().await.is_some() {
            hogs.push(hog(&door).await);
        }
        for _ in 0..10 {
            let data = waiting[0].data().await.unwrap().unwrap();
            waiting[0]
                .flow_control()
                .release_capacity(data.len())
                .unwrap();
            sleep(STALL_TIMEOUT / 2).await;
            reader.ask().await;
        }
        assert!(!slow.connection.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_good_answer_is_idle_where_peers_are_expected() {
        let silent = Silent::start(ListenOptions {
            max_connections: 1,
            unserved_are_idle: true,
            ..options(16)
        });
        let mut sent = preface();
        sent.extend(frame(HEADERS, 5, 1, &[0x83, 0x86, 0x84]));
        sent.extend(frame(PING, 0, 0, &[0; 8]));
        let mut client = silent.connect();
        client.write_all(&sent).await.unwrap();
        assert_eq!(frames(&mut client).await.last(), Some(&PING));
        let mut peer = silent.connect();
        peer.write_all(&sent).await.unwrap();
        assert_eq!(frames(&mut peer).await.last(), Some(&PING));
        assert_eq!(frames(&mut client).await.last(), Some(&GOAWAY));
    }
}
