//! Scans: the keys of a range, one by one or at once.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_stream::Stream;

use super::parts::{Part, Query, Reader};
use super::{Client, Entry, Error, KeyRange};

impl Client {
    /// Reads the keys that begin with `prefix`, in ascending order and at one moment. With an empty prefix it
    /// reads every key. Linearizable like [`get`](Self::get). [`Entries`] says what is promised while the leader
    /// changes.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// // One by one, however many there are. `Entries` is a `Stream` too.
    /// let mut users = client.scan("user/").stream();
    /// while let Some(entry) = users.next().await {
    ///     let entry = entry?;
    ///     println!("{:?}: {:?}, since revision {}", entry.key, entry.value, entry.revision);
    /// }
    /// // At once, in a vector.
    /// let first = client.scan("user/").limit(10).keys_only().collect().await?;
    /// println!("{} of {}", first.len(), client.count("user/").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self, prefix: impl Into<Bytes>) -> Scan<'_> {
        self.scan_range(KeyRange::prefix(prefix))
    }

    /// As [`scan`](Self::scan), for any range of keys, in the order of their bytes.
    ///
    /// ```no_run
    /// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
    /// let february = client.scan_range("2026-02".."2026-03").collect().await?;
    /// // The page behind a key.
    /// let page = client.scan_range("user/7\0"..).limit(100).collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan_range(&self, keys: impl Into<KeyRange>) -> Scan<'_> {
        Scan::new(self, keys.into())
    }

    /// The number of keys that begin with `prefix`. With an empty prefix, of all keys.
    ///
    /// # Errors
    ///
    /// The keys could not be counted.
    pub async fn count(&self, prefix: impl Into<Bytes>) -> Result<u64, Error> {
        self.scan(prefix).count().await
    }
}

/// A read of the keys of a range: see [`Client::scan`](super::Client::scan).
///
/// Nothing is read before [`stream`](Self::stream), [`collect`](Self::collect) or [`count`](Self::count).
#[derive(Debug)]
#[must_use = "nothing is read before `stream`, `collect` or `count`"]
pub struct Scan<'a> {
    client: &'a Client,
    query: Query,
}

impl<'a> Scan<'a> {
    pub(super) fn new(client: &'a Client, range: KeyRange) -> Self {
        let query = Query {
            range,
            limit: None,
            keys_only: false,
            count_only: false,
        };
        Self { client, query }
    }

    /// Reads at most `keys` keys, the first ones of the range.
    pub fn limit(mut self, keys: u64) -> Self {
        self.query.limit = Some(keys);
        self
    }

    /// Leaves out the values: those of the entries are empty.
    pub fn keys_only(mut self) -> Self {
        self.query.keys_only = true;
        self
    }

    /// The entries one by one, in bounded memory.
    pub fn stream(self) -> Entries {
        let reads = self.query.limit != Some(0);
        Entries::new(reads.then(|| Reader::new(self.client, self.query)))
    }

    /// All entries at once, all of one moment. They have to fit into memory.
    ///
    /// # Errors
    ///
    /// The entries could not be read. If the leader is lost on the way, the scan begins again, until the timeout
    /// of the client has passed since its first beginning; then it ends with [`Error::Interrupted`].
    pub async fn collect(self) -> Result<Vec<Entry>, Error> {
        let (entries, _) = self.whole().await?;
        Ok(entries)
    }

    /// The number of keys, at most the limit. Only the number is sent.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect).
    pub async fn count(mut self) -> Result<u64, Error> {
        self.query.count_only = true;
        let (_, count) = self.whole().await?;
        Ok(count)
    }

    /// The entries, and the number of keys. It may begin again, because the caller has seen nothing before its
    /// end.
    async fn whole(self) -> Result<(Vec<Entry>, u64), Error> {
        if self.query.limit == Some(0) {
            return Ok((Vec::new(), 0));
        }
        let deadline = self.client.deadline();
        loop {
            let reader = Reader::new(self.client, self.query.clone());
            match reader.whole().await {
                Err(Error::Interrupted { .. }) if Instant::now() < deadline => {}
                read => return read,
            }
        }
    }
}

/// The entries of a scan: a [`Stream`], in ascending order of the keys and without duplicates.
///
/// All entries are of one moment: they show every write up to [`revision`](Self::revision), and no later one.
/// The call begins when the stream is first polled, and is repeated like any read until the first entries have
/// come. If the connection is lost after that, or the node stops or takes more than 60 s because the entries
/// are not taken, the stream ends with [`Error::Interrupted`]: begin again, or let it
/// [resume](Self::resuming). After an error nothing follows.
///
/// The timeout of the client limits the wait for each part of at most 128 KiB and half of the largest message,
/// not the whole scan; a deadline of [`Client::within`](super::Client::within) limits all of it. A program that
/// takes entries slowly delays neither other calls of the client nor the node. Dropping the stream ends the
/// call.
#[must_use = "nothing is read before it is polled"]
pub struct Entries {
    /// The reader, while it reads nothing. `None` at the end.
    reader: Option<Reader>,
    reading: Option<BoxFuture<'static, (Reader, Result<Part, Error>)>>,
    part: std::vec::IntoIter<Entry>,
    revision: Option<u64>,
    is_consistent: bool,
    more: bool,
}

impl Entries {
    fn new(reader: Option<Reader>) -> Self {
        Self {
            reader,
            reading: None,
            part: Vec::new().into_iter(),
            revision: None,
            is_consistent: true,
            more: false,
        }
    }

    /// The same stream, which goes on by itself when the connection or the leader is lost: behind the last key
    /// that it gave, with the state at that later moment. The order stays, and no key comes twice. But the
    /// entries are then of several moments: a key that is moved between them may be missing, or may be there
    /// under both names. [`is_consistent`](Self::is_consistent) tells whether that was necessary.
    ///
    /// To be called before the stream is polled; later it has no effect on the part that is being read.
    pub fn resuming(mut self) -> Self {
        if let Some(reader) = &mut self.reader {
            reader.resume();
        }
        self
    }

    /// The next entry, or `None` at the end. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// The rest of the range could not be read; the stream has ended.
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The revision of the state that the last entry was read from: it has all writes up to this one. `None`
    /// before the first part has come.
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Whether all entries so far are of one moment. `false` only if the stream has
    /// [resumed](Self::resuming) at another revision.
    pub fn is_consistent(&self) -> bool {
        self.is_consistent
    }

    /// Whether the range had more keys than the limit. Known at the end; `false` before it.
    pub fn has_more(&self) -> bool {
        self.more
    }

    fn begin(&mut self, reader: Reader, part: Part) {
        let before = self.revision.replace(part.revision);
        self.is_consistent &= before.is_none_or(|before| before == part.revision);
        self.more = part.is_last && part.more;
        self.part = part.entries.into_iter();
        self.reader = Some(reader).filter(|_| !part.is_last);
    }
}

impl Stream for Entries {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.part.next() {
                return Poll::Ready(Some(Ok(entry)));
            }
            if let Some(reader) = self.reader.take() {
                self.reading = Some(Box::pin(reader.next()));
            }
            let Some(reading) = &mut self.reading else {
                return Poll::Ready(None);
            };
            let (reader, part) = ready!(reading.as_mut().poll(context));
            self.reading = None;
            match part {
                Ok(part) => self.begin(reader, part),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries")
            .field("revision", &self.revision)
            .field("is_consistent", &self.is_consistent)
            .finish_non_exhaustive()
    }
}
