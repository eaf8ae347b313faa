"""Connections, whose calls are carried out by tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

import grpc
from google.protobuf.message import Message

from seshat._core.fault import Fault, broken, of_status
from seshat._core.flow import Inbox, Pending
from seshat._core.transport import CHANNEL_OPTIONS, Method, Res
from seshat._threads.channel import ThreadChannel, ThreadStream
from seshat.kv.v1.kv_service_pb2_grpc import KvServiceStub
from seshat.lock.v1.lock_service_pb2_grpc import LockServiceStub

if TYPE_CHECKING:
    from seshat._loop.runtime import Loop


class LoopChannel:
    """A connection to a node."""

    def __init__(self, address: str, loop: Loop) -> None:
        self._address = address
        self._loop = loop
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stubs = {"kv": KvServiceStub(self._channel), "lock": LockServiceStub(self._channel)}
        self._active = 0
        self._is_retired = False

    def call(self, method: Method[Any, Res], request: Message, timeout: float, inbox: Inbox) -> Pending[Res]:
        make = getattr(self._stubs[method.service], method.name)
        call: _Call[Res] = _Call(inbox)
        call.begin(make(request, timeout=timeout))
        self._active += 1
        self._loop.begin(call.finish(self._leave))
        return call

    def stream(self, method: Method[Any, Res], request: Message) -> LoopStream[Res]:
        make = getattr(self._stubs[method.service], method.name)
        self._active += 1
        return LoopStream(make, request, self._loop, self._leave)

    def duplex(self, method: Method[Any, Res]) -> ThreadedStream[Res]:
        # By threads: if a stream ends while a task sends a request, the library forgets the status, and a refusal with
        # NO would be an unknown outcome.
        channel = ThreadChannel(self._address)
        stream = channel.duplex(method)
        channel.retire()
        return ThreadedStream(stream)

    def retire(self) -> None:
        self._is_retired = True
        self._close_if_idle()

    def _leave(self) -> None:
        self._active -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_retired and self._active == 0:
            self._loop.begin(self._channel.close())


_NO_MESSAGE = "the answer is no message"


class _Call(Pending[Res]):
    """A call that is under way."""

    __slots__ = ("_call",)

    def begin(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> None:
        self._call.cancel()

    async def finish(self, ended: Callable[[], None]) -> None:
        try:
            # The library gives `None` for an answer that is no message.
            self.done(await self._call or broken(_NO_MESSAGE))
        except grpc.aio.AioRpcError as error:
            self.done(_fault(error))
        except (asyncio.CancelledError, grpc.aio.UsageError) as error:
            self.done(broken(f"the call was cancelled: {error}"))
        finally:
            ended()


class LoopStream(Generic[Res]):
    """The answers of a streaming call. A task reads one whenever it is asked to."""

    def __init__(
        self,
        make: Callable[..., Any],
        request: Message,
        loop: Loop,
        ended: Callable[[], None],
    ) -> None:
        self._pending: Pending[Res] | None = None
        self._end: Fault | None = None
        self._ended = ended
        self._is_cancelled = False
        self._loop = loop
        self._call: Any = make(request)

    def next(self, inbox: Inbox) -> Pending[Res]:
        if self._pending is None or self._pending.is_taken:
            self._pending = Pending(inbox)
            self._loop.begin(self._read(self._pending))
        else:
            self._pending.inbox = inbox
        return self._pending

    def cancel(self) -> None:
        if not self._is_cancelled:
            self._is_cancelled = True
            self._call.cancel()
            self._ended()

    async def _read(self, pending: Pending[Res]) -> None:
        if self._end is None:
            try:
                message = await self._call.read()
                if message is None:
                    self._call.cancel()
                    pending.done(broken(_NO_MESSAGE))
                    return
                if message is not grpc.aio.EOF:
                    pending.done(message)
                    return
                self._end = broken("the node ended the stream")
                code = await self._call.code()
                if code is not grpc.StatusCode.OK:
                    details = await self._call.details()
                    trailers = await self._call.trailing_metadata()
                    debug = self._call.debug_error_string()
                    self._end = of_status(code, details, trailers, debug)
            except grpc.aio.AioRpcError as error:
                self._end = _fault(error)
            except (asyncio.CancelledError, grpc.aio.UsageError) as error:
                self._end = broken(f"the call was cancelled: {error}")
        pending.done(self._end)


class _LoopInbox:
    """Wakes a task from another thread."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()

    def nudge(self) -> None:
        # If the loop has ended, nothing waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._inbox.nudge)


class ThreadedStream(Generic[Res]):
    """The answers of a streaming call that threads carry out."""

    def __init__(self, stream: ThreadStream[Res]) -> None:
        self._stream = stream
        self.send = stream.send
        self.end = stream.end
        self.cancel = stream.cancel

    def next(self, inbox: Inbox) -> Pending[Res]:
        return self._stream.next(_LoopInbox(inbox))


def _fault(error: grpc.aio.AioRpcError) -> Fault:
    return of_status(error.code(), error.details(), error.trailing_metadata(), error.debug_error_string())
