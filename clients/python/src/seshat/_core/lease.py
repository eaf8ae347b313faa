"""The lease of a living session: until when its client may rely on it.

The cluster counts the TTL from when it applies a renewal, the client from when it sent it, and only for 90 % of
the TTL. So the client counts first, as long as the rates of their clocks differ by at most 5 %.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from seshat._core.flow import Flow, Inbox, Wait, me
from seshat._core.options import LOOK, Clocks
from seshat.errors import Lost, SessionLost

_HOLDS = 0.9


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment on the monotonic clock, and on one that counts suspended time."""

    monotonic: float
    boot: float

    @classmethod
    def now(cls, clocks: Clocks) -> Moment:
        return cls(clocks.monotonic(), clocks.boot())

    def elapsed(self, clocks: Clocks) -> float:
        """The time since then, by the clock that has counted more."""
        return max(clocks.monotonic() - self.monotonic, clocks.boot() - self.boot)


class Lease:
    """The lease. Once it is lost, it stays lost."""

    def __init__(self, ttl: float, clocks: Clocks, sent: Moment) -> None:
        """It was granted for a request that was sent at `sent`."""
        self.ttl = ttl
        self._clocks = clocks
        self._renewed = sent
        self._why: Lost | None = None
        self._lock = threading.RLock()
        self._waiting: list[Inbox] = []
        self._callbacks: list[Callable[[Lost], None]] = []

    @property
    def end(self) -> float:
        """When it is lost at the latest by the monotonic clock, unless it is renewed."""
        return self._renewed.monotonic + self.ttl * _HOLDS

    @property
    def renewal_due(self) -> float:
        """When to renew it, by the monotonic clock."""
        age = self._renewed.elapsed(self._clocks)
        return self._clocks.monotonic() + self.ttl / 3 - age

    def renew(self, sent: Moment) -> None:
        """A renewal that was sent at `sent` was answered."""
        with self._lock:
            if sent.monotonic > self._renewed.monotonic:
                self._renewed = sent

    def lose(self, why: Lost) -> None:
        """Ends it."""
        with self._lock:
            if self._why is not None:
                return
            self._why = why
            waiting, callbacks = list(self._waiting), list(self._callbacks)
        for inbox in waiting:
            inbox.nudge()
        for callback in callbacks:
            callback(why)

    def lost(self) -> Lost | None:
        """Why it is lost, if it is. Reads the clocks."""
        if self._why is None and self._renewed.elapsed(self._clocks) >= self.ttl * _HOLDS:
            self.lose(Lost.NOT_RENEWED)
        return self._why

    def holds(self) -> None:
        """Raises `SessionLost` if it is lost."""
        why = self.lost()
        if why is not None:
            raise SessionLost(why)

    def call_when_lost(self, callback: Callable[[Lost], None]) -> None:
        """Calls back once it is lost: now, if it is."""
        with self._lock:
            if self._why is None:
                self._callbacks.append(callback)
                return
        callback(self._why)

    def wake(self, inbox: Inbox) -> None:
        """Nudges an inbox when it is lost."""
        with self._lock:
            self._waiting.append(inbox)
            lost = self._why is not None
        if lost:
            inbox.nudge()

    def forget(self, inbox: Inbox) -> None:
        with self._lock:
            self._waiting.remove(inbox)

    def wait_lost(self) -> Flow[Lost]:
        """Waits until it is lost."""
        inbox = yield from me()
        self.wake(inbox)
        try:
            while True:
                why = self.lost()
                if why is not None:
                    return why
                yield Wait(min(self._clocks.monotonic() + LOOK, self.end))
        finally:
            self.forget(inbox)
