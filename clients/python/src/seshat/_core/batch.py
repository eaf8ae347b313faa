"""A batch of a pipeline: its request, and its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seshat._core import messages
from seshat._core.fault import Fault, broken, of_pipeline
from seshat._core.flow import FOREVER, Flow, Inbox, Wait, me
from seshat._core.nodes import Node
from seshat._core.numbers import Numbers
from seshat.errors import Applied
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.values import Command, Deleted, Found, Get, Reply, Set, Txn, TxnOutcome, Written, data


def is_write(command: Command) -> bool:
    return command.is_write if isinstance(command, Txn) else not isinstance(command, Get)


class Batch:
    """A batch that was submitted."""

    def __init__(
        self, commands: Sequence[Command], numbers: Sequence[int], deadline: float, session: Numbers | None
    ) -> None:
        """`numbers`: one for each write, if the pipeline has a session."""
        self.commands = commands
        self.numbers = list(numbers)
        self.deadline = deadline
        self.id = 0
        self.sent: float | None = None
        """When it was sent last, unless that attempt surely had no effect."""
        self.in_doubt = False
        """Whether an earlier attempt may have been applied."""
        self.answers: list[Reply] | None = None
        self._session = session
        self._waiting: list[Inbox] = []

    def request(self, cluster: int | None) -> kv.PipelineRequest:
        numbers = iter(self.numbers)
        commands = [self._command(command, numbers) for command in self.commands]
        return kv.PipelineRequest(id=self.id, commands=commands, cluster_id=cluster)

    def _command(self, command: Command, numbers: Iterator[int]) -> kv.PipelineCommand:
        if isinstance(command, Get):
            return kv.PipelineCommand(get=kv.GetRequest(key=data(command.key)))
        session = self._session.stamp(next(numbers)) if self._session and is_write(command) else None
        if isinstance(command, Txn):
            return kv.PipelineCommand(txn=messages.txn(command, session, None))
        if not isinstance(command, Set):
            return kv.PipelineCommand(delete=kv.DeleteRequest(key=data(command.key), session=session))
        if command.has_lifetime:
            return kv.PipelineCommand(txn=messages.txn(Txn(then=(command,)), session, None))
        key, value = data(command.key), data(command.value)
        return kv.PipelineCommand(set=kv.SetRequest(key=key, value=value, session=session))

    def done(self, answers: list[Reply]) -> None:
        if self._session is not None:
            self._session.done(self.numbers)
        self.answers = answers
        for inbox in self._waiting:
            inbox.nudge()

    def fail(self, node: Node, fault: Fault) -> None:
        """Fails every command. A write that was sent may have been applied, unless the fault says no."""
        sent = self.in_doubt or (self.sent is not None and fault.applied is Applied.UNKNOWN)
        self.done([self._error(node, fault, is_write(command) and sent) for command in self.commands])

    def _error(self, node: Node, fault: Fault, in_doubt: bool) -> Reply:
        error = fault.of_read().error(node.address)
        return error._in_doubt() if in_doubt else error

    def wait(self) -> Flow[list[Reply]]:
        """Waits for the answers: one for each command, in order."""
        inbox = yield from me()
        self._waiting.append(inbox)
        while self.answers is None:
            yield Wait(FOREVER)
        return self.answers


def result(command: Command, answer: kv.PipelineResult) -> Written | Found | Deleted | TxnOutcome:
    """The answer to one command. Raises `Fault`."""
    kind = answer.WhichOneof("result")
    if kind == "error":
        fault = of_pipeline(answer.error)
        raise fault if is_write(command) else fault.of_read()
    if isinstance(command, Get) and kind == "get":
        return messages.found(answer.get)
    if isinstance(command, Txn) and kind == "txn":
        return messages.txn_outcome(command, answer.txn)
    if isinstance(command, Set) and kind == "set" and not command.has_lifetime:
        return Written(answer.set.applied_index)
    if isinstance(command, Set) and kind == "txn" and command.has_lifetime:
        return Written(messages.txn_outcome(Txn(then=(command,)), answer.txn).revision)
    if not isinstance(command, (Get, Set, Txn)) and kind == "delete":
        return messages.deleted(answer.delete)
    raise broken("an answer to nothing that was asked")
