"""What a client and a session for an event loop have in common."""

from __future__ import annotations

import copy
from collections.abc import (
    Iterable,
)
from typing import TypeVar, overload

from seshat._core.belongings import Belongings
from seshat._core.call import Caller
from seshat._core.flow import Flow
from seshat._core.options import Seconds, seconds
from seshat._core.pipeline import Pipe
from seshat._core.writes import Issuer, one_condition
from seshat._loop.opening import Opening
from seshat._loop.runtime import Loop
from seshat._loop.streams import Pipeline
from seshat.values import (
    OMITTED,
    Condition,
    Data,
    Delete,
    Deleted,
    Found,
    HeldLock,
    NotHeld,
    Omitted,
    Operation,
    Owner,
    Set,
    Txn,
    TxnOutcome,
    Written,
)

T = TypeVar("T")


Self = TypeVar("Self", bound="Calls")


class Calls:
    """What a client and a session have in common. Safe for use by several tasks of one event loop."""

    def __init__(self, issuer: Issuer, loop: Loop, belongings: Belongings) -> None:
        self._issuer = issuer
        self._loop = loop
        self._belongings = belongings

    async def _run(self, flow: Flow[T]) -> T:
        return await self._loop.run(flow)

    def _with(self: Self, caller: Caller) -> Self:
        same = copy.copy(self)
        same._issuer = Issuer(caller, self._issuer.numbers, self._issuer.cluster)
        return same

    def with_timeout(self: Self, timeout: Seconds) -> Self:
        """The same, with `timeout` for each call."""
        return self._with(self._issuer.caller.with_timeout(seconds(timeout)))

    def within(self: Self, timeout: Seconds) -> Self:
        """The same, with `timeout` from now on for all of its calls together."""
        return self._with(self._issuer.caller.within(seconds(timeout)))

    async def get(self, key: Data) -> bytes | None:
        """Reads a key. The answer reflects every write that was acknowledged before.

        ``None``: the key is missing; an empty value is a value.
        """
        return (await self.find(key)).value

    async def find(self, key: Data) -> Found:
        """Reads a key, with the revision of its last write."""
        return await self._run(self._issuer.get(key))

    @overload
    async def set(
        self,
        key: Data,
        value: Data,
        *,
        ttl: Seconds | None = None,
        owner: Owner | None = None,
        keep_lifetime: bool = False,
    ) -> Written: ...

    @overload
    async def set(
        self,
        key: Data,
        value: Data,
        *,
        ttl: Seconds | None = None,
        owner: Owner | None = None,
        keep_lifetime: bool = False,
        if_absent: bool = False,
        if_revision: int | Omitted = OMITTED,
        if_value: Data | Omitted = OMITTED,
        if_held: HeldLock | Omitted = OMITTED,
    ) -> Written | NotHeld: ...

    async def set(
        self,
        key: Data,
        value: Data,
        *,
        ttl: Seconds | None = None,
        owner: Owner | None = None,
        keep_lifetime: bool = False,
        if_absent: bool = False,
        if_revision: int | Omitted = OMITTED,
        if_value: Data | Omitted = OMITTED,
        if_held: HeldLock | Omitted = OMITTED,
    ) -> Written | NotHeld:
        """Binds a key. Acknowledged once a majority holds the write and the leader has applied it.

        The key stays bound for ever, or for `ttl` (1 s to 3650 days), or as long as the session `owner` lives, or with
        `keep_lifetime` as long as before; until it is written again.

        On a condition: only if the key is missing (`if_absent`), was bound by the write `if_revision` and not written
        since, is bound to `if_value`, or if a lock is still held (`if_held`). A condition that does not
        hold is an outcome, and no error: `NotHeld`, with what the key is bound to instead. A
        condition that is ``None``, such as the value of a missing key, raises `Invalid`.

        Raises `Error`. The write may have been applied if its `applied` is ``UNKNOWN``.
        """
        condition = one_condition(key, if_absent, if_revision, if_value, if_held)
        write = Set(key, value, ttl, owner, keep_lifetime)
        return await self._run(self._issuer.set(write, condition))

    @overload
    async def delete(self, key: Data) -> Deleted: ...

    @overload
    async def delete(
        self,
        key: Data,
        *,
        if_revision: int | Omitted = OMITTED,
        if_value: Data | Omitted = OMITTED,
        if_held: HeldLock | Omitted = OMITTED,
    ) -> Deleted | NotHeld: ...

    async def delete(
        self,
        key: Data,
        *,
        if_revision: int | Omitted = OMITTED,
        if_value: Data | Omitted = OMITTED,
        if_held: HeldLock | Omitted = OMITTED,
    ) -> Deleted | NotHeld:
        """Removes a key; a missing one is no error. On a condition as `set`. Raises `Error`."""
        condition = one_condition(key, False, if_revision, if_value, if_held)
        return await self._run(self._issuer.delete(Delete(key), condition))

    async def txn(
        self,
        *,
        when: Iterable[Condition] = (),
        then: Iterable[Operation] = (),
        otherwise: Iterable[Operation] = (),
    ) -> TxnOutcome:
        """Tests conditions, and reads and writes several keys, atomically.

        `then` is carried out if all conditions of `when` hold, `otherwise` if one does not. A transaction that writes
        nothing is a read of several keys at one moment. Raises `Error`.
        """
        return await self._run(self._issuer.txn(Txn(tuple(when), tuple(then), tuple(otherwise))))

    def pipeline(self, *, window: int = 64) -> Opening[Pipeline]:
        """Opens a stream that keeps up to `window` batches in flight, at most 1024. Raises `Error`."""
        return Opening(self._open_pipeline(window))

    async def _open_pipeline(self, window: int) -> Pipeline:
        pipe = Pipe(self._issuer, window)
        await self._run(pipe.open())
        return Pipeline(self, pipe)
