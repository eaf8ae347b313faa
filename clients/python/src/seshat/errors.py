"""What a call without an answer raises, and what the caller may conclude from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import grpc

    from seshat.kv.v1.error_pb2 import ErrorDetail


class Applied(Enum):
    """Whether a write that failed may have been applied."""

    NO = "no"
    """Surely not applied, now or later: a repetition is safe."""
    UNKNOWN = "unknown"
    """It may have been applied, or may yet be."""


class Kind(Enum):
    """What ended a call, one for each class of errors."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    DEADLINE = "deadline"
    UNSERVED = "unserved"
    INTERRUPTED = "interrupted"
    SESSION_LOST = "session_lost"
    INVALID = "invalid"
    CANCELLED = "cancelled"


class Lost(Enum):
    """Why a living session is lost."""

    NOT_RENEWED = "it could not be renewed in time"
    """No renewal was answered for 90 % of its TTL."""
    ENDED = "the cluster has ended it"
    """The cluster has ended it, or an operator has recovered another cluster from its own."""
    CLOSED = "it was closed"
    """The program has closed it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a node that refused."""

    endpoint: str
    """The node, as ``host:port``."""
    code: grpc.StatusCode
    """The gRPC status code."""
    detail: ErrorDetail | None
    """The typed reason. ``None``: the answer is not from a node, or from one that gives no detail."""
    applied: Applied
    """Whether the write may have been applied, as this node says it."""
    message: str
    """The message for people, on one line."""

    @property
    def reason(self) -> str | None:
        """The reason by the name of its field in ``ErrorDetail``, such as ``"not_leader"``."""
        return None if self.detail is None else self.detail.WhichOneof("reason")


class Error(Exception):
    """Why a call was not answered. First look at `applied`; the class says what ended the call."""

    kind: ClassVar[Kind]

    def __init__(self, message: str, *, applied: Applied = Applied.NO, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.applied = applied
        """Whether the write may have been applied, or may yet be. Always ``NO`` for a read."""
        self.refusal = refusal
        """The refusal that ended the call, or the last one before the deadline."""

    def __str__(self) -> str:
        return f"outcome unknown: {self.message}" if self.applied is Applied.UNKNOWN else self.message

    @property
    def reason(self) -> str | None:
        """The reason that a node gave, such as ``"not_leader"``; ``None``: none."""
        return None if self.refusal is None else self.refusal.reason

    @property
    def is_session_expired(self) -> bool:
        """Whether this ends a session. Open another one then."""
        return self.reason == "session_expired" or self._is_successor

    @property
    def is_other_cluster(self) -> bool:
        """Whether another cluster answers than the one that this client or session belongs to."""
        return self.reason == "other_cluster"

    @property
    def _is_successor(self) -> bool:
        detail = None if self.refusal is None else self.refusal.detail
        return self.is_other_cluster and detail is not None and detail.other_cluster.successor

    @property
    def _is_outage(self) -> bool:
        """Whether no node served the call in time, so that the same call may succeed later."""
        return isinstance(self, (Unreachable, DeadlineExceeded))

    def _in_doubt(self) -> Error:
        """The same error, for a write of which an earlier attempt may have been applied."""
        if isinstance(self, Unserved):
            # An earlier attempt was served.
            return DeadlineExceeded(self.message, applied=Applied.UNKNOWN, refusal=self.refusal)
        self.applied = Applied.UNKNOWN
        return self


class Refused(Error):
    """A node refused the request, and a retry is useless or not safe."""

    kind = Kind.REFUSED


class Unreachable(Error):
    """No node could be reached in time, or the connection broke while the request was in flight."""

    kind = Kind.UNREACHABLE


class DeadlineExceeded(Error):
    """The deadline has passed. Nodes answered, but none served the request, or none answered in time."""

    kind = Kind.DEADLINE


class Unserved(Error):
    """Every endpoint answered that it will never serve such a request."""

    kind = Kind.UNSERVED


class Interrupted(Error):
    """A scan was cut off after its first entries: begin it again."""

    kind = Kind.INTERRUPTED


class SessionLost(Error):
    """The living session is lost: nothing was sent, or a lock that was waited for will not be held."""

    kind = Kind.SESSION_LOST

    def __init__(self, why: Lost) -> None:
        super().__init__(f"the session is lost: {why.value}")
        self.why = why
        """Why it is lost."""

    @property
    def is_session_expired(self) -> bool:
        return True


class Invalid(Error):
    """The call was invalid, and nothing was sent."""

    kind = Kind.INVALID


class Cancelled(Error):
    """A `Cancellation` has ended the call. A write that was sent may be applied or not."""

    kind = Kind.CANCELLED
