"""Pipelines: the batches in flight on one stream, and their fate when it breaks.

Batches stand in one queue, in the order in which they were sent, until they are answered; the node answers in that
order. A flow in the background reads the answers. If the pipeline belongs to a session, that flow opens another
stream when one breaks, and sends the batches in the queue again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from seshat._core.batch import Batch, is_write, result
from seshat._core.call import Repeat
from seshat._core.fault import Fault, broken, silence
from seshat._core.flow import FOREVER, Flow, Inbox, Turn, Wait, me, sleep_until
from seshat._core.nodes import Node, log
from seshat._core.numbers import MAX_OUTSTANDING, Numbers
from seshat._core.transport import PIPELINE, Duplex
from seshat._core.writes import Issuer
from seshat.errors import Applied, DeadlineExceeded, Error, Invalid
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import Command, Reply

_MAX_WINDOW = 1024
_MAX_COMMANDS = 4096


class Pipe:
    """The state that submitters and the reading flow share."""

    def __init__(self, issuer: Issuer, window: int) -> None:
        self._caller = issuer.caller.bound_to(issuer.cluster)
        self._numbers: Numbers | None = issuer.numbers
        self._window = min(max(window, 1), _MAX_WINDOW)
        self._turn = Turn()
        self._waiting: Inbox | None = None
        """The submitter that waits for room."""
        self._reader: Inbox | None = None
        self._lock = threading.RLock()
        self._in_flight: deque[Batch] = deque()
        self._stream: Duplex[kv.PipelineResponse] | None = None
        self._cluster: int | None = None
        self._last_id = 0
        self._is_closed = False
        self._over: Error | None = None
        """Why no batch can be submitted any more."""
        self._heard = 0.0
        self._attempt_timeout = self._caller.options.attempt_timeout

    def open(self) -> Flow[None]:
        """Opens a stream to the leader. Raises `Error`."""
        if self._numbers is not None:
            self._numbers.holds()
        node, stream = yield from self._connect(self._caller.until())
        self._caller.nodes.runtime.spawn(self._run(node, stream))

    def submit(self, batch: Iterable[Command]) -> Flow[Batch]:
        """Puts a batch on the stream, as soon as the window has room for it. Raises `Error`."""
        commands = list(batch)
        writes = sum(map(is_write, commands))
        if not 1 <= len(commands) <= _MAX_COMMANDS:
            raise Invalid(f"a batch has 1 to {_MAX_COMMANDS} commands")
        if self._numbers is not None and writes > MAX_OUTSTANDING:
            raise Invalid(f"a session has at most {MAX_OUTSTANDING} writes in flight")
        deadline = self._caller.until()
        if not (yield from self._turn.take(deadline)):
            raise DeadlineExceeded("the pipeline is full")
        inbox = yield from me()
        numbers: list[int] = []
        try:
            self._waiting = inbox
            while len(self._in_flight) >= self._window and self._over is None:
                if not (yield Wait(deadline)):
                    raise DeadlineExceeded("the pipeline is full")
            if self._numbers is not None:
                numbers = yield from self._numbers.take(writes, deadline)
            submitted = Batch(commands, numbers, deadline, self._numbers)
            self._put(submitted)
            numbers = []
            return submitted
        finally:
            if self._numbers is not None and numbers:
                self._numbers.done(numbers)
            self._waiting = None
            self._turn.give()

    def close(self) -> None:
        """Takes no more batches. Those in flight are still answered."""
        with self._lock:
            self._is_closed = True
            self._over = self._over or Invalid("the pipeline is closed")
            if self._stream is not None:
                self._stream.end()
        self._wake()

    def _put(self, batch: Batch) -> None:
        with self._lock:
            if self._over is not None:
                raise self._over
            self._send(batch)
        self._wake()

    def _send(self, batch: Batch) -> None:
        self._last_id += 1
        batch.id = self._last_id
        if self._stream is not None:
            batch.in_doubt |= batch.sent is not None
            batch.sent = self._caller.now()
            # If the stream has broken, the reader notices that and handles the batch.
            self._stream.send(batch.request(self._cluster))
        self._in_flight.append(batch)

    def _wake(self) -> None:
        for inbox in (self._reader, self._waiting):
            if inbox is not None:
                inbox.nudge()

    def _connect(self, deadline: float) -> Flow[tuple[Node, Duplex[kv.PipelineResponse]]]:
        # Its batches are not repeated without a session: so the leader has to have answered lately.
        node = yield from self._caller.leader(deadline, Repeat.ONCE)
        stream = node.duplex(PIPELINE)
        with self._lock:
            self._stream, self._cluster = stream, node.cluster
            again, self._in_flight = self._in_flight, deque()
            for batch in again:
                self._send(batch)
            if self._is_closed:
                stream.end()
        return node, stream

    def _run(self, node: Node, stream: Duplex[kv.PipelineResponse]) -> Flow[None]:
        """The flow that reads the answers."""
        self._reader = yield from me()
        options, now = self._caller.options, self._caller.now
        pause = options.shortest_pause
        while True:
            heard = self._heard
            try:
                yield from self._read(node, stream)
                return
            except Fault as caught:
                fault = caught
            except Exception as error:
                # Callers wait for these answers, whatever has gone wrong here.
                self._end(node, broken(f"the pipeline has failed: {error}"))
                raise
            finally:
                stream.cancel()
            log.debug("%s: the stream of a pipeline broke: %s", node.address, fault)
            self._caller.nodes.note(node, fault)
            if self._numbers is None or self._over is not None:
                return self._end(node, fault)
            with self._lock:
                self._stream = None
            if self._heard != heard:
                pause = options.shortest_pause
            yield from sleep_until(now, now() + options.jittered(pause))
            pause = options.longer(pause)
            resumed = yield from self._resume(node)
            if resumed is None:
                return
            node, stream = resumed

    def _read(self, node: Node, stream: Duplex[kv.PipelineResponse]) -> Flow[None]:
        """Reads until all is answered and no batch will follow. Raises `Fault`: the stream broke."""
        inbox = yield from me()
        while True:
            pending = stream.next(inbox)
            while pending.outcome is None:
                with self._lock:
                    if self._is_closed and not self._in_flight:
                        return
                    limit = self._limit()
                if limit <= self._caller.now():
                    self._attempt_timeout *= 2
                    raise silence()
                yield Wait(limit)
            self._deliver(node, pending.take(pending.outcome))
            self._heard = self._caller.now()
            self._attempt_timeout = self._caller.options.attempt_timeout
            self._wake()

    def _limit(self) -> float:
        """When the oldest batch in flight has waited too long."""
        if not self._in_flight:
            return FOREVER
        oldest = self._in_flight[0]
        if self._numbers is None or oldest.sent is None:
            return oldest.deadline
        heard = max(oldest.sent, self._heard)
        return heard + min(self._attempt_timeout, max(oldest.deadline - heard, 0.0) / 3)

    def _deliver(self, node: Node, response: kv.PipelineResponse) -> None:
        """Gives the oldest batch its answers. Raises `Fault`: it has to be sent again."""
        with self._lock:
            batch = self._in_flight[0] if self._in_flight else None
            if batch is None or (batch.id, len(batch.commands)) != (response.id, len(response.results)):
                raise broken("an answer to nothing that was asked")
            results = [_outcome(*pair) for pair in zip(batch.commands, response.results, strict=True)]
            left = next((it for it in results if isinstance(it, Fault) and it.sends_elsewhere), None)
            if left is not None and self._goes_on(batch, left):
                if all(isinstance(it, Fault) and it.applied is Applied.NO for it in results):
                    batch.sent = None
                raise left
            self._in_flight.popleft()
            if left is not None and self._over is None:
                # Batches in flight will still be answered; no batch may follow.
                self._caller.nodes.note(node, left)
                self._over = left.of_read().error(node.address)
                self._is_closed = True
                if self._stream is not None:
                    self._stream.end()
        batch.done([_reply(batch, node, *pair) for pair in zip(batch.commands, results, strict=True)])

    def _goes_on(self, batch: Batch, left: Fault) -> bool:
        """Whether the batch is sent again, to another leader."""
        if self._numbers is None or left.other_cluster is not None:
            return False
        return self._caller.now() < batch.deadline

    def _end(self, node: Node, fault: Fault) -> None:
        """The stream will not be opened again."""
        with self._lock:
            self._over = self._over or fault.of_read().error(node.address)
            self._stream = None
            lost, self._in_flight = self._in_flight, deque()
        for batch in lost:
            batch.fail(node, fault)
        self._wake()

    def _resume(self, node: Node) -> Flow[tuple[Node, Duplex[kv.PipelineResponse]] | None]:
        """Opens another stream, and sends the batches in flight again. ``None``: there is no need."""
        now = self._caller.now
        while True:
            deadline = self._oldest_deadline(node)
            if deadline is None:
                if self._is_closed:
                    return None
                yield Wait(FOREVER)
                continue
            try:
                return (yield from self._connect(deadline))
            except Error as error:
                log.debug("a pipeline finds no leader: %s", error)
                yield from sleep_until(now, min(deadline, now() + self._attempt_timeout))

    def _oldest_deadline(self, node: Node) -> float | None:
        """Fails the batches whose deadline has passed. Returns that of the first one left."""
        with self._lock:
            late = []
            while self._in_flight and self._in_flight[0].deadline <= self._caller.now():
                late.append(self._in_flight.popleft())
            deadline = self._in_flight[0].deadline if self._in_flight else None
        for batch in late:
            batch.fail(node, silence())
        self._wake()
        return deadline


def _outcome(command: Command, answer: kv.PipelineResult) -> Reply | Fault:
    try:
        return result(command, answer)
    except Fault as fault:
        return fault


def _reply(batch: Batch, node: Node, command: Command, outcome: Reply | Fault) -> Reply:
    if not isinstance(outcome, Fault):
        return outcome
    error = outcome.error(node.address)
    return error._in_doubt() if batch.in_doubt and is_write(command) else error
