"""Connections, whose calls are carried out by tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

import grpc
from google.protobuf.message import Message

from seshat._core.fault import Fault, broken, of_status
from seshat._core.flow import Inbox, Pending
from seshat._core.transport import CHANNEL_OPTIONS, Method, Res
from seshat.kv.v1.kv_service_pb2_grpc import KvServiceStub
from seshat.lock.v1.lock_service_pb2_grpc import LockServiceStub

if TYPE_CHECKING:
    from seshat._loop.runtime import Loop


class LoopChannel:
    """A connection to a node."""

    def __init__(self, address: str, loop: Loop) -> None:
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

    def stream(self, method: Method[Any, Res], request: Message | None, timeout: float | None) -> LoopStream[Res]:
        make = getattr(self._stubs[method.service], method.name)
        self._active += 1
        return LoopStream(make, request, timeout, self._loop, self._leave)

    def retire(self) -> None:
        self._is_retired = True
        self._close_if_idle()

    def _leave(self) -> None:
        self._active -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_retired and self._active == 0:
            self._loop.begin(self._channel.close())


class _Call(Pending[Res]):
    """A call that is under way."""

    __slots__ = ("_call",)

    def begin(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> None:
        self._call.cancel()

    async def finish(self, ended: Callable[[], None]) -> None:
        try:
            self.done(await self._call)
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
        request: Message | None,
        timeout: float | None,
        loop: Loop,
        ended: Callable[[], None],
    ) -> None:
        self._requests: asyncio.Queue[Message | None] = asyncio.Queue()
        self._pending: Pending[Res] | None = None
        self._end: Fault | None = None
        self._ended = ended
        self._is_cancelled = False
        self._loop = loop
        self._call: Any = make(self._sent() if request is None else request, timeout=timeout)

    async def _sent(self) -> Any:
        while (request := await self._requests.get()) is not None:
            yield request

    def next(self, inbox: Inbox) -> Pending[Res]:
        if self._pending is None or self._pending.is_taken:
            self._pending = Pending(inbox)
            self._loop.begin(self._read(self._pending))
        else:
            self._pending.inbox = inbox
        return self._pending

    def send(self, request: Message) -> None:
        self._requests.put_nowait(request)

    def end(self) -> None:
        self._requests.put_nowait(None)

    def cancel(self) -> None:
        if not self._is_cancelled:
            self._is_cancelled = True
            self._call.cancel()
            self.end()
            self._ended()

    async def _read(self, pending: Pending[Res]) -> None:
        if self._end is None:
            try:
                message = await self._call.read()
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


def _fault(error: grpc.aio.AioRpcError) -> Fault:
    return of_status(error.code(), error.details(), error.trailing_metadata(), error.debug_error_string())
