"""The numbers of a session's writes, and which of them are outstanding.

A number is given once. It is outstanding while a caller waits for its answer; after that the session moves past it,
and a node refuses a copy of that write that is still in flight. Numbers are given first come, first served: a batch
needs room for all of its writes at once, and would starve if single writes took every gap before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from seshat._core.flow import Flow, Inbox, Turn, Wait, me
from seshat.errors import DeadlineExceeded, Error
from seshat.kv.v1 import kv_service_pb2 as kv

# Numbers that may be outstanding: a node refuses more.
MAX_OUTSTANDING = 1024


class Numbers:
    """Gives the numbers of one session."""

    def __init__(self, client_id: int, holds: Callable[[], None] = lambda: None) -> None:
        """`holds` raises if the session is lost."""
        self.client_id = client_id
        self.holds = holds
        self._lock = threading.RLock()
        self._next = 1
        # In ascending order, because numbers are added so and dicts keep their order.
        self._outstanding: dict[int, None] = {}
        self._turn = Turn()
        self._waiting: Inbox | None = None

    def stamp(self, sequence: int) -> kv.Session:
        """The session field of a request about the write `sequence`, if it is sent now."""
        with self._lock:
            first = min(self._first_outstanding(), sequence)
        return kv.Session(client_id=self.client_id, sequence=sequence, first_outstanding=first)

    def take(self, count: int, until: float) -> Flow[list[int]]:
        """The next numbers, at most 1024, when so many may be outstanding. Raises `Error`."""
        if not (yield from self._turn.take(until)):
            raise _too_many()
        inbox = yield from me()
        try:
            self._waiting = inbox
            while True:
                self.holds()
                numbers = self._try_take(count)
                if numbers is not None:
                    return numbers
                if not (yield Wait(until)):
                    raise _too_many()
        finally:
            self._waiting = None
            self._turn.give()

    def done(self, numbers: list[int]) -> None:
        """The callers of these wait no longer."""
        with self._lock:
            for number in numbers:
                self._outstanding.pop(number, None)
        self.moved()

    def moved(self) -> None:
        """Wakes the first that waits: something has changed."""
        waiting = self._waiting
        if waiting is not None:
            waiting.nudge()

    def _try_take(self, count: int) -> list[int] | None:
        with self._lock:
            end = self._next + count
            if end > self._first_outstanding() + MAX_OUTSTANDING:
                return None
            numbers = list(range(self._next, end))
            self._next = end
            self._outstanding.update(dict.fromkeys(numbers))
            return numbers

    def _first_outstanding(self) -> int:
        return next(iter(self._outstanding), self._next)


def _too_many() -> Error:
    return DeadlineExceeded("too many writes of the session are outstanding")
