"""A world without time of its own: scripted nodes, and a clock that moves when all flows wait."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from seshat._core.call import Caller
from seshat._core.fault import Fault, broken, of_status, unreachable
from seshat._core.flow import FOREVER, Flow, Inbox, Me, Pending
from seshat._core.nodes import Nodes
from seshat._core.options import Clocks, Options
from seshat._core.transport import Method
from seshat.kv.v1 import error_pb2
from seshat.kv.v1 import kv_service_pb2 as kv

T = TypeVar("T")

CLUSTER = 0xABCDEF0123456789
LATENCY = 0.001


class Silent:
    """A node takes the request and never answers."""


SILENT = Silent()
Reaction: TypeAlias = "Message | Fault | Silent | list[Any]"
"""What a node does with a request: a list is what a stream brings."""
Script: TypeAlias = Callable[[str, Any], Reaction]


@dataclass
class Request:
    """A request that has reached a node."""

    at: float
    address: str
    method: str
    message: Any


@dataclass(eq=False)
class _Task:
    flow: Generator[Any, Any, Any]
    is_nudged: bool = False
    until: float = 0.0
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None
    started: bool = False

    def nudge(self) -> None:
        self.is_nudged = True

    def step(self) -> None:
        answer = self.is_nudged if self.started else None
        self.started, self.is_nudged = True, False
        try:
            effect = self.flow.send(answer)
            while isinstance(effect, Me):
                effect = self.flow.send(self)
            self.until = effect.until
        except StopIteration as end:
            self.is_done, self.result = True, end.value
        except BaseException as error:
            self.is_done, self.error = True, error


@dataclass
class World:
    """Nodes by their addresses, and what has reached them."""

    scripts: dict[str, Script] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    now: float = 1000.0
    suspended: float = 0.0
    tasks: list[_Task] = field(default_factory=list)
    connections: dict[str, int] = field(default_factory=dict)
    """How often each address was connected to."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """The addresses of names."""
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterable[int] = field(default_factory=itertools.count)

    def caller(self, *endpoints: str, timeout: float = 5.0, cluster: int | None = None, awaits: int = 3072) -> Caller:
        clocks = Clocks(lambda: self.now, lambda: self.now + self.suspended)
        options = Options(timeout=timeout, cluster=cluster, awaits=awaits, clocks=clocks, random=random.Random(1))
        return Caller(Nodes(endpoints or tuple(self.scripts), options, self), timeout)

    def sent(self, method: str) -> list[Any]:
        """The requests of this method, in order."""
        return [it.message for it in self.requests if it.method == method]

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(iter(self._order)), action))

    def spawn(self, flow: Flow[None]) -> None:
        self.tasks.append(_Task(flow))

    def connect(self, address: str) -> Any:
        self.connections[address] = self.connections.get(address, 0) + 1
        return _Channel(self, address)

    def resolve(self, address: str, inbox: Inbox) -> Pending[list[str]]:
        pending: Pending[list[str]] = Pending(inbox)
        pending.done(self.names.get(address, []))
        return pending

    def run(self, flow: Flow[T]) -> T:
        """Carries out a flow, and whatever is in the background meanwhile."""
        main = _Task(flow)
        self.tasks.append(main)
        self.go(lambda: main.is_done)
        if main.error is not None:
            raise main.error
        result: T = main.result
        return result

    def begin(self, flow: Flow[Any]) -> _Task:
        """Begins a flow beside others."""
        task = _Task(flow)
        self.tasks.append(task)
        return task

    def until(self, moment: float) -> None:
        """Lets time pass."""
        self.at(moment, lambda: None)
        self.go(lambda: self.now >= moment)

    def go(self, is_over: Callable[[], bool]) -> None:
        for _ in range(100_000):
            ready = [task for task in self.tasks if task.is_nudged or task.until <= self.now]
            if ready:
                ready[0].step()
                self.tasks = [task for task in self.tasks if not task.is_done]
            if is_over():
                return
            if ready:
                continue
            moments = [task.until for task in self.tasks] + [event[0] for event in self._events[:1]]
            moment = min(moments, default=FOREVER)
            assert moment != FOREVER, "all flows wait for ever"
            self.now = max(self.now, moment)
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
        raise AssertionError("a flow never waits")


class _Call(Pending[Any]):
    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class _Channel:
    world: World
    address: str
    is_retired: bool = False

    def _react(self, method: Method[Any, Any], message: Any) -> Reaction:
        script = self.world.scripts.get(self.address)
        if script is None:
            return unreachable("connection refused")
        copy = type(message).FromString(message.SerializeToString())
        self.world.requests.append(Request(self.world.now, self.address, method.name, copy))
        return script(method.name, copy)

    def call(self, method: Method[Any, Any], request: Message, timeout: float, inbox: Inbox) -> Any:
        call = _Call(inbox)
        reaction = self._react(method, request)
        if not isinstance(reaction, (Silent, list)):
            self.world.at(self.world.now + LATENCY, lambda: call.done(reaction))
        return call

    def stream(self, method: Method[Any, Any], request: Message) -> Any:
        stream = _Stream(self, method)
        stream.send(request)
        return stream

    def duplex(self, method: Method[Any, Any]) -> Any:
        return _Stream(self, method)

    def retire(self) -> None:
        self.is_retired = True


class _Stream:
    def __init__(self, channel: _Channel, method: Method[Any, Any]) -> None:
        self._channel = channel
        self._method = method
        self._items: list[Any] = []
        self._pending: Pending[Any] | None = None

    def send(self, request: Message) -> None:
        reaction = self._channel._react(self._method, request)
        self._items += reaction if isinstance(reaction, list) else [reaction]
        self._supply()

    def next(self, inbox: Inbox) -> Pending[Any]:
        if self._pending is None or self._pending.is_taken:
            self._pending = Pending(inbox)
            self._supply()
        self._pending.inbox = inbox
        return self._pending

    def _supply(self) -> None:
        pending = self._pending
        if pending is None or pending.outcome is not None or not self._items:
            return
        item = self._items[0]
        if not isinstance(item, Silent):
            self._items.pop(0)
            world = self._channel.world
            world.at(world.now + LATENCY, lambda: pending.done(item))

    def end(self) -> None:
        self._items.append(broken("the node ended the stream"))

    def cancel(self) -> None:
        pass


def refusal(reason: str, applied: str = "NO", code: str = "UNAVAILABLE", **fields: Any) -> Fault:
    """The fault of a node that refuses."""
    detail = error_pb2.ErrorDetail(applied=error_pb2.Applied.Value(f"APPLIED_{applied}"))
    getattr(detail, reason).SetInParent()
    for name, value in fields.items():
        setattr(getattr(detail, reason), name, value)
    return of_status(grpc.StatusCode[code], f"{reason}!", trailers(detail), None)


def trailers(detail: error_pb2.ErrorDetail) -> list[tuple[str, str | bytes]]:
    status = status_pb2.Status()
    status.details.add().Pack(detail)
    return [("grpc-status-details-bin", status.SerializeToString())]


def leader(then: Script | None = None) -> Script:
    """A node that leads: it answers the question of a search, and `then` the rest."""

    def answer(method: str, request: Any) -> Reaction:
        if method == "Get" and request.key == b"\0":
            return kv.GetResponse(cluster_id=CLUSTER)
        if then is not None:
            return then(method, request)
        if method == "Get":
            return kv.GetResponse(value=b"v", revision=3, applied_index=4)
        return kv.SetResponse(applied_index=7)

    return answer


def follower(hint: str | None = None) -> Script:
    """A node that does not lead, and names the leader."""
    fields = {} if hint is None else {"leader_addr": hint}
    return lambda method, request: refusal("not_leader", code="FAILED_PRECONDITION", **fields)


def one_by_one(*reactions: Reaction) -> Script:
    """Reacts so to one request after the other."""
    left = list(reactions)
    return lambda method, request: left.pop(0)
