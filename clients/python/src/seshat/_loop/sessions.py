"""Sessions, and the locks that they hold."""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
)
from types import TracebackType

from seshat._core.claim import Asked, Claim
from seshat._core.options import Seconds
from seshat._core.session import Living
from seshat._loop.calls import Calls, Self
from seshat._loop.opening import Opening
from seshat.errors import Error, Lost
from seshat.values import (
    Data,
    NotAcquired,
    data,
)


class Session(Calls):
    """A session: each write is sent again until it is answered or its deadline has passed, and applied once.

    Up to 1024 writes may be in flight; a further one waits. A session without a TTL needs no renewal.
    """

    @property
    def id(self) -> int:
        """The id of the session, which its client has drawn at random."""
        assert self._issuer.numbers is not None
        return self._issuer.numbers.client_id

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A session that does not live needs no end."""


class LivingSession(Session):
    """A session that a task of the client renews, and that the cluster ends when that does not succeed.

    It may own keys (``set(..., owner=session)``) and hold locks, which end with it. It is lost for the client when
    90 % of the TTL have passed since it sent the last renewal that was answered; from then on every call ends with
    `SessionLost`, and nothing brings it back. Close it at the end, or use it in an ``async with`` statement.
    """

    _living: Living

    def _live(self, living: Living) -> LivingSession:
        self._living = living
        self._belongings.add(living, living.renewal.end)
        return self

    @property
    def ttl(self) -> float:
        """The TTL in seconds, as the cluster has granted it."""
        return self._living.lease.ttl

    @property
    def lost(self) -> Lost | None:
        """Why the session is lost, if it is. Right also when the program has just been stopped."""
        return self._living.lease.lost()

    def on_lost(self, callback: Callable[[Lost], None]) -> None:
        """Calls back once when the session is lost; now, if it is. Do not block."""
        self._living.lease.call_when_lost(callback)

    async def wait_lost(self) -> Lost:
        """Waits until the session is lost. Cancelling this does no harm."""
        return await self._run(self._living.lease.wait_lost())

    async def close(self) -> None:
        """Ends the session, and removes the keys that it owns. Raises `Error`."""
        await self._run(self._living.renewal.close(self._issuer.caller.until()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await at_exit(self.close(), error)

    def lock(self, name: str, *, value: Data = b"") -> Opening[Lock]:
        """Acquires a lock in this session: see `Client.lock`."""
        return Opening(held(self._claim(Asked(name, data(value)))))

    async def try_lock(self, name: str, *, max_wait: Seconds = 0, value: Data = b"") -> Lock | NotAcquired:
        """As `lock`, but gives up when the lock was not free within `max_wait`."""
        return await self._claim(Asked(name, data(value), max_wait))

    def elect(self, name: str, value: Data) -> Opening[Lock]:
        """Stands for election in this session: see `Client.elect`."""
        return self.lock(name, value=value)

    async def _claim(self, asked: Asked, is_alone: bool = False) -> Lock | NotAcquired:
        claim = Claim(self._living, self._issuer, asked, is_alone)
        missed = await self._run(claim.make())
        return Lock(self, claim) if missed is None else missed


class Lock:
    """A lock that this client holds, until it is released or its session is lost.

    While `lost` is ``None``, no other client holds it. But a program may be stopped at any moment, also after that
    question: what must never be done by two holders needs the `token`. A resource refuses a token that is lower
    than one it has seen; a write to Seshat takes ``if_held=lock``.
    """

    def __init__(self, session: LivingSession, claim: Claim) -> None:
        self.session = session
        """The session that holds the lock."""
        self._claim = claim
        session._belongings.add(self, claim.abandon)

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._claim.asked.name

    @property
    def token(self) -> int:
        """The fencing token: every later holder has a higher one."""
        return self._claim.token

    @property
    def lost(self) -> Lost | None:
        """Why the lock is lost, if it is."""
        return self.session.lost

    def on_lost(self, callback: Callable[[Lost], None]) -> None:
        """As `LivingSession.on_lost`."""
        self.session.on_lost(callback)

    async def wait_lost(self) -> Lost:
        """As `LivingSession.wait_lost`."""
        return await self.session.wait_lost()

    async def release(self) -> None:
        """Releases the lock: the next claim holds it then. Raises `Error`; it goes on in the background."""
        await self.session._run(self._claim.release())

    async def __aenter__(self) -> Lock:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await at_exit(self.release(), error)


async def held(acquiring: Awaitable[Lock | NotAcquired]) -> Lock:
    acquired = await acquiring
    assert isinstance(acquired, Lock)
    return acquired


async def at_exit(end: Awaitable[None], error: BaseException | None) -> None:
    """Ends something at the end of an ``async with`` statement; an error of its body is not replaced."""
    try:
        await end
    except Error:
        if error is None:
            raise
