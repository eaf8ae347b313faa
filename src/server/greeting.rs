//! Connections on which nobody speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection that fails unless its peer says something soon.
///
/// HTTP/2 pings find a peer that has vanished, but only once it has greeted. One that never does,
/// such as a port scanner or a load balancer that only tries whether the port is open, would hold
/// its place for ever.
#[derive(Debug)]
pub(super) struct Greeted<I> {
    io: I,
    /// Until the first byte.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<I> Greeted<I> {
    /// Waits for the first byte from `io` for as long as `patience`.
    pub(super) fn within(patience: Duration, io: I) -> Self {
        Self {
            io,
            patience: Some(Box::pin(sleep(patience))),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeted<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, patience } = self.get_mut();
        let read = Pin::new(io).poll_read(cx, buf);
        let Some(sleep) = patience else {
            return read;
        };
        if read.is_pending() {
            ready!(sleep.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *patience = None;
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_speaks_is_not_waited_for() {
        let (_silent, io) = duplex(8);
        let began = Instant::now();
        let error = Greeted::within(PATIENCE, io).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_spoken_may_be_silent() {
        let (mut peer, io) = duplex(8);
        let mut io = Greeted::within(PATIENCE, io);
        let speak = async {
            sleep(PATIENCE / 2).await;
            peer.write_u8(1).await.unwrap();
            sleep(PATIENCE * 10).await;
            peer.write_u8(2).await.unwrap();
        };
        let listen = async {
            assert_eq!(io.read_u8().await.unwrap(), 1);
            assert_eq!(io.read_u8().await.unwrap(), 2);
        };
        tokio::join!(speak, listen);
    }
}
