//! What a load is put on: calls, and streams with many commands in flight.

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

/// What a command was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Set { applied_index: u64 },
    Got { value: Option<Bytes> },
    Deleted { existed: bool },
}

impl Answer {
    /// Bytes of its value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Got { value } => value.as_ref().map_or(0, Bytes::len),
            Self::Set { .. } | Self::Deleted { .. } => 0,
        }
    }
}

/// Why a command has no answer.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    /// In one word.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) message: String,
    /// What became of the command.
    pub(super) applied: Applied,
}

/// What came of a command.
pub(super) type Outcome = Result<Answer, Refused>;

/// A connection to the leader, which follows it when it moves. Clones share the connection.
pub(super) trait Target: Clone + Send + Sync + 'static {
    type Stream: Stream;

    /// Makes one call.
    fn call(&self, ask: Ask) -> impl Future<Output = Outcome> + Send;

    /// Opens a stream on which at most `window` batches will be in flight.
    fn open(&self, window: usize) -> impl Future<Output = Result<Self::Stream, Refused>> + Send;
}

/// Batches in flight, answered in the order in which they were sent.
pub(super) trait Stream: Send {
    /// Sends a batch. An error says that it was not sent, and the stream is of no more use.
    fn send(&mut self, batch: Vec<Ask>) -> impl Future<Output = Result<(), Refused>> + Send;

    /// The outcomes of the batch that has waited longest, one for each of its commands. They come in
    /// bounded time, whatever becomes of the stream. May be dropped and called again.
    fn answers(&mut self) -> impl Future<Output = Vec<Outcome>> + Send;
}
