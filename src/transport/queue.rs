//! The send queue of one stream, bounded in bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::Stream;

/// The sending end. It is bounded in bytes and not in messages, because a thousand heartbeats are nothing
/// and a thousand appends may be gigabytes.
#[derive(Debug)]
pub(super) struct Queue<T> {
    messages: mpsc::UnboundedSender<(usize, T)>,
    queued: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// The receiving end, read by a stream. It ends when the queue is dropped and empty.
#[derive(Debug)]
pub(super) struct Queued<T> {
    messages: mpsc::UnboundedReceiver<(usize, T)>,
    queued: Arc<AtomicUsize>,
}

/// A queue of at most `max_bytes`, and its receiving end. An empty queue takes any message: otherwise a
/// message beyond the bound would be refused for ever.
pub(super) fn queue<T>(max_bytes: usize) -> (Queue<T>, Queued<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let queue = Queue {
        messages: sender,
        queued: Arc::clone(&queued),
        max_bytes,
    };
    let end = Queued {
        messages: receiver,
        queued,
    };
    (queue, end)
}

impl<T> Queue<T> {
    /// Whether `message` was taken. It is refused if it does not fit, or if the stream is gone.
    pub(super) fn push(&self, size: usize, message: T) -> bool {
        let queued = self.queued.load(Ordering::Relaxed);
        if queued > 0 && queued.saturating_add(size) > self.max_bytes {
            return false;
        }
        // Added before the message is sent, so that the receiver never subtracts a size that was not
        // added yet.
        self.queued.fetch_add(size, Ordering::Relaxed);
        self.messages.send((size, message)).is_ok()
    }
}

impl<T> Stream for Queued<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some((size, message)) = std::task::ready!(self.messages.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        self.queued.fetch_sub(size, Ordering::Relaxed);
        Poll::Ready(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_queue_is_bounded_in_bytes_and_keeps_order() {
        let (queue, mut end) = queue(10);
        assert!(queue.push(11, 'a'), "an empty queue takes any message");
        assert!(!queue.push(1, 'x'));
        assert_eq!(end.next().await, Some('a'));
        assert!(queue.push(4, 'b'));
        assert!(queue.push(6, 'c'));
        assert!(!queue.push(1, 'x'));
        assert_eq!(end.next().await, Some('b'));
        assert!(queue.push(4, 'd'));
        drop(queue);
        assert_eq!(end.collect::<Vec<_>>().await, ['c', 'd']);
    }

    #[test]
    fn a_queue_whose_stream_is_gone_takes_nothing() {
        let (queue, end) = queue(10);
        drop(end);
        assert!(!queue.push(1, 'a'));
    }
}
