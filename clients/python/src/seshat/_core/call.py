"""One call, from the first attempt to its deadline.

A call goes to the node that served last. If the client knows no leader, a search finds it. For a write that goes once
a search goes ahead if the leader has not answered lately: then a dead node costs a read, and not a write whose
outcome is unknown. A failed attempt is repeated only where that is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias, TypeVar

from seshat._core.fault import Fault, Retryability
from seshat._core.flow import Flow, sleep_until
from seshat._core.nodes import Node, Nodes, log
from seshat._core.options import Options
from seshat._core.search import Search, named_leader, too_late
from seshat._core.transport import GET, Purpose
from seshat.errors import Applied, Cancelled, Error, Invalid
from seshat.kv.v1 import kv_service_pb2 as kv

T = TypeVar("T")

# A key that is read only to find the node that serves reads.
_PROBED_KEY = b"\0"
# The shortest timeout that says anything about a node that has served other calls lately: a call may have
# a deadline that no node can keep.
_SILENCE = 0.1

Make: TypeAlias = Callable[[Node, float], Flow[T]]
"""Makes an attempt at a node, until a moment. Raises `Fault`."""


class Repeat(Enum):
    """Whether a failed attempt may be repeated."""

    READ = "always: it changes nothing"
    NUMBERED = "always: its effect is the same however often it is done"
    ONCE = "only if it was surely not applied"


class Attempts:
    """Decides about the attempts of one call: how long each may take, and whether another one follows."""

    def __init__(self, repeat: Repeat, timeout: float, deadline: float, options: Options) -> None:
        self._repeat = repeat
        self._timeout = timeout
        self._deadline = deadline
        self._options = options
        self._pause = options.shortest_pause
        self._attempt_timeout = options.attempt_timeout
        self._in_doubt = False

    def until(self, now: float) -> float:
        """The end of an attempt that begins now."""
        if self._repeat is Repeat.ONCE:
            return self._deadline
        # A third at most, so that enough time is left for another node.
        left = max(self._deadline - now, 0.0)
        return min(self._deadline, now + min(self._attempt_timeout, left / 3))

    def failed(self, fault: Fault, address: str, now: float) -> float:
        """An attempt has failed. Returns when the next one begins, or raises the error of the call."""
        if self._repeat is Repeat.READ:
            fault = fault.of_read()
        self._in_doubt |= fault.applied is Applied.UNKNOWN
        if not self._again(fault):
            raise self.error(fault.error(address))
        pause = self._options.jittered(self._pause)
        self._pause = self._options.longer(self._pause)
        if fault.silent:
            self._attempt_timeout *= 2
        if now + pause >= self._deadline:
            raise self.error(too_late(self._timeout, {address: fault}))
        return now + pause

    def _again(self, fault: Fault) -> bool:
        if self._repeat is Repeat.ONCE and fault.applied is Applied.UNKNOWN:
            return False
        if self._repeat is Repeat.NUMBERED and fault.successor is not None:
            # A session ends with its cluster.
            return False
        return fault.retryability is Retryability.LATER

    def error(self, error: Error) -> Error:
        """The error of the call: its outcome is that of all attempts."""
        return error._in_doubt() if self._in_doubt else error

    def cancelled(self, error: Cancelled) -> None:
        """The caller has cancelled the call in the middle of an attempt."""
        if self._repeat is not Repeat.READ:
            error.applied = Applied.UNKNOWN


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes calls: the state of a client, and the limits of these calls."""

    nodes: Nodes
    timeout: float
    deadline: float | None = None
    """The end of all calls together, instead of a timeout for each."""
    cluster: int | None = None
    """The cluster that calls name, if it differs from the one that `nodes` knows."""
    purpose: Purpose = Purpose.CALLS

    @property
    def options(self) -> Options:
        return self.nodes.options

    def now(self) -> float:
        return self.options.clocks.monotonic()

    def until(self) -> float:
        """The deadline of a call that begins now."""
        return self.now() + self.timeout if self.deadline is None else self.deadline

    def with_timeout(self, timeout: float) -> Caller:
        return replace(self, timeout=timeout, deadline=None)

    def within(self, timeout: float) -> Caller:
        return replace(self, timeout=timeout, deadline=self.now() + timeout)

    def bound_to(self, cluster: int | None) -> Caller:
        return replace(self, cluster=cluster)

    def for_streams(self) -> Caller:
        return replace(self, purpose=Purpose.STREAMS)

    def call(self, repeat: Repeat, make: Make[T], deadline: float | None = None) -> Flow[T]:
        """Makes a call to the leader until it is answered, or the deadline has come. Raises `Error`."""
        end = self.until() if deadline is None else deadline
        attempts = Attempts(repeat, self.timeout, end, self.options)
        hint: str | None = None
        while True:
            try:
                node = yield from self.leader(end, repeat, hint)
            except Error as error:
                raise attempts.error(error) from None
            begun = self.now()
            until = attempts.until(begun)
            try:
                answer = yield from make(node, until)
            except Fault as fault:
                self.note(node, fault, until - begun)
                if self.purpose is Purpose.STREAMS and fault.sends_elsewhere:
                    self.nodes.dial_anew(node)
                hint = named_leader(fault)
                log.debug("%s: an attempt failed (applied: %s): %s", node.address, fault.applied.value, fault)
                again = attempts.failed(fault, node.address, self.now())
            except Cancelled as error:
                attempts.cancelled(error)
                raise
            else:
                self.nodes.served(node.address)
                return answer
            yield from sleep_until(self.now, again)

    def note(self, node: Node, fault: Fault, given: float) -> None:
        """Updates what is known after a fault of `node`, which had the time `given` to answer.

        How long the attempt took in the end depends on the load of this machine, too.
        """
        hasty = fault.silent and given < _SILENCE
        if not (hasty and self.nodes.leader(self.options.trust) == node.address):
            self.nodes.note(node, fault)

    def leader(self, deadline: float, repeat: Repeat, hint: str | None = None) -> Flow[Node]:
        """The leader; if none is known that counts, a search finds it. Raises `Error`."""
        leader = yield from self._leader(deadline, repeat, hint)
        node = self.nodes.over(self.purpose, leader)
        return node.of(self.cluster if self.cluster is not None else node.cluster)

    def _leader(self, deadline: float, repeat: Repeat, hint: str | None) -> Flow[Node]:
        if self.nodes.closed:
            raise Invalid("the client is closed")
        age = self.options.trust if repeat is Repeat.ONCE else None
        known = self.nodes.leader(age)
        if known is not None:
            return self.nodes.node(Purpose.CALLS, known)
        if not (yield from self.nodes.searching.take(deadline)):
            raise too_late(self.timeout, {})
        try:
            known = self.nodes.leader(age)
            if known is not None:
                return self.nodes.node(Purpose.CALLS, known)
            search = Search(self.nodes, probe, self.timeout, deadline)
            search.also(self.nodes.connected())
            for address in (self.nodes.leader(None), hint):
                if address is not None:
                    search.add(address)
            node, answer = yield from search.run()
            cluster = self.nodes.learn(answer.cluster_id if answer.HasField("cluster_id") else None)
            self.nodes.remember_leader(node.address)
            return node.of(cluster)
        finally:
            self.nodes.searching.give()


def probe(node: Node, until: float) -> Flow[kv.GetResponse]:
    """Asks a node for a read whose value is not needed."""
    return node.call(GET, kv.GetRequest(key=_PROBED_KEY, cluster_id=node.cluster), until)
