"""What is opened by `await`, or by `async with`."""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Coroutine,
    Generator,
)
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar


class _Closable(Protocol):
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


C = TypeVar("C", bound=_Closable)


class Opening(Awaitable[C], Generic[C]):
    """What is opened by ``await``, or by ``async with``, which closes it at the end."""

    def __init__(self, work: Coroutine[Any, Any, C]) -> None:
        self._work = work
        self._opened: C | None = None

    def __await__(self) -> Generator[Any, None, C]:
        return self._work.__await__()

    async def __aenter__(self) -> C:
        self._opened = await self._work
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(kind, error, trace)
