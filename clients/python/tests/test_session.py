from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from seshat import Applied, Lost
from seshat._core.fault import broken
from seshat._core.lease import Lease, Moment
from seshat._core.numbers import MAX_OUTSTANDING, Numbers
from seshat._core.options import Clocks
from seshat._core.session import Living, open_living, open_session
from seshat._core.writes import Issuer
from seshat.errors import DeadlineExceeded, Error, Refused, SessionLost
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import Set
from tests.world import CLUSTER, SILENT, Reaction, World, leader, refusal

TTL = 10.0


class Time:
    """The clocks of a machine that may be suspended."""

    def __init__(self) -> None:
        self.now = 100.0
        self.suspended = 0.0
        self.clocks = Clocks(lambda: self.now, lambda: self.now + self.suspended)

    def lease(self) -> Lease:
        return Lease(TTL, self.clocks, Moment.now(self.clocks))


def test_a_lease_holds_for_nine_tenths_of_its_ttl_after_the_last_renewal_was_sent() -> None:
    time = Time()
    lease = time.lease()
    time.now += 8.999
    assert lease.lost() is None
    sent = Moment.now(time.clocks)
    time.now += 0.001 - 1e-9
    lease.renew(sent)
    time.now = sent.monotonic + 8.999
    assert lease.lost() is None
    time.now += 0.0011
    assert lease.lost() is Lost.NOT_RENEWED


def test_an_older_renewal_takes_nothing_away_and_none_brings_a_lost_lease_back() -> None:
    time = Time()
    lease = time.lease()
    older = Moment.now(time.clocks)
    time.now += 5
    lease.renew(Moment.now(time.clocks))
    lease.renew(older)
    time.now += 5
    assert lease.lost() is None
    lease.lose(Lost.ENDED)
    lease.renew(Moment.now(time.clocks))
    lease.lose(Lost.CLOSED)
    assert lease.lost() is Lost.ENDED


def test_suspended_time_counts() -> None:
    time = Time()
    lease = time.lease()
    time.now += 1
    time.suspended = 7.999
    assert lease.lost() is None
    time.suspended = 8.001
    assert lease.lost() is Lost.NOT_RENEWED


def test_a_loss_is_told_once() -> None:
    time = Time()
    lease = time.lease()
    told: list[Lost] = []
    lease.call_when_lost(told.append)
    lease.lose(Lost.ENDED)
    lease.lose(Lost.CLOSED)
    lease.call_when_lost(told.append)
    assert told == [Lost.ENDED, Lost.ENDED]


def test_the_session_moves_past_writes_without_a_waiting_caller() -> None:
    world, numbers = World(), Numbers(7)
    assert world.run(numbers.take(3, world.now)) == [1, 2, 3]

    def stamp(sequence: int) -> tuple[int, int]:
        session = numbers.stamp(sequence)
        return session.sequence, session.first_outstanding

    assert (stamp(2), stamp(3)) == ((2, 1), (3, 1))
    numbers.done([2])
    assert stamp(3) == (3, 1), "the first is still waited for"
    numbers.done([1])
    assert stamp(3) == (3, 3)
    assert stamp(1) == (1, 1), "a release of an answered claim is at most its own number"
    numbers.done([3])
    assert world.run(numbers.take(1, world.now)) == [4]


def test_numbers_are_given_first_come_first_served() -> None:
    world, numbers = World(), Numbers(7)
    first = world.run(numbers.take(1, world.now))
    batch = world.begin(numbers.take(MAX_OUTSTANDING, 2000.0))
    single = world.begin(numbers.take(1, 2000.0))
    world.until(world.now + 1)
    assert not single.is_done, "a write that came later has gone ahead of the batch"
    numbers.done(first)
    world.until(world.now + 1)
    assert batch.result[0] == 2
    assert not single.is_done, "more are outstanding than a node accepts"
    numbers.done(batch.result)
    world.go(lambda: single.is_done)
    assert single.result == [1026]


def test_a_write_that_finds_no_number_in_time_was_not_applied() -> None:
    world, numbers = World(), Numbers(7)
    world.run(numbers.take(MAX_OUTSTANDING, world.now))
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(numbers.take(1, world.now + 1))
    assert caught.value.applied is Applied.NO


class Cluster:
    """A node that leads, and counts the sessions."""

    def __init__(self) -> None:
        self.keep_alive: Callable[[], Reaction] = lambda: kv.KeepAliveResponse(ttl=Duration(seconds=10))
        self.set: Callable[[], Reaction] = lambda: kv.SetResponse(applied_index=7)
        self.lost_at_close: Lost | None = None
        self.living: Living | None = None
        self.world = World({"a:1": leader(self._answer)})
        self.caller = self.world.caller()

    def _answer(self, method: str, request: Any) -> Reaction:
        if method == "OpenSession":
            ttl = request.ttl if request.HasField("ttl") else None
            return kv.OpenSessionResponse(ttl=ttl)
        if method == "KeepAlive":
            return self.keep_alive()
        if method == "CloseSession":
            self.lost_at_close = self.living.lease.lost() if self.living else None
            return kv.CloseSessionResponse(existed=True)
        return self.set()

    def open(self) -> Issuer:
        self.living, issuer = self.world.run(open_living(self.caller, TTL))
        return issuer

    def lost(self) -> Lost | None:
        assert self.living is not None
        return self.living.lease.lost()


def test_a_session_is_renewed_every_third_of_its_ttl() -> None:
    cluster = Cluster()
    cluster.open()
    opened = cluster.world.now
    cluster.world.until(opened + 35)
    times = [it.at - opened for it in cluster.world.requests if it.method == "KeepAlive"]
    assert times == pytest.approx([10 * n / 3 for n in range(1, 11)], abs=0.1)
    assert cluster.lost() is None
    assert {it.cluster_id for it in cluster.world.sent("KeepAlive")} == {CLUSTER}


@pytest.mark.parametrize("reaction", [SILENT, broken("reset"), refusal("no_quorum")])
def test_a_session_is_lost_when_no_renewal_succeeds(reaction: Reaction) -> None:
    cluster = Cluster()
    issuer = cluster.open()
    opened = cluster.world.now
    assert cluster.living is not None
    cluster.keep_alive = lambda: reaction
    told: list[float] = []
    cluster.living.lease.call_when_lost(lambda _: told.append(cluster.world.now))
    assert cluster.world.run(cluster.living.lease.wait_lost()) is Lost.NOT_RENEWED
    assert told == [pytest.approx(opened + 9, abs=0.01)]
    assert len(cluster.world.sent("KeepAlive")) > 1
    with pytest.raises(SessionLost) as caught:
        cluster.world.run(issuer.set(Set(b"k", b"v")))
    assert (caught.value.applied, caught.value.is_session_expired) == (Applied.NO, True)
    assert cluster.world.sent("Set") == []


def test_a_session_is_lost_when_a_node_says_so() -> None:
    cluster = Cluster()
    cluster.open()
    opened = cluster.world.now
    cluster.keep_alive = lambda: refusal("session_expired", code="FAILED_PRECONDITION")
    cluster.world.until(opened + 3.4)
    assert cluster.lost() is Lost.ENDED


def test_the_program_knows_of_the_end_of_a_session_before_a_node_does() -> None:
    cluster = Cluster()
    issuer = cluster.open()
    assert cluster.living is not None
    cluster.world.run(cluster.living.renewal.close(cluster.world.now + 5))
    assert cluster.lost_at_close is Lost.CLOSED
    assert len(cluster.world.sent("CloseSession")) == 1
    with pytest.raises(SessionLost):
        cluster.world.run(issuer.get(b"k"))
    with pytest.raises(SessionLost):
        cluster.world.run(cluster.living.renewal.close(cluster.world.now + 5))


def test_a_call_that_began_before_the_loss_may_still_be_answered() -> None:
    cluster = Cluster()
    issuer = cluster.open()
    cluster.set = lambda: SILENT
    write = cluster.world.begin(issuer.set(Set(b"k", b"v")))
    cluster.world.until(cluster.world.now + 0.5)
    assert cluster.living is not None
    cluster.living.lease.lose(Lost.ENDED)
    cluster.set = lambda: kv.SetResponse(applied_index=8)
    cluster.world.go(lambda: write.is_done)
    assert write.error is None


def test_an_answered_write_is_not_outstanding() -> None:
    cluster = Cluster()
    issuer = cluster.open()
    for _ in range(3):
        cluster.world.run(issuer.set(Set(b"k", b"v")))
    assert [it.session.first_outstanding for it in cluster.world.sent("Set")] == [1, 2, 3]


def test_each_attempt_opens_another_session() -> None:
    answers: list[Reaction] = [broken("reset"), kv.OpenSessionResponse()]
    world = World({"a:1": leader(lambda *_: answers.pop(0))})
    opened = world.run(open_session(world.caller()))
    ids = [it.client_id for it in world.sent("OpenSession")]
    assert len(set(ids)) == 2
    assert opened.client_id == ids[1]
    assert 0 not in ids


def test_a_node_that_knows_no_ttl_opens_no_living_session() -> None:
    world = World({"a:1": leader(lambda *_: kv.OpenSessionResponse())})
    with pytest.raises(Error) as caught:
        world.run(open_living(world.caller(), TTL))
    assert caught.value.applied is Applied.NO


def test_a_session_belongs_to_the_cluster_that_opened_it() -> None:
    cluster = Cluster()
    issuer = cluster.open()
    cluster.set = lambda: refusal("other_cluster", cluster_id=2, successor=True, code="FAILED_PRECONDITION")
    with pytest.raises(Refused) as caught:
        cluster.world.run(issuer.set(Set(b"k", b"v")))
    assert caught.value.is_session_expired
    assert cluster.caller.nodes.cluster == 2, "the client itself goes on with the successor"
    with pytest.raises(Refused):
        cluster.world.run(issuer.set(Set(b"k", b"v")))
    assert {it.cluster_id for it in cluster.world.sent("Set")} == {CLUSTER}
