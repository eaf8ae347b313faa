//! The accounting of answers until their bytes are sent.
//!
//! hyper is done with a body long before its client has taken it: it hands all of it to h2 as soon as
//! there is room for a single byte. So the bytes of an answer carry what the answer holds. It is released
//! when the bytes are dropped: they have been sent, or their connection has ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, http};

use super::slots::Call;
use super::unsent::One;
use crate::driver::Held;
use crate::service::Holds;

/// The body of an answer. Its call ends when the body is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    body: Body,
    /// The share of the call in the unsent calls, until its first bytes are sent.
    one: Option<One>,
    /// The holds of the handler for this answer.
    holds: Option<Holds>,
    _call: Call,
}

/// The answer to `call`. Its bytes carry its holds.
pub(super) fn answering(
    call: Call,
    one: Option<One>,
    mut answer: http::Response<Body>,
) -> http::Response<Answering> {
    call.answered(!answer.headers().contains_key(Status::GRPC_STATUS));
    let holds = answer.extensions_mut().remove::<Holds>();
    answer.map(|body| Answering {
        body,
        one,
        holds,
        _call: call,
    })
}

impl HttpBody for Answering {
    type Data = Sending;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Sending>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let sending = |data| Sending {
            data,
            _one: self.one.take(),
            held: self.holds.as_ref().map(Holds::take).unwrap_or_default(),
        };
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(sending))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that are being sent, with their holds. These count until the bytes are dropped.
#[derive(Debug)]
pub(super) struct Sending {
    data: Bytes,
    _one: Option<One>,
    held: Vec<Held>,
}

impl Buf for Sending {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        if let Some(held) = self.held.first() {
            held.progresses();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::super::slots::Slots;
    use super::super::unsent::Unsent;
    use super::*;
    use crate::driver::Unread;

    /// As in a stream of answers: each answer has been encoded when its bytes are polled.
    #[tokio::test]
    async fn answers_count_until_their_bytes_are_dropped() {
        let unread = Unread::new(1000);
        let account = unread.reader().account(1000);
        let calls = Unsent::new(1);
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
        let peer = ([127, 0, 0, 1], 1).into();
        let call = Slots::new(1, false)
            .prepare(peer, unread.reader(), 1)
            .begin();
        let one = calls.connection().one();
        let mut body = answering(call, one, answer).into_body();
        let is_free = || calls.connection().one().is_some();
        let mut sent = Vec::new();
        for number in 0..3 {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(data.chunk(), [number]);
            sent.push(data);
            assert_eq!(unread.held(), 20 * sent.len());
        }
        assert!(body.frame().await.is_none());
        drop(body);
        assert_eq!(unread.held(), 60, "it is still being sent");
        drop(sent.remove(1));
        assert_eq!(unread.held(), 40);
        assert!(!is_free(), "its first bytes are still being sent");
        drop(sent);
        assert_eq!(unread.held(), 0);
        assert!(is_free());
    }
}
