from __future__ import annotations

from typing import Any

import pytest

import seshat
from seshat import Applied
from seshat._core.call import Attempts, Repeat
from seshat._core.fault import Fault, Retryability, broken, silence, unreachable
from seshat._core.options import Options
from seshat._core.scan import Query, ScanReader, whole
from seshat._core.session import open_session
from seshat._core.transport import Purpose
from seshat._core.writes import Issuer
from seshat.errors import DeadlineExceeded, Interrupted, Refused, Unreachable, Unserved
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.kv.v1 import txn_pb2
from seshat.values import Get, Set, Txn
from tests.world import CLUSTER, SILENT, World, follower, leader, one_by_one, refusal

SET = Set(b"k", b"v")


def attempts(repeat: Repeat, deadline: float = 1005.0) -> Attempts:
    return Attempts(repeat, 5.0, deadline, Options())


def test_an_attempt_takes_a_second_and_a_third_of_what_is_left_and_twice_as_long_after_silence() -> None:
    read = attempts(Repeat.READ)
    assert read.until(1000.0) == 1001.0
    assert read.until(1003.5) == pytest.approx(1004.0)
    read.failed(silence(), "a:1", 1001.0)
    assert read.until(1001.0) == pytest.approx(1001.0 + 4 / 3)
    assert attempts(Repeat.ONCE).until(1000.0) == 1005.0


def test_pauses_grow_up_to_half_a_second_and_are_random_by_a_half() -> None:
    read = attempts(Repeat.READ, deadline=2000.0)
    for pause in [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]:
        assert pause / 2 <= read.failed(broken("x"), "a:1", 1000.0) - 1000.0 <= pause


def test_a_write_that_goes_once_stops_at_the_first_doubt_only() -> None:
    once = attempts(Repeat.ONCE)
    once.failed(unreachable("refused"), "a:1", 1000.0)
    once.failed(refusal("no_quorum"), "a:1", 1000.1)
    with pytest.raises(Unreachable) as caught:
        once.failed(broken("reset"), "a:1", 1000.2)
    assert caught.value.applied is Applied.UNKNOWN


@pytest.mark.parametrize("reason", ["session_expired", "too_large"])
def test_a_doubt_is_kept_over_a_later_refusal(reason: str) -> None:
    numbered = attempts(Repeat.NUMBERED)
    numbered.failed(broken("reset"), "a:1", 1000.0)
    with pytest.raises(Refused) as caught:
        numbered.failed(refusal(reason), "a:1", 1000.1)
    assert (caught.value.applied, caught.value.reason) == (Applied.UNKNOWN, reason)
    with pytest.raises(Refused) as caught:
        attempts(Repeat.NUMBERED).failed(refusal(reason), "a:1", 1000.1)
    assert caught.value.applied is Applied.NO


def test_a_session_ends_with_its_cluster() -> None:
    recovered = refusal("other_cluster", cluster_id=2, successor=True)
    with pytest.raises(Refused) as caught:
        attempts(Repeat.NUMBERED).failed(recovered, "a:1", 1000.0)
    assert caught.value.is_session_expired
    attempts(Repeat.ONCE).failed(recovered, "a:1", 1000.0)


def test_a_failed_read_was_surely_not_applied() -> None:
    with pytest.raises(Refused) as caught:
        attempts(Repeat.READ).failed(refusal("too_large", "UNKNOWN"), "a:1", 1000.0)
    assert caught.value.applied is Applied.NO


def test_the_leader_that_a_node_names_is_asked_although_it_is_no_endpoint() -> None:
    world = World({"a:1": follower("c:3"), "c:3": leader()})
    caller = world.caller("a:1")
    assert world.run(Issuer(caller).get(b"k")).value == b"v"
    assert caller.nodes.cluster == CLUSTER
    assert world.sent("Get")[-1].cluster_id == CLUSTER
    assert world.now - 1000.0 < 0.02


def test_the_leader_that_an_attempt_has_named_is_asked_first() -> None:
    asked: list[str] = []

    def former(method: str, request: Any) -> Any:
        asked.append(method)
        return kv.GetResponse(cluster_id=CLUSTER) if len(asked) == 1 else named if len(asked) == 2 else SILENT

    named = refusal("not_leader", code="FAILED_PRECONDITION", leader_addr="c:3")
    world = World({"a:1": former, "c:3": leader()})
    assert world.run(Issuer(world.caller("a:1")).set(SET)) == seshat.Written(7)


def test_a_node_that_fails_makes_the_turn_of_the_next_one_come_at_once() -> None:
    world = World({"z:1": leader()})
    dead = [f"dead:{port}" for port in range(1, 8)]
    world.run(Issuer(world.caller("z:1", *dead)).get(b"k"))
    assert world.now - 1000.0 < 0.03


def test_a_load_balancer_is_dialled_anew() -> None:
    def balancer(method: str, request: Any) -> Any:
        return (leader() if world.connections["lb:1"] > 4 else follower("hidden:9"))(method, request)

    world = World({"lb:1": balancer})
    assert world.run(Issuer(world.caller()).get(b"k")).value == b"v"
    assert world.now - 1000.0 < 0.2, "it is dialled quickly while a node behind it leads"


def test_a_connection_without_an_answer_gets_a_replacement() -> None:
    def hung(method: str, request: Any) -> Any:
        return SILENT if world.connections["a:1"] == 1 else leader()(method, request)

    world = World({"a:1": hung})
    assert world.run(Issuer(world.caller()).get(b"k")).value == b"v"


def test_a_node_that_hangs_costs_no_more_than_the_pause_before_the_next() -> None:
    world = World({"a:1": lambda *_: SILENT, "b:2": lambda *_: SILENT, "c:3": leader()})
    world.run(Issuer(world.caller()).get(b"k"))
    assert world.now - 1000.0 < 0.06


def test_a_dead_hint_is_one_more_node_and_no_more() -> None:
    world = World({"a:1": follower("dead:9"), "b:2": leader()})
    world.run(Issuer(world.caller("a:1", "b:2")).get(b"k"))
    assert world.now - 1000.0 < 0.1


def test_a_write_whose_outcome_is_unknown_is_not_sent_again() -> None:
    world = World({"a:1": leader(lambda *_: broken("reset"))})
    with pytest.raises(Unreachable) as caught:
        world.run(Issuer(world.caller()).set(SET))
    assert caught.value.applied is Applied.UNKNOWN
    assert len(world.sent("Set")) == 1


def test_a_write_that_was_surely_not_applied_is_sent_again() -> None:
    answers = one_by_one(unreachable("refused"), refusal("no_quorum"), kv.SetResponse(applied_index=7))
    world = World({"a:1": leader(answers)})
    assert world.run(Issuer(world.caller()).set(SET)) == seshat.Written(7)


def test_a_numbered_write_is_repeated_under_its_number() -> None:
    def react(method: str, request: Any) -> Any:
        return kv.OpenSessionResponse() if method == "OpenSession" else answers(method, request)

    answers = one_by_one(broken("reset"), refusal("not_leader", "UNKNOWN"), kv.SetResponse(applied_index=7))
    world = World({"a:1": leader(react)})
    caller = world.caller()
    issuer = world.run(open_session(caller)).issuer(caller)
    assert world.run(issuer.set(SET)) == seshat.Written(7)
    stamps = [request.session for request in world.sent("Set")]
    assert [(it.sequence, it.first_outstanding) for it in stamps] == [(1, 1)] * 3
    assert {it.client_id for it in stamps} == {world.sent("OpenSession")[0].client_id}


def test_before_a_write_that_goes_once_the_leader_has_answered_within_a_second() -> None:
    world = World({"a:1": leader()})
    issuer = Issuer(world.caller())
    world.run(issuer.set(SET))
    world.run(issuer.set(SET))
    assert [it.method for it in world.requests] == ["Get", "Set", "Set"]
    world.until(world.now + 1.1)
    world.run(issuer.set(SET))
    assert [it.method for it in world.requests][3:] == ["Get", "Set"]
    world.until(world.now + 1.1)
    world.run(issuer.get(b"k"))
    assert [it.message.key for it in world.requests][5:] == [b"k"], "a read needs no search"


def test_an_overloaded_leader_stays_the_leader() -> None:
    world = World({"a:1": leader(one_by_one(refusal("overloaded"), kv.SetResponse())), "b:2": follower("a:1")})
    issuer = Issuer(world.caller())
    world.run(issuer.set(SET))
    searched = max(index for index, it in enumerate(world.requests) if it.method == "Get")
    assert searched < min(index for index, it in enumerate(world.requests) if it.method == "Set")


def test_a_call_has_one_deadline() -> None:
    world = World({"a:1": lambda *_: SILENT, "b:2": follower()})
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(Issuer(world.caller(timeout=3.0)).set(SET))
    assert world.now == pytest.approx(1003.0, abs=0.01)
    assert (caught.value.applied, caught.value.reason) == (Applied.NO, "not_leader")
    with pytest.raises(Unreachable):
        world.run(Issuer(world.caller("dead:9", timeout=1.0)).get(b"k"))


def test_a_silent_leader_is_left_after_a_second_by_a_read_and_never_by_a_write_that_goes_once() -> None:
    asked = {"a:1": leader(lambda *_: SILENT)}
    world = World(dict(asked))
    with pytest.raises(DeadlineExceeded) as caught:
        world.run(Issuer(world.caller()).set(SET))
    assert world.now == pytest.approx(1005.0, abs=0.01)
    assert caught.value.applied is Applied.UNKNOWN
    world = World(dict(asked))
    with pytest.raises(Unreachable):
        world.run(Issuer(world.caller()).get(b"k"))
    assert len([it for it in world.sent("Get") if it.key == b"k"]) > 1


@pytest.mark.parametrize(("given", "took", "connections"), [(0.005, 0.5, 1), (0.5, 0.005, 2)])
def test_a_node_is_judged_by_the_time_that_it_had_to_answer(given: float, took: float, connections: int) -> None:
    def stand_still(*_: Any) -> Any:
        world.now += took
        return silence()

    world = World({"a:1": leader(stand_still)})
    caller = world.caller()
    world.run(caller.leader(world.now + 1, Repeat.READ))
    with pytest.raises(DeadlineExceeded):
        world.run(Issuer(caller.with_timeout(given)).set(SET))
    caller.nodes.node(Purpose.CALLS, "a:1")
    assert world.connections["a:1"] == connections


def test_endpoints_that_never_serve_end_a_call_at_once() -> None:
    def never(*_: Any) -> Any:
        return Fault("no such service", Applied.NO, Retryability.ELSEWHERE)

    world = World({"a:1": never, "b:2": never})
    with pytest.raises(Unserved):
        world.run(Issuer(world.caller()).set(SET))
    assert world.now - 1000.0 < 0.1


def test_a_node_of_another_cluster_is_not_followed_and_a_successor_is() -> None:
    old, new = 1, 2
    strange = refusal("other_cluster", cluster_id=new, code="FAILED_PRECONDITION")
    world = World({"a:1": lambda *_: strange})
    caller = world.caller(timeout=1.0)
    caller.nodes.learn(old)
    with pytest.raises(seshat.Error) as caught:
        world.run(Issuer(caller).get(b"k"))
    assert caught.value.is_other_cluster
    assert caller.nodes.cluster == old

    def recovered(method: str, request: Any) -> Any:
        if request.cluster_id == old:
            return refusal("other_cluster", cluster_id=new, successor=True)
        return leader()(method, request)

    world = World({"a:1": recovered})
    caller = world.caller()
    caller.nodes.learn(old)
    assert world.run(Issuer(caller).get(b"k")).value == b"v"
    assert caller.nodes.cluster == new
    only = world.caller(cluster=old, timeout=1.0)
    with pytest.raises(seshat.Error) as caught:
        world.run(Issuer(only).get(b"k"))
    assert caught.value.is_other_cluster


def test_all_addresses_of_a_name_that_refuses_twice_are_asked() -> None:
    world = World({"name:1": follower(), "10.0.0.1:1": follower(), "10.0.0.2:1": leader()})
    world.names["name:1"] = ["10.0.0.1:1", "10.0.0.2:1"]
    assert world.run(Issuer(world.caller("name:1")).get(b"k")).value == b"v"


def test_all_calls_wait_for_one_search() -> None:
    world = World({"a:1": leader()})
    issuer = Issuer(world.caller())
    calls = [world.begin(issuer.get(b"k")) for _ in range(20)]
    world.go(lambda: all(call.is_done for call in calls))
    assert [call.error for call in calls] == [None] * 20
    assert len([it for it in world.sent("Get") if it.key == b"\0"]) == 1


def test_a_condition_that_does_not_hold_is_an_outcome() -> None:
    found = txn_pb2.Entry(key=b"k", value=b"other", revision=9)
    results = [txn_pb2.OperationResult(get=txn_pb2.GetResult(entry=found))]
    world = World({"a:1": leader(lambda *_: kv.TxnResponse(results=results, revision=12))})
    outcome = world.run(Issuer(world.caller()).set(SET, seshat.Condition.missing(b"k")))
    assert outcome == seshat.NotHeld(seshat.Entry(b"k", b"other", 9))
    assert not outcome
    request = world.sent("Txn")[0]
    assert request.conditions[0].key.HasField("exists")
    assert (request.success[0].set.value, request.failure[0].get.key) == (b"v", b"k")


def test_an_answer_to_another_transaction_is_no_answer() -> None:
    world = World({"a:1": leader(lambda *_: kv.TxnResponse(succeeded=True, revision=12))})
    with pytest.raises(Unreachable) as caught:
        world.run(Issuer(world.caller()).txn(Txn(then=(SET,))))
    assert caught.value.applied is Applied.UNKNOWN
    with pytest.raises(seshat.Error) as read:
        world.run(Issuer(world.caller(timeout=1.0)).txn(Txn(then=(Get(b"k"),))))
    assert read.value.applied is Applied.NO


def test_a_cut_off_scan_begins_again_if_the_caller_has_seen_nothing() -> None:
    def part(key: bytes, **last: Any) -> kv.ScanResponse:
        return kv.ScanResponse(entries=[txn_pb2.Entry(key=key)], revision=5, **last)

    def script() -> Any:
        cut = [part(b"a", more=True), broken("reset")]
        return leader(one_by_one(cut, [part(b"a", more=True), part(b"b", count=2)]))

    world = World({"a:1": script()})
    entries, count = world.run(whole(world.caller(), Query(b"")))
    assert ([entry.key for entry in entries], count) == ([b"a", b"b"], 2)
    world = World({"a:1": script()})
    reader = ScanReader(world.caller(), Query(b""))
    world.run(reader.part())
    with pytest.raises(Interrupted):
        world.run(reader.part())
    assert reader.is_over
