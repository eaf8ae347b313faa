"""A search: asks many nodes the same harmless question, and takes the first good answer.

A node may be dead, cut off or paused, so the search waits for no single one. It asks the nodes in a random order with
short pauses between them, without waiting for earlier answers. A node that fails makes the next one's turn
come at once; so does a node that names the leader. A node that refuses or fails is asked again, after random
pauses that grow. An address that refuses twice is dialled anew each time, and every address of its name is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from seshat._core.fault import Fault, Retryability, silence
from seshat._core.flow import Flow, Inbox, Me, Pending, Wait, me
from seshat._core.nodes import Node, Nodes
from seshat._core.options import endpoint
from seshat._core.transport import Purpose
from seshat.errors import DeadlineExceeded, Error, Invalid, Unreachable, Unserved

T = TypeVar("T")

_STAGGER = 0.02
_MAX_NODES = 128
# Refusals from which an address is dialled anew. After the first one the search asks the leader that it names.
_DIAL_ANEW = 2
# How often an only endpoint is dialled before the pauses grow: a load balancer leads to another node each time.
_QUICK_DIALS = 16
# How often a search asks where another cluster answers: one name may lead to both.
_MAX_FOREIGN = 4

Ask: TypeAlias = Callable[[Node, float], Flow[T]]
"""Asks a node, until a moment. Raises `Fault`."""


@dataclass(slots=True, eq=False)
class _Candidate(Generic[T]):
    """A node that is asked until it answers."""

    address: str
    due: float
    pause: float
    attempt_timeout: float
    question: _Question[T] | None = None
    """What it is asked now."""
    was_asked: bool = False
    is_over: bool = False
    refusals: int = 0
    foreign: int = 0
    last_word: Fault | None = None


class _Question(Generic[T]):
    """A flow that the search carries out beside others."""

    def __init__(self, node: Node, flow: Flow[T], inbox: Inbox) -> None:
        self.node = node
        self.answer: T | None = None
        self.fault: Fault | None = None
        self.until = 0.0
        self._flow = flow
        self._inbox = inbox
        self._advance(None)

    def look(self, now: float, nudged: bool) -> None:
        """Goes on, if it is nudged or has waited for long enough."""
        if not self.is_done and (nudged or now >= self.until):
            self._advance(nudged)

    @property
    def is_done(self) -> bool:
        return self.answer is not None or self.fault is not None

    def close(self) -> None:
        self._flow.close()

    def _advance(self, answer: object) -> None:
        try:
            effect = self._flow.send(answer)
            while isinstance(effect, Me):
                effect = self._flow.send(self._inbox)
            self.until = effect.until
        except StopIteration as end:
            self.answer = end.value
        except Fault as fault:
            self.fault = fault


class Search(Generic[T]):
    """One question, asked of all known nodes."""

    def __init__(
        self,
        nodes: Nodes,
        ask: Ask[T],
        timeout: float,
        deadline: float,
        purpose: Purpose = Purpose.CALLS,
        last: str | None = None,
    ) -> None:
        """`last` is the address that is asked after all others."""
        self._nodes = nodes
        self._ask = ask
        self._timeout = timeout
        self._deadline = deadline
        self._purpose = purpose
        self._candidates: dict[str, _Candidate[T]] = {}
        self._resolving: list[Pending[list[str]]] = []
        self._now = nodes.options.clocks.monotonic
        order = list(nodes.endpoints)
        nodes.options.random.shuffle(order)
        due = self._now()
        for address in order:
            later = nodes.options.attempt_timeout if address == last and len(order) > 1 else 0.0
            due += self._insert(address, due + later)

    def also(self, addresses: Iterable[str]) -> None:
        """Asks these too, after all others."""
        due = self._now() + _STAGGER * len(self._candidates)
        for address in addresses:
            due += self._insert(address, due)

    def add(self, address: str) -> None:
        """Asks the node at `address` now, unless it was asked already."""
        now = self._now()
        self._insert(address, now)
        candidate = self._candidates.get(address)
        if candidate is not None and not candidate.was_asked:
            candidate.due = now

    def _insert(self, address: str, due: float) -> float:
        """Returns the pause before the next one."""
        if address in self._candidates or len(self._candidates) >= _MAX_NODES:
            return 0.0
        options = self._nodes.options
        self._candidates[address] = _Candidate(address, due, options.shortest_pause, options.attempt_timeout)
        return options.jittered(_STAGGER)

    def run(self) -> Flow[tuple[Node, T]]:
        """The first answer, and the node that gave it. Raises `Error`."""
        inbox = yield from me()
        nudged = False
        try:
            while True:
                found = self._step(nudged, inbox)
                if found is not None:
                    return found
                if all(one.is_over for one in self._candidates.values()) and not self._resolving:
                    raise self._no_node_serves()
                if self._now() >= self._deadline:
                    raise too_late(self._timeout, self._last_words())
                nudged = yield Wait(min(self._deadline, self._next_look()))
        finally:
            for candidate in self._candidates.values():
                if candidate.question is not None:
                    candidate.question.close()

    def _step(self, nudged: bool, inbox: Inbox) -> tuple[Node, T] | None:
        """Takes answers and asks who is due, until nothing is left to do now."""
        self._take_resolved()
        for candidate in list(self._candidates.values()):
            question = candidate.question
            if question is not None:
                question.look(self._now(), nudged)
                if question.answer is not None:
                    return question.node, question.answer
                if question.fault is not None:
                    self._failed(candidate, question.node, question.fault, inbox)
        for candidate in list(self._candidates.values()):
            if candidate.question is None and not candidate.is_over and self._now() >= candidate.due:
                candidate.was_asked = True
                until = min(self._deadline, self._now() + candidate.attempt_timeout)
                node = self._nodes.node(self._purpose, candidate.address)
                candidate.question = _Question(node, self._ask(node, until), inbox)
        return None

    def _next_look(self) -> float:
        """When something is to be done, if nothing happens before."""
        looks = [
            candidate.due if candidate.question is None else candidate.question.until
            for candidate in self._candidates.values()
            if not candidate.is_over
        ]
        done = any(one.question is not None and one.question.is_done for one in self._candidates.values())
        return self._now() if done else min(looks, default=self._deadline)

    def _failed(self, candidate: _Candidate[T], node: Node, fault: Fault, inbox: Inbox) -> None:
        candidate.question = None
        self._nodes.note(node, fault)
        if fault.retryability is Retryability.NOWHERE:
            raise fault.of_read().error(node.address)
        if fault.sends_elsewhere:
            candidate.refusals += 1
            if candidate.refusals >= _DIAL_ANEW:
                self._nodes.dial_anew(node)
            if candidate.refusals == _DIAL_ANEW:
                self._resolving.append(self._nodes.runtime.resolve(node.address, inbox))
        self._hurry(fault)
        candidate.foreign += fault.other_cluster is not None
        candidate.is_over = fault.retryability is not Retryability.LATER or candidate.foreign >= _MAX_FOREIGN
        # At the deadline the fault is only a cancelled attempt; an earlier one says more.
        if candidate.last_word is None or self._now() < self._deadline:
            candidate.last_word = fault
        self._postpone(candidate, fault)

    def _postpone(self, candidate: _Candidate[T], fault: Fault) -> None:
        options = self._nodes.options
        candidate.due = self._now() + options.jittered(candidate.pause)
        is_alone = len(self._nodes.endpoints) == 1
        if not (is_alone and fault.leader is not None and candidate.refusals <= _QUICK_DIALS):
            candidate.pause = options.longer(candidate.pause)
        if fault.silent:
            candidate.attempt_timeout *= 2

    def _hurry(self, fault: Fault) -> None:
        """Makes the turn of the leader that `fault` names come at once, or else that of the next node."""
        leader = named_leader(fault)
        if leader is not None:
            self.add(leader)
            return
        waiting = [one for one in self._candidates.values() if not one.was_asked]
        if waiting:
            min(waiting, key=lambda one: one.due).due = self._now()

    def _take_resolved(self) -> None:
        for pending in [pending for pending in self._resolving if pending.outcome is not None]:
            self._resolving.remove(pending)
            addresses = pending.outcome
            if isinstance(addresses, list) and len(addresses) > 1:
                self.also(addresses)

    def _last_words(self) -> dict[str, Fault]:
        """The last fault of each node. One without any did not answer in time."""
        candidates = self._candidates.values()
        return {one.address: one.last_word or silence() for one in candidates}

    def _no_node_serves(self) -> Error:
        faults = self._last_words()
        address, fault = next(iter(faults.items()))
        message = f"no node serves the request: {_by_reason(faults)}"
        return Unserved(message, refusal=fault.of_read().refusal(address))


def named_leader(fault: Fault) -> str | None:
    """The address of the leader that a node names, if it is one."""
    try:
        return None if fault.leader is None else endpoint(fault.leader)
    except Invalid:
        return None


def too_late(timeout: float, faults: Mapping[str, Fault]) -> Error:
    """The error of a call whose deadline has passed before anything was sent that may have an effect."""
    words = _by_reason(faults)
    for address, fault in faults.items():
        if fault.answered:
            message = f"the cluster did not serve the request within {timeout:g} s: {words}"
            return DeadlineExceeded(message, refusal=fault.of_read().refusal(address))
    return Unreachable(f"the cluster cannot be reached within {timeout:g} s: {words}")


def _by_reason(faults: Mapping[str, Fault]) -> str:
    """The faults as text, with the nodes of equal faults together."""
    nodes: dict[str, list[str]] = {}
    for address, fault in sorted(faults.items()):
        nodes.setdefault(fault.message, []).append(address)
    return "; ".join(f"{', '.join(addresses)}: {reason}" for reason, addresses in nodes.items())
