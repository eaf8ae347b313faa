"""The failure of one call to one node, derived from its status.

The typed detail of a refusal says whether a write was applied. Without a detail a write counts as not applied
only if it surely failed before anything was sent: no connection was made, or the status code means that
the request was not begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from seshat.errors import Applied, DeadlineExceeded, Error, Refusal, Refused, Unreachable
from seshat.kv.v1 import error_pb2, kv_service_pb2

_LATER = {"not_leader", "no_quorum", "overloaded", "forming", "other_cluster", "shutting_down"}
_NOWHERE = {"full", "too_large", "invalid_request", "failed_precondition", "session_expired"}
_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
# The meaning of these codes is that the request was not begun.
_NEVER_SERVED = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
}
_AT_FAULT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# How the gRPC library words a call that it could not send, because there was no connection.
_NOT_SENT = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")
# How it words a status that has come from elsewhere, in its debug string: with an address. It names no address
# for a status that it has made itself.
_FROM_PEER = re.compile(r"received from peer\s+[^\s{]")


class Retryability(Enum):
    """Where a retry can succeed."""

    LATER = "later"
    ELSEWHERE = "elsewhere"
    NOWHERE = "nowhere"


@dataclass(slots=True, eq=False)
class Fault(Exception):
    """How one call to one node failed."""

    message: str
    applied: Applied = Applied.UNKNOWN
    retryability: Retryability = Retryability.LATER
    code: grpc.StatusCode | None = None
    """The status code, if a node gave one: then the connection to it works."""
    detail: error_pb2.ErrorDetail | None = None
    silent: bool = False
    """Whether there was no answer in time."""

    def __str__(self) -> str:
        return self.message

    @property
    def reason(self) -> str | None:
        return None if self.detail is None else self.detail.WhichOneof("reason")

    @property
    def answered(self) -> bool:
        return self.code is not None

    @property
    def leader(self) -> str | None:
        """The address of the leader, if the node names it."""
        if self.detail is not None and self.reason == "not_leader":
            return self.detail.not_leader.leader_addr or None
        return None

    @property
    def other_cluster(self) -> error_pb2.OtherCluster | None:
        if self.detail is not None and self.reason == "other_cluster":
            return self.detail.other_cluster
        return None

    @property
    def successor(self) -> int | None:
        """The cluster that answers, if it was recovered from the one that the request names."""
        other = self.other_cluster
        return other.cluster_id if other is not None and other.successor else None

    @property
    def ends_leadership(self) -> bool:
        """Whether the next attempt has to search. An overloaded leader is there, and asks to retry later."""
        return self.reason != "overloaded" and self.retryability is not Retryability.NOWHERE

    @property
    def sends_elsewhere(self) -> bool:
        """Whether it helps to reach another node at the same address."""
        return self.answered and self.retryability is Retryability.LATER and self.ends_leadership

    def of_read(self) -> Fault:
        """The same fault of a read, which changes nothing."""
        return replace(self, applied=Applied.NO)

    def refusal(self, endpoint: str) -> Refusal:
        code = self.code or grpc.StatusCode.UNAVAILABLE
        return Refusal(endpoint, code, self.detail, self.applied, self.message)

    def error(self, endpoint: str) -> Error:
        """The error of a call whose last attempt this is."""
        if self.answered:
            refusal = self.refusal(endpoint)
            return Refused(f"{endpoint}: {self.message}", applied=self.applied, refusal=refusal)
        end = DeadlineExceeded if self.silent else Unreachable
        return end(f"{endpoint}: {self.message}", applied=self.applied)


def silence() -> Fault:
    """There was no answer in time."""
    return Fault("no answer in time", silent=True)


def broken(why: str) -> Fault:
    """The connection ended while a request was in flight, or the node answers what makes no sense."""
    return Fault(f"the connection broke: {why}")


def unreachable(why: str) -> Fault:
    """No connection was made, so nothing was sent."""
    return Fault(why, applied=Applied.NO)


def of_status(
    code: grpc.StatusCode,
    message: str | None,
    trailers: Iterable[tuple[str, str | bytes]] | None,
    debug: str | None,
) -> Fault:
    """The fault that a status tells, whether a node or the gRPC library has made it."""
    words = _one_line(message or code.value[1])
    detail = _detail(trailers or ())
    if detail is not None:
        return _typed(code, words, detail)
    if _FROM_PEER.search(debug or ""):
        return _untyped(code, words)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return silence()
    if code is grpc.StatusCode.UNAVAILABLE and words.startswith(_NOT_SENT):
        return unreachable(words)
    return broken(words)


def of_pipeline(error: kv_service_pb2.PipelineError) -> Fault:
    """The fault of one command of a pipeline."""
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    words = _one_line(error.message or code.value[1])
    if error.HasField("detail"):
        return _typed(code, words, error.detail)
    return _untyped(code, words)


def _typed(code: grpc.StatusCode, message: str, detail: error_pb2.ErrorDetail) -> Fault:
    reason = detail.WhichOneof("reason")
    # The status code decides about a reason of a newer version.
    later = reason in _LATER or (reason not in _NOWHERE and code in _TRANSIENT)
    return Fault(
        message,
        Applied.NO if detail.applied == error_pb2.APPLIED_NO else Applied.UNKNOWN,
        Retryability.LATER if later else Retryability.NOWHERE,
        code,
        detail,
    )


def _untyped(code: grpc.StatusCode, message: str) -> Fault:
    if code in _NEVER_SERVED:
        return Fault(message, Applied.NO, Retryability.ELSEWHERE, code)
    if code in _AT_FAULT:
        return Fault(message, Applied.NO, Retryability.NOWHERE, code)
    return Fault(message, Applied.UNKNOWN, Retryability.LATER, code)


def _detail(trailers: Iterable[tuple[str, str | bytes]]) -> error_pb2.ErrorDetail | None:
    for name, value in trailers:
        if name != "grpc-status-details-bin" or isinstance(value, str):
            continue
        try:
            for packed in status_pb2.Status.FromString(value).details:
                if packed.type_url.rpartition("/")[2] == error_pb2.ErrorDetail.DESCRIPTOR.full_name:
                    return error_pb2.ErrorDetail.FromString(packed.value)
        except DecodeError:
            return None
    return None


def _one_line(text: str) -> str:
    """Text from another machine, without control characters that would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
