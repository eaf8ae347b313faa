"""The reader of a watch: at one node after the other, for as long as the caller likes.

It takes the first node that answers, in a random order. When it loses the connection, or nothing comes for three
progress intervals, it says elsewhere where its caller stands, and goes on from there.

A node of another cluster does not refuse a watch: it sends a reset and its own state. So the reader asks a node that
resets for its cluster, before the caller is told to forget anything. A successor of the cluster is accepted as it is
by calls; any other is treated as a node that is down, unless no node of the former cluster is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from seshat._core import messages
from seshat._core.assembly import Assembly
from seshat._core.call import Caller
from seshat._core.fault import Fault, broken
from seshat._core.flow import Flow, me, sleep_until
from seshat._core.nodes import Node, log
from seshat._core.search import Search
from seshat._core.transport import GET, WATCH, Purpose, Stream
from seshat.errors import Error, Invalid, Refused, Unserved
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.kv.v1 import txn_pb2, watch_pb2
from seshat.updates import Disconnected, Position, Synced, Update

_SILENT_INTERVALS = 3
# Shortest time for which nodes are asked before the caller is told that none serves.
_SHORTEST_OUTAGE = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched."""

    keys: txn_pb2.KeyRange
    keys_only: bool = False
    progress_interval: float = 5.0


@dataclass(slots=True)
class _Connection:
    """The messages of one node."""

    node: Node
    stream: Stream[watch_pb2.WatchResponse]
    first: watch_pb2.WatchResponse | None
    cluster: int | None
    """The cluster of the node, if it has to be a certain one."""
    begun: float
    asked: float | None = None
    """Since when the next message is waited for, also if the caller has given up in between."""


class WatchReader:
    """Reads update after update."""

    def __init__(self, caller: Caller, watched: Watched, resume: Position | None, floor: int) -> None:
        self._caller = caller.with_timeout(max(caller.timeout, _SHORTEST_OUTAGE))
        self._nodes = caller.nodes
        self._watched = watched
        self._assembly = Assembly(resume, floor)
        self._cluster = None if resume is None else resume.cluster
        self._any_cluster = False
        self._connection: _Connection | None = None
        self._lost: str | None = None
        self._pause = caller.options.shortest_pause
        self._outage_told = False
        self.is_closed = False

    @property
    def position(self) -> Position | None:
        return self._assembly.position

    def close(self) -> None:
        self.is_closed = True
        if self._connection is not None:
            self._connection.stream.cancel()

    def update(self) -> Flow[Update]:
        """The next update. Raises `Error` if no node will ever serve this watch; then it is closed."""
        while True:
            if self.is_closed or self._nodes.closed:
                raise Invalid("the watch is closed")
            connection = self._connection
            if connection is None:
                told = yield from self._connect()
                if told is not None:
                    return told
                continue
            try:
                update = yield from self._receive(connection)
            except Fault as fault:
                yield from self._lose(connection, fault)
            else:
                if update is not None:
                    return update

    def _connect(self) -> Flow[Update | None]:
        """Connects to any node that serves, or tells that none does."""
        deadline = self._caller.until()
        search = Search(self._nodes, self._open, self._caller.timeout, deadline, Purpose.WATCHES, self._lost)
        search.also(self._nodes.connected())
        try:
            _, self._connection = yield from search.run()
        except Error as error:
            if not self._any_cluster and (yield from self._is_replaced()):
                self._any_cluster = True
                return None
            if isinstance(error, (Refused, Unserved, Invalid)):
                self.close()
                raise
            if self._outage_told:
                return None
            self._outage_told = True
            return Disconnected(error)
        return None

    def _open(self, node: Node, until: float) -> Flow[_Connection]:
        """Begins a watch at `node`, and waits for its first message."""
        begun = self._caller.now()
        position = self.position
        request = watch_pb2.WatchRequest(
            range=self._watched.keys,
            cluster_id=None if position is None else position.cluster,
            after_revision=0 if position is None else position.revision,
            min_revision=self._assembly.floor,
            keys_only=self._watched.keys_only,
            progress_interval=messages.duration(self._watched.progress_interval),
        )
        stream = node.stream(WATCH, request)
        try:
            first = yield from stream.next((yield from me())).wait(until)
            if first.HasField("reset"):
                cluster = yield from self._cluster_of(node, until)
            elif position is not None:
                cluster = position.cluster
            else:
                raise broken("a watch begins without a reset")
            return _Connection(node, stream, first, cluster, begun)
        except BaseException:
            stream.cancel()
            raise

    def _cluster_of(self, node: Node, until: float) -> Flow[int | None]:
        """The cluster of a node whose state is to take the place of what the caller has.

        ``None``: any is accepted. Raises `Fault`: it is of another cluster, or does not answer.
        """
        ours = None if self._any_cluster else self._known_cluster()
        if ours is None:
            return None
        try:
            # A node of this cluster refuses at once that there is no key.
            yield from node.call(GET, kv.GetRequest(cluster_id=ours), until)
        except Fault as fault:
            if fault.reason == "invalid_request":
                return ours
            if fault.successor is None or self._caller.options.cluster is not None:
                raise
            self._nodes.note(node.of(ours), fault)
            return fault.successor
        return ours

    def _known_cluster(self) -> int | None:
        return self._cluster if self._cluster is not None else self._nodes.cluster

    def _is_replaced(self) -> Flow[bool]:
        """Whether every node that answers belongs to another cluster, as after a loss of all data."""
        ours = self._known_cluster()
        if ours is None or self._caller.options.cluster is not None:
            return False
        others = 0
        for address in self._nodes.endpoints:
            try:
                request = kv.GetRequest(cluster_id=ours)
                node = self._nodes.node(Purpose.CALLS, address)
                yield from node.call(GET, request, self._caller.now() + _SHORTEST_OUTAGE)
            except Fault as fault:
                if fault.reason == "invalid_request" or fault.successor is not None:
                    return False
                others += fault.other_cluster is not None
        return others > 0

    def _receive(self, connection: _Connection) -> Flow[Update | None]:
        """Takes the next message. Raises `Fault`: the connection is lost."""
        message, connection.first = connection.first, None
        if message is None:
            if connection.asked is None:
                connection.asked = self._caller.now()
            silence = connection.asked + self._watched.progress_interval * _SILENT_INTERVALS
            message = yield from connection.stream.next((yield from me())).wait(silence)
            connection.asked = None
            if message.HasField("reset"):
                connection.cluster = yield from self._cluster_of(connection.node, silence)
        if message.HasField("synced"):
            self._belongs(connection, message.synced.cluster_id)
        update = self._assembly.add(message)
        if isinstance(update, Synced):
            self._outage_told = False
        return update

    def _belongs(self, connection: _Connection, cluster: int) -> None:
        """A complete state has come from `cluster`. Raises `Fault`: the watch belongs to another one."""
        expected = connection.cluster
        if expected is None and not self._any_cluster:
            expected = self._nodes.learn(cluster)
        if expected is not None and expected != cluster:
            raise broken("the node has changed its cluster")
        self._cluster = cluster
        self._any_cluster = False

    def _lose(self, connection: _Connection, fault: Fault) -> Flow[None]:
        """Drops a connection, and waits before the next one."""
        log.debug("%s: a watch was cut off: %s", connection.node.address, fault)
        options, now = self._caller.options, self._caller.now
        connection.stream.cancel()
        self._connection = None
        self._nodes.note(connection.node, fault)
        if fault.sends_elsewhere:
            self._nodes.dial_anew(connection.node)
        self._assembly.cut_off()
        self._lost = connection.node.address
        if now() - connection.begun > options.longest_pause:
            self._pause = options.shortest_pause
        pause = options.jittered(self._pause)
        self._pause = options.longer(self._pause)
        yield from sleep_until(now, now() + pause)
