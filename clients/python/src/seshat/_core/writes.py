"""Reads, writes and transactions, of a client or within a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from seshat._core import messages
from seshat._core.call import Caller, Repeat
from seshat._core.flow import Flow
from seshat._core.nodes import Node
from seshat._core.numbers import Numbers
from seshat._core.transport import DELETE, GET, SET, TXN
from seshat.errors import Invalid
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import (
    OMITTED,
    Condition,
    Data,
    Delete,
    Deleted,
    Found,
    Get,
    HeldLock,
    NotAcquired,
    NotHeld,
    Omitted,
    Set,
    Txn,
    TxnOutcome,
    Written,
    data,
)

T = TypeVar("T")

Numbered: TypeAlias = Callable[[Node, float, "kv.Session | None"], Flow[T]]
"""Makes an attempt at a node, until a moment, under a number."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Makes calls, by itself or within a session."""

    caller: Caller
    numbers: Numbers | None = None
    """Those of the session: a write has a number then, and is repeated until it is answered."""
    cluster: int | None = None
    """The cluster of the session."""

    def get(self, key: Data) -> Flow[Found]:
        self._holds()
        wanted = data(key)

        def get(node: Node, until: float) -> Flow[kv.GetResponse]:
            return node.call(GET, kv.GetRequest(key=wanted, cluster_id=node.cluster), until)

        return messages.found((yield from self.caller.call(Repeat.READ, get)))

    def set(self, write: Set, condition: Condition | None = None) -> Flow[Written | NotHeld]:
        if condition is not None or write.has_lifetime:
            outcome = yield from self._conditional(write, condition)
            return outcome if isinstance(outcome, NotHeld) else Written(outcome.revision)
        key, value = data(write.key), data(write.value)

        def set_(node: Node, until: float, session: kv.Session | None) -> Flow[kv.SetResponse]:
            request = kv.SetRequest(key=key, value=value, session=session, cluster_id=node.cluster)
            return node.call(SET, request, until)

        answer = yield from self._write(set_)
        return Written(answer.applied_index)

    def delete(self, removal: Delete, condition: Condition | None = None) -> Flow[Deleted | NotHeld]:
        if condition is not None:
            outcome = yield from self._conditional(removal, condition)
            if isinstance(outcome, NotHeld):
                return outcome
            return Deleted(outcome.results[0].existed, outcome.revision)
        key = data(removal.key)

        def delete(node: Node, until: float, session: kv.Session | None) -> Flow[kv.DeleteResponse]:
            request = kv.DeleteRequest(key=key, session=session, cluster_id=node.cluster)
            return node.call(DELETE, request, until)

        return messages.deleted((yield from self._write(delete)))

    def txn(self, txn: Txn) -> Flow[TxnOutcome]:
        def carry_out(node: Node, until: float, session: kv.Session | None) -> Flow[TxnOutcome]:
            request = messages.txn(txn, session, node.cluster)
            answer = yield from node.call(TXN, request, until)
            return messages.txn_outcome(txn, answer)

        if txn.is_write:
            return (yield from self._write(carry_out))
        self._holds()
        return (yield from self.caller.call(Repeat.READ, lambda node, until: carry_out(node, until, None)))

    def _conditional(self, write: Set | Delete, condition: Condition | None) -> Flow[TxnOutcome | NotHeld]:
        """If the condition does not hold, what the key is bound to is read in the same step."""
        if condition is None:
            return (yield from self.txn(Txn(then=(write,))))
        txn = Txn(when=(condition,), then=(write,), otherwise=(Get(write.key),))
        outcome = yield from self.txn(txn)
        return outcome if outcome.succeeded else NotHeld(outcome.results[0].found)

    def _holds(self) -> None:
        if self.numbers is not None:
            self.numbers.holds()

    def _write(self, make: Numbered[T]) -> Flow[T]:
        numbers = self.numbers
        if numbers is None:
            return (yield from self.caller.call(Repeat.ONCE, lambda node, until: make(node, until, None)))
        deadline = self.caller.until()
        given = yield from numbers.take(1, deadline)

        def numbered(node: Node, until: float) -> Flow[T]:
            # Computed anew for each attempt.
            return make(node, until, numbers.stamp(given[0]))

        try:
            caller = self.caller.bound_to(self.cluster)
            return (yield from caller.call(Repeat.NUMBERED, numbered, deadline))
        finally:
            numbers.done(given)


def one_condition(
    key: Data,
    if_absent: bool = False,
    if_revision: int | Omitted = OMITTED,
    if_value: Data | Omitted = OMITTED,
    if_held: HeldLock | Omitted = OMITTED,
) -> Condition | None:
    """The condition that a caller has given by name. Raises `Invalid` if there are several, or one is ``None``."""
    for name, it in (("if_revision", if_revision), ("if_value", if_value), ("if_held", if_held)):
        # Such as the value of a missing key. To leave the condition out would make the write unconditional.
        if it is None or isinstance(it, NotAcquired):
            raise Invalid(f"{name} is {it}: nothing can be tested against that")
    given = [
        *([Condition.missing(key)] if if_absent else []),
        *([Condition.at_revision(key, if_revision)] if if_revision is not OMITTED else []),
        *([Condition.has_value(key, if_value)] if if_value is not OMITTED else []),
        *([Condition.held(if_held)] if if_held is not OMITTED else []),
    ]
    if len(given) > 1:
        raise Invalid("a write has one condition; a transaction has several")
    return given[0] if given else None
