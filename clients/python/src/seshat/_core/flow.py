"""Flows: what the client does, apart from how it waits.

A flow is a generator. It yields only where it has to wait, and is driven by a thread or by an event loop; so
both clients share all logic, and a test drives it with a clock of its own. Nothing else in a flow blocks: calls are
started, and put a message into the *inbox* of the flow when something has happened. A message is no more than a
nudge: what has happened is to be found in the object that the flow waits for, so none is missed.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from seshat._core.fault import Fault, silence

T = TypeVar("T")

FOREVER = math.inf


class Inbox(Protocol):
    """Wakes a flow."""

    def nudge(self) -> None:
        """Wakes the flow, now or when it waits next. From any thread; never blocks."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits for a nudge, until a moment of the monotonic clock. Answered with whether one came."""

    until: float


@dataclass(frozen=True, slots=True)
class Me:
    """Answered at once with the inbox of the flow."""


Flow: TypeAlias = Generator["Wait | Me", Any, T]


def me() -> Flow[Inbox]:
    inbox: Inbox = yield Me()
    return inbox


def nudged(until: float) -> Flow[bool]:
    came: bool = yield Wait(until)
    return came


def sleep_until(clock: Callable[[], float], until: float) -> Flow[None]:
    while clock() < until:
        yield Wait(until)


class Pending(Generic[T]):
    """Something that was started, and its outcome once it is there."""

    __slots__ = ("inbox", "is_taken", "outcome")

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        """The flow that waits for it."""
        self.outcome: T | Fault | None = None
        self.is_taken = False
        """Whether a flow has got the outcome."""

    def done(self, outcome: T | Fault) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.inbox.nudge()

    def cancel(self) -> None:
        """Ends it, if it has no outcome."""

    def wait(self, until: float) -> Flow[T]:
        """Waits for the outcome. Raises `Fault`."""
        try:
            while self.outcome is None:
                if not (yield Wait(until)) and self.outcome is None:
                    raise silence()
        finally:
            if self.outcome is None:
                self.cancel()
        return self.take(self.outcome)

    def take(self, outcome: T | Fault) -> T:
        """Takes the outcome. Raises `Fault`."""
        self.is_taken = True
        if isinstance(outcome, Fault):
            raise outcome
        return outcome


def guarded(flow: Flow[T], check: Callable[[], None], clock: Callable[[], float], look: float) -> Flow[T]:
    """Carries out a flow until `check` raises, which is asked after every nudge, and every `look` seconds."""
    answer: object = None
    try:
        while True:
            check()
            effect = flow.send(answer)
            if isinstance(effect, Me):
                answer = yield effect
                continue
            while True:
                answer = yield Wait(min(effect.until, clock() + look))
                check()
                if answer or clock() >= effect.until:
                    break
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()


class Turn:
    """What a number of flows, one by default, have at a time: first come, first served."""

    def __init__(self, places: int = 1) -> None:
        self._lock = threading.RLock()
        self._free = places
        self._queue: OrderedDict[Inbox, None] = OrderedDict()

    def take(self, until: float) -> Flow[bool]:
        """Waits until it is this flow's turn. Returns whether that is so."""
        inbox = yield from me()
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return True
            self._queue[inbox] = None
        mine = False
        try:
            while self._waits(inbox):
                if not (yield Wait(until)) and self._waits(inbox):
                    return False
            mine = True
            return True
        finally:
            if not mine:
                self._leave(inbox)

    def give(self) -> None:
        """Ends the turn of a flow."""
        with self._lock:
            if not self._queue:
                self._free += 1
                return
            first, _ = self._queue.popitem(last=False)
        first.nudge()

    def _waits(self, inbox: Inbox) -> bool:
        with self._lock:
            return inbox in self._queue

    def _leave(self, inbox: Inbox) -> None:
        with self._lock:
            if inbox in self._queue:
                del self._queue[inbox]
                return
        # Its turn has come meanwhile.
        self.give()
