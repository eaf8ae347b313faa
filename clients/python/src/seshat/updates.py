"""What a watch tells its caller.

A caller that applies the updates in order to an empty map, and empties it at each `Reset`, has the range as it is
at the revision of each `Synced`, `Events` and `Progress`. A mirror does so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from seshat.errors import Error
from seshat.values import Entry


class Cause(Enum):
    """Why a key changed."""

    SET = "set"
    DELETED = "deleted"
    EXPIRED = "expired"
    SESSION_ENDED = "session_ended"
    OTHER = "other"
    """The key was removed, for a reason that this version does not know."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a watch stands: the caller's map equals the range at this revision of this cluster."""

    cluster: int
    revision: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The map is empty: the state follows."""


@dataclass(frozen=True, slots=True)
class State:
    """A part of the state. Until the next `Synced` the map shows no moment."""

    entries: tuple[Entry, ...]
    """Keys that are bound."""
    deleted: tuple[bytes, ...]
    """Keys that are not."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The map is complete. Comes after the state, and each time another node has taken over."""

    position: Position


@dataclass(frozen=True, slots=True)
class Event:
    """The change of a key."""

    cause: Cause
    entry: Entry
    """The key as it is from now on. If it was removed: an empty value, and the revision of the removal."""

    @property
    def is_removal(self) -> bool:
        return self.cause is not Cause.SET


@dataclass(frozen=True, slots=True)
class Events:
    """All changes of one revision, one a key."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing has changed up to this revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """No node serves the watch at the moment, so the map gets old. Comes once for each outage."""

    error: Error


Update: TypeAlias = "Reset | State | Synced | Events | Progress | Disconnected"
