"""Carries out flows in the threads of the program."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import socket
import threading
import time
from typing import TypeVar

from seshat._core.flow import FOREVER, Flow, Inbox, Me, Pending
from seshat._core.transport import addresses
from seshat._threads.background import Background
from seshat._threads.channel import ThreadChannel
from seshat.errors import Cancelled, Invalid

T = TypeVar("T")


log = logging.getLogger("seshat")


_forks = itertools.count(1)


_generation = 0


def _forked() -> None:
    global _generation
    _generation = next(_forks)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class ThreadInbox:
    """Wakes a thread."""

    __slots__ = ("_nudges",)

    def __init__(self) -> None:
        self._nudges: queue.SimpleQueue[None] = queue.SimpleQueue()

    def nudge(self) -> None:
        self._nudges.put(None)

    def wait(self, until: float) -> bool:
        try:
            if until == FOREVER:
                self._nudges.get()
            else:
                self._nudges.get(timeout=max(until - time.monotonic(), 0.0))
        except queue.Empty:
            return False
        return True


class Cancellation:
    """Ends calls that wait in other threads.

    ``client.cancelled_by(cancellation)`` makes calls that `cancel` ends, with `seshat.Cancelled`.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_cancelled = False
        self._waiting: list[Inbox] = []

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def cancel(self) -> None:
        """Ends the calls that are under way, and all later ones."""
        with self._lock:
            self._is_cancelled = True
            waiting = list(self._waiting)
        for inbox in waiting:
            inbox.nudge()

    def _wake(self, inbox: Inbox) -> None:
        with self._lock:
            self._waiting.append(inbox)

    def _forget(self, inbox: Inbox) -> None:
        with self._lock:
            self._waiting.remove(inbox)


class Threads:
    """The runtime of a client."""

    def __init__(self) -> None:
        self._generation = _generation
        self._background = Background()

    def connect(self, address: str) -> ThreadChannel:
        return ThreadChannel(address)

    def resolve(self, address: str, inbox: Inbox) -> Pending[list[str]]:
        pending: Pending[list[str]] = Pending(inbox)
        threading.Thread(target=lambda: pending.done(_resolve(address)), daemon=True).start()
        return pending

    def spawn(self, flow: Flow[None]) -> None:
        self._background.spawn(flow)

    def drain(self, timeout: float) -> None:
        """Waits until nothing is left in the background."""
        self._background.drain(timeout)

    def run(self, flow: Flow[T], cancellation: Cancellation | None = None, until: float = FOREVER) -> T:
        """Carries out a flow in this thread. Raises `TimeoutError` if it waits beyond `until`."""
        if self._generation != _generation:
            raise Invalid("a client cannot be used after a fork: make it in the child")
        inbox = ThreadInbox()
        if cancellation is not None:
            cancellation._wake(inbox)
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Me):
                    effect = flow.send(inbox)
                    continue
                if cancellation is not None and cancellation.is_cancelled:
                    effect = flow.throw(Cancelled("the call was cancelled"))
                    continue
                nudged = inbox.wait(min(effect.until, until))
                if not nudged and time.monotonic() >= until and effect.until > until:
                    raise TimeoutError
                effect = flow.send(nudged)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()
            if cancellation is not None:
                cancellation._forget(inbox)


def _resolve(address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return addresses(found)
