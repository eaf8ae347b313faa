"""Sessions: how they are opened, renewed and closed."""

from __future__ import annotations

from dataclasses import dataclass

from seshat._core import messages
from seshat._core.call import Caller, Repeat
from seshat._core.fault import Fault, Retryability
from seshat._core.flow import Flow, Inbox, Pending, guarded, me, sleep_until
from seshat._core.lease import Lease, Moment
from seshat._core.nodes import Node, log
from seshat._core.numbers import Numbers
from seshat._core.options import LOOK, Seconds
from seshat._core.transport import CLOSE_SESSION, KEEP_ALIVE, OPEN_SESSION
from seshat._core.writes import Issuer
from seshat.errors import Applied, Error, Lost, SessionLost
from seshat.kv.v1 import kv_service_pb2 as kv


class Living:
    """What a living session has besides its numbers: its id, and its lease."""

    def __init__(self, client_id: int, lease: Lease, renewal: Renewal) -> None:
        self.id = client_id
        """The id of the session, which its client has drawn at random."""
        self.lease = lease
        self.renewal = renewal


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened."""

    client_id: int
    cluster: int | None
    sent: Moment
    ttl: float | None

    def issuer(self, caller: Caller, lease: Lease | None = None) -> Issuer:
        if lease is None:
            return Issuer(caller, Numbers(self.client_id), self.cluster)
        numbers = Numbers(self.client_id, lease.holds)
        lease.call_when_lost(lambda _: numbers.moved())
        return Issuer(caller, numbers, self.cluster)


def open_session(caller: Caller, ttl: Seconds | None = None) -> Flow[Opened]:
    """Opens a session. One that a lost attempt has opened is never used. Raises `Error`."""
    wanted = None if ttl is None else messages.duration(ttl)

    def open_(node: Node, until: float) -> Flow[Opened]:
        # Another id for each attempt: a late copy of an earlier one must not open a session again that has
        # expired meanwhile.
        client_id = caller.options.random.randrange(1, 1 << 64)
        sent = Moment.now(caller.options.clocks)
        request = kv.OpenSessionRequest(client_id=client_id, cluster_id=node.cluster, ttl=wanted)
        answer = yield from node.call(OPEN_SESSION, request, until)
        if wanted is None:
            return Opened(client_id, node.cluster, sent, None)
        if not answer.HasField("ttl"):
            older = "this node runs an older version, which knows no living sessions (not applied)"
            raise Fault(older, Applied.NO, Retryability.NOWHERE)
        return Opened(client_id, node.cluster, sent, messages.length(answer.ttl))

    return (yield from caller.call(Repeat.READ, open_))


def open_living(caller: Caller, ttl: Seconds) -> Flow[tuple[Living, Issuer]]:
    """Opens a living session, which is renewed in the background from now on. Raises `Error`."""
    opened = yield from open_session(caller, ttl)
    lease = Lease(opened.ttl or 0.0, caller.options.clocks, opened.sent)
    renewal = Renewal(caller.bound_to(opened.cluster), opened.client_id, lease)
    caller.nodes.runtime.spawn(renewal.run())
    return Living(opened.client_id, lease, renewal), opened.issuer(caller, lease)


class _CloseAsked(Exception):
    """The program wants to end the session."""


class Renewal:
    """Renews a session every third of its TTL, until it is lost or closed."""

    def __init__(self, caller: Caller, client_id: int, lease: Lease) -> None:
        # A deadline of the caller ends no renewal.
        self._caller = caller.with_timeout(caller.timeout)
        self._client_id = client_id
        self._lease = lease
        self._inbox: Inbox | None = None
        self._deadline: float | None = None
        self._closings: list[Pending[bool]] = []
        self._is_over = False

    def end(self) -> None:
        """Ends the session in the background, as well as it can."""
        self._ask(self._caller.now() + self._lease.ttl)

    def close(self, deadline: float) -> Flow[None]:
        """Ends the session. The program knows that it is lost before a node does. Raises `Error`."""
        self._lease.holds()
        closing: Pending[bool] = Pending((yield from me()))
        self._closings.append(closing)
        self._ask(deadline)
        if self._is_over:
            raise SessionLost(self._lease.lost() or Lost.ENDED)
        try:
            # The renewal has the same deadline, and says more than silence.
            yield from closing.wait(deadline + LOOK)
        except Fault as fault:
            if isinstance(fault.__cause__, Error):
                raise fault.__cause__ from None
            raise fault.error("the session") from None

    def _ask(self, deadline: float) -> None:
        if self._deadline is None:
            self._deadline = deadline
        if self._inbox is not None:
            self._inbox.nudge()

    def run(self) -> Flow[None]:
        """The task in the background."""
        self._inbox = yield from me()
        self._lease.wake(self._inbox)
        try:
            now = self._caller.now
            yield from guarded(self._renew(), self._check, now, LOOK)
            self._lease.lose(Lost.ENDED)
            self._finish(_wrapped(SessionLost(Lost.ENDED)))
        except SessionLost as lost:
            log.debug("session %016x: %s", self._client_id, lost)
            self._finish(_wrapped(lost))
        except _CloseAsked:
            # Callers have to know it before the cluster does.
            self._lease.lose(Lost.CLOSED)
            try:
                yield from self._close(self._deadline or now())
                self._finish(True)
            except Error as error:
                self._finish(_wrapped(error))
        finally:
            self._lease.forget(self._inbox)

    def _check(self) -> None:
        self._lease.holds()
        if self._deadline is not None:
            raise _CloseAsked

    def _finish(self, outcome: bool | Fault) -> None:
        self._is_over = True
        while self._closings:
            self._closings.pop().done(outcome)

    def _renew(self) -> Flow[None]:
        """Returns when the cluster has ended the session."""
        options, now = self._caller.options, self._caller.now
        pause = options.shortest_pause
        while True:
            while now() < self._lease.renewal_due:
                yield from sleep_until(now, min(self._lease.renewal_due, now() + LOOK))
            try:
                sent = yield from self._caller.call(Repeat.NUMBERED, self._keep_alive, self._lease.end)
            except Error as error:
                if error.is_session_expired:
                    return
                log.debug("session %016x: a renewal failed: %s", self._client_id, error)
                yield from sleep_until(now, now() + options.jittered(pause))
                pause = options.longer(pause)
            else:
                self._lease.renew(sent)
                pause = options.shortest_pause

    def _keep_alive(self, node: Node, until: float) -> Flow[Moment]:
        sent = Moment.now(self._caller.options.clocks)
        request = kv.KeepAliveRequest(client_id=self._client_id, cluster_id=node.cluster)
        yield from node.call(KEEP_ALIVE, request, until)
        return sent

    def _close(self, deadline: float) -> Flow[None]:
        try:
            yield from self._caller.call(Repeat.NUMBERED, self._close_at, deadline)
        except Error as error:
            if not error._is_successor:
                raise
            # A cluster that was recovered has the session too, until its TTL has passed there.
            successor = self._caller.bound_to(None)
            yield from successor.call(Repeat.NUMBERED, self._close_at, deadline)

    def _close_at(self, node: Node, until: float) -> Flow[kv.CloseSessionResponse]:
        request = kv.CloseSessionRequest(client_id=self._client_id, cluster_id=node.cluster)
        return node.call(CLOSE_SESSION, request, until)


def _wrapped(error: Error) -> Fault:
    """The error of the renewal, for a caller that waits for a fault."""
    fault = Fault(error.message, error.applied)
    fault.__cause__ = error
    return fault
