//! The answer to one call, which counts until it is sent.
//!
//! A handler that has returned a value holds nothing of it any more, while it waits for its client to
//! take it. So what it holds goes with it into the body of the response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, http};

use crate::driver::Held;

/// What a handler gives its answer along.
#[derive(Debug, Clone)]
pub(super) struct Holds(#[expect(dead_code, reason = "only dropped")] pub(super) Arc<Held>);

/// `answer`, whose body holds what its handler gave it along.
pub(super) fn counted(mut answer: http::Response<Body>) -> http::Response<Body> {
    match answer.extensions_mut().remove::<Holds>() {
        Some(holds) => answer.map(|body| {
            Body::new(Counted {
                body,
                _holds: holds,
            })
        }),
        None => answer,
    }
}

struct Counted {
    body: Body,
    _holds: Holds,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
