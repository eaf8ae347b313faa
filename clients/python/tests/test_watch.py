from __future__ import annotations

from typing import Any

import pytest

import seshat
from seshat._core.assembly import Assembly
from seshat._core.fault import Fault, broken
from seshat._core.messages import key_range
from seshat._core.mirror import Copy
from seshat._core.watch import Watched, WatchReader
from seshat.kv.v1 import txn_pb2
from seshat.kv.v1 import watch_pb2 as pb
from seshat.updates import Cause, Disconnected, Events, Position, Progress, Reset, State, Synced
from tests.world import CLUSTER, SILENT, Reaction, World, leader, refusal

AT_FIVE = Position(CLUSTER, 5)


def entry(key: bytes, revision: int) -> txn_pb2.Entry:
    return txn_pb2.Entry(key=key, value=b"%s@%d" % (key, revision), revision=revision)


def events(revision: int, keys: bytes, more: bool = False) -> pb.WatchResponse:
    changes = [pb.Event(cause=pb.CAUSE_SET, entry=entry(bytes([key]), revision)) for key in keys]
    return pb.WatchResponse(events=pb.WatchEvents(revision=revision, events=changes, more=more))


def state(*entries: txn_pb2.Entry, deleted: tuple[bytes, ...] = ()) -> pb.WatchResponse:
    return pb.WatchResponse(state=pb.WatchState(entries=entries, deleted=deleted))


def synced(revision: int, cluster: int = CLUSTER) -> pb.WatchResponse:
    return pb.WatchResponse(synced=pb.WatchSynced(cluster_id=cluster, revision=revision))


def progress(revision: int) -> pb.WatchResponse:
    return pb.WatchResponse(progress=pb.WatchProgress(revision=revision))


RESET = pb.WatchResponse(reset=pb.WatchReset())


def test_the_changes_of_a_revision_come_whole() -> None:
    watch = Assembly(AT_FIVE)
    for part in [events(6, b"a", more=True), events(6, b"b", more=True)]:
        assert watch.add(part) is None
        assert watch.position == AT_FIVE, "it goes on from there elsewhere"
    whole = watch.add(events(6, b"c"))
    assert isinstance(whole, Events)
    assert (whole.revision, [it.entry.key for it in whole.events]) == (6, [b"a", b"b", b"c"])
    assert (watch.position, watch.floor) == (Position(CLUSTER, 6), 6)


def test_half_of_a_revision_is_forgotten() -> None:
    watch = Assembly(AT_FIVE)
    watch.add(events(6, b"a", more=True))
    watch.cut_off()
    again = watch.add(events(6, b"a"))
    assert isinstance(again, Events)
    assert len(again.events) == 1
    for instead in [state(entry(b"a", 7)), RESET]:
        watch = Assembly(AT_FIVE)
        watch.add(events(6, b"a", more=True))
        watch.add(instead)
        assert watch.position is None
        watch.add(synced(7))
        following = watch.add(events(8, b"b"))
        assert isinstance(following, Events)
        assert len(following.events) == 1


def test_a_map_that_has_a_part_of_the_state_stands_nowhere() -> None:
    for first in [RESET, state(entry(b"a", 9), entry(b"b", 2))]:
        watch = Assembly(AT_FIVE)
        watch.add(first)
        assert watch.position is None
        watch.cut_off()
        assert watch.position is None
    assert watch.floor == 9, "the caller has seen this"
    watch.add(synced(9))
    assert watch.position == Position(CLUSTER, 9)


def test_a_state_is_never_older_than_what_the_caller_knows() -> None:
    watch = Assembly(AT_FIVE, 3)
    assert watch.floor == 5
    watch.add(RESET)
    with pytest.raises(Fault):
        watch.add(synced(4))
    watch = Assembly(AT_FIVE, 8)
    watch.add(events(6, b"a"))
    assert (watch.position, watch.floor) == (Position(CLUSTER, 6), 8)
    with pytest.raises(Fault):
        watch.add(synced(7))
    watch.add(synced(8))


@pytest.mark.parametrize("message", [events(5, b"a"), progress(4), synced(4), pb.WatchResponse()])
def test_what_is_out_of_order_ends_a_connection(message: pb.WatchResponse) -> None:
    with pytest.raises(Fault):
        Assembly(AT_FIVE).add(message)


@pytest.mark.parametrize("message", [synced(6), progress(6), events(7, b"a")])
def test_nothing_else_comes_in_the_middle_of_a_revision(message: pb.WatchResponse) -> None:
    watch = Assembly(AT_FIVE)
    watch.add(events(6, b"a", more=True))
    with pytest.raises(Fault):
        watch.add(message)


@pytest.mark.parametrize("message", [events(6, b"a"), progress(6)])
def test_there_are_no_changes_of_an_incomplete_map(message: pb.WatchResponse) -> None:
    with pytest.raises(Fault):
        Assembly().add(message)


def test_an_unknown_cause_is_a_removal() -> None:
    event = pb.Event(cause=77, entry=txn_pb2.Entry(key=b"a", revision=6))  # type: ignore[arg-type]
    told = Assembly(AT_FIVE).add(pb.WatchResponse(events=pb.WatchEvents(revision=6, events=[event])))
    assert isinstance(told, Events)
    assert (told.events[0].cause, told.events[0].is_removal) == (Cause.OTHER, True)


def test_a_mirror_shows_one_moment() -> None:
    copy, watch = Copy(), Assembly()

    def apply(message: pb.WatchResponse) -> bool:
        update = watch.add(message)
        assert update is not None
        return copy.apply(update)

    assert not apply(RESET)
    assert not apply(state(entry(b"a", 1), entry(b"b", 2)))
    assert copy.position is None
    assert apply(synced(5))
    assert list(copy.shown) == [b"a", b"b"]
    assert copy.position == AT_FIVE  # it was another one before
    assert apply(events(6, b"c"))
    assert not apply(progress(7))
    assert not apply(state(entry(b"a", 8), deleted=(b"b",)))
    assert list(copy.shown) == [b"a", b"b", b"c"], "the former state, until the new one is whole"
    assert apply(synced(9))
    assert (copy.shown[b"a"].revision, list(copy.shown)) == (8, [b"a", b"c"])
    apply(RESET)
    apply(state(entry(b"a", 8), entry(b"c", 6)))
    assert not apply(synced(9)), "nothing has changed"
    apply(RESET)
    apply(state(entry(b"a", 8)))
    assert apply(synced(9))
    assert list(copy.shown) == [b"a"]


def reader(world: World, **options: Any) -> WatchReader:
    return WatchReader(world.caller(**options), Watched(key_range(b"")), None, 0)


def test_a_watch_goes_on_elsewhere_where_the_caller_stands() -> None:
    streams: list[Any] = [
        [RESET, state(entry(b"a", 1)), synced(5), events(6, b"b", more=True), broken("reset")],
        [synced(6), events(7, b"c"), SILENT],
    ]
    world = World({"a:1": leader(lambda *_: streams.pop(0))})
    watch = reader(world)
    told = [world.run(watch.update()) for _ in range(5)]
    assert [type(it) for it in told] == [Reset, State, Synced, Synced, Events]
    request = world.sent("Watch")[1]
    assert (request.after_revision, request.cluster_id, request.min_revision) == (5, CLUSTER, 5)
    assert watch.position == Position(CLUSTER, 7)


def test_a_watch_that_stands_nowhere_begins_anew_and_shows_no_earlier_state() -> None:
    streams: list[Any] = [[RESET, state(entry(b"a", 9)), broken("reset")], [RESET, synced(9), SILENT]]
    world = World({"a:1": leader(lambda *_: streams.pop(0))})
    watch = reader(world)
    told = [world.run(watch.update()) for _ in range(4)]
    assert [type(it) for it in told] == [Reset, State, Reset, Synced]
    request = world.sent("Watch")[1]
    assert (request.after_revision, request.HasField("cluster_id"), request.min_revision) == (0, False, 9)


def test_a_node_that_says_nothing_for_three_intervals_counts_as_lost() -> None:
    streams: list[Any] = [[RESET, synced(5), progress(6), SILENT], [synced(6), SILENT]]
    world = World({"a:1": leader(lambda *_: streams.pop(0))})
    watch = reader(world)
    told = [world.run(watch.update()) for _ in range(4)]
    assert [type(it) for it in told] == [Reset, Synced, Progress, Synced]
    assert 15 < world.now - 1000 < 16


def test_a_caller_that_asks_again_and_again_does_not_hide_the_silence() -> None:
    streams: list[Any] = [[RESET, synced(5), SILENT], [synced(6), SILENT]]
    world = World({"a:1": leader(lambda *_: streams.pop(0))})
    watch = reader(world)
    told = [world.run(watch.update()) for _ in range(2)]
    while len(told) < 3 and world.now < 1030:
        asking = world.begin(watch.update())
        limit = world.now + 1
        world.at(limit, lambda: None)
        world.go(lambda asking=asking, limit=limit: asking.is_done or world.now >= limit)  # type: ignore[misc]
        if asking.is_done:
            told.append(asking.result)
        else:
            asking.flow.close()
            world.tasks.remove(asking)
    assert [type(it) for it in told] == [Reset, Synced, Synced]
    assert 15 < world.now - 1000 < 17


def test_a_reset_of_another_cluster_is_not_passed_on() -> None:
    strange: list[Any] = [RESET, synced(50, cluster=2), SILENT]
    streams: list[Any] = [[RESET, synced(5), broken("reset")]]

    def ours(method: str, request: Any) -> Reaction:
        if method == "Get":
            return refusal("invalid_request", code="INVALID_ARGUMENT")
        return streams.pop(0) if streams else [synced(5), SILENT]

    def theirs(method: str, request: Any) -> Reaction:
        return list(strange) if method == "Watch" else refusal("other_cluster", cluster_id=2)

    world = World({"a:1": leader(ours), "b:2": theirs})
    caller = world.caller()
    caller.nodes.learn(CLUSTER)
    watch = WatchReader(caller, Watched(key_range(b"")), None, 0)
    told = [world.run(watch.update()) for _ in range(3)]
    assert [type(it) for it in told] == [Reset, Synced, Synced]
    assert watch.position == AT_FIVE


def test_an_outage_is_told_once() -> None:
    def react(method: str, request: Any) -> Reaction:
        if method != "Watch" or len(world.sent("Watch")) > 40:
            return [synced(5), SILENT]
        return [RESET, synced(5), broken("reset")] if len(world.sent("Watch")) == 1 else broken("reset")

    world = World({"a:1": react})
    watch = reader(world)
    told = [world.run(watch.update()) for _ in range(4)]
    assert [type(it) for it in told] == [Reset, Synced, Disconnected, Synced]


def test_a_watch_that_no_node_will_ever_serve_ends() -> None:
    world = World({"a:1": lambda *_: refusal("invalid_request", code="INVALID_ARGUMENT")})
    watch = reader(world)
    with pytest.raises(seshat.Refused):
        world.run(watch.update())
    assert watch.is_closed
