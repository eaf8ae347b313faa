"""Scans: the keys of a range in order, in parts that are all of one moment.

The first part comes with an ordinary call, which is repeated until a leader answers. The others follow on the
stream of that answer, as fast as they are taken. If that breaks, what is left can only be read at a later moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seshat._core import messages
from seshat._core.call import Caller, Repeat
from seshat._core.fault import Fault, Retryability
from seshat._core.flow import Flow, me
from seshat._core.nodes import Node
from seshat._core.transport import SCAN, Stream
from seshat.errors import Interrupted
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import Entry, Keys


@dataclass(frozen=True, slots=True)
class Query:
    """What is read."""

    keys: Keys
    limit: int | None = None
    keys_only: bool = False
    count_only: bool = False


class ScanReader:
    """Reads part after part."""

    def __init__(self, caller: Caller, query: Query) -> None:
        self._caller = caller.for_streams()
        self._query = query
        self._answer: tuple[Node, Stream[kv.ScanResponse]] | None = None
        self.revision: int | None = None
        """The revision that is read. ``None`` before the first part has come."""
        self.count = 0
        """Number of keys, at the end."""
        self.has_more = False
        """Whether the range has more keys than the limit, at the end."""
        self.is_over = query.limit == 0

    def part(self) -> Flow[Sequence[Entry]]:
        """The entries of the next part, until `is_over`. Raises `Error`."""
        try:
            part = yield from self._next()
        except BaseException:
            self.close()
            raise
        self.revision = part.revision
        # Only the last part tells the count, and without a key there is one part.
        if part.count > 0 or not part.more:
            self.count, self.has_more = part.count, part.more
            self.close()
        return [messages.entry(entry) for entry in part.entries]

    def close(self) -> None:
        self.is_over = True
        if self._answer is not None:
            self._answer[1].cancel()
            self._answer = None

    def _next(self) -> Flow[kv.ScanResponse]:
        if self._answer is None:
            node, stream, first = yield from self._caller.call(Repeat.READ, self._begin)
            self._answer = node, stream
            return first
        node, stream = self._answer
        begun, until = self._caller.now(), self._caller.until()
        try:
            pending = stream.next((yield from me()))
            return (yield from pending.wait(until))
        except Fault as fault:
            fault = fault.of_read()
            self._caller.note(node, fault, until - begun)
            if fault.retryability is not Retryability.LATER:
                raise fault.error(node.address) from None
            message = f"the scan was cut off, begin it again: {node.address}: {fault}"
            refusal = fault.refusal(node.address) if fault.answered else None
            raise Interrupted(message, refusal=refusal) from None

    def _begin(self, node: Node, until: float) -> Flow[tuple[Node, Stream[kv.ScanResponse], kv.ScanResponse]]:
        request = kv.ScanRequest(
            range=messages.key_range(self._query.keys),
            limit=self._query.limit or 0,
            keys_only=self._query.keys_only,
            count_only=self._query.count_only,
            cluster_id=node.cluster,
        )
        stream = node.stream(SCAN, request)
        try:
            pending = stream.next((yield from me()))
            return node, stream, (yield from pending.wait(until))
        except BaseException:
            stream.cancel()
            raise


def whole(caller: Caller, query: Query) -> Flow[tuple[list[Entry], int]]:
    """All entries, and the number of keys. Begins again if it is cut off, as the caller has seen nothing."""
    deadline = caller.until()
    while True:
        reader = ScanReader(caller, query)
        entries: list[Entry] = []
        try:
            while not reader.is_over:
                entries.extend((yield from reader.part()))
        except Interrupted:
            if caller.now() >= deadline:
                raise
        else:
            return entries, reader.count
        finally:
            reader.close()
