//! Requests of which only a part has come.
//!
//! tonic makes room for a whole message as soon as its length is there, and keeps what comes of it for as
//! long as the call lasts, before any handler sees it. So a message that does not come at once counts at
//! the gate by the length that it announces, until all of it is there, and it has only so much time to
//! come. Where there is no room a single request is refused, surely not applied, and a stream is held
//! back. A message that is there at once, as nearly all are, costs a look at its length.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::codegen::{Body, StdError};

use super::gate::{Gate, Pass};
use super::to_status;
use crate::deadline::after;
use crate::error::{Reason, Refusal};

/// How long a message may take to come, and for how many bytes it may take a second more.
const PATIENCE: Duration = Duration::from_secs(10);
const SLOWEST_BYTES: usize = 64 << 10;

/// How often a stream that is held back looks for room.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What the requests of a connection have in common.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) gate: Gate,
    /// A larger message is refused by whoever decodes it, and no room is made for it.
    pub(super) max_message_bytes: usize,
}

/// The body of a request. It is small, because it is moved often on its way to whoever reads it.
#[derive(Debug)]
pub(super) struct Arriving<B> {
    body: B,
    arrivals: Arc<Arrivals>,
    /// Whether the call is a stream, which is held back, or a single request.
    is_stream: bool,
    /// There is none as long as each message comes at once.
    parts: Option<Box<Parts>>,
}

/// Messages that come in parts.
#[derive(Debug, Default)]
struct Parts {
    messages: Messages,
    /// What the message that is on its way counts for.
    pass: Option<Pass>,
    /// Bytes for which there is no room yet.
    kept: Option<Bytes>,
    /// When the message is late.
    late: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, arrivals: Arc<Arrivals>, is_stream: bool) -> Self {
        Self {
            body,
            arrivals,
            is_stream,
            parts: None,
        }
    }

    /// Counts the message of which `data` is the last that has come.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    fn count(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if self.parts.is_none() && is_whole(data) {
            return Ok(());
        }
        let parts = self.parts.get_or_insert_default();
        parts.count(data, &self.arrivals)
    }
}

impl Parts {
    fn count(&mut self, data: &[u8], arrivals: &Arrivals) -> Result<(), Refusal> {
        let before = self.messages;
        let begun = self.messages.follow(data);
        let length = match begun {
            Some(length) if self.messages.missing > 0 => length,
            // It goes on, or all of it is there.
            _ if self.messages.missing > 0 => return Ok(()),
            _ => 0,
        };
        self.pass = match length {
            // What is too large is refused by whoever decodes it, and no room is made for it.
            1.. if length <= arrivals.max_message_bytes => {
                let pass = arrivals.gate.announce(length);
                Some(pass.inspect_err(|_| self.messages = before)?)
            }
            _ => None,
        };
        self.late = None;
        Ok(())
    }

    /// Whether the message on its way is late; otherwise it wakes when it is, or after `pause`.
    fn is_late(&mut self, pause: Option<Duration>, context: &mut Context<'_>) -> bool {
        let length = self.messages.length;
        let (until, timer) = self.late.get_or_insert_with(|| {
            let until = after(patience(length));
            (until, Box::pin(sleep_until(until)))
        });
        let wake = pause.map_or(*until, |pause| after(pause).min(*until));
        if timer.deadline() != wake {
            timer.as_mut().reset(wake);
        }
        timer.as_mut().poll(context).is_ready() && Instant::now() >= *until
    }
}

/// Whether `data` is one message, with nothing before or behind it.
fn is_whole(data: &[u8]) -> bool {
    let Some((&[_, a, b, c, d], message)) = data.split_first_chunk::<PREFIX>() else {
        return false;
    };
    usize::try_from(u32::from_be_bytes([a, b, c, d])) == Ok(message.len())
}

/// How long a message of `length` may take to come.
fn patience(length: usize) -> Duration {
    let more = u64::try_from(length / SLOWEST_BYTES).unwrap_or(u64::MAX);
    PATIENCE.saturating_add(Duration::from_secs(more))
}

fn late(length: usize) -> Refusal {
    let seconds = patience(length).as_secs();
    Refusal::not_applied(Reason::InvalidRequest {
        field: "message",
        rule: format!("all of it has to come within {seconds} s"),
    })
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        let refused = |refusal: &Refusal| Poll::Ready(Some(Err(to_status(refusal, None).into())));
        let kept = this.parts.as_mut().and_then(|parts| parts.kept.take());
        let data = match kept {
            Some(data) => data,
            None => match (
                Pin::new(&mut this.body).poll_frame(context),
                &mut this.parts,
            ) {
                (Poll::Pending, Some(parts)) if parts.messages.missing > 0 => {
                    return match parts.is_late(None, context) {
                        true => refused(&late(parts.messages.length)),
                        false => Poll::Pending,
                    };
                }
                (frame, _) => match ready!(frame).transpose().map_err(Into::into)? {
                    None => return Poll::Ready(None),
                    Some(frame) => match frame.into_data() {
                        Ok(data) => data,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                },
            },
        };
        let Err(refusal) = this.count(&data) else {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        };
        if let Some(parts) = this.parts.as_mut().filter(|_| this.is_stream)
            && !parts.is_late(Some(PAUSE), context)
        {
            parts.kept = Some(data);
            return Poll::Pending;
        }
        refused(&refusal)
    }

    fn is_end_stream(&self) -> bool {
        let keeps = self
            .parts
            .as_ref()
            .is_some_and(|parts| parts.kept.is_some());
        !keeps && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where a body is among its messages.
#[derive(Debug, Default, Clone, Copy)]
struct Messages {
    /// What has come of a prefix.
    prefix: [u8; PREFIX],
    come: usize,
    /// Bytes of the last message, and those of them that have not come.
    length: usize,
    missing: usize,
}

impl Messages {
    /// Goes on past `data`; the length of the last message that begins in it.
    fn follow(&mut self, mut data: &[u8]) -> Option<usize> {
        let mut begun = None;
        loop {
            let (_, rest) = data.split_at(self.missing.min(data.len()));
            self.missing -= data.len() - rest.len();
            if rest.is_empty() {
                return begun;
            }
            let (prefix, rest) = rest.split_at((PREFIX - self.come).min(rest.len()));
            for (byte, come) in self.prefix.iter_mut().skip(self.come).zip(prefix) {
                *byte = *come;
            }
            self.come += prefix.len();
            if self.come < PREFIX {
                return begun;
            }
            let [_, length @ ..] = self.prefix;
            self.length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            (self.missing, self.come) = (self.length, 0);
            begun = Some(self.length);
            data = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::time::{advance, timeout};
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::{Code, Status};

    use super::*;

    const MAX: usize = 100;

    fn message(length: usize) -> Vec<u8> {
        let announced = u32::try_from(length).unwrap().to_be_bytes();
        [&[0], &announced[..], &vec![7; length]].concat()
    }

    type Pieces = UnboundedSender<Result<Frame<Bytes>, Status>>;

    struct Request {
        pieces: Pieces,
        body: Pin<Box<dyn Body<Data = Bytes, Error = StdError> + Send>>,
    }

    impl Request {
        fn new(gate: &Gate, is_stream: bool) -> Self {
            let (pieces, body) = unbounded_channel();
            let arrivals = Arrivals {
                gate: gate.clone(),
                max_message_bytes: MAX,
            };
            let body = StreamBody::new(UnboundedReceiverStream::new(body));
            let body = Box::pin(Arriving::new(body, Arc::new(arrivals), is_stream));
            Self { pieces, body }
        }

        async fn comes(&mut self, piece: &[u8]) -> Result<(), Status> {
            let piece = Bytes::copy_from_slice(piece);
            self.pieces.send(Ok(Frame::data(piece.clone()))).unwrap();
            let data = self.next().await?;
            assert_eq!(data, piece);
            Ok(())
        }

        async fn next(&mut self) -> Result<Bytes, Status> {
            let frame = self.body.frame().await.expect("no end");
            let frame = frame.map_err(|error| *error.downcast::<Status>().unwrap())?;
            Ok(frame.into_data().unwrap())
        }
    }

    #[test]
    fn messages_are_followed_however_they_come() {
        let bytes: Vec<u8> = [3, 0, 700, 1].into_iter().flat_map(message).collect();
        for size in 1..bytes.len() {
            let mut messages = Messages::default();
            let begun = bytes.chunks(size).filter_map(|it| messages.follow(it));
            assert_eq!(begun.last(), Some(1));
            assert_eq!(messages.missing, 0, "{size} bytes at a time");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_counts_from_its_length_to_its_end() {
        let gate = Gate::new(10, MAX);
        let has_room = || gate.for_another_connection().enter(50).is_ok();
        let mut request = Request::new(&gate, false);
        let sent = message(60);
        request.comes(&sent[..5]).await.unwrap();
        assert!(!has_room(), "nothing but its length has come");
        request.comes(&sent[5..20]).await.unwrap();
        assert!(!has_room());
        request.comes(&sent[20..]).await.unwrap();
        assert!(has_room());
        request.comes(&message(60)).await.unwrap();
        assert!(has_room(), "it has come at once");
        request.comes(&message(60)[..5]).await.unwrap();
        assert!(!has_room());
        drop(request);
        assert!(has_room());
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_a_request_is_refused_and_a_stream_held_back() {
        let gate = Gate::new(10, MAX);
        let full = gate.for_another_connection().enter(60).unwrap();
        let refusal = Request::new(&gate, false).comes(&message(50)[..9]).await;
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(!refusal.details().is_empty());

        let mut stream = Request::new(&gate, true);
        let sent = message(50);
        let coming = stream.comes(&sent[..9]);
        assert!(timeout(PATIENCE / 2, coming).await.is_err(), "it waits");
        drop(full);
        assert_eq!(stream.next().await.unwrap(), &sent[..9]);
        assert!(gate.for_another_connection().enter(60).is_err());

        let _full = gate.enter(50).unwrap();
        let mut stream = Request::new(&gate, true);
        let began = Instant::now();
        let refusal = stream.comes(&sent[..9]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_end_is_refused_and_a_silent_stream_is_not() {
        let gate = Gate::new(10, MAX);
        let mut request = Request::new(&gate, false);
        request.comes(&message(50)[..20]).await.unwrap();
        advance(PATIENCE / 2).await;
        let began = Instant::now();
        let refusal = request.next().await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert_eq!(
            refusal.message(),
            "message: all of it has to come within 10 s (not applied)"
        );
        assert!(began.elapsed() <= PATIENCE);

        let mut stream = Request::new(&gate, true);
        stream.comes(&message(50)).await.unwrap();
        assert!(timeout(PATIENCE * 10, stream.next()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_too_large_is_left_to_whoever_decodes_it() {
        let gate = Gate::new(10, MAX);
        let mut request = Request::new(&gate, false);
        request.comes(&message(MAX + 1)[..9]).await.unwrap();
        assert!(gate.for_another_connection().enter(MAX).is_ok());
    }
}
