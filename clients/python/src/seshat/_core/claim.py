"""Claims: what a session does to hold a lock, and to give it back.

A claim has a number of its session. Its Acquire is repeated under that number until it is answered, and its Release
uses the number up, so a copy of the Acquire that arrives later claims nothing. A caller that gives up on the
way may have a claim nevertheless; so it is released then, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from seshat._core import messages
from seshat._core.call import Caller, Repeat
from seshat._core.fault import broken
from seshat._core.flow import FOREVER, Flow, guarded, me, sleep_until
from seshat._core.nodes import Node, log
from seshat._core.options import LOOK, Seconds
from seshat._core.session import Living
from seshat._core.transport import ACQUIRE, AWAIT, RELEASE
from seshat._core.writes import Issuer
from seshat.errors import Applied, DeadlineExceeded, Error, Lost, SessionLost
from seshat.lock.v1 import lock_service_pb2 as lock
from seshat.values import NotAcquired


@dataclass(frozen=True, slots=True)
class Asked:
    """What is claimed."""

    name: str
    value: bytes = b""
    max_wait: Seconds | None = None
    """``None``: the claim waits as long as its session lives."""


class Claim:
    """A claim to a lock, or what is to become one."""

    def __init__(self, living: Living, issuer: Issuer, asked: Asked, is_alone: bool) -> None:
        """`is_alone`: its session is used for nothing else, and ends with it."""
        self.asked = asked
        self.token = 0
        self.living = living
        self._issuer = issuer
        self._is_alone = is_alone
        self._number = 0
        self._is_open = False

    @property
    def _caller(self) -> Caller:
        return self._issuer.caller.bound_to(self._issuer.cluster)

    def make(self) -> Flow[NotAcquired | None]:
        """Claims the lock, and waits until the claim holds it (``None``) or has ended. Raises `Error`."""
        lease = self.living.lease
        inbox = yield from me()
        lease.wake(inbox)
        held = False
        try:
            outcome = yield from guarded(self._make(), lease.holds, self._caller.now, LOOK)
            held = outcome is None
            return outcome
        finally:
            lease.forget(inbox)
            if not held:
                self.abandon()

    def _make(self) -> Flow[NotAcquired | None]:
        assert self._issuer.numbers is not None
        numbers = self._issuer.numbers
        given = yield from numbers.take(1, self._issuer.caller.until())
        self._number = given[0]
        self._is_open = True
        try:
            answer = yield from self._caller.call(Repeat.NUMBERED, self._acquire)
        except Error as error:
            self._is_open = error.applied is Applied.UNKNOWN
            raise
        finally:
            # The claim goes on, and further writes of the session need the place of its number.
            numbers.done(given)
        result = answer.WhichOneof("result")
        if result == "waiting":
            token = yield from self._granted()
        else:
            token = answer.held.token if result == "held" else None
        self._is_open = token is not None
        if token is not None:
            self.token = token
            return None
        if self.asked.max_wait is None:
            # Only the end of its session ends such a claim.
            self.living.lease.lose(Lost.ENDED)
            raise SessionLost(Lost.ENDED)
        return NotAcquired(messages.holder(answer.occupied.holder) if result == "occupied" else None)

    def _acquire(self, node: Node, until: float) -> Flow[lock.AcquireResponse]:
        assert self._issuer.numbers is not None
        max_wait = self.asked.max_wait
        request = lock.AcquireRequest(
            name=self.asked.name,
            session=self._issuer.numbers.stamp(self._number),
            value=self.asked.value,
            max_wait=None if max_wait is None else messages.duration(max_wait),
            cluster_id=node.cluster,
        )
        answer = yield from node.call(ACQUIRE, request, until)
        if answer.WhichOneof("result") is None:
            raise broken("the node answered with a state that this version does not know")
        return answer

    def _granted(self) -> Flow[int | None]:
        """Waits until the claim holds the lock, and returns its token, or has ended."""
        caller = self._caller
        while True:
            try:
                answer = yield from self._ask()
            except Error as error:
                # The claim waits, whether there is a leader or not.
                if not error._is_outage or caller.deadline is not None:
                    raise
                log.debug("lock %s: the state of a claim is unknown: %s", self.asked.name, error)
                continue
            if answer.HasField("held"):
                return answer.held.token
            if answer.HasField("gone"):
                return None
            if caller.deadline is not None and caller.now() >= caller.deadline:
                raise _not_free()

    def _ask(self) -> Flow[lock.AwaitResponse]:
        """The state of the claim, which is asked for when its turn has come."""
        # Waiting calls have a connection of their own, where they delay no renewal.
        caller = self._caller.for_streams()
        turn = caller.nodes.awaits
        if not (yield from turn.take(FOREVER if caller.deadline is None else caller.deadline)):
            raise _not_free()
        try:
            return (yield from caller.call(Repeat.NUMBERED, self._state))
        finally:
            turn.give()

    def _state(self, node: Node, until: float) -> Flow[lock.AwaitResponse]:
        request = lock.AwaitRequest(
            name=self.asked.name,
            client_id=self.living.id,
            claim=self._number,
            cluster_id=node.cluster,
        )
        answer = yield from node.call(AWAIT, request, until)
        if answer.WhichOneof("result") is None:
            raise broken("the node answered with a state that this version does not know")
        return answer

    def release(self) -> Flow[None]:
        """Gives the lock back; goes on in the background if it is not acknowledged. Raises `Error`."""
        try:
            if self._is_alone:
                yield from self.living.renewal.close(self._issuer.caller.until())
            else:
                yield from self._release(self._issuer.caller.until())
            self._is_open = False
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Releases the claim in the background, if it may still be there."""
        is_open, self._is_open = self._is_open, False
        if self._is_alone:
            self.living.renewal.end()
        elif is_open and self.living.lease.lost() is None:
            self._caller.nodes.runtime.spawn(self._release_at_last())

    def _release(self, deadline: float) -> Flow[None]:
        self.living.lease.holds()
        yield from self._caller.call(Repeat.NUMBERED, self._release_at, deadline)

    def _release_at(self, node: Node, until: float) -> Flow[lock.ReleaseResponse]:
        assert self._issuer.numbers is not None
        session = self._issuer.numbers.stamp(self._number)
        request = lock.ReleaseRequest(name=self.asked.name, session=session, cluster_id=node.cluster)
        return node.call(RELEASE, request, until)

    def _release_at_last(self) -> Flow[None]:
        """Releases the claim, however long that takes, unless the session ends with it."""
        options, now = self._caller.options, self._caller.now
        pause = options.shortest_pause
        while True:
            try:
                return (yield from self._release(now() + options.timeout))
            except Error as error:
                log.debug("lock %s: a claim could not be released: %s", self.asked.name, error)
                if not error._is_outage:
                    return None
            yield from sleep_until(now, now() + options.jittered(pause))
            pause = options.longer(pause)


def _not_free() -> Error:
    return DeadlineExceeded("the lock was not free in time")
