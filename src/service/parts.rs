//! The messages of a streamed answer, which count until they are sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Response, Status};

use super::holds::Holds;
use crate::driver::Held;

/// Messages that wait to be sent.
const MAX_PARTS: usize = 1;

/// Takes the messages of an answer, each with the hold of its bytes, or the status with which it ends.
pub(super) type Sender<T> = mpsc::Sender<Result<(T, Held), Status>>;

/// The messages of one answer.
#[derive(Debug)]
pub struct Parts<T> {
    ready: mpsc::Receiver<Result<(T, Held), Status>>,
    holds: Holds,
}

impl<T> Stream for Parts<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ready = ready!(self.ready.poll_recv(context));
        Poll::Ready(ready.map(|ready| {
            let (response, held) = ready?;
            self.holds.add(held);
            Ok(response)
        }))
    }
}

/// An answer whose messages come later.
pub(super) fn parts<T>() -> (Sender<T>, Response<Parts<T>>) {
    let (sender, ready) = mpsc::channel(MAX_PARTS);
    let holds = Holds::default();
    let mut response = Response::new(Parts {
        ready,
        holds: holds.clone(),
    });
    response.extensions_mut().insert(holds);
    (sender, response)
}
