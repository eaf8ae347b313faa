"""What calls take and return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias

from seshat._core.options import Seconds
from seshat.errors import Error

Data: TypeAlias = "bytes | str"
"""Keys and values are bytes. Text is taken as UTF-8; what is read is always bytes."""


class Omitted(Enum):
    """The default of a condition that was not given: ``None`` may come from a call."""

    OMITTED = "omitted"


OMITTED: Final = Omitted.OMITTED


class HeldLock(Protocol):
    """A lock that is held, of either client."""

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Token:
    """The token of a lock, as another process may have passed it on. Stands for the lock in conditions."""

    name: str
    token: int


class Owner(Protocol):
    """A living session, of either client."""

    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Written:
    """The key was bound."""

    revision: int
    """Revision of the write: writes take effect in ascending order of it."""

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Deleted:
    """The key is not bound any more."""

    existed: bool
    """Whether it was bound before."""
    revision: int
    """Revision of the removal."""

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that is bound, and the write that has bound it."""

    key: bytes
    value: bytes
    """Empty where values are left out."""
    revision: int
    """Revision of the write."""
    ttl: float | None = None
    """The TTL in seconds, as it was set."""
    owner: int | None = None
    """The living session that the key belongs to."""


@dataclass(frozen=True, slots=True)
class NotHeld:
    """The condition of a write did not hold, and nothing is written. False as a truth value."""

    found: Entry | None
    """What the key was bound to, read in the same step. ``None``: it is missing."""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a read."""

    value: bytes | None
    """``None`` if the key is missing; an empty value is a value."""
    revision: int
    """Revision of the write that has bound the key; 0 if it is missing."""
    read_at: int
    """Revision up to which the answering node had applied the writes."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a transaction, on a key or a lock as it is before the transaction."""

    key: bytes | None = None
    exists: bool | None = None
    revision: int | None = None
    value: bytes | None = None
    lock: str | None = None
    token: int | None = None

    @classmethod
    def bound(cls, key: Data) -> Condition:
        """The key is bound."""
        return cls(key=data(key), exists=True)

    @classmethod
    def missing(cls, key: Data) -> Condition:
        """The key is not bound."""
        return cls(key=data(key), exists=False)

    @classmethod
    def at_revision(cls, key: Data, revision: int) -> Condition:
        """The key was bound by the write of this revision, and not written since. 0: it is missing."""
        return cls(key=data(key), revision=revision)

    @classmethod
    def has_value(cls, key: Data, value: Data) -> Condition:
        """The key is bound to exactly this value."""
        return cls(key=data(key), value=data(value))

    @classmethod
    def held(cls, lock: HeldLock) -> Condition:
        """The lock is still held: the write of a client that has lost it does not take effect."""
        return cls(lock=lock.name, token=lock.token)


@dataclass(frozen=True, slots=True)
class Set:
    """Binds a key. At most one of the lifetimes is given; without one the key stays bound for ever."""

    key: Data
    value: Data
    ttl: Seconds | None = None
    """For so long: 1 s to 3650 days."""
    owner: Owner | None = None
    """As long as this session lives."""
    keep_lifetime: bool = False
    """As long as before."""

    @property
    def has_lifetime(self) -> bool:
        return self.ttl is not None or self.owner is not None or self.keep_lifetime


@dataclass(frozen=True, slots=True)
class Get:
    """Reads a key."""

    key: Data


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a key. A missing one is no error."""

    key: Data


Operation: TypeAlias = "Set | Get | Delete"
"""One operation of a transaction. It sees the effects of those before it."""


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction: `then` is carried out if all conditions of `when` hold, `otherwise` if one does not.

    Conditions and operations together are at most 128. What the operations read is at most 2 MiB, and
    64 KiB for a write in a session.
    """

    when: tuple[Condition, ...] = ()
    then: tuple[Operation, ...] = ()
    otherwise: tuple[Operation, ...] = ()

    @property
    def is_write(self) -> bool:
        """Whether it may change anything. Otherwise it is a read of several keys at one moment."""
        return not all(isinstance(operation, Get) for operation in self.then + self.otherwise)


@dataclass(frozen=True, slots=True)
class OperationResult:
    """The result of one operation of a transaction."""

    operation: Operation
    """The operation."""
    found: Entry | None = None
    """What a `Get` has read. ``None``: the key is missing."""
    existed: bool = False
    """Whether the key of a `Delete` was bound before."""


@dataclass(frozen=True, slots=True)
class TxnOutcome:
    """What a transaction has done. True as a truth value if its conditions held."""

    succeeded: bool
    """Whether all conditions held."""
    results: tuple[OperationResult, ...]
    """One for each operation that was carried out, in order."""
    revision: int
    """Revision of the transaction. If it writes nothing: the one that was read."""

    def __bool__(self) -> bool:
        return self.succeeded


Command: TypeAlias = "Set | Get | Delete | Txn"
"""One command of a pipeline."""

Reply: TypeAlias = "Written | Found | Deleted | TxnOutcome | Error"
"""The answer to one command of a pipeline."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys from `start` on and before `end`, in the order of their bytes. ``None``: up to the last one."""

    start: Data = b""
    end: Data | None = None


Keys: TypeAlias = "bytes | str | KeyRange"
"""A range of keys: a prefix, or a `KeyRange`."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The claim that holds a lock."""

    session: int
    """Its session."""
    claim: int
    """The number of its claim in the session."""
    token: int
    """The fencing token."""
    value: bytes
    """Its value."""


@dataclass(frozen=True, slots=True)
class LockState:
    """Who holds a lock, and how many wait."""

    holder: Holder | None
    waiting: int


@dataclass(frozen=True, slots=True)
class NotAcquired:
    """The lock was not free in time. False as a truth value."""

    holder: Holder | None
    """Who held it, if the claim was not to wait."""

    def __bool__(self) -> bool:
        return False


def data(value: Data) -> bytes:
    # Not bytes(value): of a number that is so many zeros.
    return value.encode() if isinstance(value, str) else bytes(memoryview(value))
