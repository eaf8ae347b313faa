//! Answers that count until they are sent.
//!
//! A handler that has returned a value holds nothing of it any more, while it waits for its client to
//! take it. And hyper is done with a body long before its client has taken it: it hands all of it to
//! h2 as soon as there is room for a single byte. So what an answer holds goes with its very bytes:
//! whoever drops them last has sent them, or knows that nobody will.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, http};

use crate::driver::Held;

/// What the answers of a call hold that are on their way into its body. A handler gives it along, as an
/// extension of the response.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds(Arc<Mutex<Vec<Held>>>);

impl Holds {
    /// The next bytes of the body hold this as well.
    pub(super) fn add(&self, held: Held) {
        self.all().push(held);
    }

    /// `data`, which holds what was added since the last.
    fn attach(&self, data: Bytes) -> Bytes {
        let held = mem::take(&mut *self.all());
        match held.is_empty() {
            true => data,
            false => Bytes::from_owner(Sending { data, _held: held }),
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are being sent.
struct Sending {
    data: Bytes,
    _held: Vec<Held>,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// `answer`, whose bytes hold what its handler gave it along.
pub(super) fn counted(mut answer: http::Response<Body>) -> http::Response<Body> {
    match answer.extensions_mut().remove::<Holds>() {
        Some(holds) => answer.map(|body| Body::new(Counted { body, holds })),
        None => answer,
    }
}

struct Counted {
    body: Body,
    holds: Holds,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let attach = |data| self.holds.attach(data);
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(attach))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::driver::Unread;

    /// As in a stream of answers: each has been encoded when its bytes come.
    #[tokio::test]
    async fn answers_count_until_their_bytes_are_dropped() {
        let unread = Unread::new(1000);
        let account = unread.account(1000);
        let holds = Holds::default();
        let encoded = {
            let (account, holds) = (Arc::clone(&account), holds.clone());
            move |number: u8| {
                holds.add(account.try_hold(10).unwrap());
                holds.add(account.try_hold(10).unwrap());
                Ok::<_, Status>(Frame::data(Bytes::from(vec![number])))
            }
        };
        let frames = stream::iter((0..3).map(encoded));
        let mut answer = http::Response::new(Body::new(StreamBody::new(frames)));
        answer.extensions_mut().insert(holds);
        let mut body = counted(answer).into_body();
        let mut sent = Vec::new();
        for number in 0..3 {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(data, [number].as_slice());
            sent.push(data);
            assert_eq!(unread.held(), 20 * sent.len());
        }
        assert!(body.frame().await.is_none());
        drop(body);
        assert_eq!(unread.held(), 60, "it is still being sent");
        drop(sent.remove(1));
        assert_eq!(unread.held(), 40);
        drop(sent);
        assert_eq!(unread.held(), 0);
    }
}
