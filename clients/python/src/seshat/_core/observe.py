"""Observers of a lock: who holds it, now and after every change."""

from __future__ import annotations

from seshat._core import messages
from seshat._core.call import Caller, Repeat
from seshat._core.fault import Fault, Retryability
from seshat._core.flow import Flow, me, sleep_until
from seshat._core.nodes import Node, log
from seshat._core.transport import INSPECT, OBSERVE, Stream
from seshat.errors import DeadlineExceeded, Error, Invalid
from seshat.lock.v1 import lock_service_pb2 as lock
from seshat.values import Holder, LockState


class Observer:
    """Observes at one leader after the other. Tells only of a holder that differs from the last one."""

    def __init__(self, caller: Caller, name: str) -> None:
        # A connection of its own, as what is told may wait for the program.
        self._caller = caller.for_streams()
        self._name = name
        self._answer: tuple[Node, Stream[lock.ObserveResponse]] | None = None
        self._told: list[Holder | None] = []
        self._pause = caller.options.shortest_pause
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
        if self._answer is not None:
            self._answer[1].cancel()

    def holder(self) -> Flow[Holder | None]:
        """The next holder that the caller does not know. Raises `Error`; then it is closed."""
        try:
            while True:
                if self.is_closed or self._caller.nodes.closed:
                    raise Invalid("the observation is closed")
                answer = self._answer
                message = yield from (self._begin() if answer is None else self._receive(*answer))
                if message is None:
                    continue
                holder = messages.holder(message.holder) if message.HasField("holder") else None
                if self._told != [holder]:
                    self._told = [holder]
                    return holder
        except Error:
            self.close()
            raise

    def _begin(self) -> Flow[lock.ObserveResponse | None]:
        """Asks the leader. ``None``: there is none as yet."""
        try:
            node, stream, first = yield from self._caller.call(Repeat.READ, self._observe)
        except Error as error:
            if not error._is_outage or self._caller.deadline is not None:
                raise
            log.debug("lock %s: no node tells who holds it: %s", self._name, error)
            return None
        self._answer = node, stream
        return first

    def _observe(
        self, node: Node, until: float
    ) -> Flow[tuple[Node, Stream[lock.ObserveResponse], lock.ObserveResponse]]:
        request = lock.ObserveRequest(name=self._name, cluster_id=node.cluster)
        stream = node.stream(OBSERVE, request)
        try:
            first = yield from stream.next((yield from me())).wait(until)
            return node, stream, first
        except BaseException:
            stream.cancel()
            raise

    def _receive(self, node: Node, stream: Stream[lock.ObserveResponse]) -> Flow[lock.ObserveResponse | None]:
        """The next message of a leader. ``None``: it is lost."""
        limit = self._caller.deadline
        options, now = self._caller.options, self._caller.now
        try:
            pending = stream.next((yield from me()))
            message = yield from pending.wait(float("inf") if limit is None else limit)
        except Fault as fault:
            if limit is not None and now() >= limit:
                raise DeadlineExceeded("the lock has no other holder as yet") from None
            fault = fault.of_read()
            self._answer = None
            stream.cancel()
            self._caller.nodes.note(node, fault)
            if fault.retryability is not Retryability.LATER:
                raise fault.error(node.address) from None
            yield from sleep_until(now, now() + options.jittered(self._pause))
            self._pause = options.longer(self._pause)
            return None
        self._pause = options.shortest_pause
        return message


def inspect(caller: Caller, name: str) -> Flow[LockState]:
    """Who holds a lock, and how many wait."""

    def inspect_(node: Node, until: float) -> Flow[lock.InspectResponse]:
        return node.call(INSPECT, lock.InspectRequest(name=name, cluster_id=node.cluster), until)

    answer = yield from caller.call(Repeat.READ, inspect_)
    holder = messages.holder(answer.holder) if answer.HasField("holder") else None
    return LockState(holder, answer.waiting)
