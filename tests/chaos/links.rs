//! The links between the nodes, each direction of which can be slowed down or broken.
//!
//! Each node is reached through a proxy. The addresses of the members are replicated state, so all nodes
//! reach it at the same address, and the proxy finds out for each connection which of them opened it.
//! gRPC replies travel on the connection of the request. So a rule does not depend on the node that
//! opened a connection: it holds for the bytes *from* one node *to* another, on connections of either.
//!
//! A connection whose bytes were dropped stays open, as in a network that drops packets. TCP would send
//! them again once the network is whole; a proxy cannot, and later bytes would make no sense to the
//! receiver. So a connection that has lost bytes delivers nothing more in that direction, and breaks
//! when the link heals.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::MOST_NODES;
use crate::openers::Openers;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that may be under way in one direction of a connection. At most 64 MiB, and in practice
/// far less.
const CHUNKS: usize = 1024;

/// The fate of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They arrive.
    Arrive,
    /// They vanish, and connections stay open.
    Vanish,
    /// Connections break, and new ones break at once.
    Break,
}

/// The capacity of a link. All its connections share it, in the order of their bytes: urgent messages
/// wait behind the bytes in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Throttle {
    pub(crate) bytes_per_second: u32,
    /// Bytes that wait in the buffer before the link. Connections with more are held back.
    pub(crate) buffer_bytes: u32,
}

impl Throttle {
    fn takes(&self, bytes: usize) -> Duration {
        let bytes = u32::try_from(bytes).expect("few bytes");
        Duration::from_secs(1) * bytes / self.bytes_per_second
    }
}

/// One direction between two nodes.
#[derive(Debug, Clone, Copy)]
struct Rule {
    fate: Fate,
    delay: Duration,
    throttle: Option<Throttle>,
}

/// The rules of all links. Nodes are counted from 0.
#[derive(Debug)]
pub(crate) struct Links {
    rules: Vec<Vec<Direction>>,
}

/// One direction between two nodes, and the time when it has carried all its bytes.
#[derive(Debug)]
struct Direction {
    rule: watch::Sender<Rule>,
    free_at: Arc<Mutex<Instant>>,
}

/// A direction as a connection sees it.
#[derive(Debug)]
struct Way {
    rule: watch::Receiver<Rule>,
    free_at: Arc<Mutex<Instant>>,
}

impl Direction {
    fn way(&self) -> Way {
        Way {
            rule: self.rule.subscribe(),
            free_at: Arc::clone(&self.free_at),
        }
    }
}

impl Way {
    /// The time when so many bytes that come now have been carried. Waits until there is room for them
    /// in the buffer.
    async fn carry(&self, bytes: usize) -> Instant {
        let Some(throttle) = self.rule.borrow().throttle else {
            return Instant::now();
        };
        let buffer = usize::try_from(throttle.buffer_bytes).expect("64 bits");
        loop {
            let now = Instant::now();
            let room_at = {
                let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
                let room_at = *free_at - throttle.takes(buffer);
                if room_at <= now {
                    *free_at = now.max(*free_at) + throttle.takes(bytes);
                    return *free_at;
                }
                room_at
            };
            sleep_until(room_at).await;
        }
    }
}

/// The proxies of all nodes; dropping them ends them.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    tasks: JoinSet<()>,
}

impl Links {
    /// Links that are whole.
    pub(crate) fn new() -> Self {
        let rule = || Direction {
            rule: watch::Sender::new(Rule {
                fate: Fate::Arrive,
                delay: Duration::ZERO,
                throttle: None,
            }),
            free_at: Arc::new(Mutex::new(Instant::now())),
        };
        let rules = (0..MOST_NODES).map(|_| (0..MOST_NODES).map(|_| rule()).collect());
        Self {
            rules: rules.collect(),
        }
    }

    fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Rule)) {
        self.rules[from][to].rule.send_modify(change);
    }

    /// Everything that `node` sends to others gets `fate`.
    pub(crate) fn outgoing(&self, node: usize, fate: Fate) {
        for other in (0..MOST_NODES).filter(|&other| other != node) {
            self.change(node, other, |rule| rule.fate = fate);
        }
    }

    /// Everything that others send to `node` gets `fate`.
    pub(crate) fn incoming(&self, node: usize, fate: Fate) {
        for other in (0..MOST_NODES).filter(|&other| other != node) {
            self.change(other, node, |rule| rule.fate = fate);
        }
    }

    /// Everything that two nodes send to each other gets `fate`.
    pub(crate) fn between(&self, one: usize, other: usize, fate: Fate) {
        for (from, to) in [(one, other), (other, one)] {
            self.change(from, to, |rule| rule.fate = fate);
        }
    }

    /// Cuts `node` off from the others, both ways.
    pub(crate) fn isolate(&self, node: usize, fate: Fate) {
        self.outgoing(node, fate);
        self.incoming(node, fate);
    }

    /// Every byte takes `delay`, in each direction of every link.
    pub(crate) fn delay(&self, delay: Duration) {
        for (from, to) in pairs() {
            self.change(from, to, |rule| rule.delay = delay);
        }
    }

    /// The bytes that others send to `node` share the capacity of `throttle`, for each of them.
    pub(crate) fn throttle(&self, node: usize, throttle: Throttle) {
        for other in (0..MOST_NODES).filter(|&other| other != node) {
            self.change(other, node, |rule| rule.throttle = Some(throttle));
        }
    }

    /// Makes every link whole again.
    pub(crate) fn heal(&self) {
        for (from, to) in pairs() {
            self.change(from, to, |rule| {
                rule.fate = Fate::Arrive;
                rule.delay = Duration::ZERO;
                rule.throttle = None;
            });
        }
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..MOST_NODES).flat_map(|from| (0..MOST_NODES).map(move |to| (from, to)))
}

impl Proxies {
    /// Adds the proxy through which the `openers` reach node `to`, which listens on `target`, and
    /// gives the proxy's address.
    pub(crate) async fn add(
        &mut self,
        links: &Arc<Links>,
        openers: &Openers,
        to: usize,
        target: SocketAddr,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (links, openers) = (Arc::clone(links), openers.clone());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (opener, local) = listener.accept().await.expect("a connection");
                while connections.try_join_next().is_some() {}
                let (links, openers) = (Arc::clone(&links), openers.clone());
                connections.spawn(async move {
                    // A process that has gone does not wait.
                    if let Some(from) = openers.find(local, address).await {
                        let forth = links.rules[from][to].way();
                        let back = links.rules[to][from].way();
                        carry(opener, target, forth, back).await;
                    }
                });
            }
        });
        address
    }
}

/// Carries one connection until either direction has ended.
async fn carry(opener: TcpStream, target: SocketAddr, forth: Way, back: Way) {
    let broken = |way: &Way| way.rule.borrow().fate == Fate::Break;
    if broken(&forth) || broken(&back) {
        return;
    }
    let Ok(acceptor) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&opener, &acceptor] {
        let _ = stream.set_nodelay(true);
    }
    let (opener_in, opener_out) = opener.into_split();
    let (acceptor_in, acceptor_out) = acceptor.into_split();
    tokio::select! {
        () = direction(opener_in, acceptor_out, forth) => {}
        () = direction(acceptor_in, opener_out, back) => {}
    }
}

/// Carries bytes in one direction. Returns when the connection is to be closed.
async fn direction(mut reader: OwnedReadHalf, writer: OwnedWriteHalf, way: Way) {
    let (chunks, arriving) = mpsc::channel(CHUNKS);
    let rule = way.rule.clone();
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(bytes @ 1..) = reader.read(&mut buffer).await {
            let carried = way.carry(bytes).await;
            let chunk = (carried, buffer[..bytes].to_vec());
            if chunks.send(chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = deliver(arriving, writer, rule) => {}
        // When the reader has seen the end, the bytes under way are still delivered.
        () = async { read.await; pending().await } => {}
    }
}

async fn deliver(
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut writer: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
) {
    let mut lost = false;
    loop {
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            changed = rule.changed() => {
                let fate = rule.borrow_and_update().fate;
                if changed.is_err() || fate == Fate::Break || (lost && fate == Fate::Arrive) {
                    return;
                }
                continue;
            }
        };
        let Some((carried, bytes)) = chunk else {
            return;
        };
        let arrives = carried + rule.borrow().delay;
        if arrives > Instant::now() {
            sleep_until(arrives).await;
        }
        match rule.borrow().fate {
            Fate::Break => return,
            Fate::Vanish => lost = true,
            Fate::Arrive => {}
        }
        if !lost && writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
