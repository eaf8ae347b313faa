"""What comes in many parts: scans, watches, observations and pipelines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from seshat._core.batch import Batch
from seshat._core.flow import FOREVER, Flow
from seshat._core.mirror import Copy
from seshat._core.observe import Observer
from seshat._core.options import Seconds, seconds
from seshat._core.pipeline import Pipe
from seshat._core.scan import Query, ScanReader, whole
from seshat._core.watch import WatchReader
from seshat.errors import Error
from seshat.updates import Disconnected, Position, Update
from seshat.values import (
    Command,
    Data,
    Entry,
    Holder,
    Reply,
    data,
)

if TYPE_CHECKING:
    from seshat._threads.calls import Calls
    from seshat._threads.client import Client


T = TypeVar("T")


class Scan:
    """A read of the keys of a range, which begins when it is iterated."""

    def __init__(self, client: Client, query: Query) -> None:
        self._client = client
        self._query = query
        self.revision: int | None = None
        """The revision that the last entry was read at."""
        self.has_more = False
        """Whether the range has more keys than the limit. Known at the end."""

    def __iter__(self) -> Iterator[Entry]:
        """Raises `Interrupted` if the connection is lost in the middle: begin again."""
        reader = ScanReader(self._client._issuer.caller, self._query)
        try:
            while not reader.is_over:
                part = self._client._run(reader.part())
                self.revision, self.has_more = reader.revision, reader.has_more
                yield from part
        finally:
            reader.close()

    def collect(self) -> list[Entry]:
        """All entries at once. Begins again by itself if the leader is lost on the way. Raises `Error`."""
        return self._client._run(whole(self._client._issuer.caller, self._query))[0]


class _News:
    """News without an end, until it is closed."""

    def __init__(self, client: Client, reader: WatchReader | Observer) -> None:
        self._client = client
        self._is_over = False
        self._close = reader.close
        client._belongings.add(self, reader.close)

    def _take(self, flow: Flow[T], timeout: Seconds | None) -> T:
        until = FOREVER if timeout is None else time.monotonic() + seconds(timeout)
        return self._client._threads.run(flow, self._client._cancellation, until)

    def close(self) -> None:
        """Ends it."""
        self._is_over = True
        self._close()

    def __exit__(self, *_: object) -> None:
        self.close()


class Updates(_News, Iterator[Update]):
    """The updates of a watch, without an end. One thread takes them.

    It goes on at another node when one is lost, and never shows a state older than one that it has shown. It ends
    with an error only if no node will ever serve it.
    """

    def __init__(self, client: Client, reader: WatchReader) -> None:
        super().__init__(client, reader)
        self._reader = reader

    @property
    def position(self) -> Position | None:
        """Where the caller stands, once it has applied the updates so far. To be kept, to `resume`."""
        return self._reader.position

    def next(self, timeout: Seconds | None = None) -> Update:
        """The next update. Raises `TimeoutError`, after which nothing is lost, or `Error`."""
        return self._take(self._reader.update(), timeout)

    def __next__(self) -> Update:
        if self._is_over:
            raise StopIteration
        return self.next()

    def __enter__(self) -> Updates:
        return self


class Mirror(Mapping[bytes, Entry]):
    """A copy of a range that follows its changes, as a map. One thread calls `changed`.

    It shows the range as it was at one moment; it does not change between two calls of `changed`.
    """

    def __init__(self, updates: Updates) -> None:
        self._updates = updates
        self._copy = Copy()
        self.disconnected: Error | None = None
        """Why no node serves the watch at the moment, so that what it shows gets old."""
        while self._copy.position is None:
            self._follow(None)
            if self.disconnected is not None:
                updates.close()
                raise self.disconnected

    @property
    def position(self) -> Position | None:
        """The moment that it shows."""
        return self._copy.position

    def changed(self, timeout: Seconds | None = None) -> bool:
        """Waits until a key has changed, and shows the range as it is then. False after `timeout`."""
        until = None if timeout is None else time.monotonic() + seconds(timeout)
        try:
            while not self._follow(until):
                pass
        except TimeoutError:
            return False
        return True

    def _follow(self, until: float | None) -> bool:
        update = self._updates.next(None if until is None else until - time.monotonic())
        self.disconnected = update.error if isinstance(update, Disconnected) else None
        return self._copy.apply(update)

    def close(self) -> None:
        """Ends it."""
        self._updates.close()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, key: Data) -> Entry:
        return self._copy.shown[data(key)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(self._copy.shown))

    def __len__(self) -> int:
        return len(self._copy.shown)


class Holders(_News, Iterator["Holder | None"]):
    """The holders of a lock, one after the other. ``None``: it is free. No item equals the one before."""

    def __init__(self, client: Client, observer: Observer) -> None:
        super().__init__(client, observer)
        self._observer = observer

    def next(self, timeout: Seconds | None = None) -> Holder | None:
        """The next holder. Raises `TimeoutError`, after which nothing is lost, or `Error`."""
        return self._take(self._observer.holder(), timeout)

    def __next__(self) -> Holder | None:
        if self._is_over:
            raise StopIteration
        return self.next()

    def __enter__(self) -> Holders:
        return self


class Pipeline:
    """A stream of batches of commands, which take effect in the order of submission.

    Without a session it ends with its connection: writes in flight have an unknown outcome then. In a session the
    batches without an answer are sent again, to the new leader.
    """

    def __init__(self, calls: Calls, pipe: Pipe) -> None:
        self._calls = calls
        self._pipe = pipe
        calls._belongings.add(self, pipe.close)

    def submit(self, batch: Iterable[Command]) -> Answers:
        """Puts a batch on the stream, as soon as the window has room for it. Raises `Error`: it was not sent.

        A batch has 1 to 4096 commands, and at most 1024 writes in a session.
        """
        return Answers(self._calls, self._calls._run(self._pipe.submit(batch)))

    def close(self) -> None:
        """Takes no more batches. Those in flight are still answered."""
        self._pipe.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Answers:
    """The answers to one batch."""

    def __init__(self, calls: Calls, batch: Batch) -> None:
        self._calls = calls
        self._batch = batch

    def result(self) -> Sequence[Reply]:
        """Waits for the answers: one for each command, in order. That of a command that failed is an `Error`."""
        return self._calls._run(self._batch.wait())
