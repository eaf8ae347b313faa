"""What the runner asks for, as the client has it, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.duration_pb2 import Duration

import seshat
from conformance_program import conformance_pb2 as pb
from seshat.kv.v1 import kv_pb2  # noqa: F401 so that its types are known

Handle = Callable[[str], Any]
"""What a handle names."""


def seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def echo(asked: pb.Echo) -> pb.Echoed:
    pool = descriptor_pool.Default()
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(asked.type))()
    if asked.HasField("json"):
        json_format.Parse(asked.json, message)
    else:
        message.ParseFromString(asked.binary)
    binary = message.SerializeToString(deterministic=True)
    return pb.Echoed(binary=binary, json=json_format.MessageToJson(message))


def condition(asked: pb.Condition, key: bytes, handle: Handle) -> seshat.Condition:
    test = asked.WhichOneof("test")
    if test == "exists":
        return seshat.Condition.bound(key) if asked.exists else seshat.Condition.missing(key)
    if test == "revision":
        return seshat.Condition.at_revision(key, asked.revision)
    if test == "value":
        return seshat.Condition.has_value(key, asked.value)
    if test == "held":
        return seshat.Condition.held(handle(asked.held))
    return seshat.Condition.held(seshat.Token(asked.token.name, asked.token.token))


def write(asked: pb.Set, handle: Handle) -> seshat.Set:
    lifetime = asked.lifetime
    return seshat.Set(
        asked.key,
        asked.value,
        ttl=seconds(lifetime.ttl) if lifetime.HasField("ttl") else None,
        owner=handle(lifetime.owner) if lifetime.HasField("owner") else None,
        keep_lifetime=lifetime.HasField("keep"),
    )


def operation(asked: pb.Operation, handle: Handle) -> seshat.Operation:
    if asked.HasField("set"):
        return write(asked.set, handle)
    return seshat.Get(asked.get.key) if asked.HasField("get") else seshat.Delete(asked.delete.key)


def entry(found: seshat.Entry | None) -> pb.Entry | None:
    return None if found is None else present(found)


def failure(error: seshat.Error) -> pb.Failure:
    return pb.Failure(
        applied=pb.APPLIED_NO if error.applied is seshat.Applied.NO else pb.APPLIED_UNKNOWN,
        kind=pb.Kind.Value(f"KIND_{error.kind.name}"),
        reason=error.reason or "",
        message=str(error),
    )


def result(done: seshat.OperationResult) -> pb.OperationResult:
    if isinstance(done.operation, seshat.Set):
        return pb.OperationResult(set=pb.Done())
    if isinstance(done.operation, seshat.Get):
        return pb.OperationResult(get=pb.Got(entry=entry(done.found)))
    return pb.OperationResult(existed=done.existed)


def reply(command: seshat.Command, answer: seshat.Reply) -> pb.OperationResult:
    if isinstance(answer, seshat.Error):
        return pb.OperationResult(failure=failure(answer))
    if isinstance(answer, seshat.Found):
        return pb.OperationResult(get=got(command.key if isinstance(command, seshat.Get) else b"", answer))
    if isinstance(answer, seshat.Deleted):
        return pb.OperationResult(existed=answer.existed)
    return pb.OperationResult(set=pb.Done())


def got(key: seshat.Data, found: seshat.Found) -> pb.Got:
    if found.value is None:
        return pb.Got()
    raw = key.encode() if isinstance(key, str) else key
    return pb.Got(entry=pb.Entry(key=raw, value=found.value, revision=found.revision))


def update(news: seshat.Update) -> pb.Update | None:
    """``None``: news of outages and of progress are left out."""
    if isinstance(news, seshat.Reset):
        return pb.Update(reset=pb.Done())
    if isinstance(news, seshat.State):
        return pb.Update(state=pb.State(entries=map(present, news.entries), deleted=news.deleted))
    if isinstance(news, seshat.Synced):
        return pb.Update(synced=news.position.revision)
    if isinstance(news, seshat.Events):
        events = [pb.Event(cause=it.cause.value, entry=present(it.entry)) for it in news.events]
        return pb.Update(events=pb.Events(revision=news.revision, events=events))
    return None


def present(found: seshat.Entry) -> pb.Entry:
    return pb.Entry(key=found.key, value=found.value, revision=found.revision)


def holder(found: seshat.Holder | None) -> pb.HolderIs:
    return pb.HolderIs() if found is None else pb.HolderIs(held=True, value=found.value, token=found.token)
