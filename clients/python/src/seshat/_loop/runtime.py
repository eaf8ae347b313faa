"""Carries out flows in an event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from seshat._core.flow import FOREVER, Flow, Inbox, Me, Pending
from seshat._core.transport import addresses
from seshat._loop.channel import LoopChannel

T = TypeVar("T")


class LoopInbox:
    """Wakes a task. Everything that nudges it runs in the same event loop."""

    __slots__ = ("_is_nudged", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_nudged = False
        self._waiter: asyncio.Future[None] | None = None

    def nudge(self) -> None:
        self._is_nudged = True
        _wake(self._waiter)

    async def wait(self, until: float) -> bool:
        if self._is_nudged:
            self._is_nudged = False
            return True
        self._waiter = waiter = self._loop.create_future()
        timer = None
        if until != FOREVER:
            timer = self._loop.call_later(max(until - time.monotonic(), 0.0), _wake, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        nudged, self._is_nudged = self._is_nudged, False
        return nudged


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Loop:
    """The runtime of a client."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background: set[asyncio.Task[Any]] = set()

    def connect(self, address: str) -> LoopChannel:
        return LoopChannel(address, self)

    def resolve(self, address: str, inbox: Inbox) -> Pending[list[str]]:
        pending: Pending[list[str]] = Pending(inbox)
        self.begin(_resolve(address, pending))
        return pending

    def spawn(self, flow: Flow[None]) -> None:
        self.begin(self.run(flow))

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Carries out `work` in the background."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._begin_elsewhere(work)
        else:
            task = self._loop.create_task(work)
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    def _begin_elsewhere(self, work: Coroutine[Any, Any, Any]) -> None:
        """What the program has dropped may be collected in another thread, and after the end of the loop."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.begin, work)
                return
        except RuntimeError:
            pass
        work.close()

    async def drain(self, timeout: float) -> None:
        """Waits until nothing is left in the background."""
        if self._background:
            await asyncio.wait(list(self._background), timeout=timeout)

    async def run(self, flow: Flow[T]) -> T:
        """Carries out a flow."""
        inbox = LoopInbox(asyncio.get_running_loop())
        try:
            effect = next(flow)
            while True:
                answer = inbox if isinstance(effect, Me) else await inbox.wait(effect.until)
                effect = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()


async def _resolve(address: str, pending: Pending[list[str]]) -> None:
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        pending.done(addresses(found))
    except OSError:
        pending.done([])
