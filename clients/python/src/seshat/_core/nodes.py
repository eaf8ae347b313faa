"""The nodes that a client knows, its connections to them, the leader, and the cluster.

The first leader that is found decides which cluster a client belongs to: from then on its requests name that
cluster, and nodes of any other refuse them. The client follows another cluster only if that says that it was
recovered from the known one, and only if the client was not told to keep to one.

All of this is shared by the threads of a program.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from seshat._core.fault import Fault
from seshat._core.flow import Flow, Turn, me
from seshat._core.options import Options
from seshat._core.transport import Channel, Duplex, Method, Purpose, Req, Res, Runtime, Stream

log = logging.getLogger("seshat")

# Nodes that are known besides the endpoints because other nodes named them.
_MAX_LEARNED = 64


@dataclass(frozen=True, slots=True)
class Node:
    """A node and a connection to it, for one call."""

    address: str
    purpose: Purpose
    channel: Channel
    cluster: int | None
    """The cluster that requests name."""
    nodes: Nodes

    def call(self, method: Method[Req, Res], request: Req, until: float) -> Flow[Res]:
        """Makes a call. Raises `Fault`."""
        inbox = yield from me()
        left = max(until - self.nodes.options.clocks.monotonic(), 0.0)
        pending = self.channel.call(method, request, left, inbox)
        return (yield from pending.wait(until))

    def stream(self, method: Method[Any, Res], request: Message) -> Stream[Res]:
        return self.channel.stream(method, request)

    def duplex(self, method: Method[Any, Res]) -> Duplex[Res]:
        return self.channel.duplex(method)

    def of(self, cluster: int | None) -> Node:
        return replace(self, cluster=cluster)


class Nodes:
    """The state that all calls of a client share."""

    def __init__(self, endpoints: Iterable[str], options: Options, runtime: Runtime) -> None:
        self.endpoints = tuple(endpoints)
        self.options = options
        self.runtime = runtime
        self.searching = Turn()
        """Held during a search for the leader: all other calls wait for its result."""
        self.awaits = Turn(options.awaits)
        """Held by the claims whose state is asked for."""
        self.closed = False
        self._lock = threading.RLock()
        self._cluster = options.cluster
        self._leader: str | None = None
        self._heard = 0.0
        self._channels: dict[tuple[str, Purpose], Channel] = {}
        self._warned = False
        weakref.finalize(self, _retire, self._channels).atexit = False

    @property
    def cluster(self) -> int | None:
        return self._cluster

    def leader(self, age: float | None) -> str | None:
        """The node that served last, if that was within `age`."""
        with self._lock:
            fresh = age is None or self.options.clocks.monotonic() - self._heard < age
            return self._leader if fresh else None

    def remember_leader(self, address: str) -> None:
        with self._lock:
            self._leader = address
            self._heard = self.options.clocks.monotonic()

    def served(self, address: str) -> None:
        """The node has just served a call, as only the leader does."""
        with self._lock:
            if self._leader == address:
                self._heard = self.options.clocks.monotonic()

    def connected(self) -> list[str]:
        """The nodes that calls went to, endpoints or not."""
        with self._lock:
            return [address for address, purpose in self._channels if purpose is Purpose.CALLS]

    def learn(self, cluster: int | None) -> int | None:
        """A leader of `cluster` has answered. Returns the cluster that requests name."""
        with self._lock:
            if self._cluster is None:
                self._cluster = cluster
            return self._cluster

    def note(self, node: Node, fault: Fault) -> None:
        """Updates the state after a fault of `node`."""
        other = fault.other_cluster
        with self._lock:
            if other is not None and node.cluster is not None:
                self._meet(node, other.cluster_id, other.successor)
            if fault.ends_leadership and self._leader == node.address:
                self._leader = None
            key = (node.address, node.purpose)
            # Another call may have replaced the connection in the meantime.
            if fault.silent and self._channels.get(key) is node.channel:
                self._channels.pop(key).retire()

    def _meet(self, node: Node, other: int, successor: bool) -> None:
        if not successor:
            if not self._warned:
                self._warned = True
                log.warning(
                    "%s belongs to another cluster (%016x) than this client: it is not asked for anything",
                    node.address,
                    other,
                )
        elif self.options.cluster is None and self._cluster == node.cluster:
            self._cluster = other
            log.warning(
                "the cluster %016x was recovered by an operator, as %016x: writes that were acknowledged "
                "before may be lost, and its sessions are over. This client goes on with what was recovered",
                node.cluster,
                other,
            )

    def dial_anew(self, node: Node) -> None:
        """Replaces the connection to `node`: its address may lead to another node then."""
        with self._lock:
            key = (node.address, node.purpose)
            if self._channels.get(key) is node.channel:
                self._channels.pop(key).retire()

    def node(self, purpose: Purpose, address: str) -> Node:
        """The node at `address`, and a connection for `purpose`."""
        with self._lock:
            key = (address, purpose)
            channel = self._channels.get(key)
            if channel is None:
                if len(self._channels) >= 3 * (len(self.endpoints) + _MAX_LEARNED):
                    self._forget_learned()
                channel = self._channels[key] = self.runtime.connect(address)
            return Node(address, purpose, channel, self._cluster, self)

    def _forget_learned(self) -> None:
        for key in [key for key in self._channels if key[0] not in self.endpoints]:
            self._channels.pop(key).retire()

    def over(self, purpose: Purpose, node: Node) -> Node:
        """The same node, over a connection for `purpose`."""
        if node.purpose is purpose:
            return node
        return self.node(purpose, node.address).of(node.cluster)

    def close(self) -> None:
        """Closes all connections, when the calls on them have ended."""
        with self._lock:
            self.closed = True
            _retire(self._channels)


def _retire(channels: dict[tuple[str, Purpose], Channel]) -> None:
    for channel in channels.values():
        channel.retire()
    channels.clear()
