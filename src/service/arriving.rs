//! Requests of which only a part has arrived.
//!
//! tonic allocates memory for a whole message as soon as it has read its length, and keeps the parts for as
//! long as the call lasts, before any handler sees them. So a message that does not arrive at once counts
//! in admission control with the length that it announces, until all of it has arrived, and the time for that
//! is limited. If there is no capacity, a single request is refused, surely not applied, and a stream is
//! held back until there is some. For a single request the times to begin and to end are limited as well,
//! and it counts until it has ended; a stream may be silent between its messages. A request that arrives at
//! once, as nearly all do, costs one comparison of its length.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::codegen::{Body, StdError};

use super::admission::{AdmissionControl, Permit};
use super::to_status;
use crate::deadline::after;
use crate::error::{Reason, Refusal};

/// Longest time for a message to begin, to arrive and to end its call. It may take a second more to arrive
/// for each [`SLOWEST_BYTES`].
const MAX_WAIT: Duration = Duration::from_secs(10);
const SLOWEST_BYTES: usize = 64 << 10;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) admission: AdmissionControl,
    /// The decoder refuses a larger message, and no memory is allocated for it.
    pub(super) max_message_bytes: usize,
}

/// The body of a request. It is small, because it is moved often on its way to the handler.
pub(super) struct Arriving<B> {
    body: B,
    arrivals: Arc<Arrivals>,
    /// Whether the call is a stream, which is held back, or a single request.
    is_stream: bool,
    /// Bytes of a single request that has arrived and does not count.
    uncounted: usize,
    /// `None` as long as each message arrives at once.
    parts: Option<Box<Parts>>,
}

/// Messages that arrive in parts.
#[derive(Default)]
struct Parts {
    messages: Messages,
    /// The permit of the message that is arriving.
    permit: Option<Permit>,
    held_back: Option<HeldBack>,
    /// Ends when the awaited message, or its end, is late.
    late: Option<Pin<Box<Sleep>>>,
}

/// The beginning of a message for which there is no capacity yet.
struct HeldBack {
    data: Bytes,
    refusal: Refusal,
    room: BoxFuture<'static, Result<Permit, Refusal>>,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, arrivals: Arc<Arrivals>, is_stream: bool) -> Self {
        Self {
            body,
            arrivals,
            is_stream,
            uncounted: 0,
            parts: None,
        }
    }

    /// The part of the received `data` that may be passed on; `None` if all of it is held back.
    ///
    /// # Errors
    ///
    /// There is no capacity for a single request.
    fn take(&mut self, mut data: Bytes) -> Result<Option<Bytes>, Refusal> {
        if self.parts.is_none()
            && let Some(length) = whole(&data)
        {
            self.uncounted = length;
            return Ok(Some(data));
        }
        let parts = self.parts.get_or_insert_default();
        let was_missing = parts.messages.missing > 0;
        let begun = parts.messages.follow(&data);
        let is_missing = parts.messages.missing > 0;
        if begun.is_some() || (was_missing && !is_missing) {
            parts.late = None;
        }
        if self.is_stream && !is_missing {
            parts.permit = None;
        }
        let Some(Begun { at, length }) = begun else {
            return Ok(Some(data));
        };
        self.uncounted = length;
        if !is_missing {
            return Ok(Some(data));
        }
        self.uncounted = 0;
        let Err(refusal) = parts.announce(length, &self.arrivals) else {
            return Ok(Some(data));
        };
        if !self.is_stream {
            return Err(refusal);
        }
        let passed_on = data.split_to(at);
        let admission = self.arrivals.admission.clone();
        parts.held_back = Some(HeldBack {
            data,
            refusal,
            room: admission.announce_in_turn(length).boxed(),
        });
        Ok(Some(passed_on).filter(|data| !data.is_empty()))
    }

    /// No data has arrived.
    ///
    /// # Errors
    ///
    /// The data is late, or there is no capacity for a single request that has arrived and does not end.
    fn wait(&mut self, context: &mut Context<'_>) -> Result<(), Refusal> {
        let in_message = |parts: &Parts| parts.messages.in_message();
        if self.is_stream && !self.parts.as_deref().is_some_and(in_message) {
            return Ok(());
        }
        let parts = self.parts.get_or_insert_default();
        let uncounted = std::mem::take(&mut self.uncounted);
        if uncounted > 0 && !self.is_stream {
            parts.announce(uncounted, &self.arrivals)?;
        }
        match parts.is_late(context) {
            true => Err(late(parts.messages.length)),
            false => Ok(()),
        }
    }
}

impl Parts {
    /// Counts a message that is arriving.
    fn announce(&mut self, length: usize, arrivals: &Arrivals) -> Result<(), Refusal> {
        // The message before has arrived.
        self.permit = None;
        // The decoder refuses a larger message, and no memory is allocated for it.
        if length <= arrivals.max_message_bytes {
            self.permit = Some(arrivals.admission.announce(length)?);
        }
        Ok(())
    }

    /// The data that is held back, as soon as there is capacity for it; `None` if no data is held back.
    fn find_room(&mut self, context: &mut Context<'_>) -> Option<Poll<Result<Bytes, Refusal>>> {
        let is_late = self.held_back.is_some() && self.is_late(context);
        let held_back = self.held_back.as_mut()?;
        let permit = match held_back.room.poll_unpin(context) {
            Poll::Ready(permit) => permit,
            Poll::Pending if is_late => Err(held_back.refusal.clone()),
            Poll::Pending => return Some(Poll::Pending),
        };
        let data = std::mem::take(&mut held_back.data);
        (self.held_back, self.late) = (None, None);
        let counts = |permit| self.permit = Some(permit);
        Some(Poll::Ready(permit.map(counts).map(|()| data)))
    }

    /// Whether the awaited data is late. If it is not, the task is woken when it is.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let length = self.messages.length;
        let timer = self
            .late
            .get_or_insert_with(|| Box::pin(sleep_until(after(max_wait(length)))));
        timer.as_mut().poll(context).is_ready()
    }
}

/// The length of the message in `data`, if `data` is exactly one message.
fn whole(data: &[u8]) -> Option<usize> {
    let (&[_, a, b, c, d], message) = data.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (length == message.len()).then_some(length)
}

/// Longest time for a message of `length` bytes to arrive.
fn max_wait(length: usize) -> Duration {
    let more = u64::try_from(length / SLOWEST_BYTES).unwrap_or(u64::MAX);
    MAX_WAIT.saturating_add(Duration::from_secs(more))
}

fn late(length: usize) -> Refusal {
    let seconds = max_wait(length).as_secs();
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
        loop {
            let parts = this.parts.as_deref_mut();
            if let Some(held_back) = parts.and_then(|parts| parts.find_room(context)) {
                return match ready!(held_back) {
                    Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(refusal) => refused(&refusal),
                };
            }
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
                return match this.wait(context) {
                    Ok(()) => Poll::Pending,
                    Err(refusal) => refused(&refusal),
                };
            };
            let Some(frame) = frame.transpose().map_err(Into::into)? else {
                return Poll::Ready(None);
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            match this.take(data) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(refusal) => return refused(&refusal),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let held_back = self.parts.as_ref().and_then(|it| it.held_back.as_ref());
        held_back.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The position in a body, as messages.
#[derive(Debug, Default, Clone, Copy)]
struct Messages {
    /// The prefix that is arriving, and how many of its bytes have arrived.
    prefix: [u8; PREFIX],
    come: usize,
    /// Bytes of the last message, and how many of them have not arrived.
    length: usize,
    missing: usize,
}

/// A message whose length becomes known in one piece of a body.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    /// Offset in the piece at which its prefix begins, or goes on.
    at: usize,
    length: usize,
}

impl Messages {
    /// Whether a message has begun and not ended.
    fn in_message(&self) -> bool {
        self.missing > 0 || self.come > 0
    }

    /// Advances past `data`. Returns the last message whose length becomes known in it.
    fn follow(&mut self, mut data: &[u8]) -> Option<Begun> {
        let all = data.len();
        let mut begun = None;
        loop {
            let (_, rest) = data.split_at(self.missing.min(data.len()));
            self.missing -= data.len() - rest.len();
            if rest.is_empty() {
                return begun;
            }
            let at = all - rest.len();
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
            let length = self.length;
            begun = Some(Begun { at, length });
            data = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::task::unconstrained;
    use tokio::time::{Instant, advance, timeout};
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::{Code, Status};

    use super::*;

    const MAX: usize = 100;

    /// The resolution of timers.
    const TICK: Duration = Duration::from_millis(10);

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
        fn new(admission: &AdmissionControl, is_stream: bool) -> Self {
            let (pieces, body) = unbounded_channel();
            let arrivals = Arrivals {
                admission: admission.clone(),
                max_message_bytes: MAX,
            };
            let body = StreamBody::new(UnboundedReceiverStream::new(body));
            let body = Box::pin(Arriving::new(body, Arc::new(arrivals), is_stream));
            Self { pieces, body }
        }

        fn sends(&self, piece: &[u8]) {
            let piece = Bytes::copy_from_slice(piece);
            self.pieces.send(Ok(Frame::data(piece))).unwrap();
        }

        async fn comes(&mut self, piece: &[u8]) -> Result<(), Status> {
            self.sends(piece);
            let data = self.next().await?;
            assert_eq!(data, piece);
            Ok(())
        }

        async fn next(&mut self) -> Result<Bytes, Status> {
            let frame = timeout(MAX_WAIT * 100, self.body.frame()).await;
            let frame = frame.expect("a frame or a refusal").expect("no end");
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
            assert_eq!(begun.last().unwrap().length, 1);
            assert!(!messages.in_message(), "{size} bytes at a time");
        }
        let mut messages = Messages::default();
        assert_eq!(messages.follow(&bytes[..3]), None);
        assert!(messages.in_message());
        let begun = messages.follow(&bytes[3..20]);
        let at = 3 + 2 * PREFIX - 3;
        assert_eq!(begun, Some(Begun { at, length: 700 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_counts_from_its_length_to_its_end() {
        let admission = AdmissionControl::new(10, MAX);
        let has_room = || admission.for_another_connection().enter(50).is_ok();
        let mut request = Request::new(&admission, true);
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
    async fn a_single_request_counts_until_it_ends_and_has_only_so_much_time_for_that() {
        let admission = AdmissionControl::new(10, MAX);
        let has_room = || admission.for_another_connection().enter(50).is_ok();
        for cut in [0, 5, 20] {
            let mut request = Request::new(&admission, false);
            let sent = message(60);
            for piece in [&sent[..cut], &sent[cut..]] {
                request.comes(piece).await.unwrap();
            }
            let (end, coming) = (request.pieces.clone(), request.next());
            assert!(timeout(MAX_WAIT / 2, coming).await.is_err());
            assert!(!has_room(), "cut at {cut}");
            drop(end);
            let began = Instant::now();
            let refusal = request.next().await.unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument);
            assert!(began.elapsed() <= MAX_WAIT / 2 + TICK);
            drop(request);
            assert!(has_room());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_request_and_a_message_that_has_begun_have_only_so_much_time_for_their_length()
    {
        let admission = AdmissionControl::new(10, MAX);
        for (is_stream, come) in [(false, 0), (false, 1), (false, 4), (true, 1), (true, 4)] {
            let mut request = Request::new(&admission, is_stream);
            for byte in &message(50)[..come] {
                request.comes(&[*byte]).await.unwrap();
                assert!(timeout(MAX_WAIT / 5, request.next()).await.is_err());
            }
            let waited = MAX_WAIT / 5 * u32::try_from(come).unwrap();
            let began = Instant::now();
            let refusal = request.next().await.unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument, "{come} bytes");
            assert!(began.elapsed() <= MAX_WAIT - waited + TICK, "{come} bytes");
        }
        let mut stream = Request::new(&admission, true);
        assert!(timeout(MAX_WAIT * 10, stream.next()).await.is_err());
        let two = [message(50), message(50)].concat();
        stream.comes(&two[..57]).await.unwrap();
        stream.comes(&two[57..]).await.unwrap();
        assert!(timeout(MAX_WAIT * 10, stream.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_a_request_is_refused_and_a_stream_held_back() {
        let admission = AdmissionControl::new(10, MAX);
        let full = admission.for_another_connection().enter(60).unwrap();
        let refusal = Request::new(&admission, false)
            .comes(&message(50)[..9])
            .await;
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(!refusal.details().is_empty());

        let mut stream = Request::new(&admission, true);
        let sent = message(50);
        let coming = stream.comes(&sent[..9]);
        assert!(timeout(MAX_WAIT / 2, coming).await.is_err(), "it waits");
        drop(full);
        assert_eq!(stream.next().await.unwrap(), &sent[..9]);
        assert!(admission.for_another_connection().enter(60).is_err());

        let _full = admission.enter(50).unwrap();
        let mut stream = Request::new(&admission, true);
        let began = Instant::now();
        let refusal = stream.comes(&sent[..9]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(began.elapsed().as_secs(), MAX_WAIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_before_a_held_back_message_are_passed_on() {
        let admission = AdmissionControl::new(10, MAX);
        let mut stream = Request::new(&admission, true);
        let two = [message(60), message(80)].concat();
        stream.comes(&two[..20]).await.unwrap();
        let full = admission.for_another_connection().enter(40).unwrap();
        stream.sends(&two[20..80]);
        assert_eq!(stream.next().await.unwrap(), &two[20..65]);
        let has_room = |bytes| admission.for_another_connection().enter(bytes).is_ok();
        assert!(
            has_room(60),
            "the first has come, and the second does not count"
        );
        assert!(timeout(MAX_WAIT / 2, stream.next()).await.is_err());
        drop(full);
        assert_eq!(stream.next().await.unwrap(), &two[65..80]);
        assert!(!has_room(21));
        stream.comes(&two[80..]).await.unwrap();
        assert!(has_room(100));
    }

    /// Counts how often it is told to look again.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_are_held_back_are_woken_when_there_is_room_and_by_nothing_else() {
        const STREAMS: usize = 1000;
        let admission = AdmissionControl::new(10, MAX);
        let full = admission.for_another_connection().enter(60).unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let stream = |_| Request::new(&admission.for_another_connection(), true);
        let mut streams: Vec<_> = (0..STREAMS).map(stream).collect();
        let sent = message(50);
        streams.iter().for_each(|stream| stream.sends(&sent[..9]));
        let mut through = async || {
            let mut through = 0;
            for stream in &mut streams {
                let mut context = Context::from_waker(&waker);
                through += usize::from(stream.body.as_mut().poll_frame(&mut context).is_ready());
            }
            through
        };
        // Otherwise tokio would wake a task that polls so often in one turn.
        assert_eq!(unconstrained(through()).await, 0);
        wakes.0.store(0, Ordering::SeqCst);
        for _ in 0..100 {
            admission.for_another_connection().enter(60).unwrap_err();
            advance(MAX_WAIT / 200).await;
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "nothing is freed");
        drop(full);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2, "there is room for two");
        assert_eq!(unconstrained(through()).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_end_is_refused_and_a_silent_stream_is_not() {
        let admission = AdmissionControl::new(10, MAX);
        let mut request = Request::new(&admission, false);
        request.comes(&message(50)[..20]).await.unwrap();
        advance(MAX_WAIT / 2).await;
        let began = Instant::now();
        let refusal = request.next().await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert_eq!(
            refusal.message(),
            "message: all of it has to come within 10 s (not applied)"
        );
        assert!(began.elapsed() <= MAX_WAIT);

        let mut stream = Request::new(&admission, true);
        stream.comes(&message(50)).await.unwrap();
        assert!(timeout(MAX_WAIT * 10, stream.next()).await.is_err());
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_left_to_the_decoder() {
        let admission = AdmissionControl::new(10, MAX);
        let mut request = Request::new(&admission, false);
        request.comes(&message(MAX + 1)[..9]).await.unwrap();
        assert!(admission.for_another_connection().enter(MAX).is_ok());
    }
}
