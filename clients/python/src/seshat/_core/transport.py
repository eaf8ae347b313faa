"""What the logic needs of gRPC, which a thread and an event loop give in different ways."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from seshat._core.flow import Flow, Inbox, Pending
from seshat._core.options import CONNECT_TIMEOUT, KEEPALIVE, MAX_MESSAGE_BYTES
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.kv.v1 import watch_pb2
from seshat.lock.v1 import lock_service_pb2 as lock

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Req, Res]):
    """A method of a service, by its name in the generated stub."""

    service: str
    name: str
    request: type[Req]
    response: type[Res]


GET = Method("kv", "Get", kv.GetRequest, kv.GetResponse)
SET = Method("kv", "Set", kv.SetRequest, kv.SetResponse)
DELETE = Method("kv", "Delete", kv.DeleteRequest, kv.DeleteResponse)
TXN = Method("kv", "Txn", kv.TxnRequest, kv.TxnResponse)
SCAN = Method("kv", "Scan", kv.ScanRequest, kv.ScanResponse)
WATCH = Method("kv", "Watch", watch_pb2.WatchRequest, watch_pb2.WatchResponse)
OPEN_SESSION = Method("kv", "OpenSession", kv.OpenSessionRequest, kv.OpenSessionResponse)
KEEP_ALIVE = Method("kv", "KeepAlive", kv.KeepAliveRequest, kv.KeepAliveResponse)
CLOSE_SESSION = Method("kv", "CloseSession", kv.CloseSessionRequest, kv.CloseSessionResponse)
PIPELINE = Method("kv", "Pipeline", kv.PipelineRequest, kv.PipelineResponse)
ACQUIRE = Method("lock", "Acquire", lock.AcquireRequest, lock.AcquireResponse)
AWAIT = Method("lock", "Await", lock.AwaitRequest, lock.AwaitResponse)
RELEASE = Method("lock", "Release", lock.ReleaseRequest, lock.ReleaseResponse)
INSPECT = Method("lock", "Inspect", lock.InspectRequest, lock.InspectResponse)
OBSERVE = Method("lock", "Observe", lock.ObserveRequest, lock.ObserveResponse)


class Purpose(Enum):
    """The use of a connection. What is read slowly fills its connection, and must not delay calls."""

    CALLS = "calls"
    STREAMS = "streams"
    WATCHES = "watches"


class Stream(Protocol[Res]):
    """The answers of a streaming call, one after the other."""

    def next(self, inbox: Inbox) -> Pending[Res]:
        """Asks for the next answer, or goes on to ask. Its fault without a message means the end."""

    def cancel(self) -> None:
        """Ends the call."""


class Duplex(Stream[Res], Protocol[Res]):
    """A streaming call in both directions."""

    def send(self, request: Message) -> None:
        """Sends a request. Never blocks."""

    def end(self) -> None:
        """Sends no more requests."""


class Channel(Protocol):
    """A connection to a node, which is made when it is first used."""

    def call(self, method: Method[Any, Res], request: Message, timeout: float, inbox: Inbox) -> Pending[Res]:
        """Starts a call. Never blocks."""

    def stream(self, method: Method[Any, Res], request: Message) -> Stream[Res]:
        """Starts a call whose answers are a stream."""

    def duplex(self, method: Method[Any, Res]) -> Duplex[Res]:
        """Starts a streaming call in both directions."""

    def retire(self) -> None:
        """Takes no more calls, and closes when those under way have ended."""


class Runtime(Protocol):
    """What carries out flows."""

    def connect(self, address: str) -> Channel:
        """A connection of its own."""

    def resolve(self, address: str, inbox: Inbox) -> Pending[list[str]]:
        """Looks up all addresses of the name in ``host:port``."""

    def spawn(self, flow: Flow[None]) -> None:
        """Carries out a flow in the background."""


def _milliseconds(duration: float) -> int:
    return round(duration * 1000)


CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # What the library repeats by itself may be applied twice.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _milliseconds(KEEPALIVE)),
    ("grpc.keepalive_timeout_ms", _milliseconds(KEEPALIVE)),
    # Without this the library waits a minute for the answer to a ping, whatever the timeout above.
    ("grpc.http2.ping_timeout_ms", _milliseconds(KEEPALIVE)),
    ("grpc.http2.max_pings_without_data", 0),
    # Channels with equal options share connections otherwise, also those of another use.
    ("grpc.use_local_subchannel_pool", 1),
    # The pauses of the client count, not those of the library. The shortest one is also its connect timeout.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", _milliseconds(CONNECT_TIMEOUT)),
    ("grpc.max_reconnect_backoff_ms", 100),
]


def addresses(found: list[tuple[Any, ...]]) -> list[str]:
    """The addresses of a name, as endpoints."""
    pairs = [(entry[4][0], entry[4][1]) for entry in found]
    return [f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}" for host, port in pairs]
