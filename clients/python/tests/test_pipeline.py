from __future__ import annotations

from typing import Any

import pytest

from seshat import Applied, Delete, Get, Set, Written
from seshat._core.batch import Batch
from seshat._core.fault import broken
from seshat._core.pipeline import Pipe
from seshat._core.session import open_session
from seshat._core.writes import Issuer
from seshat.errors import Error, Invalid
from seshat.kv.v1 import error_pb2
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import Found, Reply
from tests.world import SILENT, World, leader, refusal


def done(id_: int, *results: kv.PipelineResult) -> kv.PipelineResponse:
    return kv.PipelineResponse(id=id_, results=results or [written()])


def written() -> kv.PipelineResult:
    return kv.PipelineResult(set=kv.SetResponse(applied_index=7))


def refused(reason: str, applied: str) -> kv.PipelineResult:
    detail = error_pb2.ErrorDetail(applied=error_pb2.Applied.Value(f"APPLIED_{applied}"))
    getattr(detail, reason).SetInParent()
    return kv.PipelineResult(error=kv.PipelineError(code=9, message=reason, detail=detail))


class Piped:
    """A leader that reacts to one batch after the other."""

    def __init__(self, *reactions: Any, in_session: bool = False) -> None:
        self.reactions = list(reactions)
        self.world = World({"a:1": leader(self._react)})
        caller = self.world.caller()
        issuer = self.world.run(open_session(caller)).issuer(caller) if in_session else Issuer(caller)
        self.pipe = Pipe(issuer, 64)
        self.world.run(self.pipe.open())

    def _react(self, method: str, request: Any) -> Any:
        return kv.OpenSessionResponse() if method == "OpenSession" else self.reactions.pop(0)

    def submit(self, *commands: Any) -> Batch:
        return self.world.run(self.pipe.submit(commands or [Set(b"k", b"v")]))

    def answers(self, batch: Batch) -> list[Reply]:
        return self.world.run(batch.wait())


def test_an_error_of_one_command_has_no_effect_on_others() -> None:
    read = kv.PipelineResult(get=kv.GetResponse(value=b"", applied_index=4))
    piped = Piped(done(1, written(), refused("invalid_request", "NO"), read))
    answers = piped.answers(piped.submit(Set(b"k", b"v"), Delete(b""), Get(b"k")))
    assert answers[0] == Written(7)
    assert isinstance(answers[1], Error)
    assert (answers[1].applied, answers[1].reason) == (Applied.NO, "invalid_request")
    assert answers[2] == Found(b"", 0, 4)


@pytest.mark.parametrize(
    ("end", "applied"),
    [(broken("reset"), Applied.UNKNOWN), (refusal("shutting_down"), Applied.NO)],
)
def test_without_a_session_a_broken_stream_ends_the_pipeline(end: Any, applied: Applied) -> None:
    piped = Piped(done(1), [SILENT], [end])
    first, second = piped.submit(), piped.submit(Set(b"k", b"v"), Get(b"k"))
    piped.world.until(piped.world.now + 0.1)
    assert piped.answers(first) == [Written(7)]
    piped.pipe._stream._items = [end]  # type: ignore[union-attr]
    piped.pipe._stream._supply()  # type: ignore[union-attr]
    write, read = piped.answers(second)
    assert isinstance(write, Error)
    assert isinstance(read, Error)
    assert (write.applied, read.applied) == (applied, Applied.NO)
    with pytest.raises(Error):
        piped.submit()


def test_in_a_session_batches_are_sent_again_in_order_under_their_numbers() -> None:
    piped = Piped(broken("reset"), [], done(3), done(4), in_session=True)
    first, second = piped.submit(), piped.submit()
    assert piped.answers(first) == piped.answers(second) == [Written(7)]
    requests = piped.world.sent("Pipeline")
    assert [it.commands[0].set.session.sequence for it in requests] == [1, 2, 1, 2]
    assert {it.commands[0].set.session.client_id for it in requests} != {0}


def test_in_a_session_a_batch_that_is_refused_for_a_lost_leadership_is_sent_again() -> None:
    piped = Piped(done(1, refused("not_leader", "UNKNOWN")), done(2), in_session=True)
    assert piped.answers(piped.submit()) == [Written(7)]


def test_doubt_is_kept_over_a_later_refusal() -> None:
    piped = Piped(broken("reset"), done(2, refused("session_expired", "NO")), in_session=True)
    (answer,) = piped.answers(piped.submit())
    assert isinstance(answer, Error)
    assert (answer.applied, answer.reason) == (Applied.UNKNOWN, "session_expired")


def test_an_answer_to_nothing_that_was_asked_breaks_the_stream() -> None:
    piped = Piped(done(77))
    (answer,) = piped.answers(piped.submit())
    assert isinstance(answer, Error)
    assert answer.applied is Applied.UNKNOWN


def test_a_refused_read_of_a_pipeline_was_surely_not_applied() -> None:
    piped = Piped(done(1, refused("not_leader", "UNKNOWN")))
    (answer,) = piped.answers(piped.submit(Get(b"k")))
    assert isinstance(answer, Error)
    assert answer.applied is Applied.NO


def test_a_batch_has_bounds() -> None:
    piped = Piped()
    with pytest.raises(Invalid):
        piped.world.run(piped.pipe.submit([]))
    with pytest.raises(Invalid):
        piped.submit(*[Get(b"k")] * 4097)
    in_session = Piped(in_session=True)
    with pytest.raises(Invalid):
        in_session.submit(*[Set(b"k", b"v")] * 1025)
