"""The messages of a watch, put together to updates that mislead no caller.

The changes of one revision may come in several messages, and the connection may be lost between them. They are
passed on whole, so the caller stands at a revision at any time, or is told that it does not: between a reset or a
part of the state and the next `Synced`. After that the watch cannot go on elsewhere from a revision, and begins
again.
"""

from __future__ import annotations

from dataclasses import replace

from seshat._core import messages
from seshat._core.fault import broken
from seshat._core.options import MAX_MESSAGE_BYTES
from seshat.kv.v1 import watch_pb2 as pb
from seshat.updates import (
    Cause,
    Event,
    Events,
    Position,
    Progress,
    Reset,
    State,
    Synced,
    Update,
)

_CAUSES = {
    pb.CAUSE_SET: Cause.SET,
    pb.CAUSE_DELETED: Cause.DELETED,
    pb.CAUSE_EXPIRED: Cause.EXPIRED,
    pb.CAUSE_SESSION_ENDED: Cause.SESSION_ENDED,
}


class Assembly:
    """What the caller has, and what it has not been told yet."""

    def __init__(self, position: Position | None = None, floor: int = 0) -> None:
        self.position = position
        """Where the caller's map stands. ``None``: it is incomplete."""
        self.floor = floor if position is None else max(floor, position.revision)
        """The highest revision that the caller knows: it is not told of an earlier state."""
        self._half: list[Event] | None = None
        self._half_revision = 0
        self._half_bytes = 0

    def cut_off(self) -> None:
        """Forgets what a lost connection has not completed."""
        self._half = None

    def add(self, message: pb.WatchResponse) -> Update | None:
        """What the caller is to be told, if that is complete. Raises `Fault` for what makes no sense."""
        kind = message.WhichOneof("message")
        if kind == "reset":
            self._half = self.position = None
            return Reset()
        if kind == "state":
            return self._state(message.state)
        if kind == "synced":
            return self._synced(message.synced)
        if kind == "events":
            return self._events(message.events)
        if kind == "progress":
            self._advance(message.progress.revision)
            return Progress(message.progress.revision)
        raise broken("an empty message")

    def _state(self, state: pb.WatchState) -> Update:
        self._half = self.position = None
        entries = tuple(messages.entry(entry) for entry in state.entries)
        self.floor = max([self.floor, *(entry.revision for entry in entries)])
        return State(entries, tuple(state.deleted))

    def _synced(self, synced: pb.WatchSynced) -> Update:
        if self._half is not None or synced.revision < self.floor:
            raise broken("a state that is older than what was known")
        self.position = Position(synced.cluster_id, synced.revision)
        self.floor = synced.revision
        return Synced(self.position)

    def _events(self, part: pb.WatchEvents) -> Update | None:
        half, self._half = self._half, None
        if half is None:
            if self.position is None or part.revision <= self.position.revision:
                raise broken("changes out of order")
            half, self._half_revision, self._half_bytes = [], part.revision, 0
        elif part.revision != self._half_revision:
            raise broken("changes out of order")
        for event in part.events:
            if not event.HasField("entry"):
                raise broken("an event without a key")
            half.append(Event(_CAUSES.get(event.cause, Cause.OTHER), messages.entry(event.entry)))
            self._half_bytes += len(event.entry.key) + len(event.entry.value)
        if not part.more:
            self._advance(part.revision)
            return Events(part.revision, tuple(half))
        # No node accepts a larger transaction.
        if self._half_bytes > MAX_MESSAGE_BYTES:
            raise broken("more changes in one revision than a node accepts")
        self._half = half
        return None

    def _advance(self, revision: int) -> None:
        if self.position is None or self._half is not None or revision < self.position.revision:
            raise broken("a revision out of order")
        self.position = replace(self.position, revision=revision)
        self.floor = max(self.floor, revision)
