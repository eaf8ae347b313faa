from __future__ import annotations

import grpc
import pytest
from google.rpc import status_pb2

from seshat import Applied
from seshat._core.fault import Retryability, of_pipeline, of_status
from seshat.kv.v1 import error_pb2
from seshat.kv.v1 import kv_service_pb2 as kv
from tests.world import refusal, trailers

LATER, ELSEWHERE, NOWHERE = Retryability.LATER, Retryability.ELSEWHERE, Retryability.NOWHERE
NO, UNKNOWN = Applied.NO, Applied.UNKNOWN
FROM_PEER = "UNKNOWN:Error received from peer ipv4:127.0.0.1:6379"


@pytest.mark.parametrize(
    ("reason", "retryability"),
    [
        ("not_leader", LATER),
        ("no_quorum", LATER),
        ("overloaded", LATER),
        ("forming", LATER),
        ("other_cluster", LATER),
        ("shutting_down", LATER),
        ("full", NOWHERE),
        ("too_large", NOWHERE),
        ("invalid_request", NOWHERE),
        ("failed_precondition", NOWHERE),
        ("session_expired", NOWHERE),
    ],
)
def test_the_reason_decides_where_a_retry_helps_and_the_detail_what_was_applied(
    reason: str, retryability: Retryability
) -> None:
    for applied, told in [("NO", NO), ("UNKNOWN", UNKNOWN), ("UNSPECIFIED", UNKNOWN)]:
        fault = refusal(reason, applied)
        assert (fault.reason, fault.applied, fault.retryability) == (reason, told, retryability)
        assert fault.answered


def test_every_reason_of_the_schema_is_known() -> None:
    reasons = error_pb2.ErrorDetail.DESCRIPTOR.oneofs_by_name["reason"].fields
    for reason in reasons:
        # A code by which a reason of a newer version would be repeated, and one by which it would not.
        faults = {refusal(reason.name, code=code).retryability for code in ("UNAVAILABLE", "INTERNAL")}
        assert len(faults) == 1, reason.name


@pytest.mark.parametrize(
    ("code", "retryability"),
    [
        ("UNAVAILABLE", LATER),
        ("RESOURCE_EXHAUSTED", LATER),
        ("ABORTED", LATER),
        ("DEADLINE_EXCEEDED", LATER),
        ("FAILED_PRECONDITION", NOWHERE),
        ("INTERNAL", NOWHERE),
    ],
)
def test_the_code_decides_about_a_reason_of_a_newer_version(code: str, retryability: Retryability) -> None:
    newer = error_pb2.ErrorDetail.FromString(b"\x08\x01\x9a\x06\x00")
    fault = of_status(grpc.StatusCode[code], "new", trailers(newer), FROM_PEER)
    assert (fault.reason, fault.applied, fault.retryability) == (None, NO, retryability)


@pytest.mark.parametrize(
    ("code", "applied", "retryability"),
    [
        ("UNIMPLEMENTED", NO, ELSEWHERE),
        ("UNAUTHENTICATED", NO, ELSEWHERE),
        ("PERMISSION_DENIED", NO, ELSEWHERE),
        ("INVALID_ARGUMENT", NO, NOWHERE),
        ("OUT_OF_RANGE", NO, NOWHERE),
        ("UNAVAILABLE", UNKNOWN, LATER),
        ("DEADLINE_EXCEEDED", UNKNOWN, LATER),
        ("INTERNAL", UNKNOWN, LATER),
        ("UNKNOWN", UNKNOWN, LATER),
    ],
)
def test_a_status_without_a_detail(code: str, applied: Applied, retryability: Retryability) -> None:
    fault = of_status(grpc.StatusCode[code], "words", (), FROM_PEER)
    assert (fault.applied, fault.retryability, fault.answered) == (applied, retryability, True)
    told = of_pipeline(kv.PipelineError(code=grpc.StatusCode[code].value[0], message="words"))
    assert (told.applied, told.retryability) == (applied, retryability)


def test_only_a_connection_that_was_never_made_is_sure() -> None:
    unavailable = grpc.StatusCode.UNAVAILABLE
    words = "failed to connect to all addresses; last error: connection refused"
    unmade = of_status(unavailable, words, (), f"UNKNOWN:Error received from peer  {{{words}}}")
    assert (unmade.applied, unmade.retryability, unmade.answered) == (NO, LATER, False)
    # A proxy may say the same of a connection that it did not make, after it has sent much else.
    assert of_status(unavailable, words, (), FROM_PEER).applied is UNKNOWN
    broken = of_status(unavailable, "Socket closed", (), "UNKNOWN:Error received from peer  {}")
    assert (broken.applied, broken.retryability, broken.answered) == (UNKNOWN, LATER, False)


def test_no_answer_in_time_is_silence() -> None:
    local = of_status(
        grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", (), "UNKNOWN:Error received from peer  {}"
    )
    assert (local.silent, local.applied, local.answered) == (True, UNKNOWN, False)
    assert not of_status(grpc.StatusCode.DEADLINE_EXCEEDED, "late", (), FROM_PEER).silent


def test_details_that_are_none_are_ignored() -> None:
    other = status_pb2.Status()
    other.details.add(type_url="type.googleapis.com/google.rpc.Help", value=b"\xff")
    for details in (b"\xff\xff", other.SerializeToString(), b""):
        fault = of_status(grpc.StatusCode.UNAVAILABLE, "x", [("grpc-status-details-bin", details)], FROM_PEER)
        assert (fault.reason, fault.applied) == (None, UNKNOWN)


def test_a_message_cannot_steer_a_terminal() -> None:
    fault = of_status(grpc.StatusCode.INTERNAL, "a\x1b[2J\nb", (), FROM_PEER)
    assert fault.message == "a [2J b"
