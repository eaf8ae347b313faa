//! Listeners at the configured addresses.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::ServerError;

/// Connections that may wait until they are accepted, if the system allows as many. The system of a
/// process that hangs still takes connections: this is how peers tell it from a process that is gone.
const BACKLOG: u32 = 4096;

/// A listener at `addr`, the value of the setting `field`.
pub(super) async fn bind(field: &'static str, addr: &str) -> Result<TcpListener, ServerError> {
    listen_on(addr).await.map_err(|source| ServerError::Bind {
        field,
        addr: addr.to_owned(),
        source,
    })
}

/// A listener at the first address of `addr` that can be bound.
async fn listen_on(addr: &str) -> io::Result<TcpListener> {
    let mut ended = io::Error::new(io::ErrorKind::InvalidInput, "no address");
    for addr in tokio::net::lookup_host(addr).await? {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let listener = socket.and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            socket.listen(BACKLOG)
        });
        match listener {
            Ok(listener) => return Ok(listener),
            Err(error) => ended = error,
        }
    }
    Err(ended)
}

/// A listener that is bound already, in the place of the setting `field` with the value `addr`.
pub(super) fn adopt(
    field: &'static str,
    addr: &str,
    listener: std::net::TcpListener,
) -> Result<TcpListener, ServerError> {
    let adopted = listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener));
    adopted.map_err(|source| ServerError::Bind {
        field,
        addr: addr.to_owned(),
        source,
    })
}
