from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

import seshat
from seshat._core import messages
from seshat._core.options import Seconds, endpoint, endpoints, seconds
from seshat._core.writes import one_condition
from seshat.errors import Invalid
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import Condition, Set, data


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6379", "127.0.0.1:6379"),
        (" kvstore-1:6379", "kvstore-1:6379"),
        ("http://[::1]:6379/", "[::1]:6379"),
    ],
)
def test_endpoints_are_host_and_port(text: str, address: str) -> None:
    assert endpoint(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "6379", "kvstore-1", ":6379", "a:", "a:0", "a:65536", "a:1/path", "me@a:1", "https://a:1", "k v:1"],
)
def test_anything_else_is_no_endpoint(text: str) -> None:
    with pytest.raises(Invalid):
        endpoint(text)


def test_a_list_of_endpoints_may_have_holes_but_not_be_empty() -> None:
    assert endpoints(["a:1,b:2,", "", "a:1"]) == ["a:1", "b:2"]
    with pytest.raises(Invalid):
        endpoints(["", ","])


@pytest.mark.parametrize(
    ("length", "whole", "nanos"),
    [(0, 0, 0), (1.5, 1, 500_000_000), (timedelta(minutes=1), 60, 0), (0.1, 0, 100_000_000), (1e-12, 0, 0)],
)
def test_durations(length: Seconds, whole: int, nanos: int) -> None:
    message = messages.duration(length)
    assert (message.seconds, message.nanos) == (whole, nanos)
    assert messages.length(message) == pytest.approx(seconds(length), abs=1e-9)


def test_what_is_no_duration_is_sent_nowhere() -> None:
    for length in [float("nan"), float("inf"), 1e18]:
        with pytest.raises(Invalid):
            messages.duration(length)


def test_an_empty_value_is_a_value() -> None:
    assert messages.found(kv.GetResponse(value=b"")).value == b""
    assert messages.found(kv.GetResponse()).value is None


def test_numbers_go_beyond_what_a_float_holds() -> None:
    biggest = 2**64 - 1
    found = messages.found(kv.GetResponse(value=b"", revision=biggest, applied_index=biggest - 1))
    assert (found.revision, found.read_at) == (biggest, biggest - 1)


def test_a_condition_that_tests_for_what_is_false_or_empty_is_one() -> None:
    tests = {
        "exists": messages.condition(Condition.missing("k")),
        "revision": messages.condition(Condition.at_revision("k", 0)),
        "value": messages.condition(Condition.has_value("k", "")),
    }
    for name, message in tests.items():
        assert message.key.WhichOneof("test") == name
    held = messages.condition(Condition.held(seshat.Token("x", 7)))
    assert (held.lock.name, held.lock.token) == ("x", 7)


def test_a_write_has_one_condition_and_a_key_one_lifetime() -> None:
    with pytest.raises(Invalid):
        one_condition("k", if_absent=True, if_revision=1)
    with pytest.raises(Invalid):
        messages.operation(Set("k", "v", ttl=1, keep_lifetime=True))
    assert messages.operation(Set("k", "v", keep_lifetime=True)).set.WhichOneof("lifetime") == "keep"


def test_a_condition_on_what_is_not_there_is_no_write_without_a_condition() -> None:
    conditions: list[dict[str, Any]] = [
        {"if_value": None},
        {"if_revision": None},
        {"if_held": None},
        {"if_held": seshat.NotAcquired(None)},
    ]
    for condition in conditions:
        with pytest.raises(Invalid):
            one_condition("k", **condition)
    assert one_condition("k") is None


def test_keys_and_values_are_bytes_or_text() -> None:
    assert data(cast("bytes", bytearray(b"v"))) == b"v"
    for other in (5, None, [1, 2], 1.5):
        with pytest.raises(TypeError):
            data(cast("bytes", other))


def test_text_is_taken_as_utf_8() -> None:
    assert messages.operation(Set("schlüssel", "wert")).set.key == "schlüssel".encode()
    interval = messages.key_range(seshat.KeyRange("a")).interval
    assert (interval.start, interval.HasField("end")) == (b"a", False)
