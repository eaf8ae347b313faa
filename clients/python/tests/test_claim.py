from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from seshat import Applied, Holder, Lost, NotAcquired
from seshat._core.claim import Asked, Claim
from seshat._core.fault import broken
from seshat._core.observe import Observer
from seshat._core.session import open_living
from seshat.errors import DeadlineExceeded, Refused, SessionLost
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.lock.v1 import lock_service_pb2 as lock
from tests.world import SILENT, Reaction, World, leader, refusal

HELD = lock.AcquireResponse(held=lock.Held(token=9))
WAITING = lock.AcquireResponse(waiting=lock.Waiting(ahead=1))
HOLDER = Holder(session=5, claim=1, token=9, value=b"them")


class Locks:
    """A node that leads, and answers for a lock as it is told."""

    def __init__(self, awaits: int = 3072) -> None:
        self.acquire: list[Reaction] = []
        self.state: list[Reaction] = []
        self.release: list[Reaction] = []
        self.world = World({"a:1": leader(self._answer)})
        self.caller = self.world.caller(awaits=awaits)
        self.living, self.issuer = self.world.run(open_living(self.caller, 10.0))

    def _answer(self, method: str, request: Any) -> Reaction:
        if method == "OpenSession":
            return kv.OpenSessionResponse(ttl=Duration(seconds=10))
        if method == "KeepAlive":
            return kv.KeepAliveResponse()
        if method == "CloseSession":
            return kv.CloseSessionResponse()
        if method == "Acquire":
            return self.acquire.pop(0)
        if method == "Await":
            return self.state.pop(0) if self.state else SILENT
        return self.release.pop(0) if self.release else lock.ReleaseResponse()

    def claim(self, is_alone: bool = False, **asked: Any) -> Claim:
        return Claim(self.living, self.issuer, Asked("x", **asked), is_alone)

    def settle(self) -> None:
        self.world.until(self.world.now + 1)


def test_a_claim_is_made_under_one_number_and_released_under_it() -> None:
    locks = Locks()
    locks.acquire = [broken("reset"), HELD]
    locks.release = [broken("reset"), lock.ReleaseResponse()]
    claim = locks.claim(value=b"me")
    assert locks.world.run(claim.make()) is None
    assert claim.token == 9
    locks.world.run(claim.release())
    stamps = [it.session.sequence for it in locks.world.sent("Acquire") + locks.world.sent("Release")]
    assert stamps == [1, 1, 1, 1]
    assert not locks.world.sent("Acquire")[0].HasField("max_wait")


def test_a_claim_waits_through_an_outage() -> None:
    locks = Locks()
    locks.acquire = [WAITING]
    waiting = lock.AwaitResponse(waiting=lock.Waiting(ahead=1))
    held = lock.AwaitResponse(held=lock.Held(token=12))
    locks.state = [waiting, *[broken("reset")] * 40, held]
    claim = locks.claim()
    assert locks.world.run(claim.make()) is None
    assert claim.token == 12
    assert locks.world.now > 1005, "longer than the timeout of a call"


def test_claims_take_turns_where_more_wait_than_are_asked_for_at_once() -> None:
    locks = Locks(awaits=2)
    locks.acquire = [WAITING] * 5
    making = [locks.world.begin(locks.claim().make()) for _ in range(5)]
    locks.settle()
    asked = [it.claim for it in locks.world.sent("Await")]
    assert len(set(asked)) == 2, "no answer has made room for another one"
    locks.state = [lock.AwaitResponse(waiting=lock.Waiting(ahead=1))] * 20
    locks.world.go(lambda: not locks.state)
    asked = [it.claim for it in locks.world.sent("Await")][-15:]
    assert all(len(set(asked[at : at + 5])) == 5 for at in range(10)), "each waits until all others had a turn"
    locks.state = [lock.AwaitResponse(held=lock.Held(token=12))] * 5
    locks.world.go(lambda: all(it.is_done for it in making))
    assert [it.error for it in making] == [None] * 5


def test_a_claim_that_gives_up_takes_the_turn_of_no_other() -> None:
    locks = Locks(awaits=1)
    locks.acquire = [WAITING] * 3
    making = [locks.world.begin(locks.claim().make()) for _ in range(3)]
    locks.world.until(locks.world.now + 0.5)
    for gone in making[:2]:
        gone.flow.close()
        locks.world.tasks.remove(gone)
    locks.state = [lock.AwaitResponse(held=lock.Held(token=12))]
    locks.world.go(lambda: making[2].is_done)
    assert making[2].error is None
    assert locks.world.sent("Await")[-1].claim == 3


def test_a_deadline_ends_a_claim_that_has_no_turn() -> None:
    locks = Locks(awaits=0)
    locks.acquire = [WAITING]
    begun = locks.world.now
    limited = Claim(locks.living, replace(locks.issuer, caller=locks.caller.within(3.0)), Asked("x"), False)
    with pytest.raises(DeadlineExceeded):
        locks.world.run(limited.make())
    assert locks.world.now - begun == pytest.approx(3.0, abs=0.01)


def test_a_lock_that_is_not_free_is_an_outcome() -> None:
    locks = Locks()
    holder = lock.Holder(client_id=5, claim=1, token=9, value=b"them")
    locks.acquire = [lock.AcquireResponse(occupied=lock.Occupied(holder=holder))]
    assert locks.world.run(locks.claim(max_wait=0).make()) == NotAcquired(HOLDER)
    locks.acquire = [WAITING]
    locks.state = [lock.AwaitResponse(gone=lock.Gone())]
    assert locks.world.run(locks.claim(max_wait=2).make()) == NotAcquired(None)
    assert locks.living.lease.lost() is None
    locks.settle()
    assert locks.world.sent("Release") == []


def test_a_claim_without_end_that_is_gone_means_that_its_session_has_ended() -> None:
    locks = Locks()
    locks.acquire = [lock.AcquireResponse(gone=lock.Gone())]
    with pytest.raises(SessionLost):
        locks.world.run(locks.claim().make())
    assert locks.living.lease.lost() is Lost.ENDED


@pytest.mark.parametrize("acquired", [True, False])
def test_a_caller_that_gives_up_releases_what_it_may_have_claimed(acquired: bool) -> None:
    locks = Locks()
    locks.acquire = [WAITING] if acquired else [SILENT] * 3
    locks.release = [broken("reset"), refusal("no_quorum"), lock.ReleaseResponse()]
    making = locks.world.begin(locks.claim().make())
    locks.world.until(locks.world.now + 0.5)
    making.flow.close()
    locks.world.tasks.remove(making)
    locks.settle()
    assert [it.session.sequence for it in locks.world.sent("Release")] == [1, 1, 1]


def test_a_claim_that_was_surely_not_made_is_not_released() -> None:
    locks = Locks()
    locks.acquire = [refusal("too_large", code="INVALID_ARGUMENT")]
    with pytest.raises(Refused) as caught:
        locks.world.run(locks.claim().make())
    assert caught.value.applied is Applied.NO
    locks.settle()
    assert locks.world.sent("Release") == []


def test_the_wait_for_a_lock_ends_with_the_session() -> None:
    locks = Locks()
    locks.acquire = [WAITING]
    making = locks.world.begin(locks.claim().make())
    locks.world.until(locks.world.now + 0.5)
    locks.living.lease.lose(Lost.ENDED)
    locks.world.go(lambda: making.is_done)
    assert isinstance(making.error, SessionLost)
    locks.settle()
    assert locks.world.sent("Release") == [], "nothing is sent in the name of a lost session"


def test_a_lock_of_its_own_session_closes_that() -> None:
    locks = Locks()
    locks.acquire = [HELD]
    claim = locks.claim(is_alone=True)
    locks.world.run(claim.make())
    locks.world.run(claim.release())
    assert len(locks.world.sent("CloseSession")) == 1
    assert locks.world.sent("Release") == []


def test_the_number_of_an_acquire_is_outstanding_only_until_that_is_answered() -> None:
    locks = Locks()
    locks.acquire = [HELD, HELD]
    first, second = locks.claim(), locks.claim()
    locks.world.run(first.make())
    locks.world.run(second.make())
    assert locks.world.sent("Acquire")[1].session.first_outstanding == 2
    locks.world.run(first.release())
    assert locks.world.sent("Release")[0].session.first_outstanding == 1


def test_an_observer_is_told_of_changes_only_and_goes_on_at_the_next_leader() -> None:
    def held(token: int) -> lock.ObserveResponse:
        return lock.ObserveResponse(holder=lock.Holder(token=token))

    free = lock.ObserveResponse()
    streams: list[Any] = [
        [held(1), held(1), free, refusal("not_leader")],
        [free, held(3), SILENT],
    ]
    world = World({"a:1": leader(lambda *_: streams.pop(0))})
    observer = Observer(world.caller(), "x")
    told = [world.run(observer.holder()) for _ in range(3)]
    assert [it and it.token for it in told] == [1, None, 3]
