//! The first bytes of a connection.
//!
//! A connection takes a slot of the listener from the moment that it is accepted. HTTP/2 notices a peer
//! that has vanished only after both sides have sent their prefaces (hyper sets no time for that). So the
//! whole preface of the peer, HTTP/2's magic bytes and the SETTINGS that follow (RFC 9113, section 3.4),
//! has to arrive within one time limit. A peer that speaks another protocol is told what this port is
//! for, in its own protocol if that is known.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::resets::ResetCounter;
use super::slots::Slot;

/// The first bytes of an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame before its payload.
const FRAME_HEADER: usize = 9;

/// Most bytes of the first SETTINGS: enough for more settings than exist.
const MAX_SETTINGS: usize = 1_024;

/// The type of a SETTINGS frame.
const SETTINGS: u8 = 4;

/// Longest time in which a peer that speaks another protocol has to take its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Most bytes that are read of a peer that speaks another protocol, after its first ones. If the
/// connection were closed with unread bytes, the peer would lose the answer.
const MAX_IGNORED: u64 = 64 << 10;

const HTTP_1_HEADER: &str = "HTTP/1.1 505 HTTP Version Not Supported\r\n\
    Content-Type: text/plain\r\n\
    Connection: close\r\n\
    \r\n";

/// A TLS alert: no version of TLS is supported (RFC 8446, section 6: fatal, `protocol_version`).
const TLS_ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 70];

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPreface {
    /// The preface was not complete in time.
    #[error("the HTTP/2 preface did not arrive in time")]
    Late,
    /// The connection ended, or failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer speaks this protocol.
    #[error("the peer speaks {0}")]
    OtherProtocol(&'static str),
}

/// A connection whose peer has sent its preface. The bytes that have been read are read again.
#[derive(Debug)]
pub(super) struct Prefaced<I> {
    preface: Bytes,
    io: I,
    resets: ResetCounter,
    /// Whether other tasks get a turn before more is read.
    yields: bool,
    slot: Arc<Slot>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Prefaced<I> {
    /// Waits for the preface of the peer, for at most `limit`. Its `slot` is told of it, and of each
    /// stream that the peer resets. A peer that speaks another protocol gets `words` as its answer.
    ///
    /// # Errors
    ///
    /// [`NoPreface`]. A peer that speaks another protocol has been answered.
    pub(super) async fn accept(
        mut io: I,
        limit: Duration,
        words: &str,
        slot: Arc<Slot>,
    ) -> Result<Self, NoPreface> {
        let preface = timeout(limit, read_preface(&mut io))
            .await
            .map_err(|_| NoPreface::Late)?;
        match preface {
            Ok(preface) => {
                slot.preface_received();
                Ok(Self {
                    preface,
                    io,
                    resets: ResetCounter::new(PREFACE.len()),
                    yields: false,
                    slot,
                })
            }
            Err(NoPreface::OtherProtocol(protocol)) => {
                // The peer may not read the answer.
                let _ = timeout(ANSWER_TIMEOUT, answer(&mut io, protocol, words)).await;
                Err(NoPreface::OtherProtocol(protocol))
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads the preface and the SETTINGS, and possibly more.
async fn read_preface(io: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, NoPreface> {
    let mut read = BytesMut::with_capacity(PREFACE.len() + FRAME_HEADER + MAX_SETTINGS);
    loop {
        match missing(&read)? {
            0 => return Ok(read.freeze()),
            _ if io.read_buf(&mut read).await? == 0 => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            _ => {}
        }
    }
}

/// How many bytes of the preface are missing after `read`, at least.
fn missing(read: &[u8]) -> Result<usize, NoPreface> {
    if !read
        .iter()
        .zip(PREFACE)
        .all(|(byte, expected)| byte == expected)
    {
        return Err(NoPreface::OtherProtocol(protocol(read)));
    }
    let mut frame = Cursor::new(read.get(PREFACE.len()..).unwrap_or_default());
    if frame.remaining() < FRAME_HEADER {
        return Ok(PREFACE.len() + FRAME_HEADER - read.len());
    }
    let length = usize::try_from(frame.get_uint(3)).unwrap_or(usize::MAX);
    if frame.get_u8() != SETTINGS || length > MAX_SETTINGS {
        return Err(NoPreface::OtherProtocol("no valid HTTP/2"));
    }
    Ok((PREFACE.len() + FRAME_HEADER + length).saturating_sub(read.len()))
}

/// The protocol whose first bytes are `read`.
fn protocol(read: &[u8]) -> &'static str {
    match read {
        [b'*' | b'$', ..] => "the Redis protocol",
        [0x16, ..] => "TLS",
        [first, ..] if first.is_ascii_uppercase() => "HTTP/1",
        [first, ..] if first.is_ascii_alphabetic() => "the Redis protocol",
        _ => "an unknown protocol",
    }
}

/// Tells a peer that speaks another protocol the purpose of this port, and lets it read that.
async fn answer(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocol: &str,
    words: &str,
) -> io::Result<()> {
    let answer = match protocol {
        "TLS" => TLS_ALERT.to_vec(),
        "HTTP/1" => format!("{HTTP_1_HEADER}{words}\n").into_bytes(),
        "the Redis protocol" => format!("-ERR {words}\r\n").into_bytes(),
        _ => format!("{words}\n").into_bytes(),
    };
    io.write_all(&answer).await?;
    io.shutdown().await?;
    tokio::io::copy(&mut io.take(MAX_IGNORED), &mut tokio::io::sink()).await?;
    Ok(())
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefaced<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            preface,
            io,
            resets,
            yields,
            slot,
        } = self.get_mut();
        if std::mem::take(yields) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = if preface.is_empty() {
            Pin::new(io).poll_read(cx, buf)
        } else {
            let part = preface.split_to(preface.len().min(buf.remaining()));
            buf.put_slice(&part);
            Poll::Ready(Ok(()))
        };
        let read = buf.filled().get(before..).unwrap_or_default();
        let given_up = resets.count(read);
        *yields = given_up > 0;
        match slot.reset(given_up) {
            true => polled,
            false => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefaced<I> {
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
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::server::slots::Slots;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A preface, SETTINGS with one setting, and the first bytes after them.
    fn preface() -> Vec<u8> {
        let settings = [0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
        [PREFACE, &settings, b"more"].concat()
    }

    fn slot() -> Arc<Slot> {
        let peer = ([127, 0, 0, 1], 1).into();
        let reader = crate::driver::Unread::new(0).reader();
        Slots::new(1, false).prepare(peer, reader, 1)
    }

    const WORDS: &str = "This is Seshat.";

    fn pair() -> (DuplexStream, DuplexStream) {
        duplex(4096)
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_of_the_preface_are_read_again() {
        let preface = preface();
        let (mut peer, io) = pair();
        let speak = async {
            for byte in &preface {
                peer.write_u8(*byte).await.unwrap();
                tokio::task::yield_now().await;
            }
            // After its preface, a peer may be silent.
            sleep(LIMIT * 10).await;
            peer.write_all(b", much later").await.unwrap();
            drop(peer);
        };
        let listen = async {
            let mut io = Prefaced::accept(io, LIMIT, WORDS, slot()).await.unwrap();
            let mut read = Vec::new();
            io.read_to_end(&mut read).await.unwrap();
            read
        };
        let ((), read) = tokio::join!(speak, listen);
        assert_eq!(read, [&preface[..], b", much later"].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_sends_a_preface_or_never_ends_is_not_waited_for() {
        let whole = preface();
        let settings_end = whole.len() - "more".len();
        for sent in [0, 1, PREFACE.len(), PREFACE.len() + 5, settings_end - 1] {
            let (mut peer, io) = pair();
            peer.write_all(&whole[..sent]).await.unwrap();
            let began = Instant::now();
            let error = Prefaced::accept(io, LIMIT, WORDS, slot())
                .await
                .unwrap_err();
            assert!(matches!(error, NoPreface::Late), "{sent}: {error}");
            assert_eq!(began.elapsed(), LIMIT, "{sent}");
        }
        let (mut peer, io) = pair();
        peer.write_all(&whole[..settings_end]).await.unwrap();
        assert!(Prefaced::accept(io, LIMIT, WORDS, slot()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_another_protocol_is_told_what_this_is() {
        let http = format!("{HTTP_1_HEADER}{WORDS}\n");
        let redis = format!("-ERR {WORDS}\r\n");
        let plain = format!("{WORDS}\n");
        for (sent, protocol, answered) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP/1", http.as_bytes()),
            (b"PUT / HTTP/1.1\r\n\r\n", "HTTP/1", http.as_bytes()),
            (
                b"*1\r\n$4\r\nPING\r\n",
                "the Redis protocol",
                redis.as_bytes(),
            ),
            (b"ping\r\n", "the Redis protocol", redis.as_bytes()),
            (b"\x16\x03\x01\x02\x00\x01", "TLS", TLS_ALERT),
            (b"\x00\x01", "an unknown protocol", plain.as_bytes()),
            (b"{\"get\":1}", "an unknown protocol", plain.as_bytes()),
        ] {
            let (mut peer, io) = pair();
            let talk = async {
                peer.write_all(sent).await.unwrap();
                // More bytes than are read of a preface.
                peer.write_all(&[b'.'; 16 << 10]).await.unwrap();
                let mut answer = Vec::new();
                peer.read_to_end(&mut answer).await.unwrap();
                answer
            };
            let accept = Prefaced::accept(io, LIMIT, WORDS, slot());
            let (answer, accepted) = tokio::join!(talk, accept);
            let error = accepted.unwrap_err();
            assert_eq!(error.to_string(), format!("the peer speaks {protocol}"));
            assert_eq!(answer, answered, "{protocol}");
        }
    }

    #[tokio::test]
    async fn frames_that_are_no_settings_and_endless_settings_are_refused() {
        for header in [
            [0, 0, 6, 1, 0, 0, 0, 0, 1],
            [1, 0, 0, SETTINGS, 0, 0, 0, 0, 0],
        ] {
            let (mut peer, io) = pair();
            peer.write_all(&[PREFACE, &header].concat()).await.unwrap();
            let error = Prefaced::accept(io, LIMIT, WORDS, slot())
                .await
                .unwrap_err();
            assert!(matches!(error, NoPreface::OtherProtocol(_)), "{error}");
        }
    }
}
