//! The target of a load: calls, and streams with many commands in flight.

use bytes::Bytes;

use seshat::client::Applied;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Set { key: Bytes, value: Bytes },
    Get { key: Bytes },
    Del { key: Bytes },
}

impl Ask {
    /// Bytes of its key and value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set { key, value } => key.len() + value.len(),
            Self::Get { key } | Self::Del { key } => key.len(),
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Set {
        applied_index: u64,
    },
    Got {
        value: Option<Bytes>,
    },
    Deleted {
        existed: bool,
    },
    /// An answer to nothing that is asked here.
    Other,
}

impl Answer {
    /// Bytes of its value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Got { value } => value.as_ref().map_or(0, Bytes::len),
            Self::Set { .. } | Self::Deleted { .. } | Self::Other => 0,
        }
    }
}

/// Why a command has no answer.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    /// The kind of the error, in one word.
    pub(super) kind: &'static str,
    /// The message, for people.
    pub(super) message: String,
    /// Whether the command may have been applied.
    pub(super) applied: Applied,
}

/// The outcome of a command.
pub(super) type Outcome = Result<Answer, Refused>;

/// A connection to the current leader. Clones share the connection.
pub(super) trait Target: Clone + Send + Sync + 'static {
    type Stream: Stream;

    /// Makes one call.
    fn call(&self, ask: Ask) -> impl Future<Output = Outcome> + Send;

    /// Opens a stream on which at most `window` batches will be in flight.
    fn open(&self, window: usize) -> impl Future<Output = Result<Self::Stream, Refused>> + Send;
}

/// Batches in flight, answered in the order in which they were sent.
pub(super) trait Stream: Send {
    /// Sends a batch. An error means that it was not sent, and that the stream cannot be used any more.
    fn send(&mut self, batch: Vec<Ask>) -> impl Future<Output = Result<(), Refused>> + Send;

    /// The outcomes of the oldest batch in flight, one for each command. They come in bounded time, even
    /// if the stream breaks. The future may be dropped and the method called again.
    fn answers(&mut self) -> impl Future<Output = Vec<Outcome>> + Send;
}
