//! A made-up node: an address, a role, and connections.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Script;
use super::gate::{Gate, Gated};
use super::role::{Kind, Role};
use super::serve::Call;

/// Bytes that a client may send before they are read.
const WINDOW: u32 = 16 << 20;

/// Calls at once on a connection: more than a session has writes outstanding.
const MAX_CALLS: u32 = 4096;

/// A node. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its address.
    pub(crate) address: String,
    at: SocketAddr,
    listening: Listening,
    shared: Arc<Shared>,
}

/// Whether it accepts connections. A closed node keeps its port, so that no other process gets it.
#[derive(Debug)]
enum Listening {
    No { _port: TcpSocket },
    Yes(JoinHandle<()>),
    Between,
}

/// What its connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) script: Arc<Script>,
    /// The role; none before the first.
    pub(crate) role: watch::Sender<Option<Role>>,
    gate: Arc<Gate>,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
    /// Connections that are open.
    open: watch::Sender<usize>,
}

/// An open connection.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.send_modify(|open| *open += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.cut_all();
    }
}

impl Node {
    /// A node that does not listen yet.
    pub(crate) fn bind(name: &str, script: Arc<Script>) -> Result<Self> {
        let port = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let at = port.local_addr()?;
        Ok(Self {
            address: at.to_string(),
            at,
            listening: Listening::No { _port: port },
            shared: Arc::new(Shared {
                name: name.to_owned(),
                script,
                role: watch::Sender::new(None),
                gate: Arc::default(),
                cuts: watch::Sender::new(0),
                open: watch::Sender::new(0),
            }),
        })
    }

    /// The node has this role from now on.
    pub(crate) async fn set(&mut self, role: Role) -> Result<()> {
        let (is_silent, is_closed) = (
            matches!(role.kind, Kind::Silent),
            matches!(role.kind, Kind::Closed),
        );
        self.shared.gate.set(is_silent);
        self.shared.role.send_replace(Some(role));
        match (is_closed, &self.listening) {
            (true, Listening::Yes(_)) => {
                self.stop().await;
                self.listening = Listening::No {
                    _port: bound(self.at)?,
                };
            }
            (false, Listening::No { .. }) => {
                self.listening = Listening::Between;
                let listener = bound(self.at)?.listen(1024)?;
                self.listening =
                    Listening::Yes(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
            }
            _ => {}
        }
        Ok(())
    }

    /// Stops listening, and cuts all connections.
    fn cut_all(&mut self) -> Option<JoinHandle<()>> {
        let listening = std::mem::replace(&mut self.listening, Listening::Between);
        self.shared.gate.set(false);
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        match listening {
            Listening::Yes(accepting) => {
                accepting.abort();
                Some(accepting)
            }
            Listening::No { .. } | Listening::Between => None,
        }
    }

    /// As [`cut_all`](Self::cut_all), and waits until it is so.
    async fn stop(&mut self) {
        if let Some(accepting) = self.cut_all() {
            // It was aborted.
            let _ = accepting.await;
        }
        let _ = self
            .shared
            .open
            .subscribe()
            .wait_for(|open| *open == 0)
            .await;
    }
}

fn bound(at: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut cuts = shared.cuts.subscribe();
        cuts.mark_unchanged();
        tokio::spawn(connection(stream, cuts, Open::new(&shared)));
    }
}

async fn connection(stream: TcpStream, mut all: watch::Receiver<u64>, open: Open) {
    let shared = Arc::clone(&open.0);
    let (cut, mut this) = watch::channel(());
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Gated::new(stream, Arc::clone(&shared.gate)));
    let cut = Arc::new(cut);
    let serve =
        service_fn(move |request| Call::answer(Arc::clone(&shared), Arc::clone(&cut), request));
    let serving = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MAX_CALLS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_connection(io, serve);
    tokio::select! {
        // A client that goes away is no fault.
        _ = serving => {}
        _ = all.changed() => {}
        _ = this.changed() => {}
    }
}
