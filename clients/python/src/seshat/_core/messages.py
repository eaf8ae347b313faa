"""Values as protobuf has them, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from seshat._core.fault import Fault, broken
from seshat._core.options import Seconds, seconds
from seshat.errors import Invalid
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.kv.v1 import txn_pb2
from seshat.lock.v1 import lock_service_pb2 as lock
from seshat.values import (
    Condition,
    Data,
    Deleted,
    Entry,
    Found,
    Get,
    Holder,
    KeyRange,
    Keys,
    Operation,
    OperationResult,
    Set,
    Txn,
    TxnOutcome,
    data,
)


def duration(value: Seconds) -> Duration:
    """A duration, in steps of a nanosecond."""
    length = seconds(value)
    if not math.isfinite(length) or abs(length) > 315_576_000_000:
        raise Invalid(f"{length} s is no duration")
    whole = math.floor(length)
    nanos = round((length - whole) * 1e9)
    return Duration(seconds=whole + nanos // 10**9, nanos=nanos % 10**9)


def length(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9


def entry(message: txn_pb2.Entry) -> Entry:
    ttl = length(message.ttl) if message.HasField("ttl") else None
    return Entry(message.key, message.value, message.revision, ttl, message.owner or None)


def holder(message: lock.Holder) -> Holder:
    return Holder(message.client_id, message.claim, message.token, message.value)


def found(message: kv.GetResponse) -> Found:
    value = message.value if message.HasField("value") else None
    return Found(value, message.revision, message.applied_index)


def deleted(message: kv.DeleteResponse) -> Deleted:
    return Deleted(message.existed, message.applied_index)


def key_range(keys: Keys) -> txn_pb2.KeyRange:
    if not isinstance(keys, KeyRange):
        return txn_pb2.KeyRange(prefix=data(keys))
    end = None if keys.end is None else data(keys.end)
    return txn_pb2.KeyRange(interval=txn_pb2.Interval(start=data(keys.start), end=end))


def one_key(key: Data) -> txn_pb2.KeyRange:
    return txn_pb2.KeyRange(key=data(key))


def condition(value: Condition) -> txn_pb2.Condition:
    if value.lock is not None:
        return txn_pb2.Condition(lock=txn_pb2.HeldLock(name=value.lock, token=value.token or 0))
    test = txn_pb2.KeyCondition(key=value.key or b"")
    if value.exists is not None:
        test.exists = value.exists
    elif value.revision is not None:
        test.revision = value.revision
    elif value.value is not None:
        test.value = value.value
    return txn_pb2.Condition(key=test)


def operation(value: Operation) -> txn_pb2.Operation:
    if isinstance(value, Set):
        return txn_pb2.Operation(set=_set(value))
    if isinstance(value, Get):
        return txn_pb2.Operation(get=txn_pb2.GetOperation(key=data(value.key)))
    return txn_pb2.Operation(delete=txn_pb2.DeleteOperation(key=data(value.key)))


def _set(value: Set) -> txn_pb2.SetOperation:
    if (value.ttl is not None) + (value.owner is not None) + value.keep_lifetime > 1:
        raise Invalid("a key has one lifetime: ttl, owner or keep_lifetime")
    operation = txn_pb2.SetOperation(key=data(value.key), value=data(value.value))
    if value.ttl is not None:
        operation.ttl.CopyFrom(duration(value.ttl))
    elif value.owner is not None:
        operation.owner = value.owner.id
    elif value.keep_lifetime:
        operation.keep.SetInParent()
    return operation


def _operations(values: Iterable[Operation]) -> list[txn_pb2.Operation]:
    return [operation(value) for value in values]


def txn(value: Txn, session: kv.Session | None, cluster: int | None) -> kv.TxnRequest:
    return kv.TxnRequest(
        conditions=[condition(it) for it in value.when],
        success=_operations(value.then),
        failure=_operations(value.otherwise),
        session=session,
        cluster_id=cluster,
    )


def txn_outcome(asked: Txn, answer: kv.TxnResponse) -> TxnOutcome:
    """Raises `Fault`: it is no answer to this transaction, so nothing is known of what it writes."""
    operations = asked.then if answer.succeeded else asked.otherwise
    if len(operations) != len(answer.results):
        raise _astray()
    results = tuple(_result(*pair) for pair in zip(operations, answer.results, strict=True))
    return TxnOutcome(answer.succeeded, results, answer.revision)


def _result(asked: Operation, answer: txn_pb2.OperationResult) -> OperationResult:
    done = answer.WhichOneof("result")
    if isinstance(asked, Set) and done == "set":
        return OperationResult(asked)
    if isinstance(asked, Get) and done == "get":
        read = entry(answer.get.entry) if answer.get.HasField("entry") else None
        return OperationResult(asked, found=read)
    if not isinstance(asked, (Set, Get)) and done == "delete":
        return OperationResult(asked, existed=answer.delete.existed)
    raise _astray()


def _astray() -> Fault:
    return broken("the node answered another transaction than the one it was asked for")
