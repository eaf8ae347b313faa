//! Watches: a range of keys, and every change of it.

mod assembly;
mod mirror;
mod reader;
mod update;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio_stream::Stream;

pub use mirror::Mirror;
pub use update::{Event, Position, Removal, Update};

use super::{Client, Error, KeyRange};
use reader::{Query, Reader};

/// How often a node says that nothing has changed, unless the program wants something else.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What nodes accept.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// Watches the keys that begin with `prefix`; with an empty prefix, every key. First comes the state, then
    /// every change of it, in the order of revisions, without a gap or a repetition. Any node serves it.
    /// [`Updates`] says what is promised while nodes are lost, and [`Mirror`] is the range as a map.
    ///
    /// ```no_run
    /// use seshat::client::{Event, Update};
    ///
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let mut updates = client.watch("config/").stream();
    /// while let Some(update) = updates.next().await {
    ///     match update? {
    ///         Update::Reset => println!("forget all that came before"),
    ///         Update::State { entries, deleted, .. } => println!("{entries:?}, without {deleted:?}"),
    ///         Update::Synced { position, .. } => println!("that is all at {}", position.revision),
    ///         Update::Events { events, .. } => {
    ///             for event in events {
    ///                 match event {
    ///                     Event::Set(entry) => println!("{:?} = {:?}", entry.key, entry.value),
    ///                     event => println!("{:?} was removed", event.key()),
    ///                 }
    ///             }
    ///         }
    ///         Update::Disconnected(error) => println!("what is known gets old: {error}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, prefix: impl Into<Bytes>) -> Watch<'_> {
        self.watch_range(KeyRange::prefix(prefix))
    }

    /// As [`watch`](Self::watch), for a single key.
    pub fn watch_key(&self, key: impl Into<Bytes>) -> Watch<'_> {
        self.watch_range(KeyRange::key(key))
    }

    /// As [`watch`](Self::watch), for any range of keys, in the order of their bytes.
    pub fn watch_range(&self, keys: impl Into<KeyRange>) -> Watch<'_> {
        Watch::new(self, keys.into())
    }
}

/// A watch of a range of keys: see [`Client::watch`](super::Client::watch).
///
/// Nothing is sent before [`stream`](Self::stream) is polled, or [`mirror`](Self::mirror) is awaited.
#[derive(Debug)]
#[must_use = "nothing is watched before `stream` or `mirror`"]
pub struct Watch<'a> {
    client: &'a Client,
    query: Query,
    resume: Option<Position>,
    min_revision: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(client: &'a Client, range: KeyRange) -> Self {
        let query = Query {
            range,
            keys_only: false,
            progress_interval: PROGRESS_INTERVAL,
        };
        Self {
            client,
            query,
            resume: None,
            min_revision: 0,
        }
    }

    /// Leaves out the values: those of the entries are empty.
    pub fn keys_only(mut self) -> Self {
        self.query.keys_only = true;
        self
    }

    /// How often the node says that nothing has changed: 100 ms to 1 h. A node that says nothing for three
    /// intervals counts as lost. Default: 5 s.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.query.progress_interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        self
    }

    /// Shows no state before this revision, such as that of a write of the caller: nodes are behind the leader
    /// by a little.
    pub fn min_revision(mut self, revision: u64) -> Self {
        self.min_revision = revision;
        self
    }

    /// Goes on from `position`, for a caller that has kept its map. The first news are the changes since then;
    /// or, if no node has all of these any more, a [reset](Update::Reset) and the state.
    pub fn resume(mut self, position: Position) -> Self {
        self.resume = Some(position);
        self
    }

    /// The news one by one.
    pub fn stream(self) -> Updates {
        let reader = Reader::new(self.client, self.query, self.resume, self.min_revision);
        Updates {
            position: reader.position(),
            reader: Some(reader),
            reading: None,
        }
    }

    /// A copy of the range that follows its changes, once it is complete. It does not
    /// [resume](Self::resume): it begins with the state.
    ///
    /// # Errors
    ///
    /// No node has served the watch within the timeout of the client, or none ever will. The state itself may
    /// take longer to arrive.
    pub async fn mirror(mut self) -> Result<Mirror, Error> {
        self.resume = None;
        Mirror::of(self.stream()).await
    }
}

/// The news of a watch: a [`Stream`] without an end.
///
/// It connects to any node when it is first polled, and goes on at another one when the connection is lost, a node
/// stops, or says nothing for three progress intervals: from the [`position`](Self::position) of the caller, or with
/// a [reset](Update::Reset) where that is not possible. It never shows a state older than one that it has shown. It
/// has no timeout; the timeout of the client is how long nodes are asked before
/// [`Disconnected`](Update::Disconnected) tells that none serves. To learn of a silent connection earlier, wait for
/// the [next](Self::next) news with a timeout: [`Progress`](Update::Progress) comes if nothing else does.
///
/// It ends with an error if no node will ever serve it: the request is invalid, all nodes run a version without
/// watches, or all belong to another cluster than the one that the client was told
/// ([`Builder::cluster`](super::Builder::cluster)). Otherwise, when a cluster has formed anew after a loss of all
/// data, the watch goes on with the new one: after a reset, with its id in the position. Calls of the same client do
/// not.
///
/// A program that takes the news slowly delays neither the nodes nor other calls, and does not lose the state: it
/// gets the keys that have changed in place of every change. Dropping the stream ends the watch. All watches of a
/// client share one connection to each node, with room for 4096 of them at a node by default; at most 128 should
/// be left unread for long.
#[must_use = "nothing is watched before it is polled"]
pub struct Updates {
    /// The reader, while it reads nothing. `None` at the end.
    reader: Option<Reader>,
    reading: Option<BoxFuture<'static, (Reader, Result<Update, Error>)>>,
    position: Option<Position>,
}

impl Updates {
    /// The next news. Nothing is lost if the future is dropped. `None` after an error.
    ///
    /// # Errors
    ///
    /// No node will ever serve this watch; it has ended.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Where the caller stands, once it has applied the news so far. `None` between a reset or a part of the state
    /// and the next [`Synced`](Update::Synced). To be kept with the caller's map, to
    /// [resume](Watch::resume) in another process.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl Stream for Updates {
    type Item = Result<Update, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(reader) = self.reader.take() {
            self.reading = Some(Box::pin(reader.next()));
        }
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let (reader, update) = ready!(reading.as_mut().poll(context));
        self.reading = None;
        self.position = reader.position();
        self.reader = Some(reader).filter(|_| update.is_ok());
        Poll::Ready(Some(update))
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
