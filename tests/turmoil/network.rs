//! Listeners and connections of the simulated network, for the nodes and the clients.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use http::Uri;
use hyper_util::rt::TokioIo;
use seshat::transport::Connector;
use tonic::transport::{Channel, Endpoint};
use turmoil::net::{TcpListener, TcpStream};

/// The address at which every node listens for clients.
pub(crate) const CLIENT_PORT: u16 = 6379;

/// The address at which every node listens for other nodes.
pub(crate) const INTERNAL_PORT: u16 = 7379;

/// The client address of node `id`.
pub(crate) fn client_addr(id: u16) -> String {
    format!("n{id}:{CLIENT_PORT}")
}

/// The internal address of node `id`.
pub(crate) fn internal_addr(id: u16) -> String {
    format!("n{id}:{INTERNAL_PORT}")
}

/// A port of a simulated host.
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        Ok(Self(listener))
    }
}

impl seshat::server::Listener for Listener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The connector of a node to the others.
pub(crate) fn connector() -> Connector {
    Connector::new(channel).simulated()
}

/// A channel over simulated TCP, which connects on first use and resolves the host's name then.
pub(crate) fn channel(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(|uri: Uri| async move {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(io::Error::other(format!("{uri} has no host and port")));
        };
        let stream = TcpStream::connect((host.to_owned(), port)).await?;
        Ok(TokioIo::new(stream))
    }))
}
