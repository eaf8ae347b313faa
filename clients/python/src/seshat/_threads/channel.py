"""Connections, whose calls are carried out by threads of gRPC."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Generic

import grpc
from google.protobuf.message import Message

from seshat._core.fault import Fault, broken, of_status
from seshat._core.flow import Inbox, Pending
from seshat._core.transport import CHANNEL_OPTIONS, Method, Res
from seshat.kv.v1.kv_service_pb2_grpc import KvServiceStub
from seshat.lock.v1.lock_service_pb2_grpc import LockServiceStub


class ThreadChannel:
    """A connection to a node."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stubs = {"kv": KvServiceStub(self._channel), "lock": LockServiceStub(self._channel)}
        self._lock = threading.RLock()
        self._active = 0
        self._is_retired = False

    def call(self, method: Method[Any, Res], request: Message, timeout: float, inbox: Inbox) -> Pending[Res]:
        call: _Call[Res] = _Call(inbox)
        self._enter()
        try:
            make = getattr(self._stubs[method.service], method.name)
            call.begin(make.future(request, timeout=timeout), self._leave)
        except ValueError as error:
            # The channel was closed.
            call.done(broken(str(error)))
            self._leave()
        return call

    def stream(self, method: Method[Any, Res], request: Message) -> ThreadStream[Res]:
        self._enter()
        return ThreadStream(getattr(self._stubs[method.service], method.name), request, self._leave)

    def duplex(self, method: Method[Any, Res]) -> ThreadStream[Res]:
        self._enter()
        return ThreadStream(getattr(self._stubs[method.service], method.name), None, self._leave)

    def retire(self) -> None:
        with self._lock:
            self._is_retired = True
            ends = self._active == 0
        if ends:
            self._close()

    def _enter(self) -> None:
        with self._lock:
            self._active += 1

    def _leave(self) -> None:
        with self._lock:
            self._active -= 1
            ends = self._is_retired and self._active == 0
        if ends:
            self._close()

    def _close(self) -> None:
        # In a thread of its own: it waits for the thread of the library that may be the present one.
        threading.Thread(target=self._channel.close, daemon=True).start()


class _Call(Pending[Res]):
    """A call that is under way."""

    __slots__ = ("_ended", "_future")

    def begin(self, future: Any, ended: Callable[[], None]) -> None:
        self._future = future
        self._ended = ended
        future.add_done_callback(self._finished)

    def cancel(self) -> None:
        self._future.cancel()

    def _finished(self, future: Any) -> None:
        try:
            self.done(future.result())
        except grpc.RpcError as error:
            self.done(_fault(error))
        except grpc.FutureCancelledError:
            self.done(broken("the call was cancelled"))
        self._ended()


class ThreadStream(Generic[Res]):
    """The answers of a streaming call. A thread reads one whenever it is asked to."""

    def __init__(
        self,
        make: Callable[..., Any],
        request: Message | None,
        ended: Callable[[], None],
    ) -> None:
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._wanted: queue.SimpleQueue[Pending[Res] | None] = queue.SimpleQueue()
        self._pending: Pending[Res] | None = None
        self._ended = ended
        self._call: Any = make(iter(self._requests.get, None) if request is None else request)
        threading.Thread(target=self._read, name="seshat-stream", daemon=True).start()

    def next(self, inbox: Inbox) -> Pending[Res]:
        if self._pending is None or self._pending.is_taken:
            self._pending = Pending(inbox)
            self._wanted.put(self._pending)
        else:
            self._pending.inbox = inbox
        return self._pending

    def send(self, request: Message) -> None:
        self._requests.put(request)

    def end(self) -> None:
        self._requests.put(None)

    def cancel(self) -> None:
        self._call.cancel()
        self._requests.put(None)
        self._wanted.put(None)

    def _read(self) -> None:
        end: Fault | None = None
        while (pending := self._wanted.get()) is not None:
            try:
                pending.done(next(self._call) if end is None else end)
            except StopIteration:
                end = broken("the node ended the stream")
                pending.done(end)
            except grpc.RpcError as error:
                end = _fault(error)
                pending.done(end)
        self._ended()


_NO_MESSAGE = "Exception deserializing response!"
"""The words of the library for an answer that is no message."""


def _fault(error: Any) -> Fault:
    # The library waits for ever for the debug string of a call that it has ended by itself: one that was cancelled
    # here, and one whose answer is no message.
    is_local = error.code() is grpc.StatusCode.CANCELLED or error.details() == _NO_MESSAGE
    debug = None if is_local else error.debug_error_string()
    return of_status(error.code(), error.details(), error.trailing_metadata(), debug)
